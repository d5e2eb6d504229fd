"""`farm version`: which benchfarm this is, and what it speaks with boards."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Annotated

import typer
from farm_agent import wire

from farm.cli import output


def version(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Print the version of benchfarm, of its protocol with boards and of what its numbers mean."""
    found = {
        "benchfarm": metadata.version("benchfarm"),
        "wire": wire.VERSION,
        "measure": wire.MEASURE_VERSION,
        "python": platform.python_version(),
    }
    if as_json:
        output.result_json(found)
    else:
        spoken = f"wire {found['wire']}, measure {found['measure']}, Python {found['python']}"
        output.result(f"benchfarm {found['benchfarm']} ({spoken})")
