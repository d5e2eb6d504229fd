"""Moving a Job on after its Run has ended: to its end, or back into the queue. Done twice, it changes nothing."""

from __future__ import annotations

from datetime import datetime, timedelta

from farm import domain, validity
from farm.store import evidence, queue, results
from farm.store.db import Store


def settle(job_id: str, *, store: Store, cool_down_s: float, now: datetime) -> None:
    """Move a Job on after its newest Run; nothing happens where that is under way, or was taken back."""
    runs = results.runs_of(store, job_id)
    if not runs or runs[-1].outcome is None:
        return
    last = runs[-1]
    step = validity.next_step(runs, cool_down_s=cool_down_s)
    if isinstance(step, validity.Done):
        verdict, reasons = _ruled(last, step, store)
        queue.finish(store, last, verdict=verdict, reasons=reasons, now=now)
    else:
        later = now + timedelta(seconds=step.after_s)
        queue.requeue(store, last, not_before=later, avoid=step.avoid, why=last.reasons, now=now)


def end(run: domain.Run, *, store: Store, now: datetime) -> None:
    """End a Job with this Run whatever came of it: who measures by hand tries again by hand."""
    step = validity.next_step([run], cool_down_s=0.0)
    verdict, reasons = _ruled(run, step, store) if isinstance(step, validity.Done) else (None, run.reasons)
    queue.finish(store, run, verdict=verdict, reasons=reasons, now=now)


def _ruled(
    last: domain.Run, step: validity.Done, store: Store
) -> tuple[domain.Verdict | None, tuple[domain.Reason, ...]]:
    """The Verdict and what it rests on: the Gate's, where the Job has one that decided; else that it was measured."""
    if last.outcome in (domain.Outcome.BROKEN, domain.Outcome.CANCELLED):
        return step.verdict, last.reasons
    decided = evidence.of_job(store, last.job_id)
    if decided is not None and decided.outcome is last.outcome:
        return decided.verdict, decided.reasons
    if last.outcome is domain.Outcome.OK and (decided is not None or evidence.is_needed(store, last.job_id)):
        text = "The run ended well, but the gate has not decided: nothing measured is never a pass. Submit it again."
        return domain.Verdict.UNDECIDED, (domain.Reason("not_decided", text),)
    return step.verdict, last.reasons  # no Gate, or a mistake in the input before it could decide
