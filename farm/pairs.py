"""What a Gate sees and knows: what each Block of a pair gave, and the Evidence of all pairs so far, as plain data.

A pair is one Block of the candidate and one of each Reference, in an order that a coin decides. History of VERSION, of
the stored Evidence: 1 the first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from farm import domain, rules
from farm.rules import Gate, Reference, Rule
from farm.stats import evidence, summary

VERSION = 1
PROOF = "*"  # the letter of the board's reference model, where no Reference can show that the board works
DEFAULT_SIGMA0 = 0.02  # until the Board's first canary

State = Literal["ok", "flagged", "failed"]


@dataclass(frozen=True, slots=True)
class Setup:
    """What a gate starts from; it never changes while evidence is gathered."""

    gate: Gate
    candidate: str  # letter of its Arm
    references: Mapping[str, str]  # name -> letter, of those that were found
    seed: int  # of the coin
    sigma0: Mapping[str, float] = field(default_factory=dict)  # metric -> of the Board's last canary
    floor: Mapping[str, float] = field(default_factory=dict)  # metric -> smallest sigma, where its quantum is coarse

    @property
    def compared(self) -> list[tuple[Reference, Rule, float]]:
        """Each comparison with its margin as a shift of d."""
        gate = self.gate
        return [
            (reference, rule, evidence.margin(share, higher_is_better=rule.higher_is_better))
            for reference in sorted(gate.references, key=lambda one: one.name)
            if reference.name in self.references
            for rule in sorted(gate.rules, key=lambda one: one.metric)
            if (share := gate.margin(reference, rule)) is not None
        ]

    @property
    def limited(self) -> list[Rule]:
        """The Rules with a limit."""
        return sorted((rule for rule in self.gate.rules if rule.limit is not None), key=lambda rule: rule.metric)

    def order(self, pair: int, letters: Sequence[str]) -> tuple[str, ...]:
        """The letters of a pair in an order that is uniformly random, and the same whenever it is asked for."""
        return tuple(sorted(letters, key=lambda one: hashlib.sha256(f"{self.seed}:{pair}:{one}".encode()).digest()))


@dataclass(frozen=True, slots=True)
class Taken:
    """What one Block of a pair gave."""

    arm: str  # letter
    state: State
    compared: Mapping[str, float | None] = field(default_factory=dict)  # metric -> the statistic that is compared
    held: Mapping[str, float | None] = field(default_factory=dict)  # metric -> the figure that a limit is held against
    reason: str = ""  # why it is flagged or failed


@dataclass(frozen=True, slots=True)
class Pair:
    """One Block of each Arm, in the order in which they were measured."""

    index: int
    blocks: tuple[Taken, ...]
    board_s: float  # how long it had the Board, gaps included

    def as_json(self) -> dict[str, Any]:
        """Plain data; `pair_from` gives the same Pair back."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Compared:
    """The evidence of one metric against one Reference."""

    tally: evidence.Tally
    candidate_missing: int = 0  # pairs in which the candidate had no figure, or the two had no ratio
    reference_missing: int = 0
    seen: str = ""  # the last figures that could not be compared, in words


@dataclass(frozen=True, slots=True)
class Failures:
    """How often an Arm has failed in this attempt, and whether that is its own fault."""

    count: int = 0
    board_worked: bool = False  # another Arm worked after its first failure
    is_own: bool = False  # and then it failed again
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a Gate knows. It belongs to the Job's Arms and the Board; `step` gives the next one."""

    setup: Setup
    next_pair: int = 0
    is_warming: bool = True  # the next pair is discarded
    is_rewarming: bool = False  # and its time is not the budget's
    resumed: tuple[tuple[int, bool], ...] = ()  # at which pair, and whether as a new attempt
    kept: int = 0  # pairs, of all attempts
    pairs: int = 0  # of this attempt, dropped ones included, warm-up excluded
    dropped: int = 0  # of this attempt
    dropped_why: tuple[str, ...] = ()
    spent_s: float = 0.0  # of this attempt's budget
    board_s: float = 0.0  # in all
    compared: Mapping[str, Compared] = field(default_factory=dict)
    held: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # metric with a limit -> of kept pairs
    held_missing: Mapping[str, int] = field(default_factory=dict)
    flagged: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # reference -> candidate alone, it alone
    failures: Mapping[str, Failures] = field(default_factory=dict)  # by letter
    passed: Mapping[str, int] = field(default_factory=dict)  # key of a finding that passes -> kept pairs since when
    failed: Mapping[str, int] = field(default_factory=dict)  # that has failed -> kept pairs when it first did

    def as_json(self) -> dict[str, Any]:
        """Plain data; `evidence_from` gives the same Evidence back, to the last bit."""
        data = {"version": VERSION, **asdict(self)}
        data["compared"] = {
            key: {**asdict(one), "tally": one.tally.as_json()} for key, one in sorted(self.compared.items())
        }
        plain: dict[str, Any] = _plain(data)
        return plain


def pair_from(data: Mapping[str, Any]) -> Pair:
    """The Pair that `as_json` wrote."""
    return Pair(data["index"], tuple(Taken(**one) for one in data["blocks"]), data["board_s"])


def evidence_from(data: Mapping[str, Any]) -> Evidence:
    """The Evidence that `as_json` wrote. Raises ValueError for another version."""
    if data.get("version") != VERSION:
        raise ValueError(f"evidence of version {data.get('version')!r}; this benchfarm reads {VERSION}")
    values = {name: value for name, value in data.items() if name != "version"}
    setup = dict(values.pop("setup"))
    return Evidence(
        setup=Setup(**{**setup, "gate": rules.gate_from(setup["gate"])}),
        compared={
            key: Compared(**{**one, "tally": evidence.tally_from(one["tally"])})
            for key, one in values.pop("compared").items()
        },
        failures={letter: Failures(**one) for letter, one in values.pop("failures").items()},
        held={metric: tuple(one) for metric, one in values.pop("held").items()},
        flagged={name: (one[0], one[1]) for name, one in values.pop("flagged").items()},
        resumed=tuple((pair, extend) for pair, extend in values.pop("resumed")),
        dropped_why=tuple(values.pop("dropped_why")),
        **values,
    )


def taken(block: domain.BlockResult, gate: Gate, scalars: Mapping[str, float | None]) -> Taken:
    """What a Block gave. scalars: its metrics with one figure a Block, as `figures.scalars` has them.

    Quantiles are compared by their type-7 statistic, which a short Block has too; a limit is held against the
    nearest-rank figure, which is there only where the Block has enough queries for it.
    """
    states: dict[domain.Outcome, State] = {
        domain.Outcome.OK: "ok",
        domain.Outcome.NOISY: "flagged",
        domain.Outcome.FAILED: "failed",
    }
    if block.outcome not in states:
        raise ValueError(f"a Block that ended {block.outcome} is no part of a pair")
    latency = next((one.value for one in block.samples if one.metric == "latency_ns"), np.empty(0))
    figures: dict[str, float | None] = dict(scalars)
    held: dict[str, float | None] = dict(scalars)
    if len(latency):
        figures |= {metric: float(np.quantile(latency, q)) for metric, q in rules.QUANTILES.items()}
        figures |= {"mean_latency_ns": float(np.mean(latency)), "min_latency_ns": float(np.min(latency))}
        timed_ns = float(block.facts.get("timed_ns") or 0)
        figures |= {"throughput_per_s": len(latency) * 1e9 / timed_ns} if timed_ns > 0 else {}
        held |= figures
        for rule in gate.rules:
            held |= _held(rule, latency)
    changed = {rule.metric for rule in gate.rules if rule.max_change is not None}
    limited = {rule.metric for rule in gate.rules if rule.limit is not None}
    return Taken(
        block.arm,
        states[block.outcome],
        {metric: figures.get(metric) for metric in sorted(changed)},
        {metric: held.get(metric) for metric in sorted(limited)},
        "; ".join(reason.text for reason in block.reasons),
    )


def _held(rule: Rule, latency: Any) -> dict[str, float | None]:
    enough = len(latency) >= rules.needed(rule)
    if rule.metric in rules.QUANTILES:
        return {rule.metric: summary.quantile(latency, rules.QUANTILES[rule.metric]) if enough else None}
    if rule.metric == rules.MISSES and rule.deadline_ns is not None:
        return {rule.metric: float(np.mean(latency > rule.deadline_ns)) if enough else None}
    return {}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
