"""The gate's benchmark, at its smallest: what it simulates is what farm.gate decides, and its tables are there."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks import gate, laws
from farm import gate as real
from farm.domain import Verdict
from farm.rules import Rule
from tests.farm import gates
from tests.farm.gates import MEMORY, P50


@pytest.mark.parametrize("effect", [0.0, 0.01, 0.05])
def test_many_gates_at_once_end_as_the_gate_ends_each(effect: float) -> None:
    d = np.stack([laws.pairs(laws.skewed, np.random.default_rng(n), 12, 40) for n in (1, 2)])
    d[0] += effect
    ended = gate.gate(d, [0.02, 0.01], [0.02, 0.02])
    for row in range(12):
        setup = gates.setup(Rule(P50, 0.02), Rule(MEMORY, 0.01), pairs=40)
        evidence, _, decision = gates.play(real.start(setup), _figures(d[:, row]), pair_s=gate.PAIR_S)
        assert (decision.verdict is Verdict.FAIL) == ended.fail[row]
        assert (decision.verdict is Verdict.PASS) == ended.passed[row]
        assert evidence.board_s == pytest.approx(ended.board_s[row])


def _figures(d: laws.Array) -> gates.Play:
    def blocks(pair: int, letter: str) -> gates.Block:
        p50, memory = d[:, max(pair - 1, 0)] if letter == "c" else (0.0, 0.0)
        return {P50: math.exp(p50), MEMORY: math.exp(memory)}

    return blocks


@pytest.mark.parametrize("rival", [decide for _, decide, _ in gate.RIVALS])
def test_a_rival_finds_a_large_slowdown_or_says_nothing(rival: gate.Decide) -> None:
    assert rival(np.random.default_rng(1), 100, 0.5).mean() > 0.9
    assert rival(np.random.default_rng(1), 100, -0.5).mean() == 0.0


def test_five_metrics_come_from_raw_samples() -> None:
    d = gate.five(np.random.default_rng(1), 30)
    assert d.shape == (5, 30, gate.PAIRS)
    p50, _, p99, _, memory = d.std(axis=(1, 2))
    assert memory < p50 < p99


def test_the_page_has_the_tables() -> None:
    page = (Path(__file__).parents[2] / "docs/gates.md").read_text("utf-8")
    assert [name for name, _, _ in gate.RIVALS if f"| {name} |" not in page] == []
    assert [name for name in laws.LAWS if f"| {name}: " not in page] == []
