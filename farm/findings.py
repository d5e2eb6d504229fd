"""What the Evidence says of each Rule: its status, effect and interval, and all of it in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from farm import rules, units
from farm.pairs import Compared, Evidence, Setup
from farm.rules import Rule
from farm.stats import evidence as sym_e
from farm.stats import signs

Status = Literal["pass", "fail", "open", "lost"]  # lost: it cannot be decided any more, figures are missing

MISSING_RATIO = 0.2  # of pairs, dropped or without a figure; more cannot be judged
MISSING_PAIRS = 5  # and fewer are no reason yet


@dataclass(frozen=True, slots=True)
class Finding:
    """One Rule against one Reference, or its limit, as the Evidence stands."""

    key: str
    metric: str
    reference: str | None  # None: a limit
    status: Status
    n: int  # pairs
    bound: float  # the allowed share, or the limit
    effect: float | None  # the change as a share, median over pairs; or the median over the candidate's Blocks
    low: float | None  # of its anytime interval; None: not bounded on that side
    high: float | None
    fail_ratio: float  # ln E over what FAIL needs: 1 decides
    pass_ratio: float
    text: str


def key_of(metric: str, reference: str | None) -> str:
    """How a Finding is known within a Gate."""
    return f"limit {metric}" if reference is None else f"{reference} {metric}"


def findings(evidence: Evidence) -> list[Finding]:
    """One for each comparison and each limit, whatever the order in which the Gate names them."""
    setup = evidence.setup
    ways = len(setup.compared) + len(setup.limited)
    log_fail, log_pass = rules.log_fail(setup.gate.alpha, ways), rules.log_pass(setup.gate.beta)
    changes = [
        _change(evidence, reference.name, rule, setup.gate.margin(reference, rule) or 0.0, (log_fail, log_pass))
        for reference, rule, _ in setup.compared
    ]
    return changes + [_limit(evidence, rule, (log_fail, log_pass)) for rule in setup.limited]


def is_lost(missing: int, seen: int) -> bool:
    """Whether too many figures are missing for a Rule to be decided."""
    return missing >= MISSING_PAIRS and missing > MISSING_RATIO * seen


def status_of(evidence: Evidence, key: str, missing: int) -> Status:
    """Where a Rule stands: a FAIL whatever comes later, a PASS as long as it has the evidence, and figures come."""
    if key in evidence.failed:
        return "fail"
    if is_lost(missing, evidence.kept):
        return "lost"
    return "pass" if key in evidence.passed and missing <= MISSING_RATIO * evidence.kept else "open"


def confidence(setup: Setup) -> str:
    """How sure each interval is, at every look at once."""
    return f"{100 * (1 - setup.gate.alpha - setup.gate.beta):g} %"


def _change(evidence: Evidence, reference: str, rule: Rule, share: float, logs: tuple[float, float]) -> Finding:
    key = key_of(rule.metric, reference)
    one = evidence.compared[key]
    tally, way = one.tally, rule.higher_is_better
    missing = one.candidate_missing + one.reference_missing
    effect = sym_e.change(float(np.median(tally.d)), higher_is_better=way) if tally.d else None
    shifts = sym_e.interval(tally, *logs)
    ends = [None if shift is None else sym_e.change(shift, higher_is_better=way) for shift in shifts]
    low, high = (ends[1], ends[0]) if way else (ends[0], ends[1])
    if low is not None and high is not None and low > high:  # the effect moved while it was measured
        low, high = high, low
    status = status_of(evidence, key, missing)
    if status == "lost":
        text = _lost(f"{rule.metric} against {reference}", one, evidence)
    else:
        text = (
            f"{rule.metric} {_percent(effect)} against {reference} ({_range(_percent(low), _percent(high))},"
            f" {confidence(evidence.setup)} at every look), {_allowed(share, way)} allowed,"
            f" after {_pairs(len(tally.d))}"
        )
    logs_now = (tally.log_worse / logs[0], tally.log_within / logs[1])
    return Finding(key, rule.metric, reference, status, len(tally.d), share, effect, low, high, *logs_now, text)


def _limit(evidence: Evidence, rule: Rule, logs: tuple[float, float]) -> Finding:
    key = key_of(rule.metric, None)
    values, missing = evidence.held.get(rule.metric, ()), evidence.held_missing.get(rule.metric, 0)
    limit = rule.limit if rule.limit is not None else math.nan
    beyond, within = beyond_and_within(values, rule)
    middle = float(np.median(values)) if values else None
    low, high = signs.median_bounds(values, *(logs[::-1] if rule.higher_is_better else logs))
    status = status_of(evidence, key, missing)
    word = "at least" if rule.higher_is_better else "at most"
    if status == "lost":
        seen = f", such as {evidence.kept} blocks of which {missing} had none" if missing else ""
        needed = rules.needed(rule)
        why = f"; it needs {needed} queries of each block" if needed > 1 else ""
        text = f"{rule.metric} has no figure to hold against its limit{seen}{why}"
    else:
        figures = [units.format(one, rule.metric) if one is not None else None for one in (middle, low, high)]
        text = (
            f"{rule.metric} {figures[0] or 'not measured'} ({_range(*figures[1:])},"
            f" {confidence(evidence.setup)} at every look; median over {len(values)} processes),"
            f" {word} {units.format(limit, rule.metric)} allowed"
        )
    logs_now = (signs.log_evidence(beyond, within) / logs[0], signs.log_evidence(within, beyond) / logs[1])
    return Finding(key, rule.metric, None, status, len(values), limit, middle, low, high, *logs_now, text)


def beyond_and_within(values: Sequence[float], rule: Rule) -> tuple[int, int]:
    """How many Blocks are beyond a Rule's limit, and how many are not."""
    limit = rule.limit if rule.limit is not None else math.nan
    within = sum(value >= limit if rule.higher_is_better else value <= limit for value in values)
    return len(values) - within, within


def _lost(what: str, one: Compared, evidence: Evidence) -> str:
    sides = {"the candidate": one.candidate_missing, "the reference": one.reference_missing}
    where = " and ".join(f"{side} in {count}" for side, count in sides.items() if count)
    seen = f" ({one.seen})" if one.seen else ""
    return f"{what} cannot be judged: no figure of {where} of {_pairs(evidence.kept)}{seen}"


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:+.3g} %"


def _allowed(share: float, higher_is_better: bool) -> str:
    return f"{'-' if higher_is_better else '+'}{100 * share:g} %"


def _range(low: str | None, high: str | None) -> str:
    if low is None and high is None:
        return "not bounded yet"
    return f"above {low}" if high is None else f"below {high}" if low is None else f"{low} to {high}"


def _pairs(n: int) -> str:
    return f"{n} pair" if n == 1 else f"{n} pairs"
