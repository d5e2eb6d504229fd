"""VERB 7: tell people and CI systems: the Notices in the outbox go to the channels of notifiers.yaml."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

import httpx

from farm import notifier, post
from farm.errors import DeliveryFailed, FarmError
from farm.notifier import Channel
from farm.store import notices
from farm.store.db import Store

CLAIM_S = 120.0  # a delivery that its process did not survive is due again
EVERY_S = 2.0

log = logging.getLogger(__name__)


def once(store: Store, channels: Sequence[Channel], *, client: httpx.Client, now: datetime, rng: random.Random) -> int:
    """Direct what is new, deliver what is due; how many were delivered. Any number of processes may do so."""
    named: Mapping[str, Channel] = {channel.name: channel for channel in channels}
    delivered = 0
    for delivery in notices.due(store, now):
        if delivery.channel == notices.UNDIRECTED:
            wanted = [channel.name for channel in notifier.wanted(channels, delivery.notice)]
            notices.direct(store, delivery.notice, wanted, now)
        elif notices.claim(store, delivery, until=now + timedelta(seconds=CLAIM_S)):
            delivered += _deliver(store, named.get(delivery.channel), delivery, client=client, now=now, rng=rng)
    return delivered


def _deliver(
    store: Store,
    channel: Channel | None,
    delivery: notices.Delivery,
    *,
    client: httpx.Client,
    now: datetime,
    rng: random.Random,
) -> bool:
    if channel is None:
        error = f"Channel {delivery.channel!r} is not in notifiers.yaml any more. Nothing was sent."
        notices.settle(store, delivery, error=error, again_at=None, now=now)
        return False
    try:
        notifier.send(channel, delivery.notice, client=client, now=now)
    except FarmError as failed:
        again_s = (
            notifier.again_s(delivery.attempts + 1, failed, rng=rng) if isinstance(failed, DeliveryFailed) else None
        )
        log.warning("notice %s to %s: %s", delivery.notice.id, channel.name, failed)
        again_at = None if again_s is None else now + timedelta(seconds=again_s)
        notices.settle(store, delivery, error=str(failed), again_at=again_at, now=now)
        return False
    except Exception:  # the edge of a plug-in
        log.exception("notifier %s failed; please report this", channel.kind)
        text = f"Notifier {channel.kind!r} of channel {channel.name!r} failed by a bug of its own; see the log."
        notices.settle(store, delivery, error=text, again_at=None, now=now)
        return False
    notices.settle(store, delivery, error=None, again_at=None, now=now)
    return True


class Deliveries(threading.Thread):
    """Delivers what is due, every few seconds."""

    def __init__(
        self, store: Store, channels: Sequence[Channel], *, now: Callable[[], datetime], every_s: float = EVERY_S
    ) -> None:
        super().__init__(name="deliveries", daemon=True)
        self._store, self._channels, self._now, self._every_s = store, channels, now, every_s
        self._ended = threading.Event()

    def stop(self) -> None:
        """No more deliveries; the one under way ends."""
        self._ended.set()

    def run(self) -> None:
        """Deliver until `stop`."""
        rng = random.Random()
        with post.client() as client:
            while not self._ended.wait(self._every_s):
                try:
                    once(self._store, self._channels, client=client, now=self._now(), rng=rng)
                except FarmError as error:
                    log.warning("notices wait in the outbox: %s", error)
                except Exception:  # the door of this thread
                    log.exception("notices wait in the outbox; please report this")
