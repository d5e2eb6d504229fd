"""One holder a board, and tokens that only rise."""

from __future__ import annotations

import multiprocessing
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from farm.domain import Lease
from farm.errors import BoardBusy, FarmBug, LeaseLost, NotFound
from farm.store import boards, leases
from farm.store.db import Store, open_store
from farm.store.tables import LeaseRow
from tests.farm.store.nouns import BOARD, LATER, NOW, a_lease


def test_a_board_that_nobody_knows_cannot_be_leased(store: Store) -> None:
    with pytest.raises(NotFound, match="Board 'orin-9' is not known to this farm"):
        leases.grant(store, "orin-9", holder="ann", ttl_s=30.0, now=NOW)


def test_a_busy_board_says_who_holds_it_since_and_until_when(store: Store) -> None:
    a_lease(store)
    seen = "Board 'orin-3' is busy: ann@bench holds it since 2026-03-01 12:00:00 UTC, until 12:00:30 UTC unless renewed"
    with pytest.raises(BoardBusy, match=seen):
        leases.grant(store, "orin-3", holder="bob", ttl_s=30.0, now=LATER)


def test_a_released_lease_is_lost_for_every_later_word(store: Store) -> None:
    lease = a_lease(store)
    leases.release(store, lease, now=LATER)
    for change in (leases.renew, leases.release):
        with pytest.raises(LeaseLost, match="Lease 1 on board 'orin-3' is over"):
            change(store, lease, now=LATER)


def test_a_stale_token_cannot_renew_or_release_the_lease_of_another(store: Store) -> None:
    stale = a_lease(store)
    leases.release(store, stale, now=LATER)
    fresh = leases.grant(store, "orin-3", holder="bob", ttl_s=30.0, now=LATER)
    for change in (leases.renew, leases.release):
        with pytest.raises(LeaseLost):
            change(store, stale, now=LATER)
    assert leases.current(store, "orin-3") == fresh


def test_a_lease_that_was_never_granted_is_lost(store: Store) -> None:
    lease = a_lease(store)
    with pytest.raises(LeaseLost):
        leases.renew(store, replace(lease, token=2), now=LATER)


def test_the_database_itself_forbids_two_unreleased_leases_of_one_board(store: Store) -> None:
    a_lease(store)
    second = LeaseRow(board="orin-3", token=2, holder="bob", ttl_s=30.0, granted_at=NOW, renewed_at=NOW)
    with pytest.raises(FarmBug, match="refused a statement"), store.write() as session:
        session.add(second)


def test_a_lease_expires_when_nobody_renews_it(store: Store) -> None:
    lease = a_lease(store)
    leases.renew(store, lease, now=LATER)
    assert not leases.expire(store, lease, now=LATER)  # it was renewed since that was read
    (renewed,) = leases.unreleased(store)
    assert renewed == replace(lease, renewals=1)
    assert leases.expire(store, renewed, now=LATER)
    assert not leases.expire(store, renewed, now=LATER)
    assert leases.unreleased(store) == []
    with pytest.raises(LeaseLost):
        leases.renew(store, lease, now=NOW + timedelta(seconds=51))


def test_tokens_rise_for_each_board_by_itself(store: Store) -> None:
    boards.save_board(store, replace(BOARD, name="pi-1"), NOW)
    for token in (1, 2, 3):
        lease = a_lease(store)
        assert lease == Lease("orin-3", token, "ann@bench", 30.0, NOW)
        leases.release(store, lease, now=LATER)
    assert leases.grant(store, "pi-1", holder="ann", ttl_s=30.0, now=NOW).token == 1
    assert leases.current(store, "orin-3") is None


def test_saving_a_board_anew_keeps_its_token(store: Store) -> None:
    leases.release(store, a_lease(store), now=LATER)
    boards.save_board(store, BOARD, LATER)
    assert leases.grant(store, "orin-3", holder="ann", ttl_s=30.0, now=LATER).token == 2


def test_of_many_threads_that_ask_at_once_exactly_one_gets_the_board(store: Store) -> None:
    boards.save_board(store, BOARD, NOW)
    won: list[Lease] = []
    lost: list[BoardBusy] = []
    barrier = threading.Barrier(8)

    def ask(holder: str) -> None:
        barrier.wait()
        try:
            won.append(leases.grant(store, "orin-3", holder=holder, ttl_s=30.0, now=NOW))
        except BoardBusy as error:
            lost.append(error)

    threads = [threading.Thread(target=ask, args=(f"holder-{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 7)
    assert all(won[0].holder in str(error) for error in lost)


def test_of_two_processes_that_ask_at_once_exactly_one_gets_the_board(
    store: Store, database_url: str, tmp_path: Path
) -> None:
    boards.save_board(store, BOARD, NOW)
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        answers = pool.starmap(_ask, [(database_url, tmp_path / "blobs", f"holder-{i}") for i in range(6)], chunksize=1)
    assert sorted(answers) == ["BoardBusy"] * 5 + ["token 1"]


def _ask(url: str, blobs: Path, holder: str) -> str:
    store = open_store(url, blobs, upgrade=False)
    try:
        return f"token {leases.grant(store, 'orin-3', holder=holder, ttl_s=30.0, now=NOW).token}"
    except BoardBusy:
        return "BoardBusy"
    finally:
        store.close()
