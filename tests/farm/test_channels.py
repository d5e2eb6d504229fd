"""notifiers.yaml: every mistake is reported with its line, no secret is ever shown; a good one becomes Channels."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm import channels, settings
from farm.errors import InputError
from farm.notifier import Channel
from tests.farm.notifiers.receiver import SECRET, TOKEN

ENVIRON = {"HOOK_SECRET": SECRET, "GITHUB_TOKEN": TOKEN, "SHORT": "hunter2", "EMPTY": ""}


def mistakes_of(text: str | bytes) -> list[str]:
    """The lines that the error says, without the first."""
    with pytest.raises(InputError) as caught:
        channels.parse(text, "n.yaml", ENVIRON)
    assert SECRET not in str(caught.value)
    assert TOKEN not in str(caught.value)
    assert "hunter2" not in str(caught.value)
    return str(caught.value).split("\n")[1:]


def of_one(*lines: str) -> str:
    """A file with one notifier of these lines; the first is line 3."""
    return "version: 1\nnotifiers:\n  - " + "\n    ".join(lines) + "\n"


def of_hook(*lines: str, options: str = '{url: "https://a.example"}') -> str:
    """A webhook named a with these lines more; the first is line 6."""
    return of_one("name: a", "kind: webhook", f"options: {options}", *lines)


def test_every_mistake_is_reported_at_once_and_in_order() -> None:
    text = of_one("name: Hook", "kind: pigeon", "on: job.done", "secrets: x", "projects: []", "secret_env: NONE")
    assert [line.split(": ")[0] for line in mistakes_of(text)] == [f"n.yaml:{n}" for n in (3, 4, 5, 6, 7, 8)]


def test_every_wrong_option_is_reported_with_its_own_line() -> None:
    text = of_one("name: a", "kind: github", "options:", "  repositories: acme/vision", "  app_id: x", "  api_url: 1")
    assert mistakes_of(text) == [
        "n.yaml:6: notifier 'a': option installation_id is missing beside app_id. Add the number that GitHub shows.",
        "n.yaml:6: notifier 'a': option repositories is 'acme/vision'. Make it a list, such as [owner/name].",
        "n.yaml:7: notifier 'a': option app_id is 'x'. Write the number that GitHub shows.",
        "n.yaml:8: notifier 'a': option api_url is no URL. Write it as https://host/path.",
    ]


def test_the_message_counts_the_mistakes_and_names_the_file() -> None:
    with pytest.raises(InputError, match=r"^Notifiers n\.yaml has a mistake:\nn\.yaml:1: the notifiers: `version`"):
        channels.parse("notifiers: []\n", "n.yaml", {})


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("version: 1\nnotifiers:\n  - {name: a", 3, "this is not YAML"),
        ("", 1, "holds nothing"),
        ("just words", 1, "'just words' is here"),
        ("version: 1\n", 1, "`notifiers` is missing"),
        ("version: 1\nnotifiers: {a: b}\n", 2, "`notifiers` is a mapping"),
        ("version: 2\nnotifiers: []\n", 1, "version is '2'; this benchfarm reads version 1"),
        ("version: 1\nnotifiers: [17]\n", 2, "'17' is here"),
        ("version: 1\nnotifiers: [{}]\n", 2, "`name` is missing"),
        ("version: 1\nnotifiers: [{? [x] : y}]\n", 2, "`kind` is missing"),
        ("version: 1\nnotifiers: &a [*a]\n", 2, "a list is here"),
        (of_hook("kind: webhook"), 6, "line 4 gave the key 'kind' already"),
        (of_one("name: a", "kind: webhok"), 4, "kind is 'webhok'; there is no such kind; did you mean 'webhook'?"),
        (of_hook("on: [job.dnoe]"), 6, "on is 'job.dnoe'; there is no such notice; did you mean 'job.done'?"),
        (of_hook("on: []"), 6, "on is an empty list; a list is needed"),
        (of_hook("on: [[job.done]]"), 6, "on is a list; a text is needed"),
        (of_hook("projects: [1]"), 6, "projects is '1'; a text is needed"),
        (of_hook(options="[url]"), 5, "options is a list; a mapping is needed"),
        (of_hook(options="&x {url: *x}"), 5, "options is a mapping; at most 8 levels are read"),
        (of_hook(options="{ulr: x}"), 5, "kind webhook has no option 'ulr'; did you mean 'url'?"),
        (of_one("name: a", "kind: webhook"), 3, "option url is missing. Add the https:// URL of the receiver."),
        (of_hook(options="{url: 'http://a.example'}"), 5, "option url is http:// to another machine"),
        (of_one("name: a", "kind: github", "options: {repositories: [a/b]}"), 3, "secret_env is missing"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_line(text: str, line: int, words: str) -> None:
    found = [one for one in mistakes_of(text) if words in one]
    assert [one.split(": ")[0] for one in found] == [f"n.yaml:{line}"]


def test_two_of_one_name_are_refused_at_the_second() -> None:
    one = '  - {name: a, kind: webhook, options: {url: "https://a.example"}}\n'
    assert mistakes_of("version: 1\nnotifiers:\n" + one + one) == [
        "n.yaml:4: notifier 'a': line 3 gave this name already. Give each its own."
    ]


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("UNSET", "secret_env names a variable that is not set here"),
        ("EMPTY", "secret_env names a variable that is not set here"),
        ("SHORT", "secret_env names one of under 16 characters"),
        (SECRET, "secret_env is not the name of a variable"),
        (TOKEN, "secret_env is not the name of a variable"),
        (f"[{TOKEN}]", "secret_env is not the name of a variable"),
        ("${HOOK_SECRET}", "secret_env is not the name of a variable"),
    ],
)
def test_a_secret_that_cannot_be_used_is_told_without_showing_what_was_written(written: str, words: str) -> None:
    (line,) = mistakes_of(of_hook(f"secret_env: {written}"))
    assert line.startswith(f"n.yaml:6: notifier 'a': {words}")
    assert written not in line


def test_a_secret_in_the_file_is_refused_without_being_shown() -> None:
    (key,) = mistakes_of(of_hook(f"secret: {SECRET}"))
    assert key.startswith("n.yaml:6: notifier 'a': unknown key 'secret'; did you mean 'secret_env'?")
    (option,) = mistakes_of(of_hook(options=f'{{url: "https://a.example", secret: {SECRET}}}'))
    assert option.startswith("n.yaml:5: notifier 'a': kind webhook has no option 'secret'")


def test_a_file_that_is_not_there_is_an_error_with_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"No such file or directory.*\nversion: 1\nnotifiers: \[\]"):
        channels.load(tmp_path / "none.yaml", {})


def test_the_file_is_found_here_then_beside_the_settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "etc"))
    monkeypatch.chdir(tmp_path)
    assert settings.load({}, {}).notifiers is None
    (tmp_path / "etc" / "benchfarm").mkdir(parents=True)
    (tmp_path / "etc" / "benchfarm" / "notifiers.yaml").touch()
    assert settings.load({}, {}).notifiers == tmp_path / "etc" / "benchfarm" / "notifiers.yaml"
    (tmp_path / "notifiers.yaml").touch()
    assert settings.load({}, {}).notifiers == Path("notifiers.yaml")
    assert settings.load({}, {"FARM_NOTIFIERS": "/srv/told.yaml"}).notifiers == Path("/srv/told.yaml")


def test_without_a_file_and_with_an_empty_list_nobody_is_told() -> None:
    assert channels.load(None, {}) == ()
    assert channels.parse("version: 1\nnotifiers: []\n", "n.yaml", {}) == ()


def test_a_whole_file_is_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "notifiers.yaml"
    path.write_text(
        """
version: 1
notifiers:
  - name: ci-hook
    kind: webhook
    on: [job.done, board.quarantined]
    projects: [default, "vision"]
    secret_env: HOOK_SECRET
    options: {url: "http://10.0.0.5/hook", insecure: true}
  - name: plain
    kind: webhook
    options: {url: "https://a.example"}
  - name: github
    kind: github
    secret_env: GITHUB_TOKEN
    options:
      repositories: [acme/vision]
"""
    )
    assert channels.load(path, ENVIRON) == (
        Channel(
            name="ci-hook",
            kind="webhook",
            on=("job.done", "board.quarantined"),
            projects=("default", "vision"),
            options={"url": "http://10.0.0.5/hook", "insecure": True},
            secret=SECRET,
        ),
        Channel(name="plain", kind="webhook", options={"url": "https://a.example"}),
        Channel(name="github", kind="github", options={"repositories": ["acme/vision"]}, secret=TOKEN),
    )


def test_the_example_in_the_docstring_is_a_good_file() -> None:
    example = (channels.__doc__ or "").split("any of them.\n")[1].split("Without the file")[0]
    found = channels.parse(example, "doc", {"BENCHFARM_HOOK_SECRET": SECRET})
    assert [channel.name for channel in found] == ["ci-hook"]
