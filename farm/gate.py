"""The Gate: Evidence and one more pair in, the next step or the Decision out. Pure; a replay decides the same.

What it promises, and what that rests on, is in `stats.evidence` and `stats.signs`. Here are the rules around it:

- The first pair of an attempt is warm-up and discarded. A pair with a flagged or failed Block is dropped whole; more
  than 20 % (and five) dropped is NOISY, unless the flags gather on the candidate: a sign test judges that.
- FAIL as soon as one comparison or limit has the evidence, PASS as soon as all have it at once, UNDECIDED where none
  that is left can be decided, or at the budget. Nothing measured is never a pass.
- An Arm that fails twice while another works in between is at fault; where candidate and References fail, the Board is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from farm import findings as found
from farm import gather, rules
from farm.domain import Outcome, Reason, Verdict
from farm.findings import Finding
from farm.pairs import DEFAULT_SIGMA0, PROOF, Compared, Evidence, Failures, Pair, Setup
from farm.stats import evidence as sym_e
from farm.stats import noise, signs

LEANING = math.log(8)  # evidence that flags gather on the candidate: enough to go on although many pairs are dropped


@dataclass(frozen=True, slots=True)
class Next:
    """Measure another pair: a Block of each of these letters, in this order."""

    pair: int
    order: tuple[str, ...]
    is_warm_up: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """The end of a gate. verdict None: BROKEN, there is nothing to say of the model."""

    verdict: Verdict | None
    outcome: Outcome
    reasons: tuple[Reason, ...]


def start(setup: Setup) -> Evidence:
    """The Evidence before the first pair. Raises ValueError where letters are repeated or a rate is none."""
    letters = [setup.candidate, *setup.references.values()]
    if len(set(letters)) < len(letters) or PROOF in letters:
        raise ValueError(f"the Arms of a gate need letters of their own, not {letters}")
    if not (0 < setup.gate.alpha < 1 and 0 < setup.gate.beta < 1):
        raise ValueError(f"alpha {setup.gate.alpha} and beta {setup.gate.beta} must lie between 0 and 1")
    compared = {
        found.key_of(rule.metric, reference.name): Compared(
            sym_e.Tally(
                t=t,
                prior=setup.sigma0.get(rule.metric, DEFAULT_SIGMA0),
                floor=max(setup.floor.get(rule.metric, 0.0), sym_e.FLOOR),
            )
        )
        for reference, rule, t in setup.compared
    }
    return Evidence(setup, compared=compared)


def step(evidence: Evidence, pair: Pair) -> tuple[Evidence, Next | Decision]:
    """The Evidence with one more pair, and what comes now. Raises ValueError where it is not the pair asked for."""
    asked = ask(evidence)
    seen = tuple(block.arm for block in pair.blocks)
    if not isinstance(asked, Next) or pair.index != asked.pair or sorted(seen) != sorted(asked.order):
        raise ValueError(f"pair {pair.index} of {seen} was not asked for; {asked} was")
    grown = gather.with_pair(evidence, pair)
    return grown, ask(grown)


def ask(evidence: Evidence) -> Next | Decision:
    """What comes now: the next pair, or the Decision."""
    decision = (
        _nothing_to_judge(evidence)
        or _of_failures(evidence)
        or _of_flags(evidence)
        or _of_rules(evidence)
        or _of_budget(evidence)
    )
    if decision is not None:
        return decision
    setup = evidence.setup
    letters = [setup.candidate, *setup.references.values()]
    if not setup.references and evidence.failures:
        letters.append(PROOF)
    return Next(evidence.next_pair, setup.order(evidence.next_pair, letters), evidence.is_warming)


def resume(evidence: Evidence, *, is_new_attempt: bool = False) -> Evidence:
    """The same Evidence, to go on with after an interruption: one more warm-up pair, no verdict changed.

    A new attempt (after NOISY or BROKEN, or when the same is submitted again) has its budget, its dropped pairs and its
    failures before it; what was measured stays evidence.
    """
    resumed = replace(
        evidence,
        is_warming=True,
        is_rewarming=not is_new_attempt and not evidence.is_warming,
        resumed=(*evidence.resumed, (evidence.next_pair, is_new_attempt)),
    )
    if not is_new_attempt:
        return resumed
    return replace(resumed, pairs=0, dropped=0, dropped_why=(), spent_s=0.0, failures={})


def replay(setup: Setup, pairs: Iterable[Pair], resumed: Iterable[tuple[int, bool]] = ()) -> Evidence:
    """The Evidence that these pairs lead to, resumed where it was: equal to the stored one."""
    evidence, resumes = start(setup), list(resumed)
    for pair in pairs:
        while resumes and resumes[0][0] == pair.index:
            evidence = resume(evidence, is_new_attempt=resumes.pop(0)[1])
        evidence, _ = step(evidence, pair)
    for _, is_new_attempt in resumes:
        evidence = resume(evidence, is_new_attempt=is_new_attempt)
    return evidence


def unresolvable(setup: Setup, sd: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Which metrics have a margin that the budget of pairs cannot resolve: metric -> (margin, smallest that it can).

    sd: metric -> spread of d, of the same series (then refuse) or of the Board's canary (then warn).
    """
    out: dict[str, tuple[float, float]] = {}
    gate = setup.gate
    for reference, rule, t in setup.compared:
        share = gate.margin(reference, rule) or 0.0
        if rule.metric in sd:
            least = noise.smallest_margin(sd[rule.metric], gate.pairs)
            least_t = math.log1p(least)
            if t < least_t and share <= out.get(rule.metric, (share, 0.0))[0]:
                out[rule.metric] = (share, abs(sym_e.change(least_t, higher_is_better=rule.higher_is_better)))
    return out


def _nothing_to_judge(evidence: Evidence) -> Decision | None:
    setup, gate = evidence.setup, evidence.setup.gate
    asked = [one.name for one in gate.references] if any(rule.max_change is not None for rule in gate.rules) else []
    absent = [name for name in asked if name not in setup.references]
    if absent and gate.on_no_baseline != "limits":
        text = (
            f"There is no reference {' or '.join(map(repr, absent))} yet, and on_no_baseline is {gate.on_no_baseline}."
        )
        verdict = Verdict.FAIL if gate.on_no_baseline == "fail" else Verdict.UNDECIDED
        return Decision(verdict, Outcome.OK, (Reason("no_baseline", f"{text} Set one with `farm baselines set`."),))
    if not setup.compared and not setup.limited:
        text = "There is nothing to compare with and no limit to hold: nothing measured is never a pass."
        return Decision(Verdict.UNDECIDED, Outcome.OK, (Reason("nothing_to_judge", text),))
    return None


def _of_failures(evidence: Evidence) -> Decision | None:
    setup = evidence.setup
    names = {letter: name for name, letter in setup.references.items()}
    failures = evidence.failures
    ours = failures.get(setup.candidate, Failures())
    theirs = [failures[letter] for letter in names if letter in failures]
    if PROOF in failures or (ours.count and theirs and len(theirs) == len(names)):
        with_it = "the board's reference model" if PROOF in failures else "the baseline"
        text = f"The candidate failed ({ours.reason}), and so did {with_it}. Look at the board."
        return Decision(None, Outcome.BROKEN, (Reason("both_fail", text, "board"),))
    if ours.is_own:
        text = f"The candidate failed {ours.count} times while the board worked in between: {ours.reason}."
        return Decision(Verdict.FAIL, Outcome.FAILED, (Reason("candidate_fails", text, "artifact"),))
    for letter, name in names.items():
        one = failures.get(letter, Failures())
        if one.is_own:
            text = f"Reference {name!r} failed {one.count} times while the candidate worked: {one.reason}. Set another."
            return Decision(Verdict.UNDECIDED, Outcome.OK, (Reason("baseline_fails", text),))
    return None


def _of_flags(evidence: Evidence) -> Decision | None:
    log_flagged = rules.log_flagged(evidence.setup.gate.alpha, len(evidence.setup.references))
    for name, (ours, theirs) in evidence.flagged.items():
        if signs.log_evidence(ours, theirs) >= log_flagged:
            text = f"The candidate was flagged alone in {ours} pairs, {name!r} in {theirs}: {evidence.dropped_why[-1]}."
            return Decision(Verdict.FAIL, Outcome.OK, (Reason("candidate_flagged", text, "artifact"),))
    leans = any(signs.log_evidence(ours, theirs) >= LEANING for ours, theirs in evidence.flagged.values())
    return None if leans or not found.is_lost(evidence.dropped, evidence.pairs) else _noisy(evidence)


def _of_rules(evidence: Evidence) -> Decision | None:
    """The Decision once every Rule is settled, or one has failed."""
    if evidence.dropped > found.MISSING_RATIO * evidence.pairs or not evidence.kept:
        return None
    statuses = _statuses(evidence)
    if "fail" in statuses.values():
        return _decided(evidence, Verdict.FAIL, "fail", Outcome.OK)
    if "open" in statuses.values():
        return None
    verdict = Verdict.UNDECIDED if "lost" in statuses.values() else Verdict.PASS
    return _decided(evidence, verdict, "lost" if verdict is Verdict.UNDECIDED else "pass", Outcome.OK)


def _of_budget(evidence: Evidence) -> Decision | None:
    """The Decision where the next pair is not to be paid any more."""
    gate = evidence.setup.gate
    pair_s = evidence.spent_s / evidence.pairs if evidence.pairs else 0.0  # a little long: it has the warm-up's share
    if evidence.pairs < gate.pairs and evidence.spent_s + pair_s <= gate.budget_s and gate.budget_s > 0:
        return None
    if evidence.dropped > found.MISSING_RATIO * evidence.pairs:
        return _noisy(evidence)
    if not evidence.kept:
        text = (
            f"Nothing was measured: the budget of {gate.budget_s:g} board-seconds and {gate.pairs} pairs was over after"
            f" {evidence.spent_s:.1f} s. Nothing measured is never a pass. Allow more."
        )
        return Decision(Verdict.UNDECIDED, Outcome.OK, (Reason("nothing_measured", text),))
    return _decided(evidence, Verdict.UNDECIDED, "open", Outcome.OK)


def _noisy(evidence: Evidence) -> Decision:
    last = f", the last {evidence.dropped_why[-1]}" if evidence.dropped_why else ""
    text = (
        f"{evidence.dropped} of {evidence.pairs} pairs were dropped{last}. At most 20 % may be."
        " See that the board is cool and nothing else runs on it."
    )
    return Decision(Verdict.UNDECIDED, Outcome.NOISY, (Reason("pairs_dropped", text),))


def _statuses(evidence: Evidence) -> dict[str, found.Status]:
    compared = {
        key: found.status_of(evidence, key, one.candidate_missing + one.reference_missing)
        for key, one in evidence.compared.items()
    }
    limited = {
        found.key_of(rule.metric, None): found.status_of(
            evidence, found.key_of(rule.metric, None), evidence.held_missing.get(rule.metric, 0)
        )
        for rule in evidence.setup.limited
    }
    return {**compared, **limited}


def _decided(evidence: Evidence, verdict: Verdict, decisive: str, outcome: Outcome) -> Decision:
    """A Decision with a reason for each Rule, those that led to it first, and what else must be known of it."""
    told = sorted(found.findings(evidence), key=lambda one: (one.status != decisive, one.status == "pass"))
    reasons = [Reason(_CODES[one.status], one.text + _how_much_more(evidence, one)) for one in told]
    return Decision(verdict, outcome, (*reasons, *_notes(evidence)))


def _how_much_more(evidence: Evidence, one: Finding) -> str:
    nearest = max(one.fail_ratio, one.pass_ratio)
    if one.status != "open" or one.n == 0:
        return ""
    if nearest < 0.1:
        return "; more pairs would hardly decide it: widen the margin, or quiet the board"
    more = math.ceil(one.n * (1 / nearest - 1)) + 1
    pair_s = evidence.board_s / (evidence.next_pair or 1)
    return f"; about {more} more pairs ({more * pair_s:.0f} board-seconds) would decide it, should it go on so"


def _notes(evidence: Evidence) -> list[Reason]:
    setup = evidence.setup
    notes = []
    absent = [one.name for one in setup.gate.references if one.name not in setup.references]
    if absent and any(rule.max_change is not None for rule in setup.gate.rules):
        text = f"There is no reference {' or '.join(map(repr, absent))} yet: it was not compared with."
        notes.append(Reason("no_baseline", text))
    ours = evidence.failures.get(setup.candidate)
    if ours is not None:
        text = f"The candidate failed once ({ours.reason}) and then worked; that pair was dropped."
        notes.append(Reason("failed_once", text))
    return notes


_CODES = {"fail": "worse", "pass": "holds", "open": "not_decided", "lost": "not_measured"}
