"""Files that a verb writes: checked before anything else is done, written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from farm.cli import output
from farm.errors import InputError


def check(path: Path, flag: str) -> None:
    """Raises InputError where no file can be written to `path`; nothing is left there."""
    if path.is_dir():
        raise InputError(f"{flag} '{path}' cannot be written: a folder has that name. Name a file.")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
        if path.exists():
            with path.open("ab"):
                pass
    except OSError as error:
        raise InputError(
            f"{flag} '{path}' cannot be written: {error.strerror}. Name a file in a folder that is there and yours."
        ) from None


def write(path: Path, text: str) -> None:
    """Put the text at `path` in one step. Raises InputError."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, "utf-8", newline="\n")
        part.replace(path)
    except OSError as error:
        raise InputError(f"File '{path}' cannot be written: {error.strerror}. Name another file.") from None
    finally:
        part.unlink(missing_ok=True)
    output.say(f"wrote {path}")
