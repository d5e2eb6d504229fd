"""SYM-E: the bets, the Tally that is stored and gone on with, the interval. Error rates are in test_evidence_rates."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.stats import evidence
from farm.stats.evidence import Tally

T = evidence.margin(0.02)
ds = st.floats(-20, 20) | st.floats(-0.1, 0.1)
sigmas = st.floats(0.001, 1.0)
shifts = st.floats(0.001, 2.0)


def _tally(*d: float, prior: float = 0.02) -> Tally:
    tally = Tally(T, prior)
    for one in d:
        tally = tally.add(one)
    return tally


@pytest.mark.parametrize(
    ("candidate", "reference"), [(-1.0, 1.0), (1.0, -1.0), (math.nan, 1.0), (1.0, math.nan), (math.inf, 1.0)]
)
def test_negative_missing_and_infinite_figures_have_no_ratio(candidate: float, reference: float) -> None:
    assert evidence.log_ratio(candidate, reference) is None


@pytest.mark.parametrize(
    ("candidate", "reference", "d"),
    [
        (0.0, 0.0, 0.0),
        (-3.0, -3.0, 0.0),
        (5.0, 0.0, 20.0),
        (0.0, 5.0, -20.0),
        (math.e, 1.0, 1.0),
        (1e300, 1e-300, 20.0),
    ],
)
def test_equal_figures_do_not_differ_and_a_figure_that_became_zero_is_far_away(
    candidate: float, reference: float, d: float
) -> None:
    assert evidence.log_ratio(candidate, reference) == pytest.approx(d)
    assert evidence.log_ratio(candidate, reference, higher_is_better=True) == pytest.approx(-d)


def test_a_margin_is_of_the_figure_as_it_is_read_up_or_down() -> None:
    assert evidence.margin(0.02) == pytest.approx(math.log(1.02))
    assert evidence.margin(0.02, higher_is_better=True) == pytest.approx(-math.log(0.98))
    assert evidence.change(evidence.margin(0.02, higher_is_better=True), higher_is_better=True) == pytest.approx(-0.02)


@given(ds, ds, shifts, sigmas)
def test_a_bet_never_falls_as_the_candidate_gets_worse(one: float, other: float, shift: float, sigma: float) -> None:
    low, high = sorted((one, other))
    assert evidence.log_bet(low, shift, sigma) <= evidence.log_bet(high, shift, sigma) + 1e-9


@given(ds, shifts, sigmas)
def test_a_bet_wins_on_one_side_what_it_loses_on_the_other(x: float, shift: float, sigma: float) -> None:
    log_gain, log_loss = evidence.log_bet(x, shift, sigma), evidence.log_bet(-x, shift, sigma)
    gain, loss = math.exp(log_gain) - 1, math.exp(log_loss) - 1
    assert gain + loss == pytest.approx(0.0, abs=1e-12)
    assert -1 <= gain <= 1  # but for rounding within both
    assert math.isfinite(log_gain)  # no pair ruins what was won before
    assert math.isfinite(log_loss)


@given(st.lists(ds, max_size=12), ds, ds)
def test_evidence_rises_with_the_last_pair(before: list[float], one: float, other: float) -> None:
    low, high = sorted((one, other))
    better, worse = _tally(*before, low), _tally(*before, high)
    assert better.log_worse <= worse.log_worse + 1e-9
    assert better.log_within >= worse.log_within - 1e-9


@settings(max_examples=50)
@given(st.lists(ds, max_size=15), st.lists(ds, max_size=5))
def test_a_stored_tally_goes_on_as_the_one_that_was_kept(before: list[float], after: list[float]) -> None:
    kept = _tally(*before)
    restored = evidence.tally_from(json.loads(json.dumps(kept.as_json())))
    for d in after:
        kept, restored = kept.add(d), restored.add(d)
    assert restored == kept


def test_many_gates_at_once_are_what_each_is_alone() -> None:
    d = np.random.default_rng(1).standard_cauchy((3, 30)) * 0.01
    worse, within = evidence.paths(d, T, 0.02)
    for row, gate in enumerate(d):
        tally = Tally(T, 0.02)
        for n, one in enumerate(gate):
            tally = tally.add(float(one))
            assert tally.log_worse == pytest.approx(worse[row, n], abs=1e-9)
            assert tally.log_within == pytest.approx(within[row, n], abs=1e-9)


def test_a_pair_is_judged_by_the_spread_of_those_before_it() -> None:
    assert _tally(0.5).sigma == pytest.approx((0.02,), rel=0.01)
    assert _tally(0.01, 5.0).sigma == _tally(0.01, -5.0).sigma
    assert evidence.sigma_after(np.full(60, 0.3), 0.0, 0.004) == 0.004
    assert evidence.sigma_after(np.asarray([-20.0, 20.0] * 30), 0.02, 0.001) == 1.0


def test_a_tie_says_nothing_of_a_slowdown_and_much_for_a_pass() -> None:
    constant = _tally(*[0.0] * 12)
    assert constant.log_worse == pytest.approx(0.0)
    assert constant.log_within > math.log(20)


def test_no_pair_can_more_than_double_the_evidence() -> None:
    assert _tally(*[20.0] * 6).log_worse < math.log(100)
    assert _tally(*[20.0] * 7).log_worse < 7 * math.log(2)
    assert _tally(*[-20.0] * 4).log_within < math.log(20)


def test_a_large_slowdown_is_found_in_seven_pairs() -> None:
    assert _tally(*[0.5] * 7, prior=0.005).log_worse > math.log(100)


def test_a_wild_pair_costs_a_bounded_factor() -> None:
    calm = _tally(*[0.05] * 10)
    wild = calm.add(-20.0)
    wilder = _tally(*[0.05] * 10, -0.5)
    assert calm.log_worse > math.log(100)
    assert wild.log_worse == pytest.approx(wilder.log_worse)
    for _ in range(20):
        wild = wild.add(0.05)
    assert wild.log_worse > math.log(100)


def test_an_interval_has_no_ends_before_there_is_evidence() -> None:
    assert evidence.interval(Tally(T, 0.02), 4.6, 3.0) == (None, None)
    assert evidence.interval(_tally(0.0, 0.0), 4.6, 3.0) == (None, None)


@pytest.mark.parametrize("seed", range(4))
def test_the_interval_and_the_verdict_cannot_disagree(seed: int) -> None:
    d = np.random.default_rng(seed).normal(0.01, 0.02, 60)
    log_low, log_high = math.log(100), math.log(20)
    tally, worst, best = Tally(T, 0.02), 0.0, 0.0
    for one in d:
        tally = tally.add(float(one))
        worst, best = max(worst, tally.log_worse), max(best, tally.log_within)
        low, high = evidence.interval(tally, log_low, log_high)
        assert (low is not None and low > 1e-6) == (worst >= log_low)
        assert (high is not None and high < T - 1e-6) == (best >= log_high)


@given(st.lists(st.floats(-0.05, 0.05), min_size=14, max_size=20), st.floats(-0.5, 0.5))
@settings(max_examples=30, deadline=None)
def test_an_interval_narrows_and_never_widens(d: list[float], last: float) -> None:
    before = evidence.interval(_tally(*d), 3.0, 3.0)
    after = evidence.interval(_tally(*d, last), 3.0, 3.0)
    for old, new, sign in ((before[0], after[0], 1), (before[1], after[1], -1)):
        if old is not None:
            assert new is not None
            assert sign * new >= sign * old - 1e-4
