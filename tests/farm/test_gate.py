"""The gate: PASS, FAIL or UNDECIDED, what is dropped, who is at fault, and that nothing measured is never a pass."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from farm import gate
from farm.domain import Outcome, Verdict
from farm.gate import Next
from farm.pairs import Pair, Taken
from farm.rules import Reference, Rule
from tests.farm import gates
from tests.farm.gates import MEMORY, P50, P99, bad, codes, play, setup

TWO = (Reference("deployed", "baseline", "deployed"), Reference("uncompressed", "artifact", "0" * 8))


def noisy(effect: float = 0.0, *, metric: str = P50, sd: float = 0.01, seed: int = 3) -> gates.Play:
    """Blocks of which the candidate's are worse by `effect`."""
    rng = random.Random(seed)
    return lambda _, letter: {metric: 1e7 * math.exp(rng.gauss(0, sd) + (effect if letter == "c" else 0))}


def test_nothing_measured_is_never_a_pass() -> None:
    _, pairs, decision = play(gate.start(setup(budget_s=0.0)), noisy())
    assert (pairs, decision.verdict, codes(decision)) == ([], Verdict.UNDECIDED, ["nothing_measured"])
    nothing = replace(setup(), references={})
    assert codes(play(gate.start(nothing), noisy())[2]) == ["nothing_to_judge"]


def test_a_metric_that_neither_side_has_is_never_a_pass() -> None:
    evidence, _, decision = play(gate.start(setup()), lambda _, __: {P50: None})
    assert decision.verdict is Verdict.UNDECIDED
    assert codes(decision) == ["not_measured"]
    assert evidence.kept == 5


def test_a_metric_that_one_side_lacks_is_named_with_that_side_and_the_others_are_still_judged() -> None:
    both = gate.start(setup(Rule(P50, 0.02), Rule(MEMORY, 0.01)))
    normal = noisy()

    def blocks(pair: int, letter: str) -> gates.Block:
        figures = normal(pair, letter)
        assert not isinstance(figures, Taken)
        return {**figures, MEMORY: None if letter == "c" else 9e7}

    _, _, decision = play(both, blocks)
    assert decision.verdict is Verdict.UNDECIDED
    assert codes(decision) == ["not_measured", "holds"]
    assert "no figure of the candidate" in decision.reasons[0].text


@pytest.mark.parametrize("value", [math.nan, -5.0])
def test_a_figure_without_a_ratio_is_not_measured(value: float) -> None:
    _, _, decision = play(gate.start(setup()), lambda _, letter: {P50: value if letter == "c" else 1.0})
    assert codes(decision) == ["not_measured"]


def test_a_constant_metric_passes_and_one_that_was_zero_and_is_no_more_fails() -> None:
    assert play(gate.start(setup()), lambda _, __: {P50: 0.0})[2].verdict is Verdict.PASS
    grown = play(gate.start(setup()), lambda _, letter: {P50: 3.0 if letter == "c" else 0.0})
    assert grown[2].verdict is Verdict.FAIL


def test_an_unchanged_candidate_passes_and_a_slower_one_fails_with_the_figures_in_words() -> None:
    evidence, _, decision = play(gate.start(setup()), noisy())
    assert (decision.verdict, decision.outcome, codes(decision)) == (Verdict.PASS, Outcome.OK, ["holds"])
    assert evidence.board_s == 2.0 * (evidence.kept + 1)
    _, _, decision = play(gate.start(setup()), noisy(0.05))
    assert (decision.verdict, codes(decision)) == (Verdict.FAIL, ["worse"])
    assert "against last-passing" in decision.reasons[0].text
    assert "+2 % allowed" in decision.reasons[0].text


def test_a_throughput_that_falls_is_worse() -> None:
    rule = Rule("throughput_per_s", 0.02)
    assert play(gate.start(setup(rule)), noisy(-0.05, metric=rule.metric))[2].verdict is Verdict.FAIL
    assert play(gate.start(setup(rule)), noisy(+0.05, metric=rule.metric))[2].verdict is Verdict.PASS


def test_the_first_pair_is_warm_up_and_counts_for_nothing() -> None:
    def blocks(pair: int, letter: str) -> gates.Block:
        return {P50: 1e9 if pair == 0 and letter == "c" else 1e7}

    assert gate.ask(gate.start(setup())) == Next(0, gate.start(setup()).setup.order(0, "ca"), True)
    evidence, pairs, decision = play(gate.start(setup()), blocks)
    assert decision.verdict is Verdict.PASS
    assert evidence.kept == len(pairs) - 1


def test_a_budget_that_ends_too_early_says_how_much_more_it_would_take() -> None:
    _, pairs, decision = play(gate.start(setup(pairs=4)), noisy())
    assert decision.verdict is Verdict.UNDECIDED
    assert len(pairs) == 5
    assert "more pairs" in decision.reasons[0].text
    evidence, _, decision = play(gate.start(setup(budget_s=9.0)), noisy())
    assert decision.verdict is Verdict.UNDECIDED
    assert evidence.board_s <= 9.0


def test_when_more_pairs_would_not_help_it_says_so() -> None:
    _, _, decision = play(gate.start(setup(pairs=10)), noisy(sd=3.0))
    assert "widen the margin" in decision.reasons[0].text


def test_dropped_pairs_are_no_evidence_and_too_many_are_noisy() -> None:
    evidence, _, decision = play(gate.start(setup()), lambda pair, letter: bad(letter, "flagged", "throttled"))
    assert (decision.verdict, decision.outcome) == (Verdict.UNDECIDED, Outcome.NOISY)
    assert codes(decision) == ["pairs_dropped"]
    assert (evidence.kept, evidence.dropped) == (0, 5)


def test_a_pair_in_five_may_be_dropped() -> None:
    normal = noisy()
    evidence, _, decision = play(
        gate.start(setup()),
        lambda pair, letter: bad(letter, "flagged") if pair % 7 == 3 and letter == "a" else normal(pair, letter),
    )
    assert decision.verdict is Verdict.PASS
    assert evidence.dropped >= 1


def test_flags_on_either_arm_are_noise_but_flags_on_the_candidate_alone_are_a_regression() -> None:
    def either(pair: int, letter: str) -> gates.Block:
        return bad(letter, "flagged") if letter == "ca"[pair % 2] else {P50: 1e7}

    assert play(gate.start(setup()), either)[2].outcome is Outcome.NOISY
    _, pairs, decision = play(
        gate.start(setup()), lambda _, letter: bad(letter, "flagged", "throttled") if letter == "c" else {P50: 1e7}
    )
    assert (decision.verdict, codes(decision)) == (Verdict.FAIL, ["candidate_flagged"])
    assert len(pairs) == 15


def test_a_candidate_that_never_loads_fails_once_the_baseline_worked_in_between() -> None:
    _, pairs, decision = play(
        gate.start(setup()), lambda _, letter: bad(letter, "failed", "out of memory") if letter == "c" else {P50: 1e7}
    )
    assert (decision.verdict, decision.outcome, codes(decision)) == (Verdict.FAIL, Outcome.FAILED, ["candidate_fails"])
    assert len(pairs) <= 3
    assert decision.reasons[0].blame == "artifact"


def test_two_failures_with_nothing_in_between_do_not_decide() -> None:
    evidence = gate.start(setup())
    ok, failed = gates.taken("a", {P50: 1e7}), bad("c", "failed")
    evidence, _ = gate.step(evidence, Pair(0, (ok, failed), 1.0))
    evidence, asked = gate.step(evidence, Pair(1, (failed, ok), 1.0))
    assert isinstance(asked, Next)
    assert not isinstance(gate.step(evidence, Pair(2, (failed, ok), 1.0))[1], Next)


def test_where_both_fail_the_board_is_broken_and_nothing_is_said_of_the_model() -> None:
    _, _, decision = play(gate.start(setup()), lambda _, letter: bad(letter, "failed"))
    assert (decision.verdict, decision.outcome) == (None, Outcome.BROKEN)
    assert decision.reasons[0].blame == "board"


def test_a_baseline_that_no_longer_loads_is_not_the_candidates_fault() -> None:
    _, _, decision = play(
        gate.start(setup()), lambda _, letter: bad(letter, "failed", "bad op") if letter == "a" else {P50: 1e7}
    )
    assert (decision.verdict, codes(decision)) == (Verdict.UNDECIDED, ["baseline_fails"])


def test_a_candidate_that_failed_once_may_pass_and_it_is_said() -> None:
    normal = noisy()
    _, _, decision = play(
        gate.start(setup()),
        lambda pair, letter: bad(letter, "failed", "crash") if (pair, letter) == (3, "c") else normal(pair, letter),
    )
    assert decision.verdict is Verdict.PASS
    assert codes(decision) == ["holds", "failed_once"]


def test_without_a_baseline_the_boards_own_model_shows_that_the_board_works() -> None:
    alone = replace(setup(Rule(P50, limit=2e7)), references={})
    evidence = gate.start(alone)
    assert gate.ask(evidence) == Next(0, ("c",), True)
    evidence, asked = gate.step(evidence, Pair(0, (bad("c", "failed"),), 1.0))
    assert isinstance(asked, Next)
    assert sorted(asked.order) == ["*", "c"]
    broken = gate.step(evidence, Pair(1, tuple(bad(one, "failed") for one in asked.order), 1.0))[1]
    assert isinstance(broken, gate.Decision)
    assert broken.outcome is Outcome.BROKEN
    _, _, decision = play(gate.start(alone), lambda _, one: bad(one, "failed") if one == "c" else {})
    assert codes(decision) == ["candidate_fails"]


@pytest.mark.parametrize(
    ("policy", "verdict"), [("limits", Verdict.PASS), ("undecided", Verdict.UNDECIDED), ("fail", Verdict.FAIL)]
)
def test_the_first_artifact_of_a_name_is_judged_as_the_gate_says(policy: str, verdict: Verdict) -> None:
    first = replace(setup(Rule(P50, 0.02, limit=2e7), on_no_baseline=policy), references={})
    decision = play(gate.start(first), noisy())[2]
    assert decision.verdict is verdict
    assert codes(decision)[-1] == "no_baseline"


def test_every_reference_must_be_passed() -> None:
    figures = {"a": 1.00e7, "b": 0.90e7, "c": 1.001e7}
    both = setup(Rule(P50, 0.02), references=TWO)
    _, _, decision = play(gate.start(both), lambda _, letter: {P50: figures[letter]})
    assert decision.verdict is Verdict.FAIL
    assert "against uncompressed" in decision.reasons[0].text
    wide = (TWO[0], replace(TWO[1], max_change=((P50, 0.20),)))
    _, _, decision = play(gate.start(setup(Rule(P50, 0.02), references=wide)), lambda _, one: {P50: figures[one]})
    assert decision.verdict is Verdict.PASS


def test_one_reference_of_two_that_does_not_load_is_told_from_the_board() -> None:
    both = setup(Rule(P50, 0.02), references=TWO)
    _, _, decision = play(gate.start(both), lambda _, one: bad(one, "failed") if one == "b" else {P50: 1e7})
    assert codes(decision) == ["baseline_fails"]
    _, _, decision = play(gate.start(both), lambda _, one: bad(one, "failed") if one == "c" else {P50: 1e7})
    assert codes(decision) == ["candidate_fails"]


@pytest.mark.parametrize(
    ("limit", "verdict"), [(1.1e7, Verdict.PASS), (0.9e7, Verdict.FAIL), (1.0e7, Verdict.UNDECIDED)]
)
def test_a_limit_is_judged_on_the_candidates_blocks_and_undecided_where_the_interval_straddles_it(
    limit: float, verdict: Verdict
) -> None:
    alone = replace(setup(Rule(P99, limit=limit), pairs=20), references={})
    rng = random.Random(5)
    evidence, _, decision = play(gate.start(alone), lambda _, __: {P99: 1e7 * (1 + 0.02 * (rng.random() - 0.5))})
    assert decision.verdict is verdict
    assert (evidence.kept == 20) == (verdict is Verdict.UNDECIDED)


def test_a_limit_without_figures_is_never_a_pass() -> None:
    alone = replace(setup(Rule(P99, limit=1e9)), references={})
    _, _, decision = play(gate.start(alone), lambda _, __: {P99: None})
    assert codes(decision)[0] == "not_measured"
    assert "459 queries" in decision.reasons[0].text


def test_a_margin_that_the_noise_hides_is_named_with_the_smallest_that_it_does_not() -> None:
    asked = setup(Rule(P50, 0.02), Rule("throughput_per_s", 0.02), Rule(MEMORY, 0.01))
    found = gate.unresolvable(asked, {P50: 0.06, "throughput_per_s": 0.06, MEMORY: 0.001})
    assert found.keys() == {P50, "throughput_per_s"}
    assert found[P50][0] == 0.02
    assert found[P50][1] == pytest.approx(math.expm1(0.04))
    assert found["throughput_per_s"][1] == pytest.approx(-math.expm1(-0.04))


def test_a_pair_that_was_not_asked_for_is_refused() -> None:
    evidence = gate.start(setup())
    good = tuple(gates.taken(letter, {P50: 1.0}) for letter in "ac")
    with pytest.raises(ValueError, match="was not asked for"):
        gate.step(evidence, Pair(1, good, 1.0))
    with pytest.raises(ValueError, match="was not asked for"):
        gate.step(evidence, Pair(0, good[:1], 1.0))


def test_arms_that_share_a_letter_and_impossible_rates_are_refused() -> None:
    with pytest.raises(ValueError, match="letters of their own"):
        gate.start(replace(setup(), candidate="a"))
    with pytest.raises(ValueError, match="between 0 and 1"):
        gate.start(setup(alpha=0.0))
