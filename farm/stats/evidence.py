"""SYM-E: anytime evidence, from pairs of Blocks, on how much worse a candidate is than its reference.

A pair gives `d = ln(candidate) - ln(reference)`, turned so that more is worse. What is assumed, and all of it:

- The order within a pair is a fair coin, and no Block touches the next. Then, where the arms are equal, `d` is
  symmetric around 0 given all pairs before it: whatever the law of the noise, its drift, autocorrelation or ties.
- A slowdown is a shift of `d`: where the candidate is worse by `mu`, `d - mu` is symmetric given the past.
- `sigma` of a pair is made of earlier pairs only. A wrong one costs time, never validity.

Then each factor `1 + (an odd, bounded, rising function of d)` has expectation at most 1 under the null, their product
is a nonnegative supermartingale, and by Ville's inequality it ever reaches 1/alpha with probability at most alpha.
Source: Ville, Étude critique de la notion de collectif (1939); Ramdas, Grünwald, Vovk and Shafer, Game-theoretic
statistics and safe anytime-valid inference, Statistical Science 38 (2023); de la Peña, A general class of exponential
inequalities for martingales and ratios, Annals of Probability 27 (1999), for the symmetric case.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Array = NDArray[np.float64]

FREEDOM = 4.0  # degrees of freedom of the t law whose likelihood ratio is the bet
MAD_TO_SD = 1.4826
PRIOR_POINTS = 10
FLOOR = 0.001  # no sigma below 0.1 %
CEILING = 1.0  # nor above: a spread this wide tells nothing
FARTHEST = 20.0  # a ratio of e^20, and of a figure that became 0, are this far apart

_SCORES: Array = np.abs(special.ndtri((np.arange(PRIOR_POINTS) + 0.5) / PRIOR_POINTS))


@dataclass(frozen=True, slots=True)
class Bets:
    """A mixture of bets: each on a shift of `scale` margins, with its weight."""

    scales: tuple[float, ...]
    weights: tuple[float, ...]


WORSE = Bets((0.5, 1.0, 2.0, 5.0, 20.0), (0.20, 0.45, 0.18, 0.12, 0.05))
"""Against "no slowdown"."""
WITHIN = Bets((0.5, 1.0, 1.5), (0.25, 0.55, 0.20))
"""Against "a slowdown of the margin or more"."""


def log_ratio(candidate: float, reference: float, *, higher_is_better: bool = False) -> float | None:
    """`d` of one pair: above 0 where the candidate is worse. None where the two have no ratio.

    Equal figures are 0 whatever their sign, a figure of 0 against a positive one is FARTHEST away; negative or missing
    ones have no ratio.
    """
    if math.isnan(candidate) or math.isnan(reference):
        return None
    if candidate == reference:
        return 0.0
    if min(candidate, reference) < 0 or math.isinf(max(candidate, reference)):
        return None
    if min(candidate, reference) == 0:
        d = FARTHEST if candidate > reference else -FARTHEST
    else:
        d = min(max(math.log(candidate) - math.log(reference), -FARTHEST), FARTHEST)
    return -d if higher_is_better else d


def margin(max_change: float, *, higher_is_better: bool = False) -> float:
    """`t`, the shift of `d` that a change by this share is: +2 % where lower is better, -2 % where higher is."""
    return -math.log1p(-max_change) if higher_is_better else math.log1p(max_change)


def change(shift: float, *, higher_is_better: bool = False) -> float:
    """The share by which a figure changes when `d` is shifted so, signed as the figure moves."""
    return math.expm1(-shift) if higher_is_better else math.expm1(shift)


def log_bet(x: ArrayLike, shift: ArrayLike, sigma: ArrayLike) -> Array:
    """ln(1 + tanh(r/2)) of the log likelihood ratio `r` of a shift against its opposite, held at its peak.

    `1 + tanh(r/2)` less 1 is odd, bounded by 1 and rising in x. Shapes broadcast.
    """
    shift, sigma = np.asarray(shift, float), np.asarray(sigma, float)
    peak = np.sqrt(shift**2 + FREEDOM * sigma**2)
    x = np.clip(np.asarray(x, float), -peak, peak)
    toward, away = ((x - shift) / sigma) ** 2 / FREEDOM, ((x + shift) / sigma) ** 2 / FREEDOM
    r = (FREEDOM + 1) / 2 * (np.log1p(away) - np.log1p(toward))
    found: Array = math.log(2) - np.logaddexp(0.0, -r)
    return found


def sigma_after(past: Array, prior: float, floor: float) -> Array:
    """The scale for the next pair. past: float64[..., n], the pairs before it; prior: sigma0.

    1.4826 MAD of the past around its median, together with PRIOR_POINTS normal scores at the prior.
    """
    if past.shape[-1]:
        past = np.abs(past - np.median(past, axis=-1, keepdims=True))
    pseudo = np.broadcast_to(prior * _SCORES, (*past.shape[:-1], PRIOR_POINTS))
    spread = MAD_TO_SD * np.median(np.concatenate([past, pseudo], axis=-1), axis=-1)
    found: Array = np.clip(spread, floor, max(CEILING, floor))
    return found


def mixed(logs: Array, bets: Bets) -> Array:
    """ln of the mixture, of the logs of its products. logs: float64[..., bets]."""
    found: Array = np.logaddexp.reduce(logs + np.log(bets.weights), axis=-1)
    return found


def log_steps(x: ArrayLike, t: float, sigma: ArrayLike, bets: Bets) -> Array:
    """What each pair adds to the logs of each bet's product. x, sigma: float64[...]; out: float64[..., bets]."""
    x, sigma = np.asarray(x, float)[..., None], np.asarray(sigma, float)[..., None]
    return log_bet(x, t * np.asarray(bets.scales), sigma)


@dataclass(frozen=True, slots=True)
class Tally:
    """The evidence on one metric against one reference so far: plain data, to be stored and gone on with."""

    t: float  # the margin, as a shift of d
    prior: float  # sigma0
    floor: float = FLOOR
    d: tuple[float, ...] = ()
    sigma: tuple[float, ...] = ()  # that each pair was judged with
    worse: tuple[float, ...] = (0.0,) * len(WORSE.scales)  # logs of the products, one a bet
    within: tuple[float, ...] = (0.0,) * len(WITHIN.scales)

    @property
    def log_worse(self) -> float:
        """ln E_fail: the evidence against "no slowdown"."""
        return float(mixed(np.asarray(self.worse), WORSE))

    @property
    def log_within(self) -> float:
        """ln E_pass: the evidence against "a slowdown of the margin or more"."""
        return float(mixed(np.asarray(self.within), WITHIN))

    def add(self, d: float) -> Tally:
        """With one more pair."""
        sigma = float(sigma_after(np.asarray(self.d), self.prior, self.floor))
        return replace(
            self,
            d=(*self.d, d),
            sigma=(*self.sigma, sigma),
            worse=tuple((np.asarray(self.worse) + log_steps(d, self.t, sigma, WORSE)).tolist()),
            within=tuple((np.asarray(self.within) + log_steps(self.t - d, self.t, sigma, WITHIN)).tolist()),
        )

    def as_json(self) -> dict[str, Any]:
        """Plain data; `tally_from` gives the same Tally back, to the last bit."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}


def tally_from(data: Mapping[str, Any]) -> Tally:
    """The Tally that `as_json` wrote."""
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in data.items()}
    return Tally(**values)


def interval(tally: Tally, log_low: float, log_high: float) -> tuple[float | None, float | None]:
    """The anytime interval of the shift: every shift that no look so far refuted. None: no bound on that side yet.

    A shift is refuted from below by evidence exp(log_low) that it is more, from above by exp(log_high) that it is less;
    with 1/alpha and 1/beta it holds the shift, at every look at once, with at least 1 - alpha - beta. It is made of the
    bets of the verdict: its lower end passes 0 exactly when E_fail reaches exp(log_low), its upper end the margin
    exactly when E_pass reaches exp(log_high).
    """
    if not tally.d:
        return None, None
    d, sigma = np.asarray(tally.d), np.asarray(tally.sigma)
    least, most = float(d.min()), float(d.max())
    reach = float(np.hypot(max(WORSE.scales) * tally.t, 2 * sigma.max()))  # beyond it every bet is at its peak

    def is_more(shifts: Array) -> NDArray[np.bool_]:
        return _ever(d - shifts[:, None], tally.t, sigma, WORSE) >= log_low

    def is_less(shifts: Array) -> NDArray[np.bool_]:
        return _ever(shifts[:, None] - d, tally.t, sigma, WITHIN) >= log_high

    low = _last_true(is_more, least - reach, most)
    high = _last_true(lambda shifts: is_less(-shifts), -(most + reach), -least)
    return low, None if high is None else -high


def paths(d: Array, t: float, prior: float, floor: float = FLOOR) -> tuple[Array, Array]:
    """ln E_fail and ln E_pass after each pair of many gates at once. d: float64[gates, pairs]; out: the same shape."""
    sigma = np.stack([sigma_after(d[:, :n], prior, floor) for n in range(d.shape[1])], axis=-1)
    return (
        mixed(np.cumsum(log_steps(d, t, sigma, WORSE), axis=1), WORSE),
        mixed(np.cumsum(log_steps(t - d, t, sigma, WITHIN), axis=1), WITHIN),
    )


def _ever(x: Array, t: float, sigma: Array, bets: Bets) -> Array:
    """The largest ln E over all looks. x: float64[shifts, pairs]."""
    found: Array = mixed(np.cumsum(log_steps(x, t, sigma, bets), axis=-2), bets).max(axis=-1)
    return found


def _last_true(is_true: Callable[[Array], NDArray[np.bool_]], start: float, end: float) -> float | None:
    """The largest shift of a grid, made finer twice, where a claim holds that fails from some shift on."""
    for _ in range(3):
        grid = np.linspace(start, end, 65)
        held = np.flatnonzero(is_true(grid))
        if not len(held):
            return None
        last = int(held[-1])
        start, end = float(grid[last]), float(grid[min(last + 1, len(grid) - 1)])
    return start
