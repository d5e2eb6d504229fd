"""Gates for tests: a Setup in a line, pairs of given figures, and a whole gate played through."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from farm import gate
from farm.gate import Decision, Next
from farm.pairs import Evidence, Pair, Setup, State, Taken
from farm.rules import Gate, Reference, Rule

P50, P99, MEMORY = "p50_latency_ns", "p99_latency_ns", "cold_load_rss_bytes"
LAST = Reference("last-passing", "last-passing")
Block = Taken | Mapping[str, float | None]
Play = Callable[[int, str], Block]  # pair, letter -> a Block, or only its figures


def setup(*rules: Rule, seed: int = 1, references: tuple[Reference, ...] = (LAST,), **changes: object) -> Setup:
    """A gate of the candidate `c` against `a` (and `b`, ...)."""
    named = Gate(rules or (Rule(P50, 0.02),), references, **changes)  # type: ignore[arg-type]
    return Setup(named, "c", {one.name: letter for one, letter in zip(references, "ab", strict=False)}, seed)


def taken(arm: str, block: Block) -> Taken:
    """A Block that was measured well, of its figures."""
    return block if isinstance(block, Taken) else Taken(arm, "ok", dict(block), dict(block))


def bad(arm: str, state: State, reason: str = "it says so") -> Taken:
    """A Block that is flagged or failed."""
    return Taken(arm, state, reason=reason)


def play(
    evidence: Evidence, blocks: Play, *, most: int = 400, pair_s: float = 2.0
) -> tuple[Evidence, list[Pair], Decision]:
    """A gate from where it stands to its Decision."""
    pairs: list[Pair] = []
    asked = gate.ask(evidence)
    while isinstance(asked, Next):
        assert len(pairs) < most, "this gate does not end"
        found = tuple(taken(letter, blocks(asked.pair, letter)) for letter in asked.order)
        pairs.append(Pair(asked.pair, found, pair_s))
        evidence, asked = gate.step(evidence, pairs[-1])
    return evidence, pairs, asked


def codes(decision: Decision) -> list[str]:
    """The codes of its reasons."""
    return [reason.code for reason in decision.reasons]
