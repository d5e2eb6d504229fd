"""Documents: their shape is checked field by field, and thinning loses no extreme."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from farm_dashboards import documents

from tests.dashboards import samples


def _broken(change: Callable[[dict[str, Any]], object], kind: str = "run") -> str:
    document = copy.deepcopy(samples.by_kind(kind))
    change(document)
    with pytest.raises(ValueError) as caught:
        documents.check(document)
    return str(caught.value)


def test_a_document_of_no_known_kind_is_refused_with_the_known_kinds() -> None:
    assert _broken(lambda d: d.update(kind="trend")) == "document.kind is 'trend'; known kinds: compare, run"
    assert _broken(lambda d: d.clear()) == "document.kind is None; known kinds: compare, run"
    with pytest.raises(ValueError, match="known kinds: compare, run"):
        documents.check([])  # type: ignore[arg-type]


def test_a_document_of_another_version_says_what_to_do() -> None:
    text = _broken(lambda d: d.update(version=2))
    assert text.startswith("document.version is 2; this one draws version 1: make the document again")


def test_a_missing_field_is_named_with_its_place() -> None:
    text = _broken(lambda d: d["latency"]["blocks"][2].pop("t_s"))
    assert text == "document.latency.blocks[2] lacks the field 't_s'"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda d: d.update(model=7), "document.model is 7; str is needed"),
        (lambda d: d.update(model=None), "document.model is None; str is needed"),
        (lambda d: d.update(is_virtual=1), "document.is_virtual is 1; bool is needed"),
        (lambda d: d.update(outcome="GOOD"), "document.outcome is 'GOOD'; one of OK, NOISY, FAILED, BROKEN, CANCELLED"),
        (lambda d: d.update(sensors={}), "document.sensors is {}; a list is needed"),
        (lambda d: d.update(memory=[]), "document.memory is []; an object is needed"),
        (lambda d: d["artifact"].update(size_bytes=True), "document.artifact.size_bytes is True; int is needed"),
        (lambda d: d["summaries"][0].update(value="3"), "document.summaries[0].value is '3'; a number is needed"),
        (lambda d: d["latency"]["blocks"][0]["t_s"].__setitem__(3, None), "blocks[0].t_s[3] is None; a number"),
        (lambda d: d["sensors"][1]["blocks"][0]["value"].__setitem__(2, "hot"), "value[2] is 'hot'; a number"),
    ],
)
def test_a_field_of_the_wrong_type_is_named_with_what_was_seen(change: Callable[[Any], object], text: str) -> None:
    assert text in _broken(change)


def test_columns_of_unequal_length_are_refused() -> None:
    text = _broken(lambda d: d["latency"]["blocks"][1]["t_s"].pop())
    assert "document.latency.blocks[1] has columns of unequal length (t_s 99, latency_ns 100)" in text
    assert "unequal length" in _broken(lambda d: d["latency"]["blocks"][1]["warmup_t_s"].pop())
    assert "blocks[0].ecdf has columns" in _broken(lambda d: d["latency"]["blocks"][0]["ecdf"]["share_ratio"].pop())
    assert "document.sensors[0].blocks[4] has" in _broken(lambda d: d["sensors"][0]["blocks"][4]["value"].pop())


def test_one_run_or_seven_cannot_be_compared() -> None:
    assert "has 1 runs; two to six" in _broken(lambda d: d["runs"].pop(), "compare")
    assert "has 7 runs; two to six" in _broken(lambda d: d["runs"].extend(d["runs"][:1] * 5), "compare")


def test_a_comparison_needs_one_value_for_each_run() -> None:
    text = _broken(lambda d: d["metrics"][0]["runs"].pop(), "compare")
    assert text == "document.metrics[0].runs has 1 entries for 2 runs; one each is needed"


@pytest.mark.parametrize("kind", ["run", "compare"])
def test_a_document_survives_json(kind: str) -> None:
    document = json.loads(json.dumps(samples.by_kind(kind), allow_nan=False))
    documents.check(document)
    assert document == samples.by_kind(kind)


def test_thinning_keeps_spikes_and_drops_nan() -> None:
    value = np.full(100_000, 3.0)
    value[[17, 54_321, 99_998]] = (900.0, -5.0, 70.0)
    value[2::3] = math.nan
    value[[17, 54_321, 99_998]] = (900.0, -5.0, 70.0)
    t_s, shown = documents.thin(np.arange(100_000) / 10, value, 1000)
    assert len(t_s) == len(shown) <= 1000
    assert dict(zip(t_s, shown, strict=True)).items() >= {1.7: 900.0, 5432.1: -5.0, 9999.8: 70.0}.items()
    assert set(shown) == {900.0, -5.0, 70.0, 3.0}
    assert t_s == sorted(t_s)


def test_thinning_leaves_short_columns_as_they_are() -> None:
    assert documents.thin([0.0, 1.0], [5.0, 4.0]) == ([0.0, 1.0], [5.0, 4.0])
    assert documents.thin([], []) == ([], [])


def test_a_distribution_is_the_share_at_or_below_each_value() -> None:
    assert documents.ecdf([3, 1, 2, math.nan, 2]) == {
        "n": 4,
        "latency_ns": [1.0, 2.0, 2.0, 3.0],
        "share_ratio": [0.25, 0.5, 0.75, 1.0],
    }
    assert documents.ecdf([]) == {"n": 0, "latency_ns": [], "share_ratio": []}


def test_a_thinned_distribution_keeps_its_ends_and_says_its_true_n() -> None:
    curve = documents.ecdf(np.arange(1, 1_000_001), 1000)
    assert curve["n"] == 1_000_000
    assert len(curve["latency_ns"]) <= 1000
    assert curve["latency_ns"][0] == 1.0
    assert curve["latency_ns"][-100:] == [float(value) for value in range(999_901, 1_000_001)]
    assert curve["share_ratio"] == [value / 1_000_000 for value in curve["latency_ns"]]


def test_a_block_says_how_many_queries_there_were_in_truth() -> None:
    block = documents.latency_block(3, "b", np.arange(9000) / 10, np.arange(9000), [0.0], [7])
    assert (block["index"], block["arm"], block["n"], block["n_warmup"]) == (3, "b", 9000, 1)
    assert len(block["t_s"]) <= documents.MAX_POINTS


def test_a_sensor_that_gave_nothing_is_absent_not_zero() -> None:
    assert documents.sensor_block(0, [0.0, 0.1], [51.5, math.nan])["value"] == [51.5, None]
