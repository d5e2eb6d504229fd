"""Run virtual boards until stdin ends or SIGTERM: python -m farm.virtual --folder DIR --count N [--hot N].

`DIR/boards.json` is there once all of them listen, and gone when they end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import asyncssh

from farm.virtual import BOARDS_FILE, MOST_BOARDS
from farm.virtual.board import KINDS, VirtualBoard, keep
from farm.virtual.processes import Processes
from farm.virtual.server import user_name

CLIENT_KEY_FILE = "client_key"


def main() -> int:
    """Exit status 0; 2 where the options are wrong."""
    parser = argparse.ArgumentParser(prog="farm.virtual", description="Virtual boards behind SSH servers on loopback.")
    parser.add_argument("--folder", type=Path, required=True, help="where their homes and trees lie")
    parser.add_argument("--count", type=int, required=True, help=f"how many, 1 to {MOST_BOARDS}")
    parser.add_argument("--hot", type=int, default=0, help="how many of them, the first, throttle under load")
    options = parser.parse_args()
    if not 1 <= options.count <= MOST_BOARDS or not 0 <= options.hot <= options.count:
        parser.error(f"--count is {options.count} and --hot {options.hot}; 1 to {MOST_BOARDS}, and no more than those")
    options.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    asyncio.run(serve(options.folder.absolute(), options.count, options.hot))
    return 0


async def serve(folder: Path, count: int, hot: int) -> None:
    """The boards from start to end."""
    ended = _watch_for_the_end()
    listing, key_file = folder / BOARDS_FILE, folder / CLIENT_KEY_FILE
    listing.unlink(missing_ok=True)
    processes, wake = Processes(), asyncio.Event()
    client_key = asyncssh.generate_private_key("ssh-ed25519")
    write_private(key_file, client_key.export_private_key())
    boards = [_board(f"virtual-{n}", folder, n - 1, n <= hot, processes) for n in range(1, count + 1)]
    doors = []
    try:
        for board in boards:
            board.plant()
            doors.append(await board.listen(client_key, wake))
        write_private(listing, json.dumps([_facts(board, key_file) for board in boards]).encode())
        keeping = asyncio.create_task(keep(boards, processes, wake))
        await asyncio.wait((keeping, asyncio.ensure_future(ended.wait())), return_when=asyncio.FIRST_COMPLETED)
        await _stop(keeping)
    finally:
        listing.unlink(missing_ok=True)
        await asyncio.gather(*(door.close() for door in doors))
        key_file.unlink(missing_ok=True)
        await processes.kill(processes.alive)


def write_private(file: Path, data: bytes) -> None:
    """A file for this user only, that is there whole or not at all."""
    part = file.with_name(file.name + ".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as handle:
        handle.write(data)
    part.replace(file)


def _board(name: str, folder: Path, place: int, is_hot: bool, processes: Processes) -> VirtualBoard:
    kind = KINDS[place % len(KINDS)]
    return VirtualBoard(name, folder / name, kind, kind.hot_profile if is_hot else kind.profile, processes)


def _facts(board: VirtualBoard, key_file: Path) -> dict[str, Any]:
    return {
        "name": board.name,
        "address": f"{user_name()}@127.0.0.1:{board.port}",
        "home": str(board.home / ".benchfarm"),
        "root": str(board.root),
        "key": str(key_file),
        "host_key": board.host_key.export_public_key().decode().strip(),
    }


def _watch_for_the_end() -> asyncio.Event:
    """Set at SIGTERM, SIGINT, or the end of stdin: whoever started this is gone."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)

    def read() -> None:
        if not os.read(0, 4096):
            loop.remove_reader(0)
            ended.set()

    try:
        loop.add_reader(0, read)
    except OSError:  # closed, /dev/null or a file: nobody holds the other end
        ended.set()
    return ended


async def _stop(keeping: asyncio.Task[None]) -> None:
    """End the models; where they have ended by themselves, with the error they ended by."""
    keeping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await keeping


if __name__ == "__main__":
    sys.exit(main())
