"""Baselines over HTTP: who may set them, what is refused, and that nothing reaches into another Project."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from farm.domain import Outcome, Verdict
from farm.store import baselines
from tests.farm.api.gates import measured, over
from tests.farm.api.live import MODEL_SHA, Live, problem

OTHER = b'{"latency_us": 9}'


def ask(api: Live, who: str = "vision-engineer", **body: Any) -> httpx.Response:
    return api.client(who).post("/baselines", json={"model": "mobilenet", **body})


def is_set(api: Live, who: str = "vision-engineer", **body: Any) -> dict[str, Any]:
    answer = ask(api, who, **body)
    assert answer.status_code == 201, answer.text
    return answer.json()  # type: ignore[no-any-return]


def listed(api: Live, who: str = "vision-ci", **params: str) -> list[dict[str, Any]]:
    return api.client(who).get("/baselines", params=params).json()["baselines"]  # type: ignore[no-any-return]


def test_a_ci_token_reads_baselines_and_changes_none(api: Live) -> None:
    job = measured(api)
    problem(ask(api, "vision-ci", job=job["id"]), 403, "Forbidden")
    problem(api.client("vision-ci").delete("/baselines/mobilenet/default"), 403, "Forbidden")
    assert baselines.current(api.store, None) == []
    is_set(api, job=job["id"])
    problem(ask(api, "vision-ci", pinned=True), 403, "Forbidden")
    problem(api.client("vision-ci").delete("/baselines/mobilenet/default"), 403, "Forbidden")
    assert [one["pinned"] for one in listed(api)] == [False]
    assert len(api.client("vision-ci").get("/baselines/mobilenet/default/history").json()["baselines"]) == 1


def test_another_projects_job_artifact_and_baseline_are_not_there(each_api: Live) -> None:
    api = each_api
    job = measured(api)
    is_set(api, job=job["id"])
    problem(ask(api, "audio-engineer", job=job["id"]), 404, "NotFound")
    problem(ask(api, "audio-engineer", job=job["id"][:13]), 404, "NotFound")
    problem(ask(api, "audio-engineer", artifact=MODEL_SHA), 404, "NotFound")
    problem(ask(api, "audio-engineer", pinned=True), 404, "NotFound")
    theirs = api.client("audio-engineer")
    problem(theirs.delete("/baselines/mobilenet/default"), 404, "NotFound")
    problem(theirs.get("/baselines/mobilenet/default/history"), 404, "NotFound")
    problem(theirs.get("/baselines", params={"project": "vision"}), 404, "NotFound")
    assert (listed(api, "audio-ci"), len(listed(api)), len(listed(api, "admin"))) == ([], 1, 1)
    assert [one["project"] for one in listed(api, "admin", project="vision")] == ["vision"]


@pytest.mark.parametrize(
    ("body", "status", "seen"),
    [
        ({}, 422, "needs a job or an artifact"),
        ({"job": "JOB", "artifact": MODEL_SHA}, 422, "not to both"),
        ({"job": "JOB", "on": "virtual"}, 422, "Leave `on` and `plan` out"),
        ({"job": "JOB", "plan": {}}, 422, "Leave `on` and `plan` out"),
        ({"job": "JOB", "plan_hash": "abcd"}, 422, "Leave it out"),
        ({"job": "JOB", "model": "resnet"}, 422, "measured model 'mobilenet', not 'resnet'"),
        ({"job": "0000"}, 404, "not known"),
        ({"job": "QUEUED"}, 409, "it is queued"),
        ({"plan": {"duration_s": 2}, "follows": "main"}, 422, "none is given"),
        ({"pinned": True}, 404, "is not set"),
        ({"follows": "main"}, 404, "is not set"),
        ({"artifact": "0" * 64}, 404, "is not known to the project"),
        ({"artifact": MODEL_SHA, "on": "fmily=jetson"}, 422, "family"),
        ({"artifact": MODEL_SHA, "plan": {"duration": 1}}, 422, "duration"),
        ({"artifact": MODEL_SHA, "plan": {"feed": "/etc/passwd"}}, 422, "where no file can be named"),
        ({"artifact": MODEL_SHA, "plan": {"warmup_s": 2.0**53}}, 422, "measures for too long"),
        ({"artifact": "xyz"}, 422, "artifact"),
        ({"name": "Default", "pinned": True}, 422, "name"),
        ({"name": "a/b", "pinned": True}, 422, "name"),
        ({"pinned": True, "forever": True}, 422, "forever"),
        ({"pinned": True, "note": "\x00"}, 422, "note"),
    ],
)
def test_what_cannot_be_a_baseline_is_refused_and_changes_nothing(
    api: Live, body: dict[str, Any], status: int, seen: str
) -> None:
    names = {"JOB": measured(api)["id"], "QUEUED": api.submit()["id"]}
    told = {name: names.get(value, value) if isinstance(value, str) else value for name, value in body.items()}
    title = {404: "NotFound", 409: "Conflict"}.get(status)
    answer = ask(api, **told)
    assert seen in problem(answer, status, title or answer.json()["title"])
    assert baselines.history(api.store, None, "mobilenet", "default") == []


@pytest.mark.parametrize(
    ("verdict", "outcome", "is_taken"),
    [
        (None, Outcome.BROKEN, False),
        (None, Outcome.CANCELLED, False),
        (Verdict.FAIL, Outcome.FAILED, False),
        (Verdict.UNDECIDED, Outcome.NOISY, True),
        (Verdict.FAIL, Outcome.OK, True),  # a person may accept what a gate does not
    ],
)
def test_only_what_was_measured_can_be_a_baseline(
    api: Live, verdict: Verdict | None, outcome: Outcome, is_taken: bool
) -> None:
    job = api.submit()
    over(api, job["id"], verdict, outcome)
    answer = ask(api, job=job["id"])
    if is_taken:
        assert answer.json()["job"] == job["id"]
    else:
        assert f"it ended {outcome}" in problem(answer, 409, "Conflict")


def test_a_baseline_is_set_to_a_job_with_all_that_is_known_of_it(each_api: Live) -> None:
    plan = {"duration_s": 2, "options": {}}
    job = measured(each_api, on="family=raspberrypi", plan=plan, commit="f00")
    told = is_set(each_api, job=job["id"][:20], follows="main", note="release 7")
    assert {name: value for name, value in told.items() if name != "plan_hash"} == {
        "project": "vision", "model": "mobilenet", "name": "default", "on": "family=raspberrypi",
        "plan": {"runtime": "fake", "duration_s": 2}, "artifact": MODEL_SHA, "artifact_name": "mobilenet.fake",
        "job": job["id"], "board": "pi5-a", "commit": "f00", "follows": "main", "pinned": False, "note": "release 7",
        "set_by": "vision-engineer", "set_at": "2026-03-01T12:00:00Z",
    }  # fmt: skip
    assert listed(each_api) == [told]
    assert listed(each_api, model="mobilenet") == [told]
    assert listed(each_api, model="resnet") == []
    (change, *_) = each_api.client("admin").get("/changes").json()["changes"]
    assert (change["action"], change["actor"], change["subject"], change["project"]) == (
        "baseline.set", "vision-engineer", "mobilenet/default", "vision",
    )  # fmt: skip


def test_an_artifact_is_a_baseline_on_a_selector_in_canonical_words(api: Live) -> None:
    api.send()
    told = is_set(api, artifact=MODEL_SHA, on="tag=ssd, family=raspberrypi", plan={"options": {}, "duration_s": 2})
    assert (told["on"], told["plan"]) == ("family=raspberrypi,tags>={ssd}", {"runtime": "fake", "duration_s": 2})
    assert (told["job"], told["board"], told["commit"]) == (None, None, None)
    job = measured(api, on="family=raspberrypi, tag=ssd", plan={"duration_s": 2})
    again = is_set(api, job=job["id"])
    assert again["plan_hash"] == told["plan_hash"]
    assert [one["job"] for one in listed(api)] == [job["id"]]


def test_what_follows_and_what_is_pinned_stays_so_until_it_is_said_otherwise(api: Live) -> None:
    first, second = measured(api)["id"], measured(api)["id"]
    is_set(api, job=first, follows="main")
    assert is_set(api, pinned=True, note="freeze")["follows"] == "main"
    told = is_set(api, job=second)
    assert (told["job"], told["follows"], told["pinned"]) == (second, "main", True)
    assert is_set(api, pinned=False)["job"] == second
    told = is_set(api, follows="")
    assert (told["follows"], told["pinned"]) == (None, False)
    history = api.client("vision-ci").get("/baselines/mobilenet/default/history").json()["baselines"]
    assert [one["note"] for one in history] == ["", "", "", "freeze", ""]


def test_a_pass_of_the_followed_branch_is_promoted_and_says_of_which_job(api: Live) -> None:
    is_set(api, job=measured(api)["id"], follows="main")
    other = api.send(data=OTHER)
    job = api.client("vision-ci").post(
        "/jobs", json={"artifact": other, "branch": "main", "commit": "c0", "model": "mobilenet"}
    )
    over(api, job.json()["id"])
    (told,) = listed(api)
    assert (told["artifact"], told["commit"], told["board"], told["set_by"]) == (other, "c0", "pi5-a", "farm")
    assert told["note"] == f"job {told['job']} of branch main passed"


def test_one_of_several_is_told_by_its_selector_and_its_plan(api: Live) -> None:
    asked = [("", 2), ("", 3), ("family=raspberrypi", 2)]
    made = [is_set(api, job=measured(api, on=on, plan={"duration_s": s})["id"]) for on, s in asked]
    detail = problem(ask(api, pinned=True), 422, "InputError")
    assert all(part in detail for part in ("set 3 times", made[1]["plan_hash"][:8], "family=raspberrypi"))
    problem(ask(api, pinned=True, on=""), 422, "InputError")
    assert is_set(api, pinned=True, on="family=raspberrypi")["plan_hash"] == made[2]["plan_hash"]
    assert is_set(api, pinned=True, on="", plan_hash=made[1]["plan_hash"][:8])["job"] == made[1]["job"]
    client = api.client("vision-engineer")
    problem(client.delete("/baselines/mobilenet/default"), 422, "InputError")
    problem(client.delete("/baselines/mobilenet/default", params={"plan_hash": "zz"}), 422, "InputError")
    params = {"on": "", "plan_hash": made[0]["plan_hash"]}
    assert client.delete("/baselines/mobilenet/default", params=params).status_code == 204
    problem(client.delete("/baselines/mobilenet/default", params=params), 404, "NotFound")
    assert len(listed(api)) == 2


def test_a_removed_baseline_is_told_in_its_history_alone(api: Live) -> None:
    is_set(api, job=measured(api)["id"], follows="main")
    client = api.client("vision-engineer")
    assert client.delete("/baselines/mobilenet/default").status_code == 204
    assert listed(api) == []
    gone, was = client.get("/baselines/mobilenet/default/history").json()["baselines"]
    assert (gone["artifact"], gone["plan"], gone["job"], gone["note"]) == (None, None, None, "removed")
    assert was["artifact"] == MODEL_SHA
    problem(client.post("/baselines", json={"model": "mobilenet", "pinned": True}), 404, "NotFound")
    assert is_set(api, job=measured(api)["id"])["follows"] is None


def test_a_model_with_a_slash_in_its_name_has_baselines_like_any_other(api: Live) -> None:
    job = measured(api, model="acme/net v2")
    is_set(api, model="acme/net v2", job=job["id"])
    client = api.client("vision-engineer")
    for path in ("/baselines/acme/net%20v2/default", "/baselines/acme%2Fnet%20v2/default"):
        assert len(client.get(f"{path}/history").json()["baselines"]) == 1
    assert client.delete("/baselines/acme%2Fnet%20v2/default").status_code == 204


def test_an_admin_without_a_project_sets_those_of_the_setting(api: Live) -> None:
    api.send("admin")
    told = is_set(api, "admin", artifact=MODEL_SHA)
    assert told["project"] == "default"
    job = measured(api)
    assert is_set(api, "admin", job=job["id"])["project"] == "vision"
