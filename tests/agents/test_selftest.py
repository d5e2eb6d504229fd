"""The self-test as a board runs it: from the zip, under a bare interpreter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from farm_agent import selftest

from farm import bundle


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run it with a tree and a home of its own."""
    (folder / "root/run/lock").mkdir(parents=True)
    command = [sys.executable, "-I", "-S", str(bundle.bundle(folder)), "selftest", "--root", str(folder / "root")]
    return subprocess.run([*command, *words], capture_output=True, text=True)


def test_a_home_that_cannot_be_written_is_the_first_and_only_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run(tmp_path, "--home", str(tmp_path / "file/home"))
    assert done.returncode == 1
    assert done.stdout == (
        f"FAIL folder: {tmp_path}/file/home cannot be written (Not a directory). Name another with --home.\n"
    )


def test_an_interpreter_that_does_not_start_fails_what_needs_it_and_only_that(tmp_path: Path) -> None:
    done = run(tmp_path, "--home", str(tmp_path / "home"), "--python", "/not/there")
    assert done.returncode == 1
    lines = [line.split(":")[0] for line in done.stdout.splitlines()]
    assert [line for line in lines if line.startswith("FAIL")] == ["FAIL spawn", "FAIL measure"]


def test_a_check_that_fails_does_not_stop_those_after_it(capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> str:
        raise selftest.Failed("seen. Do this.")

    assert selftest.run([("one", broken), ("two", lambda: "well")]) == 1
    assert capsys.readouterr().out == "FAIL one: seen. Do this.\nPASS two: well\n"


def test_a_good_board_passes_everything_and_is_left_as_it_was(tmp_path: Path) -> None:
    done = run(tmp_path, "--home", str(tmp_path / "home"), "--python", sys.executable)
    assert [line for line in done.stdout.splitlines() if not line.startswith("PASS ")] == []
    assert done.stdout.splitlines()[-1].startswith("PASS measure: ")
    assert (done.returncode, done.stderr) == (0, "")
    assert list((tmp_path / "home").iterdir()) == []
