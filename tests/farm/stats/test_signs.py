"""Evidence from signs alone: how many it takes, and the order statistics that bound a median."""

from __future__ import annotations

import math

import pytest

from farm.stats import signs


def test_no_sign_is_no_evidence() -> None:
    assert signs.log_evidence(0, 0) == pytest.approx(0.0)


def test_as_many_plus_as_minus_speak_against_it() -> None:
    assert signs.log_evidence(10, 10) < 0


@pytest.mark.parametrize(("enough", "n"), [(20, 5), (100, 8), (5000, 14)])
def test_signs_that_all_agree_are_enough_after_a_few(enough: float, n: int) -> None:
    assert signs.fewest(math.log(enough)) == n


def test_one_contrary_sign_does_not_ruin_the_evidence() -> None:
    assert signs.log_evidence(30, 1) > math.log(100)


def test_the_expected_evidence_of_the_next_fair_sign_is_what_it_was() -> None:
    for plus in range(6):
        for minus in range(6):
            after = [math.exp(signs.log_evidence(plus + 1, minus)), math.exp(signs.log_evidence(plus, minus + 1))]
            assert sum(after) / 2 == pytest.approx(math.exp(signs.log_evidence(plus, minus)))


def test_too_few_values_bound_no_median() -> None:
    assert signs.median_bounds([], 4.6, 3.0) == (None, None)
    assert signs.median_bounds([1.0, 2.0, 3.0, 4.0], math.log(100), math.log(20)) == (None, None)


def test_five_values_bound_the_median_from_above_and_eight_from_below() -> None:
    assert signs.median_bounds([5.0, 1.0, 3.0, 2.0, 4.0], math.log(100), math.log(20)) == (None, 5.0)
    low, high = signs.median_bounds([float(n) for n in range(1, 9)], math.log(100), math.log(20))
    assert low == 1.0
    assert high is not None
    assert 5.0 <= high <= 8.0


def test_a_constant_is_its_own_bound() -> None:
    assert signs.median_bounds([7.0] * 9, math.log(100), math.log(20)) == (7.0, 7.0)
