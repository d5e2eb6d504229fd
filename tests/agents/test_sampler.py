"""The sampler as the process that it is: asked by a line, ended by the end of its stdin, its columns on disk."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agents.trees import PI5, plant

CODE = "import sys; from farm_agent.sampler import main; sys.exit(main([]))"
AGENTS = str(Path(__file__).parents[2] / "agents")
COMMAND = [sys.executable, "-S", "-c", f"import sys; sys.path.insert(0, {AGENTS!r}); {CODE}"]


class Sampler:
    """A running sampler in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "w"
        self.folder.mkdir()
        self.process = subprocess.Popen(
            COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.folder
        )

    def ask(self, **request: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()

    def end(self) -> tuple[int, str]:
        """Close its stdin: (exit status, what it said on stderr)."""
        out, err = self.process.communicate(timeout=20)
        assert out == b""
        return self.process.returncode, err.decode()

    def index(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "s/index.json").read_text())
        return found

    def column(self, metric: str) -> tuple[list[int], list[float]]:
        t_ns, value = array("q"), array("d")
        t_ns.frombytes((self.folder / f"s/{metric}.t").read_bytes())
        value.frombytes((self.folder / f"s/{metric}.v").read_bytes())
        return list(t_ns), list(value)


@pytest.fixture
def sampler(tmp_path: Path) -> Iterator[Sampler]:
    running = Sampler(tmp_path)
    yield running
    running.process.kill()
    running.process.communicate()


def eventually(is_so: Callable[[], bool]) -> bool:
    """Whether it becomes so while the test may wait."""
    due = time.monotonic() + 20
    while not is_so():
        if time.monotonic() > due:
            return False
        time.sleep(0.01)
    return True


def open_files(pid: int) -> set[str]:
    """What a process has open now."""
    found = set()
    for one in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(os.readlink(one))
    return found


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"capacity": 0}, "capacity is 0"),
        ({"capacity": 10**9}, "capacity is 1000000000"),
        ({"capacity": "10"}, "capacity is '10'"),
        ({"capacity": True}, "capacity is True"),
        ({}, "capacity is 0"),
        ({"capacity": 1, "hz": 0}, "hz is 0"),
        ({"capacity": 1, "hz": 1e9}, "hz is 1000000000.0"),
        ({"capacity": 1, "hz": float("nan")}, "hz is nan"),
        ({"capacity": 1, "sensors": "psi"}, "sensors is 'psi'"),
        ({"capacity": 1, "cpus": ["0"]}, "cpus is ['0']"),
        ({"capacity": 1, "root": "/not-there"}, "root is '/not-there'"),
    ],
)
def test_a_wrong_request_is_refused_by_field(sampler: Sampler, request_: dict[str, Any], words: str) -> None:
    sampler.ask(**request_)
    status, said = sampler.end()
    assert status == 2
    assert words in said
    assert not (sampler.folder / "s").exists()


@pytest.mark.parametrize("line", [b"", b"\n", b"{\n", b"[]\n", b"\xff\n"])
def test_a_line_that_is_no_request_is_refused(sampler: Sampler, line: bytes) -> None:
    assert sampler.process.stdin is not None
    sampler.process.stdin.write(line)
    status, said = sampler.end()
    assert status == 2
    assert said.startswith("sampler: its request is ")
    assert "Traceback" not in said


def test_columns_that_cannot_be_written_are_an_error_not_a_traceback(sampler: Sampler) -> None:
    (sampler.folder / "s").write_text("in the way")
    sampler.ask(capacity=10, hz=100)
    status, said = sampler.end()
    assert status == 1
    assert said.startswith("sampler: cannot write its columns to s/: ")
    assert "Traceback" not in said


def test_an_unknown_sensor_is_absent_with_its_reason_and_the_others_go_on(sampler: Sampler) -> None:
    sampler.ask(capacity=10, hz=100, sensors=["thermometer", "memory"])
    assert sampler.end() == (0, "")
    index = sampler.index()
    assert list(index["sensors"]) == ["memory"]
    assert "'thermometer' is not known" in index["absent"]["thermometer"]


def test_a_cpu_that_is_not_there_leaves_it_unpinned_and_says_so(sampler: Sampler) -> None:
    sampler.ask(capacity=10, hz=100, cpus=[9999])
    assert sampler.end() == (0, "")
    assert sampler.index()["pinned"] is False


def test_it_runs_on_the_cpu_asked_for(sampler: Sampler) -> None:
    cpu = max(os.sched_getaffinity(0))
    sampler.ask(capacity=1000, hz=100, cpus=[cpu])
    pid = sampler.process.pid
    assert eventually(lambda: os.sched_getaffinity(pid) == {cpu})
    assert sampler.end() == (0, "")
    assert sampler.index()["pinned"] is True


def test_it_ends_with_its_parent_and_still_writes(tmp_path: Path) -> None:
    line = json.dumps({"capacity": 1000, "hz": 100, "sensors": ["psi", "memory"]})
    code = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen({COMMAND!r}, stdin=subprocess.PIPE)\n"
        f"child.stdin.write({line!r}.encode() + b'\\n'); child.stdin.flush()\n"
        "print(child.pid, flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        parent.kill()
    assert eventually((tmp_path / "s/index.json").exists)


def test_a_signal_ends_it_though_the_next_round_is_far_away_and_it_writes(sampler: Sampler) -> None:
    sampler.ask(capacity=1000, hz=0.001, sensors=["memory"])
    assert eventually(lambda: "/proc/meminfo" in open_files(sampler.process.pid))
    sampler.process.send_signal(signal.SIGTERM)
    assert sampler.process.wait(timeout=20) == 0
    (column, _) = sampler.index()["columns"]
    assert column["metric"] == "memory.available_bytes"
    assert column["n"] <= 1
    assert sampler.index()["is_full"] is False


def test_full_columns_stop_the_sampling_but_not_the_process(sampler: Sampler) -> None:
    sampler.ask(capacity=5, hz=1000, sensors=["memory"])
    time.sleep(0.3)
    assert sampler.process.poll() is None
    assert sampler.end() == (0, "")
    assert sampler.index()["is_full"] is True
    assert len(sampler.column("memory.available_bytes")[0]) == 5


def test_a_held_up_round_leaves_rounds_out_and_the_rate_does_not_drift(sampler: Sampler) -> None:
    sampler.ask(capacity=100_000, hz=200, sensors=["psi", "memory"])
    time.sleep(0.2)
    sampler.process.send_signal(signal.SIGSTOP)
    time.sleep(0.2)
    sampler.process.send_signal(signal.SIGCONT)
    time.sleep(0.1)
    assert sampler.end() == (0, "")
    index = sampler.index()
    assert index["late_ticks"] > 0
    rounds = index["sensors"]["memory"]["reads"] + index["late_ticks"]
    assert rounds == pytest.approx(index["window_ns"] / 5e6, abs=2)


def test_a_recorded_tree_is_sampled_like_a_board(sampler: Sampler, tmp_path: Path) -> None:
    root = plant(tmp_path / "pi5", PI5)
    sampler.ask(root=root, capacity=3, hz=1000)
    time.sleep(0.3)
    assert sampler.end() == (0, "")
    index = sampler.index()
    assert index["absent"] == {}
    assert set(index["sensors"]) == {"cpu", "cpufreq", "memory", "psi", "thermal"}
    t_ns, value = sampler.column("cpu_thermal.temp_c")
    assert value == pytest.approx([76.8, 76.8, 76.8])
    assert t_ns == sorted(t_ns)
    assert sampler.column("policy0.hw_freq_hz")[1] == [1.5e9, 1.5e9, 1.5e9]


def test_every_column_of_the_index_is_there_whole_and_the_cost_is_told(sampler: Sampler) -> None:
    sampler.ask(capacity=1000, hz=100)
    time.sleep(0.4)
    assert sampler.end() == (0, "")
    index = sampler.index()
    for column in index["columns"]:
        t_ns, value = sampler.column(column["metric"])
        assert len(t_ns) == len(value) == column["n"] > 0
        assert all(later > earlier for earlier, later in itertools.pairwise(t_ns))
    assert not all(math.isnan(value) for value in sampler.column("cpu.busy_ratio")[1])
    assert 0 < index["cpu_ns"] < index["window_ns"]
    assert all(one["cost_ns"] > 0 and one["failed"] == 0 for one in index["sensors"].values())
    assert {path.suffix for path in (sampler.folder / "s").iterdir()} == {".t", ".v", ".json"}
