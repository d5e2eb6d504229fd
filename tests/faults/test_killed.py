"""Whatever is killed or cut, at any stage: no process, no half-written record, no lease is left; the next Run works."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from farm import domain, execute
from farm.store import leases, results
from tests import sshd
from tests.faults.conftest import BUSY, is_clean, kill, processes_of
from tests.trip.conftest import Trip

STAGES = ["interpreter", "load", "timed"]


def at(stage: str, action: object) -> execute.Watch:
    """Act once, when that stage is reached."""
    done: list[bool] = []

    def watch(event: execute.Event) -> None:
        if event.text == stage and not done:
            done.append(True)
            action()  # type: ignore[operator]

    return watch


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_agent_is_a_broken_run_and_leaves_a_clean_board(trip: Trip, board: domain.Board, stage: str) -> None:
    home = Path(board.home)
    run = trip.bench(trip.fake(load_ms=300), board, at(stage, lambda: kill(home, "supervise")), **BUSY)
    assert (run.outcome, run.blame, run.reasons[0].code) == (domain.Outcome.BROKEN, "board", "agent_crashed")
    assert is_clean(home)
    assert leases.current(trip.store, board.name) is None
    assert trip.bench(trip.fake(), board).outcome is domain.Outcome.OK


def test_a_subject_killed_once_from_outside_makes_the_run_noisy(trip: Trip, board: domain.Board) -> None:
    home = Path(board.home)
    run = trip.bench(trip.fake(), board, at("timed", lambda: kill(home, "subject")), duration_s=1.0)
    assert run.outcome is domain.Outcome.NOISY
    assert "failed once and then worked" in run.reasons[0].text
    outcomes = [block.outcome.value for block in results.blocks_of(trip.store, run.id)]
    assert outcomes == ["FAILED", "OK", "OK"]
    assert is_clean(home)


@pytest.mark.parametrize("stage", STAGES)
def test_a_cancelled_run_is_stored_as_cancelled_and_leaves_a_clean_board(
    trip: Trip, board: domain.Board, stage: str
) -> None:
    async def cancelled() -> None:
        task = asyncio.current_task()
        assert task is not None
        await trip.execute(trip.grant(trip.fake(load_ms=300), board, **BUSY), board, at(stage, task.cancel))

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())
    (run,) = results.list_runs(trip.store)
    assert run.outcome is domain.Outcome.CANCELLED
    assert is_clean(Path(board.home))
    assert leases.current(trip.store, board.name) is None


def test_a_lease_that_was_taken_away_stops_the_run_and_nothing_more_is_written(trip: Trip, board: domain.Board) -> None:
    run = trip.grant(trip.fake(), board, **BUSY)
    late = datetime.now(UTC) + timedelta(hours=1)

    def take() -> None:
        held = leases.current(trip.store, board.name)
        assert held is not None
        assert leases.expire(trip.store, held, now=late)
        other = leases.grant(trip.store, board.name, holder="another", ttl_s=30.0, now=late)
        assert other.token == run.token + 1

    ended = asyncio.run(trip.execute(run, board, at("timed", take)))
    assert (ended.outcome, ended.blame) == (domain.Outcome.BROKEN, "farm")
    assert ended.reasons[0].code == "lease_lost"
    assert results.blocks_of(trip.store, run.id) == []
    assert is_clean(Path(board.home))
    current = leases.current(trip.store, board.name)
    assert current is not None
    assert current.holder == "another"


@pytest.mark.parametrize("stage", STAGES)
def test_a_coordinator_killed_leaves_a_clean_board_and_its_run_is_ended_by_the_next(
    trip: Trip, board: domain.Board, stage: str
) -> None:
    run = trip.grant(trip.fake(load_ms=300), board, **BUSY)
    child = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("coordinator.py")), str(trip.folder), run.id, stage],
        stdin=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    child.stdin.write(json.dumps({"known_hosts": str(trip.settings.known_hosts)}))
    child.stdin.close()
    assert child.wait(60) == -signal.SIGKILL
    assert is_clean(Path(board.home))
    assert results.get_run(trip.store, run.id).outcome is None
    late = datetime.now(UTC) + timedelta(hours=1)
    held = leases.current(trip.store, board.name)
    assert held is not None
    assert leases.expire(trip.store, held, now=late)
    assert trip.bench(trip.fake(), board).outcome is domain.Outcome.OK
    assert results.get_run(trip.store, run.id).reasons[0].code == "lease_expired"


def test_a_connection_that_is_cut_is_broken_and_the_board_cleans_up(trip: Trip) -> None:
    with sshd.asyncssh_server(trip.folder / "ssh") as server, sshd.proxy(server.port) as proxy:
        server.pin(proxy.port)
        trip.settings = trip.settings.model_copy(update={"known_hosts": server.known_hosts})
        board = server.board(port=proxy.port)
        run = trip.bench(trip.fake(), board, at("timed", proxy.cut), **BUSY)
        assert (run.outcome, run.reasons[0].code) == (domain.Outcome.BROKEN, "connection_lost")
        assert is_clean(Path(board.home))
        assert trip.bench(trip.fake(), board).outcome is domain.Outcome.OK


def test_a_connection_that_freezes_is_noticed_and_the_board_cleans_up(trip: Trip) -> None:
    with sshd.asyncssh_server(trip.folder / "ssh") as server, sshd.proxy(server.port) as proxy:
        server.pin(proxy.port)
        trip.settings = trip.settings.model_copy(update={"known_hosts": server.known_hosts, "keepalive_s": 0.5})
        board = server.board(port=proxy.port)
        run = trip.bench(trip.fake(), board, at("timed", proxy.freeze), **BUSY)
        assert (run.outcome, run.reasons[0].code) == (domain.Outcome.BROKEN, "connection_lost")
        # the agent itself hears nothing of a frozen path: it ends with the time to live of its lease
        assert is_clean(Path(board.home), within_s=40.0)
        assert not processes_of(Path(board.home))
        assert os.path.exists(board.home)
