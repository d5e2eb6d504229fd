"""VERB 5: what the store holds, as Documents, rows and data frames: one shape behind table, JSON and figure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from farm_agent import wire
from farm_dashboards import documents

from farm import domain, units
from farm.errors import InputError
from farm.store import boards as stored_boards
from farm.store import jobs, results
from farm.store.db import Store

if TYPE_CHECKING:
    import pandas as pd

STAGE_BYTES = ("rss_bytes", "pss_bytes", "anon_bytes", "file_bytes", "swap_bytes", "peak_bytes")


def run_json(store: Store, run_id: str) -> dict[str, Any]:
    """The one object of `farm bench --json`: outcome, metrics over the Run with unit and interval, memory by stage."""
    run, job, blocks = _parts(store, run_id)
    artifact = job.arms[0].artifact
    return {
        "run": run.id,
        "outcome": str(run.outcome) if run.outcome else None,
        "blame": run.blame,
        "reasons": [asdict(reason) for reason in run.reasons],
        "board": run.board,
        "virtual": bool(run.context.get("virtual")),
        "model": job.model,
        "artifact": {"name": artifact.name, "sha256": artifact.sha256, "size_bytes": artifact.size_bytes},
        "plan": domain.plan_form(job.arms[0].plan),
        "fingerprint": run.fingerprint,
        "identity": dict(run.identity),
        "metrics": {
            summary.metric: {
                "value": summary.value,
                "unit": units.unit_of(summary.metric).symbol,
                "n": summary.n,
                "processes": summary.processes,
                "low": summary.low,
                "high": summary.high,
                **({"reason": summary.reason} if summary.reason else {}),
            }
            for summary in _over_run(store, run.id)
        },
        "stages": _stages(blocks),
        "warnings": _warnings(blocks),
        "context": dict(run.context),
        "started_at": run.started_at.isoformat(),
        "ended_at": run.ended_at.isoformat() if run.ended_at else None,
    }


def run_document(store: Store, run_id: str) -> documents.RunDocument:
    """The Document behind the figure of one Run."""
    run, job, blocks = _parts(store, run_id)
    artifact = job.arms[0].artifact
    samples = {block.index: results.samples_of(store, run.id, block.index) for block in blocks}
    start_ns = min((int(s.t_ns[0]) for found in samples.values() for s in found if len(s.t_ns)), default=0)
    sensors: dict[str, list[documents.SensorBlock]] = {}
    latency = []
    for block in blocks:
        columns = {column.metric: column for column in samples[block.index]}
        if "latency_ns" in columns:
            timed, warmup = columns["latency_ns"], columns.get("warmup_latency_ns")
            latency.append(
                documents.latency_block(
                    block.index,
                    block.arm,
                    _seconds(timed, start_ns),
                    timed.value,
                    _seconds(warmup, start_ns) if warmup else (),
                    warmup.value if warmup else (),
                )
            )
        for metric, column in columns.items():
            if not metric.endswith("latency_ns") and metric != "start_delay_ns":
                reading = documents.sensor_block(block.index, _seconds(column, start_ns), column.value)
                sensors.setdefault(metric, []).append(reading)
    return documents.RunDocument(
        version=documents.VERSION,
        kind="run",
        id=run.id,
        model=job.model,
        outcome=_outcome(run),
        reasons=_reasons(run),
        board=run.board,
        is_virtual=bool(run.context.get("virtual")),
        artifact=documents.Artifact(name=artifact.name, sha256=artifact.sha256, size_bytes=artifact.size_bytes),
        plan=domain.plan_line(job.arms[0].plan, run.identity),
        started_at=run.started_at.isoformat(),
        fingerprint=run.fingerprint,
        latency=documents.Latency(blocks=latency),
        sensors=[documents.Sensor(metric=metric, blocks=readings) for metric, readings in sorted(sensors.items())],
        summaries=[_summary(summary) for summary in _over_run(store, run.id)],
        memory=_memory(store, run.id, blocks),
        context=dict(run.context),
    )


def compare_document(store: Store, run_ids: Sequence[str]) -> documents.CompareDocument:
    """Two to six Runs side by side, the differing fields of their Fingerprints first. It judges nothing."""
    if not 2 <= len(run_ids) <= 6:
        raise InputError(f"{len(run_ids)} runs were given; two to six can be compared. `farm runs` lists their ids.")
    parts = [_parts(store, run_id) for run_id in run_ids]
    identities = [
        {"board": run.board, **_flat({**run.identity, "plan": domain.plan_form(job.arms[0].plan)})}
        for run, job, _ in parts
    ]
    fields = ["board", *sorted({field for identity in identities for field in identity} - {"board"})]
    values = {field: [identity.get(field) for identity in identities] for field in fields}
    differing = {field: row for field, row in values.items() if len(set(row)) > 1}
    summaries = [{s.metric: s for s in _over_run(store, run.id)} for run, _, _ in parts]
    metrics = sorted({metric for found in summaries for metric in found}, key=_metric_order)
    return documents.CompareDocument(
        version=documents.VERSION,
        kind="compare",
        runs=[
            documents.ComparedRun(
                id=run.id,
                label=f"{chr(ord('a') + i)}: {job.model} on {run.board}",
                model=job.model,
                outcome=_outcome(run),
                reasons=_reasons(run),
                board=run.board,
                is_virtual=bool(run.context.get("virtual")),
                fingerprint=run.fingerprint,
                ecdfs=[
                    documents.ecdf(column.value)
                    for block in blocks
                    for column in results.samples_of(store, run.id, block.index, "latency_ns")
                ],
                memory=_memory(store, run.id, blocks),
            )
            for i, (run, job, blocks) in enumerate(parts)
        ],
        comparable=not differing,
        differences=[documents.Difference(field=field, values=row) for field, row in differing.items()],
        metrics=[
            documents.ComparedMetric(metric=metric, runs=_compared([found.get(metric) for found in summaries]))
            for metric in metrics
        ],
    )


def runs(
    store: Store,
    *,
    model: str | None = None,
    board: str | None = None,
    limit: int = 50,
    before: str | None = None,
    project: str | None = None,
) -> list[dict[str, Any]]:
    """The newest Runs first, one row each; `before` is the id of the last one of the page before."""
    rows = []
    for run in results.list_runs(store, model=model, board=board, limit=limit, before=before, project=project):
        job = jobs.get_job(store, run.job_id)
        found = {summary.metric: summary.value for summary in _over_run(store, run.id)}
        rows.append(
            {
                "run": run.id,
                "started_at": run.started_at.isoformat(),
                "model": job.model,
                "board": run.board,
                "virtual": bool(run.context.get("virtual")),
                "outcome": str(run.outcome) if run.outcome else None,
                "reasons": [reason.code for reason in run.reasons],
                "p50_latency_ns": found.get("p50_latency_ns"),
                "p99_latency_ns": found.get("p99_latency_ns"),
                "cold_load_rss_bytes": found.get("cold_load_rss_bytes"),
                "fingerprint": run.fingerprint,
            }
        )
    return rows


def boards(store: Store, inventory: Sequence[domain.Board]) -> list[dict[str, Any]]:
    """Every Board of the inventory and every one that Runs are stored of, one row each."""
    known = {board.name: board for board in stored_boards.list_boards(store)}
    named = {board.name: board for board in inventory}
    rows = []
    for name in sorted({*known, *named}):
        board = named.get(name) or known[name]
        last = next(iter(results.list_runs(store, board=name, limit=1)), None)
        rows.append(
            {
                "board": name,
                "transport": board.transport,
                "address": board.address,
                "site": board.site,
                "tags": list(board.tags),
                "virtual": board.is_virtual,
                "in_inventory": name in named,
                "last_run": last.id if last else None,
                "last_outcome": str(last.outcome) if last and last.outcome else None,
            }
        )
    return rows


def frames(store: Store, run_ids: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Runs, summaries and raw samples of some Runs as pandas DataFrames, in base units; nothing is left out."""
    import pandas as pd

    rows, summaries, samples = [], [], []
    for run_id in run_ids:
        run, job, blocks = _parts(store, run_id)
        rows.append(
            {
                "run": run.id,
                "model": job.model,
                "board": run.board,
                "artifact": job.arms[0].artifact.sha256,
                "plan": domain.plan_hash(job.arms[0].plan),
                "fingerprint": run.fingerprint,
                "outcome": str(run.outcome) if run.outcome else None,
                "reasons": ",".join(reason.code for reason in run.reasons),
                "started_at": run.started_at,
                "ended_at": run.ended_at,
                "commit": job.commit,
                "branch": job.branch,
            }
        )
        summaries += [{"run": run.id, **asdict(summary)} for summary in results.summaries_of(store, run.id)]
        samples += [
            pd.DataFrame(
                {
                    "run": run.id,
                    "block": block.index,
                    "arm": block.arm,
                    "metric": column.metric,
                    "t_ns": column.t_ns,
                    "value": column.value.astype(np.float64),
                }
            )
            for block in blocks
            for column in results.samples_of(store, run.id, block.index)
        ]
    empty = pd.DataFrame({name: [] for name in ("run", "block", "arm", "metric", "t_ns", "value")})
    return {
        "runs": pd.DataFrame(rows),
        "summaries": pd.DataFrame(summaries).astype({"block": "Int64"}) if summaries else pd.DataFrame(),
        "samples": pd.concat(samples, ignore_index=True) if samples else empty,
    }


def _parts(store: Store, run_id: str) -> tuple[domain.Run, domain.Job, list[domain.BlockResult]]:
    run = results.get_run(store, run_id)
    return run, jobs.get_job(store, run.job_id), results.blocks_of(store, run.id)


def _over_run(store: Store, run_id: str) -> list[domain.Summary]:
    found = [summary for summary in results.summaries_of(store, run_id) if summary.block is None]
    return sorted(found, key=lambda summary: _metric_order(summary.metric))


_FIRST = (
    "p50_latency_ns", "p90_latency_ns", "p95_latency_ns", "p99_latency_ns", "p999_latency_ns", "min_latency_ns",
    "max_latency_ns", "mean_latency_ns", "throughput_per_s", "deadline_miss_ratio", "cold_load_rss_bytes",
    "load_peak_bytes", "first_peak_bytes", "model_rss_bytes", "steady_rss_bytes", "rss_growth_bytes",
    "time_to_first_inference_ns", "load_ns", "first_inference_ns",
)  # fmt: skip


def _metric_order(metric: str) -> tuple[int, str]:
    return (_FIRST.index(metric) if metric in _FIRST else len(_FIRST), metric)


def _seconds(column: domain.Samples, start_ns: int) -> Any:
    return (column.t_ns - start_ns) / 1e9


def _outcome(run: domain.Run) -> Any:
    return str(run.outcome) if run.outcome else None


def _reasons(run: domain.Run) -> list[documents.Reason]:
    return [documents.Reason(code=reason.code, text=reason.text) for reason in run.reasons]


def _summary(summary: domain.Summary) -> documents.Summary:
    return documents.Summary(
        metric=summary.metric,
        value=summary.value,
        n=summary.n,
        processes=summary.processes,
        low=summary.low,
        high=summary.high,
        reason=summary.reason,
    )


def _stages(blocks: Sequence[domain.BlockResult]) -> dict[str, dict[str, float | None]]:
    """Median over Blocks of each stage's memory and time."""
    stages: dict[str, dict[str, float | None]] = {}
    for stage in wire.STAGES:
        seen = [block.stages[stage] for block in blocks if stage in block.stages]
        if seen:
            names = (*STAGE_BYTES, "duration_ns", "major_faults", "minor_faults")
            stages[stage] = {name: _median([values.get(name) for values in seen]) for name in names}
    return stages


def _memory(store: Store, run_id: str, blocks: Sequence[domain.BlockResult]) -> documents.Memory:
    cold = next((s.value for s in _over_run(store, run_id) if s.metric == "cold_load_rss_bytes"), None)
    running = any(values.get("peak_is_running") for block in blocks for values in block.stages.values())
    return documents.Memory(
        stages=[
            documents.Stage(
                stage=stage,
                anon_bytes=values["anon_bytes"],
                file_bytes=values["file_bytes"],
                swap_bytes=values["swap_bytes"],
                rss_bytes=values["rss_bytes"],
                peak_bytes=values["peak_bytes"],
                peak_is_running=running,
            )
            for stage, values in _stages(blocks).items()
        ],
        cold_load_rss_bytes=cold,
    )


def _median(values: Sequence[Any]) -> float | None:
    present = [float(value) for value in values if value is not None]
    return statistics.median(present) if present else None


def _warnings(blocks: Sequence[domain.BlockResult]) -> list[str]:
    """Every warning that any Block gave, once."""
    return list(dict.fromkeys(str(text) for block in blocks for text in block.facts.get("warnings", ())))


def _compared(found: Sequence[domain.Summary | None]) -> list[documents.ComparedValue]:
    first = found[0].value if found[0] else None
    return [
        documents.ComparedValue(
            value=summary.value if summary else None,
            low=summary.low if summary else None,
            high=summary.high if summary else None,
            first_ratio=summary.value / first if summary and summary.value is not None and first else None,
            reason=summary.reason if summary else "not measured",
        )
        for summary in found
    ]


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, str | None]:
    """Nested facts as dotted fields with text values."""
    flat: dict[str, str | None] = {}
    for name, value in data.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            flat[prefix + name] = ", ".join(map(str, value))
        else:
            flat[prefix + name] = None if value is None else str(value)
    return flat
