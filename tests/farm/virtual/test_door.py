"""Who may come in to a virtual board, and what is left when they go."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import asyncssh
import pytest

from farm import domain, hostkeys
from farm.errors import BoardUnreachable, HostKeyChanged, HostKeyUnknown
from farm.settings import Settings
from farm.transport import reach
from tests.farm.virtual.conftest import Start, running, until


def _login(board: domain.Board, *, user: str = "", key: Path | None = None, **options: object) -> dict[str, object]:
    name, _, port = board.address.partition("@127.0.0.1:")
    return {
        "host": "127.0.0.1", "port": int(port), "username": user or name, "known_hosts": None, "config": None,
        "client_keys": [str(key or board.options["keys"][0])], "agent_path": None, **options,
    }  # fmt: skip


async def _run(board: domain.Board, known: Settings, *argv: str) -> tuple[int, bytes, bytes]:
    async with reach(board, known) as transport:
        return await transport.run(argv, timeout_s=20)


def test_another_key_is_refused(start: Start, known: Settings, tmp_path: Path) -> None:
    (board,) = start().boards()
    other = tmp_path / "other"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(other)
    stranger = domain.Board("x", transport="ssh", address=board.address, options={"keys": [str(other)]})
    with pytest.raises(BoardUnreachable, match="does not let"):
        asyncio.run(_run(stranger, known, "true"))


def test_a_password_and_no_key_at_all_are_refused(start: Start) -> None:
    (board,) = start().boards()

    async def knock() -> None:
        login = _login(board, client_keys=None, password="root")
        with pytest.raises(asyncssh.PermissionDenied):
            await asyncssh.connect(**login)

    asyncio.run(knock())


def test_the_right_key_for_another_user_is_refused(start: Start) -> None:
    (board,) = start().boards()

    async def knock() -> None:
        with pytest.raises(asyncssh.PermissionDenied):
            await asyncssh.connect(**_login(board, user="somebody"))

    asyncio.run(knock())


def test_no_port_is_forwarded_and_no_terminal_given(start: Start) -> None:
    (board,) = start().boards()

    async def ask() -> None:
        async with asyncssh.connect(**_login(board)) as connection:
            with pytest.raises(asyncssh.ChannelOpenError):
                await connection.open_connection("127.0.0.1", int(board.address.rpartition(":")[2]))
            with pytest.raises(asyncssh.ChannelListenError):
                await connection.start_server(lambda *_: None, "127.0.0.1", 0)
            with pytest.raises(asyncssh.ChannelOpenError):
                await connection.create_process("true", term_type="xterm")
            plain = await connection.run("true")
            assert plain.exit_status == 0

    asyncio.run(ask())


def test_it_listens_on_loopback_only_and_keeps_its_keys_to_itself(start: Start, tmp_path: Path) -> None:
    boards = start(2)
    ports = {int(board.address.rpartition(":")[2]) for board in boards.boards()}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = [row[1].split(":") for row in rows if row[3] == "0A"]
    assert {host for host, port in listening if int(port, 16) in ports} == {"0100007F"}
    for name in ("client_key", "boards.json"):
        assert stat.S_IMODE((tmp_path / "virtual" / name).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "virtual").stat().st_mode) == 0o700


def test_keys_are_made_anew_at_each_start_and_earlier_host_keys_forgotten(start: Start, known: Settings) -> None:
    boards = start()
    (first,) = boards.boards()
    key, lines = Path(first.options["keys"][0]).read_bytes(), known.known_hosts.read_text().splitlines()
    hostkeys.pin(known.known_hosts, "board.example", 22, asyncssh.generate_private_key("ssh-ed25519"))
    boards.stop()
    assert not Path(first.options["keys"][0]).exists()
    (second,) = start().boards()
    assert Path(second.options["keys"][0]).read_bytes() != key
    after = known.known_hosts.read_text().splitlines()
    assert (len(lines), len(after)) == (1, 2)
    assert lines[0] not in after
    assert after[0].startswith("board.example ssh-ed25519 ")


def test_a_board_that_is_not_pinned_is_not_spoken_to(start: Start, known: Settings, tmp_path: Path) -> None:
    (board,) = start().boards()
    with pytest.raises(HostKeyUnknown):
        asyncio.run(_run(board, known.model_copy(update={"known_hosts": tmp_path / "none"}), "true"))
    port = int(board.address.rpartition(":")[2])
    hostkeys.pin(tmp_path / "wrong", "127.0.0.1", port, asyncssh.generate_private_key("ssh-ed25519"))
    with pytest.raises(HostKeyChanged):
        asyncio.run(_run(board, known.model_copy(update={"known_hosts": tmp_path / "wrong"}), "true"))


def test_a_program_sees_its_own_home_and_path_and_its_status_comes_back(start: Start, known: Settings) -> None:
    first, second = start(2).boards()
    status, out, err = asyncio.run(
        _run(first, known, "/bin/sh", "-c", "echo $HOME; echo $PATH; cat; pwd; echo oh >&2; exit 7")
    )
    folder = Path(first.home).parent
    assert out.decode().splitlines() == [
        str(folder), f"{folder.parent}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", str(folder),
    ]  # fmt: skip
    assert (status, err) == (7, b"oh\n")
    assert Path(second.home).parent != folder


def test_when_a_connection_is_cut_its_programs_end_with_all_that_they_started(
    start: Start, known: Settings, tmp_path: Path
) -> None:
    (board,) = start().boards()
    marker = f"{7_000_000 + os.getpid()}"
    # one that ignores the end of its input, one below it in a session of its own, one that lost its parent
    script = f"trap '' HUP TERM; setsid sleep {marker} & (setsid sleep {marker} &); sleep {marker}; true"

    async def cut() -> None:
        connection = await asyncssh.connect(**_login(board))
        await connection.create_process(script, encoding=None)
        assert await asyncio.to_thread(until, lambda: len(running(marker)) >= 4)
        connection.abort()
        await connection.wait_closed()

    asyncio.run(cut())
    assert until(lambda: running(marker) == [])


def test_a_program_that_heeds_the_end_of_its_input_may_clean_up(start: Start, tmp_path: Path) -> None:
    (board,) = start().boards()
    left = tmp_path / "cleaned"

    async def cut() -> None:
        connection = await asyncssh.connect(**_login(board))
        process = await connection.create_process(f"echo up; cat; sleep 0.3; touch {left}", encoding=None)
        assert await process.stdout.readline() == b"up\n"
        connection.abort()
        await connection.wait_closed()

    asyncio.run(cut())
    assert until(left.exists)


def _by_hand(folder: Path) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "farm.virtual", "--folder", str(folder), "--count", "1"]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE)
    assert until((folder / "boards.json").exists)
    return process


@pytest.mark.parametrize("how", ["stdin", "SIGTERM"])
def test_when_the_parent_goes_nothing_is_left(how: str, tmp_path: Path) -> None:
    folder = tmp_path / "virtual"
    process = _by_hand(folder)
    assert process.stdin is not None
    marker = f"{8_000_000 + os.getpid()}"
    port = next(row for row in (folder / "boards.json").read_text().split('"') if "@127.0.0.1:" in row)
    board = domain.Board("x", address=port, options={"keys": [str(folder / "client_key")]})

    async def work() -> None:
        async with asyncssh.connect(**_login(board)) as connection:
            await connection.create_process(f"setsid sleep {marker} & sleep {marker}", encoding=None)
            assert await asyncio.to_thread(until, lambda: len(running(marker)) >= 3)
            if how == "stdin":
                process.stdin.close()  # type: ignore[union-attr]
            else:
                process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, 15) == 0

    asyncio.run(work())
    process.stdin.close()
    assert running(marker) == []
    assert sorted(path.name for path in folder.iterdir()) == ["virtual-1"]


def test_without_a_stdin_that_somebody_holds_it_does_not_stay(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "farm.virtual", "--folder", str(tmp_path / "v"), "--count", "1"]
    assert subprocess.run(argv, stdin=subprocess.DEVNULL, timeout=30).returncode == 0


def test_they_do_not_outlive_a_farm_that_was_killed(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, pathlib; from farm.virtual import VirtualBoards; "
        "VirtualBoards(pathlib.Path(sys.argv[1]), 1).start(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    folder = tmp_path / "virtual"
    assert subprocess.run([sys.executable, "-c", code, str(folder)], timeout=30).returncode == -signal.SIGKILL
    assert until(lambda: running(str(folder)) == [])
    assert not (folder / "client_key").exists()
