"""A Gate: its Rules, one a metric, its References and error rates; which metrics there are, which way is worse."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from farm import domain, units

Kind = Literal["last-passing", "baseline", "artifact", "run", "branch"]
NoBaseline = Literal["limits", "undecided", "fail"]
OnUndecided = Literal["undecided", "fail", "accept"]

LAST_PASSING = "last-passing"
MISSES = "deadline_miss_ratio"
QUERIES = (25, 1000)  # fewest and most of one Block of a gate
FLAG_SHARE = 0.02  # of alpha, for the sign test on which arm was flagged
SUPPORT_CONFIDENCE = 0.99  # as stats.summary has it; repeated because a thin client has no numpy

QUANTILES = {f"p{name}_latency_ns": q for name, q in (("50", 0.5), ("90", 0.9), ("95", 0.95), ("99", 0.99))}
"""Quantiles that a gate's Block can support; P999 would need 4603 queries of each."""

METRICS = (
    *QUANTILES,
    "mean_latency_ns",
    "min_latency_ns",
    "throughput_per_s",
    MISSES,
    "cold_load_rss_bytes",
    "load_peak_bytes",
    "first_peak_bytes",
    "model_rss_bytes",
    "steady_rss_bytes",
    "rss_growth_bytes",
    "virtual_peak_bytes",
    "live_rss_bytes",
    "cgroup_peak_bytes",
    "min_memory_bytes",
    "load_ns",
    "first_inference_ns",
    "time_to_first_inference_ns",
    "load_major_faults",
    "energy_per_inference_j",
    "net_energy_per_inference_j",
    "idle_power_w",
    "active_power_w",
    "peak_power_w",
    "sustained_ratio",
    "agreement_ratio",
    "ttft_ns",
    "prefill_tokens_per_s",
    "decode_tokens_per_s",
    "time_per_output_token_ns",
)
"""What a Rule may name; beside them, any dotted name of a sensor that ends in a known unit."""

HIGHER = ("sustained_ratio", "agreement_ratio")  # where the unit alone would say that lower is better

MARGINS = {
    "p50_latency_ns": 0.02,
    "p95_latency_ns": 0.03,
    "p99_latency_ns": 0.25,
    "energy_per_inference_j": 0.03,
    "cold_load_rss_bytes": 0.01,
}
"""The change that is allowed where a Rule names only the metric."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What one metric may do: change by at most a share against each Reference, stay within a limit, or both."""

    metric: str
    max_change: float | None = None  # 0.02: 2 % worse than a Reference
    limit: float | None = None  # in the metric's unit; the worst that is allowed
    deadline_ns: float | None = None  # of deadline_miss_ratio alone

    @property
    def higher_is_better(self) -> bool:
        """Which way is worse."""
        return self.metric in HIGHER or units.unit_of(self.metric).better == "higher"


@dataclass(frozen=True, slots=True)
class Reference:
    """What a candidate is compared with, known within its Gate by a name."""

    name: str
    kind: Kind
    value: str = ""  # sha256 of an Artifact, id of a Run, name of a branch or of a Baseline
    max_change: tuple[tuple[str, float], ...] = ()  # metric and share, instead of the Rule's


@dataclass(frozen=True, slots=True)
class Gate:
    """Rules, decided jointly: P(FAIL) is at most alpha where nothing is worse, P(PASS) at most beta where one is."""

    rules: tuple[Rule, ...]
    references: tuple[Reference, ...] = (Reference(LAST_PASSING, "last-passing"),)
    alpha: float = 0.01
    beta: float = 0.05
    pairs: int = 80  # at most, of one attempt, without its warm-up
    budget_s: float = 900.0  # board-seconds, at most, of one attempt
    on_no_baseline: NoBaseline = "limits"
    on_undecided: OnUndecided = "undecided"

    def margin(self, reference: Reference, rule: Rule) -> float | None:
        """The change that a Rule allows against a Reference."""
        return dict(reference.max_change).get(rule.metric, rule.max_change)

    def form(self) -> dict[str, Any]:
        """Its canonical form: what evidence under it means. Without budgets and policies; order makes no difference."""
        return {
            "version": 1,
            "alpha": self.alpha,
            "beta": self.beta,
            "rules": [
                {
                    "metric": rule.metric,
                    **({} if rule.max_change is None else {"max_change": rule.max_change}),
                    **({} if rule.limit is None else {"limit": rule.limit}),
                    **({} if rule.deadline_ns is None else {"deadline_ns": rule.deadline_ns}),
                }
                for rule in sorted(self.rules, key=lambda rule: rule.metric)
            ],
            "references": [
                {
                    "name": one.name,
                    "kind": one.kind,
                    **({"value": one.value} if one.value else {}),
                    **({"max_change": dict(sorted(one.max_change))} if one.max_change else {}),
                }
                for one in sorted(self.references, key=lambda one: one.name)
            ],
        }

    def as_json(self) -> dict[str, Any]:
        """All of it as plain data; `gate_from` gives the same Gate back."""
        return asdict(self)

    @property
    def hash(self) -> str:
        """What a Gate is known by: evidence is continued under the same one only."""
        return domain.digest(self.form())


DEFAULT = Gate(
    tuple(Rule(metric, MARGINS[metric]) for metric in ("p50_latency_ns", "p95_latency_ns", "cold_load_rss_bytes"))
)
"""What a Job is judged by that names what it is compared with, and no Gate."""


def log_fail(alpha: float, ways: int) -> float:
    """ln of the evidence that one of so many ways to FAIL needs: their false alarms together are alpha's."""
    return math.log(max(ways, 1) / (alpha * (1 - FLAG_SHARE)))


def log_flagged(alpha: float, references: int) -> float:
    """ln of the evidence that the candidate is flagged more often than one of so many References."""
    return math.log(max(references, 1) / (alpha * FLAG_SHARE))


def log_pass(beta: float) -> float:
    """ln of the evidence that each Rule needs to PASS: all must, so there is nothing to correct."""
    return math.log(1 / beta)


def ways_to_fail(gate: Gate, references: int) -> int:
    """K: how many things can each make the Gate FAIL, flags aside."""
    changes = sum(rule.max_change is not None for rule in gate.rules)
    return references * changes + sum(rule.limit is not None for rule in gate.rules)


def fewest_pairs(gate: Gate) -> int:
    """How many pairs must be kept before a PASS and a FAIL are both possible: one pair at most doubles evidence."""
    ways = ways_to_fail(gate, len(gate.references))
    return math.ceil(max(log_fail(gate.alpha, ways), log_pass(gate.beta)) / math.log(2))


def least_queries(gate: Gate) -> int:
    """How many queries a Block must have at least, so that its limits can be judged: 459 for a limit on P99."""
    return max([QUERIES[0], *(needed(rule) for rule in gate.rules if rule.limit is not None)])


def needed(rule: Rule) -> int:
    """How many queries the limit of a Rule needs of each Block; more than QUERIES[1]: no Block can have them."""
    if rule.metric == MISSES and rule.limit is not None:
        return supports(1 - rule.limit)
    return supports(QUANTILES[rule.metric]) if rule.metric in QUANTILES else 1


def supports(q: float) -> int:
    """How many queries it takes for one of them to lie beyond the quantile q with 99 %: stats.summary's `needed`."""
    if q <= 0:
        return 1
    return math.ceil(math.log(1 - SUPPORT_CONFIDENCE) / math.log(q)) if q < 1 else 2**31


def least_block_s(gate: Gate) -> float:
    """How long the timed window of a Block must be at least: 10 s where energy is judged."""
    return 10.0 if any(units.unit_of(rule.metric).suffix == "j" for rule in gate.rules) else 0.0


def gate_from(data: Mapping[str, Any]) -> Gate:
    """The Gate that `as_json` wrote."""
    gate = Gate(**{**data, "rules": tuple(Rule(**one) for one in data["rules"])})
    references = tuple(
        Reference(**{**one, "max_change": tuple((metric, share) for metric, share in one["max_change"])})
        for one in data["references"]
    )
    return replace(gate, references=references)
