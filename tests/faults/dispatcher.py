"""A dispatcher in a process of its own, as `farm api` has one, whose clock a test can step: seconds in a file."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from farm import services, settings
from farm.store import db


def main() -> None:
    clock = Path(sys.argv[1])

    def now() -> datetime:
        return datetime.now(UTC) + timedelta(seconds=float(clock.read_text()))

    chosen = settings.load()
    store = db.open_store(chosen.database_url, chosen.blobs_dir, upgrade=False)
    app = services.celery_app(str(chosen.redis_url))
    with services.rounds(store, app, chosen, now=now):
        sys.stdin.read()
    store.close()


main()
