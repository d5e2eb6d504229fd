"""A coordinator in a process of its own, which kills itself with SIGKILL when its Run reaches a stage."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from farm import bench, execute, settings
from farm.store import db, results


def main() -> None:
    folder, run_id, stage = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    given = json.load(sys.stdin)
    chosen = settings.load({"data_dir": str(folder / "data"), "known_hosts": given["known_hosts"]}, {})
    store = db.open_store(chosen.database_url, chosen.blobs_dir, upgrade=False)

    def watch(event: execute.Event) -> None:
        if event.text == stage:
            os.kill(os.getpid(), signal.SIGKILL)

    run = results.get_run(store, run_id)
    asyncio.run(bench.carry_out(run, store=store, settings=chosen, holder="tests", watch=watch))


main()
