"""The supervisor stays thin while it measures: under 12 000 kB resident, from the zip."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.agents import supervised
from tests.agents.supervised import Agent, Home, build_zip

PYTHONS = sorted({os.path.realpath(path) for path in (sys.executable, "/usr/bin/python3") if os.path.exists(path)})


HEAVY = "typing dataclasses hashlib subprocess asyncio logging argparse pathlib ctypes socket threading pkgutil zipfile"


def test_the_supervisor_imports_nothing_heavy(home: Home) -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import farm_agent.measure; print(*sys.modules)"
    argv = [sys.executable, "-I", "-S", "-c", code, str(home.zip)]
    loaded = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
    assert "farm_agent.block" in loaded
    assert sorted(set(HEAVY.split()) & set(loaded)) == []


@pytest.mark.parametrize("interpreter", PYTHONS)
def test_the_supervisor_stays_under_12_mb(home: Home, start: Callable[..., Agent], interpreter: str) -> None:
    real_probe = (supervised.SOURCES / "farm_agent/probe.py").read_text()
    build_zip(home.zip, {"farm_agent/probe.py": real_probe})
    agent = start(interpreter=interpreter)
    agent.until("hello")
    for index in range(2):
        plan = {"min_queries": 30000}
        agent.measure(home.artifact("m.fake", b'{"latency_us": 1}'), index=index, plan=plan)
        agent.until("stage", stage="timed")
        assert agent.status_kb("VmRSS") < 12_000
        agent.until("done")
        assert agent.status_kb("VmHWM") < 12_000
    assert agent.status_kb("Threads") == 1
