"""Malformed, oversized and slow requests: each is told why, and none changes anything or ends in a 5xx."""

from __future__ import annotations

import json
from typing import Any

import pytest

from farm.store import jobs
from tests.farm.api.live import MODEL_SHA, Live, answer_of, problem, request

JSON = {"Content-Type": "application/json"}


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{}",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b'{"artifact": "' + b"a" * 63 + b'"}',
        b'{"artifact": 7}',
        b'{"artifact": "\\u0000"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"1" * 5000,
        b'{"artifact": NaN}',
    ],
)
def test_a_body_that_is_no_request_is_refused(shared: Live, body: bytes) -> None:
    answer = shared.client("vision-ci").post("/jobs", content=body, headers=JSON)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.status_code in (400, 422)
    assert answer.json()["title"] == "InputError"
    assert jobs.list_jobs(shared.store) == []


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_a_body_that_does_not_say_it_is_json_is_refused(shared: Live, kind: str | None) -> None:
    """A form of another site's page can send these without asking."""
    body = json.dumps({"artifact": shared.send()}).encode()
    headers = {} if kind is None else {"Content-Type": kind}
    problem(shared.client("vision-ci").post("/jobs", content=body, headers=headers), 422, "InputError")


@pytest.mark.parametrize(
    "more",
    [
        {"unknown": 1},
        {"project": "audio"},
        {"submitted_by": "eve"},
        {"priority": "urgent"},
        {"priority": 10},
        {"on": "a\0b"},
        {"on": "x" * 1001},
        {"model": ""},
        {"model": "a\nb"},
        {"model": "\ud800"},
        {"commit": "a\x1b[31m"},
        {"branch": "\x7f"},
        {"limits": {"queue_s": 0}},
        {"limits": {"queue_s": -1}},
        {"limits": {"run_s": 1e300}},
        {"limits": {"nap_s": 1}},
        {"plan": []},
        {"plan": {"min_queries": 2**63}},
        {"plan": {"min_queries": 10**400}},
        {"plan": {"options": {"threads": 10**20}}},
        {"plan": {"options": {"\ud800": 1}}},
        {"plan": {"shapes": {"x": "\0"}}},
        {"plan": {"options": _nested(20)}},
        {"plan": {"options": _nested(900)}},
        {"plan": {"runtime": "x" * 1001}},
        {"\ud800": 1},
    ],
)
def test_a_field_that_cannot_be_used_is_refused(shared: Live, more: dict[str, Any]) -> None:
    shared.send()
    body = json.dumps({"artifact": MODEL_SHA, **more})
    answer = shared.client("vision-ci").post("/jobs", content=body, headers=JSON)
    assert problem(answer, 422, answer.json()["title"]).endswith((".", "?"))
    assert jobs.list_jobs(shared.store) == []


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_plan_holds_only_numbers_that_are_some(shared: Live, number: str) -> None:
    shared.send()
    body = f'{{"artifact": "{MODEL_SHA}", "plan": {{"scenario_options": {{"fps": {number}}}}}}}'
    problem(shared.client("vision-ci").post("/jobs", content=body, headers=JSON), 422, "InputError")


PATHS = [
    "/jobs?limit=0",
    "/jobs?limit=201",
    "/jobs?limit=-1",
    "/jobs?limit=99999999999999999999999",
    "/jobs?limit=x",
    "/jobs?state=asleep",
    "/jobs?model=%00",
    "/jobs?cursor=%00",
    "/jobs?cursor=x",
    "/jobs?cursor=NTAw",
    "/jobs?cursor=" + "a" * 201,
    "/runs?board=%0a",
    "/runs?cursor=Jw",
    "/jobs/%00",
    "/jobs/x'%20OR%201=1",
    "/jobs/%25",
    "/runs/_",
    "/boards/%00",
    "/jobs/" + "a" * 37,
]


def test_a_query_or_path_that_cannot_be_used_is_refused(each_api: Live) -> None:
    for path in PATHS:
        problem(each_api.client("vision-ci").get(path), 422, "InputError")


def test_a_cursor_of_another_list_is_refused(shared: Live) -> None:
    admin = shared.client("admin")
    cursor = admin.get("/changes", params={"limit": 1}).json()["next"]
    assert "is none of this list" in problem(admin.get("/jobs", params={"cursor": cursor}), 422, "InputError")


def test_a_cursor_larger_than_any_number_of_the_database_is_refused(each_api: Live) -> None:
    cursor = "OTk5OTk5OTk5OTk5OTk5OTk5OTk"  # twenty nines
    problem(each_api.client("admin").get("/changes", params={"cursor": cursor}), 422, "InputError")


def test_a_body_over_four_megabytes_is_refused_before_it_is_read(shared: Live) -> None:
    connection = shared.raw()
    connection.sendall(request("POST", "/api/v1/jobs", shared.secrets["vision-ci"], "Content-Length: 4000001"))
    answer = answer_of(connection)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"title":"TooLarge"' in answer


def test_a_body_over_four_megabytes_is_refused_though_no_length_was_said(shared: Live) -> None:
    answer = shared.client("vision-ci").post("/jobs", content=iter([b" " * 100_000] * 41), headers=JSON)
    problem(answer, 413, "TooLarge")


def test_a_body_that_does_not_come_is_given_up(impatient: Live) -> None:
    connection = impatient.raw()
    head = request(
        "POST", "/api/v1/jobs", impatient.secrets["vision-ci"], "Content-Length: 100", "Content-Type: application/json"
    )
    connection.sendall(head + b'{"artifact": ')
    answer = answer_of(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"13 bytes in 1 s" in answer


def test_a_length_that_is_a_lie_changes_nothing(shared: Live) -> None:
    shared.send()
    body = json.dumps({"artifact": MODEL_SHA}).encode()
    connection = shared.raw()
    headers = (f"Content-Length: {len(body) + 5}", "Content-Type: application/json")
    connection.sendall(request("POST", "/api/v1/jobs", shared.secrets["vision-ci"], *headers) + body)
    connection.close()
    assert shared.client("vision-ci").get("/jobs").json()["jobs"] == []


@pytest.mark.parametrize("method", ["PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"])
def test_a_method_that_a_path_has_not_is_refused(shared: Live, method: str) -> None:
    answer = shared.client("vision-ci").request(method, "/jobs")
    problem(answer, 405, "InputError")
    assert answer.headers["allow"]
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("path", ["", "/", "/jobs/", "/nothing", "/../jobs", "/docs"])
def test_a_path_that_is_none_is_not_found(shared: Live, path: str) -> None:
    problem(shared.client("vision-ci").get(path), 404, "NotFound")


def test_every_answer_is_safe_to_be_shown_and_kept_by_nobody(shared: Live) -> None:
    for answer in (
        shared.client("admin").get("/tokens"),
        shared.client(None).get("/tokens"),
        shared.client("admin").get("/x"),
    ):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
