"""From the queue to a Run: each move is made once, by whoever is first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from farm.domain import BoardState, Health, new_id
from farm.errors import BoardBusy, NotFound
from farm.store import boards, events, jobs, leases, queue, results
from farm.store.db import Store
from tests.farm.store.moves import TTL_S, after, at_once, begun, good_board, granted, kinds, lease_of, queued, state
from tests.farm.store.nouns import NOW

# --- grant


def test_a_job_or_board_that_is_not_there_cannot_be_granted(store: Store) -> None:
    with pytest.raises(NotFound, match="Board 'orin-3' is not known"):
        granted(store, queued(store))
    good_board(store)
    with pytest.raises(BoardBusy, match="is not queued any more"):
        queue.grant(store, new_id(), "orin-3", holder="d", ttl_s=TTL_S, now=NOW, host=None)
    assert leases.unreleased(store) == []


def test_a_job_that_is_not_queued_is_granted_nothing_and_its_board_stays_free(store: Store) -> None:
    good_board(store), good_board(store, "pi-1")
    job = queued(store)
    granted(store, job)
    with pytest.raises(BoardBusy, match=f"Job {job.id} is not queued any more"):
        granted(store, job, "pi-1")
    assert [lease.board for lease in leases.unreleased(store)] == ["orin-3"]
    assert len(results.runs_of(store, job.id)) == 1
    assert leases.grant(store, "pi-1", holder="d", ttl_s=TTL_S, now=NOW).token == 1  # no token was used up


@pytest.mark.parametrize("wanted", [BoardState.DRAINING, BoardState.MAINTENANCE, BoardState.RETIRED])
def test_a_board_that_the_lab_does_not_want_used_is_not_granted(store: Store, wanted: BoardState) -> None:
    good_board(store)
    boards.set_state(store, "orin-3", wanted, note="", by="ann", now=NOW)
    with pytest.raises(BoardBusy, match=f"Board 'orin-3' is {wanted} and its health is good"):
        granted(store, queued(store))


@pytest.mark.parametrize("health", [Health.UNKNOWN, Health.SUSPECT, Health.QUARANTINED])
def test_a_board_whose_health_is_not_good_is_granted_only_by_hand(store: Store, health: Health) -> None:
    good_board(store)
    boards.set_health(store, "orin-3", health, note="", by="ann", now=NOW)
    job = queued(store)
    with pytest.raises(BoardBusy, match=f"its health is {health}"):
        granted(store, job)
    queue.grant(store, job.id, "orin-3", holder="ann", ttl_s=TTL_S, now=NOW, host=None, healths=None)


def test_of_many_grants_of_one_job_at_once_one_makes_a_run(store: Store) -> None:
    names = [f"pi-{i}" for i in range(6)]
    for name in names:
        good_board(store, name)
    job = queued(store)
    found = at_once(*(lambda name=name: granted(store, job, name) for name in names))
    assert sorted(type(one).__name__ for one in found) == ["BoardBusy"] * 5 + ["Run"]
    assert len(leases.unreleased(store)) == len(results.runs_of(store, job.id)) == 1


def test_of_many_grants_of_one_board_at_once_one_makes_a_run(store: Store) -> None:
    good_board(store)
    waiting = [queued(store) for _ in range(6)]
    found = at_once(*(lambda job=job: granted(store, job) for job in waiting))
    assert sorted(type(one).__name__ for one in found) == ["BoardBusy"] * 5 + ["Run"]
    assert sorted(state(store, job.id)[0] for job in waiting) == ["queued"] * 5 + ["running"]


def test_of_two_boards_of_one_host_at_once_one_is_granted_and_the_other_is_busy(store: Store) -> None:
    names = [f"virtual-{i}" for i in range(6)]
    for name in names:
        good_board(store, name)
    waiting = {name: queued(store) for name in names}
    found = at_once(*(lambda name=name: granted(store, waiting[name], name, host="local@lab") for name in names))
    assert sorted(type(one).__name__ for one in found) == ["BoardBusy"] * 5 + ["Run"]


# --- begin


def test_a_doubled_message_begins_a_run_once(store: Store) -> None:
    good_board(store)
    run = granted(store, queued(store))
    again = (lambda i=i: bool(queue.begin(store, run.id, run.token, worker=f"w{i}", now=NOW)) for i in range(4))
    assert sorted(at_once(*again)) == [False, False, False, True]  # type: ignore[type-var]
    assert kinds(store, run.job_id) == ["submitted", "granted", "begun"]
    assert lease_of(store).holder == results.get_run(store, run.id).worker


def test_a_stale_token_and_an_unknown_run_begin_nothing(store: Store) -> None:
    good_board(store)
    run = granted(store, queued(store))
    assert not queue.begin(store, run.id, run.token + 1, worker="w1", now=NOW)
    assert not queue.begin(store, new_id(), run.token, worker="w1", now=NOW)
    assert results.get_run(store, run.id).begun_at is None


def test_nothing_begins_after_its_lease_is_over(store: Store) -> None:
    good_board(store)
    run = granted(store, queued(store))
    assert leases.expire(store, lease_of(store), now=after(31))
    assert not queue.begin(store, run.id, run.token, worker="w1", now=after(31))
    assert results.get_run(store, run.id).worker is None


def test_withdrawing_and_beginning_at_once_leaves_one_of_the_two(store: Store) -> None:
    for n in range(6):
        good_board(store, f"pi-{n}")
        run = granted(store, queued(store), f"pi-{n}")
        lease = lease_of(store, f"pi-{n}")
        won = at_once(
            lambda run=run: bool(queue.begin(store, run.id, run.token, worker="w1", now=NOW)),  # type: ignore[misc]
            lambda lease=lease: queue.withdraw(store, lease, why="late", now=NOW),  # type: ignore[misc]
        )
        assert won in ([True, False], [False, True])
        assert state(store, run.job_id)[0] == ("running" if won[0] else "queued")
        assert (leases.current(store, f"pi-{n}") is not None) is won[0]


# --- withdraw


def test_a_run_that_was_begun_or_whose_lease_is_over_is_not_withdrawn(store: Store) -> None:
    good_board(store)
    stale = replace(lease_of(store), renewals=0) if begun(store, queued(store)) else None
    assert stale is not None
    assert not queue.withdraw(store, stale, why="late", now=NOW)
    assert not queue.withdraw(store, replace(stale, token=9), why="late", now=NOW)


def test_a_withdrawn_job_is_where_it_was_and_nobody_is_blamed_or_charged(store: Store) -> None:
    good_board(store)
    job = queued(store)
    granted(store, job, now=after(100))
    assert queue.withdraw(store, lease_of(store), why="no worker took it up", now=after(140))
    again = jobs.get_job(store, job.id)
    assert (again.state, again.queued_at, again.avoid, again.reasons) == ("queued", job.queued_at, (), ())
    assert results.runs_of(store, job.id) == []
    assert boards.status(store, "orin-3").health is Health.GOOD
    assert queue.usage(store, after(140)) == {"vision": 0.0}
    assert kinds(store, job.id) == ["submitted", "granted", "requeued"]
    granted(store, job, now=after(200))
    assert events.of_job(store, job.id)[-1].data["waited_s"] == 200.0  # from its submission on, counted once


def test_a_withdrawn_job_that_a_person_wants_to_end_is_cancelled_with_a_reason(store: Store) -> None:
    good_board(store)
    job = queued(store)
    granted(store, job)
    queue.cancel(store, job.id, by="ann", now=NOW)
    assert queue.withdraw(store, lease_of(store), why="late", now=after(31))
    assert state(store, job.id) == ("cancelled", "CANCELLED")
    assert [reason.code for reason in jobs.get_job(store, job.id).reasons] == ["cancelled"]
    assert kinds(store, job.id) == ["submitted", "granted", "cancel", "cancelled"]
