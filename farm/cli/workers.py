"""`farm workers [list|drain]`: who carries out the farm's Runs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from farm.cli import output, progress
from farm.cli.session import session

app = typer.Typer(help="List the workers of the farm, or drain one for an upgrade.", invoke_without_command=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.callback()
def workers(context: typer.Context, as_json: AsJson = False) -> None:
    """List the workers of the farm, or drain one for an upgrade."""
    if context.invoked_subcommand is None:
        list_workers(context, as_json=as_json)


@app.command("list")
def list_workers(context: typer.Context, as_json: AsJson = False) -> None:
    """List every worker, and when it was last heard of."""
    with session(context).client() as farm:
        found = farm.workers().workers
    if as_json:
        output.result_json({"workers": [worker.model_dump(mode="json") for worker in found]})
        return
    if not found:
        output.say("No worker is known. Start one: farm worker, or farm up.")
        return
    now = datetime.now(UTC)
    output.table(
        ("worker", "site", "slots", "started", "heard of", ""),
        [
            (
                worker.id,
                worker.site,
                str(worker.slots),
                worker.started_at.astimezone().strftime("%Y-%m-%d %H:%M"),
                "never" if worker.seen_at is None else f"{progress.span((now - worker.seen_at).total_seconds())} ago",
                "draining" if worker.draining else "",
            )
            for worker in found
        ],
        right=(2,),
    )


@app.command("drain")
def drain(
    context: typer.Context,
    worker: Annotated[str, typer.Argument(metavar="WORKER", help="a worker's id, as `farm workers` gives it")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Have a worker finish what it has and take nothing new, so that it can be upgraded."""
    with session(context).client() as farm:
        output.confirm(f"Have worker {worker} take nothing new", yes=yes)
        farm.drain_worker(worker)
    output.say(f"Worker {worker} finishes what it has, and ends.")
