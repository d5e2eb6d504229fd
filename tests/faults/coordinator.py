"""A coordinator in a process of its own, which kills itself with SIGKILL when its Run reaches a stage."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from farm import domain, execute, settings
from farm.store import db


def main() -> None:
    folder, run_id, stage = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    given = json.load(sys.stdin)
    board = domain.Board(**given["board"], options=given["options"])
    chosen = settings.load({"data_dir": str(folder / "data"), "known_hosts": given["known_hosts"]}, {})
    store = db.open_store(chosen.database_url, chosen.blobs_dir, upgrade=False)

    def watch(event: execute.Event) -> None:
        if event.text == stage:
            os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(execute.run(run_id, store=store, board=board, settings=chosen, watch=watch))


main()
