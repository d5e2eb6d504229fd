"""`farm bench MODEL`: the whole trip on one machine: receive, submit, grant, measure, judge, show."""

from __future__ import annotations

import getpass
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farm.cli import output, picture, progress, report
from farm.cli.session import Session, session

if TYPE_CHECKING:
    from farm.domain import Board, Job, Run
    from farm.store.db import Store

COMMIT_VARIABLES = ["GITHUB_SHA", "CI_COMMIT_SHA", "BUILDKITE_COMMIT", "GIT_COMMIT"]
BRANCH_VARIABLES = ["GITHUB_HEAD_REF", "GITHUB_REF_NAME", "CI_COMMIT_REF_NAME", "BUILDKITE_BRANCH", "GIT_BRANCH"]
THE_PLAN, THE_RECORD = "What to measure (each wins over --plan)", "How it is kept and shown"


def _plan(flag: str, text: str, metavar: str | None = None) -> Any:
    return typer.Option(flag, help=text, metavar=metavar, rich_help_panel=THE_PLAN, show_default=False)


def _record(flag: str, text: str, **more: Any) -> Any:
    return typer.Option(flag, help=text, rich_help_panel=THE_RECORD, show_default=False, **more)


def bench(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="MODEL", help="model file, or folder of a model and its data")],
    board: Annotated[
        str | None, typer.Option(help="name of a board in the inventory (default: local, or the only one)")
    ] = None,
    plan_file: Annotated[Path | None, _plan("--plan", "YAML file of a Plan; see docs/plans.md", "FILE")] = None,
    runtime: Annotated[str | None, _plan("--runtime", "default: by the file's suffix", "NAME")] = None,
    scenario: Annotated[str | None, _plan("--scenario", "default: single_stream", "NAME")] = None,
    scenario_option: Annotated[
        list[str] | None, _plan("--scenario-option", "such as fps=30; repeatable", "NAME=VALUE")
    ] = None,
    duration_s: Annotated[
        float | None, _plan("--duration-s", "timed seconds of all processes together (default 10)")
    ] = None,
    processes: Annotated[int | None, _plan("--processes", "fresh processes (default 5)")] = None,
    threads: Annotated[int | None, _plan("--threads", "threads of the runtime; short for --option threads=N")] = None,
    option: Annotated[list[str] | None, _plan("--option", "option of the runtime; repeatable", "NAME=VALUE")] = None,
    shape: Annotated[
        list[str] | None, _plan("--shape", "for dynamic dimensions, such as input=1,3,224,224; repeatable", "NAME=N,N")
    ] = None,
    feed: Annotated[Path | None, _plan("--feed", "inputs (default: seeded random)", "FILE.npz")] = None,
    cache: Annotated[
        str | None, _plan("--cache", "page cache of the model file: cold (default) or warm", "cold|warm")
    ] = None,
    latency_scope: Annotated[
        str | None,
        _plan("--latency-scope", "inside the clock: invoke (default) or end_to_end, copies too", "invoke|end_to_end"),
    ] = None,
    memory_limit: Annotated[
        str | None, _plan("--memory-limit", "end the model above this much memory, such as 512MB", "SIZE")
    ] = None,
    entry: Annotated[str | None, _record("--entry", "file to load, where MODEL is a folder", metavar="FILE")] = None,
    model: Annotated[
        str | None, _record("--model", "name to compare later artifacts under (default: the file's)", metavar="NAME")
    ] = None,
    commit: Annotated[str | None, _record("--commit", "commit it was built from", envvar=COMMIT_VARIABLES)] = None,
    branch: Annotated[str | None, _record("--branch", "branch of that commit", envvar=BRANCH_VARIABLES)] = None,
    plot: Annotated[
        Path | None, _record("--plot", "write the figure there: .png, .svg or .pdf", metavar="FILE")
    ] = None,
    as_json: Annotated[bool, _record("--json", "print one JSON object instead of the tables")] = False,
) -> str:
    """Measure a model on a board: memory of a cold load, latency, and what ran where.

    Five fresh processes by default; each figure is the median of theirs, with their smallest and largest.
    """
    from farm.cli import plan

    here = session(context)
    chosen = here.board(board)
    fields: dict[str, Any] = plan.read(plan_file) if plan_file else {}
    fields |= _given(
        runtime=runtime,
        scenario=scenario,
        duration_s=duration_s,
        processes=processes,
        cache=cache,
        latency_scope=latency_scope,
    )
    _merge(fields, "options", plan.pairs(option or [], "--option") | _given(threads=threads))
    _merge(fields, "scenario_options", plan.pairs(scenario_option or [], "--scenario-option"))
    _merge(fields, "shapes", plan.shapes(shape or []))
    if memory_limit is not None:
        _merge(fields, "limits", {"memory_bytes": plan.size_bytes(memory_limit, "--memory-limit")})
    where = f"Plan of '{plan_file}'" if plan_file else "Plan"
    if plot is not None:
        picture.check(plot)
    with here.store() as store:
        from farm import intake, show

        with progress.shown() as shown:
            artifact = intake.receive(path, store=store, entry=entry, progress=shown.receive)
            job = intake.submit(
                store=store,
                artifact=artifact,
                plan=intake.plan_from(fields, artifact=artifact, where=where),
                model=model,
                project=here.settings.project,
                selector=_selector(chosen),
                now=datetime.now(UTC),
                commit=commit or None,
                branch=branch or None,
                submitted_by=_user(),
                feed=feed,
            )
            run = _carry_out(here, store, job, chosen, shown)
        found = show.run_json(store, run.id)
        if plot is not None and found["metrics"]:
            picture.write(show.run_document(store, run.id), plot)
    if as_json:
        output.result_json(found)
    else:
        report.run(found, picture=plot)
    return str(run.outcome)


def _carry_out(here: Session, store: Store, job: Job, board: Board, shown: progress.Lines | progress.Live) -> Run:
    import asyncio

    from farm import dispatch, execute, judge

    run = dispatch.grant(
        job,
        board,
        store=store,
        holder=f"{_user()}@{socket.gethostname()}:{os.getpid()}",
        ttl_s=here.settings.lease_ttl_s,
        now=datetime.now(UTC),
    )
    run = asyncio.run(execute.run(run.id, store=store, board=board, settings=here.settings, watch=shown.watch))
    judge.run(run.id, store=store)
    return run


def _selector(board: Board) -> Any:
    from farm.domain import Selector

    return Selector(name=board.name, virtual=board.is_virtual)


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _merge(fields: dict[str, Any], name: str, more: dict[str, Any]) -> None:
    if more:
        fields[name] = {**fields.get(name, {}), **more}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's uid without a name
        return f"uid{os.getuid()}"
