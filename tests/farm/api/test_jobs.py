"""Jobs by HTTP: what is refused at submit, what is done once, and how a Job ends and begins anew."""

from __future__ import annotations

import io
import threading
from typing import Any

import httpx
import numpy as np
import pytest

from farm.domain import JobState
from farm.store import events, jobs
from tests.farm.api.live import MODEL_SHA, Live, problem


@pytest.mark.parametrize(
    ("asked", "title", "seen"),
    [
        ({"on": "family=jetson"}, "NoBoardFits", "family is raspberrypi, jetson is asked"),
        ({"on": "virtual"}, "NoBoardFits", "is a real board"),
        ({"on": "fmily=jetson"}, "InputError", "Did you mean family=raspberrypi"),
        ({"plan": {"runtime": "onnxruntime"}}, "NoBoardFits", "runtime onnxruntime is absent: not installed"),
        ({"plan": {"runtime": "../../evil"}}, "PlanError", "evil"),
        ({"plan": {"durations": 3}}, "PlanError", "durations"),
        ({"plan": {"duration_s": 0}}, "PlanError", "duration_s"),
        ({"plan": {"duration_s": 699_999.5}}, "PlanError", "measures for too long: 700002 s"),
        ({"plan": {"processes": 10**9}}, "PlanError", "measures for too long"),
        ({"plan": {"duration_s": 2.0**53, "warmup_s": 2.0**53}}, "PlanError", "measures for too long"),
        ({"plan": {"feed": "/etc/passwd"}}, "PlanError", "where no file can be named"),
        ({"plan": {"feed": f"{MODEL_SHA}/feed.npz"}}, "PlanError", "where no file can be named"),
        ({"plan": {"feed": ["x"]}}, "PlanError", "where no file can be named"),
        ({"feed": MODEL_SHA}, "InputError", "no .npz file"),
        ({"feed": "a" * 64}, "NotFound", "a" * 64),
        ({"artifact": "b" * 64}, "NotFound", "b" * 64),
    ],
)
def test_what_can_never_be_measured_is_refused_and_changes_nothing(
    shared: Live, asked: dict[str, Any], title: str, seen: str
) -> None:
    shared.send()
    answer = shared.client("vision-ci").post("/jobs", json={"artifact": MODEL_SHA, **asked})
    assert seen in problem(answer, 404 if title == "NotFound" else 422, title)
    assert answer.json()["exit_code"] == 2
    assert jobs.list_jobs(shared.store) == []
    assert shared.kicks == []


def test_a_submitted_job_says_all_and_wakes_the_dispatcher(each_api: Live) -> None:
    asked = {
        "plan": {"duration_s": 2, "processes": 3},
        "on": "tag=ssd, family=raspberrypi",
        "model": "mobilenet",
        "commit": "0a1b2c3",
        "branch": "main",
        "repository": "acme/vision",
        "limits": {"queue_s": 60.0, "run_s": 30.0},
    }
    told = each_api.submit("vision-ci", **asked)
    assert each_api.kicks == ["kick"]
    stored = jobs.get_job(each_api.store, told["id"])
    assert (stored.limits.queue_s, stored.limits.start_s, stored.limits.run_s) == (60.0, 300.0, 30.0)
    assert {key: told[key] for key in told if key not in ("id", "artifact")} == {
        "project": "vision", "model": "mobilenet", "artifact_name": "mobilenet.fake",
        "plan": {"runtime": "fake", "duration_s": 2, "processes": 3}, "on": "family=raspberrypi,tags>={ssd}",
        "priority": "normal", "state": "queued", "submitted_at": "2026-03-01T12:00:00Z", "submitted_by": "vision-ci",
        "commit": "0a1b2c3", "branch": "main", "repository": "acme/vision", "cancel_at": None, "ended_at": None,
        "outcome": None, "verdict": None,
        "reasons": [], "runs": [], "retry_of": None, "gate": None, "virtual": False,
        "queue": {
            "position": 1, "expected_wait_s": 0.0,
            "waits_for": "the next round of the dispatcher, and a worker with a free slot",
        },
    }  # fmt: skip
    assert each_api.client("vision-ci").get(f"/jobs/{told['id'][:13]}").json() == told


def test_the_place_in_the_queue_counts_what_wants_the_same_boards(each_api: Live) -> None:
    first = each_api.submit("audio-ci", plan={"duration_s": 10, "processes": 2, "warmup_s": 1})  # 18 s
    each_api.clock.step(1)
    second = each_api.submit("vision-ci")
    assert (second["queue"]["position"], second["queue"]["expected_wait_s"]) == (2, 18.0)
    each_api.clock.step(1)
    urgent = each_api.submit("vision-engineer", priority="high")
    assert urgent["queue"]["position"] == 1
    each_api.client("admin").post("/boards/pi5-a/state", json={"state": "maintenance"})
    told = each_api.client("audio-ci").get(f"/jobs/{first['id']}").json()["queue"]
    assert told["expected_wait_s"] is None
    assert told["waits_for"] == "a board that can be given out: pi5-a is in state maintenance"


def test_a_feed_is_a_sent_file_and_part_of_the_plan(api: Live) -> None:
    data = io.BytesIO()
    np.savez(data, x=np.zeros(3))
    feed = api.send(data=data.getvalue(), file="inputs.npz")
    assert api.submit("vision-ci", feed=feed)["plan"]["feed"] == f"{feed}/feed.npz"
    api.send("audio-ci")
    problem(api.client("audio-ci").post("/jobs", json={"artifact": MODEL_SHA, "feed": feed}), 404, "NotFound")


def test_the_same_request_under_the_same_key_is_one_job(each_api: Live) -> None:
    client = each_api.client("vision-ci")
    body = {"artifact": each_api.send(), "plan": {"duration_s": 2}}
    key = {"Idempotency-Key": "build-7"}
    first = client.post("/jobs", json=body, headers=key)
    each_api.client("admin").post("/boards/pi5-a/state", json={"state": "retired"})  # now it could not be submitted
    second = client.post("/jobs", json=body, headers=key)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["id"] == second.json()["id"]
    other = client.post("/jobs", json={**body, "plan": {"duration_s": 3}}, headers=key)
    assert first.json()["id"] in problem(other, 409, "KeyReused")
    assert len(jobs.list_jobs(each_api.store)) == 1


def test_a_key_is_each_projects_own(api: Live) -> None:
    key = {"Idempotency-Key": "build-7"}
    codes = [
        api.client(name).post("/jobs", json={"artifact": api.send(name)}, headers=key).status_code
        for name in ("vision-ci", "audio-ci", "vision-ci")
    ]
    assert codes == [201, 201, 200]


def test_the_same_request_sent_many_times_at_once_is_one_job(each_api: Live) -> None:
    body = {"artifact": each_api.send()}
    answers: list[httpx.Response] = []

    def submit() -> None:
        client = each_api.client("vision-ci")
        answers.append(client.post("/jobs", json=body, headers={"Idempotency-Key": "k"}))

    threads = [threading.Thread(target=submit) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} <= {200, 201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(jobs.list_jobs(each_api.store)) == 1


@pytest.mark.parametrize("key", ["", "two words", "x" * 201, "caf\xe9"])
def test_a_key_that_is_none_is_refused(shared: Live, key: str) -> None:
    shared.send()
    headers = {b"Idempotency-Key": key.encode("latin-1")}
    answer = shared.client("vision-ci").post("/jobs", json={"artifact": MODEL_SHA}, headers=headers)
    problem(answer, 422, "InputError")
    assert jobs.list_jobs(shared.store) == []


def test_a_job_is_cancelled_once(each_api: Live) -> None:
    job_id = each_api.submit()["id"]
    client = each_api.client("vision-ci")
    told = client.post(f"/jobs/{job_id}/cancel").json()
    assert (told["state"], told["outcome"], told["verdict"], told["queue"]) == ("cancelled", "CANCELLED", None, None)
    assert "it is cancelled already" in problem(client.post(f"/jobs/{job_id}/cancel"), 409, "Conflict")
    kinds = [event.kind for event in events.of_job(each_api.store, job_id)]
    assert kinds == ["submitted", "cancel", "cancelled"]
    (change, *_) = each_api.client("admin").get("/changes").json()["changes"]
    assert (change["action"], change["actor"], change["subject"]) == ("job.cancel", "vision-ci", job_id)


def test_a_job_is_tried_again_once_it_is_over(each_api: Live) -> None:
    old = each_api.submit(model="m", branch="main", plan={"duration_s": 2})
    client = each_api.client("vision-engineer")
    again = f"/jobs/{old['id']}/retry"
    assert "it is queued" in problem(client.post(again), 409, "Conflict")
    client.post(f"/jobs/{old['id']}/cancel")
    key = {"Idempotency-Key": "again"}
    new, replay = client.post(again, headers=key), client.post(again, headers=key)
    assert (new.status_code, replay.status_code, replay.json()["id"]) == (201, 200, new.json()["id"])
    told = new.json()
    assert (told["retry_of"], told["state"], told["submitted_by"]) == (old["id"], "queued", "vision-engineer")
    assert all(told[key] == old[key] for key in ("model", "branch", "plan", "artifact", "project", "on"))
    each_api.client("admin").post("/boards/pi5-a/state", json={"state": "retired"})
    problem(client.post(again), 422, "NoBoardFits")


def test_jobs_are_listed_by_state_and_model_a_page_at_a_time(api: Live) -> None:
    ids = [api.submit(model=f"m{i % 2}")["id"] for i in range(5)]
    client = api.client("vision-ci")
    client.post(f"/jobs/{ids[0]}/cancel")
    seen, cursor = [], None
    while True:
        page = client.get("/jobs", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        seen += [job["id"] for job in page["jobs"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == ids[::-1]
    only = client.get("/jobs", params={"state": JobState.CANCELLED}).json()["jobs"]
    assert [job["id"] for job in only] == [ids[0]]
    both = client.get("/jobs", params={"state": ["cancelled", "queued"], "model": "m0"}).json()["jobs"]
    assert [job["id"] for job in both] == [ids[4], ids[2], ids[0]]
