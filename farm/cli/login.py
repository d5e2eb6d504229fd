"""`farm login URL`, `farm logout`: which farm this user works with, and the token that lets him in."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from farm.cli import output
from farm.cli.session import session
from farm.errors import InputError

LONGEST = 4096  # characters of what is read as a token
START_S = 60.0  # that the first start of a `farm up` may take


def login(
    context: typer.Context,
    address: Annotated[str | None, typer.Argument(metavar="[URL]", help="such as https://farm.lab")] = None,
    token_stdin: Annotated[
        bool, typer.Option("--token-stdin", help="Read the token from stdin; nobody is asked.")
    ] = False,
    local: Annotated[
        bool, typer.Option("--local", help="As admin, to your own `farm up` on this machine; it may still be starting.")
    ] = False,
) -> None:
    """Keep a farm's URL and a token for it, after the farm has taken it. Only you can read the file."""
    from farm.client import Client, credentials

    here = session(context)
    if local and token_stdin:
        raise InputError("--local finds the token by itself, --token-stdin is given one. Leave one of them out.")
    address = address or (_local_url(here.settings.api_port) if local else here.settings.url)
    if address is None:
        raise InputError("Which farm? Give its URL: farm login https://farm.lab; or --local for `farm up` here.")
    allow_http = here.settings.allow_http
    url = credentials.checked_url(address, allow_http=allow_http)
    if local:
        given, patience_s = local_token(here.settings.data_dir), START_S
    else:
        given, patience_s = _read_token(url, from_stdin=token_stdin), 5.0
    token = credentials.checked_token(given)
    with Client(url, token, allow_http=allow_http, patience_s=patience_s, told=output.say) as farm:
        me = farm.whoami()
    file = credentials.save(credentials.Credentials(url, token))
    scope = f"project {me.project}" if me.project else "every project"
    until = f", good until {me.expires_at:%Y-%m-%d %H:%M} UTC" if me.expires_at else ""
    output.say(f"Signed in to {url} as {me.name}: role {me.role}, {scope}{until}. Kept in {file}.")
    if os.environ.get("FARM_TOKEN"):
        output.say("FARM_TOKEN is set, and wins over what was kept now.")
    if here.settings.url is not None and credentials.checked_url(here.settings.url, allow_http=True) != url:
        output.say("FARM_URL is set, and wins over what was kept now.")


def logout(context: typer.Context) -> None:
    """Forget the token that `farm login` has kept. It stays good: `farm tokens revoke` ends it."""
    from farm.client import credentials

    session(context)
    output.say("Signed out." if credentials.forget() else "Nobody was signed in.")
    if os.environ.get("FARM_TOKEN"):
        output.say("FARM_TOKEN is still set.")


def _local_url(port: int) -> str:
    if port == 0:
        raise InputError("The api_port of the farm here is 0, which is any: give the URL that `farm up` printed, too.")
    return f"http://127.0.0.1:{port}"


def local_token(folder: Path, *, limit_s: float = START_S) -> str:
    """What `farm up` keeps for its user, once it is there."""
    file = folder / "admin.token"
    give_up = time.monotonic() + limit_s
    is_told = False
    while True:
        try:
            if (text := file.read_text("utf-8")).endswith("\n"):
                return text
        except (FileNotFoundError, NotADirectoryError):
            pass
        except (OSError, UnicodeDecodeError) as error:
            seen = getattr(error, "strerror", None) or "it is no text"
            raise InputError(f"'{file}' cannot be read: {seen}. Sign in as who started that farm.") from None
        if time.monotonic() >= give_up:
            raise InputError(
                f"No farm was started here: '{file}' is not there after {limit_s:.0f} s. Start one with `farm up`;"
                " or name its data folder (--data-dir, FARM_DATA_DIR)."
            )
        if not is_told:
            output.say(f"Waiting for the first start of `farm up`: '{file}' is not there yet.")
            is_told = True
        time.sleep(0.1)


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
