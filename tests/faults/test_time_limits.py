"""Queue, start, upload and run each have a time limit of their own: what is over it ends its Run, and nothing stays."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from farm import dispatch, domain, execute, intake
from farm.store import leases
from tests import sshd
from tests.faults.conftest import BUSY, is_clean
from tests.trip.conftest import QUICK, Trip

WAITED = timedelta(hours=1)


@pytest.fixture
def far(trip: Trip) -> Iterator[tuple[domain.Board, sshd.Proxy]]:
    """A board behind a proxy, and the proxy."""
    with sshd.asyncssh_server(trip.folder / "ssh") as server, sshd.proxy(server.port) as proxy:
        server.pin(proxy.port)
        trip.settings = trip.settings.model_copy(update={"known_hosts": server.known_hosts})
        yield server.board(port=proxy.port), proxy


def granted(trip: Trip, model: Path, board: domain.Board, limits: domain.TimeLimits, **plan: Any) -> domain.Run:
    """A Run of a Job that has waited for an hour in the queue."""
    artifact = intake.receive(model, store=trip.store)
    now = datetime.now(UTC)
    job = intake.submit(
        store=trip.store,
        artifact=artifact,
        plan=intake.plan_from({**QUICK, **plan}, artifact=artifact),
        model=None,
        project="tests",
        selector=domain.Selector(name=board.name),
        now=now - WAITED,
        limits=limits,
    )
    return dispatch.grant(job, board, store=trip.store, holder="tests", ttl_s=20.0, now=now)


def check_too_long(trip: Trip, run: domain.Run, board: domain.Board, part: str) -> None:
    """The Run ended for want of time in that part; the board is free and clean, and works."""
    assert (run.outcome, run.blame, run.reasons[0].code) == (domain.Outcome.BROKEN, "board", "took_too_long")
    assert f"the part '{part}'" in run.reasons[0].text
    assert leases.current(trip.store, board.name) is None
    assert is_clean(Path(board.home))


def test_a_board_that_does_not_get_ready_in_time_ends_the_start(
    trip: Trip, far: tuple[domain.Board, sshd.Proxy]
) -> None:
    board, proxy = far
    proxy.delay(60.0)
    run = asyncio.run(trip.execute(granted(trip, trip.fake(), board, domain.TimeLimits(start_s=0.5)), board))
    check_too_long(trip, run, board, "start")


def test_an_upload_that_takes_too_long_is_ended_and_leaves_no_half_a_file_in_use(
    trip: Trip, far: tuple[domain.Board, sshd.Proxy]
) -> None:
    board, proxy = far
    folder = trip.folder / "large"
    folder.mkdir()
    (folder / "m.fake").write_bytes(trip.fake().read_bytes())
    (folder / "weights").write_bytes(bytes(8 << 20))

    def slow_down(event: execute.Event) -> None:
        if event.kind == "push":
            proxy.delay(2.0)

    run = granted(trip, folder, board, domain.TimeLimits(upload_s=1.0))
    run = asyncio.run(trip.execute(run, board, slow_down))
    proxy.delay(0.0)
    check_too_long(trip, run, board, "upload")
    assert list(Path(board.home).glob("artifacts/*/weights")) == []
    assert trip.bench(folder, board).outcome is domain.Outcome.OK


def test_a_run_that_measures_for_too_long_is_ended_on_the_board_too(
    trip: Trip, far: tuple[domain.Board, sshd.Proxy]
) -> None:
    board, _ = far
    run = asyncio.run(trip.execute(granted(trip, trip.fake(), board, domain.TimeLimits(run_s=0.5), **BUSY), board))
    check_too_long(trip, run, board, "run")


def test_an_hour_in_the_queue_is_no_time_of_the_run(trip: Trip, far: tuple[domain.Board, sshd.Proxy]) -> None:
    board, _ = far
    limits = domain.TimeLimits(queue_s=2 * 3600.0, start_s=120.0, upload_s=120.0, run_s=120.0)
    assert limits.run_s is not None
    assert WAITED.total_seconds() > limits.start_s + limits.upload_s + limits.run_s
    run = asyncio.run(trip.execute(granted(trip, trip.fake(), board, limits), board))
    assert run.outcome is domain.Outcome.OK
