"""The whole trip, measured for real on this machine: what is printed, written and left behind."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper

from farm.__main__ import run

FAST = ("--duration-s", "0.2", "--processes", "2")
PATIENCE_S = 60.0  # while another agent holds this machine: it is one board


def farm(*words: object) -> tuple[int, str, str]:
    """`farm WORDS`, tried again while another program measures on this machine."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run([str(word) for word in words])
        if code != 4 or "is in use" not in out.getvalue() + err.getvalue() or time.monotonic() > deadline:
            return code, out.getvalue(), err.getvalue()
        time.sleep(1)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A folder with a store of two Runs of one Plan, and what was printed of the first."""
    folder = tmp_path_factory.mktemp("measured")
    patch = pytest.MonkeyPatch()
    patch.setenv("HOME", str(folder))
    for name, latency_us in (("one", 300), ("two", 600)):
        (folder / f"{name}.fake").write_text(json.dumps({"latency_us": latency_us}))
    data = ("--data-dir", folder / "data")
    commit = ("--commit", "abc123", "--branch", "main")
    first = farm("bench", folder / "one.fake", *FAST, *data, *commit, "--json", "--plot", folder / "one.png")
    second = farm("bench", folder / "two.fake", *FAST, *data)
    patch.undo()
    return {"folder": folder, "data": data, "first": first, "second": second}


def test_bench_prints_one_object_and_draws_the_figure(measured: dict[str, Any]) -> None:
    code, out, err = measured["first"]
    found = json.loads(out)
    assert code in (0, 3)  # a busy machine may make it NOISY
    assert found["model"] == "one"
    assert found["artifact"]["name"] == "one.fake"
    assert (found["context"]["commit"], found["context"]["branch"]) == ("abc123", "main")
    metric = found["metrics"]["p50_latency_ns"]
    assert metric["value"] >= 300_000
    assert (metric["unit"], metric["processes"]) == ("ns", 2)
    assert found["stages"]["load"]["rss_bytes"] > 0
    assert (measured["folder"] / "one.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert "process 2 of 2: timing" in err


def test_bench_prints_tables_and_where_to_look_next(measured: dict[str, Any]) -> None:
    _, out, err = measured["second"]
    assert out.startswith("two on local: ")
    assert "p50_latency_ns" in out
    assert "needs 4603" in out
    assert "memory after" in out
    assert "farm plot run" in err


def test_show_prints_what_bench_printed(measured: dict[str, Any]) -> None:
    found = json.loads(measured["first"][1])
    code, out, _ = farm("show", found["run"][:18], "--json", *measured["data"])
    assert (code, json.loads(out)) == (0, found)
    assert farm("show", _ids(measured)[1], *measured["data"])[1] == measured["second"][1]


def test_the_start_of_several_ids_asks_for_more(measured: dict[str, Any]) -> None:
    code, _, err = farm("show", "0", *measured["data"])
    assert (code, "more" in err) == (2, True)


def _rows(measured: dict[str, Any], *words: str) -> list[dict[str, Any]]:
    """The Runs, without those that found this machine in use."""
    rows = json.loads(farm("runs", "--json", *words, *measured["data"])[1])["runs"]
    return [row for row in rows if row["outcome"] != "BROKEN"]


def test_runs_lists_the_newest_first_and_fits_the_filters(measured: dict[str, Any]) -> None:
    assert [row["model"] for row in _rows(measured)][-2:] == ["two", "one"]
    assert {row["model"] for row in _rows(measured, "--model", "one")} == {"one"}
    assert farm("runs", "--board", "pi", *measured["data"])[2] == "No run is stored that fits.\n"
    assert len(_rows(measured, "--limit", "1")) == 1
    assert len(farm("runs", "--limit", "2", *measured["data"])[1].splitlines()) == 3


def test_boards_tells_the_last_run_of_each(measured: dict[str, Any]) -> None:
    rows = json.loads(farm("boards", "--json", *measured["data"])[1])["boards"]
    assert [(row["board"], row["last_run"] is not None) for row in rows] == [("local", True)]
    assert "local" in farm("boards", *measured["data"])[1]


def _ids(measured: dict[str, Any]) -> tuple[str, str]:
    (two,) = _rows(measured, "--model", "two")
    return json.loads(measured["first"][1])["run"], two["run"]


def test_runs_of_one_fingerprint_are_compared_by_their_ratio(measured: dict[str, Any]) -> None:
    _, out, _ = farm("compare", *_ids(measured), *measured["data"])
    assert "Not comparable" not in out
    row = next(line for line in out.splitlines() if line.startswith("p50_latency_ns"))
    assert float(row.split()[-1]) == pytest.approx(2.0, rel=0.2)


def test_runs_of_different_plans_show_the_differing_fields_first_and_no_ratio(measured: dict[str, Any]) -> None:
    code, out, _ = farm("bench", measured["folder"] / "one.fake", *FAST, "--cache", "warm", "--json", *measured["data"])
    assert code in (0, 3)
    _, out, _ = farm("compare", _ids(measured)[0], json.loads(out)["run"], *measured["data"])
    assert out.index("Not comparable") < out.index("differs") < out.index("p50_latency_ns")
    assert "b/a" not in out


def test_figures_of_a_run_and_of_several_are_drawn(measured: dict[str, Any], tmp_path: Path) -> None:
    ids = _ids(measured)
    code, _, err = farm("plot", "run", ids[0], "--out", tmp_path / "a.svg", "--theme", "dark", *measured["data"])
    assert (code, err) == (0, f"wrote {tmp_path / 'a.svg'}\n")
    assert farm("plot", "compare", *ids, "--out", tmp_path / "c.png", *measured["data"])[0] == 0
    assert (tmp_path / "a.svg").read_text().startswith("<?xml")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.svg", "c.png"]
    code, _, err = farm("plot", "run", ids[0], "--out", tmp_path / "b.svg", "--theme", "neon", *measured["data"])
    assert (code, "light, dark" in err) == (2, True)


def test_the_three_formats_export_the_same_samples(measured: dict[str, Any], tmp_path: Path) -> None:
    ids = _ids(measured)
    for kind in ("parquet", "csv", "json"):
        assert farm("export", *ids, "--format", kind, "--out", tmp_path / kind, *measured["data"])[0] == 0
    assert farm("export", *ids, "--format", "json", "--out", tmp_path / "all.json", *measured["data"])[0] == 0
    parquet = pd.read_parquet(tmp_path / "parquet" / "samples.parquet")
    assert set(parquet["run"]) == set(ids)
    assert (parquet["metric"] == "latency_ns").sum() > 200
    columns = ["run", "block", "arm", "metric", "t_ns", "value"]
    others = [
        pd.read_csv(tmp_path / "csv" / "samples.csv"),
        pd.DataFrame(json.loads((tmp_path / "json" / "samples.json").read_text())),
        pd.DataFrame(json.loads((tmp_path / "all.json").read_text())["samples"]),
    ]
    for other in others:
        pd.testing.assert_frame_equal(parquet[columns], other[columns], check_exact=True, check_dtype=False)
    summaries = pd.read_parquet(tmp_path / "parquet" / "summaries.parquet")
    assert "p50_latency_ns" in set(summaries["metric"])


def test_an_export_that_cannot_be_written_is_told_before_the_work(measured: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, _, err = farm("export", "last", "--out", tmp_path / "file" / "x", *measured["data"])
    assert (code, "--out" in err) == (2, True)
    assert farm("export", "last", "--out", tmp_path / "x", "--format", "xml", *measured["data"])[0] == 2


def test_a_model_that_crashes_fails_with_its_stage_and_exit_code_1(home: Path) -> None:
    (home / "bad.fake").write_text('{"misbehave": {"stage": "load", "how": "crash"}}')
    code, out, _ = farm("bench", "bad.fake", *FAST, "--json", "--plot", "bad.png")
    found = json.loads(out)
    assert (code, found["outcome"]) == (1, "FAILED")
    assert "load" in found["reasons"][0]["text"]
    assert not (home / "bad.png").exists()


@pytest.fixture
def softmax(home: Path) -> Path:
    """A real ONNX model with an input `x` of any number of rows."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 8]) for name in ("x", "y"))
    graph = helper.make_graph([helper.make_node("Softmax", ["x"], ["y"])], "tiny", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(home / "tiny.onnx"))
    return home / "tiny.onnx"


def test_a_wrong_input_that_only_the_board_can_find_is_still_yours(softmax: Path) -> None:
    code, out, err = farm("bench", softmax, *FAST, "--shape", "z=4,8", "--json")
    assert code == 2
    assert "'z'" in err
    assert json.loads(out)["error"]["exit_code"] == 2
    assert json.loads(farm("show", "last", "--json")[1])["outcome"] == "FAILED"


def test_a_real_onnx_model_is_measured(softmax: Path) -> None:
    code, out, err = farm("bench", softmax, *FAST, "--shape", "x=4,8", "--threads", "1", "--json")
    assert code in (0, 3), err
    facts = json.loads(out)["context"]["facts"]
    assert facts["runtime"]["name"] == "onnxruntime"
    assert facts["inputs"][0]["shape"] == [4, 8]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_ended_is_kept_as_cancelled_and_exits_with_5(home: Path, number: signal.Signals) -> None:
    (home / "m.fake").write_text("{}")
    argv = [sys.executable, "-m", "farm", "bench", "m.fake", "--duration-s", "60", "--processes", "2", "--json"]
    deadline = time.monotonic() + PATIENCE_S
    while True:
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
        assert process.stderr is not None
        if any("process 1 of 2" in line for line in process.stderr) or time.monotonic() > deadline:
            break
        process.communicate()  # another agent holds this machine
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (5, "Cancelled.\n")
    assert json.loads(farm("show", "last", "--json")[1])["outcome"] == "CANCELLED"


def test_probe_tells_what_is_there_and_why_the_rest_is_not(home: Path) -> None:
    code, out, _ = farm("probe", "--json")
    found = json.loads(out)
    assert (code, found["transport"], found["runtimes"]["fake"]["present"]) == (0, "local", True)
    _, out, err = farm("probe", "local")
    assert "asking board local" in err
    assert "fake" in out
    assert farm("probe", "lokal")[0] == 2
