"""Who is next: the first of each group of Jobs that ask alike, whatever the clock does."""

from __future__ import annotations

from dataclasses import replace

from farm_agent import wire

from farm.domain import Health, Outcome, Selector
from farm.store import boards, queue
from farm.store.db import Store
from tests.farm.store.moves import after, begun, ended, good_board, queued
from tests.farm.store.nouns import NOW, a_job

JETSON = Selector(family="jetson")
PI = Selector(family="raspberrypi")


def waiting(store: Store, *, at: float = 1000.0, of_each: int = 1) -> list[str]:
    return sorted(demand.job_id for demand in queue.waiting(store, after(at), of_each=of_each))


def test_nothing_waits_in_an_empty_queue(store: Store) -> None:
    assert queue.waiting(store, NOW, of_each=10) == []


def test_of_those_that_ask_alike_the_first_of_each_project_are_looked_at(store: Store) -> None:
    first = {}
    for project in ("vision", "speech"):
        for selector in (JETSON, PI):
            found = [queued(store, project=project, selector=selector, submitted_at=after(n)).id for n in (3, 1, 2)]
            first[project, selector.family] = found
    assert waiting(store) == sorted(found[1] for found in first.values())
    assert waiting(store, of_each=2) == sorted(job_id for found in first.values() for job_id in found[1:])
    assert len(waiting(store, of_each=99)) == 12


def test_another_runtime_asks_for_other_boards(store: Store) -> None:
    one, other = a_job(), a_job()
    arm = replace(other.arms[0], plan=wire.Plan(runtime="litert"))
    found = [queued(store, **{"id": job.id, "arms": arms}).id for job, arms in ((one, one.arms), (other, (arm,)))]
    assert waiting(store) == sorted(found)


def test_a_higher_priority_goes_first_then_who_waits_longest(store: Store) -> None:
    old, _, high = (queued(store, submitted_at=after(n), priority=p) for n, p in ((0, 0), (1, 0), (2, 10)))
    assert waiting(store) == [high.id]
    assert waiting(store, of_each=2) == sorted([high.id, old.id])


def test_what_a_demand_says_is_what_its_job_says(store: Store) -> None:
    job = queued(store, selector=JETSON, affinity="orin-3", priority=10)
    (demand,) = queue.waiting(store, NOW, of_each=1)
    assert (demand.job_id, demand.project, demand.selector, demand.priority) == (job.id, "vision", JETSON, 10)
    assert (set(demand.runtimes), demand.affinity, set(demand.avoid)) == ({"fake"}, "orin-3", set())
    assert demand.patient_until == after(600)


def test_a_cooling_job_is_not_due_and_lets_those_behind_it_pass(store: Store) -> None:
    good_board(store)
    job = queued(store)
    run = ended(store, begun(store, job), Outcome.NOISY, now=after(10))
    assert queue.requeue(store, run, not_before=after(3610), avoid=(), why=(), now=after(10))
    behind = queued(store, submitted_at=after(5))
    assert waiting(store, at=3609) == [behind.id]
    assert waiting(store, at=3610) == [job.id]  # in its old place


def test_a_clock_that_was_stepped_back_does_not_keep_a_job_waiting(store: Store) -> None:
    good_board(store)
    run = ended(store, begun(store, queued(store)), Outcome.NOISY, now=after(10))
    assert queue.requeue(store, run, not_before=after(70), avoid=(), why=(), now=after(10))
    assert waiting(store, at=-30) == []  # two coordinators' clocks may lie so far apart
    assert waiting(store, at=-86_400) == [run.job_id]


def test_a_job_that_avoids_a_board_is_a_group_of_its_own(store: Store) -> None:
    good_board(store)
    broken = queued(store, selector=JETSON)
    run = ended(store, begun(store, broken), Outcome.BROKEN)
    assert queue.requeue(store, run, not_before=NOW, avoid=("orin-3",), why=(), now=NOW)
    boards.set_health(store, "orin-3", Health.GOOD, note="", by="ann", now=NOW)
    fresh = queued(store, selector=JETSON, submitted_at=after(1))
    assert waiting(store) == sorted([broken.id, fresh.id])
