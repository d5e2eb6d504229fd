"""Fixtures of the command line's tests: a home of their own, and the door itself, called or started."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from farm.__main__ import run


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home and working directory, so that nothing of this machine is seen or changed."""
    for name in [name for name in os.environ if name.startswith(("FARM_", "XDG_", "GITHUB_", "CI_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Type `farm WORDS`, in this process."""

    def call(*words: object) -> Ended:
        code = run([str(word) for word in words])
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return call


@pytest.fixture
def started() -> Callable[..., Ended]:
    """Start `farm WORDS` as a process of its own."""

    def call(*words: object, preamble: str = "") -> Ended:
        code = f"{preamble}\nfrom farm.__main__ import main\nmain()"
        argv = [sys.executable, "-c", code, *map(str, words)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
        return Ended(done.returncode, done.stdout, done.stderr)

    return call
