"""Renewing a Lease in the store, on a thread of its own, so that a busy loop cannot lose it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from farm import domain
from farm.errors import LeaseLost, StoreError
from farm.store import leases
from farm.store.db import Store


class Renewal(threading.Thread):
    """Renews one Lease until `stop`; calls `lost` on the loop, once, where it cannot be kept."""

    def __init__(
        self, store: Store, lease: domain.Lease, loop: asyncio.AbstractEventLoop, lost: Callable[[], None]
    ) -> None:
        super().__init__(name=f"renew {lease.board}", daemon=True)
        self._store, self._lease, self._loop, self._lost = store, lease, loop, lost
        self._ended = threading.Event()

    def run(self) -> None:
        """Renew every third of the time to live; give up when our own clock says that it is over."""
        renewed = time.monotonic()
        while not self._ended.wait(self._lease.ttl_s / 3):
            try:
                leases.renew(self._store, self._lease, now=datetime.now(UTC))
                renewed = time.monotonic()
            except LeaseLost:
                break
            except StoreError:
                if time.monotonic() - renewed > self._lease.ttl_s:
                    break
        else:
            return
        if not self._ended.is_set():
            self._loop.call_soon_threadsafe(self._lost)

    def stop(self) -> None:
        """No more renewals."""
        self._ended.set()
