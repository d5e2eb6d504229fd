"""`farm tokens list|create|rotate|revoke`: who may come in, and what for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from farm.cli import output
from farm.cli.session import session
from farm.errors import InputError

if TYPE_CHECKING:
    from datetime import datetime

    from farm.schemas import TokenMade, TokenTold

app = typer.Typer(help="List, make, rotate and revoke the tokens of the farm.", no_args_is_help=True)

SPANS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, "": 1.0}

TokenId = Annotated[str, typer.Argument(metavar="TOKEN", help="a token's id, as `farm tokens list` gives it")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@app.command("list")
def list_tokens(context: typer.Context, as_json: AsJson = False) -> None:
    """List every token that you may see. Secrets are not among what is kept."""
    with session(context).client() as farm:
        found = farm.tokens()
    if as_json:
        output.result_json({"tokens": [token.model_dump(mode="json") for token in found]})
        return
    output.table(
        ("token", "name", "role", "project", "made", "last used", "good until"), [_row(token) for token in found]
    )


@app.command("create")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="whom or what it is for, such as `github-vision`")],
    role: Annotated[str, typer.Option(help="ci, engineer or admin")] = "ci",
    expires: Annotated[str | None, typer.Option(help="such as 90d or 12h (default: never)", metavar="TIME")] = None,
    every_project: Annotated[bool, typer.Option("--every-project", help="of no one Project; admins only")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a token of the Project that --project names. Its secret is printed now, and never again."""
    from pydantic import ValidationError

    from farm.schemas import TokenAsked

    here = session(context)
    project = None if every_project else here.settings.project
    expires_s = None if expires is None else _span_s(expires, "--expires")
    try:
        asked = TokenAsked.model_validate({"name": name, "role": role, "project": project, "expires_in_s": expires_s})
    except ValidationError as error:
        found = error.errors()[0]
        raise InputError(f"'{found['loc'][0]}' is {found['input']!r}: {found['msg']}. Correct it.") from None
    with here.client() as farm:
        made = farm.make_token(asked)
    _print_secret(made, as_json=as_json)


@app.command("rotate")
def rotate(
    context: typer.Context,
    token: TokenId,
    grace: Annotated[str, typer.Option(help="how long the old secret stays good, such as 1d", metavar="TIME")] = "1d",
    as_json: AsJson = False,
) -> None:
    """Make a new secret for a token; the old one stays good for a while, and jobs in flight go on."""
    from farm.schemas import RotateAsked

    grace_s = 0.0 if grace == "0" else _span_s(grace, "--grace", most_s=30 * 86_400.0)
    with session(context).client() as farm:
        made = farm.rotate_token(token, RotateAsked(grace_s=grace_s))
    _print_secret(made, as_json=as_json)


@app.command("revoke")
def revoke(context: typer.Context, token: TokenId, yes: Yes = False) -> None:
    """End a token now. Who still uses it is refused from then on."""
    with session(context).client() as farm:
        output.confirm(f"Revoke token {token} for good", yes=yes)
        farm.revoke_token(token)
    output.say(f"Token {token} is revoked.")


def _print_secret(made: TokenMade, *, as_json: bool) -> None:
    if as_json:
        output.result_json(made.model_dump(mode="json"))
        return
    output.result(made.secret)
    scope = f"project {made.project}" if made.project else "every project"
    output.say(
        f"Token {made.id}, {made.name}: role {made.role}, {scope}, good until {_at(made.expires_at, 'it is revoked')}."
    )
    output.say("This is its secret, shown just this once. In CI keep it as the secret variable FARM_TOKEN.")


def _row(token: TokenTold) -> tuple[str, ...]:
    until = "revoked" if token.revoked_at else _at(token.expires_at, "–")
    return (
        token.id,
        token.name,
        token.role,
        token.project or "every",
        f"{_at(token.created_at, '–')} by {token.created_by}",
        _at(token.last_used_at, "never"),
        until,
    )


def _at(moment: datetime | None, absent: str) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M") if moment else absent


def _span_s(text: str, flag: str, most_s: float = 10 * 366 * 86_400.0) -> float:
    """`90d` in seconds. Raises InputError naming the flag."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*(s|min|h|d|)", text.strip())
    seconds = float(found[1]) * SPANS[found[2]] if found else 0.0
    if not 0 < seconds <= most_s:
        raise InputError(
            f"{flag} '{text}' is no time up to {most_s / 86_400:g} d. Write it like 90d, 12h, 30min or 45s."
        )
    return seconds
