"""What every file of notifiers/ must have and do: tested from the moment it exists."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest
from farm_agent import plugins

from farm import channels, notifier
from farm.errors import DeliveryFailed
from tests.farm.notifiers.receiver import NOW, SECRET, client, notice, running, says

NAMES = plugins.names("farm.notifiers")
PAGE = (Path(__file__).parents[2] / "docs" / "notifiers.md").read_text("utf-8")


class AnyVariable(dict[str, str]):
    """An environment in which each variable holds the same secret."""

    def get(self, key: str, default: object = None) -> str:
        return SECRET


@pytest.fixture(params=NAMES)
def module(request: pytest.FixtureRequest) -> ModuleType:
    return plugins.load("farm.notifiers", request.param)


def name_of(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]


def example_of(module: ModuleType) -> notifier.Channel:
    """What the YAML of its docstring reads as."""
    lines = [line[2:] for line in (module.__doc__ or "").splitlines() if line.startswith("    ")]
    (found,) = channels.parse("version: 1\nnotifiers:\n" + "\n".join(lines), "docstring", AnyVariable())
    return found


def test_its_documentation_says_what_to_write_its_source_and_what_verified_it(module: ModuleType) -> None:
    assert example_of(module).kind == name_of(module)
    assert "\nSource: " in (module.__doc__ or "")
    assert re.search(r"^Verified on a (stand-in|real \w+): ", module.__doc__ or "", re.MULTILINE)


def test_it_has_what_a_notifier_has(module: ModuleType) -> None:
    assert all(callable(getattr(module, name)) for name in ("check", "check_secret", "deliver"))
    assert module.OPTIONS
    assert all(isinstance(text, str) and text and "\n" not in text for text in module.OPTIONS.values())


def test_it_and_each_of_its_options_are_on_the_page_and_nothing_else(module: ModuleType) -> None:
    (section,) = re.findall(rf"^## {name_of(module)}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    table = section.split("| option | meaning |\n|---|---|\n")[1].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(module.OPTIONS)


def test_options_of_the_wrong_kind_are_told_and_no_crash(module: ModuleType) -> None:
    values: tuple[object, ...] = (None, 1, True, "x", [], [1], {}, {"a": []}, float("nan"))
    for value in values:
        with pytest.raises(notifier.OptionsWrong) as caught:
            module.check(dict.fromkeys(module.OPTIONS, value))
        assert set(caught.value.mistakes) <= set(module.OPTIONS)


def test_a_receiver_that_breaks_is_tried_again_and_one_that_works_is_not(module: ModuleType) -> None:
    options = dict(example_of(module).options)
    with running(says(503), says(201)) as receiver, client() as found:
        options["url" if "url" in module.OPTIONS else "api_url"] = receiver.url
        with pytest.raises(DeliveryFailed):
            module.deliver(notice(), options, client=found, secret=SECRET, now=NOW)
        module.deliver(notice(), options, client=found, secret=SECRET, now=NOW)
    first, second = receiver.requests
    assert (first.path, first.body) == (second.path, second.body)


def test_each_notice_is_on_the_page_and_nothing_else() -> None:
    assert re.findall(r"^\| `([a-z]+\.[a-z]+)` \|", PAGE, re.MULTILINE) == list(notifier.KINDS)


def test_the_example_on_the_page_is_a_good_file() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    found = channels.parse(example, "page", AnyVariable())
    assert [channel.kind for channel in found] == ["webhook", "github"]
