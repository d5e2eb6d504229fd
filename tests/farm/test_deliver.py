"""Deliveries: each Notice once to each channel that wants it, tried again where that helps, by however many."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from farm import deliver
from farm.domain import Notice
from farm.notifier import Channel
from farm.store import notices
from farm.store.db import Store, open_store
from tests.farm.notifiers import receiver
from tests.farm.notifiers.receiver import NOW, SECRET, Receiver, running, says
from tests.farm.store.moves import at_once


@pytest.fixture
def store(database_url: str, tmp_path: Path) -> Iterator[Store]:
    opened = open_store(database_url, tmp_path / "blobs", upgrade=False)
    yield opened
    opened.close()


def hook(to: Receiver, name: str = "ci", **changes: object) -> Channel:
    return Channel(name, "webhook", options={"url": to.url}, secret=SECRET, **changes)  # type: ignore[arg-type]


def put(store: Store, **changes: object) -> Notice:
    """A Notice in the outbox."""
    notice = receiver.notice(**changes)
    with store.write() as session:
        notices.add(session, notice)
    return notice


def once(store: Store, *channels: Channel, later_s: float = 0.0, rounds: int = 1) -> int:
    """How many were delivered in so many rounds, at so much later."""
    with receiver.client() as client:
        return sum(
            deliver.once(store, channels, client=client, now=NOW + timedelta(seconds=later_s), rng=random.Random(1))
            for _ in range(rounds)
        )


def outbox(store: Store, channel: str = "ci") -> list[tuple[int, bool, bool]]:
    """(attempts, is it delivered, has it an error) of each Notice to a channel."""
    return [(one.attempts, at is not None, bool(error)) for one, at, error in notices.of_channel(store, channel)]


def test_what_no_channel_wants_is_forgotten(store: Store) -> None:
    put(store)
    with running() as there:
        assert once(store, hook(there, on=("board.quarantined",)), rounds=2) == 0
        assert once(store, hook(there), rounds=2) == 0
    assert there.requests == []


def test_a_notice_is_delivered_once_to_each_channel_that_wants_it(store: Store) -> None:
    put(store)
    with running() as there, running() as other:
        channels = (hook(there), hook(other, "mail"), hook(other, "boards", on=("board.quarantined",)))
        assert once(store, *channels, rounds=4) == 2
    assert (len(there.requests), len(other.requests)) == (1, 1)
    assert (outbox(store), outbox(store, "mail")) == ([(1, True, False)], [(1, True, False)])


def test_two_that_deliver_at_once_deliver_each_notice_once(store: Store) -> None:
    for n in range(8):
        put(store, id=f"0197a000-0000-7000-8000-00000000000{n}")
    with running() as there:
        channel = hook(there)
        at_once(*(lambda: once(store, channel, rounds=3) for _ in range(3)))
    assert len({request.headers["x-benchfarm-delivery"] for request in there.requests}) == 8
    assert len(there.requests) == 8


def test_a_failed_delivery_is_tried_again_later_and_later(store: Store) -> None:
    put(store)
    with running(says(503), says(503), says(200)) as there:
        channel = hook(there)
        assert once(store, channel, rounds=3) == 0
        assert len(there.requests) == 1
        assert once(store, channel, later_s=9.9) == 0
        assert once(store, channel, later_s=12.1, rounds=2) == 0  # 10 s, and at most a fifth more
        assert len(there.requests) == 2
        assert outbox(store) == [(2, False, True)]
        assert once(store, channel, later_s=12.1 + 29.9) == 0
        assert once(store, channel, later_s=12.1 + 36.1, rounds=2) == 1
    assert (len(there.requests), outbox(store)) == (3, [(3, True, False)])


def test_what_a_receiver_refuses_is_not_tried_again(store: Store) -> None:
    put(store)
    with running(says(410)) as there:
        assert once(store, hook(there), rounds=3) == 0
        assert once(store, hook(there), later_s=1e6) == 0
    assert (len(there.requests), outbox(store)) == (1, [(1, False, True)])


def test_a_claim_whose_process_died_is_due_again(store: Store) -> None:
    put(store)
    with running() as there:
        once(store, hook(there))  # directs it
        (delivery,) = notices.due(store, NOW)
        assert notices.claim(store, delivery, until=NOW + timedelta(seconds=deliver.CLAIM_S))
        assert once(store, hook(there), later_s=119.0) == 0
        assert once(store, hook(there), later_s=120.0) == 1
    assert outbox(store) == [(2, True, False)]


def test_a_channel_that_is_gone_is_given_up_with_the_reason(store: Store) -> None:
    put(store)
    with running() as there:
        once(store, hook(there))
        assert once(store, rounds=2) == 0
    ((_, _, error),) = notices.of_channel(store, "ci")
    assert error == "Channel 'ci' is not in notifiers.yaml any more. Nothing was sent."
    assert notices.due(store, NOW + timedelta(days=9)) == []


def test_a_bug_of_a_notifier_gives_up_that_delivery_and_no_other(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    put(store)
    with running() as there, caplog.at_level(logging.ERROR):
        broken = Channel("broken", "webhook", options={}, secret=SECRET)  # without a url
        assert once(store, broken, hook(there), rounds=2) == 1
    ((_, _, error),) = notices.of_channel(store, "broken")
    assert error is not None
    assert error.startswith("Notifier 'webhook' of channel 'broken' failed by a bug of its own")
    assert "please report this" in caplog.text


def test_the_thread_delivers_until_it_is_stopped(store: Store) -> None:
    put(store)
    with running() as there:
        thread = deliver.Deliveries(store, [hook(there)], now=lambda: NOW, every_s=0.01)
        thread.start()
        while outbox(store) != [(1, True, False)]:
            time.sleep(0.01)
        thread.stop()
        thread.join(10)
    assert not thread.is_alive()
    assert len(there.requests) == 1
