"""`farm submit MODEL --on SELECTOR`: send a model to a farm, and wait for one word: PASS, FAIL, UNDECIDED, …"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
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

PATIENCE_S = 60.0  # with a farm that does not answer, until the job is submitted
NOT_YET = "0" * 64  # the sha256 of what is not sent yet
THE_WAIT, THE_JOB, THE_GATE = "Waiting for the verdict", "How the job is queued", "What it is judged by"


class Priority(StrEnum):
    """What a Job's priority is called."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


def _wait(flag: str, text: str, **more: Any) -> Any:
    return typer.Option(flag, help=text, rich_help_panel=THE_WAIT, show_default=False, **more)


def _job(flag: str, text: str, **more: Any) -> Any:
    return typer.Option(flag, help=text, rich_help_panel=THE_JOB, show_default=False, **more)


def _gate(flag: str, text: str, metavar: str | None = None) -> Any:
    return typer.Option(flag, help=text, metavar=metavar, rich_help_panel=THE_GATE, show_default=False)


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
    gate_file: Annotated[
        Path | None, _gate("--gate", "gate file: what may change by how much; see docs/gates.md", "FILE")
    ] = None,
    against: Annotated[
        list[str] | None,
        _gate("--against", "last-passing, a baseline's name, artifact:…, run:… or branch:…; repeatable", "BASELINE"),
    ] = None,
    fresh: Annotated[bool, _gate("--fresh", "measure anew what the same gate has decided before")] = False,
    commit: flags.Commit = None,
    branch: flags.Branch = None,
    repository: flags.Repository = None,
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
    return ended.counts_as


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

    def submit(self, farm: Client, given: Mapping[str, Any], shown: progress.Lines | progress.Live) -> JobTold:
        """Check all that can be checked here, send what the farm lacks, and submit. Raises InputError, PlanError."""
        from farm.client.verbs import checked_key

        self.url = farm.url
        check_plan(plan := flags.plan_fields(given), flags.plan_name(given))
        check_selector(self.on)
        asked = ask(self.on, plan, given)
        checked_key(self.key)
        feed = None if given["feed"] is None else farm.send_file(checked_feed(Path(given["feed"]))).sha256
        artifact = farm.send(self.path, entry=given["entry"], progress=shown.send)
        sent: dict[str, Any] = {"artifact": artifact.sha256, "feed": feed}
        own_name = self.path.resolve().name
        if artifact.name != own_name:
            shown.note(f"the farm has these very bytes as '{artifact.name}' already, which '{own_name}' is now, too")
            sent["model"] = asked.model or (own_name if self.path.is_dir() else self.path.stem)
        self.asked = asked.model_copy(update=sent)
        self.job = farm.submit(self.asked, idempotency_key=self.key)
        shown.note(f"job {self.job.id} is in the queue of {farm.url}")
        return self.job

    def carry_out(self, given: Mapping[str, Any], *, limit_s: float | None, cancels: bool) -> Ended:
        """Submit and wait until it is over. Ctrl-C asks the farm to cancel it; so does the end of the time to wait."""
        from farm.client.follow import OVER

        try:
            patience_s = PATIENCE_S if limit_s is None else min(PATIENCE_S, limit_s)
            with progress.shown() as shown, self.here.client(told=shown.note, patience_s=patience_s) as farm:
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

    if not on.strip():
        raise InputError(
            "--on is empty, so it asks for no board. Give a name, a family or the like, such as"
            " `--on family=raspberrypi`; in a pipeline see that the variable it comes from is set."
        )
    selector.parse(on)


def checked_feed(path: Path) -> Path:
    """The file of inputs. Raises InputError where it is none."""
    seen = "there is no such file" if not path.is_file() else "its name does not end in .npz"
    if not path.is_file() or path.suffix != ".npz":
        raise InputError(
            f"--feed '{path}' cannot be used: {seen}. Save the inputs with numpy.savez(file, input_name=array, …)."
        )
    return path


def read_gate(given: Mapping[str, Any]) -> str | None:
    """The text of the gate file, checked here so that a mistake is told by its line. Raises GateError."""
    from farm import gatefile, rules

    file, against = given["gate_file"], given["against"] or []
    if file is None and given["fresh"] and not against:
        raise InputError("--fresh is of a gate, and none is asked for. Give --gate FILE or --against BASELINE, too.")
    text = None if file is None else gatefile.read(Path(file))
    gate = rules.DEFAULT if text is None else gatefile.parse(text, str(file))
    if against:
        gatefile.with_references(gate, against)
    return text


def ask(on: str, plan: Mapping[str, Any], given: Mapping[str, Any]) -> JobAsked:
    """What the farm is asked for, but for the files, which are not sent yet. Raises InputError naming the flag."""
    from pydantic import ValidationError

    from farm.schemas import JobAsked

    limits = {"queue_s": given["queue_limit_s"], "run_s": given["run_limit_s"]}
    try:
        return JobAsked.model_validate(
            {
                "artifact": NOT_YET,
                "on": on,
                "plan": dict(plan),
                "model": given["model"],
                "gate": read_gate(given),
                "against": given["against"] or [],
                "fresh": given["fresh"],
                "priority": str(given["priority"]),
                "limits": {name: value for name, value in limits.items() if value is not None},
                "commit": given["commit"] or None,
                "branch": given["branch"] or None,
                "repository": given["repository"] or None,
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
