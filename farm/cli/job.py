"""`farm job show|logs|wait|cancel|retry ID`: one Job of the farm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from farm.cli import gate, output, progress, verdict, waiting
from farm.cli.jobs import told
from farm.cli.session import session
from farm.cli.submit import Junit, Markdown, Reports, WaitLimit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from farm.schemas import EventTold, JobTold, ReasonTold

app = typer.Typer(help="Show, follow, cancel or retry one Job of the farm.", no_args_is_help=True)

JobId = Annotated[str, typer.Argument(metavar="JOB", help="a Job's id, or the start of just one id")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command("show")
def show(context: typer.Context, job: JobId, as_json: AsJson = False) -> None:
    """Print what is known of a Job, and what its last Run measured."""
    from farm.client.follow import OVER

    with session(context).client() as farm:
        found = farm.job(job)
        ended = verdict.of(found, farm) if found.state in OVER else None
    if as_json:
        output.result_json(found.model_dump(mode="json") | {"run": ended.run if ended else None})
        return
    _print(found)
    if ended is not None:
        output.result("")
        verdict.show(ended, as_json=False)


@app.command("logs")
def logs(
    context: typer.Context,
    job: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay until the job is over.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object; with --follow one a line.")] = False,
) -> None:
    """Print what happened to a Job, oldest first."""
    with session(context).client() as farm:
        if not follow:
            events = farm.events_so_far(job)
            if as_json:
                output.result_json({"events": [event.model_dump(mode="json") for event in events]})
            else:
                for event in events:
                    _print_event(event)
            return
        for event in farm.events(job):
            if as_json:
                output.result_line(event.model_dump(mode="json"))
            else:
                _print_event(event)


@app.command("wait")
def wait(
    context: typer.Context,
    job: JobId,
    junit_file: Junit = None,
    markdown_file: Markdown = None,
    wait_limit_s: WaitLimit = None,
    as_json: AsJson = False,
) -> str:
    """Wait until a Job is over, and end with its exit code. Ctrl-C ends the wait, not the job."""
    from farm.client.follow import OVER

    reports = Reports(junit_file, markdown_file)
    reports.check()
    try:
        with progress.shown() as shown, session(context).client(told=shown.note) as farm:
            found = waiting.until_over(farm, job, shown, limit_s=wait_limit_s)
            if found.state in OVER:
                ended = verdict.of(found, farm)
            else:
                error = f"The job was not over after {wait_limit_s:g} s (--wait-limit-s). It goes on."
                ended = verdict.Ended("UNDECIDED", found.model, found.on, farm.url, found, None, error, "WaitLimit")
    except BaseException as failed:
        reports.write(verdict.broken(failed, f"job {job}", "", None, None))
        raise
    reports.write(ended)
    verdict.show(ended, as_json=as_json)
    return ended.counts_as


@app.command("cancel")
def cancel(
    context: typer.Context,
    job: JobId,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask for a Job's end: at once where it is queued, within seconds where it is measured."""
    with session(context).client() as farm:
        found = farm.job(job)
        output.confirm(f"Cancel job {found.id} of {found.model}, submitted by {found.submitted_by}", yes=yes)
        found = farm.cancel(found.id)
    _told(found, "is cancelled" if found.state == "cancelled" else "is asked to end", as_json=as_json)


@app.command("retry")
def retry(context: typer.Context, job: JobId, as_json: AsJson = False) -> None:
    """Submit a Job that is over once more, as a new Job."""
    with session(context).client() as farm:
        found = farm.retry(job)
    _told(found, f"is in the queue, and asks what job {output.short(found.retry_of or job)} asked", as_json=as_json)


def _told(job: JobTold, what: str, *, as_json: bool) -> None:
    if as_json:
        output.result_json(job.model_dump(mode="json"))
    else:
        output.result(job.id)
        output.say(f"Job {job.id} {what}.")


def _print(job: JobTold) -> None:
    at = job.submitted_at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    facts = {
        "job": job.id,
        "project": job.project,
        "model": job.model,
        "artifact": f"{job.artifact_name}, sha256 {job.artifact[:12]}",
        "on": job.on or "any board",
        "state": " ".join(part for part in (job.state, told(job)) if part),
        "submitted": f"{at} by {job.submitted_by or '–'}",
        "priority": job.priority,
        "commit": " ".join(part for part in (job.commit, job.branch) if part),
        "retry of": job.retry_of or "",
    }
    output.table(("", ""), [(name, value) for name, value in facts.items() if value])
    if job.runs:
        output.result("")
        rows = [
            (output.short(run.id), run.board, run.outcome or "under way", _reasons(run.reasons)) for run in job.runs
        ]
        output.table(("run", "board", "outcome", ""), rows)
    if job.gate is not None:
        output.result("")
        gate.show(job.gate)


def _reasons(reasons: Sequence[ReasonTold]) -> str:
    return ", ".join(reason.code for reason in reasons)


def _print_event(event: EventTold) -> None:
    if event.kind == "end":  # of a Run; what became of the Job comes next
        return
    words = progress.of_job(event)
    at = event.at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    text = f"over: {words.text}" if words.kind == "end" else progress.sentence(words)
    output.result(f"{at}  {text}")
