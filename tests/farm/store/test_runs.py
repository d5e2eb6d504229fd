"""Runs: refused without the lease, the same when saved again, never left half-written."""

from __future__ import annotations

from dataclasses import replace

import pytest

from farm.domain import Outcome, Reason, Run, new_id
from farm.errors import BoardBusy, FarmBug, InputError, LeaseLost, NotFound
from farm.store import jobs, leases, results
from farm.store.db import Store
from tests.farm.store.nouns import BOARD, LATER, NOW, a_block, a_job, a_lease, a_started_run, finished

GONE = Reason("coordinator_gone", "Coordinator ann@bench ended while it measured.")


def test_an_unknown_run_is_not_found(store: Store) -> None:
    unknown = Run(id="0" * 36, job_id="1" * 36, board="orin-3", token=1, started_at=NOW)
    with pytest.raises(NotFound, match="Run '000' is not known"):
        results.get_run(store, "000")
    with pytest.raises(NotFound, match="is not known"):
        results.save_block(store, unknown.id, 1, a_block())
    with pytest.raises(NotFound, match="is not known"):
        results.finish_run(store, finished(unknown), 1)
    with pytest.raises(NotFound, match="is not known"):
        results.abandon(store, unknown.id, GONE, NOW)
    with pytest.raises(NotFound, match="is not known"):
        results.save_summaries(store, unknown.id, [])


def test_a_run_cannot_start_on_a_lease_that_is_over(store: Store) -> None:
    lease = a_lease(store)
    job = a_job()
    jobs.save_job(store, job)
    leases.release(store, lease, now=LATER)
    run = Run(id=new_id(), job_id=job.id, board="orin-3", token=lease.token, started_at=NOW)
    with pytest.raises(LeaseLost, match="Lease 1 on board 'orin-3' is over"):
        results.start_run(store, run)
    assert results.list_runs(store) == []


@pytest.mark.parametrize("how", ["released", "expired"])
def test_a_stale_token_cannot_save_a_run(store: Store, how: str) -> None:
    lease = a_lease(store)
    run = a_started_run(store, lease)
    if how == "released":
        leases.release(store, lease, now=LATER)
    else:
        assert leases.expire(store, lease, now=LATER)
    with pytest.raises(LeaseLost):
        results.save_block(store, run.id, lease.token, a_block())
    with pytest.raises(LeaseLost):
        results.finish_run(store, finished(run), lease.token)
    assert results.blocks_of(store, run.id) == []
    assert results.get_run(store, run.id) == run


def test_the_token_of_another_lease_cannot_save_a_run(store: Store) -> None:
    first = a_lease(store)
    run = a_started_run(store, first)
    leases.release(store, first, now=LATER)
    second = leases.grant(store, "orin-3", holder="bob", ttl_s=30.0, now=LATER)
    with pytest.raises(LeaseLost, match="Lease 2"):
        results.save_block(store, run.id, second.token, a_block())
    with pytest.raises(LeaseLost, match="Lease 2"):
        results.finish_run(store, finished(run), second.token)


def test_one_id_cannot_be_two_runs(store: Store) -> None:
    run = a_started_run(store)
    other = a_job()
    jobs.save_job(store, other)
    with pytest.raises(FarmBug, match="is another one already"):
        results.start_run(store, replace(run, job_id=other.id))


def test_a_run_without_an_outcome_is_not_finished(store: Store) -> None:
    run = a_started_run(store)
    with pytest.raises(FarmBug, match="has no outcome"):
        results.finish_run(store, run, run.token)


@pytest.mark.parametrize(
    "changes",
    [{"outcome": Outcome.BROKEN}, {"blame": "farm"}, {"ended_at": None}, {"outcome": Outcome.BROKEN, "blame": "me"}],
)
def test_an_outcome_that_contradicts_itself_is_refused(store: Store, changes: dict[str, object]) -> None:
    run = a_started_run(store)
    with pytest.raises(FarmBug, match="refused a statement"):
        results.finish_run(store, replace(finished(run), **changes), run.token)  # type: ignore[arg-type]
    assert results.get_run(store, run.id) == run


def test_a_finished_run_cannot_end_otherwise(store: Store) -> None:
    run = a_started_run(store)
    results.finish_run(store, finished(run), run.token)
    with pytest.raises(FarmBug, match="ended as OK already, not NOISY"):
        results.finish_run(store, finished(run, outcome=Outcome.NOISY), run.token)
    with pytest.raises(FarmBug, match="the run is over"):
        results.save_block(store, run.id, run.token, a_block())


def test_a_run_comes_back_as_it_was_saved(store: Store) -> None:
    run = a_started_run(store)
    assert results.get_run(store, run.id) == run
    ended = finished(run, outcome=Outcome.BROKEN, blame="board", reasons=(Reason("died", "It died \x00."),))
    results.finish_run(store, ended, run.token)
    assert results.get_run(store, run.id) == ended


def test_every_save_of_a_run_may_be_repeated_even_after_the_lease(store: Store) -> None:
    lease = a_lease(store)
    run = a_started_run(store, lease)
    results.start_run(store, run)
    results.save_block(store, run.id, run.token, a_block())
    results.finish_run(store, finished(run), run.token)
    leases.release(store, lease, now=LATER)
    results.save_block(store, run.id, run.token, a_block())
    results.finish_run(store, finished(run), run.token)
    assert results.list_runs(store) == [finished(run)]
    assert len(results.blocks_of(store, run.id)) == 1


def test_a_run_whose_lease_is_held_cannot_be_abandoned(store: Store) -> None:
    run = a_started_run(store)
    assert results.unfinished_runs(store) == []
    with pytest.raises(BoardBusy, match="ann@bench still holds board 'orin-3'"):
        results.abandon(store, run.id, GONE, LATER)


def test_a_half_written_run_is_found_and_ends_as_broken_by_the_farm(store: Store) -> None:
    lease = a_lease(store)
    done, run = a_started_run(store, lease), a_started_run(store, lease)
    results.finish_run(store, finished(done), done.token)
    leases.release(store, lease, now=LATER)
    assert results.unfinished_runs(store) == [run]
    results.abandon(store, run.id, GONE, LATER)
    results.abandon(store, run.id, GONE, LATER)
    results.abandon(store, done.id, GONE, LATER)
    assert results.unfinished_runs(store) == []
    abandoned = replace(run, outcome=Outcome.BROKEN, blame="farm", ended_at=LATER, reasons=(GONE,))
    assert results.get_run(store, run.id) == abandoned
    assert results.get_run(store, done.id) == finished(done)


def test_a_run_is_found_by_how_its_id_begins(store: Store) -> None:
    lease = a_lease(store)
    first, second = a_started_run(store, lease), a_started_run(store, lease)
    assert results.get_run(store, second.id[:30]) == second
    with pytest.raises(InputError, match=f"is ambiguous: {first.id}, {second.id} begin so"):
        results.get_run(store, first.id[:3])


def test_runs_are_listed_newest_first_and_by_model_board_and_page(store: Store) -> None:
    lease = a_lease(store)
    runs = [a_started_run(store, lease, model=model) for model in ("m1", "m2", "m1")]
    elsewhere = a_started_run(store, a_lease(store, replace(BOARD, name="pi-1")))
    assert results.list_runs(store) == [elsewhere, *reversed(runs)]
    assert results.list_runs(store, model="m1") == [runs[2], runs[0]]
    assert results.list_runs(store, board="pi-1") == [elsewhere]
    assert results.list_runs(store, limit=2) == [elsewhere, runs[2]]
    assert results.list_runs(store, limit=2, before=runs[2].id) == [runs[1], runs[0]]
    assert results.list_runs(store, model="nothing") == []
