"""What several figures share: the page with its heading and banners, and the panels of latency and memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from farm_dashboards import theme
from farm_dashboards.documents import Ecdf, Memory, Reason, Stage, shown_ranks
from farm_dashboards.theme import Theme

WIDTH_IN = 10.0
LEFT_IN, RIGHT_IN, EDGE_IN = 0.72, 0.22, 0.22
LINE_IN = 0.175
RASTER_FROM = 3000  # points; beyond it a vector file gets them as one image and stays small

VIRTUAL = "measured on a virtual board: the path is real, the figures are no hardware's"
MEANINGS = {
    None: ("NOT ENDED", "this run has no outcome yet"),
    "NOISY": ("NOISY", "disturbed: shown with its reasons, never judged"),
    "FAILED": ("FAILED", "the model did not get through"),
    "BROKEN": ("BROKEN", "the lab failed; this says nothing about the model"),
    "CANCELLED": ("CANCELLED", "ended by a person before it was complete"),
}


@dataclass(frozen=True, slots=True)
class Banner:
    """A warning across the page that nobody can overlook: a word, and lines that explain it."""

    word: str
    lines: tuple[str, ...]

    @property
    def height_in(self) -> float:
        """How much of the page it takes."""
        return 0.2 + LINE_IN * len(self.lines)


class Page:
    """A figure laid out in inches, from the top down; what is left over or lacking goes to the flexible rows."""

    def __init__(self, size: tuple[float, float] | None, fixed_in: float, flexible_in: float, look: Theme) -> None:
        self.width_in, self.height_in = size or (WIDTH_IN, fixed_in + flexible_in)
        self.stretch = max((self.height_in - fixed_in) / flexible_in, 0.2)
        self.look = look
        self.figure = Figure(figsize=(self.width_in, self.height_in))
        self.top_in = self.height_in - 0.12

    def strip(self, height_in: float) -> Axes:
        """A row without axes, as wide as the page, for text; its coordinates are inches from its left top."""
        axes = self._axes(EDGE_IN, self.width_in - 2 * EDGE_IN, height_in)
        axes.set_axis_off()
        axes.set_xlim(0, self.width_in - 2 * EDGE_IN)
        axes.set_ylim(height_in, 0)
        self.skip(height_in)
        return axes

    def row(self, height_in: float, shares: Sequence[float] = (1.0,), gap_in: float = 0.75) -> list[Axes]:
        """Panels side by side; each gets its share of the width that the gaps leave."""
        height = height_in * self.stretch
        room = self.width_in - LEFT_IN - RIGHT_IN - gap_in * (len(shares) - 1)
        left, out = LEFT_IN, []
        for share in shares:
            width = room * share / sum(shares)
            out.append(self._axes(left, width, height))
            left += width + gap_in
        self.skip(height)
        return out

    def skip(self, height_in: float) -> None:
        """Leave room."""
        self.top_in -= height_in

    def _axes(self, left: float, width: float, height: float) -> Axes:
        bottom = self.top_in - height
        box = (left / self.width_in, bottom / self.height_in, width / self.width_in, height / self.height_in)
        return self.figure.add_axes(box)


def banners(outcome: str | None, reasons: Sequence[Reason], is_virtual: bool, width_in: float) -> list[Banner]:
    """The warnings that a Run's figure must carry."""
    out = [Banner("VIRTUAL", (VIRTUAL,))] if is_virtual else []
    if outcome != "OK":
        word, meaning = MEANINGS[outcome]
        lines = [meaning]
        for reason in reasons[:3]:
            lines += theme.wrap(f"{reason['code']}: {reason['text']}", banner_room_pt(width_in), 2)
        if len(reasons) > 3:
            lines.append(f"and {len(reasons) - 3} more reasons")
        out.append(Banner(word, tuple(lines)))
    return out


def banner_room_pt(width_in: float) -> float:
    """How wide a line of a banner may be."""
    return (width_in - 2 * EDGE_IN - 1.75) * 72


def draw_banner(page: Page, banner: Banner) -> None:
    """The banner as the next strip of the page: hatched, so that it shows in black and white as well."""
    look, height = page.look, banner.height_in - 0.08
    axes = page.strip(banner.height_in)
    width = page.width_in - 2 * EDGE_IN
    axes.add_patch(Rectangle((0, 0), width, height, facecolor=look.warn_paper, edgecolor=look.warn, linewidth=1.2))
    axes.add_patch(Rectangle((0, 0), 1.55, height, facecolor=look.warn_paper, edgecolor=look.warn, hatch="//////"))
    box = {"facecolor": look.warn_paper, "edgecolor": "none", "pad": 2.5}
    axes.text(
        0.775,
        height / 2,
        banner.word,
        ha="center",
        va="center",
        fontsize=11.5,
        weight="bold",
        color=look.warn,
        bbox=box,
    )
    first = height / 2 - LINE_IN * (len(banner.lines) - 1) / 2
    for i, line in enumerate(banner.lines):
        weight = "bold" if i == 0 else "normal"
        axes.text(1.68, first + i * LINE_IN, line, va="center", color=look.warn, weight=weight, fontsize=8.6)


def say(axes: Axes, text: str, look: Theme) -> None:
    """A panel that has nothing to draw says so."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=look.faint)
    axes.set_xticks([])
    axes.set_yticks([])


def scale_axis(axis: Axis, factor: float, is_log: bool = False, ticks: int = 6) -> None:
    """Ticks in the unit that people read: plain numbers, on a logarithmic axis 1, 2 and 5."""
    if is_log:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_minor_locator(NullLocator())
    else:
        axis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / factor:,.6g}"))


def wants_log(values: Sequence[float]) -> bool:
    """True where a few slow queries would press all others flat on a linear axis."""
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    return len(finite) > 1 and bool(finite.min() > 0) and bool(finite.max() > 4 * np.median(finite))


def draw_ecdfs(axes: Axes, groups: Sequence[Sequence[Ecdf]], look: Theme) -> bool:
    """One thin line for each process of each group (an Arm or a Run); False where there is nothing."""
    curves = [(i, curve) for i, group in enumerate(groups) for curve in group if curve["latency_ns"]]
    if not curves:
        say(axes, "no timed queries", look)
        return False
    ends = [value for _, curve in curves for value in (curve["latency_ns"][0], median(curve), curve["latency_ns"][-1])]
    is_log = max(ends) > 4 * float(np.median(ends)) and min(ends) > 0
    if is_log:
        axes.set_xscale("log")
    for i, curve in curves:
        kept = shown_ranks(len(curve["latency_ns"]))
        x = np.asarray(curve["latency_ns"])[kept]
        y = np.asarray(curve["share_ratio"])[kept]
        style: dict[str, Any] = {
            "color": look.series[i % len(look.series)],
            "linestyle": theme.DASHES[i % len(theme.DASHES)],
        }
        axes.plot(np.r_[x[:1], x], np.r_[0.0, y], drawstyle="steps-post", linewidth=1.1, alpha=0.75, **style)
    factor, symbol = theme.scale("latency_ns", float(np.median(ends)))
    scale_axis(axes.xaxis, factor, is_log, ticks=5)
    axes.set_xlabel(f"latency, {symbol}" + (" (logarithmic)" if is_log else ""))
    axes.set_ylim(0, 1.03)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 0.9, 1.0], ["0", "25", "50", "75", "90", "100"])
    axes.set_ylabel("queries done, %")
    return True


def draw_memory(axes: Axes, memories: Sequence[Memory], look: Theme) -> None:
    """Stacked bars of memory by stage, side by side for each Run; a tick is the peak, a line the cold load's."""
    names = list(dict.fromkeys(stage["stage"] for memory in memories for stage in memory["stages"]))
    axes.set_title("Memory by stage")
    tops = [top for memory in memories for top in _tops(memory)]
    if not tops:
        say(axes, "memory was not read", look)
        return
    highest, width = max(tops), 0.7 / len(memories)
    factor, symbol = theme.scale("rss_bytes", highest)
    for i, memory in enumerate(memories):
        for stage in memory["stages"]:
            x = names.index(stage["stage"]) - 0.35 + width * (i + 0.5)
            _draw_stage(axes, x, width * 0.92, stage, look, factor if len(memories) == 1 else None)
            if len(memories) > 1 and width > 0.1:
                axes.annotate(
                    chr(97 + i), (x, 0), (0, -3), textcoords="offset points", ha="center", va="top", fontsize=6.5
                )
    pad = 10 if len(memories) > 1 else 3
    axes.set_xticks(range(len(names)), [theme.fit(name, 280 / len(names), theme.SIZE_SMALL_PT) for name in names])
    axes.tick_params(axis="x", length=0, pad=pad)
    axes.set_xlim(-0.55, len(names) - 0.45)
    early = max((max(_stage_tops(stage), default=0.0) for m in memories for stage in m["stages"][:2]), default=0.0)
    is_narrow = axes.bbox.width / axes.bbox.height < 1.45
    axes.set_ylim(
        0, highest * (1.65 if is_narrow or early > 0.6 * highest else 1.3)
    )  # the legend stands at the left top
    axes.grid(visible=False, axis="x")
    axes.set_ylabel(f"resident memory, {symbol}")
    scale_axis(axes.yaxis, factor)
    _memory_legend(axes, memories, look)


def _draw_stage(axes: Axes, x: float, width: float, stage: Stage, look: Theme, factor: float | None) -> None:
    bottom = 0.0
    parts = [(stage["anon_bytes"], look.anon, ""), (stage["file_bytes"], look.file, "////")]
    if stage["anon_bytes"] is None and stage["file_bytes"] is None:
        parts = [(stage["rss_bytes"], look.faint, "")]
    for value, colour, hatch in [*parts, (stage["swap_bytes"], look.swap, "xxxx")]:
        if value:
            axes.bar(x, value, width, bottom, color=colour, hatch=hatch, edgecolor=look.panel, linewidth=0.6)
            bottom += value
    peak = stage["peak_bytes"]
    if peak is not None:
        axes.hlines(peak, x - width / 2, x + width / 2, color=look.ink, linewidth=1.8)
    top = max(bottom, peak or 0.0)
    if factor is not None and top > 0:
        style: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "fontsize": 7.5}
        backing = {"facecolor": look.panel, "edgecolor": "none", "pad": 0.0}
        axes.annotate(theme.number(bottom / factor), (x, top), (0, 4), bbox=backing, **style)


def _memory_legend(axes: Axes, memories: Sequence[Memory], look: Theme) -> None:
    stages = [stage for memory in memories for stage in memory["stages"]]
    handles: list[Patch | Line2D] = []
    for field, text, colour, hatch in (
        ("anon_bytes", "anonymous", look.anon, ""),
        ("file_bytes", "file-backed", look.file, "////"),
        ("swap_bytes", "swapped", look.swap, "xxxx"),
    ):
        if any(stage[field] for stage in stages):  # type: ignore[literal-required]
            handles.append(Patch(facecolor=colour, hatch=hatch, edgecolor=look.panel, label=text))
    if any(stage["peak_bytes"] is not None for stage in stages):
        running = any(stage["peak_is_running"] for stage in stages)
        label = "highest so far" if running else "peak within the stage"
        handles.append(Line2D([], [], color=look.ink, linewidth=1.8, label=label))
    cold = [memory["cold_load_rss_bytes"] for memory in memories]
    if len(cold) == 1 and cold[0] is not None:
        axes.axhline(cold[0], color=look.warn, linewidth=1.1, linestyle="--", zorder=1)
        label = f"cold load peak {theme.figure(cold[0], 'rss_bytes')}"
        handles.append(Line2D([], [], color=look.warn, linewidth=1.1, linestyle="--", label=label))
    if handles:
        axes.legend(handles=handles, loc="upper left", ncols=1, borderaxespad=0.2)


def median(curve: Ecdf) -> float:
    """The value that half of the samples do not exceed."""
    return curve["latency_ns"][int(np.searchsorted(curve["share_ratio"], 0.5))]


def _tops(memory: Memory) -> list[float]:
    found = [top for stage in memory["stages"] for top in _stage_tops(stage)]
    return [*found, memory["cold_load_rss_bytes"]] if memory["cold_load_rss_bytes"] else found


def _stage_tops(stage: Stage) -> list[float]:
    sizes = (stage["anon_bytes"], stage["file_bytes"], stage["swap_bytes"])
    found = (stage["peak_bytes"], stage["rss_bytes"], sum(size or 0.0 for size in sizes))
    return [top for top in found if top]
