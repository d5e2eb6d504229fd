"""When the next query is due and when the window ends, by a clock that is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from farm_agent.runtime import OptionError, check_options
from farm_agent.scenario import SPIN_NS, Rows, Window, rows_for, run
from farm_agent.scenarios import paced

MS = 1_000_000
FAR = 10**18


class Told:
    """A clock that only moves by queries of told durations, by sleeping, and by 1 ns for each look at it."""

    def __init__(self, durations_ns: Sequence[int]) -> None:
        self.t_ns = 0
        self.slept_ns: list[int] = []
        self._durations = list(durations_ns)
        self.made = 0

    def now(self) -> int:
        self.t_ns += 1
        return self.t_ns

    def sleep(self, seconds: float) -> None:
        self.slept_ns.append(round(seconds * 1e9))
        self.t_ns += round(seconds * 1e9)

    def query(self) -> None:
        self.t_ns += self._durations[min(self.made, len(self._durations) - 1)]
        self.made += 1

    def run(self, due_ns: Callable[[int], int] | None, window: Window, capacity: int = 4) -> Rows:
        rows = Rows(capacity, due_ns is not None)
        run(self.query, due_ns, window, rows, self.now, self.sleep)
        rows.cut()
        return rows


def test_the_window_lasts_its_time_even_when_the_least_number_of_queries_is_reached() -> None:
    rows = Told([2 * MS]).run(None, Window(20 * MS, 3, FAR))

    assert rows.n == 10
    assert not rows.is_capped


def test_the_window_lasts_until_the_least_number_of_queries_when_its_time_is_over() -> None:
    rows = Told([50 * MS]).run(None, Window(20 * MS, 3, FAR))

    assert rows.n == 3
    assert rows.end_ns >= 150 * MS


def test_the_cap_ends_the_window_before_its_rule_does() -> None:
    rows = Told([50 * MS]).run(None, Window(20 * MS, 64, 120 * MS))

    assert (rows.n, rows.is_capped) == (3, True)


def test_at_least_one_query_is_made_even_after_the_cap() -> None:
    assert Told([MS]).run(None, Window(0, 64, 0)).n == 1
    assert Told([MS]).run(paced.schedule({"fps": 1}, 0), Window(0, 64, 0)).n == 1


def test_starts_and_durations_are_kept_for_each_query() -> None:
    rows = Told([5, 7, 9]).run(None, Window(0, 3, FAR))

    assert rows.t_ns.tolist() == [1, 8, 17]
    assert rows.latency_ns.tolist() == [6, 8, 10]  # 1 ns is the told clock's own step


def test_more_queries_than_expected_find_room_between_two_queries() -> None:
    told = Told([10])
    rows = told.run(None, Window(0, 100, FAR), capacity=8)

    assert (rows.n, told.made, len(rows.t_ns)) == (100, 100, 100)
    assert rows.latency_ns.tolist() == [11] * 100
    assert rows.grown_bytes == 2 * 8 * 65536


def test_paced_queries_are_due_at_exact_multiples_of_the_interval() -> None:
    due = paced.schedule({"fps": 30.0}, 1_000)

    assert [due(n) - 1_000 for n in (0, 1, 2, 3, 30_000)] == [0, 33_333_333, 66_666_667, 100_000_000, 1000 * 10**9]


def test_a_paced_query_in_time_counts_from_its_due_time_and_sleeps_until_shortly_before() -> None:
    told = Told([2 * MS])
    rows = told.run(paced.schedule({"fps": 100}, 0), Window(100 * MS, 3, FAR))

    assert rows.n == 10
    assert rows.t_ns.tolist() == [n * 10 * MS for n in range(10)]
    assert all(2 * MS <= latency < 2 * MS + 10 for latency in rows.latency_ns)
    assert all(0 <= delay < 10 for delay in rows.delay_ns)
    assert all(8 * MS - SPIN_NS - 20 < slept < 8 * MS - SPIN_NS for slept in told.slept_ns)


def test_a_stall_shows_as_a_queue_in_latency_and_start_delay() -> None:
    rows = Told([1 * MS, 35 * MS, 1 * MS]).run(paced.schedule({"fps": 100}, 0), Window(60 * MS, 1, FAR))

    whole_ms = [latency // MS for latency in rows.latency_ns]
    assert whole_ms == [1, 35, 26, 17, 8, 1]
    assert [delay // MS for delay in rows.delay_ns] == [0, 0, 25, 16, 7, 0]


def test_every_query_that_fell_due_within_the_window_is_made_however_slow_they_are() -> None:
    rows = Told([100 * MS]).run(paced.schedule({"fps": 100}, 0), Window(50 * MS, 1, FAR))

    assert rows.n == 5
    assert rows.latency_ns[4] // MS == 460
    assert not rows.is_capped


def test_paced_goes_on_for_the_least_number_of_queries_but_not_past_the_cap() -> None:
    assert Told([MS]).run(paced.schedule({"fps": 10}, 0), Window(100 * MS, 7, FAR)).n == 7
    capped = Told([MS]).run(paced.schedule({"fps": 10}, 0), Window(100 * MS, 7, 350 * MS))
    assert (capped.n, capped.is_capped) == (4, True)


@pytest.mark.parametrize("fps", [0, -1, 0.001, float("inf"), float("nan"), "30", True, None])
def test_an_impossible_fps_is_refused(fps: object) -> None:
    with pytest.raises(OptionError, match="fps"):
        check_options(paced.OPTIONS, {"fps": fps}, "scenario 'paced'")


def test_a_whole_fps_is_the_same_plan_as_the_fraction() -> None:
    assert repr(check_options(paced.OPTIONS, {"fps": 25}, "scenario 'paced'")) == "{'fps': 25.0}"


def test_room_is_made_for_what_the_warm_up_lets_expect() -> None:
    warm = Rows(8)
    warm.latency_ns[0:4] = type(warm.latency_ns)("q", [90 * MS, 10 * MS, 10 * MS, 11 * MS])
    warm.n = 4
    warm.cut()

    assert len(rows_for(warm, None, 1000 * MS, 64).t_ns) == 125 + 65
    assert len(rows_for(warm, paced.schedule({"fps": 50}, 0), 1000 * MS, 64).delay_ns) == 62 + 65
    assert len(rows_for(Rows(0), None, 1000 * MS, 64).t_ns) == 1 + 65
