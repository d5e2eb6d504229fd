"""What holds of every gate: a replay decides the same, a crash changes nothing, the order of names means nothing."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from benchmarks import laws
from farm import gate, pairs
from farm.domain import Outcome, Verdict
from farm.gate import Next
from farm.pairs import Evidence
from farm.rules import Reference, Rule
from farm.stats import evidence as sym_e
from tests.farm import gates
from tests.farm.gates import MEMORY, P50, bad, play, setup

RULES = (Rule(P50, 0.02, limit=1.05e7), Rule(MEMORY, 0.01))


def _blocks(seed: int, effect: float) -> gates.Play:
    """Figures that depend on pair and letter alone, some pairs spoiled."""

    def blocks(pair: int, letter: str) -> gates.Block:
        rng = random.Random(f"{seed} {pair} {letter}")
        if rng.random() < 0.04:
            return bad(letter, "flagged", "throttled")
        slower = effect if letter == "c" else 0.0
        return {P50: 1e7 * math.exp(rng.gauss(slower, 0.01)), MEMORY: 9e7 * math.exp(rng.gauss(0, 0.002))}

    return blocks


def _restored(evidence: Evidence) -> Evidence:
    return pairs.evidence_from(json.loads(json.dumps(evidence.as_json(), allow_nan=False)))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.01, 0.05]))
def test_a_replay_gives_the_evidence_and_the_verdict_that_were_stored(seed: int, effect: float) -> None:
    evidence, measured, decision = play(gate.start(setup(*RULES, seed=seed)), _blocks(seed, effect))
    again = gate.replay(setup(*RULES, seed=seed), measured)
    assert again == evidence == _restored(evidence)
    assert gate.ask(again) == decision


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 12))
def test_evidence_that_was_stored_goes_on_as_the_one_that_was_kept(seed: int, stop: int) -> None:
    evidence, measured, decision = play(gate.start(setup(*RULES, seed=seed)), _blocks(seed, 0.01))
    half = gate.replay(setup(*RULES, seed=seed), measured[:stop])
    whole, _, same = play(_restored(half), _blocks(seed, 0.01))
    assert (whole, same) == (evidence, decision)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.sampled_from([0.0, 0.05]))
def test_a_crash_costs_one_warm_up_pair_and_changes_no_verdict(seed: int, stop: int, effect: float) -> None:
    evidence, measured, decision = play(gate.start(setup(*RULES, seed=seed)), _blocks(seed, effect))
    half = gate.replay(setup(*RULES, seed=seed), measured[:stop])
    if not isinstance(gate.ask(half), Next):
        return
    resumed = gate.resume(_restored(half))
    asked = gate.ask(resumed)
    assert isinstance(asked, Next)
    assert asked.is_warm_up

    def later(pair: int, letter: str) -> gates.Block:
        return {} if pair == stop else _blocks(seed, effect)(pair - 1, letter)

    whole, rest, same = play(resumed, later)
    assert same.verdict is decision.verdict
    assert whole.compared == evidence.compared
    assert whole.spent_s == evidence.spent_s
    assert whole.board_s == evidence.board_s + 2.0
    assert gate.replay(setup(*RULES, seed=seed), [*measured[:stop], *rest], whole.resumed) == whole


def test_what_is_decided_stays_decided_when_it_is_submitted_again() -> None:
    evidence, _, decision = play(gate.start(setup(*RULES)), _blocks(1, 0.0))
    assert decision.verdict is Verdict.PASS
    assert gate.ask(gate.resume(evidence, is_new_attempt=True)) == decision


def test_a_new_attempt_has_its_budget_before_it_and_keeps_the_evidence() -> None:
    evidence, _, decision = play(gate.start(setup(*RULES, pairs=4)), _blocks(1, 0.0))
    assert decision.verdict is Verdict.UNDECIDED
    again = gate.resume(evidence, is_new_attempt=True)
    whole, measured, decision = play(again, _blocks(1, 0.0))
    assert len(measured) <= 5
    assert whole.kept > evidence.kept
    assert whole.board_s > evidence.board_s


def test_a_new_attempt_after_too_many_dropped_pairs_starts_counting_them_anew() -> None:
    noisy, _, decision = play(gate.start(setup(*RULES)), lambda _, letter: bad(letter, "flagged"))
    assert decision.outcome is Outcome.NOISY
    _, _, decision = play(gate.resume(noisy, is_new_attempt=True), _blocks(1, 0.0))
    assert decision.verdict is Verdict.PASS


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.permutations(RULES), st.booleans())
def test_the_order_in_which_metrics_and_references_are_named_changes_nothing(
    seed: int, rules: list[Rule], swapped: bool
) -> None:
    named = (Reference("old", "baseline", "old"), Reference("new", "baseline", "new"))
    letters = {"old": "a", "new": "b"}
    first = replace(setup(*RULES, seed=seed, references=named), references=letters)
    second = replace(setup(*rules, seed=seed, references=named[::-1] if swapped else named), references=letters)
    assert first.gate.hash == second.gate.hash
    one, _, decision = play(gate.start(first), _blocks(seed, 0.01))
    other, _, same = play(gate.start(second), _blocks(seed, 0.01))
    assert decision == same
    assert one.compared == other.compared


@pytest.mark.parametrize("letters", ["ca", "cab"])
def test_every_order_of_the_arms_is_equally_likely_and_the_same_when_asked_again(letters: str) -> None:
    asked = setup(seed=42)
    orders = [asked.order(pair, letters) for pair in range(6000)]
    assert orders == [asked.order(pair, letters[::-1]) for pair in range(6000)]
    counts = Counter(orders)
    assert len(counts) == math.factorial(len(letters))
    assert stats.chisquare(list(counts.values())).pvalue > 1e-4
    assert orders != [setup(seed=43).order(pair, letters) for pair in range(6000)]


def test_the_coin_of_one_pair_says_nothing_of_the_next() -> None:
    second = [setup(seed=7).order(pair, "ca")[1] == "c" for pair in range(4000)]
    same = sum(one == other for one, other in pairwise(second))
    assert stats.binomtest(same, 3999).pvalue > 1e-4


def test_another_version_of_evidence_is_refused() -> None:
    with pytest.raises(ValueError, match="version 2"):
        pairs.evidence_from({**gate.start(setup()).as_json(), "version": 2})


def _simulated(law: str, effect: float, seed: int) -> gates.Play:
    """A board whose slots follow a law; the gate's own coin says which arm has which."""
    slots = 0.01 * laws.LAWS[law](np.random.default_rng(seed), 1, 400)[0]
    asked = setup(Rule(P50, 0.02), Rule(MEMORY, 0.02), seed=seed)

    def blocks(pair: int, letter: str) -> gates.Block:
        at = 2 * pair + asked.order(pair, "ca").index(letter)
        slower = effect if letter == "c" else 0.0
        return {P50: math.exp(slots[at] + slower), MEMORY: math.exp(-slots[at] / 2)}

    return blocks


@pytest.mark.parametrize("law", ["drift", "second_slower", "spikes", "ar1"])
def test_whole_gates_with_their_own_coin_hold_their_error_rates(law: str) -> None:
    verdicts: dict[float, Counter[Verdict | None]] = {0.0: Counter(), sym_e.margin(0.02): Counter()}
    for effect, counter in verdicts.items():
        for seed in range(120):
            whole = setup(Rule(P50, 0.02), Rule(MEMORY, 0.02), seed=seed)
            counter[play(gate.start(whole), _simulated(law, effect, seed))[2].verdict] += 1
    unchanged, slower = verdicts.values()
    assert unchanged[Verdict.FAIL] <= stats.binom.isf(1e-4, 120, 0.01)
    assert slower[Verdict.PASS] <= stats.binom.isf(1e-4, 120, 0.05)
    assert unchanged[Verdict.PASS] >= 100
    assert slower[Verdict.FAIL] >= 60
