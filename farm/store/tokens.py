"""Tokens: what a client shows to be let in. Only the sha256 of a secret is stored; every change is in the audit log.

A secret reads `bf_<role>_<id>_<43 characters>`: who finds one in a log knows what it is of, and what to revoke.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import re
import secrets
from dataclasses import fields, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from farm.domain import Role, Token
from farm.errors import Conflict, InputError, LabError, NotFound, NotSignedIn
from farm.store import audit
from farm.store.db import Store, insert_new
from farm.store.tables import ProjectRow, TokenRow

SECRET = re.compile(r"bf_(?:ci|engineer|admin)_([a-z2-7]{8})_[A-Za-z0-9_-]{43}")
USED_EVERY_S = 60.0  # `last_used_at` is not written more often
_NO_SHA256 = "0" * 64


def create(
    store: Store,
    *,
    name: str,
    role: Role,
    project: str | None,
    created_by: str,
    expires_at: datetime | None,
    now: datetime,
) -> tuple[Token, str]:
    """A new token, and its secret, which is nowhere else. Raises InputError where it lacks a Project."""
    if project is None and role is not Role.ADMIN:
        raise InputError(f"Token {name!r} with the role {role} has no project: only an admin's may. Name its project.")
    with store.write() as session:
        token, secret = _fresh(Token("", name, role, project, now, created_by, expires_at))
        _insert(session, token, secret)
        audit.add(
            session, actor=created_by, action="token.create", subject=token.id, project=project, at=now,
            data={"name": name, "role": role, "expires_at": _iso(expires_at)},
        )  # fmt: skip
        return token, secret


def find(store: Store, secret: str, now: datetime) -> Token:
    """The token of this secret. Raises NotSignedIn where there is none, or it was revoked, or has expired."""
    match = SECRET.fullmatch(secret)
    if match is None:  # not worth a look into the database
        raise _unknown()
    with store.read() as session:
        row = session.get(TokenRow, match[1])
        # Compared though there be none, and in constant time: how long it takes tells nothing.
        if not hmac.compare_digest(row.secret_sha256 if row else _NO_SHA256, _sha256(secret)) or row is None:
            raise _unknown()
        token = _token(session, row)
    if token.revoked_at is not None:
        raise NotSignedIn(
            f"Token {token.id} was revoked at {_shown(token.revoked_at)}. Ask an admin of the farm for another."
        )
    if token.expires_at is not None and token.expires_at <= now:
        raise NotSignedIn(
            f"Token {token.id} has expired at {_shown(token.expires_at)}. Ask an admin of the farm for another."
        )
    _used(store, token, now)
    return token


def rotate(store: Store, token_id: str, *, grace_s: float, by: str, now: datetime) -> tuple[Token, str]:
    """A new token of the same name, role and Project; the old one ends after `grace_s`.

    The new one lives as long as the old one was made for. Raises NotFound, Conflict where it is over already.
    """
    with store.write() as session:
        row = _row(session, token_id)
        old = _token(session, row)
        if old.revoked_at is not None or (old.expires_at is not None and old.expires_at <= now):
            raise Conflict(f"Token {old.id} cannot be rotated: it was revoked or has expired. Make a new one.")
        lives = None if old.expires_at is None else old.expires_at - old.created_at
        until = now + timedelta(seconds=grace_s)
        row.expires_at = until if old.expires_at is None else min(until, old.expires_at)
        token, secret = _fresh(
            replace(
                old, created_at=now, created_by=by, expires_at=None if lives is None else now + lives, last_used_at=None
            )
        )
        _insert(session, token, secret)
        data = {"name": old.name, "role": old.role, "to": token.id, "until": _iso(row.expires_at)}
        audit.add(session, actor=by, action="token.rotate", subject=old.id, project=old.project, at=now, data=data)
        return token, secret


def revoke(store: Store, token_id: str, *, by: str, now: datetime) -> None:
    """End a token now; one that was revoked stays so. Raises NotFound."""
    with store.write() as session:
        row = _row(session, token_id)
        if row.revoked_at is not None:
            return
        row.revoked_at = now
        token = _token(session, row)
        data = {"name": token.name, "role": token.role}
        audit.add(session, actor=by, action="token.revoke", subject=token.id, project=token.project, at=now, data=data)


def list_tokens(store: Store, *, project: str | None = None, limit: int = 1000) -> list[Token]:
    """Tokens, the newest first: all, or those of a Project."""
    query = (
        select(TokenRow, ProjectRow.name)
        .outerjoin(ProjectRow, ProjectRow.id == TokenRow.project_id)
        .order_by(TokenRow.created_at.desc(), TokenRow.id)
        .limit(limit)
    )
    if project is not None:
        query = query.where(ProjectRow.name == project)
    with store.read() as session:
        return [_from(row, name) for row, name in session.execute(query)]


def _fresh(token: Token) -> tuple[Token, str]:
    """The same token with an id and a secret of its own."""
    token_id = base64.b32encode(secrets.token_bytes(5)).decode().lower()
    return replace(token, id=token_id), f"bf_{token.role}_{token_id}_{secrets.token_urlsafe(32)}"


def _insert(session: Session, token: Token, secret: str) -> None:
    project_id = None
    if token.project is not None:
        insert_new(session, ProjectRow, {"name": token.project})
        project_id = session.scalars(select(ProjectRow.id).where(ProjectRow.name == token.project)).one()
    values = {field.name: getattr(token, field.name) for field in fields(Token) if field.name != "project"}
    session.add(TokenRow(**values, project_id=project_id, secret_sha256=_sha256(secret)))
    session.flush()


def _used(store: Store, token: Token, now: datetime) -> None:
    """Note that a token was used; once a minute is enough."""
    before = now - timedelta(seconds=USED_EVERY_S)
    if token.last_used_at is not None and token.last_used_at > before:
        return
    stale = or_(TokenRow.last_used_at.is_(None), TokenRow.last_used_at <= before)
    # A store that is full or busy can still be read, and this alone is no reason to keep anybody out.
    with contextlib.suppress(LabError), store.write() as session:
        session.execute(update(TokenRow).where(TokenRow.id == token.id, stale).values(last_used_at=now))


def _unknown() -> NotSignedIn:
    return NotSignedIn(
        "The token is not known to this farm: none has this secret. Sign in with a valid one (`farm login`)."
    )


def _row(session: Session, token_id: str) -> TokenRow:
    row = session.get(TokenRow, token_id, with_for_update=True)
    if row is None:
        raise NotFound(f"Token {token_id!r} is not known to this farm: none has this id. See `farm tokens`.")
    return row


def _token(session: Session, row: TokenRow) -> Token:
    project = None
    if row.project_id is not None:
        project = session.scalars(select(ProjectRow.name).where(ProjectRow.id == row.project_id)).one()
    return _from(row, project)


def _from(row: TokenRow, project: str | None) -> Token:
    values: dict[str, Any] = {
        field.name: getattr(row, field.name) for field in fields(Token) if field.name not in ("role", "project")
    }
    return Token(**values, role=Role(row.role), project=project)


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _shown(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
