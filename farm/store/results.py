"""Runs, Blocks, Samples and Summaries: what was measured where, and what came of it.

Every write of a Run carries its lease token and is refused when that is stale; the same write again changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable
from dataclasses import fields, replace
from datetime import datetime
from typing import Any

from farm_agent import wire
from sqlalchemy import ColumnElement, delete, func, insert, select, update
from sqlalchemy.orm import Session

from farm.domain import BlockResult, Outcome, Reason, Run, Samples, Summary, digest
from farm.errors import BoardBusy, FarmBug, NotFound, StoreError
from farm.store import columns, leases
from farm.store.db import Store, insert_new
from farm.store.jobs import only_one
from farm.store.tables import (
    ArmRow,
    BlockRow,
    JobRow,
    LeaseRow,
    ModelRow,
    ProjectRow,
    RunRow,
    SamplesRow,
    SeriesRow,
    SummaryRow,
)

_RUN_FIELDS = tuple(field.name for field in fields(Run))


def start_run(store: Store, run: Run) -> None:
    """Remember that a Run has begun. Raises LeaseLost."""
    with store.write() as session:
        leases.check(session, run.board, run.token)
        insert_new(session, RunRow, _run_values(run))
        row = session.get_one(RunRow, run.id)
        if (row.job_id, row.board, row.token) != (run.job_id, run.board, run.token):
            raise FarmBug(f"Run {run.id} is another one already, of job {row.job_id}. Please report this.")


def save_block(store: Store, run_id: str, token: int, block: BlockResult) -> None:
    """Keep a Block with its Samples: all of it or nothing. Raises LeaseLost, NotFound, DiskFull."""
    encoded = [columns.encode(samples) for samples in block.samples]
    content = _content(block)
    # Before the transaction: an upload may take minutes, and a lock in the database would hold up the whole farm.
    blob = store.blobs.put_bytes(b"".join(encoded)) if encoded else ""
    with store.write() as session:
        run = own_run(session, run_id, token)
        stored = session.get(BlockRow, (run_id, block.index))
        if stored is not None and stored.content == content:
            return
        leases.check(session, run.board, token)
        if stored is not None or run.outcome is not None:
            raise FarmBug(
                f"Block {block.index} of run {run_id} cannot be saved: "
                f"{'another one is in its place' if stored else 'the run is over'}. Please report this."
            )
        session.add(
            BlockRow(
                run_id=run_id,
                index=block.index,
                arm=block.arm,
                pair=block.pair,
                outcome=block.outcome,
                reasons=_plain(block.reasons),
                stages=dict(block.stages),
                facts=dict(block.facts),
                content=content,
            )
        )
        session.flush()
        if encoded:
            _save_samples(session, run_id, block, encoded, blob)


def finish_run(store: Store, run: Run, token: int) -> None:
    """Write down what a Run ended in: outcome, reasons, fingerprint, identity, context. Raises LeaseLost, NotFound."""
    if run.outcome is None:
        raise FarmBug(f"Run {run.id} has no outcome to finish with. Please report this.")
    with store.write() as session:
        row = own_run(session, run.id, token)
        values = _run_values(run)
        if row.outcome is not None and all(getattr(row, name) == value for name, value in values.items()):
            return
        leases.check(session, row.board, token)
        if row.outcome is not None:
            raise FarmBug(f"Run {run.id} ended as {row.outcome} already, not {run.outcome}. Please report this.")
        for name, value in values.items():
            setattr(row, name, value)
        session.flush()
        _link_series(session, row)


def unfinished_runs(store: Store) -> list[Run]:
    """Half-written Runs that nobody will finish: without an outcome, their Lease over."""
    over = (LeaseRow.board == RunRow.board) & (LeaseRow.token == RunRow.token) & LeaseRow.released_at.is_not(None)
    with store.read() as session:
        rows = session.scalars(select(RunRow).join(LeaseRow, over).where(RunRow.outcome.is_(None)).order_by(RunRow.id))
        return [from_row(row) for row in rows]


def abandon(store: Store, run_id: str, reason: Reason, now: datetime) -> None:
    """End a half-written Run as BROKEN, blame farm; a Run that has an outcome keeps it. Raises NotFound.

    Raises BoardBusy where its Lease is not over: it may still be measured.
    """
    with store.write() as session:
        row = _locked_run(session, run_id)
        if row.outcome is not None:
            return
        lease = session.get_one(LeaseRow, (row.board, row.token), with_for_update=True)
        if lease.released_at is None:
            raise BoardBusy(
                f"Run {run_id} cannot be abandoned: {lease.holder} still holds board {row.board!r}. "
                "Wait until that lease expires."
            )
        row.outcome, row.blame, row.ended_at = Outcome.BROKEN, "farm", now
        row.reasons = [*row.reasons, wire.as_dict(reason)]


def get_run(store: Store, run_id: str, *, project: str | None = None) -> Run:
    """The Run of that id, or the only one that begins so. Raises NotFound, or InputError listing several.

    With a Project, those of others are not there.
    """
    query = select(RunRow.id)
    if project is not None:
        query = query.where(_of_project(project))
    with store.read() as session:
        return from_row(session.get_one(RunRow, only_one(session, query, RunRow.id, run_id, "Run")))


def runs_of(store: Store, job_id: str) -> list[Run]:
    """A Job's Runs, the oldest first."""
    with store.read() as session:
        rows = session.scalars(select(RunRow).where(RunRow.job_id == job_id).order_by(RunRow.id))
        return [from_row(row) for row in rows]


def list_runs(
    store: Store,
    *,
    model: str | None = None,
    board: str | None = None,
    limit: int = 50,
    before: str | None = None,
    project: str | None = None,
) -> list[Run]:
    """Runs, the newest first; `before` is the id of the last one of the page before."""
    query = select(RunRow).order_by(RunRow.id.desc()).limit(limit)  # a uuid7 sorts by time
    if model is not None:
        query = query.join(JobRow, JobRow.id == RunRow.job_id).join(ModelRow, ModelRow.id == JobRow.model_id)
        query = query.where(ModelRow.name == model)
    if project is not None:
        query = query.where(_of_project(project))
    if board is not None:
        query = query.where(RunRow.board == board)
    if before is not None:
        query = query.where(RunRow.id < before)
    with store.read() as session:
        return [from_row(row) for row in session.scalars(query)]


def outcomes(store: Store) -> dict[str, int]:
    """How many Runs ended in each Outcome."""
    query = select(RunRow.outcome, func.count()).where(RunRow.outcome.is_not(None)).group_by(RunRow.outcome)
    with store.read() as session:
        found = {row[0]: row[1] for row in session.execute(query)}
    return {outcome: found.get(outcome, 0) for outcome in Outcome}


def blocks_of(store: Store, run_id: str) -> list[BlockResult]:
    """A Run's Blocks in their order, without their Samples."""
    with store.read() as session:
        rows = session.scalars(select(BlockRow).where(BlockRow.run_id == run_id).order_by(BlockRow.index))
        return [
            BlockResult(row.index, row.arm, row.pair, Outcome(row.outcome), _reasons(row), row.stages, row.facts)
            for row in rows
        ]


def samples_of(store: Store, run_id: str, block: int, metric: str | None = None) -> list[Samples]:
    """A Block's Samples, or only those of one metric, as they were saved. Raises StoreError where a bit is wrong."""
    query = select(SamplesRow).where(SamplesRow.run_id == run_id, SamplesRow.block == block)
    if metric is not None:
        query = query.where(SamplesRow.metric == metric)
    with store.read() as session:
        rows = list(session.scalars(query.order_by(SamplesRow.offset_bytes)))
    if not rows:
        return []
    with store.blobs.open(rows[0].blob) as file:  # one blob a Block
        slices = [os.pread(file.fileno(), row.size_bytes, row.offset_bytes) for row in rows]
    return [_samples(row, data) for row, data in zip(rows, slices, strict=True)]


def save_summaries(store: Store, run_id: str, summaries: Iterable[Summary]) -> None:
    """What statistics says of a Run, in place of what it said before; figures over a Run join their Series."""
    names = [field.name for field in fields(Summary)]
    rows = [{name: getattr(summary, name) for name in names} | {"run_id": run_id} for summary in summaries]
    for row in rows:  # SQLite would make NULL of a NaN, PostgreSQL would keep it
        if not all(row[name] is None or math.isfinite(row[name]) for name in ("value", "low", "high")):
            raise FarmBug(f"Summary {row['metric']!r} of run {run_id} is not finite: {row}. Please report this.")
    with store.write() as session:
        run = _locked_run(session, run_id)
        session.execute(delete(SummaryRow).where(SummaryRow.run_id == run_id))
        if rows:
            session.execute(insert(SummaryRow), rows)
        _link_series(session, run)


def summaries_of(store: Store, run_id: str) -> list[Summary]:
    """What statistics says of a Run and its Blocks."""
    with store.read() as session:
        rows = session.scalars(select(SummaryRow).where(SummaryRow.run_id == run_id).order_by(SummaryRow.id))
        return [Summary(**{field.name: getattr(row, field.name) for field in fields(Summary)}) for row in rows]


def _of_project(project: str) -> ColumnElement[bool]:
    """That a Run is of a Job of this Project."""
    owner = select(JobRow.id).join(ProjectRow, ProjectRow.id == JobRow.project_id).where(ProjectRow.name == project)
    return RunRow.job_id.in_(owner)


def _locked_run(session: Session, run_id: str) -> RunRow:
    row = session.get(RunRow, run_id, with_for_update=True)
    if row is None:
        raise NotFound(f"Run {run_id!r} is not known to this farm. See `farm runs`.")
    return row


def own_run(session: Session, run_id: str, token: int) -> RunRow:
    """The Run of that id, held still, where the token is its own. Raises LeaseLost, NotFound."""
    row = _locked_run(session, run_id)
    if row.token != token:
        raise leases.lost(row.board, token)
    return row


def _save_samples(session: Session, run_id: str, block: BlockResult, encoded: list[bytes], blob: str) -> None:
    offset_bytes = 0
    for samples, data in zip(block.samples, encoded, strict=True):
        session.add(
            SamplesRow(
                run_id=run_id,
                block=block.index,
                metric=samples.metric,
                n=samples.t_ns.size,
                t_type="q",
                v_type="q" if samples.value.dtype.kind == "i" else "d",
                codec=columns.CODEC,
                blob=blob,
                offset_bytes=offset_bytes,
                size_bytes=len(data),
            )
        )
        offset_bytes += len(data)


def _samples(row: SamplesRow, data: bytes) -> Samples:
    if row.codec != columns.CODEC:
        raise StoreError(
            f"Samples of {row.metric!r} in run {row.run_id} are in codec {row.codec!r}, this farm reads "
            f"{columns.CODEC!r}. Upgrade this farm."
        )
    return columns.decode(row.metric, data)


def _content(block: BlockResult) -> str:
    """What a Block is compared by when it is saved again."""
    samples = [
        [
            s.metric,
            s.t_ns.dtype.str,
            s.value.dtype.str,
            hashlib.sha256(s.t_ns.tobytes() + s.value.tobytes()).hexdigest(),
        ]
        for s in block.samples
    ]
    return digest({**wire.as_dict(replace(block, samples=())), "reasons": _plain(block.reasons), "samples": samples})


def _link_series(session: Session, run: RunRow) -> None:
    """Put the figures over a Run into their Series, once both they and the Fingerprint are known."""
    plans = session.scalars(select(ArmRow.plan_hash).where(ArmRow.job_id == run.job_id)).all()
    if run.fingerprint is None or len(plans) != 1:
        return  # Runs that compare two Arms are evidence, not a point in time
    over_run = (SummaryRow.run_id == run.id, SummaryRow.block.is_(None))
    series = {
        "model_id": session.scalars(select(JobRow.model_id).where(JobRow.id == run.job_id)).one(),
        "board": run.board,
        "plan_hash": plans[0],
        "fingerprint": run.fingerprint,
    }
    metrics = session.scalars(select(SummaryRow.metric).where(*over_run)).all()
    insert_new(session, SeriesRow, *({**series, "metric": metric} for metric in metrics))
    its_series = select(SeriesRow.id).filter_by(**series).where(SeriesRow.metric == SummaryRow.metric)
    session.execute(update(SummaryRow).where(*over_run).values(series_id=its_series.scalar_subquery()))


def _run_values(run: Run) -> dict[str, Any]:
    """A Run's columns, as they read back."""
    values = {name: getattr(run, name) for name in _RUN_FIELDS}
    return values | {name: _plain(values[name]) for name in ("reasons", "identity", "context")}


def from_row(row: RunRow) -> Run:
    """The Run of a row."""
    values = {name: getattr(row, name) for name in _RUN_FIELDS}
    outcome = None if row.outcome is None else Outcome(row.outcome)
    return Run(**{**values, "outcome": outcome, "reasons": _reasons(row)})


def _reasons(row: RunRow | BlockRow) -> tuple[Reason, ...]:
    return tuple(Reason(**reason) for reason in row.reasons)


def _plain(thing: Any) -> Any:
    """Data as JSON gives it back: tuples are lists, Reasons are objects."""
    return json.loads(json.dumps(thing, allow_nan=False, default=wire.as_dict))
