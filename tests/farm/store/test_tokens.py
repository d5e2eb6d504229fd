"""Tokens: who is let in and who is not; secrets that are nowhere; changes that are written down."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from farm.domain import Role, Token
from farm.errors import Conflict, InputError, NotFound, NotSignedIn, StoreError
from farm.store import audit, tokens
from farm.store.db import Store, open_store
from farm.store.tables import Table, TokenRow
from tests.farm.store.moves import at_once

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def _made(store: Store, **changes: Any) -> tuple[Token, str]:
    given = {
        "name": "github",
        "role": Role.CI,
        "project": "vision",
        "created_by": "ann",
        "expires_at": None,
        "now": NOW,
    }
    return tokens.create(store, **{**given, **changes})


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "bf_ci_aaaaaaaa",
        "Bearer x",
        "bf_root_aaaaaaaa_" + "x" * 43,
        "bf_ci_aaaaaaaa_" + "x" * 43 + "\n",
        "bf_ci_aaaaaaaa_" + "x" * 43,
        "\ud800",
        "x" * 100_000,
    ],
)
def test_a_secret_that_no_token_has_lets_nobody_in(store: Store, secret: str) -> None:
    _made(store)
    with pytest.raises(NotSignedIn, match="not known to this farm"):
        tokens.find(store, secret, NOW)


def test_the_id_of_a_token_with_another_secret_lets_nobody_in(store: Store) -> None:
    token, secret = _made(store)
    assert secret.startswith(f"bf_ci_{token.id}_")
    for other in (secret[:-1] + ("a" if secret[-1] != "a" else "b"), secret.replace("bf_ci", "bf_admin")):
        with pytest.raises(NotSignedIn, match="not known to this farm"):
            tokens.find(store, other, NOW)


def test_a_token_lets_nobody_in_from_the_moment_that_it_expires(store: Store) -> None:
    token, secret = _made(store, expires_at=NOW + timedelta(hours=1))
    assert tokens.find(store, secret, NOW + timedelta(minutes=59)).id == token.id
    with pytest.raises(NotSignedIn, match=f"Token {token.id} has expired at 2026-03-01 13:00:00 UTC"):
        tokens.find(store, secret, NOW + timedelta(hours=1))


def test_a_revoked_token_lets_nobody_in_and_stays_revoked(store: Store) -> None:
    token, secret = _made(store)
    tokens.revoke(store, token.id, by="bob", now=NOW)
    tokens.revoke(store, token.id, by="bob", now=NOW + timedelta(hours=1))
    with pytest.raises(NotSignedIn, match=f"Token {token.id} was revoked at 2026-03-01 12:00:00 UTC"):
        tokens.find(store, secret, NOW)
    assert [change.action for change in audit.changes(store)] == ["token.revoke", "token.create"]


def test_a_token_that_is_not_there_is_not_revoked_nor_rotated(store: Store) -> None:
    with pytest.raises(NotFound, match="aaaaaaaa"):
        tokens.revoke(store, "aaaaaaaa", by="bob", now=NOW)
    with pytest.raises(NotFound, match="aaaaaaaa"):
        tokens.rotate(store, "aaaaaaaa", grace_s=0, by="bob", now=NOW)


@pytest.mark.parametrize("role", [Role.CI, Role.ENGINEER])
def test_only_an_admin_may_be_of_no_project(store: Store, role: Role) -> None:
    with pytest.raises(InputError, match="has no project"):
        _made(store, role=role, project=None)
    assert tokens.list_tokens(store) == []
    token, secret = _made(store, role=Role.ADMIN, project=None)
    assert tokens.find(store, secret, NOW).project is None
    assert token.role is Role.ADMIN


def test_a_rotated_token_is_good_beside_the_new_one_until_its_grace_is_over(store: Store) -> None:
    old, old_secret = _made(store)
    new, new_secret = tokens.rotate(store, old.id, grace_s=3600, by="bob", now=NOW)
    assert (new.name, new.role, new.project, new.created_by) == ("github", Role.CI, "vision", "bob")
    assert new.id != old.id
    assert new.expires_at is None
    assert tokens.find(store, old_secret, NOW + timedelta(seconds=3599)).id == old.id
    with pytest.raises(NotSignedIn, match="expired"):
        tokens.find(store, old_secret, NOW + timedelta(seconds=3600))
    assert tokens.find(store, new_secret, NOW + timedelta(days=300)).id == new.id


def test_without_grace_a_rotated_token_ends_at_once(store: Store) -> None:
    old, old_secret = _made(store)
    tokens.rotate(store, old.id, grace_s=0, by="bob", now=NOW)
    with pytest.raises(NotSignedIn, match="expired"):
        tokens.find(store, old_secret, NOW)
    with pytest.raises(Conflict, match="cannot be rotated"):
        tokens.rotate(store, old.id, grace_s=0, by="bob", now=NOW)


def test_of_many_rotations_of_one_token_at_once_one_makes_a_new_one(store: Store) -> None:
    old, old_secret = _made(store)
    rotate = partial(tokens.rotate, store, old.id, grace_s=0, by="bob", now=NOW)
    found = at_once(*[rotate] * 6)
    (made,) = [one for one in found if isinstance(one, tuple)]
    assert [type(one) for one in found if not isinstance(one, tuple)] == [Conflict] * 5
    assert made[1] != old_secret
    assert [one.id for one in tokens.list_tokens(store) if one.expires_at is None] == [made[0].id]


def test_a_rotated_token_lives_as_long_as_the_old_one_was_made_for_and_grace_never_prolongs(store: Store) -> None:
    old, old_secret = _made(store, expires_at=NOW + timedelta(days=90))
    later = NOW + timedelta(days=89)
    new, _ = tokens.rotate(store, old.id, grace_s=30 * 86_400, by="bob", now=later)
    assert new.expires_at == later + timedelta(days=90)
    with pytest.raises(NotSignedIn):
        tokens.find(store, old_secret, NOW + timedelta(days=90))


def test_when_a_token_was_used_is_written_at_most_once_a_minute(store: Store) -> None:
    _, secret = _made(store)
    seen = []
    for seconds in (0, 30, 59, 60, 61):
        tokens.find(store, secret, NOW + timedelta(seconds=seconds))
        (listed,) = tokens.list_tokens(store)
        seen.append(listed.last_used_at)
    minute = NOW + timedelta(seconds=60)
    assert seen == [NOW, NOW, NOW, minute, minute]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_store_that_takes_no_writes_still_lets_a_token_in(store: Store, database_url: str, tmp_path: Path) -> None:
    token, secret = _made(store)
    sign = "&" if "?" in database_url else "?"
    url = f"{database_url}{sign}options=-cdefault_transaction_read_only%3Don"
    full = open_store(url, tmp_path / "blobs", upgrade=False)
    try:
        with pytest.raises(StoreError):
            tokens.revoke(full, token.id, by="bob", now=NOW)
        assert tokens.find(full, secret, NOW).id == token.id
    finally:
        full.close()


def test_a_project_sees_its_own_tokens_only_and_the_newest_first(store: Store) -> None:
    first, _ = _made(store)
    second, _ = _made(store, name="gitlab", now=NOW + timedelta(seconds=1))
    _made(store, project="audio")
    _made(store, role=Role.ADMIN, project=None)
    assert [one.id for one in tokens.list_tokens(store, project="vision")] == [second.id, first.id]
    assert len(tokens.list_tokens(store)) == 4


def test_every_change_says_who_and_when_and_no_row_of_any_table_holds_a_secret(store: Store) -> None:
    token, secret = _made(store)
    new, new_secret = tokens.rotate(store, token.id, grace_s=0, by="bob", now=NOW)
    tokens.revoke(store, new.id, by="eve", now=NOW)
    changes = audit.changes(store)
    assert [(one.action, one.actor, one.subject, one.project, one.at) for one in changes] == [
        ("token.revoke", "eve", new.id, "vision", NOW),
        ("token.rotate", "bob", token.id, "vision", NOW),
        ("token.create", "ann", token.id, "vision", NOW),
    ]
    with store.read() as session:
        rows = [repr(row) for table in Table.metadata.sorted_tables for row in session.execute(select(table))]
        hashes = list(session.scalars(select(TokenRow.secret_sha256)))
    for one in (secret, new_secret):
        assert not any(one[-43:] in row for row in rows)
        assert re.fullmatch(r"bf_ci_[a-z2-7]{8}_[A-Za-z0-9_-]{43}", one)
    assert len(set(hashes)) == 2
