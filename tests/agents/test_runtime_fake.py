"""The fake runtime does what its file says, under every Python at hand."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from farm_agent.runtime import LoadError
from farm_agent.runtimes import fake

from tests.agents import subjects

MB = 1_000_000


@pytest.mark.parametrize("text", ["", "[]", '{"latency": 5}', '{"outputs": "some"}', '{"misbehave": {"how": "sulk"}}'])
def test_a_file_that_is_no_fake_model_does_not_load(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.fake").write_text(text)

    with pytest.raises(LoadError, match=r"m\.fake is not a fake model"):
        fake.load(str(tmp_path / "m.fake"), {"threads": 1}, lambda ports: {})


@pytest.mark.parametrize(
    ("how", "status"),
    [("crash", -signal.SIGSEGV), ("abort", -signal.SIGABRT), ("exit", 3), ("exit_zero", 0), ("close_fd3", 1)],
)
@pytest.mark.parametrize("stage", ["load", "first", "timed"])
def test_it_misbehaves_in_the_stage_that_its_file_names(tmp_path: Path, stage: str, how: str, status: int) -> None:
    ended = subjects.run(tmp_path, {"misbehave": {"stage": stage, "how": how}})

    before = {"load": "runtime", "first": "load", "timed": "first"}
    assert ended.status == status
    assert list(ended.stages)[-1] == before[stage]


def test_after_says_how_many_queries_go_well(tmp_path: Path) -> None:
    model = {"misbehave": {"stage": "timed", "how": "raise", "after": 4}}

    ended = subjects.run(tmp_path, model, warmup_queries=2)

    assert (ended.failed["stage"], ended.failed["kind"], ended.failed["blame"]) == ("timed", "run_error", "artifact")
    assert "timed" in ended.stages


def test_latencies_follow_the_cycle_of_its_file(tmp_path: Path) -> None:
    ended = subjects.run(tmp_path, {"latency_us": 2000, "jitter": [1, 3]}, warmup_queries=1, min_queries=4)

    slow, fast = ended.column("latency_ns")[1::2], ended.column("latency_ns")[::2]
    assert min(slow) >= 6_000_000
    assert 2_000_000 <= min(fast) < 6_000_000


def test_what_loading_takes_and_what_the_model_keeps_show_in_their_stages(tmp_path: Path) -> None:
    ended = subjects.run(tmp_path, {"load_bytes": 30 * MB, "keep_bytes": 10 * MB})

    before = ended.memory("runtime")["rss_bytes"]
    assert ended.memory("load")["peak_bytes"] - before == pytest.approx(40 * MB, abs=MB)
    assert ended.memory("load")["rss_bytes"] - before == pytest.approx(10 * MB, abs=MB)
    assert ended.memory("first")["peak_bytes"] - before == pytest.approx(10 * MB, abs=MB)


def test_a_leak_shows_as_growth(tmp_path: Path) -> None:
    ended = subjects.run(tmp_path, {"latency_us": 1000, "leak_bytes_per_query": 100_000}, min_queries=50)

    assert ended.facts["rss_growth_bytes"] == pytest.approx(ended.facts["n_timed"] * 100_000, rel=0.2)


@pytest.mark.parametrize(
    ("says", "key", "value"), [("nan", "nan", 1), ("inf", "inf", 1), ("constant", "constant", True)]
)
def test_bad_outputs_are_seen_without_numpy(tmp_path: Path, says: str, key: str, value: Any) -> None:
    ended = subjects.run(tmp_path, {"outputs": says})

    assert ended.facts["outputs"][0][key] == value
    assert len(ended.warnings) == 1


@pytest.mark.skipif(not subjects.BARE_PYTHONS, reason="no other Python is installed here")
@pytest.mark.parametrize("python", subjects.BARE_PYTHONS, ids=lambda path: path.parts[-3])
def test_a_whole_block_runs_under_a_bare_python(tmp_path: Path, python: Path) -> None:
    ended = subjects.run(tmp_path, {"latency_us": 100}, python=python)

    assert list(ended.stages) == ["interpreter", "runtime", "load", "first", "timed", "steady"]
    assert ended.facts["n_timed"] == len(ended.column("latency_ns"))


def test_the_flood_and_the_lie_reach_the_supervisors_pipe(tmp_path: Path) -> None:
    lie = subjects.run(tmp_path / "lie", {"misbehave": {"stage": "first", "how": "lie_fd3"}})
    garbage = subjects.run(tmp_path / "garbage", {"misbehave": {"stage": "load", "how": "garbage_fd3"}})

    assert lie.messages[-1]["result"]["columns"][0]["metric"] == "../../x"
    assert any(line.startswith('"half a line') for line in garbage.lines)
