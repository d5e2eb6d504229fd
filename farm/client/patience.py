"""How long, and how often, a farm that does not answer is asked again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from farm.errors import FarmUnreachable

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 10.0


class Unanswered(Exception):
    """One try to which no farm answered. `is_unheard`: it cannot have done anything."""

    def __init__(self, seen: str, *, after_s: float | None = None, is_unheard: bool = False) -> None:
        super().__init__(seen)
        self.seen, self.after_s, self.is_unheard = seen, after_s, is_unheard


@dataclass(frozen=True, slots=True)
class Time:
    """The clock, the sleep and the randomness that waiting needs."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    rng: random.Random = field(default_factory=random.Random)


class Patience:
    """With one farm, on one matter: `limit_s` from its first failure on (None: for ever), and not after `until`."""

    def __init__(
        self,
        url: str,
        what: str,
        *,
        limit_s: float | None,
        until: float | None = None,
        told: Callable[[str], None],
        time: Time,
    ) -> None:
        self._url, self._what, self._limit_s, self._until = url, what, limit_s, until
        self._told, self._time = told, time
        self._since: float | None = None
        self._pause_s = FIRST_PAUSE_S

    def heard(self) -> None:
        """The farm answers (again)."""
        if self._since is not None:
            self._told(f"The farm at {self._url} answers again.")
        self._since, self._pause_s = None, FIRST_PAUSE_S

    def wait(self, failed: Unanswered) -> None:
        """Wait before the next try. Raises FarmUnreachable where there is no time for one."""
        now = self._time.clock()
        is_first = self._since is None
        since = self._since = now if self._since is None else self._since
        ends = [since + self._limit_s] if self._limit_s is not None else []
        ends += [self._until] if self._until is not None else []
        pause_s = max(self._pause_s * self._time.rng.uniform(0.5, 1.0), failed.after_s or 0.0)
        if ends and now + pause_s > min(ends):
            waited = f" in {now - since:.0f} s" if now - since >= 1 else ""
            raise FarmUnreachable(
                f"The farm at '{self._url}' did not answer {self._what}{waited}: {failed.seen}."
                " See that it runs and that its URL (--url, FARM_URL) is right, then try again."
            )
        if is_first:
            self._told(f"The farm at {self._url} does not answer ({failed.seen}): trying again.")
        self._time.sleep(pause_s)
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)
