"""`farm runs`: the newest Runs, one line each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import typer

from farm.cli import output
from farm.cli.session import session

FIGURES = ("p50_latency_ns", "p99_latency_ns", "cold_load_rss_bytes")


def runs(
    context: typer.Context,
    model: Annotated[str | None, typer.Option(help="only of this Model")] = None,
    board: Annotated[str | None, typer.Option(help="only on this board")] = None,
    limit: Annotated[int, typer.Option(min=1, help="at most so many")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List the newest Runs first."""
    with session(context).store() as store:
        from farm import show

        rows = show.runs(store, model=model, board=board, limit=limit)
    if as_json:
        output.result_json({"runs": rows})
        return
    if not rows:
        output.say("No run is stored" + (" that fits." if model or board else " yet. Measure one: farm bench MODEL"))
        return
    output.table(
        ("run", "started", "model", "board", "outcome", *FIGURES),
        [
            (
                output.short(row["run"]),
                datetime.fromisoformat(row["started_at"]).astimezone().strftime("%Y-%m-%d %H:%M"),
                row["model"],
                row["board"],
                _ended(row["outcome"], row["reasons"]),
                *(output.figure(row[metric], metric) for metric in FIGURES),
            )
            for row in rows
        ],
        right=(5, 6, 7),
    )


def _ended(outcome: str | None, reasons: Sequence[str]) -> str:
    if outcome is None:
        return "not ended"
    return f"{outcome} ({', '.join(reasons)})" if reasons else outcome
