"""Who is there to carry out Runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from farm.domain import Worker
from farm.errors import NotFound
from farm.store import audit, workers
from farm.store.db import Store
from tests.farm.store.moves import after, at_once
from tests.farm.store.nouns import NOW

WORKER = Worker("pc:1:aa", "lab", 16, NOW)


def test_an_unknown_worker_cannot_be_drained_and_is_forgotten_without_a_word(store: Store) -> None:
    with pytest.raises(NotFound, match="Worker 'pc:1:aa' is not known to this farm"):
        workers.drain(store, "pc:1:aa", by="ann", now=NOW)
    workers.forget(store, "pc:1:aa")
    assert audit.changes(store) == []


def test_beats_rise_and_the_first_start_stays(store: Store) -> None:
    assert not workers.beat(store, WORKER, NOW)
    assert not workers.beat(store, WORKER, after(5))
    assert workers.list_workers(store) == [replace(WORKER, beats=2, seen_at=after(5))]


def test_a_worker_hears_with_its_next_beat_that_it_shall_drain_and_stays_so(store: Store) -> None:
    workers.beat(store, WORKER, NOW)
    workers.drain(store, WORKER.id, by="ann", now=NOW)
    assert [workers.beat(store, WORKER, after(n)) for n in (5, 10)] == [True, True]
    (change,) = audit.changes(store)
    assert (change.actor, change.action, change.subject) == ("ann", "worker.drain", "pc:1:aa")


def test_a_worker_may_drain_by_itself(store: Store) -> None:
    workers.beat(store, WORKER, NOW)
    assert workers.beat(store, replace(WORKER, draining=True), NOW)
    assert workers.beat(store, WORKER, NOW)


def test_workers_are_listed_by_site_until_they_are_forgotten(store: Store) -> None:
    names = {"b": "lab", "a": "roof", "c": "lab"}
    for name, site in names.items():
        workers.beat(store, replace(WORKER, id=name, site=site), NOW)
    assert [worker.id for worker in workers.list_workers(store)] == ["b", "c", "a"]
    workers.forget(store, "c")
    assert [worker.id for worker in workers.list_workers(store)] == ["b", "a"]


def test_no_beat_is_lost_when_many_come_at_once(store: Store) -> None:
    at_once(*(lambda: workers.beat(store, WORKER, NOW) for _ in range(6)))
    assert [worker.beats for worker in workers.list_workers(store)] == [6]
