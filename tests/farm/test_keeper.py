"""Keeping Leases: renewed in time, lost once, and cancellations are heard of."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from sqlalchemy import text

from farm.domain import Lease, Run
from farm.keeper import Keeper
from farm.store import leases, queue
from farm.store.db import Store, open_store
from tests.farm.rounds import Clock
from tests.farm.store.moves import after, begun, good_board, lease_of, queued
from tests.farm.store.nouns import NOW


@dataclass
class Kept:
    """One Lease that a Keeper holds, and what it told of it."""

    store: Store
    run: Run
    lease: Lease
    clock: Clock = field(default_factory=Clock)
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.keeper = Keeper(self.store, clock=self.clock)
        self.hold(self.lease)

    def hold(self, lease: Lease) -> None:
        self.keeper.hold(
            lease, self.run.id, lost=lambda: self.told.append("lost"), cancel=lambda: self.told.append("cancel")
        )

    def look(self, later_s: float) -> None:
        """A look so much later."""
        self.clock.go_on(later_s)
        self.keeper.look()
        self.keeper.lapse()

    def renewals(self) -> int:
        return lease_of(self.store).renewals


@pytest.fixture
def kept(database_url: str, tmp_path: Path) -> Iterator[Kept]:
    """A Lease of 30 s."""
    store = open_store(database_url, tmp_path / "blobs", upgrade=False)
    good_board(store)
    run = begun(store, queued(store))
    yield Kept(store, run, lease_of(store))
    store.close()


@pytest.fixture
def lost_database(kept: Kept) -> Iterator[None]:
    """The database refuses every renewal meanwhile."""
    with kept.store.engine.execution_options(farm_writes=True).begin() as connection:
        connection.execute(text("ALTER TABLE lease RENAME TO away"))
    yield
    with kept.store.engine.execution_options(farm_writes=True).begin() as connection:
        connection.execute(text("ALTER TABLE away RENAME TO lease"))


def test_a_lease_that_the_store_says_is_over_is_lost_once(kept: Kept) -> None:
    assert leases.expire(kept.store, lease_of(kept.store), now=NOW)
    kept.look(9.0)
    assert kept.told == []  # nobody has asked yet
    kept.look(1.0)
    kept.look(60.0)
    assert (kept.told, kept.keeper.holds()) == (["lost"], 0)


def test_a_lease_is_lost_when_our_own_clock_says_so_whatever_the_store_does(kept: Kept, lost_database: None) -> None:
    for _ in range(3):
        kept.look(10.0)
    assert kept.told == []
    kept.look(0.5)
    assert (kept.told, kept.keeper.holds()) == (["lost"], 0)


def test_a_database_that_hangs_does_not_keep_a_lost_lease_alive(kept: Kept) -> None:
    kept.keeper.start()
    try:
        with kept.store.write() as session:  # renewals wait for this transaction
            leases.check(session, kept.run.board, kept.run.token)
            kept.clock.go_on(31.0)
            deadline = threading.Event()
            while not kept.told and not deadline.wait(0.05):
                pass
    finally:
        kept.keeper.stop()
        kept.keeper.join(10)
    assert kept.told == ["lost"]
    assert not kept.keeper.is_alive()


def test_a_lease_is_renewed_three_times_in_its_time_to_live(kept: Kept) -> None:
    before = kept.renewals()
    for _ in range(31):
        kept.look(1.0)
    assert kept.renewals() == before + 3
    assert kept.told == []


def test_a_lease_that_was_let_go_is_neither_renewed_nor_lost(kept: Kept) -> None:
    before = kept.renewals()
    kept.keeper.let_go(kept.lease)
    kept.keeper.let_go(kept.lease)
    kept.look(60.0)
    assert (kept.renewals(), kept.told, kept.keeper.holds()) == (before, [], 0)


def test_of_two_leases_only_the_one_that_is_over_is_lost(kept: Kept) -> None:
    good_board(kept.store, "orin-4")
    begun(kept.store, queued(kept.store), "orin-4")
    other = lease_of(kept.store, "orin-4")
    told: list[str] = []
    kept.keeper.hold(other, None, lost=lambda: told.append("lost"), cancel=lambda: None)
    leases.release(kept.store, other, now=NOW)
    kept.look(10.0)
    assert (told, kept.told, kept.keeper.holds()) == (["lost"], [], 1)


def test_a_cancellation_is_told_once_at_the_next_look(kept: Kept) -> None:
    kept.look(1.0)
    assert kept.told == []
    queue.cancel(kept.store, kept.run.job_id, by="ann", now=NOW)
    for _ in range(3):
        kept.look(1.0)
    assert kept.told == ["cancel"]


def test_a_process_that_is_to_end_loses_all_its_leases_at_once(kept: Kept) -> None:
    kept.hold(replace(kept.lease, token=2, granted_at=after(1)))
    kept.keeper.lose_all()
    kept.keeper.lose_all()
    assert (kept.told, kept.keeper.holds()) == (["lost", "lost"], 0)


def test_a_callback_that_fails_does_not_end_the_thread(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    heard = threading.Event()

    def fail() -> None:
        raise RuntimeError("its loop is closed")

    kept.keeper.hold(replace(kept.lease, board="x"), None, lost=fail, cancel=lambda: None)
    kept.keeper.let_go(kept.lease)
    kept.keeper.start()
    kept.clock.go_on(31.0)
    while kept.keeper.holds():
        threading.Event().wait(0.02)
    kept.keeper.hold(replace(kept.lease, board="y"), None, lost=heard.set, cancel=lambda: None)
    kept.clock.go_on(31.0)
    assert heard.wait(10)
    kept.keeper.stop()
    kept.keeper.join(10)
    assert "leases were not looked after; please report this" in caplog.messages
