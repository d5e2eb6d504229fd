"""A dispatcher's rounds: to whose boards it gives what, and whose leases it ends, whatever the clocks do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.dispatch import Report
from farm.domain import BoardState, Job, Selector
from farm.store import boards, leases, queue, results, workers
from farm.store.db import open_store
from tests.farm.rounds import Lab, dispatcher, worker
from tests.farm.store.moves import after, ended, good_board, queued, state
from tests.farm.store.nouns import NOW


@pytest.fixture
def lab(database_url: str, tmp_path: Path) -> Iterator[Lab]:
    store = open_store(database_url, tmp_path / "blobs", upgrade=False)
    yield Lab(store)
    store.close()


@pytest.fixture
def job(lab: Lab) -> Job:
    """A Job that the good Board of the lab can serve."""
    good_board(lab.store)
    return queued(lab.store)


# --- nobody there, nothing to do


def test_a_round_of_an_empty_farm_does_nothing(lab: Lab) -> None:
    assert lab.round(beat=None) == Report()


def test_without_a_live_worker_nothing_is_granted(lab: Lab, job: Job) -> None:
    assert lab.round(beat=None).granted == []
    workers_id = worker(lab.store, now=lab.now)
    workers.forget(lab.store, workers_id)
    assert lab.round(beat=None).granted == []
    assert [run.job_id for run in lab.round().granted] == [job.id]


def test_a_worker_that_is_silent_for_twenty_seconds_gets_nothing_new(lab: Lab, job: Job) -> None:
    boards.set_state(lab.store, "orin-3", BoardState.MAINTENANCE, note="", by="ann", now=NOW)
    lab.round()
    lab.round(20.0, beat=None)
    good_board(lab.store, "orin-4")
    other = queued(lab.store, selector=Selector(name="orin-4"))
    assert lab.round(beat=None).granted == []
    assert [run.job_id for run in lab.round().granted] == [other.id]


def test_a_worker_of_long_ago_is_not_waited_for_and_forgotten_in_the_end(lab: Lab, job: Job) -> None:
    worker(lab.store, now=after(-700))
    assert lab.round(beat=None).granted == []
    lab.round(599.0, beat=None)
    assert len(workers.list_workers(lab.store)) == 1
    lab.round(2.0, beat=None)
    assert workers.list_workers(lab.store) == []


def test_a_worker_whose_clock_is_a_day_off_works_once_it_was_seen_to_beat(lab: Lab, job: Job) -> None:
    for n in range(2):
        worker(lab.store, now=after(n - 86_400))
        lab.round(1.0, beat=None)
    assert len(lab.post.runs) == 1


def test_a_draining_worker_gets_nothing_new(lab: Lab, job: Job) -> None:
    workers.drain(lab.store, worker(lab.store), by="ann", now=NOW)
    assert lab.round().granted == []


def test_a_site_without_worker_waits_while_the_others_go_on(lab: Lab) -> None:
    found = {}
    for site in ("roof", "lab", "cellar"):
        good_board(lab.store, f"pi-{site}", site=site)
        found[site] = queued(lab.store, selector=Selector(name=f"pi-{site}"))
    assert [run.board for run in lab.round().granted] == ["pi-lab"]
    assert state(lab.store, found["roof"].id)[0] == state(lab.store, found["cellar"].id)[0] == "queued"
    assert [run.board for run in lab.round(beat="roof").granted] == ["pi-roof"]


def test_no_more_is_granted_than_there_are_slots(lab: Lab) -> None:
    for n in range(4):
        good_board(lab.store, f"pi-{n}")
        queued(lab.store, selector=Selector())
    worker(lab.store, slots=3)
    assert len(lab.round(beat=None).granted) == 3
    assert lab.round(beat=None).granted == []


# --- leases


def test_a_lease_is_expired_only_after_our_own_clock_saw_no_renewal_for_its_time(lab: Lab, job: Job) -> None:
    lab.round()
    run = lab.begin()
    for _ in range(3):
        assert lab.round(29.0).expired == []
        (lease,) = leases.unreleased(lab.store)
        leases.renew(lab.store, lease, now=lab.now)
    lab.round(1.0)  # sees the last renewal
    assert lab.round(30.0).expired == []
    assert [lease.token for lease in lab.round(1.0).expired] == [run.token]


def test_a_dispatcher_that_was_just_started_waits_before_it_expires_anything(lab: Lab, job: Job) -> None:
    lab.round()
    lab.begin()
    lab.clock.go_on(10_000)
    late = dispatcher(lab.store, lab.post, lab.clock)
    assert late.once(after(10_000)).expired == []
    lab.clock.go_on(30.5)
    assert len(late.once(after(10_030)).expired) == 1


@pytest.mark.parametrize("step_s", [86_400.0, -86_400.0])
def test_a_wall_clock_that_jumps_ends_no_lease_and_grants_none_twice(lab: Lab, job: Job, step_s: float) -> None:
    good_board(lab.store, "orin-4")
    lab.round()
    run = lab.begin()
    lab.wall_s += step_s
    other = queued(lab.store, selector=Selector(name="orin-4"), submitted_at=lab.now)
    (lease,) = leases.unreleased(lab.store)
    leases.renew(lab.store, lease, now=lab.now)
    report = lab.round(10.0)
    assert (report.expired, report.timed_out) == ([], [])
    assert [granted.job_id for granted in report.granted] == [other.id]
    assert lab.round(19.0).granted == lab.dispatcher.once(lab.now).granted == []
    ended(lab.store, run, now=lab.now)
    assert queue.finish(lab.store, results.get_run(lab.store, run.id), verdict=None, reasons=(), now=lab.now)
