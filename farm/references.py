"""What a Gate's References stand for: the Arms that a Job is measured against, and those that there are not yet."""

from __future__ import annotations

from dataclasses import replace

from farm_agent import wire

from farm import domain, selector
from farm.errors import InputError, NotFound
from farm.rules import Gate, Reference
from farm.store import baselines
from farm.store.db import Store

Found = tuple[domain.Artifact, wire.Plan, str | None]  # with the Board that it was measured on


def against(job: domain.Job, gate: Gate, *, store: Store, main_branch: str, is_fresh: bool = False) -> domain.Job:
    """The Job with its Gate, and an Arm for each Reference that there is; what there is not yet, the Gate rules on.

    It goes back to the Board that holds its first Reference. Raises NotFound for a Run, an Artifact or a Baseline that
    is named and unknown: a misspelt name must not pass for one that is not there yet.
    """
    is_compared = any(rule.max_change is not None for rule in gate.rules)
    found = {one.name: _find(one, job, store, main_branch) for one in gate.references if is_compared}
    arms, letters = list(job.arms), {}
    for name, one in sorted(found.items()):  # in whatever order the Gate has them: its evidence knows the letters
        if not isinstance(one, str):
            letters[name] = chr(ord(job.arms[0].letter) + len(arms))
            arms.append(domain.Arm(letters[name], *one[:2]))
    absent = {name: one for name, one in found.items() if isinstance(one, str)}
    boards = (one[2] for one in found.values() if not isinstance(one, str) and one[2] is not None)
    board = job.affinity or next(boards, None)
    judged = domain.JobGate(gate.as_json(), letters, absent, is_fresh)
    return replace(job, arms=tuple(arms), affinity=board, gate=judged)


def _find(reference: Reference, job: domain.Job, store: Store, main_branch: str) -> Found | str:
    """What a Reference stands for, or why there is nothing yet."""
    plan = job.arms[0].plan
    where = f"of model '{job.model}' on '{_on(job)}' by this plan"
    if reference.kind == "artifact":
        return baselines.artifact_of(store, job.project, reference.value), plan, None
    if reference.kind == "run":
        other, run = baselines.job_of_run(store, job.project, reference.value)
        if run.outcome not in baselines.MEASURED:
            seen = "it has not ended yet" if run.outcome is None else f"it ended {run.outcome}"
            raise InputError(f"Run {run.id} cannot be a reference: {seen}. Name one that is OK.")
        return other.arms[0].artifact, other.arms[0].plan, run.board
    if reference.kind == "baseline":
        found = baselines.find(store, job, reference.value)
        if found is not None and found.artifact is not None and found.plan is not None:
            return found.artifact, found.plan, found.board
        known = baselines.names(store, job.project, job.model)
        if known and not any(name.startswith(f"{reference.value} (") for name in known):
            raise NotFound(
                f"Baseline '{reference.value}' of model '{job.model}' is not known; known: {', '.join(known)}. "
                "Correct the name, or set it: farm baselines set."
            )
        return f"no baseline '{reference.value}' {where}"
    branch = reference.value if reference.kind == "branch" else main_branch
    # who submits by hand names no branch: that is the lab's own line
    branches = (branch,) if reference.kind == "branch" else (branch, None)
    passed = baselines.last_passing(store, job, branches=branches)
    if passed is None:
        return f"no job {where} has passed on branch '{branch}' yet"
    return passed.arms[0].artifact, passed.arms[0].plan, baselines.board_of(store, passed.id)


def _on(job: domain.Job) -> str:
    return selector.text(job.selector) or "any board"
