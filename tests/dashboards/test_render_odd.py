"""Odd Documents: hostile names, nothing measured, one sample, NaN, a million samples."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from typing import Any

import numpy as np
import pytest
from farm_dashboards import documents, render

from tests.dashboards import samples

MAGIC = {"png": b"\x89PNG\r\n\x1a\n", "svg": b"<?xml", "pdf": b"%PDF-"}


@pytest.mark.parametrize("kind", ["run", "compare"])
@pytest.mark.parametrize("format", ["png", "svg", "pdf"])
def test_hostile_names_reach_every_text_of_a_figure_and_do_no_harm(kind: str, format: str) -> None:
    document = _with_hostile_texts(samples.by_kind(kind))
    data = render.render(document, format=format)
    assert data.startswith(MAGIC[format])
    if format == "svg":
        root = ElementTree.fromstring(data)  # not well formed would raise
        assert not [element for element in root.iter() if "onload" in element.attrib or "script" in element.tag]
        assert "a$b$" in "".join(root.itertext())  # a dollar is a dollar


def test_a_name_of_ten_kilobytes_stays_inside_the_page() -> None:
    document = samples.run()
    document["model"] = "W" * 10_000
    title = samples.texts(document)[0]
    assert len(title) < 80
    assert title.startswith("WWW")
    assert "…" in title


@pytest.mark.parametrize("kind", ["run", "compare"])
def test_nothing_measured_is_said_in_words(kind: str) -> None:
    document = samples.by_kind(kind)
    empty = {"stages": [], "cold_load_rss_bytes": None}
    if kind == "run":
        document.update(latency={"blocks": []}, sensors=[], summaries=[], memory=empty)
    else:
        document["metrics"] = []
        for run in document["runs"]:
            run.update(ecdfs=[], memory=empty)
    shown = samples.texts(document)
    assert "no timed queries" in shown
    assert "memory was not read" in shown


def test_blocks_without_any_query_are_drawn() -> None:
    assert "no timed queries" in samples.texts(samples.run(n=0))


def test_one_sample_and_one_block_are_drawn() -> None:
    shown = samples.texts(samples.run(processes=1, n=1))
    assert "timed, n = 1" in shown
    assert "Distribution" in shown


@pytest.mark.parametrize("value", [math.nan, 0.0, -1.0, 5.0])
def test_odd_latencies_are_drawn(value: float) -> None:
    document = samples.run(processes=2)
    for block in document["latency"]["blocks"]:
        block.update(documents.latency_block(block["index"], "a", [0.0, 1.0, 2.0], [value] * 3))
    for sensor in document["sensors"]:
        for block in sensor["blocks"]:
            block["value"] = [None] * len(block["value"])
    assert any("(no readings)" in text for text in samples.texts(document))


def test_a_spike_puts_latency_on_a_logarithmic_axis() -> None:
    document = samples.run()
    document["latency"]["blocks"][2]["latency_ns"][50] = 9e8
    assert "latency, ms (log)" in samples.texts(document)
    assert "latency, ms" in samples.texts(samples.run())


def test_a_million_samples_make_a_small_picture() -> None:
    document = samples.run(processes=1, n=10)
    rng = np.random.default_rng(0)
    latency_ns = rng.gamma(40, 1e5, 1_000_000)
    document["latency"]["blocks"][0].update(  # as a producer that thins nothing would send it
        n=1_000_000,
        t_s=(np.arange(1_000_000) / 250).tolist(),
        latency_ns=latency_ns.tolist(),
        ecdf={
            "n": 1_000_000,
            "latency_ns": np.sort(latency_ns).tolist(),
            "share_ratio": (np.arange(1, 1_000_001) / 1e6).tolist(),
        },
    )
    svg = render.render(document, format="svg")
    assert len(svg) < 1_000_000
    assert b"timed, n = 1,000,000 (4,000 shown, extremes kept)" in svg


def _with_hostile_texts(value: Any, key: str = "") -> Any:
    """The same Document with every free text hostile."""
    if isinstance(value, dict):
        return {name: _with_hostile_texts(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [_with_hostile_texts(inner, key) for inner in value]
    if isinstance(value, str) and key not in ("kind", "outcome", "metric", "arm"):
        return samples.HOSTILE
    return samples.HOSTILE + value if key == "metric" else value
