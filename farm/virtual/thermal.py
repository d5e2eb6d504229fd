"""How warm a virtual board is: one thermal mass with one resistance to the room, and two limits. Pure arithmetic.

Everything here is MODELLED; no figure that comes of it was ever measured. The temperature goes towards
`ambient_c + power_w * resistance_k_per_w` with one time constant (first-order RC). Above a limit the clock is lowered
by the limit's factor, and stays so until the temperature is `hysteresis_c` below it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    """How hard the board throttles."""

    FREE = 0
    SOFT = 1
    HARD = 2


@dataclass(frozen=True, slots=True)
class Profile:
    """A body and its limits."""

    ambient_c: float
    resistance_k_per_w: float
    time_constant_s: float
    idle_w: float
    load_w: float  # more, with one core busy: a model with one thread shall be able to heat the board
    soft_c: float
    hard_c: float
    soft_factor: float  # of the full clock
    hard_factor: float
    hysteresis_c: float = 3.0


@dataclass(frozen=True, slots=True)
class State:
    """The board now."""

    temp_c: float
    cpu_ratio: float = 0.0  # since the step before; 1 = at least one core busy
    level: Level = Level.FREE
    worst: Level = Level.FREE  # since the board was started


def rest(profile: Profile) -> State:
    """The board after a long time without work."""
    return State(profile.ambient_c + profile.idle_w * profile.resistance_k_per_w)


def step(profile: Profile, state: State, dt_s: float, cpu_ratio: float) -> State:
    """The board `dt_s` later, when `cpu_ratio` of a core was busy meanwhile."""
    cpu_ratio = min(1.0, max(0.0, cpu_ratio))
    target_c = profile.ambient_c + power_w(profile, cpu_ratio) * profile.resistance_k_per_w
    temp_c = target_c + (state.temp_c - target_c) * math.exp(-dt_s / profile.time_constant_s)
    level = _level(profile, state.level, temp_c)
    return State(temp_c, cpu_ratio, level, max(state.worst, level))


def power_w(profile: Profile, cpu_ratio: float) -> float:
    """What it turns into heat at that load."""
    return profile.idle_w + profile.load_w * cpu_ratio


def clock_factor(profile: Profile, level: Level) -> float:
    """The share of the full clock that is left."""
    return (1.0, profile.soft_factor, profile.hard_factor)[level]


def is_settled(profile: Profile, state: State) -> bool:
    """True where nothing changes any more without work."""
    return state.cpu_ratio == 0.0 and state.level is Level.FREE and abs(state.temp_c - rest(profile).temp_c) < 0.05


def _level(profile: Profile, level: Level, temp_c: float) -> Level:
    limits_c = {Level.SOFT: profile.soft_c, Level.HARD: profile.hard_c}
    reached = max((each for each, limit_c in limits_c.items() if temp_c >= limit_c), default=Level.FREE)
    held = max((each for each in limits_c if each <= level and temp_c >= limits_c[each] - profile.hysteresis_c),
               default=Level.FREE)  # fmt: skip
    return max(reached, held)
