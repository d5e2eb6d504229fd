"""Summaries: literal numbers in, literal figures out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.stats import Summary
from farm.stats.summary import (
    interval,
    needed,
    quantile,
    rank,
    summarize_deadline,
    summarize_samples,
    summarize_scalars,
    summarize_throughput,
)


def _find(summaries: list[Summary], metric: str, block: int | None = None) -> Summary:
    (found,) = (s for s in summaries if s.metric == metric and s.block == block)
    return found


@pytest.mark.parametrize(
    ("q", "beyond", "n"), [(0.5, 0, 7), (0.9, 0, 44), (0.95, 0, 90), (0.99, 0, 459), (0.99, 1, 662), (0.999, 0, 4603)]
)
def test_a_quantile_needs_the_exact_binomial_number_of_samples(q: float, beyond: int, n: int) -> None:
    assert needed(q, beyond=beyond) == n


def test_a_quantile_that_n_cannot_support_says_what_it_needs_and_is_no_number() -> None:
    summaries = summarize_samples({0: np.arange(458), 1: np.arange(1000)})
    assert _find(summaries, "p99_latency_ns", 0) == Summary("p99_latency_ns", None, 458, 1, block=0, reason="needs 459")
    assert _find(summaries, "p99_latency_ns", 1).value == 989.0
    assert _find(summaries, "p99_latency_ns") == Summary("p99_latency_ns", None, 458, 2, reason="needs 459")
    assert _find(summaries, "p95_latency_ns", 0).value == 435.0


def test_one_sample_more_supports_it() -> None:
    summaries = summarize_samples({0: np.arange(459)})
    assert _find(summaries, "p99_latency_ns") == Summary("p99_latency_ns", 454.0, 459, 1, 454.0, 454.0)


def test_a_run_without_blocks_has_no_figures() -> None:
    assert _find(summarize_samples({}), "p50_latency_ns").reason == "absent in every block"
    assert _find(summarize_throughput({}), "throughput_per_s").value is None
    assert summarize_scalars({}) == []


def test_an_empty_block_has_no_figures_and_supports_no_quantile_of_its_run() -> None:
    summaries = summarize_samples({0: np.array([], np.int64), 1: np.arange(100)})
    assert _find(summaries, "max_latency_ns", 0) == Summary("max_latency_ns", None, 0, 1, block=0, reason="absent")
    over_run = Summary("max_latency_ns", 99.0, 0, 1, 99.0, 99.0, reason="absent in 1 of 2 blocks")
    assert _find(summaries, "max_latency_ns") == over_run
    assert _find(summaries, "p50_latency_ns").reason == "needs 7"


@pytest.mark.parametrize(
    ("q", "n", "k"),
    [(0.5, 1, 1), (0.5, 2, 1), (0.5, 3, 2), (0.99, 100, 99), (0.99, 101, 100), (0.07, 100, 7), (0.0, 5, 1)],
)
def test_the_nearest_rank_is_the_smallest_that_reaches_the_share(q: float, n: int, k: int) -> None:
    assert rank(q, n) == k


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=60), st.sampled_from([0.5, 0.9, 0.95, 0.99, 0.999]))
def test_a_nearest_rank_quantile_is_a_sample_that_enough_others_do_not_exceed(values: list[int], q: float) -> None:
    found = quantile(np.array(values), q)
    assert found in values
    assert sum(value <= found for value in values) >= q * len(values) - 1e-9
    assert sum(value < found for value in values) < q * len(values) + 1e-9


def test_the_interval_is_the_textbook_pair_of_order_statistics() -> None:
    # n = 10, median: P(2 <= B(10, 1/2) <= 8) = 0.9785, and the next narrower pair has only 0.8906
    assert interval(np.arange(1, 11), 0.5) == (2.0, 9.0)


def test_a_side_that_n_cannot_bound_is_absent() -> None:
    assert interval(np.arange(5), 0.5) == (None, None)
    low, high = interval(np.arange(100), 0.99)
    assert (low, high) == (96.0, None)


def test_the_interval_holds_the_true_quantile_as_often_as_it_says() -> None:
    rng = np.random.default_rng(20260301)
    true_p90 = np.log(10.0)
    held = 0
    for _ in range(2000):
        low, high = interval(rng.exponential(size=200), 0.9)
        assert low is not None
        assert high is not None
        held += low <= true_p90 <= high
    assert 0.945 <= held / 2000 <= 0.985  # conservative, as a discrete law must be


def test_the_range_over_five_processes_holds_the_median_process_as_often_as_it_says() -> None:
    rng = np.random.default_rng(20260301)
    held = 0
    for _ in range(4000):
        per_process = rng.lognormal(0.0, 0.5, 5)
        summary = summarize_scalars({"cold_load_rss_bytes": list(per_process)})[0]
        assert summary.low is not None
        assert summary.high is not None
        held += summary.low <= 1.0 <= summary.high
    assert held / 4000 == pytest.approx(0.9375, abs=0.012)


def test_the_figure_of_a_run_is_the_median_of_its_processes_with_their_extremes() -> None:
    blocks = {i: np.arange(100) + shift for i, shift in enumerate((30, 10, 0, 20, 1000))}
    summaries = summarize_samples(blocks)
    assert _find(summaries, "p50_latency_ns") == Summary("p50_latency_ns", 69.0, 100, 5, 49.0, 1049.0)
    assert _find(summaries, "p50_latency_ns", 2) == Summary("p50_latency_ns", 49.0, 100, 1, 39.0, 60.0, 2)
    assert _find(summaries, "min_latency_ns") == Summary("min_latency_ns", 20.0, 100, 5, 0.0, 1000.0)
    assert _find(summaries, "max_latency_ns", 4).value == 1099.0
    assert _find(summaries, "mean_latency_ns", 0) == Summary("mean_latency_ns", 79.5, 100, 1, block=0)


def test_another_metric_has_its_own_names() -> None:
    names = {summary.metric for summary in summarize_samples({0: np.arange(10)}, "start_delay_ns")}
    assert "p50_start_delay_ns" in names
    assert len(names) == 8


def test_throughput_is_queries_over_the_timed_window() -> None:
    summaries = summarize_throughput({0: (500, 2_000_000_000), 1: (300, 1_000_000_000), 3: (10, 0)})
    assert _find(summaries, "throughput_per_s", 0).value == 250.0
    assert _find(summaries, "throughput_per_s", 3).reason == "absent"
    over_run = Summary("throughput_per_s", 275.0, 10, 2, 250.0, 300.0, reason="absent in 1 of 3 blocks")
    assert _find(summaries, "throughput_per_s") == over_run


def test_a_latency_at_the_deadline_does_not_miss_it() -> None:
    summaries = summarize_deadline({0: np.array([10, 20, 30, 40]), 1: np.array([10, 10])}, deadline_ns=20)
    assert _find(summaries, "deadline_miss_ratio", 0).value == 0.5
    assert _find(summaries, "deadline_miss_ratio") == Summary("deadline_miss_ratio", 0.25, 2, 2, 0.0, 0.5)


def test_a_scalar_is_the_median_of_the_blocks_that_have_it() -> None:
    rss, swap, power = summarize_scalars(
        {
            "cold_load_rss_bytes": [90e6, 88e6, 95e6],
            "swap_bytes": [None, 4096, None],
            "power_w": [None, float("nan"), None],
        }
    )
    assert rss == Summary("cold_load_rss_bytes", 90e6, 1, 3, 88e6, 95e6)
    assert swap == Summary("swap_bytes", 4096.0, 1, 1, 4096.0, 4096.0, reason="absent in 2 of 3 blocks")
    assert power == Summary("power_w", None, 1, 3, reason="absent in every block")
