"""The wheel: what is in it, and that the thin install stands on its own."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Every file of the wheel, built by the build back end that pyproject.toml names."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as found:
        return found.namelist()


def test_the_wheel_has_three_packages_and_nothing_else_at_its_top(names: list[str]) -> None:
    tops = {name.split("/")[0] for name in names}
    assert tops == {"farm", "farm_agent", "farm_dashboards", "benchfarm-0.1.0.dist-info"}


def test_the_wheel_brings_the_migrations(names: list[str]) -> None:
    assert "farm/_migrations/env.py" in names
    assert [name for name in names if name.startswith("farm/_migrations/versions/0001")]


def test_every_plug_in_of_the_sources_is_in_the_wheel(names: list[str]) -> None:
    for folder, package in (("agents/farm_agent", "farm_agent"), ("farm", "farm")):
        for path in (ROOT / folder).rglob("*.py"):
            assert f"{package}/{path.relative_to(ROOT / folder)}" in names
