"""`farm boards`: the boards of the farm, or of the inventory and the last Run of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from farm.cli import admin, output
from farm.cli.session import session

COLUMNS = ("board", "transport", "address", "site", "tags")


def boards(
    context: typer.Context,
    local: Annotated[bool, typer.Option("--local", help="those of the inventory here, though signed in")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List the farm's boards, where one is named or signed in to; else those of the inventory with their last Run."""
    here = session(context)
    if here.knows_a_farm and not local:
        admin.boards(context, as_json=as_json)
        return
    from farm import show

    known = here.boards
    with here.store() as store:
        rows = show.boards(store, known)
    if as_json:
        output.result_json({"boards": rows})
        return
    output.table(
        ("board", "transport", "address", "site", "tags", "last run", ""),
        [[*(_text(row[name]) for name in COLUMNS), _last(row), _notes(row)] for row in rows],
    )


def _last(row: Mapping[str, Any]) -> str:
    return f"{output.short(row['last_run'])} {row['last_outcome'] or 'not ended'}" if row["last_run"] else "–"


def _notes(row: Mapping[str, Any]) -> str:
    notes = [*(["virtual"] if row["virtual"] else []), *([] if row["in_inventory"] else ["not in this inventory"])]
    return ", ".join(notes)


def _text(value: object) -> str:
    if isinstance(value, (list, tuple)):
        value = ", ".join(map(str, value))
    return str(value) if value not in (None, "") else "–"
