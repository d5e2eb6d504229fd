"""Boards: their inventory entry, the facts they told, what the lab wants of them, and their health."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from farm_agent import wire
from sqlalchemy import Text, select, type_coerce, update
from sqlalchemy.orm import Session

from farm.domain import Board, BoardState, BoardStatus, Health, Notice, new_id
from farm.errors import NotFound
from farm.store import audit, leases, notices
from farm.store.db import Store, insert_new
from farm.store.tables import BoardRow, LeaseRow

QUARANTINE_AFTER = 3
_COLUMNS = ("name", "site", "transport", "address", "is_virtual", "facts")


def save_board(store: Store, board: Board, now: datetime, *, by: str | None = None) -> None:
    """Remember a Board's inventory entry, and its facts where it has some: what it last answered stays else.

    `by` is who asked for it, where a person did.
    """
    plain = wire.as_dict(board)
    columns_ = {name: plain.pop(name) for name in _COLUMNS} | {"entry": plain, "saved_at": now}
    with store.write() as session:
        insert_new(session, BoardRow, columns_)
        if not board.facts:
            del columns_["facts"]
        session.execute(update(BoardRow).where(BoardRow.name == board.name).values(columns_))
        if by is not None:
            data = {"transport": board.transport, "address": board.address, "site": board.site}
            audit.add(session, actor=by, action="board.save", subject=board.name, at=now, data=data)


def get_board(store: Store, name: str) -> Board:
    """The Board of that name. Raises NotFound."""
    with store.read() as session:
        return from_row(_row(session, name))


def get_boards(store: Store, names: Sequence[str]) -> dict[str, Board]:
    """The Boards of these names, those that there are."""
    if not names:
        return {}
    with store.read() as session:
        rows = session.scalars(select(BoardRow).where(BoardRow.name.in_(names)))
        return {row.name: from_row(row) for row in rows}


def list_boards(store: Store) -> list[Board]:
    """Every Board, by name."""
    return [status.board for status in statuses(store)]


class Glance(NamedTuple):
    """What changes of a Board from moment to moment; the rest is worth reading anew once `saved` has changed."""

    name: str
    saved: object  # when it was saved, as the database has it
    state: str
    health: str
    failures: int
    next_check_at: datetime | None


def glances(store: Store) -> list[Glance]:
    """Every Board at a glance, by name: a dispatcher looks often, at many."""
    of = BoardRow.__table__.c  # rows, not entities: of 1,000 Boards that is a millisecond
    saved = type_coerce(of.saved_at, Text)  # only ever compared: to read 1,000 times costs 2 ms
    query = select(of.name, saved, of.state, of.health, of.failures, of.next_check_at).order_by(of.name)
    with store.read() as session:
        return [Glance._make(row) for row in session.connection().execute(query)]


def statuses(store: Store) -> list[BoardStatus]:
    """Every Board as the farm sees it now, by name."""
    held = (LeaseRow.board == BoardRow.name) & LeaseRow.released_at.is_(None)
    with store.read() as session:
        rows = session.execute(select(BoardRow, LeaseRow).outerjoin(LeaseRow, held).order_by(BoardRow.name))
        return [_status(row, lease) for row, lease in rows]


def status(store: Store, name: str) -> BoardStatus:
    """One Board as the farm sees it now. Raises NotFound."""
    with store.read() as session:
        row = _row(session, name)
        held = select(LeaseRow).where(LeaseRow.board == name, LeaseRow.released_at.is_(None))
        return _status(row, session.scalars(held).one_or_none())


def set_state(store: Store, name: str, state: BoardState, *, note: str, by: str, now: datetime) -> None:
    """Say what the lab wants of a Board. Ready again, its health is looked at first. Raises NotFound."""
    with store.write() as session:
        row = _row(session, name, lock=True)
        before = row.state
        row.state, row.note = state, note
        if state is BoardState.READY and before != state:
            row.health, row.failures, row.checks, row.next_check_at = Health.UNKNOWN, 0, 0, now
        data = {"from": before, "to": state, "note": note}
        audit.add(session, actor=by, action="board.state", subject=name, at=now, data=data)


def set_health(store: Store, name: str, health: Health, *, note: str, by: str, now: datetime) -> None:
    """A person says how healthy a Board is: quarantined, or unknown, which is looked at next. Raises NotFound."""
    with store.write() as session:
        row = _row(session, name, lock=True)
        data = {"from": row.health, "to": health, "note": note}
        row.health, row.note, row.failures, row.checks = health, note, 0, 0
        row.next_check_at = now if health is Health.UNKNOWN else None
        audit.add(session, actor=by, action="board.health", subject=name, at=now, data=data)


def blame(session: Session, name: str, *, text: str, now: datetime) -> None:
    """A Run was BROKEN by the Board: its health is unknown until it was checked; three in a row quarantine it."""
    row = _row(session, name, lock=True)
    if row.health == Health.QUARANTINED:
        return  # as `checked`
    row.failures += 1
    row.note = text
    if row.failures < QUARANTINE_AFTER:
        row.health, row.next_check_at = Health.UNKNOWN, now
        return
    row.health, row.next_check_at = Health.QUARANTINED, None
    data = {"board": name, "failures": row.failures, "why": text}
    audit.add(session, actor="farm", action="board.quarantined", subject=name, at=now, data=data)
    title = f"Board {name} is quarantined after {row.failures} broken runs in a row"
    notices.add(session, Notice(new_id(), "board.quarantined", None, title, text, now, data))


def clear(session: Session, name: str) -> None:
    """A Run went well on the Board: what was blamed on it before is forgotten."""
    session.execute(update(BoardRow).where(BoardRow.name == name, BoardRow.failures > 0).values(failures=0))


def drained(store: Store, name: str, *, now: datetime) -> None:
    """A draining Board is in maintenance once it has finished what it had; nothing happens until then."""
    with store.write() as session:
        row = _row(session, name, lock=True)
        held = select(LeaseRow.token).where(LeaseRow.board == name, LeaseRow.released_at.is_(None))
        if row.state == BoardState.DRAINING and session.scalars(held).one_or_none() is None:
            row.state = BoardState.MAINTENANCE
            data = {"from": BoardState.DRAINING, "to": BoardState.MAINTENANCE}
            audit.add(session, actor="farm", action="board.state", subject=name, at=now, data=data)


def check_later(store: Store, name: str, at: datetime) -> None:
    """Look at a Board's health again at that time."""
    with store.write() as session:
        _row(session, name, lock=True).next_check_at = at


def failed_checks(store: Store, name: str) -> int:
    """How many health checks of a Board have failed in a row."""
    with store.read() as session:
        return _row(session, name).checks


def checked(
    store: Store,
    name: str,
    token: int,
    *,
    facts: Mapping[str, Any] | None,
    note: str,
    next_check_at: datetime | None,
    now: datetime,
) -> None:
    """What a health check found: facts where it passed (then its health is good), else when to look again.

    Raises LeaseLost where the check's lease is over.
    """
    with store.write() as session:
        leases.check(session, name, token)
        row = _row(session, name, lock=True)
        if row.health == Health.QUARANTINED:
            return  # a person's word, or three BROKEN Runs, stand until a person says otherwise
        row.note, row.next_check_at = note, next_check_at
        if facts is None:
            row.health, row.checks = Health.UNKNOWN, row.checks + 1
        else:
            row.health, row.checks, row.facts, row.saved_at = Health.GOOD, 0, dict(facts), now


def _row(session: Session, name: str, *, lock: bool = False) -> BoardRow:
    row = session.get(BoardRow, name, with_for_update=lock)
    if row is None:
        raise NotFound(f"Board {name!r} is not known to this farm. See `farm boards`, or add it to inventory.yaml.")
    return row


def from_row(row: BoardRow) -> Board:
    """The Board of a row."""
    stored = {name: getattr(row, name) for name in _COLUMNS} | row.entry
    return Board(**{**stored, "tags": tuple(stored["tags"])})


def _status(row: BoardRow, lease: LeaseRow | None) -> BoardStatus:
    return BoardStatus(
        from_row(row),
        BoardState(row.state),
        Health(row.health),
        row.failures,
        row.note,
        row.next_check_at,
        None if lease is None else leases.from_row(lease),
    )
