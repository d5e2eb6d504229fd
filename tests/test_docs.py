"""The docs name everything that a person can type, set, choose or be told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from farm_agent import plugins

from farm import errors, settings
from farm.__main__ import EXIT_CODES, EXTRAS
from farm.cli.app import SETTING_FLAGS, app

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def _page(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


def _verbs() -> list[str]:
    command = typer.main.get_command(app)
    found = []
    for name, verb in command.commands.items():  # type: ignore[attr-defined]
        nouns = getattr(verb, "commands", None)
        found += [f"farm {name} {noun}" for noun in nouns] if nouns else [f"farm {name}"]
    return found


def _errors() -> list[type[errors.FarmError]]:
    return [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.FarmError)]


def test_every_verb_is_on_the_page_of_the_command_line() -> None:
    page = _page("cli.md")
    assert [verb for verb in _verbs() if not re.search(rf"`{verb}\b", page)] == []


def test_no_verb_on_that_page_is_made_up() -> None:
    known = _verbs()
    named = set(re.findall(r"`(farm [a-z]+)(?: ([a-z]+))?", _page("cli.md")))
    assert sorted(verb for verb, noun in named if verb not in known and f"{verb} {noun}" not in known) == []


@pytest.mark.parametrize("key", sorted(settings.Settings.model_fields))
def test_every_setting_is_a_flag_and_on_the_page_of_settings(key: str) -> None:
    assert "--" + key.replace("_", "-") in SETTING_FLAGS
    assert f"\n| `{key}` |" in _page("settings.md")


def test_every_flag_of_a_setting_is_a_setting() -> None:
    keys = {flag[2:].replace("-", "_") for flag in SETTING_FLAGS}
    assert keys - {"config"} == set(settings.Settings.model_fields)


def test_every_error_is_on_its_page_with_its_exit_code() -> None:
    page = _page("errors.md")
    rows = dict(re.findall(r"^\| `(\w+)` \| (\d+) \|", page, re.MULTILINE))
    nearest = {
        kind.__name__: str(next(EXIT_CODES[one] for one in kind.__mro__ if one in EXIT_CODES)) for kind in _errors()
    }
    assert rows == nearest


def test_every_exit_code_is_on_the_page_of_the_command_line() -> None:
    rows = re.findall(r"^\| (\d+) \|", _page("cli.md"), re.MULTILINE)
    assert sorted(map(int, rows)) == sorted(set(EXIT_CODES.values()))


@pytest.mark.parametrize(
    ("kind", "package"),
    [
        ("transport", "farm.transports"),
        ("runtime", "farm_agent.runtimes"),
        ("scenario", "farm_agent.scenarios"),
        ("sensor", "farm_agent.sensors"),
        ("board family", "farm_agent.boards"),
        ("plot", "farm_dashboards.plots"),
    ],
)
def test_every_file_of_a_plural_folder_is_on_the_page_of_plugins_and_nothing_else(kind: str, package: str) -> None:
    rows = re.findall(rf"^\| {kind} \| `(\w+)` \|", _page("plugins.md"), re.MULTILINE)
    assert sorted(rows) == plugins.names(package)


def test_every_field_of_a_plan_is_on_its_page() -> None:
    from farm_agent import wire

    page = _page("plans.md")
    assert [name for name in wire.Plan.__annotations__ if f"`{name}`" not in page] == []


def test_every_link_between_pages_leads_somewhere() -> None:
    broken = [
        (page.name, target)
        for page in [*DOCS.rglob("*.md"), *ROOT.glob("*.md")]
        for target in re.findall(r"\]\(([^)#\s:]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
        if not (page.parent / target).exists()
    ]
    assert broken == []


def test_every_extra_that_a_message_names_is_one_of_ours() -> None:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    assert [extra for extra in set(EXTRAS.values()) if f"\n{extra} = [" not in text] == []


def test_every_test_that_a_page_names_is_there() -> None:
    named = {
        found
        for page in [*DOCS.rglob("*.md"), *ROOT.glob("*.md")]
        for found in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page.read_text("utf-8"))
    }
    gone = [f"{path}::{name}" for path, name in sorted(named) if not _has_test(ROOT / path, name)]
    assert gone == []
    assert len({name for path, name in named if path.startswith("tests/faults/")}) > 20  # the page of reliability.md


def _has_test(path: Path, name: str) -> bool:
    return path.is_file() and re.search(rf"^def {name}\(", path.read_text("utf-8"), re.MULTILINE) is not None
