"""The files of an Artifact as they lie on this disk."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from farm_agent import wire

from farm.errors import InputError

FILES_LIMIT = 10_000  # of one artifact; a folder with more is a mistake of the path


def sources(path: Path, *, entry: str | None = None) -> dict[str, Path]:
    """Every file of the Artifact at `path` (a file or a folder), by its path within it, sorted.

    Raises InputError where it is missing, unreadable or empty, or `entry` is not in it.
    """
    if not path.exists():
        near = difflib.get_close_matches(path.name, _siblings(path), n=1)
        hint = f" Did you mean '{path.with_name(near[0])}'?" if near else ""
        seen = "a link that leads nowhere" if path.is_symlink() else "nothing there"
        raise InputError(f"Model file '{path}' was not found: {seen}.{hint} Give the path of a model file or folder.")
    if path.is_file():
        if entry is not None and entry != path.name:
            raise InputError(
                f"'{path}' is a file, so --entry '{entry}' says nothing. Leave it out, or give the folder."
            )
        found = {path.name: path}
    elif path.is_dir():
        found = _below(path)
    else:
        raise InputError(f"'{path}' is neither a file nor a folder. Give the path of a model file or folder.")
    for name, source in found.items():
        if not name.isprintable():  # also what is no UTF-8
            raise InputError(f"File name {name!r} in artifact '{path}' has what cannot be printed. Rename it.")
        if not os.access(source, os.R_OK):
            raise InputError(unreadable(source))
        if not wire.is_safe_path(name):
            raise InputError(f"File name {name!r} in artifact '{path}' has a backslash or the like. Rename it.")
    if entry is not None and entry not in found:
        raise InputError(f"'{entry}' is not in artifact folder '{path}'. It holds: {listed(list(found))}.")
    return found


def unreadable(path: Path) -> str:
    """What is said of a file that may not be read."""
    return f"Model file '{path}' cannot be read: permission denied. Give yourself read rights (chmod u+r)."


def listed(names: list[str]) -> str:
    """The first of them, and how many more there are."""
    shown = ", ".join(names[:8])
    return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _below(path: Path) -> dict[str, Path]:
    found = {
        str(file.relative_to(path)): file
        for folder, _, names in os.walk(path)
        for file in (Path(folder) / name for name in names)
        if file.is_file()
    }
    if not 0 < len(found) <= FILES_LIMIT:
        raise InputError(
            f"Artifact folder '{path}' holds {len(found)} files; 1 to {FILES_LIMIT} are allowed."
            " Give the folder that holds just the model and its data."
        )
    return dict(sorted(found.items()))


def _siblings(path: Path) -> list[str]:
    try:
        return [sibling.name for sibling in path.parent.iterdir()]
    except OSError:
        return []
