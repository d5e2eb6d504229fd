"""Artifact -> plot, over each transport, for real: the same figures by either way, and nothing left behind."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

from farm_dashboards import render

from farm import domain, show
from farm.store import leases, results
from tests import sshd
from tests.trip.conftest import Trip


def test_a_model_is_measured_stored_and_drawn(trip: Trip, board: domain.Board) -> None:
    run = trip.bench(trip.fake(latency_us=500), board)
    assert (run.outcome, run.reasons) == (domain.Outcome.OK, ())
    found = show.run_json(trip.store, run.id)
    assert found["metrics"]["p50_latency_ns"]["processes"] == 2
    assert found["metrics"]["p50_latency_ns"]["n"] >= 20
    assert found["metrics"]["p50_latency_ns"]["value"] > 500_000  # the fake model is busy for 500 us
    assert found["metrics"]["p99_latency_ns"]["value"] is None
    assert found["metrics"]["p99_latency_ns"]["reason"] == "needs 459"
    assert found["metrics"]["cold_load_rss_bytes"]["value"] > 5e6
    assert list(found["stages"]) == ["interpreter", "runtime", "load", "first", "steady"]
    assert render.render(show.run_document(trip.store, run.id), format="png")[:4] == b"\x89PNG"


def test_afterwards_the_board_is_free_and_idle(trip: Trip, board: domain.Board) -> None:
    run = trip.bench(trip.fake(), board)
    assert leases.current(trip.store, board.name) is None
    home = Path(board.home)
    assert not list(home.rglob("*.part-*"))
    assert results.unfinished_runs(trip.store) == []
    assert run.ended_at is not None


def test_the_second_run_pushes_nothing(trip: Trip, board: domain.Board) -> None:
    trip.bench(trip.fake(), board)
    trip.events.clear()
    trip.bench(trip.fake(), board)
    assert [event.text for event in trip.events if event.kind == "push"] == []


def test_a_cached_file_that_was_changed_is_pushed_again(trip: Trip, board: domain.Board) -> None:
    model = trip.fake()
    run = trip.bench(model, board)
    artifact = show.run_json(trip.store, run.id)["artifact"]
    cached = Path(board.home) / "artifacts" / artifact["sha256"] / artifact["name"]
    changed = cached.read_bytes().replace(b"200", b"900")
    assert len(changed) == cached.stat().st_size
    cached.chmod(0o644)
    cached.write_bytes(changed)
    again = trip.bench(model, board)
    assert again.outcome is domain.Outcome.OK
    assert cached.read_bytes() == model.read_bytes()
    assert [event.text for event in trip.events if event.kind == "retry"]


def test_without_a_sampler_there_are_latencies_and_no_sensors(trip: Trip) -> None:
    run = trip.bench(trip.fake(), trip.local(), sensor_hz=0)
    assert run.outcome is domain.Outcome.OK
    metrics = {column.metric for column in results.samples_of(trip.store, run.id, 0)}
    assert metrics == {"latency_ns", "warmup_latency_ns"}
    assert results.blocks_of(trip.store, run.id)[0].facts["waited_ns"] >= 0


def test_both_ways_lead_to_one_fingerprint(trip: Trip) -> None:
    first = trip.bench(trip.fake(), trip.local())
    with sshd.asyncssh_server(trip.folder / "ssh") as server:
        trip.settings = trip.settings.model_copy(update={"known_hosts": server.known_hosts})
        second = trip.bench(trip.fake(), replace(server.board(), python=sys.executable))
    assert first.identity == second.identity
    assert first.fingerprint == second.fingerprint
    a, b = (show.run_json(trip.store, run.id) for run in (first, second))
    assert set(a["metrics"]) == set(b["metrics"])
    assert (a["context"]["transport"], b["context"]["transport"]) == ("local", "ssh")


def test_runs_on_two_boards_are_shown_side_by_side_and_called_incomparable(trip: Trip) -> None:
    first = trip.bench(trip.fake(), trip.local())
    second = trip.bench(trip.fake(), trip.local(), options={"threads": 2})
    document = show.compare_document(trip.store, [first.id, second.id])
    assert document["comparable"] is False
    assert document["differences"] == [{"field": "plan.options.threads", "values": [None, "2"]}]
    ratio = next(row for row in document["metrics"] if row["metric"] == "p50_latency_ns")["runs"][1]["first_ratio"]
    assert ratio is not None
    assert math.isfinite(ratio)
    assert render.render(document, format="svg").startswith(b"<?xml")


def test_frames_hold_every_raw_sample(trip: Trip) -> None:
    run = trip.bench(trip.fake(), trip.local())
    frames = show.frames(trip.store, [run.id])
    latency = frames["samples"].query("metric == 'latency_ns'")
    stored = sum(len(results.samples_of(trip.store, run.id, i, "latency_ns")[0].value) for i in (0, 1))
    assert len(latency) == stored
    assert frames["runs"]["outcome"].tolist() == ["OK"]
    assert "cold_load_rss_bytes" in set(frames["summaries"]["metric"])


def test_one_machine_may_be_two_boards_of_a_farm(trip: Trip) -> None:
    for name in ("first", "second", "first", "second"):
        board = replace(trip.local(), name=name)
        assert trip.bench(trip.fake(), board).outcome is domain.Outcome.OK


def test_a_token_that_the_board_finds_stale_ends_the_run_as_broken(trip: Trip) -> None:
    board = trip.local()
    trip.bench(trip.fake(), board)
    farm_id = leases.farm_id(trip.store)
    lock = next(path for path in (Path("/run/lock/benchfarm.lock"), Path("/tmp/benchfarm.lock")) if path.exists())
    seen = json.loads(lock.read_text())
    seen["marks"][f"{farm_id}/local"] = 99  # as if another coordinator of this farm had had the board since
    lock.write_text(json.dumps(seen))
    run = trip.bench(trip.fake(), board)
    assert (run.outcome, run.blame, run.reasons[0].code) == (domain.Outcome.BROKEN, "farm", "lease_lost")
    assert leases.current(trip.store, "local") is None
