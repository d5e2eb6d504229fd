"""The error rates of SYM-E and of signs, by simulation of slots and coin. They hold at every look, so ever is asked."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from benchmarks import laws
from farm.stats import evidence, signs

ALPHA, BETA, LOOKS, GATES = 0.01, 0.05, 60, 2000
T = evidence.margin(0.02)


def _most(rate: float, gates: int = GATES) -> float:
    """The most gates that may be wrong: one in 10,000 simulations of a rate that just holds has more."""
    return float(stats.binom.isf(1e-4, gates, rate))


@pytest.mark.parametrize("law", sorted(laws.LAWS))
def test_equal_arms_fail_and_arms_at_the_margin_pass_as_rarely_as_promised_whatever_the_noise(law: str) -> None:
    d = laws.pairs(laws.LAWS[law], np.random.default_rng(11), GATES, LOOKS)
    log_worse, _ = evidence.paths(d, T, 0.02)
    _, log_within = evidence.paths(d + T, T, 0.02)
    assert np.count_nonzero(log_worse.max(axis=1) >= math.log(1 / ALPHA)) <= _most(ALPHA)
    assert np.count_nonzero(log_within.max(axis=1) >= math.log(1 / BETA)) <= _most(BETA)


@pytest.mark.parametrize("prior", [0.0005, 0.3])
def test_a_wrong_prior_costs_no_validity(prior: float) -> None:
    d = laws.pairs(laws.normal, np.random.default_rng(12), GATES, LOOKS)
    log_worse, _ = evidence.paths(d, T, prior)
    _, log_within = evidence.paths(d + T, T, prior)
    assert np.count_nonzero(log_worse.max(axis=1) >= math.log(1 / ALPHA)) <= _most(ALPHA)
    assert np.count_nonzero(log_within.max(axis=1) >= math.log(1 / BETA)) <= _most(BETA)


def test_a_better_candidate_and_one_beyond_the_margin_are_wronged_more_rarely_still() -> None:
    d = laws.pairs(laws.skewed, np.random.default_rng(13), GATES, LOOKS)
    log_worse, _ = evidence.paths(d - 0.01, T, 0.02)
    _, log_within = evidence.paths(d + 2 * T, T, 0.02)
    assert np.count_nonzero(log_worse.max(axis=1) >= math.log(1 / ALPHA)) <= _most(ALPHA) / 2
    assert np.count_nonzero(log_within.max(axis=1) >= math.log(1 / BETA)) <= _most(BETA) / 2


@pytest.mark.parametrize("law", ["drift", "second_slower"])
def test_without_the_coin_the_rates_would_not_hold(law: str) -> None:
    d = laws.pairs(laws.LAWS[law], np.random.default_rng(14), 500, LOOKS, fair=False)
    log_worse, _ = evidence.paths(d, T, 0.02)
    assert np.count_nonzero(log_worse.max(axis=1) >= math.log(1 / ALPHA)) > 100


@pytest.mark.parametrize("law", ["normal", "skewed", "walk", "ties"])
def test_the_interval_holds_the_effect_at_every_look(law: str) -> None:
    gates, effect = 400, 0.008
    d = laws.pairs(laws.LAWS[law], np.random.default_rng(15), gates, 40) + effect
    # an interval's end has ever been beyond the effect exactly when the effect was ever refuted
    log_more = evidence.paths(d - effect, T, 0.02)[0].max(axis=1)
    log_less = evidence.paths(d - effect + T, T, 0.02)[1].max(axis=1)
    wrong = (log_more >= math.log(1 / ALPHA)) | (log_less >= math.log(1 / BETA))
    assert np.count_nonzero(wrong) <= _most(ALPHA + BETA, gates)
    for row in [*np.flatnonzero(wrong)[:3].tolist(), 0, 1, 2]:
        tally = evidence.Tally(T, 0.02)
        for one in d[row]:
            tally = tally.add(float(one))
        low, high = evidence.interval(tally, math.log(1 / ALPHA), math.log(1 / BETA))
        is_out = (low is not None and low > effect) or (high is not None and high < effect)
        assert is_out == bool(wrong[row])


def test_what_the_specification_reached_is_reached() -> None:
    rng = np.random.default_rng(16)
    d = laws.pairs(laws.normal, rng, 1000, 80, width=0.0113)

    def ended(effect: float) -> tuple[float, float]:
        log_worse, log_within = evidence.paths(d + math.log1p(effect), T, 0.02)
        fail, passed = log_worse >= math.log(1 / ALPHA), log_within >= math.log(1 / BETA)
        first = [np.where(one.any(1), one.argmax(1), 80) for one in (fail, passed)]
        pairs = np.minimum(np.minimum(*first), 79) + 2  # the warm-up pair included
        return float((first[0] < first[1]).mean()), 2.6 * float(pairs.mean())

    (none, none_s), (half, _), (full, full_s), (five, five_s) = (ended(one) for one in (0.0, 0.01, 0.02, 0.05))
    assert none <= 0.005
    assert 0.25 <= half <= 0.45
    assert full >= 0.97
    assert five == 1.0
    assert none_s <= 26
    assert full_s <= 37
    assert five_s <= 25


@pytest.mark.parametrize(("rate", "plus"), [(ALPHA, 0.5), (BETA, 0.5), (ALPHA, 0.4)])
def test_signs_that_are_no_more_often_plus_are_rarely_taken_for_it(rate: float, plus: float) -> None:
    seen = (np.random.default_rng(17).random((GATES, LOOKS)) < plus).cumsum(axis=1)
    table = np.array([[signs.log_evidence(k, max(n - k, 0)) for k in range(LOOKS + 1)] for n in range(LOOKS + 1)])
    log_e = table[np.arange(1, LOOKS + 1), seen]
    assert np.count_nonzero(log_e.max(axis=1) >= math.log(1 / rate)) <= _most(rate)
