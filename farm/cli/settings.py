"""`farm settings`: every setting, its value and where that came from."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from farm.cli import output
from farm.cli.session import session


def settings(
    context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False
) -> None:
    """Print every setting, its value and where the value came from."""
    current = session(context).settings
    origins, values = current.origins(), current.shown()
    if as_json:
        output.result_json({key: {"value": value, "origin": origins[key]} for key, value in values.items()})
        return
    output.table(("setting", "value", "from"), [(key, _text(value), origins[key]) for key, value in values.items()])


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return os.pathsep.join(map(str, value)) or "–"
    return "–" if value is None else str(value)
