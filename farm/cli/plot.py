"""`farm plot`: figures of Runs, from the same Documents as the pages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from farm.cli import picture
from farm.cli.session import run_id, session
from farm.cli.show import RUN_HELP

app = typer.Typer(help="Draw Runs.", no_args_is_help=True)

Out = Annotated[Path, typer.Option("--out", "-o", help="figure to write: .png, .svg or .pdf", show_default=False)]
Theme = Annotated[str, typer.Option(help="light or dark")]


@app.command("run")
def run(
    context: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help=RUN_HELP)],
    out: Out,
    theme: Theme = "light",
) -> None:
    """Draw one Run: latency over time, its distribution, memory by stage, temperature and frequency."""
    picture.check(out)
    picture.check_theme(theme)
    with session(context).store() as store:
        from farm import show

        document = show.run_document(store, run_id(store, run))
    picture.write(document, out, theme=theme)


@app.command("compare")
def compare(
    context: typer.Context,
    runs: Annotated[list[str], typer.Argument(metavar="RUN RUN…", help=f"two to six; each {RUN_HELP}")],
    out: Out,
    theme: Theme = "light",
) -> None:
    """Draw Runs side by side."""
    picture.check(out)
    picture.check_theme(theme)
    with session(context).store() as store:
        from farm import show

        document = show.compare_document(store, [run_id(store, run) for run in runs])
    picture.write(document, out, theme=theme)
