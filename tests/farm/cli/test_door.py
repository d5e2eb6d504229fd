"""The door: what a process that was really started ends with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from farm import errors
from farm.__main__ import EXIT_CODES, EXTRAS

Started = Callable[..., Any]

WITHOUT_EXTRAS = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {tuple(EXTRAS)!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""


def test_each_outcome_and_each_kind_of_error_has_its_exit_code() -> None:
    codes = {outcome: EXIT_CODES[outcome] for outcome in ("OK", "FAILED", "NOISY", "BROKEN", "CANCELLED")}
    assert codes == {"OK": 0, "FAILED": 1, "NOISY": 3, "BROKEN": 4, "CANCELLED": 5}
    assert EXIT_CODES[errors.InputError] == 2
    assert EXIT_CODES[errors.FarmBug] == 70


def test_a_bug_of_ours_ends_with_70_its_traceback_and_whom_to_tell(started: Started) -> None:
    ended = started("settings", preamble="import farm.settings; farm.settings.load = None")
    assert ended.code == 70
    assert "Traceback (most recent call last)" in ended.err
    assert "TypeError: 'NoneType' object is not callable" in ended.err
    assert "Please report it" in ended.err


@pytest.mark.parametrize("words", [["--help"], ["version"], ["settings"], ["bench", "--help"]])
def test_the_thin_client_explains_itself_without_any_extra(started: Started, words: list[str]) -> None:
    ended = started(*words, preamble=WITHOUT_EXTRAS)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out


def test_a_command_that_needs_an_extra_says_which_one(started: Started) -> None:
    ended = started("runs", "--json", preamble=WITHOUT_EXTRAS)
    assert ended.code == 2
    assert "which is not installed" in ended.err
    assert "pip install 'benchfarm[farm]'" in ended.err
    assert json.loads(ended.out)["error"]["exit_code"] == 2


def test_help_imports_nothing_heavy(started: Started) -> None:
    preamble = "import atexit, sys; atexit.register(lambda: print(*sys.modules, sep='\\n', file=sys.stderr))"
    loaded = set(started("--help", preamble=preamble).err.split())
    assert "typer" in loaded
    assert loaded & {*EXTRAS, "pydantic", "yaml", "asyncio", "farm.domain", "farm.store", "farm.show"} == set()


def test_a_reader_that_goes_away_is_no_error_to_tell() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "farm", "settings"], stdout=write, stderr=subprocess.PIPE, timeout=60, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_word_that_no_one_knows_ends_with_2_and_the_nearest_one(started: Started) -> None:
    ended = started("bnch")
    assert ended.code == 2
    assert "'bnch'" in ended.err
    assert "'bench'" in ended.err


def test_a_terminal_of_latin_letters_only_is_no_reason_to_fail(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    assert started("settings").code == 0


def test_flags_of_settings_may_stand_on_either_side_of_the_verb(typed: Callable[..., Any]) -> None:
    for words in (
        ["--project", "vision", "settings"],
        ["settings", "--project", "vision"],
        ["settings", "--project=vision"],
    ):
        found = json.loads(typed(*words, "--json").out)
        assert found["project"] == {"value": "vision", "origin": "flag"}


def test_the_settings_command_shows_no_password(typed: Callable[..., Any]) -> None:
    ended = typed("settings", "--database-url", "postgresql+psycopg://farm:s3cret@db/farm")
    assert "postgresql+psycopg://farm:***@db/farm" in ended.out
    assert "s3cret" not in ended.out + ended.err
