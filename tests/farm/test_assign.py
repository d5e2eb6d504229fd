"""Which Job gets which Board, from small labs written out."""

from __future__ import annotations

import itertools
from collections import Counter
from datetime import timedelta

import pytest

from farm.assign import group
from farm.domain import Board, BoardState, BoardStatus, Demand, Health
from tests.farm.labs import NOW, board, demand, passed

LATER = NOW + timedelta(seconds=10)


@pytest.mark.parametrize("state", [BoardState.DRAINING, BoardState.MAINTENANCE, BoardState.RETIRED])
def test_a_board_that_is_not_ready_is_not_given_out(state: BoardState) -> None:
    assert passed([demand("1")], [board("a", state=state)]) == {}


@pytest.mark.parametrize("health", [Health.UNKNOWN, Health.SUSPECT, Health.QUARANTINED])
def test_a_board_whose_health_is_not_good_is_not_given_out(health: Health) -> None:
    assert passed([demand("1")], [board("a", health=health)]) == {}


def test_a_leased_board_is_not_given_out() -> None:
    assert passed([demand("1")], [board("a", leased=True)]) == {}


@pytest.mark.parametrize("slots", [{}, {"lab": 0}, {"lab": -1}, {"elsewhere": 3}])
def test_a_site_without_a_free_slot_gets_nothing(slots: dict[str, int]) -> None:
    assert passed([demand("1")], [board("a")], slots=slots) == {}


def test_nothing_comes_of_nothing() -> None:
    assert passed([], []) == {}
    assert passed([], [board("a")]) == {}
    assert passed([demand("1")], []) == {}


@pytest.mark.parametrize(
    ("wanted", "has", "gets"),
    [
        ((), (), True),
        ((), ("ssd",), True),
        (("ssd",), ("ssd",), True),
        (("ssd",), ("poe", "ssd"), True),
        (("poe", "ssd"), ("ssd",), False),
        (("poe",), ("ssd",), False),
        (("ssd",), (), False),
    ],
)
def test_a_board_needs_all_tags_and_may_have_more(wanted: tuple[str, ...], has: tuple[str, ...], gets: bool) -> None:
    assert passed([demand("1", *wanted)], [board("a", *has)]) == ({"1": "a"} if gets else {})


@pytest.mark.parametrize("there", [[], [board("a", leased=True)], [board("a", health=Health.QUARANTINED)]])
def test_a_demand_for_one_board_by_name_does_not_fall_back_to_another(there: list[BoardStatus]) -> None:
    assert passed([demand("1", name="a")], [*there, board("b")]) == {}
    assert passed([demand("1", name="b")], [*there, board("b")]) == {"1": "b"}


def test_a_board_without_the_runtime_is_passed_over() -> None:
    facts = {"runtimes": {"litert": {"present": False, "reason": "not installed"}}}
    boards = [board("a", facts=facts), board("b", facts={"runtimes": {"litert": {"present": True}}})]
    assert passed([demand("1", runtimes=["litert"]), demand("2", runtimes=["litert"])], boards) == {"1": "b"}


def test_the_higher_priority_goes_first_even_if_it_came_later_and_its_project_used_more() -> None:
    demands = [demand("1", project="idle"), demand("2", project="busy", at_s=9, priority=10)]
    assert passed(demands, [board("a")], usage={"busy": 1e6}) == {"2": "a"}


def test_the_project_that_used_least_goes_first() -> None:
    demands = [demand("1", project="much"), demand("2", project="little", at_s=9)]
    assert passed(demands, [board("a")], usage={"much": 2.0, "little": 1.0}) == {"2": "a"}
    assert passed(demands, [board("a")], usage={"much": 2.0}) == {"2": "a"}
    assert passed(demands, [board("a")], usage={"much": 2.0, "little": 2.0}) == {"1": "a"}


def test_who_waits_longest_goes_first_and_the_job_id_breaks_a_tie() -> None:
    demands = [demand("3", at_s=1), demand("1", at_s=2), demand("2", at_s=2)]
    assert list(passed(demands, [board("a"), board("b")])) == ["3", "1"]


def test_what_a_project_gets_in_a_pass_counts_at_once() -> None:
    flood = [demand(f"f{n}", project="flood", expected_s=60.0) for n in range(9)]
    late = [demand(f"l{n}", project="late", at_s=99, expected_s=60.0) for n in range(9)]
    boards = [board(f"b{n}") for n in range(4)]
    assert list(passed([*flood, *late], boards)) == ["f0", "l0", "f1", "l1"]


def test_a_long_job_costs_its_project_more_turns() -> None:
    long = [demand(f"a{n}", project="a", expected_s=150.0) for n in range(9)]
    short = [demand(f"b{n}", project="b", at_s=1, expected_s=60.0) for n in range(9)]
    assert list(passed([*long, *short], [board(f"x{n}") for n in range(5)])) == ["a0", "b0", "b1", "b2", "a1"]


def test_a_flexible_job_leaves_the_only_board_to_the_one_that_needs_it() -> None:
    boards = [board("plain"), board("hailo", "hailo8l")]
    for seed in range(20):
        found = passed([demand("1"), demand("2", "hailo8l", at_s=9)], boards, seed=seed)
        assert found == {"1": "plain", "2": "hailo"}


def test_nobody_loses_a_board_to_one_who_comes_later() -> None:
    boards = [board("hailo", "hailo8l")]
    assert passed([demand("1"), demand("2", "hailo8l", at_s=9)], boards) == {"1": "hailo"}


def test_a_chain_of_moves_seats_everyone() -> None:
    boards = [board(f"b{n}", f"t{n}", f"t{n + 1}") for n in range(9)]
    demands = [demand(str(n), f"t{n + 1}", at_s=n) for n in range(8)]  # each fits b(n) and b(n+1)
    for seed in range(20):
        found = passed([*demands, demand("last", "t0", at_s=99)], boards, seed=seed)
        assert len(found) == 9
        assert found["last"] == "b0"


def test_a_full_site_is_left_by_those_who_can_go_elsewhere() -> None:
    boards = [board("near-1", "x", site="near"), board("near-2", "y", site="near"), board("far", "x", site="far")]
    for seed in range(20):
        found = passed([demand("1", "x"), demand("2", "y", at_s=9)], boards, slots={"near": 1, "far": 1}, seed=seed)
        assert found == {"1": "far", "2": "near-2"}


def test_a_seat_that_was_left_at_a_full_site_belongs_to_nobody() -> None:
    boards = [board("n1", "x", site="near"), board("n2", "y", site="near"), board("f1", "x"), board("f2", "x")]
    demands = [demand("1", "x"), demand("2", "y", at_s=1), demand("3", name="n1", at_s=2)]
    for seed in range(20):
        found = passed(demands, boards, slots={"near": 1, "lab": 2}, seed=seed)
        assert (list(found), found["2"]) == (["1", "2"], "n2")


def test_a_chain_of_moves_leads_through_a_full_site_once() -> None:
    near = [board("n1", "x", site="near"), board("n2", "x", site="near"), board("n3", "y", site="near")]
    boards = [*near, board("f1", "x", "z"), board("f2", "z")]
    demands = [demand("1", "z"), demand("2", "x", at_s=1), demand("3", "y", at_s=2)]
    for seed in range(40):
        found = passed(demands, boards, slots={"near": 1, "lab": 2}, seed=seed)
        assert found == {"1": "f2", "2": "f1", "3": "n3"}


def test_a_dead_site_does_not_hold_up_the_others() -> None:
    boards = [board("a", site="dead"), board("b", site="alive")]
    demands = [demand("1", name="a", priority=10), demand("2", at_s=1), demand("3", at_s=2)]
    assert passed(demands, boards, slots={"alive": 2}) == {"2": "b"}


def test_a_site_gets_no_more_runs_than_it_has_slots() -> None:
    boards = [board(f"b{n}") for n in range(5)]
    assert list(passed([demand(str(n)) for n in range(5)], boards, slots={"lab": 2})) == ["0", "1"]


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (Board("a", transport="ssh", site="lab"), None),
        (Board("a", transport="local", site="lab"), "local@lab"),
        (Board("a", transport="ssh", site="lab", is_virtual=True), "local@lab"),
        (Board("a", transport="local", site="home"), "local@home"),
    ],
)
def test_boards_of_one_host_are_one_group(one: Board, expected: str | None) -> None:
    assert group(one) == expected


def test_of_a_group_one_measures_at_a_time() -> None:
    boards = [board("me", transport="local"), board("v1", virtual=True), board("v2", virtual=True)]
    demands = [demand("1", virtual=True), demand("2"), demand("3", virtual=True)]
    assert passed(demands, boards) in ({"1": "v1"}, {"1": "v2"})
    assert passed([*demands, demand("4")], [*boards, board("pi")])["2"] == "pi"


@pytest.mark.parametrize("state", list(BoardState))
def test_a_lease_within_a_group_keeps_all_of_it(state: BoardState) -> None:
    boards = [board("v1", virtual=True, leased=True, state=state), board("v2", virtual=True), board("pi")]
    assert passed([demand("1", virtual=True), demand("2")], boards) == {"2": "pi"}


def test_groups_of_two_sites_do_not_mind_each_other() -> None:
    boards = [board("v1", virtual=True, site="here", leased=True), board("v2", virtual=True, site="there")]
    assert passed([demand("1", virtual=True)], boards, slots={"here": 9, "there": 9}) == {"1": "v2"}


def test_a_virtual_board_goes_only_to_those_who_ask_for_one() -> None:
    boards = [board("v", virtual=True), board("pi")]
    assert passed([demand("1"), demand("2"), demand("3", virtual=True)], boards) == {"1": "pi", "3": "v"}


def test_the_preferred_board_is_taken_where_it_is_free() -> None:
    boards = [board(f"b{n}") for n in range(9)]
    for seed in range(20):
        assert passed([demand("1", affinity="b3")], boards, seed=seed) == {"1": "b3"}


def test_one_without_a_preference_makes_way_for_one_with() -> None:
    for seed in range(20):
        found = passed([demand("1"), demand("2", at_s=9, affinity="a")], [board("a"), board("b")], seed=seed)
        assert found == {"1": "b", "2": "a"}


BUSY = [
    ([board("a", leased=True)], {"lab": 9}),
    ([board("a", site="full")], {"lab": 9, "full": 0}),
    ([board("a", transport="local"), board("other", transport="local", leased=True)], {"lab": 9}),
]


@pytest.mark.parametrize(("there", "slots"), BUSY)
def test_while_its_board_is_busy_a_patient_job_waits_and_others_go(
    there: list[BoardStatus], slots: dict[str, int]
) -> None:
    boards = [*there, board("b")]
    waits = demand("1", affinity="a", patient_until=LATER, priority=10)
    assert passed([waits], boards, slots=slots) == {}
    assert passed([waits, demand("2")], boards, slots=slots) == {"2": "b"}
    assert passed([waits], boards, slots=slots, now=LATER) == {"1": "b"}


@pytest.mark.parametrize(
    "there",
    [
        [],
        [board("a", health=Health.QUARANTINED)],
        [board("a", state=BoardState.DRAINING, leased=True)],
        [board("a", state=BoardState.RETIRED)],
        [board("a", "wrong", virtual=True)],
        [board("a", site="dead")],
        [board("a", site="dead", leased=True)],
    ],
)
def test_nobody_waits_for_a_board_that_work_alone_does_not_keep(there: list[BoardStatus]) -> None:
    waits = demand("1", affinity="a", patient_until=LATER)
    assert passed([waits], [*there, board("b")]) == {"1": "b"}


def test_of_two_who_prefer_one_board_the_patient_waits_and_the_other_takes_another() -> None:
    boards = [board("a"), board("b")]
    first, second = demand("1", affinity="a"), demand("2", at_s=1, affinity="a")
    patient = demand("2", at_s=1, affinity="a", patient_until=LATER)
    assert passed([first, second], boards) == {"1": "a", "2": "b"}
    assert passed([first, patient], boards) == {"1": "a"}


def test_a_board_that_broke_an_attempt_is_avoided() -> None:
    boards = [board("a"), board("b"), board("c")]
    for seed in range(20):
        assert passed([demand("1", avoid=frozenset({"a", "b"}))], boards, seed=seed) == {"1": "c"}
        assert passed([demand("1", avoid=frozenset({"a", "b"}), affinity="a")], boards, seed=seed) == {"1": "c"}


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (board("b", leased=True), {}),
        (board("b", health=Health.QUARANTINED), {}),
        (board("b", state=BoardState.MAINTENANCE), {}),
        (board("b", site="dead"), {}),
        (board("b", state=BoardState.RETIRED), {"1": "a"}),
        (board("b", virtual=True), {"1": "a"}),
    ],
)
def test_an_avoided_board_is_used_only_where_no_other_exists(other: BoardStatus, expected: dict[str, str]) -> None:
    for preferred in (None, "a"):
        one = demand("1", avoid=frozenset({"a"}), affinity=preferred)
        assert passed([one], [board("a"), other]) == expected


def test_within_a_group_only_the_avoided_board_is_avoided() -> None:
    boards = [board("v1", virtual=True), board("v2", virtual=True)]
    for seed in range(20):
        assert passed([demand("1", virtual=True, avoid=frozenset({"v1"}))], boards, seed=seed) == {"1": "v2"}
        assert set(passed([demand("1", virtual=True)], boards, seed=seed).values()) <= {"v1", "v2"}


def test_every_order_of_the_same_demands_and_boards_gives_the_same() -> None:
    demands: list[Demand] = [
        demand("1", project="p"),
        demand("2", "ssd", project="q"),
        demand("3", project="q", affinity="b", priority=10),
        demand("4", virtual=True, at_s=1),
        demand("5", avoid=frozenset({"a"})),
    ]
    boards = [board("a", "ssd"), board("b"), board("v", virtual=True), board("me", transport="local", site="home")]
    expected = passed(demands, boards, slots={"lab": 3, "home": 1})
    assert len(expected) == 4
    for order in itertools.permutations(demands):
        for shelf in itertools.permutations(boards):
            assert list(passed(order, shelf, slots={"lab": 3, "home": 1}).items()) == list(expected.items())


def test_which_of_several_equal_boards_is_taken_does_not_depend_on_their_order() -> None:
    boards = [board(f"b{n}") for n in range(5)]
    expected = passed([demand("1"), demand("2", at_s=1)], boards)
    for shelf in itertools.permutations(boards):
        assert passed([demand("1"), demand("2", at_s=1)], shelf) == expected


def test_wear_spreads_over_equal_boards() -> None:
    boards = [board(f"b{n}") for n in range(10)]
    seen = Counter(passed([demand("1")], boards, seed=seed)["1"] for seed in range(2000))
    chi_square = sum((seen[one.board.name] - 200) ** 2 / 200 for one in boards)
    assert chi_square < 27.9  # 9 degrees of freedom: exceeded by chance once in a thousand
