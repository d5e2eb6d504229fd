"""`farm board show|drain|maintain|ready|retire|quarantine|check NAME` and `farm changes`: running a lab."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from farm.cli import output
from farm.cli.session import session

if TYPE_CHECKING:
    from farm.schemas import BoardTold, ChangeTold

board = typer.Typer(help="Show a Board of the farm, or say what the lab wants of it.", no_args_is_help=True)

PAGE = 200  # of what a farm gives at once

Name = Annotated[str, typer.Argument(metavar="BOARD", help="a Board's name, as `farm boards` gives it")]
Note = Annotated[str, typer.Option("--note", "-m", help="why; others see it")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@board.command("show")
def show(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Print what the farm knows of a Board now."""
    with session(context).client() as farm:
        _print(farm.board(name), as_json=as_json)


@board.command("drain")
def drain(context: typer.Context, name: Name, note: Note = "", yes: Yes = False, as_json: AsJson = False) -> None:
    """Let a Board finish what it has; then it is in maintenance."""
    _set_state(context, name, "draining", note, "Drain board", yes=yes, as_json=as_json)


@board.command("maintain")
def maintain(context: typer.Context, name: Name, note: Note = "", yes: Yes = False, as_json: AsJson = False) -> None:
    """Take a Board out of the pool until it is `ready` again."""
    _set_state(context, name, "maintenance", note, "Take out of the pool board", yes=yes, as_json=as_json)


@board.command("ready")
def ready(context: typer.Context, name: Name, note: Note = "", as_json: AsJson = False) -> None:
    """Put a Board into the pool; its health is checked first where it is not known."""
    _set_state(context, name, "ready", note, "", yes=True, as_json=as_json)


@board.command("retire")
def retire(context: typer.Context, name: Name, note: Note = "", yes: Yes = False, as_json: AsJson = False) -> None:
    """Take a Board out for good. What it measured stays."""
    _set_state(context, name, "retired", note, "Retire board", yes=yes, as_json=as_json)


@board.command("quarantine")
def quarantine(context: typer.Context, name: Name, note: Note = "", yes: Yes = False, as_json: AsJson = False) -> None:
    """Give a Board to nobody until somebody has it checked."""
    _set_health(context, name, "quarantined", note, "Quarantine board", yes=yes, as_json=as_json)


@board.command("check")
def check(context: typer.Context, name: Name, note: Note = "", as_json: AsJson = False) -> None:
    """Have a Board's health looked at next; a good one is given out again."""
    _set_health(context, name, "unknown", note, "", yes=True, as_json=as_json)


def boards(context: typer.Context, *, as_json: bool) -> None:
    """List the farm's Boards as it sees them now."""
    with session(context).client() as farm:
        found = farm.boards()
    if as_json:
        output.result_json({"boards": [one.model_dump(mode="json") for one in found]})
        return
    output.table(
        ("board", "site", "state", "health", "family", "accelerators", "memory", "tags", ""),
        [
            (
                one.name,
                one.site,
                one.state,
                one.health,
                one.family or "–",
                ", ".join(one.accelerators) or "–",
                output.figure(one.memory_bytes, "memory_bytes"),
                ", ".join(one.tags) or "–",
                ", ".join([*(["virtual"] if one.virtual else []), *([one.note] if one.note else [])]),
            )
            for one in found
        ],
        right=(6,),
    )


def changes(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, help="at most so many")] = 20,
    of_project: Annotated[str | None, typer.Option("--of-project", help="only of this Project")] = None,
    as_json: AsJson = False,
) -> None:
    """List the newest changes first: who changed what on the farm, and when."""
    found: list[ChangeTold] = []
    cursor = None
    with session(context).client() as farm:
        while len(found) < limit:
            page = farm.changes(project=of_project, limit=min(limit - len(found), PAGE), cursor=cursor)
            found += page.changes
            cursor = page.next
            if cursor is None:
                break
    if as_json:
        output.result_json({"changes": [one.model_dump(mode="json") for one in found]})
        return
    output.table(
        ("when", "who", "what", "of", "project", ""),
        [
            (
                one.at.astimezone().strftime("%Y-%m-%d %H:%M:%S"),
                one.actor,
                one.action,
                one.subject,
                one.project or "–",
                ", ".join(f"{name}={value}" for name, value in one.data.items()),
            )
            for one in found
        ],
    )


def _set_state(
    context: typer.Context, name: str, state: str, note: str, question: str, *, yes: bool, as_json: bool
) -> None:
    from farm.domain import BoardState
    from farm.schemas import StateAsked

    asked = StateAsked(state=BoardState(state), note=_checked(note))
    with session(context).client() as farm:
        output.confirm(f"{question} {name}", yes=yes)
        _print(farm.set_board_state(name, asked), as_json=as_json)


def _set_health(
    context: typer.Context, name: str, health: Any, note: str, question: str, *, yes: bool, as_json: bool
) -> None:
    from farm.schemas import HealthAsked

    asked = HealthAsked(health=health, note=_checked(note))
    with session(context).client() as farm:
        output.confirm(f"{question} {name}", yes=yes)
        _print(farm.set_board_health(name, asked), as_json=as_json)


def _checked(note: str) -> str:
    return output.printable(note)[:1000]


def _print(found: BoardTold, *, as_json: bool) -> None:
    if as_json:
        output.result_json(found.model_dump(mode="json"))
        return
    facts = {
        "board": found.name + (" (virtual: for tests, not a measurement)" if found.virtual else ""),
        "state": found.state,
        "health": found.health,
        "note": found.note,
        "failures in a row": str(found.failures or ""),
        "checked next": found.next_check_at.astimezone().strftime("%Y-%m-%d %H:%M:%S") if found.next_check_at else "",
        "holder": found.holder or "",
        "site": found.site,
        "address": found.address or "",
        "tags": ", ".join(found.tags),
        "model": found.model or "",
        "family": found.family or "",
        "accelerators": ", ".join(found.accelerators),
        "memory": output.figure(found.memory_bytes, "memory_bytes") if found.memory_bytes else "",
        "runtimes": ", ".join(found.runtimes),
    }
    output.table(("", ""), [(fact, value) for fact, value in facts.items() if value])
