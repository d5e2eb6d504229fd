"""Events of a Job: told in order, and a reader who asks for what came since misses none."""

from __future__ import annotations

import threading

from farm.domain import Event, Outcome, new_id
from farm.store import events, queue
from farm.store.db import Store
from tests.farm.store.moves import after, at_once, begun, ended, good_board, queued
from tests.farm.store.nouns import NOW


def test_nobody_hears_of_a_run_that_is_not_there(store: Store) -> None:
    events.tell_of_run(store, new_id(), kind="note", at=NOW, data={})
    assert events.after(store, {}) == []
    assert events.after(store, {new_id(): 0}) == []


def test_what_happened_is_told_as_it_was_said(store: Store) -> None:
    good_board(store)
    run = begun(store, queued(store))
    events.tell_of_run(store, run.id, kind="note", at=after(1), data={"text": "fan at 100 %", "fraction": 0.5})
    last = events.of_job(store, run.job_id)[-1]
    assert (last.job_id, last.run_id, last.at, last.kind) == (run.job_id, run.id, after(1), "note")
    assert last.data == {"text": "fan at 100 %", "fraction": 0.5}


def test_a_reader_gets_what_came_since_of_the_jobs_it_asks_for(store: Store) -> None:
    one, other, third = (queued(store).id for _ in range(3))
    for job_id in (one, other, third, one):
        events.tell(store, job_id, kind="note", at=NOW, data={})
    seen = events.of_job(store, one)[0].id
    found = events.after(store, {one: seen, other: 0})
    assert [(event.job_id, event.kind) for event in found] == [
        (other, "submitted"),
        (one, "note"),
        (other, "note"),
        (one, "note"),
    ]
    assert [event.kind for event in events.after(store, {one: 0}, limit=1)] == ["submitted"]


def test_of_two_events_of_one_move_the_first_has_the_lower_id(store: Store) -> None:
    for _ in range(20):
        job = queued(store)
        queue.cancel(store, job.id, by="ann", now=NOW)
        assert [event.kind for event in events.of_job(store, job.id)] == ["submitted", "cancel", "cancelled"]


def test_a_poller_misses_no_event_however_many_write_at_once(store: Store) -> None:
    good_board(store)
    job = queued(store)
    run = begun(store, job)
    is_over = threading.Event()
    heard: list[Event] = []

    def listen() -> None:
        last = 0
        while True:
            is_last = is_over.is_set()
            found = events.after(store, {job.id: last})
            heard.extend(found)
            last = found[-1].id if found else last
            if is_last and not found:
                return

    def tell(writer: int) -> None:
        for n in range(25):
            if writer % 2:
                events.tell(store, job.id, kind="note", at=NOW, data={"text": f"{writer}-{n}"})
            else:
                events.tell_of_run(store, run.id, kind="note", at=NOW, data={"text": f"{writer}-{n}"})

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        assert at_once(*(lambda i=i: tell(i) for i in range(6))) == [None] * 6
        over = ended(store, run, Outcome.FAILED)
        queue.finish(store, over, verdict=None, reasons=over.reasons, now=NOW)
    finally:
        is_over.set()
        listener.join()
    assert len(heard) == 3 + 6 * 25 + 1
    assert heard == events.of_job(store, job.id)
    assert heard[-1].kind == "done"
    for writer in range(6):
        told = [event.data["text"] for event in heard if event.data.get("text", "").startswith(f"{writer}-")]
        assert told == [f"{writer}-{n}" for n in range(25)]
