"""Small labs for the tests of `assign`: boards, demands, and one pass over them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from farm.assign import assign
from farm.domain import Board, BoardState, BoardStatus, Demand, Health, Lease, Selector

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def board(
    name: str,
    *tags: str,
    site: str = "lab",
    transport: str = "ssh",
    virtual: bool = False,
    leased: bool = False,
    state: BoardState = BoardState.READY,
    health: Health = Health.GOOD,
    facts: Mapping[str, Any] | None = None,
) -> BoardStatus:
    """A Board that can be given out unless told otherwise."""
    one = Board(name, transport=transport, site=site, tags=tags, is_virtual=virtual, facts=facts or {})
    return BoardStatus(one, state, health, lease=Lease(name, 1, "w", 60.0, NOW) if leased else None)


def demand(job_id: str, *tags: str, project: str = "p", at_s: float = 0.0, priority: int = 0, **more: Any) -> Demand:
    """A queued Job that wants a Board with these tags, submitted `at_s` after NOW."""
    name, virtual = more.pop("name", None), more.pop("virtual", False)
    one = Selector(name=name, tags=tuple(sorted(tags)), virtual=virtual)
    runtimes = frozenset(more.pop("runtimes", ()))
    return Demand(job_id, project, one, runtimes, priority, NOW + timedelta(seconds=at_s), **more)


def passed(
    demands: Iterable[Demand],
    boards: Iterable[BoardStatus],
    *,
    slots: Mapping[str, int] | None = None,
    usage: Mapping[str, float] | None = None,
    now: datetime = NOW,
    seed: int = 1,
) -> dict[str, str]:
    """One pass: Job -> Board, in the order of their turns."""
    found = assign(
        list(demands),
        list(boards),
        slots={"lab": 99} if slots is None else slots,
        usage=usage or {},
        now=now,
        rng=random.Random(seed),
    )
    assert len({one.job_id for one, _ in found}) == len(found)
    return {one.job_id: status.board.name for one, status in found}
