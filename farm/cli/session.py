"""What one command works with: the settings, the boards of the inventory, the store; each made when first needed."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import typer

from farm.cli import output
from farm.errors import InputError, NotFound, NotSignedIn, StoreError

if TYPE_CHECKING:  # each costs more than the rest of `farm --help`
    from farm.client import Client
    from farm.client.credentials import Credentials
    from farm.domain import Board
    from farm.settings import Settings
    from farm.store.db import Store


@dataclass
class Session:
    """One command's settings, boards and store."""

    flags: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def settings(self) -> Settings:
        """The settings; strange FARM_ variables are said once."""
        from farm import settings

        loaded = settings.load(self.flags)
        for warning in loaded.warnings():
            output.say(f"Warning: {warning}")
        return loaded

    @cached_property
    def boards(self) -> tuple[Board, ...]:
        """The boards of the inventory, or `local` where there is none."""
        from farm import inventory

        return inventory.load(self.settings.inventory)

    def board(self, name: str | None) -> Board:
        """The board of that name; without a name the only one, or `local`. Raises NotFound with the nearest names."""
        names = [board.name for board in self.boards]
        if name is None and len(names) != 1 and "local" not in names:
            raise NotFound(
                f"Which board? The inventory '{self.settings.inventory}' has: {', '.join(names) or 'none'}. Name one."
            )
        name = name or (names[0] if len(names) == 1 else "local")
        for board in self.boards:
            if board.name == name:
                return board
        near = difflib.get_close_matches(name, names, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        file = self.settings.inventory
        if file is None:
            raise NotFound(
                f"Board '{name}' is not known: there is no inventory, so the only board is 'local', this machine."
                " Write ./inventory.yaml, or name a file with --inventory."
            )
        raise NotFound(
            f"Board '{name}' is not in the inventory '{file}', which has: {', '.join(names)}.{hint}"
            " Add it there, or name another file with --inventory."
        )

    @property
    def knows_a_farm(self) -> bool:
        """Whether a farm is named, or was signed in to."""
        from farm.client import credentials

        return self.settings.url is not None or credentials.load() is not None

    @cached_property
    def farm(self) -> Credentials:
        """The farm to submit to, and what lets us in: settings and FARM_TOKEN win over `farm login`.

        Raises InputError where no farm is known, NotSignedIn where there is no token for it.
        """
        from farm.client import credentials
        from farm.settings import TOKEN_VARIABLE

        kept = credentials.load()
        url = self.settings.url or (kept.url if kept else None)
        if url is None:
            raise InputError(
                "No farm is known. Sign in to one with `farm login URL`; in CI set FARM_URL and FARM_TOKEN."
                " To measure on this machine without a farm: farm bench MODEL."
            )
        url = credentials.checked_url(url, allow_http=self.settings.allow_http)
        token = os.environ.get(TOKEN_VARIABLE)
        if token is None and kept is not None and kept.url == url:
            token = kept.token
        if not token:
            seen = "is empty: a pipeline of a fork gets no secrets" if token == "" else "is not set"
            raise NotSignedIn(
                f"There is no token for the farm at '{url}': FARM_TOKEN {seen}, and `farm login` was not called for it."
                " Ask an admin for a token (`farm tokens create`), then sign in or set FARM_TOKEN."
            )
        return credentials.Credentials(url, token)

    @contextmanager
    def client(self, *, told: Callable[[str], None] = output.say, patience_s: float | None = 60.0) -> Iterator[Client]:
        """A client of that farm."""
        from farm.client import Client

        known = self.farm
        allow_http = self.settings.allow_http
        with Client(known.url, known.token, patience_s=patience_s, allow_http=allow_http, told=told) as client:
            yield client

    @contextmanager
    def store(self) -> Iterator[Store]:
        """The store, open. A SQLite schema is brought up to date by itself; for PostgreSQL say `farm db upgrade`."""
        store = self.open_store(upgrade=self.settings.database_url.startswith("sqlite"))
        try:
            yield store
        finally:
            store.close()

    def open_store(self, *, upgrade: bool) -> Store:
        """The store. Raises StoreError where the data folder cannot be made."""
        from farm.store import db

        folder = self.settings.data_dir
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"Data folder '{folder}' cannot be made: {error.strerror}."
                " Name another with --data-dir or FARM_DATA_DIR."
            ) from None
        chosen = self.settings
        return db.open_store(chosen.database_url, chosen.blobs_dir, upgrade=upgrade, blobs_url=chosen.blobs_url)


def session(context: typer.Context) -> Session:
    """The Session of the command that runs now."""
    return context.ensure_object(Session)


def run_id(store: Store, word: str) -> str:
    """The id of the Run that the word names: an id, the start of just one id, or `last`. Raises InputError."""
    from farm.store import results

    if word != "last":
        return results.get_run(store, word).id
    newest = results.list_runs(store, limit=1)
    if not newest:
        raise NotFound("No run is stored yet, so there is no last one. Measure one: farm bench MODEL.")
    return newest[0].id
