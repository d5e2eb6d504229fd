"""Noise laws: how the Blocks of two arms that are equal differ, in time order, and how a coin makes pairs of them.

Everything is in log units, 0.01 = 1 %. What is simulated is the *slots* of a board, one after the other, with whatever
the law does to them; which arm gets which slot is then decided by the coin. So order effects and drift are there, and
it is the coin that must take them away.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Array = NDArray[np.float64]
Law = Callable[[Generator, int, int], Array]  # rng, gates, slots -> float64[gates, slots], about 1 wide


def normal(rng: Generator, gates: int, slots: int) -> Array:
    """Independent, normal."""
    return rng.standard_normal((gates, slots))


def cauchy(rng: Generator, gates: int, slots: int) -> Array:
    """Independent, without a mean."""
    return 0.5 * rng.standard_cauchy((gates, slots))


def bimodal(rng: Generator, gates: int, slots: int) -> Array:
    """Each process falls into one of two modes, far apart."""
    return 3.0 * rng.integers(0, 2, (gates, slots)) + 0.1 * rng.standard_normal((gates, slots))


def skewed(rng: Generator, gates: int, slots: int) -> Array:
    """Only ever slower: exponential."""
    return rng.standard_exponential((gates, slots))


def spikes(rng: Generator, gates: int, slots: int) -> Array:
    """Normal, with every tenth slot in a burst of 20 times its width."""
    return normal(rng, gates, slots) + 20.0 * (rng.random((gates, slots)) < 0.1)


def ties(rng: Generator, gates: int, slots: int) -> Array:
    """Three values, so that 60 % of pairs are ties."""
    values: Array = rng.choice([-1.5, 0.0, 1.5], (gates, slots), p=[0.1225, 0.755, 0.1225])
    return values


def walk(rng: Generator, gates: int, slots: int) -> Array:
    """A random walk: the board never comes back."""
    return np.cumsum(rng.standard_normal((gates, slots)), axis=1)


def ar1(rng: Generator, gates: int, slots: int) -> Array:
    """Autocorrelated: each slot has 90 % of the last."""
    shocks = rng.standard_normal((gates, slots))
    out = np.empty_like(shocks)
    out[:, 0] = shocks[:, 0] / np.sqrt(1 - 0.9**2)
    for n in range(1, slots):
        out[:, n] = 0.9 * out[:, n - 1] + shocks[:, n]
    return out


def drift(rng: Generator, gates: int, slots: int) -> Array:
    """The board warms up: each slot is slower than the one before, by half a width."""
    return normal(rng, gates, slots) + 0.5 * np.arange(slots)


def second_slower(rng: Generator, gates: int, slots: int) -> Array:
    """An order effect: the second slot of every pair is slower by a width."""
    return normal(rng, gates, slots) + (np.arange(slots) % 2)


def louder(rng: Generator, gates: int, slots: int) -> Array:
    """The noise grows while the gate runs, tenfold in all."""
    return normal(rng, gates, slots) * np.linspace(0.3, 3.0, slots)


LAWS: dict[str, Law] = {
    law.__name__: law
    for law in (normal, cauchy, bimodal, skewed, spikes, ties, walk, ar1, drift, second_slower, louder)
}


def pairs(law: Law, rng: Generator, gates: int, pairs: int, *, width: float = 0.01, fair: bool = True) -> Array:
    """`d` of each pair of two equal arms: float64[gates, pairs]. Without a fair coin the candidate is always second."""
    slots = width * law(rng, gates, 2 * pairs).reshape(gates, pairs, 2)
    second = rng.random((gates, pairs)) < 0.5 if fair else np.ones((gates, pairs), bool)
    rise = slots[..., 1] - slots[..., 0]
    return np.where(second, rise, -rise)
