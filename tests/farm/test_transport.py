"""Reaching a board by the kind its inventory names, and finding a Python there."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from farm import domain, errors, transport
from farm.settings import Settings
from tests import sshd

HERE = domain.Board("here")


def _find(tmp_path: Path, python: str = "") -> tuple[str, str]:
    async def trip() -> tuple[str, str]:
        board = replace(HERE, home=str(tmp_path / "home"), python=python)
        async with transport.reach(board, Settings(data_dir=tmp_path)) as open_now:
            return await transport.find_python(open_now, board)

    return asyncio.run(trip())


def _program(tmp_path: Path, text: str) -> str:
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_an_unknown_transport_is_your_input_and_the_known_ones_are_named(tmp_path: Path) -> None:
    with pytest.raises(errors.InputError, match="'carrier' is not known; known transports: local, ssh"):
        transport.reach(replace(HERE, transport="carrier"), Settings(data_dir=tmp_path))


def test_a_board_without_python_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.BoardRefused, match=r"cannot run '/no/python3'.*not found.*Install Python 3\.8"):
        _find(tmp_path, "/no/python3")


def test_a_board_with_no_python_in_its_path_is_refused(tmp_path: Path) -> None:
    async def trip(server: sshd.Server) -> None:
        async with transport.reach(server.board(), server.settings()) as open_now:
            await transport.find_python(open_now, server.board())

    with sshd.asyncssh_server(tmp_path, path="/nowhere") as server:
        with pytest.raises(errors.BoardRefused, match=r"Board 'pi' cannot run 'python3'"):
            asyncio.run(trip(server))


def test_a_python_that_may_not_be_run_is_refused(tmp_path: Path) -> None:
    program = _program(tmp_path, "")
    Path(program).chmod(0o644)
    with pytest.raises(errors.BoardRefused, match=r"ermission denied"):
        _find(tmp_path, program)


def test_a_python_that_is_too_old_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.BoardRefused, match=r"'/usr/bin/python' on board 'here' is too old: 2\.7\.18"):
        _find(tmp_path, _program(tmp_path, "echo /usr/bin/python; echo 2.7.18"))


def test_a_python_that_crashes_is_refused_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(errors.BoardRefused, match=r"does not work: exit status 1, No module named 'encodings'"):
        _find(tmp_path, _program(tmp_path, "echo \"No module named 'encodings'\" >&2; exit 1"))


def test_a_shell_that_talks_at_login_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.BoardRefused, match=r"prints at login.*'Welcome!'"):
        _find(tmp_path, _program(tmp_path, "echo 'Welcome!'; echo /usr/bin/python3; echo 3.11.2"))


def test_this_machines_python_is_the_one_that_runs_benchfarm(tmp_path: Path) -> None:
    assert _find(tmp_path) == (sys.executable, ".".join(map(str, sys.version_info[:3])))
