"""Nouns with literal content for the store's tests."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from farm_agent import wire

from farm.domain import (
    Arm,
    Artifact,
    BlockResult,
    Board,
    File,
    Job,
    Lease,
    Outcome,
    Reason,
    Run,
    Samples,
    Selector,
    new_id,
)
from farm.store import boards, jobs, leases, results
from farm.store.db import Store

NOW = datetime(2026, 3, 1, 12, 0, 0, 250_000, UTC)
LATER = NOW + timedelta(seconds=10)

ARTIFACT = Artifact(
    sha256="a1" * 32,
    name="mobilenet",
    entry="model.onnx",
    files=(File("model.onnx", "b2" * 32, 3_000_000_000), File("weights/part.bin", "c3" * 32, 7)),
    is_folder=True,
)
PLAN = wire.Plan(runtime="fake", options={"threads": 2}, limits={"load_s": 5}, feed_seed=7, sensors=("thermal",))
BOARD = Board(
    name="orin-3",
    transport="ssh",
    address="bench@10.0.0.7:22",
    site="lab",
    tags=("active-cooler",),
    sensors={"ina3221": {"rail": "VDD_IN"}},
    start_temp_c=45.5,
    options={"key": "~/.ssh/id_ed25519"},
    facts={"family": "jetson"},
)


def a_job(**changes: Any) -> Job:
    job = Job(
        id=new_id(),
        project="vision",
        model="mobilenet_v2_int8",
        arms=(Arm("a", ARTIFACT, PLAN),),
        selector=Selector(name="orin-3", tags=("active-cooler",)),
        submitted_at=NOW,
        commit="0a1b2c3",
    )
    return replace(job, **changes)


def a_lease(store: Store, board: Board = BOARD) -> Lease:
    """A Lease on a Board that is saved with it."""
    boards.save_board(store, board, NOW)
    return leases.grant(store, board.name, holder="ann@bench", ttl_s=30.0, now=NOW)


def a_started_run(store: Store, lease: Lease | None = None, **changes: Any) -> Run:
    """A Run that has begun, with its own Job."""
    lease = lease or a_lease(store)
    job = a_job(**changes)
    jobs.save_job(store, job)
    run = Run(id=new_id(), job_id=job.id, board=lease.board, token=lease.token, started_at=NOW)
    results.start_run(store, run)
    return run


def finished(run: Run, **changes: Any) -> Run:
    ended = replace(
        run,
        ended_at=LATER,
        outcome=Outcome.OK,
        fingerprint="f" * 64,
        identity={"kernel": "6.6.31", "plan": {"runtime": "fake"}},
        context={"uptime_s": 12.5, "tags": ["x"]},
    )
    return replace(ended, **changes)


def a_block(index: int = 0, **changes: Any) -> BlockResult:
    latency_ns = Samples("latency_ns", np.array([100, 220, 350], np.int64), np.array([110, 120, 90], np.int64))
    temp_c = Samples("thermal.temp_c", np.array([100, 200], np.int64), np.array([45.5, np.nan]))
    block = BlockResult(
        index=index,
        arm="a",
        pair=-1,
        outcome=Outcome.NOISY,
        reasons=(Reason("throttled", "CPU at 1510 MHz. \x00 Check its fan."),),
        stages={"load": {"rss_bytes": 5_000_000_000, "duration_ns": 12}},
        facts={"threads": 2, "runtime": {"name": "fake"}},
        samples=(latency_ns, temp_c),
    )
    return replace(block, **changes)
