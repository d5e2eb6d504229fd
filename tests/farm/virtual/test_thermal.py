"""The thermal model: heats, cools, throttles at its limits and recovers below them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from farm.virtual import thermal
from farm.virtual.thermal import Level, Profile, State

BODY = Profile(
    ambient_c=20.0, resistance_k_per_w=10.0, time_constant_s=10.0, idle_w=2.0, load_w=6.0,
    soft_c=80.0, hard_c=85.0, soft_factor=0.6, hard_factor=0.3, hysteresis_c=3.0,
)  # fmt: skip


def _after(state: State, seconds: int, cpu_ratio: float) -> State:
    for _ in range(seconds * 5):
        state = thermal.step(BODY, state, 0.2, cpu_ratio)
    return state


@pytest.mark.parametrize(("given", "heated_c"), [(-1.0, 40.0), (0.0, 40.0), (1.0, 100.0), (7.0, 100.0)])
def test_no_load_beyond_a_core_and_none_below_nothing_counts(given: float, heated_c: float) -> None:
    assert thermal.step(BODY, thermal.rest(BODY), 1e6, given).temp_c == pytest.approx(heated_c)


def test_a_step_of_no_time_changes_nothing() -> None:
    assert thermal.step(BODY, State(63.0), 0.0, 1.0).temp_c == 63.0


def test_at_rest_it_has_the_temperature_of_its_idle_power() -> None:
    assert thermal.rest(BODY) == State(40.0)
    assert thermal.is_settled(BODY, State(40.0))


@pytest.mark.parametrize("state", [State(41.0), State(40.0, cpu_ratio=0.1), State(40.0, level=Level.SOFT)])
def test_it_is_not_settled_while_warm_busy_or_throttled(state: State) -> None:
    assert not thermal.is_settled(BODY, state)


def test_after_one_time_constant_it_has_gone_63_percent_of_the_way() -> None:
    assert thermal.step(BODY, thermal.rest(BODY), 10.0, 1.0).temp_c == pytest.approx(77.93, abs=0.01)


def test_many_small_steps_are_one_large_one() -> None:
    assert _after(thermal.rest(BODY), 8, 0.5).temp_c == pytest.approx(
        thermal.step(BODY, thermal.rest(BODY), 8.0, 0.5).temp_c
    )


def test_it_cools_towards_its_rest_and_never_below() -> None:
    assert _after(State(70.0), 10, 0.0).temp_c == pytest.approx(51.04, abs=0.01)
    assert _after(State(70.0), 1000, 0.0).temp_c == pytest.approx(40.0)


@pytest.mark.parametrize(
    ("temp_c", "before", "after"),
    [
        (79.9, Level.FREE, Level.FREE),
        (80.1, Level.FREE, Level.SOFT),
        (85.1, Level.FREE, Level.HARD),
        (84.0, Level.FREE, Level.SOFT),
        (77.1, Level.SOFT, Level.SOFT),
        (76.9, Level.SOFT, Level.FREE),
        (85.1, Level.SOFT, Level.HARD),
        (82.1, Level.HARD, Level.HARD),
        (81.9, Level.HARD, Level.SOFT),
        (77.1, Level.HARD, Level.SOFT),
        (76.9, Level.HARD, Level.FREE),
    ],
)
def test_a_limit_holds_until_it_is_three_degrees_below(temp_c: float, before: Level, after: Level) -> None:
    assert thermal.step(BODY, State(temp_c, level=before), 0.0, 0.0).level is after


def test_each_level_leaves_its_share_of_the_clock() -> None:
    assert [thermal.clock_factor(BODY, level) for level in Level] == [1.0, 0.6, 0.3]


def test_what_was_worst_is_remembered_after_it_cooled() -> None:
    cooled = _after(_after(thermal.rest(BODY), 30, 1.0), 100, 0.0)
    assert (cooled.level, cooled.worst) == (Level.FREE, Level.HARD)


def test_a_load_that_throttling_makes_bearable_goes_to_and_fro_around_the_soft_limit() -> None:
    state, seen = thermal.rest(BODY), set()
    for _ in range(5 * 300):
        state = thermal.step(BODY, state, 0.2, thermal.clock_factor(BODY, state.level))
        seen.add(state.level)
    assert seen == {Level.FREE, Level.SOFT}
    assert 76.0 < state.temp_c < 81.0


def test_a_cool_body_never_throttles() -> None:
    cool = replace(BODY, resistance_k_per_w=5.0)
    assert thermal.step(cool, thermal.rest(cool), 1e9, 1.0) == State(60.0, 1.0, Level.FREE, Level.FREE)
