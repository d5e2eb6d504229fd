"""`farm db`: the tables of the database."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from farm.cli import output
from farm.cli.session import session
from farm.errors import NotFound

SQLITE = "sqlite:///"

app = typer.Typer(help="Look after the database.", no_args_is_help=True)


@app.command("upgrade")
def upgrade(context: typer.Context) -> None:
    """Bring the tables up to date. SQLite does so by itself; PostgreSQL waits for this word."""
    here = session(context)
    here.open_store(upgrade=True).close()
    output.say(f"Database {here.settings.shown()['database_url']} is up to date.")


@app.command("check")
def check(
    context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False
) -> None:
    """Say whether the database answers and its tables are up to date; change nothing."""
    here = session(context)
    url = here.settings.shown()["database_url"]
    if url.startswith(SQLITE) and not Path(url.removeprefix(SQLITE)).exists():
        raise NotFound(f"Database {url} is not there yet. The first command that needs it makes it.")
    here.open_store(upgrade=False).close()
    if as_json:
        output.result_json({"database_url": url, "up_to_date": True})
    else:
        output.result(f"Database {url} answers, and its tables are up to date.")


@app.command("token")
def token(
    context: typer.Context,
    name: Annotated[str, typer.Option(help="what the token is known by in the audit log")] = "admin",
) -> None:
    """Make an admin's token straight in the database, for the first sign-in, and print it: it is shown just once."""
    from datetime import UTC, datetime

    from farm.domain import Role
    from farm.store import tokens

    with session(context).store() as store:
        now = datetime.now(UTC)
        _, secret = tokens.create(
            store, name=name, role=Role.ADMIN, project=None, created_by="farm db", expires_at=None, now=now
        )
    output.result(secret)
