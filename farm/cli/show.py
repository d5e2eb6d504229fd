"""`farm show RUN`: what one Run measured."""

from __future__ import annotations

from typing import Annotated

import typer

from farm.cli import output, report
from farm.cli.session import run_id, session

RUN_HELP = "a Run's id, the start of just one id, or `last`"


def show(
    context: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help=RUN_HELP)],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print what one Run measured, as `farm bench` did."""
    with session(context).store() as store:
        from farm import show as verb

        found = verb.run_json(store, run_id(store, run))
    if as_json:
        output.result_json(found)
    else:
        report.run(found)
