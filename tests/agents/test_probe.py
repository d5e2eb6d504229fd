"""What a board says of itself, asked for real: runtimes that crash or hang are absent, the board is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from farm_agent import probe

from farm import bundle
from tests.agents.trees import ORIN, PI5, plant


def script(folder: Path, body: str) -> str:
    """An executable that stands where the subject's interpreter should."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def reasons(answers: dict[str, dict[str, Any]]) -> set[str]:
    assert not any(one["present"] for one in answers.values())
    return {one["reason"] for one in answers.values()}


def test_an_interpreter_that_is_not_there_leaves_every_runtime_absent() -> None:
    assert reasons(probe.ask_runtimes("/not/there")) == {
        "interpreter '/not/there' does not start: No such file or directory. Correct the board's python."
    }


def test_a_library_that_crashes_makes_its_runtime_absent_with_the_signal(tmp_path: Path) -> None:
    python = script(tmp_path, "echo 'loading' >&2; kill -SEGV $$")
    assert reasons(probe.ask_runtimes(python)) == {"its probe ended with SIGSEGV: loading. Try to import it by hand."}


def test_a_library_that_raises_makes_its_runtime_absent_with_its_last_words(tmp_path: Path) -> None:
    python = script(tmp_path, "echo first >&2; echo 'ImportError: no libfoo.so' >&2; exit 1")
    assert reasons(probe.ask_runtimes(python)) == {
        "its probe ended with exit status 1: ImportError: no libfoo.so. Try to import it by hand."
    }


def has_ended(stat: Path) -> bool:
    """Whether that process is gone, or only waits to be reaped, within some seconds: a kill is not instant."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if stat.read_text().rpartition(")")[2].split()[0] in "ZX":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


def test_a_library_that_hangs_is_ended_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "RUNTIME_LIMIT_S", 0.3)
    python = script(tmp_path, f"sleep 60 & echo $! >> {tmp_path}/pids; wait")
    assert all("took over" in reason for reason in reasons(probe.ask_runtimes(python)))
    for pid in (tmp_path / "pids").read_text().split():
        assert has_ended(Path(f"/proc/{pid}/stat"))


@pytest.mark.parametrize("said", ["hello", "[]", '{"version": "1"}', ""])
def test_an_answer_that_is_none_makes_its_runtime_absent(tmp_path: Path, said: str) -> None:
    assert all("its probe answered" in one for one in reasons(probe.ask_runtimes(script(tmp_path, f"echo '{said}'"))))


def test_what_a_library_prints_on_import_does_not_spoil_the_answer(tmp_path: Path) -> None:
    python = script(tmp_path, f'echo noise >&2\nexec {sys.executable} "$@"')
    assert probe.ask_runtimes(python)["fake"]["present"] is True


def test_the_runtimes_of_this_interpreter_say_their_versions() -> None:
    answers = probe.ask_runtimes(sys.executable)
    assert answers["fake"]["version"] == "1"
    assert all(one["version"] if one["present"] else one["reason"] for one in answers.values())


def test_a_root_that_is_no_folder_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert probe.main(["--root", "/not/there"]) == 2
    assert "root '/not/there' is not a folder" in capsys.readouterr().err


@pytest.mark.parametrize(("tree", "family"), [(PI5, "raspberrypi"), (ORIN, "jetson")])
def test_a_recorded_tree_is_virtual_whatever_it_says(tmp_path: Path, tree: Any, family: str) -> None:
    found = probe.facts(plant(tmp_path, tree), sys.executable, "~")
    assert found["is_virtual"] is True
    assert found["identity"]["family"] == family
    assert found["context"]["disk_free_bytes"] is None


def test_a_link_to_the_root_is_this_machine(tmp_path: Path) -> None:
    (tmp_path / "slash").symlink_to("/")
    assert probe.facts(str(tmp_path / "slash"), "/not/there", "/")["is_virtual"] is False


def test_a_home_that_does_not_exist_yet_has_the_free_space_of_where_it_will_be() -> None:
    found = probe.facts("/", "/not/there", "/not/there/.benchfarm")
    assert found["context"]["disk_free_bytes"] > 0
    assert found["context"]["python"] is None


def test_the_knobs_are_shown_with_what_a_measurement_would_set(tmp_path: Path) -> None:
    found = probe.facts(plant(tmp_path, PI5), "/not/there", "~")
    assert found["knobs"]["governor.policy0"] == {"now": "ondemand", "wanted": "performance"}


def test_the_cost_of_the_sampler_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "SELF_COST_S", 0.5)
    cost = probe.self_cost("/")
    assert 0 < cost["cpu_percent"] < 100
    assert {"cpu", "memory"} <= set(cost["sensors"])
    assert all(one["cost_ns"] > 0 for one in cost["sensors"].values())


def test_the_zip_answers_one_line_of_json_and_people_can_read_the_other_form(tmp_path: Path) -> None:
    command = [sys.executable, "-I", "-S", bundle.bundle(tmp_path), "probe", "--python", sys.executable]
    told = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    found = json.loads(told.stdout)
    assert told.stdout.count("\n") == 1
    assert found["identity"]["arch"] == os.uname().machine
    assert found["identity"]["kernel"] == os.uname().release
    assert found["sensors"]["memory"]["present"] is True
    read = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "runtime fake             present: 1\n" in read.stdout
