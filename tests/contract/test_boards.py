"""What every file of boards/ must do: tested from the moment it exists."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest
from farm_agent import board, plugins

from tests.agents.trees import LINUX, ORIN, PI5, plant

NAMES = plugins.names("farm_agent.boards")
TREES = {"generic": LINUX, "raspberrypi": PI5, "jetson": ORIN}


@pytest.fixture(params=NAMES)
def module(request: pytest.FixtureRequest) -> ModuleType:
    return plugins.load("farm_agent.boards", request.param)


@pytest.mark.parametrize("content", [None, b"", b"\xff\0 nonsense", b"\0" * 4])
def test_a_tree_that_says_nothing_or_nonsense_ends_nothing(
    module: ModuleType, tmp_path: Path, content: bytes | None
) -> None:
    root = plant(tmp_path, {} if content is None else dict.fromkeys({**PI5, **ORIN}, content))
    assert type(module.detect(root)) is int
    json.dumps([module.identity(root), module.context(root), board.identity(root), board.context(root)])


def test_it_names_itself_and_the_facts_that_every_family_has(module: ModuleType, tmp_path: Path) -> None:
    facts = module.identity(str(tmp_path))
    assert facts["family"] == module.__name__.rpartition(".")[2]
    assert {"model", "revision", "soc"} <= set(facts)


def test_its_documentation_says_its_source_and_what_verified_it(module: ModuleType) -> None:
    assert "Source:" in (module.__doc__ or "")
    assert "Verified on:" in (module.__doc__ or "")


@pytest.mark.parametrize("name", NAMES)
def test_each_family_finds_its_own_tree_and_no_other_does(name: str, tmp_path: Path) -> None:
    root = plant(tmp_path, TREES[name])
    assert board.find(root).__name__ == f"farm_agent.boards.{name}"
    others = [other for other in NAMES if other not in (name, "generic")]
    assert [plugins.load("farm_agent.boards", other).detect(root) for other in others] == [0] * len(others)
