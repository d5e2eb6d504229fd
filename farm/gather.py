"""One more pair into the Evidence: what it adds to each comparison, each limit, the flags and the failures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from farm import findings as found
from farm import rules
from farm.pairs import PROOF, Compared, Evidence, Failures, Pair, Taken
from farm.stats import evidence as sym_e
from farm.stats import signs


def with_pair(evidence: Evidence, pair: Pair) -> Evidence:
    """The Evidence with one more pair; of a warm-up pair only what failed counts."""
    grown = replace(
        _failures(evidence, pair),
        next_pair=pair.index + 1,
        is_warming=False,
        is_rewarming=False,
        board_s=evidence.board_s + pair.board_s,
        spent_s=evidence.spent_s + (0.0 if evidence.is_rewarming else pair.board_s),
    )
    return grown if evidence.is_warming else _counted(grown, pair)


def _counted(evidence: Evidence, pair: Pair) -> Evidence:
    """With a pair that is no warm-up."""
    spoiled = [block for block in pair.blocks if block.state != "ok" and block.arm != PROOF]
    evidence = replace(evidence, pairs=evidence.pairs + 1)
    if spoiled:
        arms = {block.arm for block in spoiled if block.state == "flagged"}
        why = f"pair {pair.index}: " + "; ".join(
            f"{one.arm} {one.state}: {one.reason or 'no reason'}" for one in spoiled
        )
        return replace(
            evidence,
            dropped=evidence.dropped + 1,
            dropped_why=(*evidence.dropped_why, why),
            flagged=_flagged(evidence, arms),
        )
    by_letter = {block.arm: block for block in pair.blocks}
    return _latched(_measured(evidence, by_letter))


def _flagged(evidence: Evidence, arms: set[str]) -> dict[str, tuple[int, int]]:
    """Which arm was flagged, counted where it was one of candidate and Reference alone."""
    counts = dict(evidence.flagged)
    for name, letter in evidence.setup.references.items():
        candidate, reference = counts.get(name, (0, 0))
        ours, theirs = evidence.setup.candidate in arms, letter in arms
        counts[name] = (candidate + (ours and not theirs), reference + (theirs and not ours))
    return counts


def _measured(evidence: Evidence, blocks: Mapping[str, Taken]) -> Evidence:
    """With the figures of a pair that is kept."""
    setup = evidence.setup
    candidate = blocks[setup.candidate]
    compared = dict(evidence.compared)
    for reference, rule, _ in setup.compared:
        key = found.key_of(rule.metric, reference.name)
        ours = candidate.compared.get(rule.metric)
        theirs = blocks[setup.references[reference.name]].compared.get(rule.metric)
        compared[key] = _with(compared[key], ours, theirs, rule.higher_is_better)
    held, missing = dict(evidence.held), dict(evidence.held_missing)
    for rule in setup.limited:
        value = candidate.held.get(rule.metric)
        if value is None or not math.isfinite(value):
            missing[rule.metric] = missing.get(rule.metric, 0) + 1
        else:
            held[rule.metric] = (*held.get(rule.metric, ()), value)
    return replace(evidence, kept=evidence.kept + 1, compared=compared, held=held, held_missing=missing)


def _with(one: Compared, ours: float | None, theirs: float | None, higher_is_better: bool) -> Compared:
    if theirs is None or math.isnan(theirs):
        return replace(one, reference_missing=one.reference_missing + 1)
    d = None if ours is None else sym_e.log_ratio(ours, theirs, higher_is_better=higher_is_better)
    if d is None:
        seen = "" if ours is None or math.isnan(ours) else f"{ours:g} against {theirs:g} have no ratio; use a limit"
        return replace(one, candidate_missing=one.candidate_missing + 1, seen=seen)
    return replace(one, tally=one.tally.add(d))


def _latched(evidence: Evidence) -> Evidence:
    """With every Rule that has the evidence now; a FAIL stays whatever comes, a PASS as long as it has it."""
    setup = evidence.setup
    log_fail = rules.log_fail(setup.gate.alpha, len(setup.compared) + len(setup.limited))
    log_pass = rules.log_pass(setup.gate.beta)
    logs = {key: (one.tally.log_worse, one.tally.log_within) for key, one in evidence.compared.items()}
    for rule in setup.limited:
        beyond, within = found.beyond_and_within(evidence.held.get(rule.metric, ()), rule)
        logs[found.key_of(rule.metric, None)] = (signs.log_evidence(beyond, within), signs.log_evidence(within, beyond))
    failed = {key: evidence.kept for key, (worse, _) in logs.items() if worse >= log_fail}
    passed = {key: evidence.passed.get(key, evidence.kept) for key, (_, within) in logs.items() if within >= log_pass}
    return replace(evidence, failed={**failed, **evidence.failed}, passed=passed)


def _failures(evidence: Evidence, pair: Pair) -> Evidence:
    """With what failed in a pair, warm-up or not, in the order in which it was measured."""
    failures = dict(evidence.failures)
    for block in pair.blocks:
        before = failures.get(block.arm, Failures())
        if block.state == "failed":
            failures[block.arm] = Failures(before.count + 1, before.board_worked, before.board_worked, block.reason)
        else:
            for arm, one in failures.items():
                if arm != block.arm:
                    failures[arm] = replace(one, board_worked=True)
    return replace(evidence, failures=failures)
