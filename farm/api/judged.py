"""What a Job is judged by, as it is told: its Gate, the Arms, and what the Evidence says so far."""

from __future__ import annotations

from farm import findings, gatefile, pairs, rules, schemas
from farm.domain import Job, plan_form
from farm.store import evidence
from farm.store.db import Store


def asked(body: schemas.JobAsked) -> rules.Gate | None:
    """The Gate that a request names; None where it names none. Raises GateError with every mistake."""
    gate = rules.DEFAULT if body.gate is None else gatefile.parse(body.gate, "the gate")
    if body.gate is None and not body.against:
        return None
    return gatefile.with_references(gate, body.against) if body.against else gate


def told(job: Job, store: Store) -> schemas.GateTold | None:
    """What it is judged by; None where a Job has no Gate."""
    if job.gate is None:
        return None
    gate = rules.gate_from(job.gate.gate)
    names = {letter: name for name, letter in job.gate.letters.items()}
    arms = [
        schemas.ArmTold(
            letter=arm.letter,
            reference=names.get(arm.letter),
            artifact=arm.artifact.sha256,
            artifact_name=arm.artifact.name,
            plan=plan_form(arm.plan),
        )
        for arm in job.arms
    ]
    begun = schemas.GateTold(
        alpha=gate.alpha,
        beta=gate.beta,
        pairs_limit=gate.pairs,
        budget_s=gate.budget_s,
        on_undecided=gate.on_undecided,
        arms=arms,
        absent=dict(job.gate.absent),
    )
    if job.evidence_id is None:
        return begun
    stored = evidence.get(store, job.evidence_id)
    seen = pairs.evidence_from(stored.state)
    pair_s = seen.board_s / seen.next_pair if seen.next_pair else 0.0
    whole_s = min(gate.budget_s, gate.pairs * pair_s)
    return begun.model_copy(
        update={
            "board": stored.board,
            "pairs": seen.pairs,
            "kept": seen.kept,
            "dropped": seen.dropped,
            "board_s": seen.board_s,
            "saved_s": max(0.0, whole_s - seen.spent_s) if stored.decided_at is not None else 0.0,
            "queries": stored.queries,
            "findings": [_finding(one) for one in findings.findings(seen)],
        }
    )


def _finding(one: findings.Finding) -> schemas.FindingTold:
    fields = schemas.FindingTold.model_fields
    return schemas.FindingTold(**{name: getattr(one, name) for name in fields})
