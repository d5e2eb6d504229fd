"""Who is let in by HTTP, and which changes to tokens are whose."""

from __future__ import annotations

import logging

import pytest
from sqlalchemy import select

from farm.domain import Role
from farm.store import jobs, tokens
from farm.store.tables import Table
from tests.farm.api.live import NOW, Live, answer_of, problem, request


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Basic YTpi", "bf_ci_x", "Bearer bf_ci_aaaaaaaa_short", "Bearer \xff"]
)
def test_without_a_good_token_nobody_learns_anything(shared: Live, header: str | None) -> None:
    headers = {} if header is None else {b"Authorization": header.encode("latin-1")}
    for method, path in (
        ("GET", "/jobs"),
        ("POST", "/jobs"),
        ("GET", "/nothing/here"),
        ("PUT", f"/artifacts/{'a' * 64}"),
    ):
        answer = shared.client(None).request(method, path, headers=headers, content=b"{not json")
        problem(answer, 401, "NotSignedIn")
        assert answer.headers["www-authenticate"] == 'Bearer realm="benchfarm"'


def test_two_authorization_headers_are_one_too_many(api: Live) -> None:
    connection = api.raw()
    more = (f"Authorization: Bearer {api.secrets['admin']}", "Connection: close")
    connection.sendall(request("GET", "/api/v1/jobs", api.secrets["vision-ci"], *more))
    assert answer_of(connection).startswith(b"HTTP/1.1 401 ")


def test_a_token_that_is_over_says_so_and_changes_nothing(api: Live) -> None:
    client = api.client("vision-ci")
    token_id = client.get("/tokens/self").json()["id"]
    api.client("admin").delete(f"/tokens/{token_id}")
    assert "was revoked at 2026-03-01 12:00:00 UTC" in problem(client.get("/jobs"), 401, "NotSignedIn")
    made = api.client("admin").post(
        "/tokens", json={"name": "short", "role": "ci", "project": "vision", "expires_in_s": 60}
    )
    api.secrets["short"] = made.json()["secret"]
    assert api.client("short").get("/jobs").status_code == 200
    api.clock.step(60)
    sent = api.client("short").post("/jobs", json={"artifact": "a" * 64})
    assert "has expired at 2026-03-01 12:01:00 UTC" in problem(sent, 401, "NotSignedIn")
    assert jobs.list_jobs(api.store) == []


def test_an_admin_makes_a_token_that_works_and_its_secret_is_told_once(api: Live) -> None:
    made = api.client("admin").post("/tokens", json={"name": "gitlab", "role": "engineer", "project": "vision"})
    assert made.status_code == 201
    assert made.headers["cache-control"] == "no-store"
    told = made.json()
    api.secrets["gitlab"] = told.pop("secret")
    me = api.client("gitlab").get("/tokens/self").json()
    assert me == {**told, "last_used_at": me["last_used_at"]}
    assert (me["name"], me["role"], me["project"], me["created_by"]) == ("gitlab", "engineer", "vision", "admin")
    listed = api.client("admin").get("/tokens")
    assert told["id"] in [one["id"] for one in listed.json()["tokens"]]
    assert api.secrets["gitlab"] not in listed.text


def test_a_ci_token_of_no_project_is_not_made(api: Live) -> None:
    answer = api.client("admin").post("/tokens", json={"name": "x", "role": "ci"})
    assert "has no project" in problem(answer, 422, "InputError")


def test_a_token_that_is_not_there_is_not_found(api: Live) -> None:
    admin = api.client("admin")
    problem(admin.delete("/tokens/aaaaaaaa"), 404, "NotFound")
    problem(admin.post("/tokens/aaaaaaaa/rotate", json={}), 404, "NotFound")
    problem(admin.delete("/tokens/0"), 422, "InputError")


def test_rotation_keeps_the_old_token_for_its_grace_and_jobs_go_on(api: Live) -> None:
    job = api.submit("vision-ci")
    me = api.client("vision-ci").get("/tokens/self").json()
    made = api.client("admin").post(f"/tokens/{me['id']}/rotate", json={"grace_s": 60}).json()
    api.secrets["new"] = made["secret"]
    for name in ("vision-ci", "new"):
        assert api.client(name).get(f"/jobs/{job['id']}").json()["state"] == "queued"
    api.clock.step(61)
    problem(api.client("vision-ci").get("/jobs"), 401, "NotSignedIn")
    assert api.client("new").get(f"/jobs/{job['id']}").json()["submitted_by"] == "vision-ci"
    problem(api.client("admin").post(f"/tokens/{me['id']}/rotate", json={}), 409, "Conflict")


def test_an_engineer_sees_the_tokens_and_changes_of_the_own_project_only(api: Live) -> None:
    engineer = api.client("vision-engineer")
    assert {one["project"] for one in engineer.get("/tokens").json()["tokens"]} == {"vision"}
    assert {one["project"] for one in engineer.get("/changes").json()["changes"]} == {"vision"}
    assert len(api.client("admin").get("/changes").json()["changes"]) == 5
    for path in ("/tokens", "/changes", "/jobs", "/runs"):
        problem(engineer.get(path, params={"project": "audio"}), 404, "NotFound")
        problem(engineer.get(path, params={"project": "no-such"}), 404, "NotFound")


def test_changes_are_paged_from_the_newest_to_the_oldest(api: Live) -> None:
    admin = api.client("admin")
    seen, cursor = [], None
    while True:
        page = admin.get("/changes", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        seen += [one["id"] for one in page["changes"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == sorted(seen, reverse=True)
    assert len(seen) == 5


def test_no_log_no_row_and_no_error_ever_holds_a_secret(api: Live, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    admin = api.client("admin")
    made = admin.post("/tokens", json={"name": "x", "role": "ci", "project": "vision"}).json()
    api.secrets["x"] = made["secret"]
    told = [
        api.client("x").get("/tokens").text,
        api.client("x").get("/jobs", params={"cursor": "!"}).text,
        api.client("x").post("/jobs", json={"secret": "s"}).text,
        admin.get("/tokens").text,
        admin.get("/changes").text,
    ]
    api.secrets["over"] = made["secret"][:-1] + "!"
    told.append(api.client("over").get("/jobs").text)
    admin.post(f"/tokens/{made['id']}/rotate", json={"grace_s": 0})
    told.append(api.client("x").get("/jobs").text)
    with api.store.read() as session:
        told += [repr(row) for table in Table.metadata.sorted_tables for row in session.execute(select(table))]
    told += [f"{record.getMessage()} {record.exc_text}" for record in caplog.records]
    for secret in api.secrets.values():
        assert not [text for text in told if secret[-40:] in text]


def test_a_token_of_an_admin_with_a_project_submits_there_and_still_sees_all(api: Live) -> None:
    _, api.secrets["boss"] = tokens.create(
        api.store, name="boss", role=Role.ADMIN, project="audio", created_by="ann", expires_at=None, now=NOW
    )
    api.submit("vision-ci")
    assert api.submit("boss")["project"] == "audio"
    assert api.submit("admin")["project"] == "default"
    assert [job["project"] for job in api.client("boss").get("/jobs").json()["jobs"]] == ["default", "audio", "vision"]
