"""The effect of one Run against another: a ratio and a range, or why there is none."""

from __future__ import annotations

import pytest

from farm.stats import Summary
from farm.stats.compare import Effect, compare


def test_a_metric_that_one_side_lacks_is_shown_with_the_reason() -> None:
    figure = Summary("p50_latency_ns", 100.0, 400, 5, 90.0, 110.0)
    absent = Summary("p50_latency_ns", None, 5, 5, reason="needs 7")
    assert compare([figure], []) == [Effect("p50_latency_ns", figure, None, None, reason="absent in B: not measured")]
    assert compare([], [figure]) == [Effect("p50_latency_ns", None, figure, None, reason="absent in A: not measured")]
    assert compare([absent], [figure])[0].reason == "absent in A: needs 7"
    assert compare([figure], [absent])[0].reason == "absent in B: needs 7"


@pytest.mark.parametrize("low", [0.0, -4096.0])
def test_what_is_not_positive_has_no_ratio(low: float) -> None:
    growth = Summary("rss_growth_bytes", 4096.0, 1, 5, low, 8192.0)
    whole = Summary("rss_growth_bytes", 4096.0, 1, 5, 4096.0, 8192.0)
    assert compare([growth], [whole])[0].reason == "a ratio needs positive figures"


def test_a_negative_figure_against_a_positive_one_has_no_ratio() -> None:
    shrunk = Summary("rss_growth_bytes", 10.0, 1, 5, -10.0, 20.0)
    whole = Summary("rss_growth_bytes", 10.0, 1, 5, 10.0, 20.0)
    assert compare([whole], [shrunk])[0].ratio is None


def test_the_effect_is_the_ratio_of_medians_between_the_most_extreme_processes() -> None:
    a = [Summary("p50_latency_ns", 100.0, 400, 5, 80.0, 125.0), Summary("p50_latency_ns", 1.0, 400, 1, block=0)]
    b = [Summary("p50_latency_ns", 110.0, 400, 5, 100.0, 120.0)]
    assert compare(a, b) == [Effect("p50_latency_ns", a[0], b[0], 1.1, 0.8, 1.5)]


def test_a_run_against_itself_has_no_effect() -> None:
    figure = Summary("cold_load_rss_bytes", 90e6, 1, 1, 90e6, 90e6)
    assert compare([figure], [figure]) == [Effect("cold_load_rss_bytes", figure, figure, 1.0, 1.0, 1.0)]


def test_metrics_keep_the_order_of_the_first_run() -> None:
    a = [Summary(metric, 1.0, 1, 5, 1.0, 1.0) for metric in ("load_ns", "p50_latency_ns")]
    b = [Summary(metric, 1.0, 1, 5, 1.0, 1.0) for metric in ("power_w", "p50_latency_ns")]
    assert [effect.metric for effect in compare(a, b)] == ["load_ns", "p50_latency_ns", "power_w"]
