"""Keeping Leases: one thread a process renews them all, and hears when a person wants the end of their Jobs.

Another looks only at our own clock: a database that hangs holds up the first, and must not keep a lost Lease alive.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from farm.domain import Lease
from farm.errors import FarmError
from farm.store import leases, queue
from farm.store.db import Store

LOOK_S = 1.0  # between two looks for cancellations: one reaches the board within 2 s
LAPSE_S = 0.5  # between two looks at our own clock
RENEWALS = 3.0  # in one time to live

Tell = Callable[[], object]

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Held:
    lease: Lease
    run_id: str | None
    lost: Tell
    cancel: Tell
    renewed: float
    is_told: bool = field(default=False)


class Keeper(threading.Thread):
    """Renews every Lease that it holds until `let_go`; a busy event loop cannot lose one.

    `lost` is called once where a Lease cannot be kept: the store says that it is over, or our own monotonic clock does.
    `cancel` is called once where a person wants the end of its Job. Both are called on a thread of ours.
    """

    def __init__(self, store: Store, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(name="keeper", daemon=True)
        self._store, self._clock = store, clock
        self._held: dict[tuple[str, int], _Held] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()

    def hold(self, lease: Lease, run_id: str | None, *, lost: Tell, cancel: Tell) -> None:
        """Keep a Lease that was granted or renewed just now."""
        with self._lock:
            self._held[lease.board, lease.token] = _Held(lease, run_id, lost, cancel, self._clock())

    def let_go(self, lease: Lease) -> None:
        """No more renewals of it."""
        with self._lock:
            self._held.pop((lease.board, lease.token), None)

    def lose_all(self) -> None:
        """Have every holder stop at once, as if its Lease were lost: this process is to end."""
        with self._lock:
            held = list(self._held.values())
        for one in held:
            self._drop(one)

    def holds(self) -> int:
        """How many Leases are held."""
        with self._lock:
            return len(self._held)

    def stop(self) -> None:
        """No more renewals of any, and the end of the thread."""
        self._ended.set()

    def run(self) -> None:
        """Look, renew, and look again, until `stop`."""
        clock = threading.Thread(target=self._often, args=(LAPSE_S, self.lapse), name="keeper's clock", daemon=True)
        clock.start()
        self._often(LOOK_S, self.look)
        clock.join()

    def _often(self, every_s: float, look: Tell) -> None:
        while not self._ended.wait(every_s):
            try:
                look()
            except Exception:  # the door of this thread
                log.exception("leases were not looked after; please report this")

    def look(self) -> None:
        """One look: renew what is due, tell of what is over or cancelled."""
        with self._lock:
            held = list(self._held.values())
        now = self._clock()
        due = [one for one in held if now - one.renewed >= one.lease.ttl_s / RENEWALS]
        try:
            if due:
                over = leases.renew_all(self._store, [one.lease for one in due], now=datetime.now(UTC))
                gone = {(lease.board, lease.token) for lease in over}
                for one in due:
                    if (one.lease.board, one.lease.token) in gone:
                        self._drop(one)
                    else:
                        one.renewed = now
            runs = {one.run_id: one for one in held if one.run_id is not None and not one.is_told}
            for run_id in queue.asked_to_end(self._store, list(runs)):
                runs[run_id].is_told = True
                runs[run_id].cancel()
        except FarmError as error:  # until the time to live is over, the database may come back
            log.warning("leases were not renewed: %s", error)

    def lapse(self) -> None:
        """Tell of what has not been renewed for its time to live, by our own clock."""
        with self._lock:
            held = list(self._held.values())
        for one in held:
            if self._clock() - one.renewed > one.lease.ttl_s:
                self._drop(one)

    def _drop(self, one: _Held) -> None:
        with self._lock:
            is_ours = self._held.pop((one.lease.board, one.lease.token), None) is not None
        if is_ours:
            one.lost()
