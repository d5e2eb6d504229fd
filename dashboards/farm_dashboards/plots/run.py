"""One Run: latency over time with temperature and frequency beneath, its distribution, and memory by stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from farm_dashboards import panels, theme
from farm_dashboards.documents import MAX_POINTS, LatencyBlock, RunDocument, Sensor, Summary, thin
from farm_dashboards.panels import EDGE_IN, Page
from farm_dashboards.theme import Theme

_SENSOR_ROWS = {"c": "temperature", "hz": "frequency", "w": "power"}  # by unit, from the top down
_WANTED_ROWS = ("c", "hz")  # a board that lacks these is said to
_MARKED = (50, 95, 99)
_HEADLINES = (
    "p50_latency_ns",
    "p99_latency_ns",
    "throughput_per_s",
    "cold_load_rss_bytes",
    "load_ns",
    "time_to_first_inference_ns",
)
_MAX_LINES = 6  # of one sensor row


def draw(document: RunDocument, look: Theme, size: tuple[float, float] | None) -> Figure:
    """The figure of a `run` Document."""
    width = size[0] if size else panels.WIDTH_IN
    warnings = panels.banners(document["outcome"], document["reasons"], document["is_virtual"], width)
    rows = {suffix: _with(suffix, document["sensors"]) for suffix in _SENSOR_ROWS}
    rows = {suffix: sensors for suffix, sensors in rows.items() if sensors}
    headline = [row for metric in _HEADLINES for row in document["summaries"] if row["metric"] == metric][:5]
    fixed = 2.5 + sum(b.height_in for b in warnings) + 0.27 * len(rows) + (0.62 if headline else 0)
    page = Page(size, fixed, 2.2 + 0.8 * len(rows) + 2.6, look)

    _draw_heading(page, document)
    for banner in warnings:
        panels.draw_banner(page, banner)
    if headline:
        _draw_headline(page, headline)
    page.skip(0.27)
    (latency,) = page.row(2.2)
    _draw_latency(latency, document["latency"]["blocks"], look)
    below = [latency]
    for suffix, sensors in rows.items():
        page.skip(0.27)
        below += page.row(0.8)
        below[-1].sharex(latency)
        _draw_sensors(below[-1], suffix, sensors, look)
    _share_time_axis(below)
    page.skip(0.72)
    distribution, memory = page.row(2.6, (1.0, 1.0))
    _draw_distribution(distribution, document, look)
    panels.draw_memory(memory, [document["memory"]], look)
    page.skip(0.52)
    _draw_footer(
        page, document, [word for suffix, word in _SENSOR_ROWS.items() if suffix in _WANTED_ROWS and suffix not in rows]
    )
    return page.figure


def _draw_heading(page: Page, document: RunDocument) -> None:
    axes = page.strip(0.56)
    room_pt = (page.width_in - 2 * EDGE_IN) * 72
    look = page.look
    model = theme.fit(document["model"], room_pt - 90, theme.SIZE_TITLE_PT, bold=True)
    axes.text(0, 0.15, model, va="center", fontsize=theme.SIZE_TITLE_PT, weight="bold")
    if document["outcome"] == "OK" and not document["is_virtual"]:
        edge = {"boxstyle": "round,pad=0.35", "facecolor": "none", "edgecolor": look.series[2], "linewidth": 1.2}
        axes.text(
            page.width_in - 2 * EDGE_IN - 0.08,
            0.15,
            "OK, valid",
            ha="right",
            va="center",
            color=look.series[2],
            weight="bold",
            bbox=edge,
        )
    board = theme.fit(document["board"], 180)
    plan = theme.fit(f"on {board}  ·  {theme.safe(document['plan'])}", room_pt, 9.5)
    axes.text(0, 0.42, plan, va="center", fontsize=9.5, color=look.faint)


def _draw_headline(page: Page, rows: Sequence[Summary]) -> None:
    axes = page.strip(0.62)
    width = (page.width_in - 2 * EDGE_IN) / len(rows)
    for i, row in enumerate(rows):
        value = theme.figure(row["value"], row["metric"])
        absent = row["value"] is None
        if absent:
            value = theme.fit(row["reason"] or "absent", width * 72 - 14, 11)
        axes.text(i * width, 0.17, value, va="center", fontsize=11 if absent else 14, weight="bold")
        under = theme.name_of(row["metric"])
        if not absent:
            under += _interval(row)
        axes.text(i * width, 0.42, theme.fit(under, width * 72 - 8, 8), va="center", fontsize=8, color=page.look.faint)


def _draw_latency(axes: Axes, blocks: Sequence[LatencyBlock], look: Theme) -> None:
    axes.set_title("Latency over time", pad=14 if blocks else 6)
    points = [(block, *_columns(block["t_s"], block["latency_ns"])) for block in blocks]
    warm = [_columns(block["warmup_t_s"], block["warmup_latency_ns"]) for block in blocks]
    values = np.concatenate([np.empty(0), *(v for _, _, v in points), *(v for _, v in warm)])
    if not len(values):
        panels.say(axes, "no timed queries", look)
        return
    arms = sorted({block["arm"] for block in blocks})
    many = len(values) > panels.RASTER_FROM
    for (block, t_s, value), (warm_t_s, warm_value) in zip(points, warm, strict=True):
        arm = arms.index(block["arm"]) % len(look.series)
        style: dict[str, Any] = {
            "linestyle": "none",
            "marker": theme.MARKERS[arm],
            "markersize": 2.6,
            "rasterized": many,
        }
        axes.plot(
            warm_t_s,
            warm_value,
            color=look.faint,
            markerfacecolor="none",
            alpha=0.5 if len(warm_value) < 400 else 0.2,
            markeredgewidth=0.5,
            **style,
        )
        axes.plot(
            t_s, value, color=look.series[arm], alpha=0.75 if len(value) < 400 else 0.45, markeredgewidth=0, **style
        )
    is_log = panels.wants_log(values.tolist())
    if is_log:
        axes.set_yscale("log")
    elif values.min() >= 0:
        axes.set_ylim(0, float(values.max()) * 1.08 or 1.0)
    factor, symbol = theme.scale("latency_ns", float(np.median(values)))
    panels.scale_axis(axes.yaxis, factor, is_log, ticks=5)
    axes.set_ylabel(f"latency, {symbol}" + (" (log)" if is_log else ""))
    _shade_blocks(axes, blocks, look)
    _latency_legend(axes, blocks, arms, look)


def _shade_blocks(axes: Axes, blocks: Sequence[LatencyBlock], look: Theme) -> None:
    """Each process apart: a band of its own behind its queries, with its number on top."""
    arms = len({block["arm"] for block in blocks}) > 1
    every = -(-len(blocks) // 24)
    for i, block in enumerate(blocks):
        times = [t for t in (*block["warmup_t_s"][:1], *block["t_s"][:1], *block["t_s"][-1:]) if t == t]
        if not times:
            continue
        if i % 2 == 0:
            axes.axvspan(min(times), max(times), color=look.grid, alpha=0.45, linewidth=0, zorder=0)
        if i % every == 0:
            label = f"{block['index'] + 1}" + (theme.fit(block["arm"], 20, 7.5) if arms else "")
            word = f"process {label}" if i == 0 and not arms and len(blocks) <= 8 else label
            axes.annotate(
                word,
                ((min(times) + max(times)) / 2, 1),
                (0, 3),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                ha="center",
                fontsize=7.5,
                color=look.faint,
                annotation_clip=False,
            )


def _latency_legend(axes: Axes, blocks: Sequence[LatencyBlock], arms: Sequence[str], look: Theme) -> None:
    handles = []
    style: dict[str, Any]
    for i, arm in enumerate(arms):
        n = sum(block["n"] for block in blocks if block["arm"] == arm)
        shown = sum(min(len(block["t_s"]), MAX_POINTS) for block in blocks if block["arm"] == arm)
        name = "timed" if len(arms) == 1 else f"arm {theme.fit(arm, 60)}, timed"
        label = f"{name}, n = {n:,}" + (f" ({shown:,} shown, extremes kept)" if shown < n else "")
        style = {"linestyle": "none", "marker": theme.MARKERS[i % len(theme.MARKERS)], "markersize": 4}
        handles.append(Line2D([], [], color=look.series[i % len(look.series)], label=label, **style))
    if n_warmup := sum(block["n_warmup"] for block in blocks):
        style = {"linestyle": "none", "marker": "o", "markersize": 4, "markerfacecolor": "none"}
        handles.append(Line2D([], [], color=look.faint, label=f"warm-up, n = {n_warmup:,}", **style))
    axes.legend(
        handles=handles,
        loc="lower right",
        bbox_to_anchor=(1.0, 1.04),
        ncols=len(handles),
        frameon=False,
        borderaxespad=0.4,
        handletextpad=0.2,
        columnspacing=1.2,
    )


def _draw_sensors(axes: Axes, suffix: str, sensors: Sequence[Sensor], look: Theme) -> None:
    """One row for one unit: at most six lines, those with the highest readings; each Block is a line of its own."""
    read = [(sensor, [_columns(block["t_s"], block["value"]) for block in sensor["blocks"]]) for sensor in sensors]
    highest = [max((float(v.max()) for _, v in columns if len(v)), default=-np.inf) for _, columns in read]
    order = sorted(range(len(read)), key=lambda i: -highest[i])
    factor, symbol = theme.scale(sensors[0]["metric"], max(highest) if np.isfinite(max(highest)) else 1.0)
    for i in sorted(order[:_MAX_LINES]):
        sensor, columns = read[i]
        line = sorted(order[:_MAX_LINES]).index(i)
        label = theme.fit(theme.name_of(sensor["metric"]), 110, theme.SIZE_SMALL_PT)
        if not np.isfinite(highest[i]):
            label += " (no readings)"
        style: dict[str, Any] = {"color": look.series[line], "linestyle": theme.DASHES[line], "linewidth": 1.2}
        for t_s, value in columns:
            axes.plot(t_s, value, marker="." if len(value) == 1 else "", **style)
        axes.plot([], [], label=label, **style)
    if len(read) > _MAX_LINES:
        axes.plot([], [], linestyle="none", label=f"and {len(read) - _MAX_LINES} lower ones")
    axes.margins(y=0.18)
    panels.scale_axis(axes.yaxis, factor, ticks=3)
    axes.set_ylabel(symbol)
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0.0, 0.97),
        ncols=_MAX_LINES + 1,
        frameon=False,
        borderaxespad=0.1,
        handlelength=2.2,
        columnspacing=1.2,
    )


def _share_time_axis(rows: Sequence[Axes]) -> None:
    for axes in rows[:-1]:
        axes.tick_params(axis="x", labelbottom=False, length=0)
    if rows[0].has_data():
        rows[-1].set_xlabel("seconds since the first sample of the run, on the board's clock")
        panels.scale_axis(rows[-1].xaxis, 1.0, ticks=10)
        rows[0].margins(x=0.01)


def _draw_distribution(axes: Axes, document: RunDocument, look: Theme) -> None:
    """How latencies are spread: one line for each process, P50, P95 and P99 with their interval over processes."""
    blocks = document["latency"]["blocks"]
    arms = sorted({block["arm"] for block in blocks})
    groups = [[block["ecdf"] for block in blocks if block["arm"] == arm] for arm in arms]
    axes.set_title("Distribution, one line a process" if sum(map(len, groups)) > 1 else "Distribution")
    if not panels.draw_ecdfs(axes, groups, look):
        return
    found = {row["metric"]: row for row in document["summaries"]}
    handles = []
    for percent, marker in zip(_MARKED, ("o", "s", "D"), strict=True):
        row = found.get(f"p{percent}_latency_ns")
        if row is None:
            continue
        label = f"P{percent}  {row['reason'] or 'absent'}"
        style: dict[str, Any] = {"marker": marker, "markersize": 6, "markeredgecolor": look.panel, "linestyle": "none"}
        if row["value"] is not None:
            label = f"P{percent}  {theme.figure(row['value'], row['metric'])}{_interval(row)}"
            if row["low"] is not None and row["high"] is not None:
                axes.hlines(percent / 100, row["low"], row["high"], color=look.ink, linewidth=1.6, zorder=4)
            axes.plot([row["value"]], [percent / 100], color=look.ink, zorder=5, **style)
        colour = look.ink if row["value"] is not None else look.faint
        handles.append(Line2D([], [], color=colour, label=theme.fit(label, 190, theme.SIZE_SMALL_PT), **style))
    if handles:
        right = axes.transData.inverted().transform(axes.transAxes.transform((0.55, 0)))[0]
        middle = max(panels.median(block["ecdf"]) for block in blocks if block["ecdf"]["latency_ns"])
        axes.legend(handles=handles, loc="lower right" if middle < right else "upper left", borderaxespad=0.5)


def _draw_footer(page: Page, document: RunDocument, lacking: Sequence[str]) -> None:
    axes = page.strip(0.5)
    artifact = document["artifact"]
    room_pt = (page.width_in - 2 * EDGE_IN) * 72
    parts = [
        f"run {theme.safe(document['id'], 40)}",
        f"{theme.fit(artifact['name'], 150, 7.5)} ({theme.figure(artifact['size_bytes'], 'size_bytes')}, "
        f"sha256 {theme.safe(artifact['sha256'], 200)[:12]})",
        f"fingerprint {theme.safe(document['fingerprint'] or 'none', 200)[:12]}",
        theme.safe(document["started_at"], 32),
    ]
    said = "Figures are the median of fresh processes (in brackets the smallest and the largest of them)."
    if lacking:
        said += f" This board gave no {' and no '.join(lacking)}."
    lines = [said, theme.fit("  ·  ".join(parts), room_pt, 7.5)]
    for i, line in enumerate(lines):
        axes.text(0, 0.1 + 0.16 * i, line, va="center", fontsize=7.5, color=page.look.faint)


def _with(suffix: str, sensors: Sequence[Sensor]) -> list[Sensor]:
    return [s for s in sensors if theme.unit_suffix(s["metric"]) == suffix and any(b["value"] for b in s["blocks"])]


def _columns(t_s: Sequence[float], value: Sequence[float | None]) -> tuple[np.ndarray, np.ndarray]:
    """Both columns without what is absent, thinned to what a figure can show."""
    times, values = (np.asarray(column) for column in thin(t_s, np.asarray(value, dtype=np.float64)))
    there = np.isfinite(values) & np.isfinite(times)
    return times[there], values[there]


def _interval(row: Summary) -> str:
    if row["low"] is None or row["high"] is None or row["value"] is None:
        return ""
    factor, _ = theme.scale(row["metric"], row["value"])
    return f"  ({theme.number(row['low'] / factor)}–{theme.number(row['high'] / factor)})"
