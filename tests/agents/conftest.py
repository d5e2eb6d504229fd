"""Fixtures: a board's home on disk, and agents that are started on it for real."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agents.supervised import Agent, Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def start(home: Home) -> Iterator[Callable[..., Agent]]:
    """Start agents on `home`; what still runs at the end of the test is killed."""
    agents: list[Agent] = []

    def make(**options: Any) -> Agent:
        agents.append(Agent(home, **options))
        return agents[-1]

    yield make
    for agent in agents:
        agent.stop()
