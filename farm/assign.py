"""Which queued Job gets which Board now. Pure: the same demands, boards and seed give the same answer in any order.

A higher priority goes first; among equals the Project that has used least, then who waits longest. A seat is what one
demand can take: a Board, or all Boards of a group, of which one measures at a time. Demands are seated one by one; one
that finds its seats taken may move those who sit there to others that suit them as well (augmenting paths: D. König
1916, H. W. Kuhn 1955). So nobody loses a seat to one who comes later, and nobody waits for a seat that could be freed.
"""

from __future__ import annotations

import heapq
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from farm.domain import Board, BoardState, BoardStatus, Demand, Health, Selector
from farm.selector import fits


def group(board: Board) -> str | None:
    """The name of the Boards that share a host with this one, so that one at a time measures; None where none does."""
    return f"local@{board.site}" if board.transport == "local" or board.is_virtual else None


def assign(
    demands: Sequence[Demand],
    boards: Sequence[BoardStatus],
    *,
    slots: Mapping[str, int],
    usage: Mapping[str, float],
    now: datetime,
    rng: random.Random,
) -> list[tuple[Demand, BoardStatus]]:
    """Who gets which Board now, in the order of their turns.

    `slots`: free worker slots of each site; a site where no worker lives is absent, one whose workers are busy has 0.
    `usage`: board-seconds that each Project used lately. `rng` chooses among equal Boards, so that wear spreads.
    """
    lab = _Lab(boards, slots, now, rng)
    seats = _Seats(lab.sites, slots)
    used = defaultdict(float, usage)
    guests: list[_Guest] = []
    for lines in _by_priority(demands) if seats.open else ():
        turns = [(used[project], line[-1], project) for project, line in lines.items()]
        heapq.heapify(turns)
        _, (_, _, demand), project = heapq.heappop(turns)
        while seats.open:
            guest = seats.seat(demand, lab.choices(demand))
            if guest:
                guests.append(guest)
                used[project] += demand.expected_s
            line = lines[project]
            line.pop()
            if line:
                _, (_, _, demand), project = heapq.heappushpop(turns, (used[project], line[-1], project))
            elif turns:
                _, (_, _, demand), project = heapq.heappop(turns)
            else:
                break
    return [(guest.demand, guest.choice.boards[guest.seat][0]) for guest in guests]


_Line = list[tuple[datetime, str, Demand]]  # who waits longest is last, where a list is quickly shortened


def _by_priority(demands: Sequence[Demand]) -> Iterator[dict[str, _Line]]:
    """The line of each Project, highest priority first."""
    found: defaultdict[int, defaultdict[str, _Line]] = defaultdict(lambda: defaultdict(list))
    for demand in demands:
        found[demand.priority][demand.project].append((demand.submitted_at, demand.job_id, demand))
    for _, lines in sorted(found.items(), reverse=True):
        for line in lines.values():
            line.sort(reverse=True)
        yield lines


@dataclass(frozen=True, slots=True, eq=False)
class _Choice:
    """The seats that a demand can take, one bit each, and the Boards that it can use there, the best first."""

    mask: int
    boards: Mapping[int, Sequence[BoardStatus]]


@dataclass(slots=True, eq=False)
class _Guest:
    """A demand with the choice it has, and the seat it got (-1: none yet)."""

    demand: Demand
    choice: _Choice
    seat: int = -1


class _Lab:
    """The Boards, which of them can be given out now, and what a demand may choose among those."""

    def __init__(self, boards: Sequence[BoardStatus], slots: Mapping[str, int], now: datetime, rng: random.Random):
        self._now = now
        self._slots = slots
        self._live = sorted((b for b in boards if b.state is not BoardState.RETIRED), key=lambda b: b.board.name)
        self._named = {status.board.name: status for status in self._live}
        busy = {group(status.board) for status in boards if status.lease} - {None}
        idle = [
            status
            for status in self._live
            if _is_sound(status)
            and status.lease is None
            and group(status.board) not in busy
            and slots.get(status.board.site, 0) > 0
        ]
        rng.shuffle(idle)
        numbers: dict[tuple[str, str], int] = {}
        self.sites: list[str] = []  # of each seat
        self._seated: dict[str, tuple[int, BoardStatus]] = {}  # in an order that is as good as any
        for status in idle:
            shared = group(status.board)
            unit = ("group", shared) if shared else ("board", status.board.name)
            if unit not in numbers:
                numbers[unit] = len(numbers)
                self.sites.append(status.board.site)
            self._seated[status.board.name] = (numbers[unit], status)
        self._choices: dict[tuple[Selector, frozenset[str]], _Choice] = {}
        self._pins: dict[str, _Choice] = {}

    def choices(self, demand: Demand) -> Sequence[_Choice]:
        """What the demand can take, the best first; nothing where it waits for the Board it prefers."""
        choice = self._without_avoided(demand) if demand.avoid else self._choice(demand)
        favourite = self._named.get(demand.affinity) if demand.affinity is not None else None
        if favourite is None or not self._may_take(demand, favourite):
            return (choice,)
        is_idle = favourite.board.name in self._seated
        preferred = (self._pin(favourite.board.name),) if is_idle else ()
        is_patient = demand.patient_until is not None and self._now < demand.patient_until
        if is_patient and (is_idle or self._is_busy(favourite)):
            return preferred
        return (*preferred, choice)

    def _pin(self, name: str) -> _Choice:
        """Only this Board."""
        if name not in self._pins:
            seat, status = self._seated[name]
            self._pins[name] = _Choice(1 << seat, {seat: [status]})
        return self._pins[name]

    def _choice(self, demand: Demand) -> _Choice:
        """Every Board that can be given out and fits; worked out once for all demands that ask the same."""
        key = (demand.selector, demand.runtimes)
        choice = self._choices.get(key)
        if choice is None:
            found: dict[int, list[BoardStatus]] = {}
            for seat, status in self._seated.values():
                if fits(demand.selector, status.board, demand.runtimes):
                    found.setdefault(seat, []).append(status)
            choice = self._choices[key] = _Choice(sum(1 << seat for seat in found), found)
        return choice

    def _without_avoided(self, demand: Demand) -> _Choice:
        """As `_choice`, without the Boards that the demand avoids, where there is any other that fits."""
        choice = self._choice(demand)
        hits = {self._seated[name][0] for name in demand.avoid if name in self._seated}
        hits = {seat for seat in hits if seat in choice.boards}
        if not hits or not self._has_other(demand, choice):
            return choice
        mask, boards = choice.mask, dict(choice.boards)
        for seat in hits:
            boards[seat] = [status for status in boards[seat] if status.board.name not in demand.avoid]
            if not boards[seat]:
                mask &= ~(1 << seat)
        return _Choice(mask, boards)

    def _may_take(self, demand: Demand, status: BoardStatus) -> bool:
        if not fits(demand.selector, status.board, demand.runtimes):
            return False
        return status.board.name not in demand.avoid or not self._has_other(demand, self._choice(demand))

    def _has_other(self, demand: Demand, choice: _Choice) -> bool:
        """Whether any Board that is not retired fits and is not avoided, even if it cannot be given out now."""
        ready = (status for boards in choice.boards.values() for status in boards)
        if any(status.board.name not in demand.avoid for status in ready):
            return True
        return any(
            status.board.name not in demand.avoid and fits(demand.selector, status.board, demand.runtimes)
            for status in self._live
        )

    def _is_busy(self, status: BoardStatus) -> bool:
        """Whether nothing but other work keeps it from being given out."""
        return _is_sound(status) and status.board.site in self._slots


class _Seats:
    """Who sits where: at most one a seat, at a site at most as many as it has slots."""

    def __init__(self, sites: Sequence[str], slots: Mapping[str, int]):
        self._sites = sites
        self._holders: list[_Guest | None] = [None] * len(sites)
        self._room = {site: slots[site] for site in sites}
        self._masks = dict.fromkeys(sites, 0)
        for seat, site in enumerate(sites):
            self._masks[site] |= 1 << seat
        self.open = (1 << len(sites)) - 1  # seats that nobody has, at a site that has room
        self._lost = 0  # seats from which no chain of moves will ever lead to an open one

    def seat(self, demand: Demand, choices: Sequence[_Choice]) -> _Guest | None:
        """Give the demand a seat by the first choice that can be met; None where none can, now or later."""
        for choice in choices:
            if choice.mask & ~self._lost:
                guest = _Guest(demand, choice)
                if self._find(guest):
                    return guest
        return None

    def _find(self, guest: _Guest) -> bool:
        """Find the guest a seat, if need be by moving others; False where there is no way."""
        seen = self._lost
        movers = [guest]
        wanted: dict[int, tuple[_Guest, int]] = {}  # seat -> who sits down at which seat once it is left
        for mover in movers:  # grows while it is walked: the shortest chain of moves is found first
            fresh = mover.choice.mask & ~seen
            if fresh & self.open:
                self._move(mover, next(_bits(fresh & self.open)), wanted)
                return True
            seen |= fresh
            for seat in _bits(fresh):
                if self._holders[seat]:
                    leaving = 1 << seat
                else:  # free, but its site is full: anyone of that site may leave for another site
                    leaving = self._masks[self._sites[seat]] & ~seen
                    seen |= leaving
                for left in _bits(leaving):
                    holder = self._holders[left]
                    if holder:
                        wanted[left] = (mover, seat)
                        movers.append(holder)
        self._lost = seen
        return False

    def _move(self, guest: _Guest, seat: int, wanted: Mapping[int, tuple[_Guest, int]]) -> None:
        """Seat the last of a chain at an open seat, and each before it as the one after it leaves."""
        site = self._sites[seat]
        self._room[site] -= 1
        self.open &= ~(1 << seat if self._room[site] else self._masks[site])
        while True:
            left = guest.seat
            guest.seat, self._holders[seat] = seat, guest
            if left < 0:
                return
            self._holders[left] = None
            guest, seat = wanted[left]


def _is_sound(status: BoardStatus) -> bool:
    """Whether the lab wants it used and knows it to work."""
    return status.state is BoardState.READY and status.health is Health.GOOD


def _bits(mask: int) -> Iterator[int]:
    """The places of the bits that are set, lowest first."""
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest
