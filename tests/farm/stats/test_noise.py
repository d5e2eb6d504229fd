"""A Board's noise from a canary, and what it allows."""

from __future__ import annotations

import math

import pytest

from farm.stats import noise


def test_a_canary_of_too_few_pairs_says_nothing() -> None:
    assert noise.noise([]) is None
    assert noise.noise([0.01] * 7) is None


def test_a_canary_gives_the_spread_and_a_wider_prior() -> None:
    found = noise.noise([-0.02, -0.01, 0.0, 0.01, 0.02] * 4)
    assert found is not None
    assert found.sd == pytest.approx(0.014826)
    assert found.sigma0 == pytest.approx(1.3 * 0.014826)
    assert found.pairs == 20


def test_one_wild_pair_does_not_move_a_boards_noise() -> None:
    calm = noise.noise([-0.01, 0.01] * 10)
    wild = noise.noise([-0.01, 0.01] * 9 + [5.0, 0.01])
    assert calm is not None
    assert wild is not None
    assert wild.sd == pytest.approx(calm.sd, rel=0.01)


def test_a_constant_metric_has_no_noise_and_any_margin_is_resolved() -> None:
    found = noise.noise([0.0] * 20)
    assert found is not None
    assert found.sigma0 == 0.0
    assert noise.smallest_margin(found.sd) == 0.0


def test_fewer_pairs_need_a_wider_margin() -> None:
    assert noise.smallest_margin(0.015) == pytest.approx(math.expm1(0.01))
    assert noise.smallest_margin(0.015, 20) == pytest.approx(math.expm1(0.02))


@pytest.mark.parametrize(("quantum", "level", "floor"), [(4096.0, 90e6, 0.001), (1.0, 50.0, 0.01), (1.0, 0.0, 0.001)])
def test_no_sigma_is_below_half_a_step_of_the_metric(quantum: float, level: float, floor: float) -> None:
    assert noise.floor(quantum, level) == pytest.approx(floor)


@pytest.mark.parametrize(
    ("start_s", "within", "between", "queries"),
    [
        (0.8, 0.03, 0.01, 27),  # sqrt(0.8 / 0.01) * 3
        (30.0, 0.03, 0.01, 165),
        (0.001, 0.03, 0.01, 25),
        (30.0, 0.03, 0.0, 1000),
        (30.0, 0.0, 0.01, 25),
        (30.0, None, 0.01, 50),
        (math.nan, 0.03, 0.01, 50),
    ],
)
def test_a_block_has_as_many_queries_as_tell_most_within_bounds(
    start_s: float, within: float | None, between: float, queries: int
) -> None:
    assert noise.queries(start_s, 0.01, within, between) == queries
