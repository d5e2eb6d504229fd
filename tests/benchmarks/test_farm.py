"""The farm's benchmark, at its smallest: it runs, and its figures are there. How large they are is not asked here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import crowd, farm, lab, latency, load, standin, tables
from farm import broker

SMALL = lab.Services("SQLite, in process", "m", None, broker.MEMORY, is_split=False)
FIGURE = re.compile(r"\d+(\.\d)? ms")


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[standin.Boards]:
    with standin.running(tmp_path_factory.mktemp("standin") / "boards") as found:
        yield found


def test_a_farm_of_stand_in_boards_has_a_latency_and_a_throughput(boards: standin.Boards, tmp_path: Path) -> None:
    with lab.running(SMALL, tmp_path / "lab", boards, 2) as one:
        with latency.Wire(boards, tmp_path) as wire:
            trips = list(latency.rows([one], boards, wire, jobs=2))
        rates = list(load.throughput([one], boards=2, jobs=3))
        assert one.outcomes() == ["OK"] * 7
    assert [row[0] for row in trips[4:-1]] == list(latency.STEPS.values())
    assert all(FIGURE.fullmatch(row[1]) for row in trips)
    assert [row[1].partition(" ")[2] for row in rates] == ["/ s", "ms"]


def test_what_boards_cost_is_told_for_each_size_of_a_lab(boards: standin.Boards, tmp_path: Path) -> None:
    sizes = (1, 2)
    costs = {
        count: load.cost(SMALL, tmp_path / str(count), boards, count, queued=200, requests=2, window_s=0.5)
        for count in sizes
    }
    rows = list(load.growth(costs, queued=200))
    assert {len(row) for row in rows} == {1 + len(sizes) + 3}
    assert sum(row[-1] in ("holds", tables.NOT) for row in rows) == 4 + 2 * len(load.REQUESTS) + 1
    assert min(costs[2].idle_bytes) > 0
    assert costs[2].job_ms > 0


def test_rounds_of_a_dispatcher_give_out_every_board_and_then_the_free_one(
    boards: standin.Boards, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/farm.db"
    with crowd.crowd(url, tmp_path, boards.facts(), size=10, queued=60) as rows:
        assert rows.round()[0] == 10
        assert rows.round()[0] == 0
        rows.end_one()
        assert rows.round()[0] == 1


def test_a_time_that_grows_faster_than_the_lab_does_not_hold() -> None:
    sizes = (10, 100, 1000)
    assert tables.grown("x", [1.0, 10.0, 100.0], sizes)[-3:] == ("1.00", "linear", "holds")
    assert tables.grown("x", [1.0, 10.0, 200.0], sizes)[-3:] == ("1.15", "linear", tables.NOT)
    assert tables.grown("x", [1.0, 2.0, 25.0], sizes, 20.0)[-2:] == ("linear, 20 ms", tables.NOT)


def test_one_farm_that_is_too_slow_is_enough_for_a_promise_not_to_hold() -> None:
    assert tables.below("x", [10.0, 59.96], 60.0) == ("x", "10.0 ms", "60.0 ms", "60 ms", "holds")
    assert tables.below("x", [10.0, 123.4], 60.0) == ("x", "10.0 ms", "123 ms", "60 ms", tables.NOT)


@pytest.mark.parametrize(("values", "wanted"), [([3.0], 3.0), ([float(n) for n in range(1, 101)], 95.0)])
def test_the_95th_percentile_is_what_95_percent_do_not_exceed(values: list[float], wanted: float) -> None:
    assert tables.p95(values) == wanted


def test_tables_are_put_between_the_marks_of_a_page_and_nowhere_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("no marks")
    with pytest.raises(ValueError, match="has no lines"):
        tables.put("| x |", page)
    page.write_text(f"before\n{tables.START}\nold\n{tables.END}\nafter\n")
    tables.put(tables.table(("a", "b"), [("1", "2")]), page)
    wanted = f"before\n{tables.START}\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n{tables.END}\nafter\n"
    assert page.read_text() == wanted


def test_the_page_of_the_docs_has_the_marks() -> None:
    text = (Path(farm.__file__).parent.parent / "docs" / "farm-speed.md").read_text()
    assert text.count(tables.START) == text.count(tables.END) == 1
