"""Evidence of gates: kept with the lease token of who measured it, pair by pair, for whoever goes on with it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from farm_agent import wire

from farm.domain import Arm, JobState, Outcome, Reason, Run, Verdict
from farm.errors import FarmBug, FarmError, LeaseLost
from farm.store import baselines, evidence, jobs, leases, queue
from farm.store.db import Store
from tests.farm.judged import FOUR, GATE, NEW, OLD, a_baseline, a_pair, decided, evidence_of, gated
from tests.farm.store.moves import after, begun, ended, good_board, kinds, queued, state
from tests.farm.store.nouns import NOW, PLAN, a_job


def begun_gate(store: Store) -> tuple[Run, evidence.Stored]:
    """A gated Job whose first pair is about to come."""
    good_board(store)
    job = jobs.save_job(store, gated())
    return begun(store, job), evidence_of(job)


def test_a_stale_token_cannot_save_evidence(store: Store) -> None:
    run, found = begun_gate(store)
    lease = leases.current(store, "orin-3")
    assert lease is not None
    leases.release(store, lease, now=after(40))
    leases.grant(store, "orin-3", holder="another", ttl_s=30, now=after(41))
    with pytest.raises(LeaseLost):
        evidence.save(store, found, run, now=after(42), pair=a_pair(0))
    assert evidence.newest(store, found.key) is None
    assert jobs.get_job(store, run.job_id).evidence_id is None
    assert evidence.pairs(store, found.id) == []


def test_a_run_that_has_ended_saves_nothing_more(store: Store) -> None:
    run, found = begun_gate(store)
    evidence.save(store, found, run, now=NOW, pair=a_pair(0))
    ended(store, run, Outcome.BROKEN)
    with pytest.raises(FarmError):
        evidence.save(store, found, run, now=after(1), pair=a_pair(1))
    assert [one["index"] for one in evidence.pairs(store, found.id)] == [0]


def test_a_token_that_was_never_given_saves_nothing(store: Store) -> None:
    run, found = begun_gate(store)
    with pytest.raises(LeaseLost):
        evidence.save(store, found, replace(run, token=run.token + 1), now=NOW)
    assert evidence.newest(store, found.key) is None


def test_evidence_of_one_board_is_never_anothers(store: Store) -> None:
    run, found = begun_gate(store)
    with pytest.raises(FarmBug, match=r"of board pi5-a is not orin-3's\."):
        evidence.save(store, replace(found, board="pi5-a"), run, now=NOW)


def test_the_same_pair_twice_leaves_all_as_it_was(store: Store) -> None:
    run, found = begun_gate(store)
    evidence.save(store, found, run, now=NOW, pair=a_pair(0))
    with pytest.raises(FarmError):
        evidence.save(store, replace(found, queries=99), run, now=after(1), pair=a_pair(0))
    assert evidence.get(store, found.id).queries is None
    (kept,) = evidence.pairs(store, found.id)
    assert (kept["index"], kept["run"], kept["measured_at"]) == (0, run.id, NOW)


def test_a_job_without_a_gate_has_no_evidence() -> None:
    with pytest.raises(FarmBug, match="has no gate"):
        evidence.key_of(a_job())


def test_evidence_comes_back_as_it_was_saved_with_its_pairs_in_order(store: Store) -> None:
    run, found = begun_gate(store)
    for index in (0, 1, 2):
        evidence.save(store, found, run, now=after(index), pair=a_pair(index))
    assert evidence.get(store, found.id) == found
    assert jobs.get_job(store, run.job_id).evidence_id == found.id
    assert [(one["index"], one["data"]) for one in evidence.pairs(store, found.id)] == [a_pair(n) for n in (0, 1, 2)]
    reasons = (Reason("worse", "p50 +50 %", "artifact"),)
    over = replace(found, verdict=Verdict.FAIL, outcome=Outcome.OK, reasons=reasons, decided_at=after(3), queries=40)
    evidence.save(store, over, run, now=after(3))
    assert evidence.get(store, found.id) == over


@pytest.mark.parametrize(
    ("verdict", "is_final"), [(None, False), (Verdict.UNDECIDED, False), (Verdict.PASS, True), (Verdict.FAIL, True)]
)
def test_only_pass_and_fail_are_not_measured_on(verdict: Verdict | None, is_final: bool) -> None:
    assert evidence_of(gated(), verdict=verdict).is_final == is_final


def test_a_retry_goes_on_with_the_newest_of_its_board(store: Store) -> None:
    run, first = begun_gate(store)
    good_board(store, "pi5-a")
    evidence.save(store, first, run, now=NOW)
    other = begun(store, jobs.save_job(store, gated(id="01990000-0000-7000-8000-00000000000b")), "pi5-a")
    second = evidence_of(gated(), "pi5-a")
    evidence.save(store, second, other, now=after(1))
    assert evidence.newest(store, first.key) == second
    assert evidence.newest(store, first.key, "orin-3") == first
    assert evidence.newest(store, "0" * 64) is None


@pytest.mark.parametrize(
    ("changes", "is_same"),
    [
        ({"commit": "f00", "branch": "topic", "model": "other_name", "submitted_by": "bob"}, True),
        ({"arms": (Arm("a", NEW, wire.replace(PLAN, limits={"load_s": 9})), Arm("b", OLD, PLAN))}, True),
        ({"project": "audio"}, False),
        ({"arms": (Arm("a", OLD, PLAN), Arm("b", NEW, PLAN))}, False),
        ({"arms": (Arm("a", NEW, FOUR), Arm("b", OLD, PLAN))}, False),
        ({"arms": (Arm("a", NEW, PLAN), Arm("b", OLD, FOUR))}, False),
    ],
)
def test_evidence_belongs_to_a_project_its_arms_and_its_gate_whatever_they_are_called(
    changes: dict[str, Any], is_same: bool
) -> None:
    assert (evidence.key_of(gated(**changes)) == evidence.key_of(gated())) == is_same


@pytest.mark.parametrize(
    ("text", "is_same"),
    [
        ("pairs: 30\nbudget_s: 5\non_undecided: accept\non_no_baseline: fail\n", True),
        ("references: [last-passing]\n", True),
        ("alpha: 0.02\n", False),
        ("beta: 0.1\n", False),
        ("references: [{name: last-passing, branch: main}]\n", False),
    ],
)
def test_budgets_and_policies_of_a_gate_begin_no_new_evidence(text: str, is_same: bool) -> None:
    assert (evidence.key_of(gated(GATE + text)) == evidence.key_of(gated())) == is_same


def test_a_job_whose_answer_is_known_is_over_at_once_and_only_while_it_waits(store: Store) -> None:
    good_board(store)
    first = jobs.save_job(store, gated())
    decided(store, first, slower=0.5)
    known = evidence.newest(store, evidence.key_of(first), None)
    assert known is not None
    again = jobs.save_job(store, gated())
    told = {"outcome": Outcome.OK, "verdict": Verdict.FAIL, "reasons": known.reasons, "evidence_id": known.id}
    assert [queue.answer(store, again.id, now=after(9), **told) for _ in range(2)] == [True, False]  # type: ignore[arg-type]
    over = jobs.get_job(store, again.id)
    assert (over.state, over.verdict, over.evidence_id) == (JobState.DONE, Verdict.FAIL, known.id)
    assert kinds(store, again.id) == ["submitted", "done"]
    running = queued(store)
    begun(store, running, now=after(10))
    assert not queue.answer(store, running.id, now=after(11), **told)  # type: ignore[arg-type]
    assert state(store, running.id) == ("running", None)


def test_a_known_pass_of_the_followed_branch_is_promoted_with_its_board(store: Store) -> None:
    good_board(store)
    first = jobs.save_job(store, gated(branch="topic"))
    decided(store, first)
    known = evidence.newest(store, evidence.key_of(first))
    assert known is not None
    assert known.verdict is Verdict.PASS
    baselines.save(store, a_baseline(follows="main"))
    again = jobs.save_job(store, gated(branch="main"))
    told = {"outcome": Outcome.OK, "verdict": Verdict.PASS, "reasons": known.reasons, "evidence_id": known.id}
    assert queue.answer(store, again.id, now=after(9), **told)  # type: ignore[arg-type]
    (now,) = baselines.current(store, "vision")
    assert (now.artifact, now.job_id, now.board) == (NEW, again.id, "orin-3")
    assert baselines.board_of(store, again.id) == "orin-3"
