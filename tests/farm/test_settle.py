"""What comes after a Run: each Outcome's next step, and that it is taken once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from farm import settle
from farm.domain import Job, Outcome, Reason, Run, Verdict, new_id
from farm.store import boards, jobs, leases, queue, results
from farm.store.db import Store, open_store
from farm.validity import Again, Done, next_step
from tests.farm.store.moves import after, begun, ended, good_board, granted, lease_of, queued, state
from tests.farm.store.nouns import NOW

OK, NOISY, FAILED, BROKEN, CANCELLED = Outcome


def a_run(word: str) -> Run:
    """OK, or BROKEN:board, or FAILED::input (outcome, blame of the Run, blame of its reason)."""
    outcome, blame, whose = [*word.split(":"), "", ""][:3]
    reasons = (Reason(whose if whose == "farm_bug" else "x", "x", whose or None),) if whose else ()
    return Run(new_id(), "j", "orin-3", 1, NOW, NOW, Outcome(outcome), blame or None, reasons=reasons)


@pytest.mark.parametrize(
    ("runs", "step"),
    [
        ("OK", Done(Verdict.PASS)),
        ("FAILED", Done(Verdict.FAIL)),
        ("FAILED::artifact", Done(Verdict.FAIL)),
        ("FAILED::input", Done(None)),
        ("CANCELLED", Done(None)),
        ("NOISY", Again(60.0)),
        ("NOISY NOISY", Again(60.0)),
        ("NOISY NOISY NOISY", Done(Verdict.UNDECIDED)),
        ("NOISY NOISY OK", Done(Verdict.PASS)),
        ("BROKEN:farm", Again(0.0)),
        ("BROKEN:board", Again(0.0, ("orin-3",))),
        ("BROKEN:farm BROKEN:farm", Again(5.0)),
        ("BROKEN:farm BROKEN:board BROKEN:farm", Again(30.0)),
        ("BROKEN:farm BROKEN:farm BROKEN:farm BROKEN:farm", Done(None)),
        ("BROKEN:farm:farm_bug", Done(None)),
        ("NOISY BROKEN:farm NOISY BROKEN:farm BROKEN:farm", Again(30.0)),
        ("NOISY BROKEN:farm NOISY BROKEN:farm NOISY", Done(Verdict.UNDECIDED)),
        ("BROKEN:farm NOISY BROKEN:farm BROKEN:farm OK", Done(Verdict.PASS)),
    ],
)
def test_the_next_step_after_these_runs(runs: str, step: Again | Done) -> None:
    assert next_step([a_run(word) for word in runs.split()], cool_down_s=60.0) == step


@pytest.fixture
def store(database_url: str, tmp_path: Path) -> Iterator[Store]:
    opened = open_store(database_url, tmp_path / "blobs", upgrade=False)
    good_board(opened)
    yield opened
    opened.close()


@pytest.fixture
def job(store: Store) -> Job:
    return queued(store)


def settled(store: Store, job: Job) -> tuple[str, str | None]:
    """The Job after it was settled, twice."""
    for _ in range(2):
        settle.settle(job.id, store=store, cool_down_s=60.0, now=after(10))
    return state(store, job.id)


def test_a_job_whose_run_is_under_way_stays_as_it_is(store: Store, job: Job) -> None:
    begun(store, job)
    assert settled(store, job) == ("running", None)


def test_a_job_whose_run_was_taken_back_stays_as_it_is(store: Store, job: Job) -> None:
    granted(store, job)
    assert queue.withdraw(store, lease_of(store), why="late", now=NOW)
    assert settled(store, job) == ("queued", None)


def test_a_doubled_word_of_an_older_run_does_not_end_the_newer_one(store: Store, job: Job) -> None:
    ended(store, begun(store, job), NOISY)
    assert settled(store, job) == ("queued", None)
    begun(store, job, now=after(70))
    assert settled(store, job) == ("running", None)
    assert jobs.get_job(store, job.id).outcome is None


@pytest.mark.parametrize(
    ("outcome", "then", "verdict"),
    [(OK, "done", "PASS"), (FAILED, "done", "FAIL"), (CANCELLED, "cancelled", None)],
)
def test_a_job_ends_with_its_run(store: Store, job: Job, outcome: Outcome, then: str, verdict: str | None) -> None:
    run = ended(store, begun(store, job), outcome)
    assert settled(store, job) == (then, outcome)
    over = jobs.get_job(store, job.id)
    assert (over.verdict, over.reasons, over.ended_at) == (verdict, run.reasons, after(10))


def test_a_noisy_job_waits_for_its_cool_down(store: Store, job: Job) -> None:
    ended(store, begun(store, job), NOISY)
    assert settled(store, job) == ("queued", None)
    again = jobs.get_job(store, job.id)
    assert (again.not_before, again.queued_at, again.avoid) == (after(70), after(10), ())


def test_a_job_that_broke_its_board_avoids_it(store: Store, job: Job) -> None:
    ended(store, begun(store, job), BROKEN)
    assert settled(store, job) == ("queued", None)
    again = jobs.get_job(store, job.id)
    assert (again.not_before, again.avoid) == (after(10), ("orin-3",))
    assert boards.status(store, "orin-3").failures == 1


@pytest.mark.parametrize("outcome", [NOISY, BROKEN])
def test_who_measures_by_hand_tries_again_by_hand(store: Store, job: Job, outcome: Outcome) -> None:
    run = ended(store, begun(store, job), outcome)
    settle.end(run, store=store, now=after(10))
    assert state(store, job.id) == ("done", outcome)
    assert jobs.get_job(store, job.id).verdict is None


def test_a_run_ended_by_whoever_expired_its_lease_is_settled_as_any_other(store: Store, job: Job) -> None:
    run = begun(store, job)
    assert leases.expire(store, lease_of(store), now=after(31))
    results.abandon(store, run.id, Reason("lease_expired", "No word.", "farm"), after(31))
    assert settled(store, job) == ("queued", None)
    assert jobs.get_job(store, job.id).avoid == ()
