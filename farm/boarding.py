"""Getting on board: our zip on a board, and what the board answers to `probe`."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from farm import bundle, domain
from farm.connections import Connections
from farm.errors import FarmBug
from farm.transport import Ask, Transport


async def probe(
    board: domain.Board, *, connections: Connections, ask: Ask | None = None, self_cost: bool = False
) -> dict[str, Any]:
    """What the board answers to `probe`, over the same path as a Run; `ask(host, fingerprint)` on first contact."""
    async with connections.reach(board, ask) as (transport, python):
        zip_path = await push_agent(transport)
        argv = [python, "-I", "-S", zip_path, "probe", "--json", "--root", board.root, "--python", python]
        status, out, err = await transport.run([*argv, *(["--self-cost"] if self_cost else [])], timeout_s=60.0)
        if status != 0:
            raise FarmBug(f"probe on board '{board.name}' ended with status {status}: {err.decode(errors='replace')}")
        return {**json.loads(out), "transport": transport.name, "home": transport.home, "interpreter": python}


async def push_agent(transport: Transport) -> str:
    """The agent on the board, as an absolute path there; its name is the hash of its sources."""
    source = await asyncio.to_thread(bundle.bundle)
    path = f"agents/{source.name}"
    await push_file(transport, source, path)
    return f"{transport.home}/{path}"


async def push_file(transport: Transport, source: Path, path: str, sha256: str = "") -> None:
    """A file on the board, unless one of its size is there: the agent hashes what it uses."""
    if not await transport.has(path, (await asyncio.to_thread(source.stat)).st_size):
        await transport.push(source, path, sha256=sha256)
