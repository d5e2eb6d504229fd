"""`farm compare RUN RUN`: Runs side by side."""

from __future__ import annotations

from typing import Annotated

import typer

from farm.cli import output, report
from farm.cli.session import run_id, session
from farm.cli.show import RUN_HELP


def compare(
    context: typer.Context,
    runs: Annotated[list[str], typer.Argument(metavar="RUN RUN…", help=f"two to six; each {RUN_HELP}")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print Runs side by side: where their Fingerprints differ those fields come first, and nothing is judged."""
    with session(context).store() as store:
        from farm import show

        document = show.compare_document(store, [run_id(store, run) for run in runs])
    if as_json:
        output.result_json(document)
    else:
        report.comparison(document)
