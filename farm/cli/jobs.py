"""`farm jobs`: the newest Jobs of the farm, one line each; those that wait with their place in the queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from farm.cli import output, progress
from farm.cli.session import session
from farm.cli.verdict import HOLDS
from farm.errors import InputError

if TYPE_CHECKING:
    from farm.client import Client
    from farm.domain import JobState
    from farm.schemas import JobTold

PAGE = 200  # of what a farm gives at once
MOST_PLACES = 20  # in the queue that are asked for: each is a request


def jobs(
    context: typer.Context,
    state: Annotated[
        list[str] | None, typer.Option(help="queued, running, done, cancelled or refused; repeatable")
    ] = None,
    model: Annotated[str | None, typer.Option(help="only of this Model")] = None,
    limit: Annotated[int, typer.Option(min=1, help="at most so many")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List the newest Jobs first."""
    states = _states(state or [])
    with session(context).client() as farm:
        found = _newest(farm, states, model, limit)
        waiting = [job for job in found if job.state == "queued"][-MOST_PLACES:]
        placed = {job.id: farm.job(job.id) for job in waiting}
    found = [placed.get(job.id, job) for job in found]
    if as_json:
        output.result_json({"jobs": [job.model_dump(mode="json") for job in found]})
        return
    if not found:
        output.say("No job" + (" fits." if state or model else " yet. Submit one: farm submit MODEL --on SELECTOR"))
        return
    output.table(("job", "submitted", "model", "on", "state", ""), [_row(job) for job in found])


def _newest(farm: Client, states: list[JobState], model: str | None, limit: int) -> list[JobTold]:
    found: list[JobTold] = []
    cursor = None
    while len(found) < limit:
        page = farm.jobs(states=states, model=model, limit=min(limit - len(found), PAGE), cursor=cursor)
        found += page.jobs
        cursor = page.next
        if cursor is None:
            break
    return found[:limit]


def _states(words: list[str]) -> list[JobState]:
    from farm.domain import JobState

    try:
        return [JobState(word) for word in words]
    except ValueError as error:
        known = ", ".join(JobState)
        raise InputError(f"--state: {error}. A job's state is one of {known}.") from None


def _row(job: JobTold) -> tuple[str, ...]:
    at = job.submitted_at.astimezone().strftime("%Y-%m-%d %H:%M")
    return output.short(job.id), at, job.model, job.on or "any board", job.state, told(job)


def told(job: JobTold) -> str:
    """What there is to know of a Job beside its state, in a few words."""
    from farm.client import word
    from farm.client.follow import OVER

    if job.queue is not None:
        return progress.queued(job.queue).removeprefix("in the queue ")
    if job.state in OVER:
        codes = [reason.code for reason in job.reasons if reason.code != HOLDS]
        return word(job) + "".join(f" ({code})" for code in codes[:1])
    return "is asked to end" if job.cancel_at else ""
