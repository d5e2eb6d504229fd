"""Waiting for a Job of a farm, while a person or a log sees how it goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.cli import output, progress

if TYPE_CHECKING:
    from farm.client import Client
    from farm.schemas import EventTold, JobTold

CANCEL_PATIENCE_S = 5.0  # a CI system that cancels a pipeline kills what has not ended after some seconds


def until_over(
    farm: Client, job_id: str, shown: progress.Lines | progress.Live, *, limit_s: float | None = None
) -> JobTold:
    """The Job once it is over, or as it is when `limit_s` has passed."""

    def watch(event: EventTold) -> None:
        shown.watch(progress.of_job(event))

    return farm.wait(job_id, watch=watch, queued=shown.place, limit_s=limit_s)


def cancel(farm: Client, job_id: str) -> JobTold | None:
    """Ask for the Job's end, and say so. None where that was not heard, or it has ended."""
    from farm.errors import FarmError

    try:
        job = farm.cancel(job_id)
    except FarmError as error:
        output.say(f"Job {job_id} could not be cancelled: {error}")
        return None
    output.say(f"The farm was asked to cancel job {job_id}.")
    return job
