"""A dispatcher's rounds: what is taken back, tried again, ended, checked, and what a broker that is down changes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from farm.dispatch import Dispatcher, Report, Rounds
from farm.domain import BoardState, Health, Job, Outcome
from farm.errors import StoreError
from farm.store import boards, events, jobs, leases, queue, results
from farm.store.db import Store, open_store
from tests.farm.rounds import Clock, Lab, Post
from tests.farm.store.moves import after, ended, good_board, kinds, queued, state
from tests.farm.store.nouns import BOARD, NOW

FACTS = {"runtimes": {"fake": {"present": True}}}


@pytest.fixture
def lab(database_url: str, tmp_path: Path) -> Iterator[Lab]:
    store = open_store(database_url, tmp_path / "blobs", upgrade=False)
    yield Lab(store)
    store.close()


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(f"sqlite:///{tmp_path}/farm.db", tmp_path / "blobs", upgrade=True)
    yield opened
    opened.close()


@pytest.fixture
def job(lab: Lab) -> Job:
    """A Job that the good Board of the lab can serve."""
    good_board(lab.store)
    return queued(lab.store)


# --- Runs that nobody takes up, or that end badly


def test_a_run_that_nobody_took_up_is_taken_back_and_does_not_count_as_a_try(lab: Lab, job: Job) -> None:
    behind = queued(lab.store, submitted_at=after(1))
    lab.round()
    for n in range(1, 6):
        assert lab.round(1.0).expired == []  # sees the lease for the first time
        report = lab.round(30.5)
        assert [lease.token for lease in report.expired] == [n]
        assert [run.job_id for run in report.granted] == [job.id]  # it has kept its place
    assert state(lab.store, behind.id)[0] == "queued"
    assert [run.token for run in results.runs_of(lab.store, job.id)] == [6]
    assert boards.status(lab.store, "orin-3").health is Health.GOOD
    again = jobs.get_job(lab.store, job.id)
    assert (again.queued_at, again.avoid) == (job.queued_at, ())


def test_a_message_that_comes_after_its_run_was_taken_back_begins_nothing(lab: Lab, job: Job) -> None:
    lab.round(), lab.round(1.0), lab.round(30.5)
    first, second = lab.post.runs
    assert not queue.begin(lab.store, first[0], first[1], worker="w1", now=lab.now)
    assert queue.begin(lab.store, second[0], second[1], worker="w1", now=lab.now)


def test_a_run_whose_worker_died_is_broken_by_the_farm_and_tried_at_most_three_times_more(lab: Lab, job: Job) -> None:
    for _ in range(4):
        while not lab.round(5.0).granted:
            assert lab.wall_s < 200
        lab.begin()
        lab.round(1.0)
        assert len(lab.round(30.5).expired) == 1
    runs = results.runs_of(lab.store, job.id)
    assert [(run.outcome, run.blame) for run in runs] == [(Outcome.BROKEN, "farm")] * 4
    over = jobs.get_job(lab.store, job.id)
    assert (over.state, over.outcome, over.verdict, over.avoid) == ("done", "BROKEN", None, ())
    assert [reason.code for reason in over.reasons] == ["lease_expired"]
    assert boards.status(lab.store, "orin-3").health is Health.GOOD
    assert lab.round(1000.0).granted == []


def test_a_job_that_broke_a_board_goes_elsewhere(lab: Lab, job: Job) -> None:
    good_board(lab.store, "orin-4")
    job = queued(lab.store, selector=replace(job.selector, name=None))
    queue.cancel(lab.store, jobs.list_jobs(lab.store)[-1].id, by="ann", now=NOW)
    tried = []
    for _ in range(2):
        while not lab.round(5.0).granted:
            assert lab.wall_s < 100
        tried.append(lab.ran(Outcome.BROKEN).board)
    assert sorted(tried) == ["orin-3", "orin-4"]
    assert jobs.get_job(lab.store, job.id).avoid == ("orin-3", "orin-4")


def test_a_noisy_job_cools_down_and_is_tried_at_most_twice_more(lab: Lab, job: Job) -> None:
    lab.round()
    for _ in range(2):
        lab.ran(Outcome.NOISY)
        assert lab.round(59.0).granted == []
        assert [run.job_id for run in lab.round(1.0).granted] == [job.id]
    lab.ran(Outcome.NOISY)
    over = jobs.get_job(lab.store, job.id)
    assert (over.state, over.outcome, over.verdict) == ("done", "NOISY", "UNDECIDED")
    assert lab.round(1000.0).granted == []


def test_a_job_that_waited_for_too_long_is_ended(lab: Lab, job: Job) -> None:
    boards.set_state(lab.store, "orin-3", BoardState.MAINTENANCE, note="", by="ann", now=NOW)
    assert lab.round(86_400.0).timed_out == []
    assert lab.round(5.0).timed_out == [job.id]


# --- Runs that ended without anybody to settle them


def test_a_run_that_was_ok_is_judged_by_another_worker_where_its_own_does_not(lab: Lab, job: Job) -> None:
    lab.round()
    run = ended(lab.store, lab.begin())
    lab.round(1.0)
    assert (lab.round(9.0).granted, lab.post.judged) == ([], [])
    lab.round(1.0)
    assert lab.post.judged == [(run.id, "lab")]
    lab.round(9.0), lab.round(1.0)
    assert len(lab.post.judged) == 1  # nobody is asked each round
    lab.round(9.0)
    assert len(lab.post.judged) == 2
    assert state(lab.store, job.id)[0] == "running"


def test_a_worker_of_another_site_judges_where_the_own_site_is_dead(lab: Lab, job: Job) -> None:
    lab.round()
    run = ended(lab.store, lab.begin())
    lab.round(25.0, beat=None)
    lab.round(25.0, beat=None)
    assert lab.post.judged == []
    lab.round(1.0, beat="roof")
    assert lab.post.judged == [(run.id, "roof")]


@pytest.mark.parametrize(("outcome", "then"), [(Outcome.BROKEN, "queued"), (Outcome.CANCELLED, "cancelled")])
def test_what_needs_no_judge_is_settled_by_the_dispatcher(lab: Lab, job: Job, outcome: Outcome, then: str) -> None:
    lab.round()
    ended(lab.store, lab.begin(), outcome)
    lab.round(1.0)
    assert state(lab.store, job.id)[0] == "running"
    lab.round(10.0)
    assert state(lab.store, job.id)[0] == then


# --- a broker that is down


def test_where_the_broker_is_down_nothing_stays_leased_and_nobody_is_blamed(lab: Lab, job: Job) -> None:
    lab.post.is_down = True
    for _ in range(10):
        assert lab.round(1.0).granted == []
        assert leases.unreleased(lab.store) == []
    assert state(lab.store, job.id)[0] == "queued"
    assert kinds(lab.store, job.id).count("granted") == 2  # it is tried again after a pause
    lab.post.is_down = False
    assert [run.job_id for run in lab.round(5.0).granted] == [job.id]
    assert events.of_job(lab.store, job.id)[-1].data["waited_s"] == 15.0


def test_where_the_broker_is_down_no_check_stays_leased(lab: Lab) -> None:
    boards.save_board(lab.store, BOARD, NOW)
    lab.post.is_down = True
    assert lab.round().checks == []
    assert leases.unreleased(lab.store) == []
    lab.post.is_down = False
    assert lab.round(5.0).checks == ["orin-3"]


# --- Boards


def test_a_board_of_unknown_health_is_checked_before_it_is_given_out(lab: Lab) -> None:
    boards.save_board(lab.store, BOARD, NOW)
    queued(lab.store)
    report = lab.round()
    assert (report.checks, report.granted) == (["orin-3"], [])
    assert lab.post.checks == [("orin-3", 1, "lab")]
    assert lab.round(1.0).checks == []
    (lease,) = leases.unreleased(lab.store)
    boards.checked(lab.store, "orin-3", 1, facts=FACTS, note="", next_check_at=None, now=lab.now)
    leases.release(lab.store, lease, now=lab.now)
    assert [run.board for run in lab.round().granted] == ["orin-3"]


def test_a_check_that_nobody_carries_out_is_tried_again_later(lab: Lab) -> None:
    boards.save_board(lab.store, BOARD, NOW)
    lab.round(), lab.round(1.0)
    assert len(lab.round(30.5).expired) == 1
    assert lab.round(29.0).checks == []
    assert lab.round(1.0).checks == ["orin-3"]


def test_a_check_that_a_clock_put_off_for_a_day_is_due(lab: Lab) -> None:
    boards.save_board(lab.store, BOARD, NOW)
    boards.check_later(lab.store, "orin-3", after(300))
    assert lab.round().checks == []
    lab.wall_s = -86_400.0
    assert lab.round().checks == ["orin-3"]


def test_checks_of_a_dead_lab_leave_most_slots_to_jobs(lab: Lab, job: Job) -> None:
    for n in range(20):
        boards.save_board(lab.store, replace(BOARD, name=f"dead-{n}"), NOW)
    report = lab.round()
    assert (len(report.checks), len(report.granted)) == (4, 1)
    assert lab.round(1.0).checks == []


@pytest.mark.parametrize("wanted", [BoardState.MAINTENANCE, BoardState.RETIRED, BoardState.DRAINING])
def test_a_board_that_is_not_wanted_is_neither_checked_nor_given_out(lab: Lab, job: Job, wanted: BoardState) -> None:
    boards.set_state(lab.store, "orin-3", wanted, note="", by="ann", now=NOW)
    boards.set_health(lab.store, "orin-3", Health.UNKNOWN, note="", by="ann", now=NOW)
    assert lab.round() == lab.round(60.0) == Report()


def test_a_draining_board_finishes_what_it_has_and_is_then_in_maintenance(lab: Lab, job: Job) -> None:
    lab.round()
    run = lab.begin()
    boards.set_state(lab.store, "orin-3", BoardState.DRAINING, note="", by="ann", now=NOW)
    lab.round(1.0)
    assert boards.status(lab.store, "orin-3").state is BoardState.DRAINING
    ended(lab.store, run)
    lab.round(1.0)
    assert boards.status(lab.store, "orin-3").state is BoardState.MAINTENANCE


def test_boards_of_one_host_measure_one_at_a_time(lab: Lab) -> None:
    for n in range(3):
        good_board(lab.store, f"virtual-{n}", is_virtual=True, facts={})
        queued(lab.store, selector=replace(queued(lab.store).selector, name=None, virtual=True))
    (first,) = lab.round().granted
    assert lab.round(1.0).granted == []
    lab.ran(Outcome.OK)
    (second,) = lab.round(1.0).granted
    assert second.id != first.id


# --- rounds


class Shaky(Dispatcher):
    """Its first round meets a database that is gone, its second one a bug."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, Post(), ttl_s=30.0, cool_down_s=0.0, rng=None, clock=Clock())  # type: ignore[arg-type]
        self.rounds = 0
        self.third = threading.Event()

    def once(self, now: datetime) -> Report:
        self.rounds += 1
        if self.rounds == 1:
            raise StoreError("Database gone.")
        if self.rounds == 2:
            raise KeyError("oops")
        self.third.set()
        return Report()


def test_rounds_go_on_after_a_database_error_and_after_a_bug(
    sqlite_store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    dispatcher = Shaky(sqlite_store)
    rounds = Rounds(dispatcher, every_s=0.01, now=lambda: NOW)
    with caplog.at_level(logging.WARNING):
        rounds.start()
        assert dispatcher.third.wait(10)
        rounds.stop()
        rounds.join(10)
    assert not rounds.is_alive()
    assert "a dispatcher's round failed: Database gone." in caplog.messages
    assert "a dispatcher's round failed; please report this" in caplog.messages


def test_a_kick_has_a_round_at_once(sqlite_store: Store) -> None:
    dispatcher = Shaky(sqlite_store)
    rounds = Rounds(dispatcher, every_s=600.0, now=lambda: NOW)
    rounds.start()
    while not dispatcher.third.wait(0.01):
        rounds.kick()
    rounds.stop()
    rounds.join(10)
    assert not rounds.is_alive()
