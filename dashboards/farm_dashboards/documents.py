"""The shape of each Document: the plain JSON behind one plot or page. Units are the last word of a name.

A Document is what `json.dumps` takes: text, numbers, lists, objects; absent is None (a NaN is read as absent too).
Times `t_s` are seconds since the Run's first sample on the board's clock, so the gaps between Blocks stay visible.
Long columns are thinned by `thin` and `ecdf`; `n` is always the true count, `len()` of the list what is shown.

History of VERSION: 1 the first (kinds `run` and `compare`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from farm_dashboards import shape

VERSION = 1
MAX_POINTS = 4000  # of one thinned column: more than a figure has pixels across


class Reason(TypedDict):
    """Why an outcome is not OK."""

    code: str
    text: str


class Artifact(TypedDict):
    """The Artifact as people know it."""

    name: str
    sha256: str
    size_bytes: int


class Ecdf(TypedDict):
    """Share of samples at or below a value; both lists rise. Made by `ecdf`."""

    n: int
    latency_ns: list[float]
    share_ratio: list[float]  # 1.0 = all samples


class LatencyBlock(TypedDict):
    """Latencies of one Block. Made by `latency_block`."""

    index: int
    arm: str
    n: int  # timed queries in truth; the lists may be thinned
    t_s: list[float]
    latency_ns: list[float]
    ecdf: Ecdf
    n_warmup: int
    warmup_t_s: list[float]
    warmup_latency_ns: list[float]


class Latency(TypedDict):
    """Latencies of all Blocks of a Run, in their order."""

    blocks: list[LatencyBlock]


class SensorBlock(TypedDict):
    """Readings of one metric within one Block. Made by `sensor_block`."""

    index: int
    n: int
    t_s: list[float]
    value: list[float | None]


class Sensor(TypedDict):
    """Readings of one metric, such as `cpu.temp_c` or `policy0.freq_hz`; its last word is the unit."""

    metric: str
    blocks: list[SensorBlock]


class Summary(TypedDict):
    """What statistics says of one metric over the Blocks of a Run."""

    metric: str
    value: float | None  # None: absent; `reason` says why, such as "needs 459"
    n: int  # samples per process, the fewest of any
    processes: int
    low: float | None  # smallest and largest over processes
    high: float | None
    reason: str | None


class Stage(TypedDict):
    """Memory after one stage of the subject: medians over processes."""

    stage: str
    anon_bytes: float | None
    file_bytes: float | None
    swap_bytes: float | None
    rss_bytes: float | None
    peak_bytes: float | None  # highest resident set within the stage
    peak_is_running: bool  # True: the kernel could not reset it, so it is the highest since the start


class Memory(TypedDict):
    """Memory by stage, and the peak up to the end of the first inference."""

    stages: list[Stage]
    cold_load_rss_bytes: float | None


class RunDocument(TypedDict):
    """One Run: what was measured, on what, and how far it can be trusted."""

    version: int
    kind: Literal["run"]
    id: str
    model: str
    outcome: Literal["OK", "NOISY", "FAILED", "BROKEN", "CANCELLED"] | None  # None: it has not ended
    reasons: list[Reason]
    board: str
    is_virtual: bool
    artifact: Artifact
    plan: str  # one line for people, such as "single_stream, 10 s, 5 processes, cold, onnxruntime 1.31, 1 thread"
    started_at: str  # ISO 8601 with its offset
    fingerprint: str | None
    latency: Latency
    sensors: list[Sensor]
    summaries: list[Summary]
    memory: Memory
    context: dict[str, Any]


class ComparedRun(TypedDict):
    """One Run within a comparison."""

    id: str
    label: str  # how the figure names it, such as "a: mobilenet_v2 on pi5-1"
    model: str
    outcome: Literal["OK", "NOISY", "FAILED", "BROKEN", "CANCELLED"] | None
    reasons: list[Reason]
    board: str
    is_virtual: bool
    fingerprint: str | None
    ecdfs: list[Ecdf]  # one for each Block (fresh process)
    memory: Memory


class Difference(TypedDict):
    """One field of the Fingerprint in which the Runs differ."""

    field: str
    values: list[str | None]  # one for each Run, as text


class ComparedValue(TypedDict):
    """One metric of one Run within a comparison."""

    value: float | None
    low: float | None
    high: float | None
    first_ratio: float | None  # value divided by that of the first Run
    reason: str | None


class ComparedMetric(TypedDict):
    """One metric of all Runs."""

    metric: str
    runs: list[ComparedValue]  # one for each Run, in their order


class CompareDocument(TypedDict):
    """Two to six Runs side by side. Across Fingerprints it shows and judges nothing."""

    version: int
    kind: Literal["compare"]
    runs: list[ComparedRun]
    comparable: bool  # all Fingerprints are equal
    differences: list[Difference]  # empty where comparable
    metrics: list[ComparedMetric]


Document = RunDocument | CompareDocument
_SHAPES: dict[str, Any] = {"run": RunDocument, "compare": CompareDocument}


def thin(t_s: ArrayLike, value: ArrayLike, limit: int = MAX_POINTS) -> tuple[list[float], list[float]]:
    """Both columns with at most `limit` points; NaN is left out of the thinned.

    Three quarters are evenly spread, so that a cloud of points keeps its look; a quarter is the smallest and the
    largest of each stretch, so that no spike is lost.
    """
    times, values = np.asarray(t_s, dtype=np.float64), np.asarray(value, dtype=np.float64)
    if len(times) <= limit:
        return times.tolist(), values.tolist()
    kept = np.linspace(0, len(values) - 1, limit * 3 // 4).astype(np.int64).tolist()
    for start, end in pairwise(np.linspace(0, len(values), limit // 8 + 1).astype(np.int64).tolist()):
        part = values[start:end]
        if not np.isnan(part).all():
            kept += [start + int(np.nanargmin(part)), start + int(np.nanargmax(part))]
    there = np.unique(kept)
    there = there[~np.isnan(values[there])]
    return times[there].tolist(), values[there].tolist()


def ecdf(latency_ns: ArrayLike, limit: int = MAX_POINTS) -> Ecdf:
    """The empirical distribution with at most `limit` points; the slowest tenth of them keeps the tail exact."""
    values = np.sort(np.asarray(latency_ns, dtype=np.float64))
    values = values[~np.isnan(values)]
    rank = shown_ranks(len(values), limit)
    share = (rank + 1) / max(len(values), 1)
    return Ecdf(n=len(values), latency_ns=values[rank].tolist(), share_ratio=share.tolist())


def shown_ranks(n: int, limit: int = MAX_POINTS) -> NDArray[np.int64]:
    """Which of n sorted values a thinned distribution shows: evenly spread ones, and all of the last."""
    if n <= limit:
        return np.arange(n)
    tail = limit // 10
    return np.unique(np.r_[np.linspace(0, n - 1, limit - tail).astype(np.int64), np.arange(n - tail, n)])


def latency_block(
    index: int,
    arm: str,
    t_s: ArrayLike,
    latency_ns: ArrayLike,
    warmup_t_s: ArrayLike = (),
    warmup_latency_ns: ArrayLike = (),
) -> LatencyBlock:
    """One Block's latencies, thinned, with their distribution."""
    times, values = thin(t_s, latency_ns)
    warmup_times, warmup_values = thin(warmup_t_s, warmup_latency_ns)
    return LatencyBlock(
        index=index,
        arm=arm,
        n=len(np.asarray(latency_ns)),
        t_s=times,
        latency_ns=values,
        ecdf=ecdf(latency_ns),
        n_warmup=len(np.asarray(warmup_latency_ns)),
        warmup_t_s=warmup_times,
        warmup_latency_ns=warmup_values,
    )


def sensor_block(index: int, t_s: ArrayLike, value: ArrayLike) -> SensorBlock:
    """One Block's readings of one metric, thinned; NaN becomes None."""
    times, values = thin(t_s, value)
    return SensorBlock(index=index, n=len(np.asarray(value)), t_s=times, value=[None if v != v else v for v in values])


def check(document: Mapping[str, Any]) -> None:
    """Nothing where the Document has its shape. Raises ValueError naming the first field that has not."""
    kind = document.get("kind") if isinstance(document, Mapping) else None
    if not isinstance(kind, str) or kind not in _SHAPES:
        raise ValueError(f"document.kind is {shape.brief(kind)}; known kinds: {', '.join(sorted(_SHAPES))}")
    if document.get("version") != VERSION:
        raise ValueError(
            f"document.version is {shape.brief(document.get('version'))}; this one draws version {VERSION}: "
            "make the document again with the same release of benchfarm"
        )
    shape.check(document, _SHAPES[kind], "document")
    (_check_run if kind == "run" else _check_compare)(document)


def _check_run(document: Mapping[str, Any]) -> None:
    for i, block in enumerate(document["latency"]["blocks"]):
        where = f"document.latency.blocks[{i}]"
        _check_lengths(block, ("t_s", "latency_ns"), where)
        _check_lengths(block, ("warmup_t_s", "warmup_latency_ns"), where)
        _check_lengths(block["ecdf"], ("latency_ns", "share_ratio"), where + ".ecdf")
    for i, sensor in enumerate(document["sensors"]):
        for j, block in enumerate(sensor["blocks"]):
            _check_lengths(block, ("t_s", "value"), f"document.sensors[{i}].blocks[{j}]")


def _check_compare(document: Mapping[str, Any]) -> None:
    runs = document["runs"]
    if not 2 <= len(runs) <= 6:
        raise ValueError(f"document.runs has {len(runs)} runs; two to six can be compared in one figure")
    for i, run in enumerate(runs):
        for j, curve in enumerate(run["ecdfs"]):
            _check_lengths(curve, ("latency_ns", "share_ratio"), f"document.runs[{i}].ecdfs[{j}]")
    for rows, name in (("differences", "values"), ("metrics", "runs")):
        for i, row in enumerate(document[rows]):
            if len(row[name]) != len(runs):
                raise ValueError(
                    f"document.{rows}[{i}].{name} has {len(row[name])} entries for {len(runs)} runs; one each is needed"
                )


def _check_lengths(part: Mapping[str, Any], names: Sequence[str], where: str) -> None:
    lengths = [len(part[name]) for name in names]
    if len(set(lengths)) > 1:
        seen = ", ".join(f"{name} {length}" for name, length in zip(names, lengths, strict=True))
        raise ValueError(f"{where} has columns of unequal length ({seen}); every point needs a time and a value")
