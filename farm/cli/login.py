"""`farm login URL`, `farm logout`: which farm this user works with, and the token that lets him in."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from farm.cli import output
from farm.cli.session import session
from farm.errors import InputError

LONGEST = 4096  # characters of what is read as a token


def login(
    context: typer.Context,
    address: Annotated[str | None, typer.Argument(metavar="[URL]", help="such as https://farm.lab")] = None,
    token_stdin: Annotated[
        bool, typer.Option("--token-stdin", help="Read the token from stdin; nobody is asked.")
    ] = False,
) -> None:
    """Keep a farm's URL and a token for it, after the farm has taken it. Only you can read the file."""
    from farm import credentials
    from farm.client import Client

    here = session(context)
    address = address or here.settings.url
    if address is None:
        raise InputError("Which farm? Give its URL: farm login https://farm.lab.")
    allow_http = here.settings.allow_http
    url = credentials.checked_url(address, allow_http=allow_http)
    token = credentials.checked_token(_read_token(url, from_stdin=token_stdin))
    with Client(url, token, allow_http=allow_http, patience_s=5.0, told=output.say) as farm:
        me = farm.whoami()
    file = credentials.save(credentials.Credentials(url, token))
    scope = f"project {me.project}" if me.project else "every project"
    until = f", good until {me.expires_at:%Y-%m-%d %H:%M} UTC" if me.expires_at else ""
    output.say(f"Signed in to {url} as {me.name}: role {me.role}, {scope}{until}. Kept in {file}.")
    if os.environ.get("FARM_TOKEN"):
        output.say("FARM_TOKEN is set, and wins over what was kept now.")


def logout(context: typer.Context) -> None:
    """Forget the token that `farm login` has kept. It stays good: `farm tokens revoke` ends it."""
    from farm import credentials

    session(context)
    output.say("Signed out." if credentials.forget() else "Nobody was signed in.")
    if os.environ.get("FARM_TOKEN"):
        output.say("FARM_TOKEN is still set.")


def _read_token(url: str, *, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.read(LONGEST)
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise InputError(
            f"Nobody can be asked for the token of '{url}' here. Give it with --token-stdin < FILE;"
            " or set FARM_URL and FARM_TOKEN, and leave the login out."
        )
    token: str = typer.prompt(f"Token for {url}", hide_input=True, err=True)
    return token
