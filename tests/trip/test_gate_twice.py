"""The same gate asked for twice before anything was measured: who comes second has the answer of the first."""

from __future__ import annotations

import asyncio

from farm import domain, gatefile
from farm.domain import Verdict
from farm.store import evidence, jobs, results
from tests.trip.conftest import Trip

P50 = "version: 1\nmetrics: {p50_latency_ns: {max_change: 60 %}}\n"


def test_who_was_queued_before_it_was_decided_fails_as_the_first_did(trip: Trip) -> None:
    board = trip.local()
    before = trip.bench(trip.fake("net.fake", latency_us=500), board)
    assert jobs.get_job(trip.store, before.job_id).verdict is Verdict.PASS
    slow = trip.fake("net.fake", latency_us=1500)
    first, second = (trip.submit(slow, board, gate=gatefile.parse(P50, "gate.yaml")) for _ in range(2))

    def judged(job: domain.Job) -> domain.Job:
        asyncio.run(trip.execute(trip.granted(job, board), board))
        return jobs.get_job(trip.store, job.id)

    one, two = judged(first), judged(second)
    assert (one.verdict, two.verdict, two.outcome) == (Verdict.FAIL, Verdict.FAIL, domain.Outcome.OK)
    assert (two.evidence_id, two.reasons) == (one.evidence_id, one.reasons)
    assert one.evidence_id is not None
    run = results.runs_of(trip.store, two.id)[0]
    assert run.id not in {pair["run"] for pair in evidence.pairs(trip.store, one.evidence_id)}
