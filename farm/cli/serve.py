"""`farm up`, `farm api`, `farm worker`: the long-lived services."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from typing import Annotated

import typer

from farm.cli import output
from farm.cli.session import Session, session
from farm.errors import InputError


def up(
    context: typer.Context,
    virtual_boards: Annotated[
        int, typer.Option(min=0, max=64, help="start so many virtual boards, to try the farm without hardware")
    ] = 0,
    hot: Annotated[int, typer.Option(min=0, max=64, help="of these, so many that throttle under load")] = 0,
) -> None:
    """Run the whole farm on this machine: API, dispatcher, worker, database and message broker."""
    from farm import up as farm_up

    here = session(context)
    _log()
    with here.store() as store:
        farm_up.up(store, here.settings, here.boards, virtual=virtual_boards, hot=hot, say=output.say)


def api(context: typer.Context) -> None:
    """Serve the REST API, with a dispatcher and the deliveries of notices, until SIGTERM. As many as one likes."""
    from farm import services
    from farm.worker import celery_app

    here = session(context)
    _log()
    with here.store() as store:
        services.remember_boards(store, here.boards if here.settings.inventory else ())
        app = celery_app(_broker(here))
        with (
            services.trimmed_cache(store, here.settings),
            services.deliveries(store, here.settings, dict(os.environ)),
        ):
            with services.rounds(store, app, here.settings) as dispatcher:
                services.serve_api(
                    store, here.settings, dispatcher.kick, started=lambda url: output.say(f"API at {url}/api/v1")
                )


def worker(
    context: typer.Context,
    until_eof: Annotated[bool, typer.Option("--until-eof", help="End at the end of stdin, too.", hidden=True)] = False,
) -> None:
    """Carry out runs on the boards of this site. SIGTERM drains: it finishes what it has and takes nothing new."""
    from farm import services
    from farm.worker import celery_app

    here = session(context)
    _log()
    with here.store() as store:
        app = celery_app(_broker(here))
        if until_eof:
            threading.Thread(target=_end_at_eof, daemon=True).start()
        output.say(f"worker of site {here.settings.site} with {here.settings.slots} slots")
        services.run_worker(store, here.settings, app)


def _broker(here: Session) -> str:
    if here.settings.redis_url is None:
        raise InputError(
            "No message broker is named, and a worker and an API in processes of their own need one. "
            "Set FARM_REDIS_URL=redis://host:port/0, or run `farm up`, which brings its own."
        )
    return here.settings.redis_url


def _end_at_eof() -> None:
    """Whoever started us has gone: nothing new, and what is under way is given up."""
    while sys.stdin.buffer.read(4096):
        pass
    for _ in range(2):
        main_thread = threading.main_thread().ident
        if main_thread is not None:
            signal.pthread_kill(main_thread, signal.SIGTERM)


def _log() -> None:
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("farm").setLevel(logging.INFO)
