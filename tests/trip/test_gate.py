"""Candidate and baseline, interleaved on one board: real processes, real evidence, one word at the end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from farm import domain, execute, gate, gatefile, pairs, rules
from farm.domain import Outcome, Verdict
from farm.store import evidence, jobs, results
from tests.trip.conftest import Trip

P50 = "version: 1\nmetrics: {p50_latency_ns: {max_change: 60 %}}\n"


def a_gate(text: str = P50, **references: str) -> rules.Gate:
    found = gatefile.parse(text, "gate.yaml")
    return gatefile.with_references(found, list(references.values())) if references else found


def judged(trip: Trip, run: domain.Run, board: domain.Board) -> domain.Job:
    asyncio.run(trip.execute(run, board))
    return jobs.get_job(trip.store, run.job_id)


def passed_before(trip: Trip, model: Path, board: domain.Board) -> domain.Run:
    run = trip.bench(model, board)
    assert jobs.get_job(trip.store, run.job_id).verdict is Verdict.PASS
    return run


def test_the_same_model_passes_against_the_last_that_passed(trip: Trip) -> None:
    board = trip.local()
    model = trip.fake("net.fake", latency_us=500)
    before = passed_before(trip, model, board)
    job = trip.submit(model, board, gate=a_gate())
    assert (job.affinity, [arm.letter for arm in job.arms]) == ("local", ["a", "b"])
    over = judged(trip, trip.granted(job, board), board)
    assert (over.verdict, over.outcome) == (Verdict.PASS, Outcome.OK)
    assert over.reasons[0].code == "holds"
    assert over.evidence_id is not None
    stored = evidence.get(trip.store, over.evidence_id)
    seen = pairs.evidence_from(stored.state)
    kept = evidence.pairs(trip.store, stored.id)
    assert len(kept) == seen.next_pair >= 6
    assert before.fingerprint is not None


def test_a_model_twice_as_slow_fails_and_a_replay_of_its_pairs_says_so_too(trip: Trip) -> None:
    board = trip.local()
    passed_before(trip, trip.fake("net.fake", latency_us=500), board)
    run = trip.granted(trip.submit(trip.fake("net.fake", latency_us=1500), board, gate=a_gate()), board)
    over = judged(trip, run, board)
    assert (over.verdict, over.outcome) == (Verdict.FAIL, Outcome.OK)
    assert over.reasons[0].code == "worse"
    assert over.evidence_id is not None
    stored = evidence.get(trip.store, over.evidence_id)
    seen = pairs.evidence_from(stored.state)
    again = gate.replay(
        seen.setup, [pairs.pair_from(one["data"]) for one in evidence.pairs(trip.store, stored.id)], seen.resumed
    )
    assert again == seen
    decided = gate.ask(again)
    assert isinstance(decided, gate.Decision)
    assert (decided.verdict, decided.reasons) == (over.verdict, over.reasons)
    blocks = results.blocks_of(trip.store, run.id)
    assert {block.arm for block in blocks} == {"a", "b"}
    p50 = next(
        one for one in results.summaries_of(trip.store, run.id) if one.metric == "p50_latency_ns" and one.block is None
    )
    assert p50.low is not None
    assert p50.low >= 1.5e6  # the candidate alone


def test_the_same_again_is_answered_at_once_and_anew_only_where_that_is_asked_for(trip: Trip) -> None:
    board = trip.local()
    passed_before(trip, trip.fake("net.fake", latency_us=500), board)
    slow = trip.fake("net.fake", latency_us=1500)
    first = judged(trip, trip.granted(trip.submit(slow, board, gate=a_gate()), board), board)
    again = trip.submit(slow, board, gate=a_gate())
    assert (again.state, again.verdict, again.evidence_id) == (domain.JobState.DONE, Verdict.FAIL, first.evidence_id)
    assert again.reasons[-1].code == "decided_before"
    anew = trip.submit(slow, board, gate=a_gate(), is_fresh=True)
    assert anew.state is domain.JobState.QUEUED


def test_arms_may_differ_in_their_plan_alone(trip: Trip) -> None:
    board = trip.local()
    model = trip.fake("net.fake", latency_us=500)
    one = trip.bench(model, board, options={"threads": 2})
    job = trip.submit(model, board, gate=a_gate(run=f"run:{one.id}"))
    assert [arm.plan.options for arm in job.arms] == [{}, {"threads": 2}]
    assert judged(trip, trip.granted(job, board), board).verdict is Verdict.PASS


def test_without_a_baseline_only_limits_are_judged_and_nothing_measured_is_no_pass(trip: Trip) -> None:
    board = trip.local()
    model = trip.fake("net.fake", latency_us=500)
    nothing = judged(trip, trip.granted(trip.submit(model, board, gate=a_gate()), board), board)
    assert (nothing.verdict, nothing.reasons[0].code) == (Verdict.UNDECIDED, "nothing_to_judge")
    limits = a_gate("version: 1\nmetrics: {cold_load_rss_bytes: {limit: 500 MB}, p50_latency_ns: {max_change: 60 %}}")
    held = judged(trip, trip.granted(trip.submit(model, board, gate=limits), board), board)
    assert held.verdict is Verdict.PASS
    assert [reason.code for reason in held.reasons] == ["holds", "no_baseline"]


def test_a_candidate_that_never_loads_fails_while_its_baseline_works(trip: Trip) -> None:
    board = trip.local()
    passed_before(trip, trip.fake("net.fake", latency_us=500), board)
    broken = trip.fake("net.fake", latency_us=500, misbehave={"stage": "load", "how": "crash"})
    over = judged(trip, trip.granted(trip.submit(broken, board, gate=a_gate()), board), board)
    assert (over.verdict, over.outcome, over.reasons[0].code) == (Verdict.FAIL, Outcome.FAILED, "candidate_fails")


def test_a_baseline_that_no_longer_loads_leaves_it_undecided(trip: Trip) -> None:
    board = trip.local()
    passed_before(trip, trip.fake("net.fake", latency_us=500), board)
    before = jobs.list_jobs(trip.store)[0]
    broken = trip.fake("broken.fake", misbehave={"stage": "load", "how": "crash"})
    artifact = trip.submit(broken, board, name="net").arms[0].artifact
    job = trip.submit(trip.fake("net.fake", latency_us=500), board, gate=a_gate(artifact=f"artifact:{artifact.sha256}"))
    over = judged(trip, trip.granted(job, board), board)
    assert (over.verdict, over.reasons[0].code) == (Verdict.UNDECIDED, "baseline_fails")
    assert before.verdict is Verdict.PASS


@pytest.mark.parametrize("at", [1, 3])
def test_a_gate_that_is_cut_off_goes_on_where_it_was(trip: Trip, at: int) -> None:
    board = trip.local()
    passed_before(trip, trip.fake("net.fake", latency_us=500), board)
    job = trip.submit(trip.fake("net.fake", latency_us=1500), board, gate=a_gate())
    run = trip.granted(job, board)

    async def cut() -> None:
        enough, told = asyncio.Event(), []

        def watch(event: execute.Event) -> None:
            told.append(event.kind)
            if told.count("pair") == at:
                enough.set()

        task = asyncio.create_task(trip.execute(run, board, watch))
        await enough.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(cut())
    begun = jobs.get_job(trip.store, job.id)
    assert begun.evidence_id is not None
    kept = len(evidence.pairs(trip.store, begun.evidence_id))
    assert kept >= at
    again = trip.submit(trip.fake("net.fake", latency_us=1500), board, gate=a_gate())
    over = judged(trip, trip.granted(again, board), board)
    assert (over.verdict, over.evidence_id) == (Verdict.FAIL, begun.evidence_id)
    stored = evidence.get(trip.store, begun.evidence_id)
    assert pairs.evidence_from(stored.state).resumed == ((kept, False),)
    assert [one["index"] for one in evidence.pairs(trip.store, stored.id)] == list(
        range(pairs.evidence_from(stored.state).next_pair)
    )
