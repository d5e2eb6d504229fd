"""From a Run to the end of its Job, or back into the queue: each move is made once, by whoever is first."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from farm.domain import Health, Outcome, Reason, Run, TimeLimits, Verdict, new_id
from farm.errors import BoardBusy, Conflict, FarmBug, LeaseLost, NotFound
from farm.store import audit, boards, jobs, leases, notices, queue, results
from farm.store.db import Store
from farm.store.tables import RunRow
from tests.farm.store.moves import after, at_once, begun, ended, good_board, granted, kinds, lease_of, queued, state
from tests.farm.store.nouns import NOW

NOISY = (Reason("throttled", "CPU at 1510 MHz."),)


def requeue(store: Store, run: Run, **changes: object) -> bool:
    told = {"not_before": after(60), "avoid": (), "why": NOISY, "now": after(10), **changes}
    return queue.requeue(store, run, **told)  # type: ignore[arg-type]


def test_a_run_without_outcome_finishes_no_job(store: Store) -> None:
    good_board(store)
    with pytest.raises(FarmBug, match="has no outcome"):
        queue.finish(store, begun(store, queued(store)), verdict=None, reasons=(), now=NOW)


def test_a_job_is_put_back_once_and_finished_once(store: Store) -> None:
    good_board(store)
    job = queued(store)
    first = ended(store, begun(store, job), Outcome.NOISY)
    assert [requeue(store, first), requeue(store, first)] == [True, False]
    again = jobs.get_job(store, job.id)
    assert (again.state, again.queued_at, again.not_before) == ("queued", after(10), after(60))
    second = ended(store, begun(store, job, now=after(60)), now=after(70))
    done = {"verdict": Verdict.PASS, "reasons": (), "now": after(71)}
    assert [queue.finish(store, second, **done) for _ in range(2)] == [True, False]  # type: ignore[arg-type]
    assert kinds(store, job.id)[-1] == "done"
    assert len(notices.due(store, after(80))) == 1


def test_an_older_run_moves_nothing_while_the_newer_one_is_under_way(store: Store) -> None:
    good_board(store)
    job = queued(store)
    first = ended(store, begun(store, job), Outcome.NOISY)
    assert requeue(store, first)
    begun(store, job, now=after(60))
    assert not requeue(store, first)
    assert not queue.finish(store, first, verdict=None, reasons=(), now=after(61))
    assert state(store, job.id) == ("running", None)
    assert queue.unsettled(store) == []


def test_runs_of_a_job_stay_in_their_order_when_the_clock_was_stepped_back(store: Store) -> None:
    good_board(store)
    job = queued(store)
    first = begun(store, job)
    with store.write() as session:  # it was made by a clock that was a day ahead
        row = session.get_one(RunRow, first.id)
        row.id = ahead = f"{int(first.id[:8], 16) + 0x14_99:08x}{first.id[8:]}"
    first = ended(store, replace(first, id=ahead), Outcome.NOISY)
    assert requeue(store, first)
    second = begun(store, job)
    assert [run.id for run in results.runs_of(store, job.id)] == [first.id, second.id]
    assert queue.unsettled(store) == []
    over = ended(store, second)
    assert queue.finish(store, over, verdict=Verdict.PASS, reasons=(), now=after(10))


def test_settling_in_many_threads_moves_a_job_once(store: Store) -> None:
    good_board(store)
    run = ended(store, begun(store, queued(store)), Outcome.BROKEN)
    moves = [lambda: requeue(store, run), lambda: queue.finish(store, run, verdict=None, reasons=(), now=NOW)]
    assert sorted(at_once(*moves, *moves)) == [False, False, False, True]  # type: ignore[type-var]
    assert boards.status(store, "orin-3").failures == 1


def test_a_job_remembers_on_which_boards_it_broke(store: Store) -> None:
    good_board(store), good_board(store, "pi-1")
    job = queued(store)
    for board in ("orin-3", "pi-1", "orin-3"):
        run = ended(store, begun(store, job, board), Outcome.BROKEN)
        assert requeue(store, run, avoid=(board,))
        boards.set_health(store, board, Health.GOOD, note="", by="ann", now=NOW)
    assert jobs.get_job(store, job.id).avoid == ("orin-3", "pi-1")


# --- cancel


def test_a_job_that_has_ended_cannot_be_cancelled_and_an_unknown_one_neither(store: Store) -> None:
    good_board(store)
    job = queued(store)
    queue.finish(store, ended(store, begun(store, job)), verdict=Verdict.PASS, reasons=(), now=NOW)
    with pytest.raises(Conflict, match="it is done already"):
        queue.cancel(store, job.id, by="ann", now=NOW)
    with pytest.raises(NotFound):
        queue.cancel(store, new_id(), by="ann", now=NOW)
    assert audit.changes(store) == []


def test_a_queued_job_is_cancelled_at_once_and_never_granted(store: Store) -> None:
    good_board(store)
    job = queued(store)
    assert queue.cancel(store, job.id, by="ann", now=after(1)).ended_at == after(1)
    assert state(store, job.id) == ("cancelled", "CANCELLED")
    assert kinds(store, job.id) == ["submitted", "cancel", "cancelled"]
    with pytest.raises(BoardBusy):
        granted(store, job)
    (change,) = audit.changes(store)
    assert (change.actor, change.action, change.subject, change.project) == ("ann", "job.cancel", job.id, "vision")


def test_a_running_job_is_asked_to_end_once(store: Store) -> None:
    good_board(store)
    run = begun(store, queued(store))
    assert queue.asked_to_end(store, [run.id, new_id()]) == set()
    for _ in range(2):
        queue.cancel(store, run.job_id, by="ann", now=NOW)
    assert queue.asked_to_end(store, [run.id]) == {run.id}
    assert queue.asked_to_end(store, []) == set()
    assert state(store, run.job_id) == ("running", None)
    assert len(audit.changes(store)) == 1


def test_a_cancel_after_the_run_was_ok_comes_too_late(store: Store) -> None:
    good_board(store)
    run = ended(store, begun(store, queued(store)))
    queue.cancel(store, run.job_id, by="ann", now=NOW)
    assert queue.finish(store, run, verdict=Verdict.PASS, reasons=(), now=NOW)
    assert state(store, run.job_id) == ("done", "OK")


def test_a_cancel_after_the_run_was_noisy_ends_the_job_instead_of_another_try(store: Store) -> None:
    good_board(store)
    run = ended(store, begun(store, queued(store)), Outcome.NOISY)
    queue.cancel(store, run.job_id, by="ann", now=NOW)
    assert requeue(store, run)
    assert state(store, run.job_id) == ("cancelled", "CANCELLED")
    assert kinds(store, run.job_id)[-1] == "cancelled"


def test_a_cancelled_run_makes_its_job_cancelled(store: Store) -> None:
    good_board(store)
    run = ended(store, begun(store, queued(store)), Outcome.CANCELLED)
    assert queue.finish(store, run, verdict=None, reasons=run.reasons, now=NOW)
    assert state(store, run.job_id) == ("cancelled", "CANCELLED")


def test_a_late_result_after_the_lease_is_over_is_refused(store: Store) -> None:
    good_board(store)
    run = begun(store, queued(store))
    assert leases.expire(store, lease_of(store), now=after(31))
    results.abandon(store, run.id, Reason("lease_expired", "Nobody renewed it.", "farm"), after(31))
    late = replace(run, outcome=Outcome.OK, ended_at=after(32))
    with pytest.raises(LeaseLost):
        results.finish_run(store, late, run.token)
    (left,) = queue.unsettled(store)
    assert (left.id, left.outcome, left.blame) == (run.id, Outcome.BROKEN, "farm")


# --- time


def test_a_job_is_given_up_when_it_waited_for_longer_than_it_may(store: Store) -> None:
    good_board(store)
    job = queued(store, limits=TimeLimits(queue_s=100.0))
    assert queue.give_up(store, after(100)) == []
    assert queue.give_up(store, after(101)) == [job.id]
    assert queue.give_up(store, after(101)) == []
    assert state(store, job.id) == ("done", "BROKEN")
    (reason,) = jobs.get_job(store, job.id).reasons
    assert reason.code == "queue_timeout"
    assert "in the queue for 100 s" in reason.text


def test_time_on_a_board_is_not_time_in_the_queue(store: Store) -> None:
    good_board(store)
    job = queued(store, limits=TimeLimits(queue_s=100.0))
    run = ended(store, begun(store, job, now=after(40)), Outcome.NOISY, now=after(5000))
    assert requeue(store, run, now=after(5000))
    assert queue.give_up(store, after(5060)) == []
    assert queue.give_up(store, after(5061)) == [job.id]


def test_a_job_is_not_given_up_while_it_is_running(store: Store) -> None:
    good_board(store)
    begun(store, queued(store, limits=TimeLimits(queue_s=10.0)))
    assert queue.give_up(store, after(90_000)) == []


def test_a_project_is_charged_for_the_time_of_its_leases_which_halves_each_day(store: Store) -> None:
    good_board(store)
    run = begun(store, queued(store))
    queued(store, project="speech")
    found = queue.usage(store, after(50))
    assert (round(found["vision"]), found["speech"]) == (50, 0.0)
    ended(store, run, now=after(100))
    assert queue.usage(store, after(100))["vision"] == 100.0
    assert queue.usage(store, after(100) + timedelta(days=1))["vision"] == pytest.approx(50.0)
    assert queue.usage(store, after(100) - timedelta(days=1))["vision"] == 100.0  # a clock that was stepped back
