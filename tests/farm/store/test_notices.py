"""The outbox: each Notice goes to each channel that wants it, by one process at a time."""

from __future__ import annotations

from farm.domain import Notice, Outcome, new_id
from farm.stats import Summary
from farm.store import notices, queue, results
from farm.store.db import Store
from farm.store.notices import UNDIRECTED, Delivery
from tests.farm.store.moves import after, at_once, begun, ended, good_board, queued
from tests.farm.store.nouns import NOW


def a_notice(store: Store, at: float = 0.0) -> Notice:
    notice = Notice(new_id(), "job.done", "vision", "PASS", "It passed.", after(at), {"verdict": "PASS"})
    with store.write() as session:
        notices.add(session, notice)
    return notice


def due(store: Store, at: float = 0.0) -> list[tuple[str, int]]:
    return [(one.channel, one.attempts) for one in notices.due(store, after(at))]


def test_what_nobody_wants_is_forgotten(store: Store) -> None:
    notice = a_notice(store)
    assert notices.due(store, NOW) == [Delivery(notice, UNDIRECTED, 0)]
    notices.direct(store, notice, [], NOW)
    assert due(store, 9e9 / 1e4) == []


def test_a_notice_is_directed_once_by_however_many(store: Store) -> None:
    notice = a_notice(store)
    at_once(*(lambda: notices.direct(store, notice, ["ci", "mail"], NOW) for _ in range(4)))
    assert sorted(due(store)) == [("ci", 0), ("mail", 0)]
    first = notices.due(store, NOW)[0]
    assert notices.claim(store, first, until=after(120))
    notices.settle(store, first, error=None, again_at=None, now=NOW)
    notices.direct(store, notice, ["ci", "mail"], NOW)  # by one that was slow
    assert len(due(store)) == 1


def test_of_many_that_claim_a_delivery_one_has_it_until_its_claim_ends(store: Store) -> None:
    notices.direct(store, a_notice(store), ["ci"], NOW)
    (delivery,) = notices.due(store, NOW)
    claims = at_once(*(lambda: notices.claim(store, delivery, until=after(120)) for _ in range(6)))
    assert sorted(map(bool, claims)) == [False] * 5 + [True]
    assert due(store, 119) == []
    assert due(store, 120) == [("ci", 1)]  # its process died


def test_what_was_delivered_or_given_up_cannot_be_claimed(store: Store) -> None:
    notices.direct(store, a_notice(store), ["ci", "mail"], NOW)
    ci, mail = sorted(notices.due(store, NOW), key=lambda one: one.channel)
    for one, error in ((ci, None), (mail, "410 Gone")):
        assert notices.claim(store, one, until=after(120))
        notices.settle(store, one, error=error, again_at=None, now=after(1))
        assert not notices.claim(store, one, until=after(240))
    ((_, delivered_at, error),) = notices.of_channel(store, "ci")
    assert (delivered_at, error) == (after(1), None)
    ((_, delivered_at, error),) = notices.of_channel(store, "mail")
    assert (delivered_at, error) == (None, "410 Gone")


def test_the_failure_of_one_whose_claim_ran_out_does_not_undo_the_success_of_the_next(store: Store) -> None:
    notices.direct(store, a_notice(store), ["ci"], NOW)
    (slow,) = notices.due(store, NOW)
    assert notices.claim(store, slow, until=after(120))
    (quick,) = notices.due(store, after(120))
    assert notices.claim(store, quick, until=after(240))
    notices.settle(store, quick, error=None, again_at=None, now=after(121))
    notices.settle(store, slow, error="no answer", again_at=after(130), now=after(122))
    assert due(store, 1000) == []
    assert notices.of_channel(store, "ci")[0][1:] == (after(121), None)


def test_what_a_clock_put_off_that_was_stepped_back_since_is_due(store: Store) -> None:
    notices.direct(store, a_notice(store), ["ci"], NOW)
    (delivery,) = notices.due(store, NOW)
    assert notices.claim(store, delivery, until=after(3600))
    assert due(store) == []
    assert due(store, -86_400) == [("ci", 1)]


def test_the_oldest_are_due_first_and_only_so_many(store: Store) -> None:
    found = [a_notice(store, at).id for at in (2.0, 0.0, 1.0)]
    assert [one.notice.id for one in notices.due(store, after(2), limit=2)] == [found[1], found[2]]


def test_the_end_of_a_job_is_told_with_its_board_model_and_reasons(store: Store) -> None:
    good_board(store)
    job = queued(store, repository="acme/vision")
    run = ended(store, begun(store, job), Outcome.NOISY)
    of_a_block = Summary("p50_latency_ns", 7.0, 9, 1, block=0)
    absent = Summary("p99_latency_ns", None, 9, 1, reason="needs 459")
    results.save_summaries(store, run.id, [of_a_block, Summary("p50_latency_ns", 2.0, 9, 3, low=1.0, high=4.0), absent])
    queue.finish(store, run, verdict=None, reasons=run.reasons, now=NOW)
    (delivery,) = notices.due(store, NOW)
    told = delivery.notice
    assert (told.kind, told.project, told.title) == ("job.done", "vision", "NOISY: mobilenet_v2_int8 on orin-3")
    assert told.text == f"Job {job.id} is done: NOISY. It did so."
    wanted = {"job": job.id, "run": run.id, "board": "orin-3", "model": "mobilenet_v2_int8", "commit": "0a1b2c3"}
    assert told.data["metrics"] == [{"metric": "p50_latency_ns", "value": 2.0, "low": 1.0, "high": 4.0, "n": 9}]
    assert told.data["repository"] == "acme/vision"
    assert told.data.items() >= {**wanted, "outcome": "NOISY", "verdict": None, "branch": None, "state": "done"}.items()
