"""The farm's benchmark, at its smallest: it runs, and its figures are there. How large they are is not asked here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import crowd, farm, lab, standin
from farm import broker

FIGURE = re.compile(r"\d+(\.\d)? ms")


def test_a_farm_of_stand_in_boards_has_a_latency(tmp_path: Path) -> None:
    services = lab.Services("SQLite, in process", "m", None, broker.MEMORY, is_split=False)
    with (
        standin.running(tmp_path / "boards") as boards,
        lab.running(services, tmp_path / "lab", boards, 2) as one,
        farm.Wire(boards, tmp_path) as wire,
    ):
        rows = list(farm.latency([one], boards, wire, jobs=2))
        assert lab.rss_bytes(one.worker) > 0
    assert len(rows) == 4 + len(farm.TOLD)
    assert all(FIGURE.fullmatch(row[1]) for row in rows)


def test_rounds_of_a_dispatcher_give_out_every_board_and_then_the_free_one(tmp_path: Path) -> None:
    facts = standin.record(tmp_path / "home")["probe"]
    with crowd.crowd(f"sqlite:///{tmp_path}/farm.db", tmp_path, facts, size=10, queued=60) as rows:
        assert rows.round()[0] == 10
        assert rows.round()[0] == 0
        rows.end_one()
        granted, took_s = rows.round()
    assert granted == 1
    assert took_s > 0


def test_a_time_that_grows_faster_than_the_lab_does_not_hold() -> None:
    assert farm.grown("x", [1.0, 10.0, 100.0], (10, 100, 1000), None)[-3:] == ("1.00", "linear", "holds")
    assert farm.grown("x", [1.0, 10.0, 200.0], (10, 100, 1000), None)[-3:] == ("1.15", "linear", farm.NOT)
    assert farm.grown("x", [1.0, 2.0, 25.0], (10, 100, 1000), 20.0)[-2:] == ("linear, 20 ms", farm.NOT)


@pytest.mark.parametrize(("values", "wanted"), [([3.0], 3.0), ([float(n) for n in range(1, 101)], 95.0)])
def test_the_95th_percentile_is_what_95_percent_do_not_exceed(values: list[float], wanted: float) -> None:
    assert farm.p95(values) == wanted
