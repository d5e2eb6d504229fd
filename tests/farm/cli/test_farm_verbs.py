"""The verbs of a farm from afar, against its real API: sign in, look, and run a lab."""

from __future__ import annotations

import io
import json
import stat
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from farm.domain import Role
from farm.store import tokens
from farm.store.db import open_store
from tests.farm.api import live

Typed = Callable[..., Any]


@pytest.fixture
def api(home: Path, _sqlite_template: Path) -> Iterator[live.Live]:
    import shutil

    shutil.copy(_sqlite_template, home / "served.db")
    store = open_store(f"sqlite:///{home}/served.db", home / "blobs", upgrade=False)
    with live.serve(store, home) as served:
        yield served
    store.close()


@pytest.fixture
def as_admin(api: live.Live, monkeypatch: pytest.MonkeyPatch) -> live.Live:
    monkeypatch.setenv("FARM_URL", api.url)
    monkeypatch.setenv("FARM_TOKEN", api.secrets["admin"])
    return api


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """What stdin gives."""
    return lambda text: monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def _kept(home: Path) -> Path:
    return home / ".config" / "benchfarm" / "credentials.json"


def test_login_keeps_url_and_token_for_this_user_alone(
    typed: Typed, api: live.Live, home: Path, piped: Callable[[str], None]
) -> None:
    piped(f"  {api.secrets['vision-ci']}\n")
    found = typed("login", f"{api.url}/api/v1/", "--token-stdin")
    assert (found.code, found.out) == (0, "")
    assert f"Signed in to {api.url} as vision-ci: role ci, project vision." in found.err
    assert stat.S_IMODE(_kept(home).stat().st_mode) == 0o600
    assert json.loads(_kept(home).read_text()) == {"version": 1, "url": api.url, "token": api.secrets["vision-ci"]}
    assert api.secrets["vision-ci"] not in found.err
    assert [path.name for path in _kept(home).parent.iterdir()] == ["credentials.json"]
    assert typed("jobs").err == "No job yet. Submit one: farm submit MODEL --on SELECTOR\n"
    assert (typed("logout").err, typed("logout").err) == ("Signed out.\n", "Nobody was signed in.\n")
    assert not _kept(home).exists()


@pytest.mark.parametrize(
    ("words", "stdin", "told"),
    [
        ([], "", "Which farm? Give its URL"),
        (["http://farm.lab"], "bf_x", "is http:// to another machine"),
        (["farm.lab"], "bf_x", "not an address alone"),
        (["https://ann:hunter2@farm.lab"], "bf_x", "holds a user name or a password"),
        (["https://farm.lab?token=hunter2"], "bf_x", "not an address alone"),
        (["https://farm.lab:port"], "bf_x", "Invalid port"),
        (["URL"], "", "The token is empty"),
        (["URL"], "bf_ci_wrong\n", "NotSignedIn"),
    ],
)
def test_a_login_that_cannot_be_keeps_nothing(
    typed: Typed,
    api: live.Live,
    home: Path,
    piped: Callable[[str], None],
    words: list[str],
    stdin: str,
    told: str,
) -> None:
    piped(stdin)
    found = typed("login", *[api.url if word == "URL" else word for word in words], "--token-stdin", "--json")
    assert found.code == 2
    found = typed("login", *[api.url if word == "URL" else word for word in words], "--token-stdin")
    assert (found.code, _kept(home).exists(), "hunter2" in found.err) == (2, False, False)
    if told != "NotSignedIn":
        assert told in found.err


def test_where_nobody_can_be_asked_login_says_what_to_do(
    typed: Typed, api: live.Live, piped: Callable[[str], None]
) -> None:
    piped("")
    found = typed("login", api.url)
    assert (found.code, "--token-stdin" in found.err, "FARM_TOKEN" in found.err) == (2, True, True)


def test_a_kept_token_never_goes_to_another_farm(typed: Typed, home: Path) -> None:
    _kept(home).parent.mkdir(parents=True)
    _kept(home).write_text('{"version": 1, "url": "https://farm.lab", "token": "bf_ci_secret"}')
    found = typed("jobs", "--url", "https://elsewhere.example")
    assert found.code == 2
    assert "There is no token for the farm at 'https://elsewhere.example': FARM_TOKEN is not set" in found.err


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"version": 2, "url": "x", "token": "y"}', "\x00"])
def test_a_file_that_is_none_of_ours_is_told(typed: Typed, home: Path, text: str) -> None:
    _kept(home).parent.mkdir(parents=True)
    _kept(home).write_text(text)
    found = typed("jobs")
    assert (found.code, "Sign in again: `farm login URL`" in found.err) == (2, True)


def test_without_any_farm_it_says_how_to_name_one(typed: Typed) -> None:
    found = typed("submit", "m.onnx", "--on", "virtual")
    assert (found.code, "farm login URL" in found.err, "FARM_URL and FARM_TOKEN" in found.err) == (2, True, True)


def test_an_empty_token_says_that_a_forks_pipeline_has_none(
    typed: Typed, as_admin: live.Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FARM_TOKEN", "")
    found = typed("jobs")
    assert (found.code, "a pipeline of a fork gets no secrets" in found.err) == (2, True)


def test_the_variable_of_the_token_is_no_stranger_and_is_not_shown(
    typed: Typed, as_admin: live.Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FARM_TOKN", "x")
    found = typed("settings")
    assert as_admin.secrets["admin"] not in found.out + found.err
    assert as_admin.url in found.out
    assert found.err == (
        "Warning: Environment variable FARM_TOKN is not a setting of benchfarm and was ignored."
        " Did you mean 'FARM_TOKEN'?\n"
    )


def test_a_farm_that_is_http_on_another_machine_gets_nothing(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARM_TOKEN", "bf_ci_secret")
    found = typed("jobs", "--url", "http://farm.invalid")
    assert (found.code, "Nothing was sent" in found.err) == (2, True)


def test_jobs_are_listed_with_their_place_and_shown_one_by_one(typed: Typed, as_admin: live.Live) -> None:
    first, second = (as_admin.submit(on="pi5-a", model=name, commit="abc") for name in ("one", "two"))
    rows = [line.split() for line in typed("jobs").out.splitlines() if line.startswith("01")]
    assert [(row[0], row[3]) for row in rows] == [(second["id"][:13], "two"), (first["id"][:13], "one")]
    assert [row[row.index("place") + 1][0] for row in rows] == ["2", "1"]
    assert [job["id"] for job in json.loads(typed("jobs", "--limit", "1", "--json").out)["jobs"]] == [second["id"]]
    assert [job["model"] for job in json.loads(typed("jobs", "--model", "one", "--json").out)["jobs"]] == ["one"]
    assert typed("jobs", "--state", "done").err == "No job fits.\n"
    assert "queued, running, done" in typed("jobs", "--state", "gone").err
    shown = typed("job", "show", first["id"])
    assert shown.code == 0
    assert "mobilenet.fake, sha256" in shown.out
    assert "queued at place 1" in shown.out
    assert json.loads(typed("job", "show", first["id"], "--json").out)["queue"]["position"] == 1
    assert typed("job", "show", "0000").code == 2
    assert typed("job", "wait", "0000", "--junit", "j.xml").code == 2
    assert 'type="NotFound"' in Path("j.xml").read_text()


def test_a_job_is_cancelled_told_and_tried_again(typed: Typed, as_admin: live.Live) -> None:
    job = as_admin.submit(on="pi5-a")["id"]
    assert typed("job", "cancel", job).out == f"{job}\n"
    again = typed("job", "cancel", job)
    assert (again.code, "is cancelled" in again.err) == (0, True)
    assert [line.split("  ", 1)[1] for line in typed("job", "logs", job, "--follow").out.splitlines()] == [
        "in the queue",
        "admin asked for its end",
        "over: CANCELLED",
    ]
    kinds = [json.loads(line)["kind"] for line in typed("job", "logs", job, "-f", "--json").out.splitlines()]
    assert kinds == ["submitted", "cancel", "cancelled"]
    assert len(json.loads(typed("job", "logs", job, "--json").out)["events"]) == 3
    waited = typed("job", "wait", job, "--junit", "j.xml")
    assert (waited.code, waited.out.splitlines()[0], Path("j.xml").exists()) == (5, "CANCELLED", True)
    fresh = json.loads(typed("job", "retry", job, "--json").out)
    assert (fresh["retry_of"], fresh["state"]) == (job, "queued")
    assert (
        json.loads(typed("job", "wait", fresh["id"], "--wait-limit-s", "0.2", "--json").out)["verdict"] == "UNDECIDED"
    )


def test_tokens_are_made_rotated_listed_and_revoked(typed: Typed, as_admin: live.Live) -> None:
    made = typed("tokens", "create", "github", "--project", "vision", "--expires", "90d")
    assert (made.code, made.out.startswith("bf_ci_")) == (0, True)
    assert tokens.find(as_admin.store, made.out.strip(), live.NOW).role is Role.CI
    rows = json.loads(typed("tokens", "list", "--json").out)["tokens"]
    (row,) = [row for row in rows if row["name"] == "github"]
    assert row["project"] == "vision"
    assert datetime.fromisoformat(row["expires_at"]) == datetime(2026, 5, 30, 12, 0, tzinfo=UTC)
    rotated = json.loads(typed("tokens", "rotate", row["id"], "--grace", "0", "--json").out)
    assert rotated["secret"].startswith("bf_ci_")
    assert typed("tokens", "revoke", rotated["id"]).code == 0
    assert "revoked" in next(line for line in typed("tokens", "list").out.splitlines() if rotated["id"] in line)
    for words in (["--role", "king"], ["--expires", "soon"], ["--expires", "-1d"]):
        assert typed("tokens", "create", "x", *words).code == 2


def test_boards_are_those_of_the_farm_unless_the_local_ones_are_asked_for(typed: Typed, as_admin: live.Live) -> None:
    assert [one["name"] for one in json.loads(typed("boards", "--json").out)["boards"]] == ["pi5-a"]
    assert "raspberrypi" in typed("boards").out
    assert [one["board"] for one in json.loads(typed("boards", "--local", "--json").out)["boards"]] == ["local"]


@pytest.mark.parametrize(
    ("verb", "state", "health"),
    [
        ("drain", ("draining", "maintenance"), "good"),
        ("maintain", ("maintenance",), "good"),
        ("retire", ("retired",), "good"),
        ("quarantine", ("idle",), "quarantined"),
        ("check", ("idle",), "unknown"),
        ("ready", ("idle",), "good"),
    ],
)
def test_a_board_is_told_what_the_lab_wants_of_it(
    typed: Typed, as_admin: live.Live, verb: str, state: tuple[str, ...], health: str
) -> None:
    words = [] if verb in ("ready", "check") else ["--yes"]
    found = typed("board", verb, "pi5-a", "--note", "new fan", *words, "--json")
    assert found.code == 0, found.err
    told = json.loads(found.out)
    assert told["state"] in state
    assert told["health"] == health
    shown = typed("board", "show", "pi5-a")
    assert (shown.code, "8 GB" in shown.out, "bench@10.0.0.5:22" in shown.out) == (0, True, True)
    actions = [one["action"] for one in json.loads(typed("changes", "--limit", "1", "--json").out)["changes"]]
    assert len(actions) == 1
    assert "pi5-a" in typed("changes").out


def test_workers_are_listed_and_drained(typed: Typed, as_admin: live.Live) -> None:
    assert "lab1:7:ab" in typed("workers").out
    assert typed("workers", "drain", "lab1:7:ab").code == 0
    assert json.loads(typed("workers", "list", "--json").out)["workers"][0]["draining"] is True
    assert json.loads(typed("workers", "--json").out)["workers"][0]["draining"] is True
    assert typed("workers", "drain", "nobody").code == 2


def test_what_a_token_may_not_do_is_told(typed: Typed, api: live.Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARM_URL", api.url)
    monkeypatch.setenv("FARM_TOKEN", api.secrets["vision-ci"])
    for words in (["workers"], ["changes"], ["tokens", "list"], ["board", "drain", "pi5-a"]):
        found = typed(*words)
        assert (found.code, "its role is ci" in found.err) == (2, True)
