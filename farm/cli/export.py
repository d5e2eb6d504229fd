"""`farm export RUN…`: Runs, their summaries and raw samples as files for other tools."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farm.cli import output
from farm.cli.session import run_id, session
from farm.cli.show import RUN_HELP
from farm.errors import InputError

if TYPE_CHECKING:  # 0.5 s
    import pandas as pd

FORMATS = ("parquet", "csv", "json")


def export(
    context: typer.Context,
    runs: Annotated[list[str], typer.Argument(metavar="RUN…", help=f"each {RUN_HELP}")],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for runs, summaries and samples; or one .json file")],
    kind: Annotated[str, typer.Option("--format", help="parquet, csv or json")] = "parquet",
) -> None:
    """Write Runs, summaries and raw samples in base units, nothing left out. Files of the same name are replaced."""
    if kind not in FORMATS:
        raise InputError(f"Format '{kind}' is not known. Give one of {', '.join(FORMATS)} with --format.")
    is_one_file = kind == "json" and out.suffix == ".json"
    folder = out.parent if is_one_file else out
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, "permission denied")
    except OSError as error:
        raise InputError(
            f"Folder '{folder}' cannot be written: {error.strerror}. Name a folder that is yours with --out."
        ) from None
    with session(context).store() as store:
        from farm import show

        frames = show.frames(store, [run_id(store, run) for run in runs])
    if is_one_file:
        _replace(out, lambda part: _write_json({name: _columns(frame) for name, frame in frames.items()}, part))
        return
    for name, frame in frames.items():
        _replace(folder / f"{name}.{kind}", _writer(kind, frame))


def _writer(kind: str, frame: pd.DataFrame) -> Callable[[Path], None]:
    def write(part: Path) -> None:
        if kind == "parquet":
            frame.to_parquet(part, index=False)
        elif kind == "csv":
            frame.to_csv(part, index=False)
        else:
            _write_json(_columns(frame), part)

    return write


def _columns(frame: pd.DataFrame) -> dict[str, list[Any]]:
    """Each column as a list, so that `pandas.DataFrame(json.load(file))` is the table again."""
    import pandas as pd

    return {
        str(name): [None if pd.isna(value) else value for value in column.tolist()] for name, column in frame.items()
    }


def _write_json(data: Any, part: Path) -> None:
    with part.open("w", encoding="utf-8") as file:
        json.dump(data, file, ensure_ascii=False, allow_nan=False, default=_text)


def _text(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _replace(path: Path, write: Callable[[Path], None]) -> None:
    """Put a file in place whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(part)
        part.replace(path)
    except OSError as error:
        raise InputError(f"File '{path}' cannot be written: {error.strerror or error}. Name another folder.") from None
    finally:
        part.unlink(missing_ok=True)
    output.say(f"wrote {path}")
