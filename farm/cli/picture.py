"""Figures as files: checked before anything is measured, written whole or not at all."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from farm.cli import output
from farm.errors import InputError

FORMATS = (".png", ".svg", ".pdf")


def check(path: Path) -> None:
    """Raises InputError where no figure can be written to `path`; nothing is left there."""
    if path.suffix.lower() not in FORMATS:
        raise InputError(
            f"The figure '{path}' has the suffix '{path.suffix}'; a figure is {', '.join(FORMATS)}. Rename it."
        )
    if path.is_dir():
        raise InputError(f"The figure '{path}' cannot be written: a folder has that name. Name a file.")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
        if path.exists():
            with path.open("ab"):
                pass
    except OSError as error:
        raise InputError(
            f"The figure '{path}' cannot be written: {error.strerror}. Name a file in a folder that is there and yours."
        ) from None
    if importlib.util.find_spec("matplotlib") is None:
        raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")


def check_theme(theme: str) -> None:
    """Raises InputError where there is no such theme."""
    from farm_dashboards import theme as themes

    if theme not in themes.THEMES:
        raise InputError(f"Theme '{theme}' is not known. Give one of {', '.join(themes.THEMES)} with --theme.")


def write(document: Mapping[str, Any], path: Path, *, theme: str = "light") -> None:
    """Draw the Document and put it at `path` in one step."""
    from farm_dashboards import render

    data = render.render(document, format=path.suffix.lower()[1:], theme=theme)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        raise InputError(f"The figure '{path}' cannot be written: {error.strerror}. Name another file.") from None
    finally:
        part.unlink(missing_ok=True)
    output.say(f"wrote {path}")
