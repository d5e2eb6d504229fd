"""How often is a gate wrong, and what does it cost? One command, Markdown tables: `python -m benchmarks.gate`.

1. SYM-E beside what others do, on one simulated board, in FAIL % for candidates that are slower by 0, 1, 2 and 5 %.
2. Five metrics at once, from raw samples: P50, P95, P99, energy and memory; each PASS of a moved one is a false PASS.
3. P(false FAIL) and P(false PASS), ever within 60 looks, under each law of laws.py. No other is asked here: a test that
   needs independent noise has no error rate under most of them.
4. The smallest margin that 80 pairs resolve.

The simulated board: a 10 ms model, 1 % between processes, 3 % and 2 % of stragglers within, 1 % between days, 2.6
board-seconds a pair. Seeds are fixed. Whether what was specified is met is said in the last column, and by
the exit status. The real thing, with processes and a virtual board, is not here.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import stats

from benchmarks import laws
from farm import rules
from farm.stats import evidence, noise

ALPHA, BETA = 0.01, 0.05
PAIRS, PAIR_S, BLOCK_S = 80, 2.6, 1.3
EFFECTS = (0.0, 0.01, 0.02, 0.05)
PROCESS, QUERY, DAY = 0.01, 0.03, 0.01
QUERIES = 50
NOT = "DOES NOT HOLD"

Array = NDArray[np.float64]
Row = tuple[str, ...]
Decide = Callable[[Generator, int, float], Array]  # rng, tries, effect -> bool[tries], worse


@dataclass(frozen=True, slots=True)
class Ended:
    """How many gates of a simulation ended."""

    fail: Array  # bool[gates]
    passed: Array
    board_s: Array  # the warm-up pair included

    @property
    def fail_percent(self) -> float:
        """FAIL, in percent."""
        return 100 * float(self.fail.mean())


def gate(d: Array, margins: Sequence[float], sigma0: Sequence[float]) -> Ended:
    """Gates over metrics, decided jointly as farm.gate does. d: float64[metrics, gates, pairs]."""
    log_fail, log_pass = rules.log_fail(ALPHA, len(d)), rules.log_pass(BETA)
    gates, pairs = d.shape[1:]
    fails, passes = np.zeros((gates, pairs), bool), np.ones((gates, pairs), bool)
    for one, share, prior in zip(d, margins, sigma0, strict=True):
        log_worse, log_within = evidence.paths(one, evidence.margin(share), prior)
        fails |= log_worse >= log_fail
        passes &= log_within >= log_pass
    failed, passed = _first(fails), _first(passes)  # the look at which it was so; `pairs` = never
    ended = np.minimum(failed, passed)
    looks = np.minimum(ended + 1, pairs) + 1
    return Ended((failed <= passed) & (failed < pairs), (passed < failed) & (passed < pairs), PAIR_S * looks)


def _first(is_so: NDArray[np.bool_]) -> NDArray[np.int_]:
    found: NDArray[np.int_] = np.where(is_so.any(axis=1), is_so.argmax(axis=1), is_so.shape[1])
    return found


def samples(rng: Generator, blocks: tuple[int, ...], queries: int = QUERIES) -> Array:
    """ln of latencies of fresh processes: float64[*blocks, queries]."""
    within = QUERY * rng.standard_normal((*blocks, queries))
    late = 0.1 * rng.standard_exponential((*blocks, queries)) * (rng.random((*blocks, queries)) < 0.02)
    found: Array = PROCESS * rng.standard_normal((*blocks, 1)) + within + late
    return found


def coin(rng: Generator, d: Array) -> Array:
    """`d` of pairs whose candidate came first or second, with an order effect and drift for the coin to take away."""
    shape = d.shape[-2:]
    order = np.where(rng.random(shape) < 0.5, 1.0, -1.0)
    found: Array = d + order * (0.002 + 0.001 * np.linspace(0, 1, shape[1]))
    return found


def p50_pairs(rng: Generator, gates: int) -> Array:
    """`d` of the P50 of equal arms: float64[1, gates, PAIRS]."""
    chunks = [
        np.diff(np.median(samples(rng, (min(250, gates - at), PAIRS, 2)), -1))[..., 0] for at in range(0, gates, 250)
    ]
    return coin(rng, np.concatenate(chunks)[None])


def five(rng: Generator, gates: int) -> Array:
    """`d` of P50, P95, P99, energy and memory of equal arms: float64[5, gates, PAIRS].

    Energy follows the median latency, with 0.5 % of its own; memory has 0.2 %, as paths of a fixed length leave it.
    """
    found = []
    for at in range(0, gates, 250):
        shape = (min(250, gates - at), PAIRS, 2)
        raw = samples(rng, shape)
        p50, p95, p99 = np.quantile(raw, (0.5, 0.95, 0.99), axis=-1)
        energy = p50 + 0.005 * rng.standard_normal(shape)
        memory = 0.002 * rng.standard_normal(shape)
        found.append(np.stack([np.diff(one)[..., 0] for one in (p50, p95, p99, energy, memory)]))
    d = np.concatenate(found, axis=1)
    return np.concatenate([coin(rng, d[:4]), d[4:]])  # neither order nor drift moves memory


def welch_stored(rng: Generator, gates: int, effect: float) -> Array:
    """Welch's test of 30 processes today against 30 of another day."""
    then, now = (np.median(samples(rng, (gates, 30)), -1) + DAY * rng.standard_normal((gates, 1)) for _ in range(2))
    p = stats.ttest_ind(now + effect, then, axis=1, equal_var=False, alternative="greater").pvalue
    return np.asarray(p < ALPHA)


def pooled_ranks(rng: Generator, gates: int, effect: float) -> Array:
    """Mann-Whitney's test of the raw samples of five processes against those of five of another day, pooled."""
    then, now = (
        (samples(rng, (gates, 5)) + DAY * rng.standard_normal((gates, 1, 1))).reshape(gates, -1) for _ in range(2)
    )
    p = stats.mannwhitneyu(now + effect, then, axis=1, alternative="greater", method="asymptotic").pvalue
    return np.asarray(p < ALPHA)


def threshold(rng: Generator, gates: int, effect: float) -> Array:
    """5 % over the stored figure, one process each."""
    then, now = (np.median(samples(rng, (gates,)), -1) + DAY * rng.standard_normal(gates) for _ in range(2))
    return np.asarray(now + effect - then > math.log1p(0.05))


def z_score(rng: Generator, gates: int, effect: float) -> Array:
    """More than five standard deviations over the mean of the last 30 nights, one process each."""
    nights = np.median(samples(rng, (gates, 31)), -1) + DAY * rng.standard_normal((gates, 31))
    past, now = nights[:, :30], nights[:, 30] + effect
    return np.asarray(now - past.mean(1) > 5 * past.std(1, ddof=1))


def interleaved_welch(rng: Generator, gates: int, effect: float, pairs: int) -> Array:
    """Welch's test of interleaved processes, their number fixed beforehand."""
    then, now = np.moveaxis(np.median(samples(rng, (gates, pairs, 2)), -1), -1, 0)
    p = stats.ttest_ind(now + effect, then, axis=1, equal_var=False, alternative="greater").pvalue
    return np.asarray(p < ALPHA)


RIVALS: tuple[tuple[str, Decide, float], ...] = (
    ("Welch, 30 processes, stored baseline", welch_stored, 30 * BLOCK_S),
    ("Mann-Whitney, pooled raw samples, stored baseline", pooled_ranks, 5 * BLOCK_S),
    ("5 % threshold on one run", threshold, BLOCK_S),
    ("z > 5 on 30 nights", z_score, BLOCK_S),
)

# What was specified, with two standard errors of 2,000 gates, and the warm-up pair on top of the means:
# FAIL % at most at 0, at least at 1, 2, 5 %; mean board-seconds at most at 0, 1, 2, 5 %. None: not promised.
PROMISED: dict[float, tuple[tuple[float, float | None, float, float], tuple[float | None, ...]]] = {
    0.02: ((0.5, None, 97.0, 99.9), (26.0, None, 37.0, 25.0)),
    0.01: ((1.5, 92.0, 99.9, 99.9), (72.0, 99.0, None, None)),
}


def compared(gates: int) -> list[Row]:
    """Table 1."""
    rows, wanted = [], 100.0
    for share, (percents, seconds) in PROMISED.items():
        d = p50_pairs(np.random.default_rng(1), gates)
        sigma0 = noise.WIDER * evidence.MAD_TO_SD * float(np.median(np.abs(d[0, :, :20])))
        ended = [gate(d + math.log1p(effect), [share], [sigma0]) for effect in EFFECTS]
        fails = [one.fail_percent for one in ended]
        means = [float(one.board_s.mean()) for one in ended]
        is_held = fails[0] <= percents[0] and all(
            floor is None or fail >= floor for fail, floor in zip(fails[1:], percents[1:], strict=True)
        )
        is_held &= all(most is None or mean <= most for mean, most in zip(means, seconds, strict=True))
        cost = " / ".join(f"{mean:.0f}" for mean in means)
        rows.append((f"**SYM-E, margin {100 * share:g} %**", *map(_percent, fails), cost, "holds" if is_held else NOT))
        wanted = fails[2] if share == 0.02 else wanted
    for name, decide, cost_s in RIVALS:
        fails = [100 * float(decide(np.random.default_rng(2), gates, math.log1p(one)).mean()) for one in EFFECTS]
        rows.append((name, *map(_percent, fails), f"{cost_s:.0f}", ""))
    return [*rows, _oracle(gates, wanted)]


def _oracle(gates: int, wanted: float) -> Row:
    """The interleaved test whose number of pairs was chosen knowing the noise and the slowdown to be found."""
    for pairs in range(5, PAIRS):
        shares = [interleaved_welch(np.random.default_rng(3), gates, math.log1p(one), pairs).mean() for one in EFFECTS]
        if 100 * shares[2] >= wanted:
            break
    name = f"interleaved Welch that knew to take {pairs} pairs"
    return (name, *(_percent(100 * float(one)) for one in shares), f"{PAIR_S * (pairs + 1):.0f}", "")


def jointly(gates: int) -> list[Row]:
    """Table 2."""
    metrics = ("p50_latency_ns", "p95_latency_ns", "p99_latency_ns", "energy_per_inference_j", "cold_load_rss_bytes")
    margins = [rules.MARGINS[metric] for metric in metrics]
    d = five(np.random.default_rng(4), gates)
    sigma0 = [noise.WIDER * evidence.MAD_TO_SD * float(np.median(np.abs(one[:, :20]))) for one in d]
    rows: list[Row] = []
    cases = (("unchanged", None, 0.0, 99.0), ("P99 +25 %", 2, 0.25, 95.0), ("memory +1 %", 4, 0.01, 99.5))
    for name, metric, effect, least in cases:
        moved = d.copy()
        if metric is not None:
            moved[metric] += math.log1p(effect)
        ended = gate(moved, margins, sigma0)
        fail, passed = ended.fail_percent, 100 * float(ended.passed.mean())
        found = passed if metric is None else fail
        mean_s, late_s = float(ended.board_s.mean()), float(np.quantile(ended.board_s, 0.95))
        is_held = found >= least and (metric is not None or (fail <= 100 * ALPHA and mean_s <= 82 and late_s <= 151))
        held = "holds" if is_held else NOT
        rows.append((name, _percent(fail), _percent(passed), f"{mean_s:.0f}", f"{late_s:.0f}", held))
    return rows


def errors(gates: int, looks: int = 60) -> list[Row]:
    """Table 3."""
    rows: list[Row] = []
    t = evidence.margin(0.02)
    for name, law in laws.LAWS.items():
        d = np.concatenate(
            [laws.pairs(law, np.random.default_rng((5, at)), 2000, looks) for at in range(gates // 2000)]
        )
        log_worse, _ = evidence.paths(d, t, 0.02)
        _, log_within = evidence.paths(d + t, t, 0.02)
        wrong = [(log_worse.max(1) >= math.log(1 / ALPHA)).sum(), (log_within.max(1) >= math.log(1 / BETA)).sum()]
        most = [stats.binom.isf(1e-3, len(d), rate) for rate in (ALPHA, BETA)]
        is_held = wrong[0] <= most[0] and wrong[1] <= most[1]
        summary = (law.__doc__ or "").strip()
        rows.append((f"{name}: {summary}", *(f"{one / len(d):.4f}" for one in wrong), "holds" if is_held else NOT))
    return rows


def smallest(gates: int) -> list[Row]:
    """Table 4: at the smallest margin that is let in, how many gates still end undecided."""
    rows: list[Row] = []
    for pairs in (20, 40, 80, 160):
        share = noise.smallest_margin(0.01, pairs)
        d = 0.01 * np.random.default_rng(6).standard_normal((1, gates, pairs))
        ended = [gate(d + effect, [share], [noise.WIDER * 0.01]) for effect in (0.0, evidence.margin(share))]
        undecided = [100 * float(1 - one.fail.mean() - one.passed.mean()) for one in ended]
        is_held = max(undecided) <= 10.0
        rows.append((str(pairs), f"{share / 0.01:.2f} sd", *map(_percent, undecided), "holds" if is_held else NOT))
    return rows


def _percent(value: float) -> str:
    return f"{value:.1f}"


def table(header: Row, rows: Iterable[Row]) -> str:
    """A Markdown table."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> int:
    """Print the tables; 1 where a figure does not hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the gates: figures are rough")
    gates = 400 if parser.parse_args().quick else 2000
    many = 10 * gates
    found = [
        (("method", "0 %", "+1 %", "+2 %", "+5 %", "mean board-s", ""), compared(gates)),
        (("five metrics", "FAIL %", "PASS %", "mean board-s", "95 % within", ""), jointly(gates)),
        (("law", "false FAIL", "false PASS", ""), errors(many)),
        (("pairs", "smallest margin", "undecided % at 0", "at the margin", ""), smallest(gates)),
    ]
    for header, rows in found:
        print(table(header, rows), end="\n\n")
    return int(any(NOT in row for _, rows in found for row in rows))


if __name__ == "__main__":
    sys.exit(main())
