"""Every file of runtimes/ keeps the contract of farm_agent.runtime the moment it exists."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from farm_agent import plugins
from farm_agent.runtime import Option, OptionError, check_options

from tests.agents import subjects

FOLDER = "farm_agent.runtimes"
NAMES = plugins.names(FOLDER)


def runtime(name: str) -> ModuleType:
    return plugins.load(FOLDER, name)


def test_the_folder_is_not_empty() -> None:
    assert {"fake", "litert", "onnxruntime"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_its_docstring_shows_the_yaml_and_what_it_was_verified_on(name: str) -> None:
    text = inspect.getdoc(runtime(name)) or ""

    assert f"runtime: {name}\n" in text
    assert "options: {" in text
    assert "Verified on:" in text


@pytest.mark.parametrize("name", NAMES)
def test_its_options_are_described_and_their_defaults_are_valid(name: str) -> None:
    options = runtime(name).OPTIONS

    assert all(isinstance(option, Option) and option.doc for option in options)
    assert check_options(options, {}, name) == {option.name: option.default for option in options}
    assert check_options(options, {}, name)["threads"] == 1


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_option_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(OptionError, match=r"has no option 'no_such_option'; known: .*threads"):
        check_options(runtime(name).OPTIONS, {"no_such_option": 1}, f"runtime {name!r}")


@pytest.mark.parametrize("name", NAMES)
def test_no_other_runtime_claims_its_file_names(name: str) -> None:
    others = {suffix for other in NAMES if other != name for suffix in runtime(other).SUFFIXES}

    assert runtime(name).SUFFIXES
    assert all(suffix.startswith(".") for suffix in runtime(name).SUFFIXES)
    assert not others & set(runtime(name).SUFFIXES)


@pytest.mark.parametrize("name", NAMES)
def test_reading_its_options_imports_no_library(name: str) -> None:
    code = f"import sys; from {FOLDER} import {name}; print(sorted(sys.modules))"

    imported = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    ).stdout

    assert not {"numpy", "onnxruntime", "ai_edge_litert"} & set(eval(imported))


@pytest.mark.parametrize("name", NAMES)
def test_it_is_present_with_a_version_or_absent_with_a_reason(name: str) -> None:
    probed = probe(name, Path(sys.executable), "-c")

    assert probed["version" if probed["present"] else "reason"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("python", subjects.BARE_PYTHONS[:1], ids=lambda path: path.parts[-3])
def test_where_its_library_is_missing_it_is_absent_and_says_what_to_install(
    tmp_path: Path, name: str, python: Path
) -> None:
    probed = probe(name, python, "-Ic")
    ended = subjects.run(tmp_path, {}, runtime=name, python=python)

    if probed["present"]:  # fake needs no library
        assert ended.status == 0
        return
    assert "pip install" in probed["reason"]
    assert (ended.failed["stage"], ended.failed["kind"]) == ("runtime", "runtime_absent")
    assert ended.failed["blame"] == "input"
    assert "pip install" in ended.failed["text"]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_zero_bytes_is_the_artifacts_failure(tmp_path: Path, name: str) -> None:
    suffix = runtime(name).SUFFIXES[0]

    failed = subjects.run(tmp_path, b"", entry="model" + suffix, runtime=name).failed

    assert (failed["stage"], failed["kind"], failed["blame"]) == ("load", "load_error", "artifact")


def probe(name: str, python: Path, flag: str) -> dict[str, Any]:
    agents = Path(plugins.__file__).parents[1]
    code = f"import sys; sys.path.insert(0, {str(agents)!r}); import json; from {FOLDER} import {name}; "
    code += f"print(json.dumps({name}.probe()))"
    command = [str(python), flag, code]
    ended = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=30, env=subjects.ENVIRONMENT, cwd="/"
    )
    probed = json.loads(ended.stdout.splitlines()[-1])
    assert isinstance(probed, dict)
    return probed
