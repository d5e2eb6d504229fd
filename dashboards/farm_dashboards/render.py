"""Document -> picture. The file of `plots/` that has the Document's kind as its name draws it."""

from __future__ import annotations

import importlib
import io
import pkgutil
import threading
from collections.abc import Mapping
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg

from farm_dashboards import documents, plots
from farm_dashboards import theme as themes

FORMATS = ("png", "svg", "pdf")
SMALLEST_IN, LARGEST_IN = 5.0, 60.0
DPI = 150  # a figure 10 inches wide is sharp in a pull request, and still so on a screen with doubled pixels

_MARKS: Mapping[str, Mapping[str, Any]] = {  # dates and versions would make equal Documents into unequal bytes
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": "benchfarm"},
    "pdf": {"CreationDate": None, "Creator": "benchfarm", "Producer": None},
}
_drawing = threading.Lock()  # matplotlib's settings belong to the process: one figure at a time


def kinds() -> list[str]:
    """The kinds of Document that can be drawn: the names of the files of plots/."""
    return sorted(module.name for module in pkgutil.iter_modules(plots.__path__))


def render(
    document: Mapping[str, Any],
    *,
    format: str = "png",
    theme: str = "light",
    size: tuple[float, float] | None = None,
) -> bytes:
    """The Document's figure as the bytes of a file; `size` is width and height in inches, else what the content needs.

    The same arguments give the same bytes. Raises ValueError for a wrong Document, format, theme or size.
    """
    if format not in FORMATS:
        raise ValueError(f"format {format!r} is not known; known formats: {', '.join(FORMATS)}")
    if size is not None and not all(SMALLEST_IN <= side <= LARGEST_IN for side in size):
        raise ValueError(f"size {size!r} cannot be drawn; each side must be {SMALLEST_IN:g} to {LARGEST_IN:g} inches")
    look = themes.theme(theme)
    documents.check(document)
    plot = importlib.import_module(f"{plots.__name__}.{document['kind']}")
    with _drawing, matplotlib.rc_context():
        matplotlib.rcdefaults()  # a person's matplotlibrc must not change our figures
        matplotlib.rcParams.update(themes.rc(look))
        figure = plot.draw(document, look, size)
        FigureCanvasAgg(figure)
        out = io.BytesIO()
        figure.savefig(out, format=format, dpi=DPI, metadata=dict(_MARKS[format]))
    return _with_fallback_fonts(out.getvalue()) if format == "svg" else out.getvalue()


def _with_fallback_fonts(svg: bytes) -> bytes:
    name = f"'{themes.FONT}'".encode()
    return svg.replace(name, name + b", Verdana, sans-serif")  # Verdana is as wide
