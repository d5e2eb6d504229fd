"""Leases: the right to touch one Board. The database allows one unreleased Lease a Board; tokens only rise."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import fields
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from farm.domain import BoardState, Health, Lease, new_id
from farm.errors import BoardBusy, LeaseLost, NotFound
from farm.store.db import Store, insert_new
from farm.store.tables import BoardRow, FarmRow, JobRow, LeaseRow, ProjectRow, RunRow

USAGE_HALVES_S = 86_400.0


def farm_id(store: Store) -> str:
    """Which farm this database is: a random id, made on the first call, that goes with every token to a board."""
    with store.read() as session:  # which waits for no writer
        found = session.scalars(select(FarmRow.id)).one_or_none()
    if found is not None:
        return found
    with store.write() as session:
        insert_new(session, FarmRow, {"one": 1, "id": new_id()})
        return session.scalars(select(FarmRow.id)).one()


def grant(
    store: Store,
    board: str,
    *,
    holder: str,
    ttl_s: float,
    now: datetime,
    host: str | None = None,
    is_check: bool = False,
    healths: Collection[Health] | None = None,
) -> Lease:
    """A new Lease with the board's next token. Raises BoardBusy, naming who holds it; NotFound.

    `host` is the machine that the Board shares with others, of which one measures at a time. A Lease that nobody
    renews is in the way until `expire` has ended it. With `healths`, the Board must be ready and of such a health; who
    works by hand asks for neither.
    """
    with store.write() as session:
        return grant_within(
            session, board, holder=holder, ttl_s=ttl_s, now=now, host=host, is_check=is_check, healths=healths
        )


def grant_within(
    session: Session,
    board: str,
    *,
    holder: str,
    ttl_s: float,
    now: datetime,
    host: str | None,
    is_check: bool = False,
    healths: Collection[Health] | None = None,
) -> Lease:
    """The same within a transaction."""
    # The row's lock makes two grants wait for each other on PostgreSQL too.
    row = session.scalars(select(BoardRow).where(BoardRow.name == board).with_for_update()).one_or_none()
    if row is None:
        raise NotFound(f"Board {board!r} is not known to this farm. See `farm boards`, or add it to inventory.yaml.")
    if healths is not None and (row.state != BoardState.READY or row.health not in healths):
        raise BoardBusy(f"Board {board!r} is {row.state} and its health is {row.health}. Nothing was granted.")
    mine = LeaseRow.board == board if host is None else or_(LeaseRow.board == board, LeaseRow.host == host)
    held = session.scalars(select(LeaseRow).where(mine, _UNRELEASED)).first()
    if held is not None:
        until = held.renewed_at + timedelta(seconds=held.ttl_s)
        raise BoardBusy(
            f"Board {held.board!r} is busy: {held.holder} holds it since {held.granted_at:%Y-%m-%d %H:%M:%S} UTC, "
            f"until {until:%H:%M:%S} UTC unless renewed. Wait for that, or end it there."
        )
    row.last_token += 1
    lease = LeaseRow(
        board=board,
        token=row.last_token,
        holder=holder,
        ttl_s=ttl_s,
        granted_at=now,
        renewed_at=now,
        renewals=0,
        host=host,
        is_check=is_check,
    )
    session.add(lease)
    try:
        session.flush()
    except IntegrityError:  # of two Boards on one host, the other was granted in this very moment
        raise BoardBusy(
            f"Board {board!r} is busy: another board of its host was just granted. Wait for that."
        ) from None
    return from_row(lease)


def renew(store: Store, lease: Lease, *, now: datetime) -> None:
    """The Lease lives on for its time to live from now. Raises LeaseLost where it is over."""
    if renew_all(store, [lease], now=now):
        raise lost(lease.board, lease.token)


def renew_all(store: Store, held: Sequence[Lease], *, now: datetime) -> list[Lease]:
    """Every one of these Leases lives on; those that are over are returned."""
    over = []
    with store.write() as session:
        for lease in sorted(held, key=lambda lease: lease.board):  # in one order: no deadlock
            values = {"renewed_at": now, "renewals": LeaseRow.renewals + 1}
            changed = session.execute(update(LeaseRow).where(*_same(lease)).values(values).returning(LeaseRow.token))
            if changed.one_or_none() is None:
                over.append(lease)
    return over


def release(store: Store, lease: Lease, *, now: datetime) -> None:
    """The Board is free for others. Raises LeaseLost where the Lease is over already."""
    with store.write() as session:
        row = session.scalars(select(LeaseRow).where(*_same(lease)).with_for_update()).one_or_none()
        if row is None:
            raise lost(lease.board, lease.token)
        end_within(session, row, now)


def expire(store: Store, lease: Lease, *, now: datetime) -> bool:
    """End a Lease that was not renewed since it was read. False where it was, or is over already."""
    with store.write() as session:
        same = (*_same(lease), LeaseRow.renewals == lease.renewals)
        row = session.scalars(select(LeaseRow).where(*same).with_for_update()).one_or_none()
        if row is None:
            return False
        end_within(session, row, now)
        return True


def end_within(session: Session, row: LeaseRow, now: datetime) -> None:
    """End a Lease within a transaction; the Project that used the Board is charged for the time."""
    row.released_at = now
    held_s = max(0.0, (now - row.granted_at).total_seconds())
    owner = select(JobRow.project_id).join(RunRow, RunRow.job_id == JobRow.id)
    owner = owner.where(RunRow.board == row.board, RunRow.token == row.token)
    project = session.scalars(select(ProjectRow).where(ProjectRow.id.in_(owner)).with_for_update()).first()
    if project is not None:
        project.usage_s = usage_s(project.usage_s, project.usage_at, now) + held_s
        project.usage_at = now
    session.flush()


def usage_s(used_s: float, at: datetime | None, now: datetime) -> float:
    """Board-seconds that a Project used, as they count now: they halve each day."""
    if at is None:
        return used_s
    return used_s * 0.5 ** (max(0.0, (now - at).total_seconds()) / USAGE_HALVES_S)  # type: ignore[no-any-return]


def unreleased(store: Store, known: Iterable[Lease] = ()) -> list[Lease]:
    """Every Lease that is not over, by Board; those of `known` that were not renewed since are not read again."""
    unchanged = {(lease.board, lease.token, lease.renewals): lease for lease in known}
    columns = [getattr(LeaseRow, field.name) for field in fields(Lease)]
    of = LeaseRow.__table__.c  # rows, not entities: of 1,000 Leases that is a millisecond
    glance = select(of.board, of.token, of.renewals).where(of.released_at.is_(None)).order_by(of.board)
    with store.read() as session:
        keys = [(board, token, renewals) for board, token, renewals in session.connection().execute(glance)]
        changed = [key[0] for key in keys if key not in unchanged]
        rows = session.execute(select(*columns).where(_UNRELEASED, LeaseRow.board.in_(changed))) if changed else ()
        fresh = {row.board: Lease(*row) for row in rows}
    found = (unchanged.get(key) or fresh.get(key[0]) for key in keys)
    return [lease for lease in found if lease is not None]


def current(store: Store, board: str) -> Lease | None:
    """The Board's unreleased Lease, or None."""
    with store.read() as session:
        row = session.scalars(select(LeaseRow).where(LeaseRow.board == board, _UNRELEASED)).one_or_none()
        return None if row is None else from_row(row)


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


def from_row(row: LeaseRow) -> Lease:
    """The Lease of a row."""
    return Lease(row.board, row.token, row.holder, row.ttl_s, row.granted_at, row.renewals, row.is_check)


_UNRELEASED = LeaseRow.released_at.is_(None)


def _same(lease: Lease) -> tuple[ColumnElement[bool], ...]:
    return (LeaseRow.board == lease.board, LeaseRow.token == lease.token, _UNRELEASED)
