"""Evidence: what the pairs of a Job's Arms under its Gate say on one Board. It outlives the Run, and the Job.

Every write carries the lease token of the Run that measured, and is refused when that is stale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from farm_agent import wire
from sqlalchemy import select

from farm import rules
from farm.domain import Job, Outcome, Reason, Run, Verdict, digest, plan_hash
from farm.errors import FarmBug
from farm.store import leases, results
from farm.store.db import Store
from farm.store.tables import EvidenceRow, JobRow, PairRow


@dataclass(frozen=True, slots=True)
class Stored:
    """Evidence as it is kept. `state` is farm.pairs.Evidence as JSON."""

    id: str
    key: str
    board: str
    state: Mapping[str, Any]
    created_at: datetime
    fingerprint: str | None = None
    queries: int | None = None  # timed, of each Block
    verdict: Verdict | None = None
    reasons: tuple[Reason, ...] = ()
    outcome: Outcome | None = None  # of the attempt that decided, or that gave up
    decided_at: datetime | None = None

    @property
    def is_final(self) -> bool:
        """Whether more pairs could not change its Verdict."""
        return self.verdict in (Verdict.PASS, Verdict.FAIL)


def key_of(job: Job) -> str:
    """What Evidence is known by: Project, Arms and Gate, whatever they were called or whoever asked.

    Budgets and policies of a Gate say when to stop, not what a pair means.
    """
    if job.gate is None:
        raise FarmBug(f"Job {job.id} has no gate, and so no evidence. Please report this.")
    arms = {arm.letter: [arm.artifact.sha256, plan_hash(arm.plan)] for arm in job.arms}
    candidate = job.arms[0].letter
    against = sorted([name, *arms[letter]] for name, letter in job.gate.letters.items())
    return digest([job.project, arms[candidate], against, rules.gate_from(job.gate.gate).form()])


def newest(store: Store, key: str, board: str | None = None) -> Stored | None:
    """The newest Evidence of that key, on that Board or on any."""
    query = select(EvidenceRow).where(EvidenceRow.key == key).order_by(EvidenceRow.id.desc()).limit(1)
    if board is not None:
        query = query.where(EvidenceRow.board == board)
    with store.read() as session:
        row = session.scalars(query).one_or_none()
        return None if row is None else _from_row(row)


def get(store: Store, evidence_id: str) -> Stored:
    """The Evidence of that id."""
    with store.read() as session:
        return _from_row(session.get_one(EvidenceRow, evidence_id))


def of_job(store: Store, job_id: str) -> Stored | None:
    """The Evidence that a Job's Verdict rests on; None where it has no Gate, or nothing was measured for it."""
    query = select(EvidenceRow).join(JobRow, JobRow.evidence_id == EvidenceRow.id).where(JobRow.id == job_id)
    with store.read() as session:
        row = session.scalars(query).one_or_none()
        return None if row is None else _from_row(row)


def is_needed(store: Store, job_id: str) -> bool:
    """Whether a Job has a Gate, so that without Evidence it has no Verdict."""
    with store.read() as session:
        return session.scalar(select(JobRow.gate).where(JobRow.id == job_id)) is not None


def save(
    store: Store, evidence: Stored, run: Run, *, now: datetime, pair: tuple[int, Mapping[str, Any]] | None = None
) -> None:
    """Keep the Evidence as it is now, with the pair (index, farm.pairs.Pair as JSON) that led to it. Raises LeaseLost.

    The Run's Job has it as its own from now on.
    """
    if evidence.board != run.board:
        raise FarmBug(f"Evidence {evidence.id} of board {evidence.board} is not {run.board}'s. Please report this.")
    values = {
        "fingerprint": evidence.fingerprint,
        "queries": evidence.queries,
        "state": dict(evidence.state),
        "verdict": evidence.verdict,
        "reasons": [wire.as_dict(reason) for reason in evidence.reasons],
        "outcome": evidence.outcome,
        "decided_at": evidence.decided_at,
    }
    with store.write() as session:
        results.own_run(session, run.id, run.token)
        leases.check(session, run.board, run.token)
        row = session.get(EvidenceRow, evidence.id)
        if row is None:
            same = {"id": evidence.id, "key": evidence.key, "board": evidence.board, "created_at": evidence.created_at}
            session.add(EvidenceRow(**same, **values))
            session.flush()
        else:
            for name, value in values.items():
                setattr(row, name, value)
        job = session.get_one(JobRow, run.job_id)
        if job.evidence_id != evidence.id:
            job.evidence_id = evidence.id
        if pair is not None:
            index, data = pair
            session.add(PairRow(evidence_id=evidence.id, index=index, run_id=run.id, data=dict(data), measured_at=now))


def pairs(store: Store, evidence_id: str) -> list[dict[str, Any]]:
    """Every pair, in its order: `index`, `run`, `measured_at`, and farm.pairs.Pair as JSON in `data`."""
    query = select(PairRow).where(PairRow.evidence_id == evidence_id).order_by(PairRow.index)
    with store.read() as session:
        return [
            {"index": row.index, "run": row.run_id, "measured_at": row.measured_at, "data": row.data}
            for row in session.scalars(query)
        ]


def _from_row(row: EvidenceRow) -> Stored:
    return Stored(
        id=row.id,
        key=row.key,
        board=row.board,
        state=row.state,
        created_at=row.created_at,
        fingerprint=row.fingerprint,
        queries=row.queries,
        verdict=None if row.verdict is None else Verdict(row.verdict),
        reasons=tuple(Reason(**reason) for reason in row.reasons),
        outcome=None if row.outcome is None else Outcome(row.outcome),
        decided_at=row.decided_at,
    )
