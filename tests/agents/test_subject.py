"""The subject from start to end, in fresh processes: its stages, its columns, and how it fails."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.agents import subjects

MB = 1_000_000
STAGES = ["interpreter", "runtime", "load", "first", "steady"]


@pytest.mark.parametrize(
    ("more", "stage", "kind", "blame", "words"),
    [
        (
            {"runtime": "abacus"},
            "runtime",
            "bad_option",
            "input",
            "runtime 'abacus' is not known; known runtimes: fake",
        ),
        ({"scenario": "rush_hour"}, "runtime", "bad_option", "input", "known scenarios: paced, single_stream"),
        ({"scenario_options": {"fps": 5}}, "runtime", "bad_option", "input", "has no option 'fps'; known: none"),
        ({"options": {"threads": True}}, "runtime", "bad_option", "input", "its type is int"),
        ({"cpus": [4096]}, "runtime", "affinity", "board", "the CPUs [4096] cannot be used"),
        ({"shapes": {"x": [1]}}, "load", "bad_shape", "input", "names the input 'x'; the model has none"),
        ({"duration_s": -1}, "runtime", "bad_plan", "input", "plan.duration_s is -1"),
    ],
)
def test_what_cannot_be_done_is_one_message_and_status_1(
    tmp_path: Path, more: dict[str, Any], stage: str, kind: str, blame: str, words: str
) -> None:
    failed = subjects.run(tmp_path, {}, **more).failed

    assert (failed["stage"], failed["kind"], failed["blame"]) == (stage, kind, blame)
    assert words in failed["text"]


def test_a_feed_without_numpy_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "feed.npz").write_bytes(b"")

    failed = subjects.run(tmp_path, {}, feed=tmp_path / "feed.npz", python=subjects.BARE_PYTHONS[0]).failed

    assert (failed["stage"], failed["kind"], failed["blame"]) == ("load", "bad_feed", "input")
    assert "needs numpy" in failed["text"]


def test_a_feed_for_a_model_without_inputs_names_what_does_not_fit(tmp_path: Path) -> None:
    np.savez(tmp_path / "feed.npz", x=np.zeros(3))

    failed = subjects.run(tmp_path, {}, feed=tmp_path / "feed.npz").failed

    assert "holds the arrays x; the model's inputs are none" in failed["text"]


def test_running_out_of_memory_is_told_apart_from_other_failures(tmp_path: Path) -> None:
    backstop = {"rlimits": {"RLIMIT_DATA": 100 * MB}}

    failed = subjects.run(tmp_path, {"load_bytes": 300 * MB}, backstop=backstop).failed

    assert (failed["stage"], failed["kind"], failed["blame"]) == ("load", "memory", "artifact")


def test_a_disk_that_takes_no_columns_is_the_boards_failure(tmp_path: Path) -> None:
    backstop = {"rlimits": {"RLIMIT_FSIZE": 8192}}  # more than the messages take, less than the columns

    failed = subjects.run(tmp_path, {}, duration_s=0.2, backstop=backstop).failed

    assert (failed["stage"], failed["kind"], failed["blame"]) == ("steady", "crash", "board")
    assert "OSError" in failed["text"]


def test_whatever_a_model_prints_the_message_is_one_printable_line(tmp_path: Path) -> None:
    failed = subjects.run(tmp_path, b"\x1b[2J\nnot json", entry="evil\x1b[31m\n.fake").failed

    assert failed["text"].isprintable()


def test_each_stage_comes_once_and_in_order_with_its_memory(tmp_path: Path) -> None:
    before_ns = time.monotonic_ns()
    ended = subjects.run(tmp_path, {"load_ms": 3, "latency_us": 500})

    assert list(ended.stages) == ["interpreter", "runtime", "load", "first", "timed", "steady"]
    times = [message["t_ns"] for message in ended.messages[:-1]]
    assert times == sorted(times)
    assert before_ns < times[0] <= times[-1] < time.monotonic_ns()
    for stage in STAGES:
        found = ended.memory(stage)
        assert found["peak_bytes"] >= found["rss_bytes"] >= found["anon_bytes"] + found["file_bytes"]
        assert 0 < found["pss_bytes"] <= found["rss_bytes"]
        assert found["virtual_peak_bytes"] >= found["peak_bytes"]
        assert found["minor_faults"] >= 0
    assert ended.memory("interpreter")["minor_faults"] > 100
    assert ended.memory("load")["duration_ns"] >= 3 * 10**6
    assert ended.memory("first")["duration_ns"] >= 500_000
    cold = [ended.memory(stage)["duration_ns"] for stage in STAGES[:4]]
    assert ended.facts["time_to_first_inference_ns"] == sum(cold)


def test_the_peak_of_loading_stays_with_the_stage_load(tmp_path: Path) -> None:
    model = {"load_bytes": 40 * MB}

    own = subjects.run(tmp_path / "own", model)
    running = subjects.run(tmp_path / "running", model, stage_peaks=False)

    assert [own.memory(stage)["peak_is_running"] for stage in STAGES] == [False] * 5
    assert [running.memory(stage)["peak_is_running"] for stage in STAGES] == [False, True, True, True, True]
    assert own.memory("load")["peak_bytes"] - own.memory("first")["peak_bytes"] > 35 * MB
    assert running.memory("first")["peak_bytes"] == running.memory("load")["peak_bytes"]
    cold = [max(ended.memory(stage)["peak_bytes"] for stage in STAGES[:4]) for ended in (own, running)]
    assert cold[0] == pytest.approx(cold[1], rel=0.01)


def test_the_columns_hold_every_query_and_the_warm_up_apart(tmp_path: Path) -> None:
    ended = subjects.run(tmp_path, {"latency_us": 200}, warmup_queries=7, min_queries=30)

    result = ended.messages[-1]["result"]
    assert result["columns"] == [
        {"metric": "latency_ns", "n": ended.facts["n_timed"], "t_type": "q", "v_type": "q"},
        {"metric": "warmup_latency_ns", "n": 7, "t_type": "q", "v_type": "q"},
    ]
    starts, latencies = ended.column("latency_ns", "t"), ended.column("latency_ns")
    assert len(starts) == len(latencies) == ended.facts["n_timed"] >= 30
    assert all(a + b <= c for a, b, c in zip(starts, latencies, starts[1:], strict=False))
    assert ended.stages["timed"]["t_ns"] <= starts[0]
    assert starts[-1] + latencies[-1] <= ended.stages["steady"]["t_ns"]
    assert len(ended.column("warmup_latency_ns")) == ended.facts["n_warmup"] == 7
    assert ended.column("warmup_latency_ns", "t")[-1] < ended.stages["timed"]["t_ns"]
    assert sum(latencies) <= ended.facts["timed_ns"]


def test_without_warm_up_the_column_is_there_and_empty(tmp_path: Path) -> None:
    ended = subjects.run(tmp_path, {"latency_us": 100}, warmup_queries=0, warmup_s=0)

    assert (ended.facts["n_warmup"], ended.column("warmup_latency_ns")) == (0, [])


def test_a_block_takes_its_share_of_the_duration(tmp_path: Path) -> None:
    facts = subjects.run(tmp_path, {"latency_us": 1000}, duration_s=0.5, processes=5).facts

    assert facts["timed_ns"] >= 100 * 10**6
    assert facts["n_timed"] <= 100


def test_paced_keeps_the_delay_of_each_start(tmp_path: Path) -> None:
    model = {"latency_us": 1000, "jitter": [1, 1, 1, 1, 25]}

    ended = subjects.run(
        tmp_path, model, scenario="paced", scenario_options={"fps": 100}, duration_s=0.2, warmup_queries=1
    )

    assert ended.facts["n_timed"] == 20
    due, delays = ended.column("start_delay_ns", "t"), ended.column("start_delay_ns")
    assert due == ended.column("latency_ns", "t")
    assert {b - a for a, b in itertools.pairwise(due)} == {10_000_000}
    assert max(delays) >= 14_000_000  # the two queries after a stall of 25 ms wait in the queue
    assert all(latency - delay >= 1_000_000 for latency, delay in zip(ended.column("latency_ns"), delays, strict=True))


def test_the_window_ends_before_the_supervisor_would_end_it(tmp_path: Path) -> None:
    limits = {"run_s": 0.6}

    ended = subjects.run(tmp_path, {"latency_us": 20_000}, limits=limits, min_queries=1000, warmup_queries=1000)

    assert 0 < ended.facts["n_warmup"] < 30
    assert 0 < ended.facts["n_timed"] < 30
    (warning,) = ended.warnings
    assert "the Block's 0.6 s were over" in warning


def test_a_good_subject_prints_nothing(tmp_path: Path) -> None:
    ended = subjects.run(tmp_path, {})

    assert (ended.stdout, ended.stderr) == ("", "")


def test_the_subject_keeps_to_its_cpus(tmp_path: Path) -> None:
    cpu = max(os.sched_getaffinity(0))

    assert subjects.run(tmp_path, {}, cpus=[cpu]).facts["affinity"] == [cpu]


def test_a_resource_limit_that_was_refused_is_a_fact(tmp_path: Path) -> None:
    facts = subjects.run(tmp_path, {}, backstop={"rlimits": {"RLIMIT_OF_TOMORROW": 1}}).facts

    assert facts["limits_refused"] == ["RLIMIT_OF_TOMORROW: unknown here"]
