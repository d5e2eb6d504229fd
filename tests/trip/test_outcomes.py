"""What a model, a Plan or a board does wrong, and the Outcome, reason and blame that come of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from farm import domain, show
from farm.errors import InputError
from farm.store import db, leases, results
from tests import sshd
from tests.trip.conftest import Trip


@pytest.mark.parametrize(
    ("misbehave", "code"),
    [
        ({"stage": "load", "how": "raise"}, "load_error"),
        ({"stage": "load", "how": "crash"}, "crash"),
        ({"stage": "first", "how": "exit"}, "no_result"),
        ({"stage": "timed", "how": "hang"}, "timeout_run"),
        ({"stage": "timed", "how": "flood_stdout"}, "flood"),
    ],
)
def test_a_model_that_misbehaves_twice_is_failed_with_its_reason(
    trip: Trip, misbehave: dict[str, str], code: str
) -> None:
    run = trip.bench(trip.fake(misbehave=misbehave), trip.local(), limits={"run_s": 3.0, "load_s": 2.0})
    assert run.outcome is domain.Outcome.FAILED
    assert [reason.code for reason in run.reasons] == [code]
    assert run.blame is None
    outcomes = [block.outcome for block in results.blocks_of(trip.store, run.id)]
    assert outcomes == [domain.Outcome.FAILED, domain.Outcome.FAILED]
    assert leases.current(trip.store, "local") is None


def test_a_failure_names_the_stage_and_the_signal(trip: Trip) -> None:
    run = trip.bench(trip.fake(misbehave={"stage": "load", "how": "crash"}), trip.local())
    (reason,) = run.reasons
    assert "load" in reason.text
    assert "SIGSEGV" in reason.text


def test_too_few_queries_make_a_run_noisy(trip: Trip) -> None:
    run = trip.bench(
        trip.fake(latency_us=400_000), trip.local(), min_queries=50, limits={"run_s": 3.0}, warmup_queries=0
    )
    assert run.outcome is domain.Outcome.NOISY
    assert [reason.code for reason in run.reasons] == ["too_few_samples"]


def test_an_artifact_over_its_memory_limit_is_failed(trip: Trip) -> None:
    run = trip.bench(
        trip.fake(load_bytes=400_000_000), trip.local(), limits={"memory_bytes": 120_000_000}, stage_peaks=False
    )
    assert run.outcome is domain.Outcome.FAILED
    assert run.reasons[0].code in ("out_of_memory", "memory")


def test_a_bad_feed_is_the_users_and_ends_the_run(trip: Trip, tmp_path: Path) -> None:
    model = tmp_path / "models" / "broken.fake"
    model.parent.mkdir()
    model.write_text("not json")
    run = trip.bench(model, trip.local())
    assert (run.outcome, run.reasons[0].code) == (domain.Outcome.FAILED, "load_error")


def test_a_board_that_cannot_be_reached_is_broken_and_blamed(trip: Trip) -> None:
    board = domain.Board("gone", transport="ssh", address="nobody@127.0.0.1:1")
    run = trip.bench(trip.fake(), board)
    assert (run.outcome, run.blame) == (domain.Outcome.BROKEN, "board")
    assert run.reasons[0].code == "board_unreachable"
    assert leases.current(trip.store, "gone") is None


def test_a_board_without_python_is_broken_with_advice(trip: Trip) -> None:
    run = trip.bench(trip.fake(), trip.local(python="/nonexistent/python3"))
    assert (run.outcome, run.reasons[0].code) == (domain.Outcome.BROKEN, "board_refused")
    assert "inventory.yaml" in run.reasons[0].text


def test_an_unknown_transport_is_the_users_mistake_and_the_run_is_ended(trip: Trip) -> None:
    board = domain.Board("odd", transport="pigeon")
    with pytest.raises(InputError, match="pigeon"):
        trip.bench(trip.fake(), board)
    (run,) = results.list_runs(trip.store)
    assert run.outcome is domain.Outcome.FAILED
    assert leases.current(trip.store, "odd") is None


def test_a_board_whose_host_key_changed_is_broken_with_both_fingerprints_and_nothing_is_sent(trip: Trip) -> None:
    with sshd.asyncssh_server(trip.folder / "first") as server:
        trip.settings = trip.settings.model_copy(update={"known_hosts": server.known_hosts})
        port = server.port
        assert trip.bench(trip.fake(), server.board()).outcome is domain.Outcome.OK
    with sshd.asyncssh_server(trip.folder / "second", port=port, pin=False) as impostor:
        run = trip.bench(trip.fake(), impostor.board())
        assert (run.outcome, run.blame, run.reasons[0].code) == (domain.Outcome.BROKEN, "board", "host_key_changed")
        assert run.reasons[0].text.count("SHA256:") == 2
        assert not Path(impostor.board().home).exists()


def test_an_artifact_whose_bytes_the_farm_has_lost_is_the_farms_failure(trip: Trip) -> None:
    board = trip.local()
    run = trip.grant(trip.fake(), board)
    for file in trip.store.blobs.folder.glob("??/*"):
        file.unlink()
    over = asyncio.run(trip.execute(run, board))
    assert (over.outcome, over.blame, over.reasons[0].code) == (domain.Outcome.BROKEN, "farm", "store_error")
    assert "Restore that folder from a backup" in over.reasons[0].text


def test_a_board_whose_disk_is_full_is_broken_and_nothing_half_written_stays(trip: Trip) -> None:
    model = trip.fake(name="padded.fake")
    model.write_text(model.read_text() + " " * 1_000_000)
    with sshd.asyncssh_server(trip.folder / "ssh", disk_bytes=600_000) as server:  # a stand-in for a full disk
        trip.settings = trip.settings.model_copy(update={"known_hosts": server.known_hosts})
        run = trip.bench(model, server.board())
        assert (run.outcome, run.blame, run.reasons[0].code) == (domain.Outcome.BROKEN, "board", "disk_full")
        left = [path.name for path in Path(server.board().home).rglob("*") if path.is_file()]
        assert [name for name in left if name.startswith("padded")] == []


def test_the_whole_trip_is_the_same_on_postgresql(trip: Trip, postgres_url: str, tmp_path: Path) -> None:
    trip.store = db.open_store(postgres_url, tmp_path / "blobs", upgrade=True)
    try:
        run = trip.bench(trip.fake(), trip.local())
        assert run.outcome is domain.Outcome.OK
        found = show.run_json(trip.store, run.id)
        assert found["metrics"]["p50_latency_ns"]["processes"] == 2
        assert [row["run"] for row in show.runs(trip.store)] == [run.id]
    finally:
        trip.store.close()
