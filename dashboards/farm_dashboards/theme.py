"""One palette, one font and one way to write figures and names, for every renderer.

Colours are Okabe and Ito's (Color Universal Design, https://jfly.uni-koeln.de/color/), lightened for the dark theme
where they would be too faint; nothing is told by colour alone, so there are as many hatches, markers and dashes.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font, LoadFlags

FONT = "DejaVu Sans"  # travels with matplotlib, so a figure is the same on every machine
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "++++")
SIZE_TITLE_PT, SIZE_TEXT_PT, SIZE_SMALL_PT = 14.0, 9.0, 7.8


@dataclass(frozen=True, slots=True)
class Theme:
    """The colours of one theme; `series` is for Runs, Arms and sensors, in that order."""

    name: str
    paper: str
    panel: str  # behind the data
    ink: str
    faint: str  # ticks, secondary text
    grid: str
    series: tuple[str, ...]
    anon: str
    file: str
    swap: str
    warn: str
    warn_paper: str


THEMES: Mapping[str, Theme] = {
    "light": Theme(
        "light", "#ffffff", "#ffffff", "#1c2329", "#5b6670", "#dfe4e8",
        ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b07c00", "#2f9fdc"),
        "#0072b2", "#9ccbe8", "#d55e00", "#a33c00", "#fde9d9",
    ),
    "dark": Theme(
        "dark", "#14181c", "#191f24", "#e8edf1", "#a3aeb8", "#313a42",
        ("#56b4e9", "#ff8c42", "#2cc99a", "#e79ac4", "#e6b422", "#9fb4ff"),
        "#3f9fd8", "#1d4f70", "#ff8c42", "#ffb27a", "#3d2413",
    ),
}  # fmt: skip

# metric's last word -> (factor, symbol) from small to large; the first is the stored unit
_SCALES: Mapping[str, tuple[tuple[float, str], ...]] = {
    "ns": ((1.0, "ns"), (1e3, "µs"), (1e6, "ms"), (1e9, "s")),
    "s": ((1.0, "s"),),
    "bytes": ((1.0, "B"), (1e3, "kB"), (1e6, "MB"), (1e9, "GB")),
    "hz": ((1.0, "Hz"), (1e3, "kHz"), (1e6, "MHz"), (1e9, "GHz")),
    "c": ((1.0, "°C"),),
    "w": ((1e-3, "mW"), (1.0, "W")),
    "j": ((1e-6, "µJ"), (1e-3, "mJ"), (1.0, "J")),
    "v": ((1e-3, "mV"), (1.0, "V")),
    "a": ((1e-3, "mA"), (1.0, "A")),
    "rpm": ((1.0, "rpm"),),
    "per_s": ((1.0, "/s"), (1e3, "k/s"), (1e6, "M/s")),
}
_COUNTS = ("count", "faults")
_WORDS = {"rss": "RSS", "pss": "PSS", "cpu": "CPU", "gpu": "GPU", "ttft": "TTFT"}


def theme(name: str) -> Theme:
    """The theme of that name. Raises ValueError with the known names."""
    if name not in THEMES:
        raise ValueError(f"theme {name!r} is not known; known themes: {', '.join(THEMES)}")
    return THEMES[name]


def rc(look: Theme) -> Any:
    """Settings for matplotlib; `$` is a character, and the same Document gives the same SVG bytes."""
    return {
        "font.family": [FONT],
        "font.size": SIZE_TEXT_PT,
        "text.parse_math": False,
        "text.color": look.ink,
        "axes.labelcolor": look.ink,
        "axes.edgecolor": look.faint,
        "axes.facecolor": look.panel,
        "axes.linewidth": 0.7,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.grid": True,
        "axes.labelsize": SIZE_TEXT_PT,
        "axes.titlesize": SIZE_TEXT_PT + 1,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.formatter.use_mathtext": False,
        "axes.unicode_minus": True,
        "grid.color": look.grid,
        "grid.linewidth": 0.7,
        "xtick.color": look.faint,
        "ytick.color": look.faint,
        "xtick.labelsize": SIZE_SMALL_PT,
        "ytick.labelsize": SIZE_SMALL_PT,
        "legend.fontsize": SIZE_SMALL_PT,
        "legend.frameon": True,
        "legend.framealpha": 0.9,
        "legend.facecolor": look.panel,
        "legend.edgecolor": look.grid,
        "figure.facecolor": look.paper,
        "savefig.facecolor": look.paper,
        "hatch.linewidth": 0.6,
        "svg.hashsalt": "benchfarm",
        "svg.fonttype": "none",  # text stays text: searchable, and small
        "pdf.fonttype": 42,
    }


def unit_suffix(metric: str) -> str:
    """The last word of a metric's name where it is a unit, else an empty text."""
    words = metric.rpartition(".")[2].split("_")
    for length in (2, 1):
        suffix = "_".join(words[-length:])
        if suffix in _SCALES or suffix in ("ratio", *_COUNTS):
            return suffix
    return ""


def scale(metric: str, largest: float) -> tuple[float, str]:
    """What to divide a metric's values by so that people can read them, and the symbol that then follows them."""
    scales = _SCALES.get(unit_suffix(metric), ((1.0, ""),))
    fitting = [pair for pair in scales if abs(largest) >= pair[0]]
    return (fitting or list(scales[:1]))[-1]


def number(value: float, digits: int = 3) -> str:
    """A number with that many digits that mean something, never in powers of ten below a million."""
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    if abs(value) >= 1e6 or abs(value) < 1e-4:
        return f"{value:.{digits - 1}e}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}"


def figure(value: float | None, metric: str, digits: int = 3) -> str:
    """A value with its unit, such as `1.64 ms`; a dash where it is absent."""
    if value is None or not math.isfinite(value):
        return "–"
    if unit_suffix(metric) in _COUNTS:
        return f"{value:,.6g}"
    factor, symbol = scale(metric, value)
    return f"{number(value / factor, digits)} {symbol}".rstrip()


def name_of(metric: str) -> str:
    """A metric as people say it: `p50_latency_ns` is `P50 latency`."""
    suffix = unit_suffix(metric)
    name = metric if suffix in _COUNTS else metric.removesuffix("_" + suffix)
    said = [_WORDS.get(word) or _quantile(word) or word for word in name.replace("_", " ").split()]
    return " ".join(said) or metric


def safe(text: object, limit: int = 400) -> str:
    """Text that cannot disturb a figure: one line, no control or direction marks, no glyph that the font lacks."""
    raw, out = str(text), list[str]()
    if len(raw) > 4 * limit:
        raw = f"{raw[: 2 * limit]}…{raw[-2 * limit :]}"
    for char in unicodedata.normalize("NFC", raw):
        kind = unicodedata.category(char)
        if char in "\t\n\r" or kind in ("Zs", "Zl", "Zp"):
            out.append(" ")
        elif kind in ("Cc", "Cf", "Cs", "Co", "Cn"):
            out.append(f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{ord(char):04x}")
        elif kind in ("Mn", "Me") and out and unicodedata.category(out[-1][-1]) in ("Mn", "Me"):
            continue  # marks piled on marks climb over their neighbours
        else:
            out.append(char if _font().get_char_index(ord(char)) else "□")
    line = " ".join("".join(out).split())
    return line if len(line) <= limit else _middle_cut(line, limit - 1)


def width_pt(text: str, size_pt: float, bold: bool = False) -> float:
    """How wide a line of text is at most: the advances of its letters, without kerning, and a little for hinting."""
    return 1.03 * size_pt * sum(_advance_em(char, bold) for char in text)


def fit(text: object, most_pt: float, size_pt: float = SIZE_TEXT_PT, bold: bool = False) -> str:
    """Safe text no wider than `most_pt`; the middle gives way, since names differ at their ends."""
    line = safe(text)
    if width_pt(line, size_pt, bold) <= most_pt:
        return line
    low, high = 0, len(line) - 1
    while low < high:
        keep = (low + high + 1) // 2
        if width_pt(_middle_cut(line, keep), size_pt, bold) <= most_pt:
            low = keep
        else:
            high = keep - 1
    return _middle_cut(line, low)


def wrap(text: object, most_pt: float, lines: int, size_pt: float = SIZE_TEXT_PT) -> list[str]:
    """Safe text in at most so many lines; what does not fit ends in an ellipsis."""
    words = [fit(word, most_pt, size_pt) for word in safe(str(text)[:600], 2400).split(" ")]
    out = [""]
    for i, word in enumerate(words):
        longer = f"{out[-1]} {word}".strip()
        if width_pt(longer, size_pt) <= most_pt:
            out[-1] = longer
        elif len(out) < lines:
            out.append(word)
        else:
            out[-1] = fit(out[-1] + " …" if words[i:] else out[-1], most_pt, size_pt)
            break
    return out


def _quantile(word: str) -> str:
    """`p999` is `P99.9`; empty for what is no quantile."""
    digits = word[1:]
    if word[:1] != "p" or not digits.isdigit():
        return ""
    return f"P{digits[:2]}.{digits[2:]}" if len(digits) > 2 else f"P{digits}"


def _middle_cut(line: str, keep: int) -> str:
    head = (keep + 1) // 2
    tail = keep - head
    return line[:head] + "…" + (line[-tail:] if tail else "")


@lru_cache(maxsize=4096)
def _advance_em(char: str, bold: bool) -> float:
    font = _font(bold)
    font.set_size(1, 72)
    return font.load_char(ord(char), flags=LoadFlags.NO_HINTING).linearHoriAdvance / 65536


@lru_cache(maxsize=2)
def _font(bold: bool = False) -> FT2Font:
    return font_manager.get_font(font_manager.findfont(FONT + (":bold" if bold else "")))
