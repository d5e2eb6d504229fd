"""What every file of sensors/ must do: tested from the moment it exists."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from types import ModuleType

import pytest
from farm_agent import plugins, sensor

from farm import units
from tests.agents.trees import LINUX, ORIN, PI5, plant

NAMES = plugins.names("farm_agent.sensors")
TREES = {"linux": LINUX, "pi5": PI5, "orin": ORIN}


@pytest.fixture(params=NAMES)
def module(request: pytest.FixtureRequest) -> ModuleType:
    return plugins.load("farm_agent.sensors", request.param)


@pytest.fixture(params=[*TREES, "this machine"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "/" if request.param == "this machine" else plant(tmp_path, TREES[request.param])


def test_it_is_absent_with_a_reason_where_there_is_nothing(module: ModuleType, tmp_path: Path) -> None:
    found = module.probe(str(tmp_path))
    assert found.channels == []
    assert found.reason


def test_its_documentation_says_what_to_write_its_source_what_verified_it_and_its_cost(module: ModuleType) -> None:
    text = module.__doc__ or ""
    name = module.__name__.rpartition(".")[2]
    assert f"sensors: {{{name}: {{}}}}" in text
    assert all(word in text for word in ("YAML:", "Source:", "Verified on:", "Cost:"))
    assert isinstance(module.IS_SLOW, bool)


def test_its_metrics_are_unique_safe_as_file_names_and_end_in_a_unit(module: ModuleType, root: str) -> None:
    metrics = [channel.metric for channel in module.probe(root).channels]
    assert len(set(metrics)) == len(metrics)
    for metric in metrics:
        assert re.fullmatch(r"[a-z0-9_]+(\.[a-z0-9_]+)*", metric)
        units.unit_of(metric)


def test_two_readings_are_in_range_or_nan_and_leave_no_descriptor(module: ModuleType, root: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    channels = module.probe(root).channels
    reader: sensor.Reader = module.open(root, channels, 2)
    reader.read(0)
    reader.read(1)
    reader.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert [channel.metric for channel in reader.channels] == [channel.metric for channel in channels]
    for channel, column in zip(reader.channels, reader.columns, strict=True):
        assert len(column) == 2
        assert all(math.isnan(value) or channel.low <= value <= channel.high for value in column)


@pytest.mark.parametrize("content", [b"", b"\0", b"\xff" * 300, b"nonsense 1 2 3\n", b"-300000000\n", b"9" * 40])
def test_files_that_turn_to_nonsense_end_nothing(module: ModuleType, tmp_path: Path, content: bytes) -> None:
    tree = {**PI5, **ORIN}
    root = plant(tmp_path, tree)
    reader: sensor.Reader = module.open(root, module.probe(root).channels, 1)
    for name in tree:
        Path(root + name).write_bytes(content)
    reader.read(0)
    assert [value for column in reader.columns for value in column if not math.isnan(value)] == []
    reader.close()


def test_a_tree_of_nonsense_can_be_probed(module: ModuleType, tmp_path: Path) -> None:
    root = plant(tmp_path, dict.fromkeys({**PI5, **ORIN}, b"\xff\0 nonsense"))
    json.dumps([channel.metric for channel in module.probe(root).channels])
