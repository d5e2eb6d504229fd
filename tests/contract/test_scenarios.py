"""Every file of scenarios/ keeps the contract of farm_agent.scenario the moment it exists."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import ModuleType

import pytest
from farm_agent import plugins
from farm_agent.runtime import Option, OptionError, check_options

from tests.agents import subjects

FOLDER = "farm_agent.scenarios"
NAMES = plugins.names(FOLDER)


def scenario(name: str) -> ModuleType:
    return plugins.load(FOLDER, name)


def test_the_folder_is_not_empty() -> None:
    assert {"paced", "single_stream"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_its_docstring_shows_the_yaml_and_ends_with_its_final_figure(name: str) -> None:
    text = inspect.getdoc(scenario(name)) or ""

    assert f"scenario: {name}\n" in text
    assert "Verified on:" in text
    assert text.split("\n\n")[-1].startswith("Final figure: `")


@pytest.mark.parametrize("name", NAMES)
def test_its_options_are_described_and_their_defaults_are_valid(name: str) -> None:
    options = scenario(name).OPTIONS

    assert all(isinstance(option, Option) and option.doc for option in options)
    assert set(check_options(options, {}, name)) == {option.name for option in options}


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_option_is_refused(name: str) -> None:
    with pytest.raises(OptionError, match="has no option 'no_such_option'"):
        check_options(scenario(name).OPTIONS, {"no_such_option": 1}, f"scenario {name!r}")


@pytest.mark.parametrize("name", NAMES)
def test_its_due_times_rise_and_move_with_the_start(name: str) -> None:
    options = check_options(scenario(name).OPTIONS, {}, name)

    now, later = scenario(name).schedule(options, 0), scenario(name).schedule(options, 5_000)

    assert (now is None) == (later is None)
    if now is not None:
        assert [later(n) - now(n) for n in range(100)] == [5_000] * 100
        assert all(now(n) < now(n + 1) for n in range(100))


@pytest.mark.parametrize("name", NAMES)
def test_a_subject_runs_it_to_its_end(tmp_path: Path, name: str) -> None:
    ended = subjects.run(tmp_path, {"latency_us": 50}, scenario=name)

    assert ended.facts["n_timed"] >= 3
    assert len(ended.column("latency_ns")) == ended.facts["n_timed"]
    assert ended.facts["scenario_options"] == check_options(scenario(name).OPTIONS, {}, name)
