"""Leases: the right to touch one Board. The database allows one unreleased Lease a Board; tokens only rise."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from farm.domain import Lease, new_id
from farm.errors import BoardBusy, LeaseLost, NotFound
from farm.store.db import Store, insert_new
from farm.store.tables import BoardRow, FarmRow, LeaseRow


def farm_id(store: Store) -> str:
    """Which farm this database is: a random id, made on the first call, that goes with every token to a board."""
    with store.write() as session:
        insert_new(session, FarmRow, {"one": 1, "id": new_id()})
        return session.scalars(select(FarmRow.id)).one()


def grant(store: Store, board: str, *, holder: str, ttl_s: float, now: datetime) -> Lease:
    """A new Lease with the board's next token. Raises BoardBusy, naming who holds it; NotFound.

    A Lease that nobody renews is in the way until `expire` has ended it.
    """
    with store.write() as session:
        # The row's lock makes two grants wait for each other on PostgreSQL too.
        row = session.scalars(select(BoardRow).where(BoardRow.name == board).with_for_update()).one_or_none()
        if row is None:
            raise NotFound(
                f"Board {board!r} is not known to this farm. See `farm boards`, or add it to inventory.yaml."
            )
        held = session.scalars(select(LeaseRow).where(LeaseRow.board == board, _UNRELEASED)).one_or_none()
        if held is not None:
            until = held.renewed_at + timedelta(seconds=held.ttl_s)
            raise BoardBusy(
                f"Board {board!r} is busy: {held.holder} holds it since {held.granted_at:%Y-%m-%d %H:%M:%S} UTC, "
                f"until {until:%H:%M:%S} UTC unless renewed. Wait for that, or end it there."
            )
        row.last_token += 1
        lease = Lease(board, row.last_token, holder, ttl_s, now)
        session.add(
            LeaseRow(board=board, token=lease.token, holder=holder, ttl_s=ttl_s, granted_at=now, renewed_at=now)
        )
        return lease


def renew(store: Store, lease: Lease, *, now: datetime) -> None:
    """The Lease lives on for its time to live from now. Raises LeaseLost where it is over."""
    with store.write() as session:
        _change(session, lease, renewed_at=now)


def release(store: Store, lease: Lease, *, now: datetime) -> None:
    """The Board is free for others. Raises LeaseLost where the Lease is over already."""
    with store.write() as session:
        _change(session, lease, released_at=now)


def expire(store: Store, *, now: datetime) -> list[Lease]:
    """End every Lease that nobody has renewed for its time to live; they are returned."""
    with store.write() as session:
        rows = session.scalars(select(LeaseRow).where(_UNRELEASED).order_by(LeaseRow.board).with_for_update())
        over = [row for row in rows if row.renewed_at + timedelta(seconds=row.ttl_s) < now]
        for row in over:
            row.released_at = now
        return [_lease(row) for row in over]


def current(store: Store, board: str) -> Lease | None:
    """The Board's unreleased Lease, or None."""
    with store.read() as session:
        row = session.scalars(select(LeaseRow).where(LeaseRow.board == board, _UNRELEASED)).one_or_none()
        return None if row is None else _lease(row)


def check(session: Session, board: str, token: int) -> None:
    """Hold the Lease still until the transaction ends. Raises LeaseLost where it is over."""
    query = select(LeaseRow.token).where(LeaseRow.board == board, LeaseRow.token == token, _UNRELEASED)
    if session.scalars(query.with_for_update(read=True)).one_or_none() is None:
        raise lost(board, token)


def lost(board: str, token: int) -> LeaseLost:
    """The error for a token that no longer gives the right to write."""
    return LeaseLost(
        f"Lease {token} on board {board!r} is over: it was released, or expired for want of renewal. "
        "Nothing was written. Submit the job again."
    )


_UNRELEASED = LeaseRow.released_at.is_(None)


def _change(session: Session, lease: Lease, **values: datetime) -> None:
    same = (LeaseRow.board == lease.board, LeaseRow.token == lease.token, _UNRELEASED)
    changed = session.scalars(update(LeaseRow).where(*same).values(values).returning(LeaseRow.token))
    if changed.one_or_none() is None:
        raise lost(lease.board, lease.token)


def _lease(row: LeaseRow) -> Lease:
    return Lease(row.board, row.token, row.holder, row.ttl_s, row.granted_at)
