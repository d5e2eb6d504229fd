"""Limits: enforced by a real control group where this machine lets us, else by resource limits; told either way."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from farm_agent import limits, wire
from farm_agent.cgroup import Cgroup

from tests.agents.supervised import Agent, Home

Start = Callable[..., Agent]
OOM = b'{"misbehave": {"stage": "load", "how": "oom"}}'


def with_real_cgroups(home: Home) -> None:
    """This machine's own groups below the fake root."""
    (home.root / "sys/fs").mkdir(parents=True)
    (home.root / "sys/fs/cgroup").symlink_to("/sys/fs/cgroup")
    (home.root / "proc").symlink_to("/proc")
    probe = Cgroup(str(home.root), f"benchfarm-test-{os.getpid()}", None, 10)
    probe.remove()
    if probe.reasons:
        pytest.skip("no control group can be made here: " + "; ".join(probe.reasons))


def test_without_a_group_memory_is_bounded_by_rlimit_data(home: Home, start: Start) -> None:
    agent = start()
    agent.measure(home.artifact("m.fake", OOM), plan={"limits": {"memory_bytes": 80 << 20, "load_s": 30}})
    block = agent.until("block")
    assert (block["outcome"], block["reasons"][0]["code"]) == ("FAILED", "out_of_memory")
    facts = block["facts"]["limits"]
    assert facts["memory"] == "RLIMIT_DATA"
    assert facts["in_force"]["RLIMIT_DATA"] == str(80 << 20)
    assert facts["in_force"]["RLIMIT_CORE"] == "0"
    assert "memory cgroup: no such controller" in facts["not_enforced"]
    assert "cgroup_peak_bytes" not in block["facts"]


def test_in_a_group_the_kernel_kills_for_memory_and_the_group_is_gone_after(home: Home, start: Start) -> None:
    with_real_cgroups(home)
    agent = start()
    agent.measure(home.artifact("m.fake", OOM), plan={"limits": {"memory_bytes": 64 << 20, "load_s": 30}})
    block = agent.until("block")
    assert (block["outcome"], block["reasons"][0]["code"]) == ("FAILED", "out_of_memory")
    assert "the kernel killed it for memory, limit 67108864 bytes" in block["reasons"][0]["text"]
    assert block["facts"]["limits"]["memory"].startswith("cgroup v")
    assert 60 << 20 < block["facts"]["cgroup_peak_bytes"] <= 64 << 20
    assert block["facts"]["exit"]["status"] == -9
    agent.until("done")
    assert not list(Path("/sys/fs/cgroup").glob(f"**/benchfarm-{home.marker()[-8:].decode()}*"))


def test_a_fork_bomb_stays_within_the_group_and_ends_with_it(home: Home, start: Start) -> None:
    with_real_cgroups(home)
    agent = start()
    model = b'{"misbehave": {"stage": "load", "how": "fork_bomb"}}'
    agent.measure(home.artifact("m.fake", model), plan={"limits": {"processes": 24, "load_s": 1.0}})
    block = agent.until("block")
    assert block["reasons"][0]["code"] == "timeout_load"
    notes = [event["text"] for event in agent.events if event["event"] == "note"]
    left = int(notes[0].removeprefix("The subject left ").split()[0])
    assert 10 < left <= 23
    agent.until("done")
    assert home.processes() == []


def test_a_group_left_by_a_killed_agent_is_removed_by_the_next(home: Home, start: Start) -> None:
    with_real_cgroups(home)
    agent = start()
    agent.measure(home.artifact("m.fake", b'{"misbehave": {"stage": "load", "how": "hang"}}'))
    agent.until("stage", stage="runtime")
    agent.process.kill()
    agent.wait()
    pattern = f"**/benchfarm-{home.marker()[-8:].decode()}*"
    assert [path for path in Path("/sys/fs/cgroup").glob(pattern) if path.is_dir()]
    after = start(token=8)
    after.until("hello")
    assert not [path for path in Path("/sys/fs/cgroup").glob(pattern) if path.is_dir()]


def version_2_tree(root: Path, controllers: str) -> Path:
    """A stand-in for a cgroup v2 tree: plain files in place of the kernel's."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text("0::/session.scope\n")
    folder = root / "sys/fs/cgroup/session.scope"
    folder.mkdir(parents=True)
    (root / "sys/fs/cgroup/cgroup.controllers").write_text(controllers)
    return folder


def test_a_v2_tree_that_does_not_hand_memory_down_says_so(tmp_path: Path) -> None:
    folder = version_2_tree(tmp_path, "hugetlb\n")
    group = Cgroup(str(tmp_path), "benchfarm-x", 1 << 20, 10)
    assert "memory.max is not there: the controller is not delegated" in group.reasons[0]
    assert group.pids() == []
    assert group.peak_bytes() is None
    assert list(folder.iterdir()) == []


def test_a_v2_group_is_limited_read_and_held_by_its_own_files(tmp_path: Path) -> None:
    group_folder = version_2_tree(tmp_path, "memory pids\n") / "benchfarm-x"
    group_folder.mkdir()
    names = ("memory.max", "memory.swap.max", "pids.max", "cgroup.procs", "memory.peak", "memory.events")
    for name in names:
        (group_folder / name).write_text("")
    (group_folder / "memory.peak").write_text("4096\n")
    (group_folder / "memory.events").write_text("low 0\noom 2\noom_kill 1\n")
    group = Cgroup(str(tmp_path), "benchfarm-x", 1 << 20, 10)
    assert group.reasons == []
    assert group.hold(123) == {"memory": "cgroup v2", "pids": "cgroup v2"}
    written = {name: (group_folder / name).read_text() for name in ("memory.max", "memory.swap.max", "pids.max")}
    assert written == {"memory.max": "1048576", "memory.swap.max": "0", "pids.max": "10"}
    assert (group.peak_bytes(), group.oom_kills(), group.pids()) == (4096, 1, [123])


def test_limits_are_set_from_outside_on_a_process_that_does_nothing_for_it(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        group = Cgroup(str(tmp_path), "benchfarm-x", 1 << 28, 10)
        asked = wire.Limits(memory_bytes=1 << 28, file_bytes=4096)
        facts, backstop = limits.enforce(asked, child.pid, group)
        assert backstop == {}
        assert facts["memory"] == "RLIMIT_DATA"
        assert resource.prlimit(child.pid, resource.RLIMIT_DATA) == (1 << 28, 1 << 28)
        assert limits.in_force(child.pid)["RLIMIT_FSIZE"] == "4096"
    finally:
        child.kill()
        child.communicate()


def test_what_could_not_be_set_from_outside_is_left_to_the_subject() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert limits.set_from_outside(gone.pid, {"RLIMIT_CORE": 0}) == {"RLIMIT_CORE": 0}


def test_the_backstop_is_applied_by_the_process_itself() -> None:
    code = (
        "import json, resource, sys; from farm_agent import limits;"
        "refused = limits.apply_to_self({'rlimits': {'RLIMIT_FSIZE': 8192, 'RLIMIT_MOON': 1}});"
        "print(json.dumps([refused, resource.getrlimit(resource.RLIMIT_FSIZE)]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [["RLIMIT_MOON: unknown here"], [8192, 8192]]
