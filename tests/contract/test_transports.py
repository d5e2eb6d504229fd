"""What programs do alike over every Transport: each test runs over each file of transports/, and over OpenSSH."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from farm_agent import plugins

from farm import transport
from farm.errors import BoardRefused, ConnectionLost
from tests.ways import PARAMS, WAYS, Way, file

PY = sys.executable


@pytest.fixture(params=PARAMS)
def way(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Way]:
    with request.param(tmp_path) as found:
        yield found


def _is_gone(pid: int) -> bool:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.02)
    return False


def test_every_kind_of_transport_is_tested_here() -> None:
    assert sorted(WAYS) == plugins.names("farm.transports")


# --- programs


def test_an_unknown_program_is_status_127_and_says_so(way: Way) -> None:
    status, out, err = way.go(lambda board: board.run(["no-such-program"], timeout_s=20))
    assert (status, out) == (127, b"")
    assert b"not found" in err


def test_a_file_that_may_not_be_run_is_status_126(way: Way, tmp_path: Path) -> None:
    program = file(tmp_path, b"#!/bin/sh\n", "plain")
    status, _, err = way.go(lambda board: board.run([str(program)], timeout_s=20))
    assert status == 126
    assert b"ermission denied" in err


def test_a_program_that_never_ends_is_refused_after_its_time_and_killed(way: Way, tmp_path: Path) -> None:
    code = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"
    note = tmp_path / "pid"
    with pytest.raises(BoardRefused, match=r"did not end within 1\.5 s"):
        way.go(lambda board: board.run([PY, "-c", code, str(note)], timeout_s=1.5))
    assert _is_gone(int(note.read_text()))


def test_run_gives_status_stdout_and_stderr_and_takes_stdin(way: Way) -> None:
    code = "import sys; print(len(sys.stdin.buffer.read())); print('oh', file=sys.stderr); sys.exit(3)"
    result = way.go(lambda board: board.run([PY, "-c", code], timeout_s=20, stdin=b"x" * 300_000))
    assert result == (3, b"300000\n", b"oh\n")


def test_a_program_need_not_read_its_stdin(way: Way) -> None:
    status, out, err = way.go(lambda board: board.run(["echo", "hi"], timeout_s=20, stdin=b"x" * 3_000_000))
    assert (status, out, err) == (0, b"hi\n", b"")


def test_run_keeps_one_mebibyte_of_a_flood(way: Way) -> None:
    code = "import sys; sys.stdout.write('o' * 5_000_000); sys.stderr.write('e' * 5_000_000)"
    status, out, err = way.go(lambda board: board.run([PY, "-c", code], timeout_s=60))
    assert (status, out, err) == (0, b"o" * (1 << 20), b"e" * (1 << 20))


def test_arguments_reach_a_program_as_they_are(way: Way) -> None:
    words = ["a b", "$HOME", "'", '"', "`id`", "*", "", "a\nb", "ü", "-n", "\\", "!", "~", ";", "#x"]
    code = "import sys, json; sys.stdout.write(json.dumps(sys.argv[1:]))"
    _, out, _ = way.go(lambda board: board.run([PY, "-c", code, *words], timeout_s=20))
    assert json.loads(out) == words


def test_a_program_killed_by_a_signal_has_its_negative_number(way: Way) -> None:
    code = "import os; os.kill(os.getpid(), 9)"
    status, _, _ = way.go(lambda board: board.run([PY, "-c", code], timeout_s=20))
    assert status == -9


def test_secrets_of_the_coordinator_do_not_reach_a_program(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARM_DATABASE_URL", "postgresql+psycopg://farm:hunter2@db/farm")
    _, out, _ = way.go(lambda board: board.run(["env"], timeout_s=20))
    assert b"HOME=" in out
    assert b"hunter2" not in out


# --- channels


def test_a_line_without_end_is_refused(way: Way) -> None:
    async def story(board: transport.Transport) -> None:
        channel = await board.start([PY, "-c", "import sys\nwhile True: sys.stdout.write('x' * 65536)"])
        try:
            await anext(channel.lines())
        finally:
            await channel.kill()

    with pytest.raises(BoardRefused, match="a line of over 4259840 bytes"):
        way.go(story)


def test_a_line_cut_off_before_its_newline_is_dropped(way: Way) -> None:
    async def story(board: transport.Transport) -> tuple[list[bytes], int | None]:
        channel = await board.start([PY, "-c", "print('one'); print('two', end='')"])
        return [line async for line in channel.lines()], await channel.wait(20)

    assert way.go(story) == ([b"one"], 0)


def test_sending_to_a_program_that_ended_is_a_lost_connection(way: Way) -> None:
    async def story(board: transport.Transport) -> None:
        channel = await board.start(["true"])
        assert await channel.wait(20) == 0
        await channel.send("anyone?")

    with pytest.raises(ConnectionLost, match="no longer reads"):
        way.go(story)


def test_lines_go_both_ways_and_end_of_file_ends_the_program(way: Way) -> None:
    async def story(board: transport.Transport) -> tuple[list[bytes], int | None, int | None]:
        channel = await board.start(["cat"])
        lines = channel.lines()
        heard = []
        for number in range(50):
            await channel.send(f"line {number}")
            heard.append(await anext(lines))
        early = await channel.wait(0.05)
        await channel.close_stdin()
        return [*heard[:2], *[line async for line in lines]], early, await channel.wait(20)

    assert way.go(story) == ([b"line 0", b"line 1"], None, 0)


def test_lines_of_three_megabytes_and_of_any_bytes_arrive_whole(way: Way) -> None:
    code = (
        "import sys; out = sys.stdout.buffer\n"
        "every = bytes(b for b in range(256) if b != 10)\n"
        "out.write(b'y' * 3_000_000 + b'\\n' + every + b'\\n\\n' + b'z' * 3_000_000 + b'\\n')"
    )

    async def story(board: transport.Transport) -> list[bytes]:
        channel = await board.start([PY, "-c", code])
        return [line async for line in channel.lines()]

    every = bytes(byte for byte in range(256) if byte != 10)
    assert way.go(story) == [b"y" * 3_000_000, every, b"", b"z" * 3_000_000]


def test_a_line_of_three_megabytes_can_be_sent(way: Way) -> None:
    async def story(board: transport.Transport) -> bytes:
        channel = await board.start([PY, "-c", "print(len(input()), flush=True)"])
        await channel.send("x" * 3_000_000)
        return await anext(channel.lines())

    assert way.go(story) == b"3000000"


def test_waiting_for_a_line_can_time_out_and_be_taken_up_again(way: Way) -> None:
    async def story(board: transport.Transport) -> bytes:
        channel = await board.start(["cat"])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(channel.lines()), 0.05)
        await channel.send("late")
        return await anext(channel.lines())

    assert way.go(story) == b"late"


def test_the_last_four_kilobytes_of_stderr_are_kept(way: Way) -> None:
    async def story(board: transport.Transport) -> tuple[int | None, str]:
        code = "import sys; sys.stderr.write('a' * 100_000 + 'b' * 4000 + 'last words'); sys.exit(9)"
        channel = await board.start([PY, "-c", code])
        return await channel.wait(20), channel.stderr_tail()

    status, tail = way.go(story)
    assert (status, len(tail), tail[-12:]) == (9, 4096, "bblast words")


def test_kill_ends_a_program_that_heeds_no_end_offile(way: Way) -> None:
    async def story(board: transport.Transport) -> int:
        code = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
        channel = await board.start([PY, "-c", code])
        pid = int(await anext(channel.lines()))
        await channel.kill()
        return pid

    assert _is_gone(way.go(story))


def test_kill_lets_a_program_put_things_back_first(way: Way, tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *a: (open(sys.argv[1], 'w').write('ok'), os._exit(0)))\n"
        "print('ready', flush=True); time.sleep(600)"
    )

    async def story(board: transport.Transport) -> None:
        channel = await board.start([PY, "-c", code, str(tmp_path / "restored")])
        await anext(channel.lines())
        await channel.kill()

    way.go(story)
    assert (tmp_path / "restored").read_text() == "ok"


def test_no_program_outlives_its_transport(way: Way) -> None:
    async def story(board: transport.Transport) -> int:
        channel = await board.start([PY, "-c", "import os, sys; print(os.getpid(), flush=True); sys.stdin.read()"])
        return int(await anext(channel.lines()))

    assert _is_gone(way.go(story))
