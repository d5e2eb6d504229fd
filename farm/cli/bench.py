"""`farm bench MODEL`: the whole trip on one machine: receive, submit, grant, measure, judge, show."""

from __future__ import annotations

import getpass
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farm.cli import flags, output, picture, progress, report
from farm.cli.session import Session, session

if TYPE_CHECKING:
    from farm.domain import Board, Job, Run
    from farm.store.db import Store


def bench(
    context: typer.Context,
    path: flags.Model,
    board: Annotated[
        str | None, typer.Option(help="name of a board in the inventory (default: local, or the only one)")
    ] = None,
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
    plot: Annotated[
        Path | None, flags.record("--plot", "write the figure there: .png, .svg or .pdf", metavar="FILE")
    ] = None,
    as_json: Annotated[bool, flags.record("--json", "print one JSON object instead of the tables")] = False,
) -> str:
    """Measure a model on a board: memory of a cold load, latency, and what ran where.

    Five fresh processes by default; each figure is the median of theirs, with their smallest and largest.
    """
    here = session(context)
    chosen = here.board(board)
    fields = flags.plan_fields(context.params)
    where = flags.plan_name(context.params)
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
    """Measure on this very board, as soon as it is free."""
    import asyncio

    from farm import bench

    holder = f"{_user()}@{socket.gethostname()}:{os.getpid()}"
    return asyncio.run(bench.measure(job, board, store=store, settings=here.settings, holder=holder, watch=shown.watch))


def _selector(board: Board) -> Any:
    from farm.domain import Selector

    return Selector(name=board.name, virtual=board.is_virtual)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's uid without a name
        return f"uid{os.getuid()}"
