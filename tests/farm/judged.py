"""Gated Jobs and Evidence with literal content, for the store's, the API's and the command line's tests."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from typing import Any

from farm_agent import wire

from farm import domain, gate, gatefile, pairs
from farm.domain import Arm, Artifact, Baseline, File, Job, JobGate, Outcome, Run, Verdict, plan_hash
from farm.store import evidence, queue
from farm.store.db import Store
from farm.store.evidence import Stored
from tests.farm.gates import P50, play
from tests.farm.store.moves import after, begun, ended, queued
from tests.farm.store.nouns import NOW, PLAN, a_job

GATE = "version: 1\nmetrics: {p50_latency_ns: {max_change: 3 %}}\n"
FOUR = wire.replace(PLAN, options={"threads": 4})  # another Plan
OLD = Artifact("e5" * 32, "old.fake", "old.fake", (File("old.fake", "e5" * 32, 2),))
NEW = Artifact("f6" * 32, "new.fake", "new.fake", (File("new.fake", "f6" * 32, 2),))


def gated(text: str = GATE, **changes: Any) -> Job:
    """A Job that compares NEW with OLD, by its last that passed."""
    arms = (Arm("a", NEW, PLAN), Arm("b", OLD, PLAN))
    asked = gatefile.parse(text, "gate.yaml").as_json()
    return replace(a_job(arms=arms, gate=JobGate(asked, {"last-passing": "b"})), **changes)


def evidence_of(job: Job, board: str = "orin-3", *, slower: float | None = None, **changes: Any) -> Stored:
    """Its Evidence: before the first pair, or with the Decision on a candidate that is slower by this share."""
    assert job.gate is not None
    setup = pairs.Setup(gatefile.parse(GATE, "gate.yaml"), "a", dict(job.gate.letters), seed=7)
    found = Stored(domain.new_id(), evidence.key_of(job), board, gate.start(setup).as_json(), NOW)
    if slower is None:
        return replace(found, **changes)
    noise = (0.001, -0.002, 0.0015, -0.0005, 0.002, -0.001, 0.0005)
    seen, _, decision = play(
        gate.start(setup),
        lambda pair, letter: {P50: 1e6 * (1 + (slower if letter == "a" else 0.0) + noise[(pair + ord(letter)) % 7])},
    )
    told = {"verdict": decision.verdict, "outcome": decision.outcome, "reasons": decision.reasons}
    return replace(found, state=seen.as_json(), queries=40, fingerprint="f" * 64, decided_at=NOW, **{**told, **changes})


def a_pair(index: int) -> tuple[int, dict[str, Any]]:
    """A pair as it is stored."""
    taken = tuple(pairs.Taken(letter, "ok", {P50: 1e6}, {}) for letter in "ba")
    return index, json.loads(json.dumps(pairs.Pair(index, taken, 2.0).as_json()))


def decided(store: Store, job: Job, *, slower: float = 0.0, now: datetime = NOW) -> Run:
    """A queued Job measured and over, by Evidence that says so."""
    run = begun(store, job, now=now)
    found = evidence_of(job, slower=slower)
    evidence.save(store, found, run, now=now)
    over = ended(store, run, now=now)
    assert queue.finish(store, over, verdict=found.verdict, reasons=found.reasons, now=now)
    return over


def passed(store: Store, *, seconds: float = 1.0, **changes: Any) -> Job:
    """A Job without a Gate that was measured well on orin-3."""
    job = queued(store, **changes)
    over = ended(store, begun(store, job, now=after(seconds)), Outcome.OK, now=after(seconds + 1))
    assert queue.finish(store, over, verdict=Verdict.PASS, reasons=(), now=after(seconds + 1))
    return job


def a_baseline(**changes: Any) -> Baseline:
    """OLD as what mobilenet_v2_int8 is compared against, on what a_job asks for."""
    asked = Baseline(
        project="vision",
        model="mobilenet_v2_int8",
        name="default",
        selector="name=orin-3,tags>={active-cooler}",
        plan_hash=plan_hash(PLAN),
        artifact=OLD,
        plan=PLAN,
        job_id=None,
        board=None,
        commit=None,
        follows=None,
        is_pinned=False,
        note="",
        set_by="ann",
        set_at=NOW,
    )
    return replace(asked, **changes)
