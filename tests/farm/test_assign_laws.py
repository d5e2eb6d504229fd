"""What holds of every pass of `assign`, whatever the lab and the queue."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.assign import assign, group
from farm.domain import BoardState, BoardStatus, Demand, Health, Lease
from farm.selector import fits
from tests.farm.labs import NOW, board, demand

Lab = tuple[list[BoardStatus], dict[str, int]]
Pairs = list[tuple[Demand, BoardStatus]]

NAMES = [f"b{n}" for n in range(6)]
mostly_ready = st.sampled_from([BoardState.READY] * 12 + [BoardState.DRAINING, BoardState.RETIRED])
mostly_good = st.sampled_from([Health.GOOD] * 12 + [Health.UNKNOWN, Health.QUARANTINED])
tags = st.sets(st.sampled_from("xyz"))
sites = st.sampled_from(["s", "t"])


@st.composite
def labs(draw: st.DrawFn) -> Lab:
    boards = [
        board(
            name,
            *sorted(draw(tags)),
            site=draw(sites),
            transport=draw(st.sampled_from(["ssh"] * 5 + ["local"])),
            virtual=draw(st.sampled_from([False] * 4 + [True])),
            leased=draw(st.sampled_from([False] * 7 + [True])),
            state=draw(mostly_ready),
            health=draw(mostly_good),
        )
        for name in NAMES[: draw(st.sampled_from([6, 6, 6, 3, 1, 0]))]
    ]
    return boards, draw(st.just({"s": 2, "t": 2}) | st.dictionaries(sites, st.integers(0, 4)))


@st.composite
def queues(draw: st.DrawFn, *, plain: bool = False) -> list[Demand]:
    """Demands; plain ones neither prefer nor avoid a Board."""
    return [
        demand(
            str(n),
            *sorted(draw(st.sets(st.sampled_from("xyz"), max_size=2))),
            project=draw(st.sampled_from("pq")),
            priority=draw(st.sampled_from([0, 0, 10])),
            at_s=draw(st.integers(0, 3)),
            virtual=draw(st.sampled_from([False] * 4 + [True])),
            name=draw(st.sampled_from([None] * 6 + NAMES)),
            affinity=None if plain else draw(st.none() | st.sampled_from(NAMES)),
            avoid=frozenset[str]() if plain else draw(st.frozensets(st.sampled_from(NAMES), max_size=2)),
            patient_until=draw(st.sampled_from([None, NOW, NOW + timedelta(seconds=1)])),
            expected_s=draw(st.sampled_from([30.0, 60.0])),
        )
        for n in range(draw(st.integers(0, 8)))
    ]


def go(queue: Sequence[Demand], lab: Lab, seed: int = 1) -> Pairs:
    return assign(queue, lab[0], slots=lab[1], usage={"q": 45.0}, now=NOW, rng=random.Random(seed))


def could_be_given(lab: Lab, given_out: Sequence[BoardStatus]) -> list[BoardStatus]:
    """Boards that could still be given out beside those that were."""
    boards, slots = lab
    left = Counter(slots)
    left.subtract(status.board.site for status in given_out)
    hosts = {group(status.board) for status in boards if status.lease or status in given_out} - {None}
    return [
        status
        for status in boards
        if (status.state, status.health, status.lease) == (BoardState.READY, Health.GOOD, None)
        and status not in given_out
        and group(status.board) not in hosts
        and left[status.board.site] > 0
    ]


def may_take(one: Demand, status: BoardStatus, boards: Sequence[BoardStatus]) -> bool:
    """Whether the Board fits, and is not avoided in favour of another."""
    suits = [b for b in boards if b.state is not BoardState.RETIRED and fits(one.selector, b.board, one.runtimes)]
    others = [b for b in suits if b.board.name not in one.avoid]
    return status in (others or suits)


def can_all_be_served(queue: Sequence[Demand], lab: Lab, given_out: Sequence[BoardStatus] = ()) -> bool:
    """By trying every way."""
    if not queue:
        return True
    return any(
        fits(queue[0].selector, status.board, queue[0].runtimes)
        and can_all_be_served(queue[1:], lab, [*given_out, status])
        for status in could_be_given(lab, given_out)
    )


def served_by_definition(queue: Sequence[Demand], lab: Lab) -> list[str]:
    """Who is served: turn by turn each one that can be served beside all who were."""
    used: defaultdict[str, float] = defaultdict(float, {"q": 45.0})
    waiting, served = list(queue), list[Demand]()
    while waiting:
        one = min(waiting, key=lambda d: (-d.priority, used[d.project], d.submitted_at, d.job_id))
        waiting.remove(one)
        if can_all_be_served([*served, one], lab):
            served.append(one)
            used[one.project] += one.expected_s
    return [one.job_id for one in served]


@given(queues(), labs())
def test_only_boards_that_can_be_given_out_are_and_each_once(queue: list[Demand], lab: Lab) -> None:
    given_out: list[BoardStatus] = []
    for one, status in go(queue, lab):
        assert status in could_be_given(lab, given_out)
        assert may_take(one, status, lab[0])
        given_out.append(status)


@given(queues(plain=True), labs())
@settings(max_examples=200)
def test_exactly_those_are_served_that_fairness_says_in_that_order(queue: list[Demand], lab: Lab) -> None:
    assert [one.job_id for one, _ in go(queue, lab)] == served_by_definition(queue, lab)


@given(queues(), labs())
@settings(max_examples=200)
def test_nobody_waits_while_a_board_is_free_that_they_may_take(queue: list[Demand], lab: Lab) -> None:
    pairs = go(queue, lab)
    left = could_be_given(lab, [status for _, status in pairs])
    for one in queue:
        if one in [served for served, _ in pairs]:
            continue
        takes = [status for status in left if may_take(one, status, lab[0])]
        if one.patient_until and one.patient_until > NOW:
            takes = [status for status in takes if status.board.name == one.affinity or not is_awaited(one, lab)]
        assert takes == []


def is_awaited(one: Demand, lab: Lab) -> bool:
    """Whether the Board that the demand prefers is one to wait for."""
    return any(
        status.board.name == one.affinity
        and may_take(one, status, lab[0])
        and (status.state, status.health) == (BoardState.READY, Health.GOOD)
        and status.board.site in lab[1]
        for status in lab[0]
    )


@given(queues(), labs())
def test_of_two_who_want_the_same_the_higher_priority_is_served_first(queue: list[Demand], lab: Lab) -> None:
    served = [one for one, _ in go(queue, lab)]
    for left in queue:
        for one in served:
            wants = [(d.selector, d.avoid, d.affinity, d.patient_until) for d in (left, one)]
            if left not in served and wants[0] == wants[1]:
                assert left.priority <= one.priority


@given(queues(), labs(), st.integers())
def test_the_order_of_what_goes_in_does_not_matter(queue: list[Demand], lab: Lab, seed: int) -> None:
    expected = go(queue, lab)
    boards, slots = list(lab[0]), list(lab[1].items())
    for one in (queue, boards, slots):
        random.Random(seed).shuffle(one)
    assert go(queue, (boards, dict(slots))) == expected


@given(queues(plain=True), labs(), st.integers())
def test_chance_decides_which_board_never_who_is_served(queue: list[Demand], lab: Lab, seed: int) -> None:
    assert [one for one, _ in go(queue, lab, seed)] == [one for one, _ in go(queue, lab)]


@pytest.mark.parametrize(("flood_s", "steady_s"), [(60.0, 60.0), (60.0, 180.0), (240.0, 60.0)])
def test_a_flood_of_one_project_leaves_the_other_its_half(flood_s: float, steady_s: float) -> None:
    """Ten boards for four days; one project has 10,000 jobs queued, the other never more than ten."""
    rng = random.Random(7)
    boards = [board(f"b{n}") for n in range(10)]
    busy_until = dict.fromkeys((one.board.name for one in boards), 0.0)
    used: defaultdict[str, float] = defaultdict(float)
    flood = {str(n): demand(str(n), project="flood", expected_s=flood_s) for n in range(10_000)}
    steady: dict[str, Demand] = {}
    for minute in range(0, 4 * 24 * 60, 5):
        now_s = minute * 60.0
        for n in range(10 - len(steady)):
            steady[f"{minute}-{n}"] = demand(f"{minute}-{n}", project="steady", at_s=now_s, expected_s=steady_s)
        lab = [
            BoardStatus(one.board, health=Health.GOOD, lease=Lease("", 1, "w", 60.0, NOW) if leased else None)
            for one in boards
            for leased in (busy_until[one.board.name] > now_s,)
        ]
        first = list(flood.values())[:10]
        for one, status in assign([*first, *steady.values()], lab, slots={"lab": 10}, usage=used, now=NOW, rng=rng):
            (flood if one.project == "flood" else steady).pop(one.job_id)
            used[one.project] += one.expected_s
            busy_until[status.board.name] = now_s + one.expected_s * rng.uniform(0.5, 8.0)
    assert len(flood) > 0
    assert 0.45 < used["flood"] / (used["flood"] + used["steady"]) < 0.55
