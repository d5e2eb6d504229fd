"""Blocks, Samples and Summaries: all of them or nothing, and as they were saved."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import select, text

from farm.domain import Arm, BlockResult, Outcome, Reason, Samples, Summary
from farm.errors import FarmBug, NotFound, StoreError
from farm.store import results
from farm.store.db import Store
from farm.store.tables import SamplesRow, SeriesRow, SummaryRow
from tests.farm.store.nouns import ARTIFACT, PLAN, a_block, a_lease, a_started_run, finished

FIGURES = [
    Summary("p50_latency_ns", 1.5e6, 400, 1, 1.4e6, 1.6e6, block=0),
    Summary("p99_latency_ns", None, 400, 1, block=0, reason="needs 459"),
    Summary("p50_latency_ns", 1.5e6, 400, 5, 1.4e6, 1.7e6),
    Summary("p99_latency_ns", None, 400, 5, reason="needs 459"),
]


@pytest.mark.parametrize(
    "changes",
    [
        {"pair": 3},
        {"outcome": Outcome.OK},
        {"reasons": (Reason("throttled", "Otherwise."),)},
        {"stages": {}},
        {"facts": {"threads": 3}},
        {"samples": ()},
        {"samples": (Samples("latency_ns", np.array([100]), np.array([111])),)},
    ],
)
def test_another_block_cannot_take_the_place_of_one(store: Store, changes: dict[str, object]) -> None:
    run = a_started_run(store)
    results.save_block(store, run.id, run.token, a_block())
    with pytest.raises(FarmBug, match=r"Block 0 of run .* cannot be saved: another one is in its place"):
        results.save_block(store, run.id, run.token, a_block(**changes))  # type: ignore[arg-type]
    _assert_is_kept(store, run.id, a_block())


def test_a_block_with_one_metric_twice_is_not_saved_at_all(store: Store) -> None:
    run = a_started_run(store)
    samples = a_block().samples[0]
    with pytest.raises(FarmBug):
        results.save_block(store, run.id, run.token, a_block(samples=(samples, samples)))
    assert results.blocks_of(store, run.id) == []


def test_a_lost_blob_and_a_corrupt_one_are_errors_never_wrong_numbers(store: Store) -> None:
    run = a_started_run(store)
    results.save_block(store, run.id, run.token, a_block())
    with store.read() as session:
        path = store.blobs.path(session.scalars(select(SamplesRow.blob)).first() or "")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"Samples of 'thermal.temp_c' are corrupt"):
        results.samples_of(store, run.id, 0)
    assert results.samples_of(store, run.id, 0, "latency_ns")[0].value.tolist() == [110, 120, 90]
    path.unlink()
    with pytest.raises(NotFound, match="Restore that folder from a backup"):
        results.samples_of(store, run.id, 0)


def test_samples_in_a_codec_of_a_newer_farm_are_not_guessed_at(store: Store) -> None:
    run = a_started_run(store)
    results.save_block(store, run.id, run.token, a_block())
    with store.write() as session:
        session.execute(text("UPDATE samples SET codec = 'planes-zstd-9'"))
    with pytest.raises(
        StoreError, match=r"in codec 'planes-zstd-9', this farm reads 'planes-zstd-1'. Upgrade this farm"
    ):
        results.samples_of(store, run.id, 0)


def test_blocks_and_samples_come_back_as_they_were_saved(store: Store) -> None:
    run = a_started_run(store)
    failed = BlockResult(1, "a", -1, Outcome.FAILED, (Reason("crash", "SIGSEGV"),))
    results.save_block(store, run.id, run.token, failed)
    results.save_block(store, run.id, run.token, a_block())
    assert results.blocks_of(store, run.id) == [a_block(samples=()), failed]
    assert results.samples_of(store, run.id, 1) == []
    assert results.samples_of(store, run.id, 0, "power_w") == []
    _assert_is_kept(store, run.id, a_block())


def test_figures_come_back_as_they_were_saved_and_replace_the_old_ones(store: Store) -> None:
    run = a_started_run(store)
    results.save_summaries(store, run.id, [Summary("min_latency_ns", 1.0, 5, 1)])
    for _ in range(2):
        results.save_summaries(store, run.id, FIGURES)
        assert results.summaries_of(store, run.id) == FIGURES
    results.save_summaries(store, run.id, [])
    assert results.summaries_of(store, run.id) == []


@pytest.mark.parametrize(
    "figures",
    [
        [Summary("p50_latency_ns", None, 400, 5)],
        [Summary("p50_latency_ns", 1.0, 400, 5), Summary("p50_latency_ns", 2.0, 400, 5)],
        [Summary("p50_latency_ns", 1.0, 400, 1, block=2), Summary("p50_latency_ns", 2.0, 400, 1, block=2)],
        [Summary("p50_latency_ns", float("nan"), 400, 5)],
    ],
)
def test_a_figure_absent_without_reason_given_twice_or_no_number_is_refused(
    store: Store, figures: list[Summary]
) -> None:
    run = a_started_run(store)
    results.save_summaries(store, run.id, FIGURES)
    with pytest.raises(FarmBug):
        results.save_summaries(store, run.id, figures)
    assert results.summaries_of(store, run.id) == FIGURES


@pytest.mark.parametrize("is_finished_first", [True, False])
def test_figures_over_a_run_join_their_series_whatever_comes_first(store: Store, is_finished_first: bool) -> None:
    run = a_started_run(store)
    if is_finished_first:
        results.finish_run(store, finished(run), run.token)
        results.save_summaries(store, run.id, FIGURES)
    else:
        results.save_summaries(store, run.id, FIGURES)
        results.finish_run(store, finished(run), run.token)
    assert _series_of(store, run.id) == [None, None, "p50_latency_ns", "p99_latency_ns"]


def test_a_series_is_cut_where_the_fingerprint_changes(store: Store) -> None:
    lease = a_lease(store)
    for fingerprint in ("e" * 64, "e" * 64, "f" * 64):
        run = a_started_run(store, lease)
        results.finish_run(store, finished(run, fingerprint=fingerprint), run.token)
        results.save_summaries(store, run.id, FIGURES[2:3])
    with store.read() as session:
        points = select(SeriesRow.fingerprint).join(SummaryRow, SummaryRow.series_id == SeriesRow.id)
        assert sorted(session.scalars(points)) == ["e" * 64, "e" * 64, "f" * 64]
        assert len(session.scalars(select(SeriesRow.id)).all()) == 2


def test_a_run_that_compares_two_arms_is_in_no_series(store: Store) -> None:
    arms = (Arm("a", ARTIFACT, PLAN), Arm("b", replace(ARTIFACT, sha256="b2" * 32), PLAN))
    run = a_started_run(store, arms=arms)
    results.finish_run(store, finished(run), run.token)
    results.save_summaries(store, run.id, FIGURES)
    assert _series_of(store, run.id) == [None] * 4


def _assert_is_kept(store: Store, run_id: str, block: BlockResult) -> None:
    stored = results.samples_of(store, run_id, block.index)
    assert [s.metric for s in stored] == [s.metric for s in block.samples]
    for back, samples in zip(stored, block.samples, strict=True):
        assert (back.t_ns.dtype, back.value.dtype) == (samples.t_ns.dtype, samples.value.dtype)
        assert back.t_ns.tobytes() == samples.t_ns.tobytes()
        assert back.value.tobytes() == samples.value.tobytes()


def _series_of(store: Store, run_id: str) -> list[str | None]:
    query = select(SeriesRow.metric).select_from(SummaryRow).outerjoin(SeriesRow, SummaryRow.series_id == SeriesRow.id)
    with store.read() as session:
        return list(session.scalars(query.where(SummaryRow.run_id == run_id).order_by(SummaryRow.id)))
