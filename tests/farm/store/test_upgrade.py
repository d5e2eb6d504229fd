"""A database of the first version, with Jobs in every state, arrives at today's with everything intact."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Connection, Engine

from farm.domain import Health, JobState, Outcome, TimeLimits
from farm.store import artifacts, boards, db, jobs, leases, results
from farm.store.db import Store, open_store

THEN = "2025-11-02 10:00:00.250000"
ENDED = "2025-11-02 10:05:00.500000"
AT = datetime(2025, 11, 2, 10, 0, 0, 250_000, UTC)
AT_END = datetime(2025, 11, 2, 10, 5, 0, 500_000, UTC)
SELECTOR = (
    '{"name": "pi-1", "family": null, "generation": null, "accelerator": null, "memory_bytes": null,'
    ' "tags": ["fan"], "virtual": false}'
)
PLAN = '{"runtime": "fake", "duration_s": 1.0}'

JOBS = {
    # what it was, and its Runs (outcome, or None where it was half-written): what it is
    "done": ("done", ("OK",), ("done", "OK")),
    "failed": ("done", ("FAILED",), ("done", "FAILED")),
    "broken-then-ok": ("done", ("BROKEN", "OK"), ("done", "OK")),
    "cancelled": ("cancelled", ("CANCELLED",), ("cancelled", "CANCELLED")),
    "refused": ("refused", (), ("refused", None)),
    "queued": ("queued", (), ("cancelled", "CANCELLED")),
    "running": ("running", (None,), ("cancelled", "CANCELLED")),
    "all-but-told": ("running", ("NOISY",), ("done", "NOISY")),
    "all-but-cancelled": ("running", ("CANCELLED",), ("cancelled", "CANCELLED")),
    "broken-and-again": ("running", ("BROKEN", None), ("cancelled", "CANCELLED")),
}


@pytest.fixture
def old(empty_database_url: str) -> Iterator[Engine]:
    """A database at the first revision, with content."""
    engine = create_engine(empty_database_url)
    config = Config()
    config.set_main_option("script_location", str(db.migrations_folder()))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        _fill(connection)
    yield engine
    engine.dispose()


@pytest.fixture
def store(old: Engine, empty_database_url: str, tmp_path: Path) -> Iterator[Store]:
    """The same, brought up to date."""
    opened = open_store(empty_database_url, tmp_path / "blobs", upgrade=True)
    yield opened
    opened.close()


def _fill(connection: Connection) -> None:
    def put(table: str, **values: object) -> None:
        names = ", ".join(f'"{name}"' for name in values)
        marks = ", ".join(f":{name}" for name in values)
        connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({marks})"), values)

    put("farm", one=1, id="farm-1")
    for number, project in enumerate(("vision", "speech"), 1):
        put("project", id=number, name=project)
        put("model", id=number, project_id=number, name=f"net-{number}")
    put("artifact", sha256="a1" * 32, name="net", entry="net.onnx", is_folder=False)
    put("artifact_file", artifact="a1" * 32, position=0, path="net.onnx", sha256="b2" * 32, size_bytes=3_000_000_000)
    put("plan", hash="c3" * 32, form=PLAN)
    entry = (
        '{"python": "", "home": "", "tags": ["fan"], "sensors": {}, "start_temp_c": 45.5, "root": "/", "options": {}}'
    )
    put(
        "board", name="pi-1", site="lab", transport="ssh", address="bench@pi", is_virtual=False, entry=entry,
        facts='{"family": "raspberrypi"}', saved_at=THEN, last_token=99,
    )  # fmt: skip
    put(
        "series", id=1, model_id=1, board="pi-1", plan_hash="c3" * 32, fingerprint="f" * 64, metric="p50_latency_ns"
    )  # fmt: skip
    token = 0
    for number, (name, (state, outcomes, _)) in enumerate(JOBS.items()):
        put(
            "job", id=name, model_id=1 + number % 2, selector=SELECTOR, submitted_at=THEN, commit="0a1b", branch="main",
            submitted_by="ann", state=state,
        )  # fmt: skip
        put("arm", job_id=name, letter="a", artifact="a1" * 32, plan_hash="c3" * 32, plan=PLAN)
        for place, outcome in enumerate(outcomes):
            token += 1
            is_held = name == "running"
            put(
                "lease", board="pi-1", token=token, holder="ann@pc", ttl_s=30.0, granted_at=THEN, renewed_at=THEN,
                released_at=None if is_held else ENDED,
            )  # fmt: skip
            put(
                "run", id=f"{name}-{place}", job_id=name, board="pi-1", token=token, started_at=THEN,
                ended_at=None if outcome is None else ENDED, outcome=outcome,
                blame="board" if outcome == "BROKEN" else None, reasons="[]", fingerprint="f" * 64,
                identity='{"kernel": "6.6"}', context='{"uptime_s": 12.5}',
            )  # fmt: skip
    put(
        "block", run_id="done-0", index=0, arm="a", pair=-1, outcome="OK", reasons="[]",
        stages='{"load": {"rss_bytes": 5000000000}}', facts="{}", content="d" * 64,
    )  # fmt: skip
    put(
        "samples", run_id="done-0", block=0, metric="latency_ns", n=2, t_type="q", v_type="q", codec="c", blob="e" * 64,
        offset_bytes=0, size_bytes=32,
    )  # fmt: skip
    put(
        "summary", run_id="done-0", block=None, metric="p50_latency_ns", value=120.5, n=2, processes=1, low=None,
        high=None, reason=None, series_id=1,
    )  # fmt: skip


def test_every_job_is_where_the_migration_says(store: Store) -> None:
    found = {job.id: (job.state, job.outcome) for job in jobs.list_jobs(store)}
    assert found == {name: (JobState(was[2][0]), was[2][1] and Outcome(was[2][1])) for name, was in JOBS.items()}


def test_a_job_keeps_what_it_had_and_knows_its_project(store: Store) -> None:
    job = jobs.get_job(store, "done")
    assert (job.project, job.model, job.commit, job.branch, job.submitted_by) == (
        "vision",
        "net-1",
        "0a1b",
        "main",
        "ann",
    )
    assert (job.submitted_at, job.queued_at, job.ended_at) == (AT, AT, AT_END)
    assert (job.selector.name, job.selector.tags, job.limits, job.priority) == ("pi-1", ("fan",), TimeLimits(), 0)
    assert (job.verdict, job.reasons, job.avoid) == (None, (), ())
    (arm,) = job.arms
    assert (arm.plan.runtime, arm.plan.duration_s, arm.artifact.files[0].size_bytes) == ("fake", 1.0, 3_000_000_000)
    assert jobs.get_job(store, "failed").project == "speech"
    assert jobs.get_job(store, "refused").ended_at == AT


def test_runs_blocks_and_summaries_are_as_they_were(store: Store) -> None:
    (run,) = results.runs_of(store, "done")
    assert (run.id, run.token, run.outcome, run.started_at, run.ended_at) == ("done-0", 1, "OK", AT, AT_END)
    assert (run.begun_at, run.worker, run.identity) == (AT, None, {"kernel": "6.6"})
    (block,) = results.blocks_of(store, "done-0")
    assert block.stages == {"load": {"rss_bytes": 5_000_000_000}}
    (summary,) = results.summaries_of(store, "done-0")
    assert (summary.metric, summary.value, summary.n) == ("p50_latency_ns", 120.5, 2)
    assert [run.outcome for run in results.runs_of(store, "broken-then-ok")] == ["BROKEN", "OK"]


def test_a_board_is_ready_and_is_looked_at_first_and_its_tokens_go_on(store: Store) -> None:
    status = boards.status(store, "pi-1")
    assert (status.state, status.health, status.failures) == ("ready", Health.UNKNOWN, 0)
    assert (status.board.start_temp_c, status.board.tags, status.board.facts) == (
        45.5,
        ("fan",),
        {"family": "raspberrypi"},
    )
    (held,) = leases.unreleased(store)
    assert (held.token, held.renewals, held.is_check) == (6, 0, False)
    assert leases.expire(store, held, now=AT_END)
    assert [run.id for run in results.unfinished_runs(store)] == ["broken-and-again-1", "running-0"]
    assert leases.grant(store, "pi-1", holder="d", ttl_s=30.0, now=AT_END).token == 100


def test_each_project_has_the_artifacts_of_its_jobs(store: Store) -> None:
    for project in ("vision", "speech"):
        assert artifacts.find_own(store, project, "a1" * 32).entry == "net.onnx"


def test_no_foreign_key_points_nowhere_and_no_event_was_invented(store: Store) -> None:
    with store.read() as session:
        assert session.scalar(text("SELECT count(*) FROM event")) == 0
        assert session.scalar(text("SELECT count(*) FROM arm JOIN job ON job.id = arm.job_id")) == len(JOBS)
        if session.get_bind().dialect.name == "sqlite":
            assert session.execute(text("PRAGMA foreign_key_check")).all() == []
