"""First contact with a board by SSH: its fingerprint is shown and compared, never just accepted."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import sshd

Typed = Callable[..., Any]

AT_A_TERMINAL = """
import fcntl, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from farm.__main__ import main
main()
"""


@pytest.fixture
def board(home: Path) -> Iterator[sshd.Server]:
    """A real SSH server that nobody has pinned, as the board `pi` of the inventory."""
    with sshd.asyncssh_server(home / "ssh", pin=False) as server:
        entry = {
            "name": "pi",
            "transport": "ssh",
            "address": f"{server.user}@127.0.0.1:{server.port}",
            "home": str(server.home / ".benchfarm"),
            "options": {"keys": [str(server.client_key)]},
            "python": sys.executable,
        }
        (home / "inventory.yaml").write_text(json.dumps({"version": 1, "boards": [entry]}))
        yield server


def _pinned(home: Path) -> str:
    file = home / ".local" / "share" / "benchfarm" / "known_hosts"
    return file.read_text() if file.exists() else ""


def test_where_nobody_can_be_asked_the_fingerprint_and_the_flag_are_told(
    typed: Typed, board: sshd.Server, home: Path
) -> None:
    ended = typed("probe", "pi")
    assert ended.code == 2
    assert f"--accept-fingerprint {board.host_key.get_fingerprint()}" in ended.err
    assert _pinned(home) == ""


def test_another_fingerprint_than_the_one_given_is_refused_with_both(
    typed: Typed, board: sshd.Server, home: Path
) -> None:
    ended = typed("probe", "pi", "--accept-fingerprint", "SHA256:another")
    assert ended.code == 2
    assert "SHA256:another" in ended.err
    assert board.host_key.get_fingerprint() in ended.err
    assert _pinned(home) == ""


def test_the_fingerprint_that_was_given_is_pinned_and_not_asked_for_again(
    typed: Typed, board: sshd.Server, home: Path
) -> None:
    ended = typed("probe", "pi", "--accept-fingerprint", board.host_key.get_fingerprint(), "--json")
    assert (ended.code, json.loads(ended.out)["transport"]) == (0, "ssh")
    assert f"[127.0.0.1]:{board.port} ssh-ed25519" in _pinned(home)
    assert typed("probe").code == 0


def test_bench_does_not_ask_but_says_how_to_pin(typed: Typed, board: sshd.Server, home: Path) -> None:
    (home / "m.fake").write_text("{}")
    ended = typed("bench", "m.fake", "--board", "pi")
    assert (ended.code, "farm probe pi" in ended.err) == (2, True)


@pytest.mark.parametrize(("answer", "code", "is_pinned"), [("y\n", 0, True), ("n\n", 2, False), ("\x03", 5, False)])
def test_at_a_terminal_a_person_decides(
    board: sshd.Server, home: Path, answer: str, code: int, is_pinned: bool
) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", AT_A_TERMINAL, "probe", "pi"],
        stdin=theirs,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    seen = b""
    with contextlib.suppress(OSError):  # it ended without asking
        while b"Pin it" not in seen:
            seen += os.read(ours, 4096)
    assert board.host_key.get_fingerprint().encode() in seen
    os.write(ours, answer.encode())
    try:
        assert process.wait(30) == code
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert bool(_pinned(home)) is is_pinned
