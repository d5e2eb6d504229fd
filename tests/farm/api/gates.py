"""What a test of gates does to a served farm's Jobs: measures them on its Board, or lets a gate decide."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from farm import selector
from farm.domain import Outcome, Verdict, plan_hash
from farm.store import baselines, evidence, jobs, queue
from tests.farm import judged
from tests.farm.api.live import NOW, Live
from tests.farm.store.moves import begun, ended

BOARD = "pi5-a"
P50 = "version: 1\nmetrics: {p50_latency_ns: {max_change: 3 %}}\n"


def over(api: Live, job_id: str, verdict: Verdict | None = Verdict.PASS, outcome: Outcome = Outcome.OK) -> str:
    """A queued Job is measured, and ends so: its Run's id."""
    run = ended(api.store, begun(api.store, jobs.get_job(api.store, job_id), BOARD), outcome)
    assert queue.finish(api.store, run, verdict=verdict, reasons=(), now=NOW)
    return run.id


def measured(api: Live, name: str = "vision-ci", **more: Any) -> dict[str, Any]:
    """A Job that passed, as it is told."""
    job = api.submit(name, **more)
    over(api, job["id"])
    return api.client(name).get(f"/jobs/{job['id']}").json()  # type: ignore[no-any-return]


def a_baseline(api: Live, job_id: str, name: str) -> None:
    """What a Job measures is the Baseline of that name."""
    job = jobs.get_job(api.store, job_id)
    measured = {"artifact": job.arms[0].artifact, "plan": job.arms[0].plan, "plan_hash": plan_hash(job.arms[0].plan)}
    told = {"project": job.project, "model": job.model, "name": name, "selector": selector.text(job.selector)}
    baselines.save(api.store, judged.a_baseline(**told, **measured))


def judge(api: Live, job_id: str, *, slower: float | None = None, seconds: float = 1.0) -> evidence.Stored:
    """A queued Job with a Gate is measured, until that decides; without `slower` it gives up before the first pair."""
    job = jobs.get_job(api.store, job_id)
    run = begun(api.store, job, BOARD)
    found = judged.evidence_of(job, BOARD, slower=slower)
    evidence.save(api.store, found, run, now=NOW + timedelta(seconds=seconds))
    done = ended(api.store, run, Outcome.OK if slower is not None else Outcome.NOISY)
    verdict = found.verdict if slower is not None else Verdict.UNDECIDED
    assert queue.finish(api.store, done, verdict=verdict, reasons=found.reasons, now=NOW)
    return found
