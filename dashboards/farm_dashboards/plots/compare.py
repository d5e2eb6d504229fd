"""Two to six Runs side by side: where their Fingerprints differ, then distributions, memory and every figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from farm_dashboards import panels, theme
from farm_dashboards.documents import ComparedMetric, CompareDocument, ComparedRun, Difference
from farm_dashboards.panels import EDGE_IN, LINE_IN, Banner, Page
from farm_dashboards.theme import Theme

_MAX_DIFFERENCES = 12
_MAX_METRICS = 16
_MAX_ROWS = 48  # of the last panel: metrics times runs
_ROW_IN = 0.17
_RATIO_LIMITS = (1 / 8, 8.0)  # one leaking run must not press all others flat
_NAMES_IN, _FIGURES_IN = 1.55, 2.75  # left and right of the ratios
_RATIOS = (0.125, 0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 1.0, 1.02, 1.05, 1.1, 1.25, 1.5, 2.0, 4.0, 8.0)
_AT_EDGE: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center"}


def draw(document: CompareDocument, look: Theme, size: tuple[float, float] | None) -> Figure:
    """The figure of a `compare` Document. Across Fingerprints it says that nothing is judged."""
    width = size[0] if size else panels.WIDTH_IN
    runs, differences = document["runs"], document["differences"][:_MAX_DIFFERENCES]
    warnings = _warnings(document, width)
    metrics = document["metrics"][: min(_MAX_METRICS, _MAX_ROWS // len(runs))]
    table_in = 0.3 + LINE_IN * (len(differences) + 1) if differences else 0.0
    metrics_in = max(1.0, (_ROW_IN * len(runs) + 0.14) * len(metrics))
    fixed = 1.0 + LINE_IN * len(runs) + sum(b.height_in for b in warnings) + table_in + 0.85 + 0.5
    page = Page(size, fixed, 2.7 + metrics_in, look)

    _draw_heading(page, document)
    for banner in warnings:
        panels.draw_banner(page, banner)
    if differences:
        _draw_differences(page, differences, len(document["differences"]), len(runs), table_in)
    page.skip(0.3)
    distribution, memory = page.row(2.7, (1.0, 1.0))
    distribution.set_title("Distribution, one line a process")
    panels.draw_ecdfs(distribution, [run["ecdfs"] for run in runs], look)
    panels.draw_memory(memory, [run["memory"] for run in runs], look)
    page.skip(0.85)
    (rows,) = page.row(metrics_in)
    left_out = len(document["metrics"]) - len(metrics)
    _draw_metrics(rows, metrics, left_out, page)
    return page.figure


def letter(i: int) -> str:
    """What the figure calls the i-th Run."""
    return chr(97 + i)


def _warnings(document: CompareDocument, width_in: float) -> list[Banner]:
    out = []
    if not document["comparable"]:
        differ = "fingerprints differ" if document["differences"] else "runs are not of one board and fingerprint"
        line = f"the {differ}: shown side by side, never judged"
        out.append(Banner("DIFFERENT", (line,)))
    runs, room_pt = document["runs"], panels.banner_room_pt(width_in)
    if virtual := [letter(i) for i, run in enumerate(runs) if run["is_virtual"]]:
        out.append(Banner("VIRTUAL", (f"{', '.join(virtual)}: {panels.VIRTUAL}",)))
    for outcome in dict.fromkeys(run["outcome"] for run in runs if run["outcome"] != "OK"):
        word, meaning = panels.MEANINGS[outcome]
        lines = [meaning]
        for i, run in enumerate(runs):
            if run["outcome"] == outcome:
                said = (
                    "; ".join(f"{reason['code']}: {reason['text']}" for reason in run["reasons"]) or "no reason given"
                )
                lines.append(theme.fit(f"{letter(i)}: {said}", room_pt))
        out.append(Banner(word, tuple(lines)))
    return out


def _draw_heading(page: Page, document: CompareDocument) -> None:
    runs, look = document["runs"], page.look
    axes = page.strip(0.5 + LINE_IN * len(runs))
    room_pt = (page.width_in - 2 * EDGE_IN) * 72
    models = list(dict.fromkeys(run["model"] for run in runs))
    title = f"{len(runs)} runs of " + ("one model: " + models[0] if len(models) == 1 else f"{len(models)} models")
    title = theme.fit(title, room_pt, theme.SIZE_TITLE_PT, bold=True)
    axes.text(0, 0.15, title, va="center", fontsize=theme.SIZE_TITLE_PT, weight="bold")
    for i, run in enumerate(runs):
        y = 0.45 + LINE_IN * i
        axes.plot([0.02, 0.38], [y, y], color=look.series[i], linestyle=theme.DASHES[i], linewidth=1.8)
        axes.plot([0.2], [y], color=look.series[i], marker=theme.MARKERS[i], markersize=5)
        axes.text(0.5, y, letter(i), va="center", weight="bold")
        axes.text(0.68, y, _label(i, run, room_pt - 60), va="center")


def _label(i: int, run: ComparedRun, room_pt: float) -> str:
    n = sum(curve["n"] for curve in run["ecdfs"])
    tail = f"  ·  run {theme.safe(run['id'], 36)}  ·  n = {n:,}"
    if run["board"] not in run["label"]:
        tail = f"  ·  on {theme.fit(run['board'], 140)}" + tail
    name = run["label"].removeprefix(f"{letter(i)}: ")
    return theme.fit(name, room_pt - theme.width_pt(tail, theme.SIZE_TEXT_PT)) + tail


def _draw_differences(page: Page, rows: Sequence[Difference], total: int, runs: int, height_in: float) -> None:
    axes = page.strip(height_in)
    look, first_in = page.look, 1.9
    width_in = (page.width_in - 2 * EDGE_IN - first_in) / runs
    more = f", and {total - len(rows)} more" if total > len(rows) else ""
    axes.text(0, 0.12, "Differs" + more, va="center", weight="bold")
    for i in range(runs):
        axes.text(first_in + width_in * i, 0.12, letter(i), va="center", weight="bold")
    for j, row in enumerate(rows):
        y = 0.12 + LINE_IN * (j + 1)
        axes.text(0, y, theme.fit(row["field"], first_in * 72 - 8, 8.2), va="center", fontsize=8.2)
        for i, value in enumerate(row["values"]):
            text = "–" if value is None else theme.fit(value, width_in * 72 - 8, 8.2, bold=True)
            weight = "normal" if value == row["values"][0] else "bold"
            axes.text(first_in + width_in * i, y, text, va="center", fontsize=8.2, weight=weight)
    edge = 0.12 + LINE_IN / 2
    axes.hlines(edge, 0, page.width_in - 2 * EDGE_IN, color=look.grid, linewidth=0.8)


def _draw_metrics(axes: Axes, metrics: Sequence[ComparedMetric], left_out: int, page: Page) -> None:
    """Each metric of each Run as its ratio to the first Run, its interval, and the figure itself at the right."""
    look = page.look
    axes.set_title("Every figure, as a ratio to that of run a (median over processes, smallest to largest)")
    if not metrics:
        panels.say(axes, "no figures", look)
        return
    box = axes.get_position()
    left, right = _NAMES_IN / page.width_in, _FIGURES_IN / page.width_in
    axes.set_position((box.x0 + left, box.y0, box.width - left - right, box.height))
    spread = [1.0]
    step = len(metrics[0]["runs"]) + 0.8
    for j, metric in enumerate(metrics):
        middle = j * step + (step - 1.8) / 2
        name = theme.fit(theme.name_of(metric["metric"]), _NAMES_IN * 72 + 20)
        axes.annotate(name, (0, middle), (-28, 0), ha="right", **_AT_EDGE)
        if j % 2 == 0:
            axes.axhspan(j * step - 0.9, j * step + step - 0.9, color=look.grid, alpha=0.35, linewidth=0)
        for i in range(len(metric["runs"])):
            spread += _draw_value(axes, metric, i, j * step + i, look)
    axes.axvline(1.0, color=look.faint, linewidth=1)
    axes.set_ylim(len(metrics) * step - 0.9, -0.9)
    axes.set_yticks([])
    axes.grid(visible=False, axis="y")
    _ratio_axis(axes, spread)
    axes.set_xlabel("ratio to run a" + (f" ({left_out} more figures are not shown)" if left_out else ""))


def _draw_value(axes: Axes, metric: ComparedMetric, i: int, y: float, look: Theme) -> list[float]:
    """One row; returns the ratios that the axis must hold."""
    value, first = metric["runs"][i], metric["runs"][0]["value"]
    axes.annotate(letter(i), (0, y), (-16, 0), ha="center", fontsize=theme.SIZE_SMALL_PT, weight="bold", **_AT_EDGE)
    text = theme.figure(value["value"], metric["metric"])
    if value["value"] is None:
        text = theme.fit(value["reason"] or "absent", 120, theme.SIZE_SMALL_PT)
    elif value["low"] is not None and value["high"] is not None:
        factor, _ = theme.scale(metric["metric"], value["value"])
        text += f" ({theme.number(value['low'] / factor)}–{theme.number(value['high'] / factor)})"
    axes.annotate(text, (1, y), (8, 0), fontsize=theme.SIZE_SMALL_PT, **_AT_EDGE)
    ratio = value["first_ratio"]
    if ratio is None or not ratio > 0 or not np.isfinite(ratio):
        return []
    times, at = f"×{theme.number(ratio)}", (_FIGURES_IN * 72 - 10, 0)
    axes.annotate(times, (1, y), at, ha="right", fontsize=theme.SIZE_SMALL_PT, **_AT_EDGE)
    style: dict[str, Any] = {"color": look.series[i], "clip_on": False}
    held = [ratio]
    if first and value["low"] is not None and value["high"] is not None:
        held += [value["low"] / first, value["high"] / first]
        ends = np.clip(held[1:], *_RATIO_LIMITS)
        axes.hlines(y, ends.min(), ends.max(), linewidth=1.6, **style)
    inside = float(np.clip(ratio, *_RATIO_LIMITS))
    marker = theme.MARKERS[i] if inside == ratio else ">" if ratio > inside else "<"  # beyond the axis: at its edge
    axes.plot([inside], [y], marker=marker, markersize=5.5, markeredgecolor=look.panel, **style)
    return held


def _ratio_axis(axes: Axes, spread: Sequence[float]) -> None:
    """Logarithmic: half and double are equally far from 1."""
    held = np.clip([*spread, 0.97, 1.03], *_RATIO_LIMITS)
    low, high = float(held.min()) / 1.03, float(held.max()) * 1.03
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    inside = [ratio for ratio in _RATIOS if low <= ratio <= high]
    apart: list[float] = []
    for ratio in sorted(inside, key=lambda r: abs(np.log(r))):  # 1 first, then what has room beside it
        if all(abs(np.log(ratio / other)) > 0.09 * np.log(high / low) for other in apart):
            apart.append(ratio)
    axes.xaxis.set_major_locator(FixedLocator(sorted(apart)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"×{value:g}"))
