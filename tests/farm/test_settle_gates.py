"""What a gated Job's Run ends in: what the Gate decided on it, and nothing that another attempt left behind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from farm import settle
from farm.domain import Job, Outcome, Reason, Verdict
from farm.store import evidence, jobs
from farm.store.db import Store, open_store
from tests.farm.judged import evidence_of, gated
from tests.farm.store.moves import after, begun, ended, good_board
from tests.farm.store.nouns import NOW

INPUT = (Reason("plan", "threads is 0.", "input"),)


@pytest.fixture
def store(database_url: str, tmp_path: Path) -> Iterator[Store]:
    opened = open_store(database_url, tmp_path / "blobs", upgrade=False)
    good_board(opened)
    yield opened
    opened.close()


def settled(store: Store, found: evidence.Stored | None, outcome: Outcome, reasons: tuple[Reason, ...] = ()) -> Job:
    """A gated Job after a Run of that outcome, with that Evidence."""
    job = jobs.save_job(store, gated())
    run = begun(store, job)
    if found is not None:
        evidence.save(store, found, run, now=NOW)
    ended(store, run, outcome, reasons=reasons)
    settle.settle(job.id, store=store, cool_down_s=60.0, now=after(9))
    return jobs.get_job(store, job.id)


def test_a_run_that_is_ok_is_no_pass_where_the_gate_has_not_decided(store: Store) -> None:
    for found in (None, evidence_of(gated())):
        over = settled(store, found, Outcome.OK)
        assert (over.verdict, over.outcome, over.reasons[0].code) == (Verdict.UNDECIDED, Outcome.OK, "not_decided")


@pytest.mark.parametrize(("slower", "verdict"), [(0.0, Verdict.PASS), (0.5, Verdict.FAIL)])
def test_what_the_gate_decided_is_the_verdict_with_its_reasons(store: Store, slower: float, verdict: Verdict) -> None:
    found = evidence_of(gated(), slower=slower)
    over = settled(store, found, Outcome.OK)
    assert (over.verdict, over.reasons) == (verdict, found.reasons)


def test_what_an_earlier_attempt_left_is_not_the_verdict_of_a_run_that_ended_otherwise(store: Store) -> None:
    noisy = (Reason("pairs_dropped", "9 of 12 pairs were dropped."),)
    left = replace(
        evidence_of(gated()), verdict=Verdict.UNDECIDED, outcome=Outcome.NOISY, reasons=noisy, decided_at=NOW
    )
    over = settled(store, left, Outcome.FAILED, INPUT)
    assert (over.verdict, over.reasons) == (None, INPUT)


def test_a_candidate_that_fails_by_itself_fails_with_the_gates_reason(store: Store) -> None:
    reasons = (Reason("candidate_fails", "The candidate failed 2 times.", "artifact"),)
    left = replace(evidence_of(gated()), verdict=Verdict.FAIL, outcome=Outcome.FAILED, reasons=reasons, decided_at=NOW)
    over = settled(store, left, Outcome.FAILED, reasons)
    assert (over.verdict, over.reasons) == (Verdict.FAIL, reasons)


def test_a_broken_run_is_tried_again_whatever_the_evidence_says(store: Store) -> None:
    over = settled(store, evidence_of(gated()), Outcome.BROKEN)
    assert (over.state, over.verdict, over.evidence_id is not None) == ("queued", None, True)
