"""The agent under every interpreter at hand from 3.8 on: its probe, and a Block from hello to end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.agents import supervised
from tests.agents.supervised import Agent, Home, build_zip


def interpreters() -> list[str]:
    """One of each version: on PATH as python3.8 and so on, and what pyenv has."""
    paths = [shutil.which(f"python3.{minor}") for minor in range(8, 16)] + [sys.executable, "/usr/bin/python3"]
    paths += [str(path) for path in sorted(Path.home().glob(".pyenv/versions/*/bin/python3"))]
    found: dict[tuple[int, ...], str] = {}
    for path in paths:
        if path and os.path.exists(path):
            code = "import sys; print(*sys.version_info[:3])"
            done = subprocess.run([path, "-I", "-S", "-c", code], capture_output=True, text=True)
            if done.returncode == 0:
                found.setdefault(tuple(map(int, done.stdout.split())), path)
    return [path for version, path in sorted(found.items()) if version >= (3, 8)]


def too_old() -> list[str]:
    return [str(path) for path in sorted(Path.home().glob(".pyenv/versions/3.[67].*/bin/python3"))]


PYTHONS = interpreters()


def test_at_least_the_interpreter_of_the_tests_is_among_them() -> None:
    assert PYTHONS != []


@pytest.mark.parametrize("interpreter", PYTHONS)
def test_a_block_goes_from_hello_to_end(home: Home, start: Callable[..., Agent], interpreter: str) -> None:
    agent = start(interpreter=interpreter, python=interpreter)
    agent.until("hello")
    agent.measure(home.artifact("m.fake", b'{"latency_us": 50}'))
    assert agent.until("block")["outcome"] == "OK"
    agent.until("done")
    agent.close_stdin()
    assert agent.rest()[-1]["reason"] == "eof"
    assert agent.wait() == 0
    assert agent.process.stderr is not None
    assert agent.process.stderr.read() == b""


@pytest.mark.parametrize("interpreter", PYTHONS)
def test_the_probe_answers(home: Home, interpreter: str) -> None:
    build_zip(home.zip, {"farm_agent/probe.py": (supervised.SOURCES / "farm_agent/probe.py").read_text()})
    argv = [interpreter, "-I", "-S", str(home.zip), "probe", "--json", "--root", "/", "--python", interpreter]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["runtimes"]["fake"]["present"] is True


def test_the_subject_may_run_under_another_python_than_the_agent(home: Home, start: Callable[..., Agent]) -> None:
    agent = start(interpreter=PYTHONS[0], python=PYTHONS[-1])
    agent.measure(home.artifact("m.fake", b'{"latency_us": 50}'))
    assert agent.until("block")["outcome"] == "OK"


@pytest.mark.parametrize("interpreter", too_old())
def test_an_older_python_is_refused_politely(home: Home, interpreter: str) -> None:
    done = subprocess.run([interpreter, "-I", "-S", str(home.zip), "measure"], capture_output=True, text=False)
    assert done.returncode == 2
    assert b"it needs 3.8 or newer" in done.stderr
