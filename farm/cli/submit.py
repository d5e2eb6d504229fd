"""`farm submit MODEL --on SELECTOR`: send a model to a farm, and wait for one word: PASS, FAIL, UNDECIDED, …"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farm.cli import files, flags, junit, markdown, output, progress, verdict, waiting
from farm.cli.session import Session, session
from farm.cli.verdict import Ended
from farm.errors import FarmError, InputError, PlanError

if TYPE_CHECKING:
    from farm.client import Client
    from farm.schemas import JobAsked, JobTold

THE_WAIT, THE_JOB = "Waiting for the verdict", "How the job is queued"


class Priority(StrEnum):
    """What a Job's priority is called."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


def _wait(flag: str, text: str, **more: Any) -> Any:
    return typer.Option(flag, help=text, rich_help_panel=THE_WAIT, show_default=False, **more)


def _job(flag: str, text: str, **more: Any) -> Any:
    return typer.Option(flag, help=text, rich_help_panel=THE_JOB, show_default=False, **more)


WaitLimit = Annotated[
    float | None, _wait("--wait-limit-s", "wait no longer than this (default: for ever)", metavar="SECONDS", min=0.0)
]
QueueLimit = Annotated[float | None, _job("--queue-limit-s", "longest time in the queue", metavar="SECONDS")]
RunLimit = Annotated[float | None, _job("--run-limit-s", "longest time of a run", metavar="SECONDS")]
Junit = Annotated[Path | None, _wait("--junit", "write the verdict as JUnit XML", metavar="FILE")]
Markdown = Annotated[Path | None, _wait("--markdown", "write it as Markdown, for a pull request", metavar="FILE")]


def submit(
    context: typer.Context,
    path: flags.Model,
    on: Annotated[
        str, typer.Option(help="which boards: `pi5-a`, `family=raspberrypi,memory>=4GB`, `virtual`", metavar="SELECTOR")
    ],
    wait: Annotated[bool, _wait("--wait", "stay until the job is over, and end with its exit code")] = False,
    junit_file: Junit = None,
    markdown_file: Markdown = None,
    wait_limit_s: WaitLimit = None,
    no_cancel: Annotated[bool, _wait("--no-cancel", "leave the job to the farm when the wait is given up")] = False,
    plan_file: flags.PlanFile = None,
    runtime: flags.Runtime = None,
    scenario: flags.Scenario = None,
    scenario_option: flags.ScenarioOption = None,
    duration_s: flags.Duration = None,
    processes: flags.Processes = None,
    threads: flags.Threads = None,
    option: flags.Option = None,
    shape: flags.Shape = None,
    feed: flags.Feed = None,
    cache: flags.Cache = None,
    latency_scope: flags.LatencyScope = None,
    memory_limit: flags.MemoryLimit = None,
    entry: flags.Entry = None,
    model: flags.ModelName = None,
    commit: flags.Commit = None,
    branch: flags.Branch = None,
    priority: Annotated[Priority, _job("--priority", "default: normal")] = Priority.NORMAL,
    queue_limit_s: QueueLimit = None,
    run_limit_s: RunLimit = None,
    idempotency_key: Annotated[
        str | None, _job("--idempotency-key", "the same key again is the same job (default: random)", metavar="KEY")
    ] = None,
    as_json: Annotated[bool, flags.record("--json", "print one JSON object instead of word and tables")] = False,
) -> str | None:
    """Have a farm measure a model on a board that fits, and wait for the verdict with --wait.

    In CI set FARM_URL and FARM_TOKEN; elsewhere `farm login URL` once.
    """
    given = context.params
    here = session(context)
    reports = Reports(junit_file, markdown_file)
    if not wait and (junit_file or markdown_file or wait_limit_s is not None):
        raise InputError("--junit, --markdown and --wait-limit-s are of the verdict, which takes --wait. Add --wait.")
    reports.check()
    sent = Submission(here, path, on, key=idempotency_key or str(uuid.uuid4()))
    if not wait:
        with progress.shown() as shown, here.client(told=shown.note) as farm:
            job = sent.submit(farm, given, shown)
        _print_queued(job, farm.url, as_json=as_json)
        return None
    try:
        ended = sent.carry_out(given, limit_s=wait_limit_s, cancels=not no_cancel)
    except BaseException as error:
        reports.write(sent.broken(error))
        raise
    reports.write(ended)
    verdict.show(ended, as_json=as_json)
    return ended.word


@dataclass
class Reports:
    """The files that tell the verdict, whatever the end."""

    junit: Path | None
    markdown: Path | None

    def check(self) -> None:
        """Raises InputError where one cannot be written."""
        if self.junit is not None:
            files.check(self.junit, "--junit")
        if self.markdown is not None:
            files.check(self.markdown, "--markdown")

    def write(self, ended: Ended) -> None:
        """Write them."""
        if self.junit is not None:
            files.write(self.junit, junit.render(ended, datetime.now(UTC)))
        if self.markdown is not None:
            files.write(self.markdown, markdown.render(ended))


@dataclass
class Submission:
    """One submit on its way: what was asked, and the Job that came of it."""

    here: Session
    path: Path
    on: str
    key: str
    asked: JobAsked | None = None  # what the farm may have heard
    job: JobTold | None = None
    url: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)

    def submit(self, farm: Client, given: Mapping[str, Any], shown: progress.Lines | progress.Live) -> JobTold:
        """Check all that can be checked here, send what the farm lacks, and submit. Raises InputError, PlanError."""
        self.url = farm.url
        check_plan(plan := flags.plan_fields(given), flags.plan_name(given))
        check_selector(self.on)
        feed = given["feed"]
        if feed is not None and not (Path(feed).is_file() and Path(feed).suffix == ".npz"):
            raise InputError(
                f"The feed '{feed}' is not an .npz file. Save the inputs with numpy.savez(file, input_name=array, …)."
            )
        sent_feed = farm.send_file(Path(feed)).sha256 if feed is not None else None
        artifact = farm.send(self.path, entry=given["entry"], progress=shown.send)
        asked = ask(artifact.sha256, self.on, plan, sent_feed, given)
        self.asked = asked
        self.job = farm.submit(asked, idempotency_key=self.key)
        shown.note(f"job {self.job.id} is in the queue of {farm.url}")
        return self.job

    def carry_out(self, given: Mapping[str, Any], *, limit_s: float | None, cancels: bool) -> Ended:
        """Submit and wait until it is over. Ctrl-C asks the farm to cancel it; so does the end of the time to wait."""
        from farm.follow import OVER

        try:
            with progress.shown() as shown, self.here.client(told=shown.note) as farm:
                job = self.submit(farm, given, shown)
                job = self.job = waiting.until_over(farm, job.id, shown, limit_s=limit_s)
        except KeyboardInterrupt:
            self.give_up(cancels=cancels)
            return self.broken(KeyboardInterrupt())
        with self.here.client() as farm:
            if job.state in OVER:
                return verdict.of(job, farm)
        self.give_up(cancels=cancels)
        error = f"The job was not over after {limit_s:g} s (--wait-limit-s)."
        error += " The farm was asked to cancel it." if cancels else f" It goes on: farm job wait {job.id}."
        return Ended("UNDECIDED", job.model, job.on, self.url, job, None, error, "WaitLimit")

    def give_up(self, *, cancels: bool) -> None:
        """Have the farm cancel the Job, also where its answer to the submit is still on its way."""
        if self.asked is None or not cancels:
            return
        try:
            with self.here.client(patience_s=waiting.CANCEL_PATIENCE_S) as farm:
                self.job = self.job or farm.submit(self.asked, idempotency_key=self.key)
                self.job = waiting.cancel(farm, self.job.id) or self.job
        except FarmError as error:
            output.say(f"The job may be in the queue all the same: {error}")

    def broken(self, error: BaseException) -> Ended:
        """What is told of a submit that did not come to its end."""
        return verdict.broken(error, self.job.model if self.job else self.path.name, self.on, self.url, self.job)


def check_plan(plan: Mapping[str, Any], where: str) -> None:
    """Raises PlanError for what no farm could make of these fields: before anything is sent."""
    from farm_agent import wire

    try:
        json.dumps(plan, allow_nan=False)
        wire.plan_from({"runtime": "any", **plan})
    except (ValueError, TypeError) as error:
        raise PlanError(f"The {where} cannot be used: {error}. docs/plans.md lists every field.") from None


def check_selector(on: str) -> None:
    """Raises InputError naming the term that is none."""
    from farm import selector

    selector.parse(on)


def ask(sha256: str, on: str, plan: Mapping[str, Any], feed: str | None, given: Mapping[str, Any]) -> JobAsked:
    """What the farm is asked for. Raises InputError naming the flag."""
    from pydantic import ValidationError

    from farm.schemas import JobAsked

    limits = {"queue_s": given["queue_limit_s"], "run_s": given["run_limit_s"]}
    try:
        return JobAsked.model_validate(
            {
                "artifact": sha256,
                "on": on,
                "plan": dict(plan),
                "model": given["model"],
                "feed": feed,
                "priority": str(given["priority"]),
                "limits": {name: value for name, value in limits.items() if value is not None},
                "commit": given["commit"] or None,
                "branch": given["branch"] or None,
            }
        )
    except ValidationError as error:
        found = error.errors()[0]
        limit_flags = {"queue_s": "--queue-limit-s", "run_s": "--run-limit-s"}
        flag = limit_flags.get(str(found["loc"][-1]), f"--{found['loc'][0]}")
        raise InputError(f"{flag} is {found['input']!r}: {found['msg']}. Correct it or leave it out.") from None


def _print_queued(job: JobTold, url: str, *, as_json: bool) -> None:
    if as_json:
        output.result_json(job.model_dump(mode="json"))
        return
    output.result(job.id)
    place = "" if job.queue is None else f": {progress.queued(job.queue)}"
    output.say(f"{job.model} is submitted to {url}{place}")
    output.say(f"Follow it: farm job wait {output.short(job.id)}   farm job show {output.short(job.id)}")
