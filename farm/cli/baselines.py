"""`farm baselines list|set|history|pin|unpin|remove`: what models are compared against."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from farm.cli import output
from farm.cli.session import session
from farm.errors import InputError

if TYPE_CHECKING:
    from farm.schemas import BaselineTold

app = typer.Typer(help="Show, set and remove the baselines that models are compared against.", no_args_is_help=True)

Model = Annotated[str, typer.Argument(metavar="MODEL", help="the name under which artifacts are compared")]
OneModel = Annotated[str | None, typer.Argument(metavar="[MODEL]", help="of this model alone")]
Name = Annotated[str, typer.Option("--name", help="which baseline of the model", metavar="NAME")]
On = Annotated[str | None, typer.Option("--on", help="which boards, where it is set for several", metavar="SELECTOR")]
PlanHash = Annotated[
    str | None, typer.Option("--plan-hash", help="of which plan, where it is set for several", metavar="HASH")
]
Note = Annotated[str, typer.Option("--note", help="why, for the history", metavar="TEXT")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

COLUMNS = ("model", "name", "on", "plan", "artifact", "commit", "board", "follows", "set by", "when")


@app.command("list")
def list_baselines(context: typer.Context, model: OneModel = None, as_json: AsJson = False) -> None:
    """List every baseline that is set."""
    with session(context).client() as farm:
        _print(farm.baselines(model=model), as_json=as_json)


@app.command("history")
def history(context: typer.Context, model: Model, name: Name = "default", as_json: AsJson = False) -> None:
    """List all that a baseline has been, the newest first, with who set it and why."""
    with session(context).client() as farm:
        _print(farm.baseline_history(model, name), as_json=as_json)


@app.command("set")
def set_baseline(
    context: typer.Context,
    model: Model,
    name: Name = "default",
    job: Annotated[str | None, typer.Option("--job", help="to what this job measured", metavar="JOB")] = None,
    artifact: Annotated[str | None, typer.Option("--artifact", help="to this artifact", metavar="SHA256")] = None,
    on: On = None,
    plan_hash: PlanHash = None,
    follow: Annotated[
        str | None, typer.Option("--follow", help="and then to each job of this branch that passes", metavar="BRANCH")
    ] = None,
    pin: Annotated[bool, typer.Option("--pin", help="and let nothing but a person change it")] = False,
    note: Note = "",
    as_json: AsJson = False,
) -> None:
    """Set a baseline to what a job measured, or to an artifact; or say which branch the one that is set follows."""
    if job is None and artifact is None and follow is None:
        raise InputError("A baseline needs something to be. Give --job JOB or --artifact SHA256, or --follow BRANCH.")
    asked: dict[str, Any] = {"job": job, "artifact": artifact, "follows": follow, "pinned": True if pin else None}
    _set(context, model, {**asked, "name": name, "on": on, "plan_hash": plan_hash, "note": note}, as_json=as_json)


@app.command("pin")
def pin(
    context: typer.Context,
    model: Model,
    name: Name = "default",
    on: On = None,
    plan_hash: PlanHash = None,
    note: Note = "",
) -> None:
    """Let a baseline follow no branch until it is unpinned."""
    which = {"name": name, "on": on, "plan_hash": plan_hash}
    _set(context, model, {**which, "pinned": True, "note": note}, as_json=False)


@app.command("unpin")
def unpin(
    context: typer.Context,
    model: Model,
    name: Name = "default",
    on: On = None,
    plan_hash: PlanHash = None,
    note: Note = "",
) -> None:
    """Let a baseline follow its branch again."""
    which = {"name": name, "on": on, "plan_hash": plan_hash}
    _set(context, model, {**which, "pinned": False, "note": note}, as_json=False)


@app.command("remove")
def remove(
    context: typer.Context, model: Model, name: Name = "default", on: On = None, plan_hash: PlanHash = None
) -> None:
    """Remove a baseline; its history stays."""
    with session(context).client() as farm:
        farm.remove_baseline(model, name, on=on, plan_hash=plan_hash)
    output.say(f"Baseline '{name}' of {model} is removed.")


def _set(context: typer.Context, model: str, asked: dict[str, Any], *, as_json: bool) -> None:
    from pydantic import ValidationError

    from farm.schemas import BaselineAsked

    try:
        body = BaselineAsked.model_validate({"model": model, **asked})
    except ValidationError as error:
        found = error.errors()[0]
        raise InputError(f"'{found['loc'][0]}' is {found['input']!r}: {found['msg']}. Correct it.") from None
    with session(context).client() as farm:
        made = farm.set_baseline(body)
    _print([made], as_json=as_json)


def _print(found: list[BaselineTold], *, as_json: bool) -> None:
    if as_json:
        output.result_json({"baselines": [one.model_dump(mode="json") for one in found]})
        return
    output.table(COLUMNS, [_row(one) for one in found])


def _row(one: BaselineTold) -> tuple[str, ...]:
    follows = (one.follows or "–") + (" (pinned)" if one.pinned else "")
    artifact = "removed" if one.artifact is None else f"{one.artifact_name} {one.artifact[:8]}"
    when = f"{one.set_at:%Y-%m-%d %H:%M}"
    commit = (one.commit or "–")[:12]
    on, plan = one.on or "any", one.plan_hash[:8]
    return one.model, one.name, on, plan, artifact, commit, one.board or "–", follows, one.set_by, when
