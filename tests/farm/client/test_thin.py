"""The thin install is all a pipeline needs: neither the client nor `farm submit` wants anything of a coordinator."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from farm import client

COORDINATOR = {"store", "api", "services", "worker", "dispatch", "execute", "transports", "up", "virtual"}
CLIENT = ["farm.client", *(f"farm.client.{path.stem}" for path in Path(client.__file__).parent.glob("[a-z]*.py"))]
SUBMIT = ["farm.cli.app", *(f"farm.cli.{name}" for name in ("submit", "job", "jobs", "login", "tokens", "junit"))]

LOAD = """
import importlib, sys

absent = set(sys.argv[1].split(","))

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Absent())
for name in sys.argv[2:]:
    importlib.import_module(name)
print(*sys.modules)
"""


def _key(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()


def _base_install() -> set[str]:
    """Distributions of the base install, what they need in turn included; no extra."""
    found: set[str] = set()
    left = ["benchfarm"]
    while left:
        name = left.pop()
        try:
            needed = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # for another Python or system
            continue
        found.add(name)
        names = {_key(re.split(r"[^\w.-]", line)[0]) for line in needed if "extra ==" not in line}
        left += names - found
    return found


def _loaded(names: list[str]) -> set[str]:
    """Every module that is loaded with those, where only the base install is there."""
    base = _base_install()
    absent = [top for top, by in metadata.packages_distributions().items() if not {_key(one) for one in by} & base]
    argv = [sys.executable, "-c", LOAD, ",".join(absent), *names]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_the_base_install_is_told_from_the_extras() -> None:
    base = _base_install()
    assert {"benchfarm", "httpx", "httpcore", "pydantic", "typer"} <= base
    assert base & {"numpy", "sqlalchemy", "fastapi", "celery", "asyncssh", "alembic", "uvicorn"} == set()


@pytest.mark.parametrize("names", [CLIENT, SUBMIT], ids=["client", "submit"])
def test_it_works_where_only_the_base_install_is_there_and_loads_nothing_of_a_coordinator(names: list[str]) -> None:
    loaded = _loaded(names)
    assert set(names) <= loaded
    assert {name for name in loaded if name.startswith("farm.") and name.split(".")[1] in COORDINATOR} == set()


def test_a_module_of_the_coordinator_does_not_load_there() -> None:
    with pytest.raises(AssertionError, match="ModuleNotFoundError: "):
        _loaded(["farm.store.db"])
