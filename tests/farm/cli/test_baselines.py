"""`farm baselines`: set, list, history, pin, unpin and remove, against the farm's real API."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from farm.store import baselines
from farm.store.db import open_store
from tests.farm.api import live
from tests.farm.api.gates import measured
from tests.farm.api.live import MODEL_SHA

Typed = Callable[..., Any]


@pytest.fixture
def api(home: Path, _sqlite_template: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[live.Live]:
    """A farm to which an engineer is signed in."""
    shutil.copy(_sqlite_template, home / "served.db")
    store = open_store(f"sqlite:///{home}/served.db", home / "blobs", upgrade=False)
    with live.serve(store, home) as served:
        monkeypatch.setenv("FARM_URL", served.url)
        monkeypatch.setenv("FARM_TOKEN", served.secrets["vision-engineer"])
        yield served
    store.close()


def listed(typed: Typed, *words: str) -> list[dict[str, Any]]:
    return json.loads(typed("baselines", *words, "--json").out)["baselines"]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["set", "net"], "Give --job JOB or --artifact SHA256, or --follow BRANCH"),
        (["set", "net", "--pin"], "needs something to be"),
        (["set", "net", "--artifact", "abc"], "'artifact' is 'abc'"),
        (["set", "net", "--job", "0199", "--name", "Prod uction"], "'name' is 'Prod uction'"),
        (["set", "net", "--follow", "main", "--plan-hash", "xyz"], "'plan_hash' is 'xyz'"),
        (["set", "net", "--follow", "a\nb"], "'follows' is 'a\\nb'"),
        (["set", "net", "--job", "0199"], "Job '0199' is not known"),
        (["set", "net", "--artifact", "0" * 64], "is not known to the project"),
        (["set", "net", "--follow", "main"], "Baseline 'default' of model 'net' is not set"),
        (["pin", "net"], "is not set"),
        (["unpin", "net", "--name", "gold"], "Baseline 'gold' of model 'net' is not set"),
        (["remove", "net"], "is not set"),
        (["remove", ".."], "nothing of the name '..'"),
        (["history", "net"], "is not known. `farm baselines list` shows"),
    ],
)
def test_what_cannot_be_is_told_and_changes_nothing(typed: Typed, api: live.Live, words: list[str], told: str) -> None:
    found = typed("baselines", *words)
    assert (found.code, found.out, told in found.err) == (2, "", True), found.err
    assert baselines.current(api.store, None) == []


def test_a_ci_token_may_look_and_nothing_else(typed: Typed, api: live.Live, monkeypatch: pytest.MonkeyPatch) -> None:
    job = measured(api)["id"]
    assert typed("baselines", "set", "mobilenet", "--job", job).code == 0
    monkeypatch.setenv("FARM_TOKEN", api.secrets["vision-ci"])
    assert (len(listed(typed, "list")), len(listed(typed, "history", "mobilenet"))) == (1, 1)
    for words in (["set", "mobilenet", "--job", job], ["pin", "mobilenet"], ["remove", "mobilenet"]):
        found = typed("baselines", *words)
        assert (found.code, "its role is ci" in found.err) == (2, True)
    monkeypatch.setenv("FARM_TOKEN", api.secrets["audio-engineer"])
    assert listed(typed, "list") == []
    assert typed("baselines", "remove", "mobilenet").code == 2


def test_a_baseline_lives_from_its_job_to_its_end_and_all_of_it_is_told(typed: Typed, api: live.Live) -> None:
    job = measured(api, commit="0a1b2c3d4e5f67", on="family=raspberrypi")["id"]
    words = ["mobilenet", "--name", "deployed"]
    made = typed("baselines", "set", *words, "--job", job[:20], "--follow", "main", "--note", "release 7")
    assert made.code == 0, made.err
    assert typed("baselines", "pin", *words, "--note", "audit").code == 0
    row = typed("baselines", "list").out.splitlines()[1]
    seen = ("mobilenet", "deployed", "family=raspberrypi", "mobilenet.fake", MODEL_SHA[:8], "0a1b2c3d4e5f", "pi5-a")
    assert [part for part in (*seen, "main (pinned)", "vision-engineer", "2026-03-01 12:00") if part not in row] == []
    assert typed("baselines", "unpin", *words).code == 0
    (one,) = listed(typed, "list", "mobilenet")
    assert (one["pinned"], one["follows"], one["job"]) == (False, "main", job)
    gone = typed("baselines", "remove", *words)
    assert (gone.code, gone.out, gone.err) == (0, "", "Baseline 'deployed' of mobilenet is removed.\n")
    assert (listed(typed, "list"), listed(typed, "list", "resnet")) == ([], [])
    history = listed(typed, "history", *words)
    assert [one["note"] for one in history] == ["removed", "", "audit", "release 7"]
    assert "removed" in typed("baselines", "history", *words).out.splitlines()[1]


def test_one_of_several_is_named_by_its_boards_and_its_plan(typed: Typed, api: live.Live) -> None:
    for seconds in (2, 3):
        job = measured(api, plan={"duration_s": seconds})["id"]
        assert typed("baselines", "set", "mobilenet", "--job", job).code == 0
    found = typed("baselines", "pin", "mobilenet", "--on", "")
    assert (found.code, "is set 2 times" in found.err) == (2, True)
    plans = [one["plan_hash"] for one in listed(typed, "list")]
    assert all(plan[:8] in typed("baselines", "list").out for plan in plans)
    assert typed("baselines", "pin", "mobilenet", "--plan-hash", plans[1][:8]).code == 0
    assert {one["plan_hash"]: one["pinned"] for one in listed(typed, "list")} == {plans[0]: False, plans[1]: True}
    assert typed("baselines", "remove", "mobilenet", "--on", "", "--plan-hash", plans[0]).code == 0
    assert [one["plan_hash"] for one in listed(typed, "list")] == [plans[1]]


def test_a_model_with_a_slash_in_its_name_is_named_like_any_other(typed: Typed, api: live.Live) -> None:
    job = measured(api, model="acme/net v2")["id"]
    assert typed("baselines", "set", "acme/net v2", "--job", job, "--json").code == 0
    assert len(listed(typed, "history", "acme/net v2")) == 1
    assert typed("baselines", "remove", "acme/net v2").code == 0
