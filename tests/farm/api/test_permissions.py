"""The table of docs/api.md, line by line: what each role can do, and that nobody reaches into another Project."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from farm.domain import BoardState, Role
from farm.store import boards, tokens, workers
from tests.farm.api import gates
from tests.farm.api.live import MODEL, MODEL_SHA, NOW, Live, problem
from tests.farm.store import nouns

PAGE = (Path(__file__).parents[3] / "docs" / "api.md").read_text("utf-8")
ROWS = re.findall(r"^\| `(GET|HEAD|PUT|POST|DELETE) (/\S+)` \| (\w+) \| (\w+) \| (\w+) \|$", PAGE, re.MULTILINE)
BODIES: dict[str, Any] = {
    "POST /artifacts": {"name": "f", "files": [{"path": "m.fake", "sha256": MODEL_SHA}]},
    "POST /jobs": {"artifact": MODEL_SHA},
    "PUT /boards/{name}": {"address": "bench@10.0.0.6"},
    "POST /boards/{name}/state": {"state": "maintenance"},
    "POST /boards/{name}/health": {"health": "quarantined"},
    "POST /baselines": {"model": "mobilenet", "name": "pi5-a", "pinned": True},
    "POST /tokens": {"name": "x", "role": "ci", "project": "vision"},
    "POST /tokens/{token_id}/rotate": {},
}


def _of_vision(api: Live, template: str) -> dict[str, str]:
    """One of each thing, of the Project vision: names by the words in paths."""
    job = api.submit("vision-ci")
    if "/retry" in template:
        api.client("vision-ci").post(f"/jobs/{job['id']}/cancel")
    if "/baselines" in template:
        gates.a_baseline(api, job["id"], "pi5-a")
    board = replace(nouns.BOARD, name=f"board-{job['id']}")
    run = nouns.a_started_run(api.store, nouns.a_lease(api.store, board))
    token, _ = tokens.create(
        api.store, name="y", role=Role.CI, project="vision", created_by="ann", expires_at=None, now=NOW
    )
    return {
        "sha256": MODEL_SHA, "job_id": job["id"], "run_id": run.id, "name": "pi5-a", "worker_id": "lab1:7:ab",
        "token_id": token.id, "model": "mobilenet",
    }  # fmt: skip


def _ask(api: Live, who: str, method: str, template: str) -> int:
    path = template.format(**_of_vision(api, template))
    if method == "POST" and template in ("/artifacts", "/jobs"):
        api.send(who)
    base = api.url if template in ("/metrics", "/healthz", "/readyz") else f"{api.url}/api/v1"
    more: dict[str, Any] = {"json": BODIES.get(f"{method} {template}")}
    if f"{method} {template}" == "PUT /artifacts/{sha256}":
        more = {"content": MODEL, "params": {"name": "m.fake"}}
    headers = {"Accept": "application/json"}
    return api.client(who).request(method, base + path, headers=headers, **more).status_code


@pytest.mark.parametrize(("method", "template", "ci", "engineer", "admin"), ROWS)
def test_each_line_of_the_page_is_true(
    shared: Live, method: str, template: str, ci: str, engineer: str, admin: str
) -> None:
    said = {"vision-ci": ci, "vision-engineer": engineer, "admin": admin}
    for who, word in said.items():
        code = _ask(shared, who, method, template)
        assert (code == 403) == (word == "no"), (who, code)
        assert word == "no" or code < 300, (who, code)
    strangers = {"audio-ci": ci, "audio-engineer": engineer}
    is_of_a_thing = re.search(r"\{(sha256|job_id|run_id|model)\}", template) and method != "PUT"
    for who, word in strangers.items():
        if word == "own" and is_of_a_thing:
            assert _ask(shared, who, method, template) == 404, who


@pytest.mark.parametrize(("method", "template"), [row[:2] for row in ROWS])
def test_without_a_token_only_health_is_told(shared: Live, method: str, template: str) -> None:
    names = {"sha256": MODEL_SHA, "job_id": "01", "run_id": "01", "name": "pi5-a", "worker_id": "w", "token_id": "t"}
    names["model"] = "m"
    base = shared.url if template in ("/metrics", "/healthz", "/readyz") else f"{shared.url}/api/v1"
    body = BODIES.get(f"{method} {template}")
    code = shared.client(None).request(method, base + template.format(**names), json=body).status_code
    assert code == {"/healthz": 200, "/readyz": 200}.get(template, 401)


def test_the_page_lists_every_operation_and_nothing_else(shared: Live) -> None:
    paths = shared.client(None).get("/openapi.json").json()["paths"]
    real = {(m.upper(), path.removeprefix("/api/v1")) for path, found in paths.items() for m in found}
    assert {(method, path) for method, path, *_ in ROWS} == real


def test_a_ci_token_changes_nothing_where_it_may_not(api: Live) -> None:
    for who in ("vision-ci", "vision-engineer"):
        client = api.client(who)
        problem(client.put("/boards/evil", json={"address": "me@evil.example"}), 403, "Forbidden")
        problem(client.put("/boards/pi5-a", json={"address": "me@evil.example"}), 403, "Forbidden")
        problem(client.post("/boards/pi5-a/state", json={"state": "retired"}), 403, "Forbidden")
        problem(client.post("/tokens", json={"name": "x", "role": "admin"}), 403, "Forbidden")
        problem(client.post("/workers/lab1:7:ab/drain"), 403, "Forbidden")
    (only,) = boards.statuses(api.store)
    assert (only.board.address, only.state) == ("bench@10.0.0.5:22", BoardState.READY)
    assert len(tokens.list_tokens(api.store)) == 5
    assert not workers.list_workers(api.store)[0].draining


def test_lists_hold_the_own_projects_things_only(each_api: Live) -> None:
    each_api.submit("vision-ci")
    nouns.a_started_run(each_api.store)  # of vision
    audio, vision = each_api.client("audio-ci"), each_api.client("vision-ci")
    assert (len(vision.get("/jobs").json()["jobs"]), len(vision.get("/runs").json()["runs"])) == (2, 1)
    assert (audio.get("/jobs").json()["jobs"], audio.get("/runs").json()["runs"]) == ([], [])
    for path in ("/jobs", "/runs"):
        problem(audio.get(path, params={"project": "vision"}), 404, "NotFound")


def test_the_start_of_another_projects_id_is_not_there_and_makes_none_ambiguous(api: Live) -> None:
    theirs, ours = api.submit("vision-ci")["id"], api.submit("audio-ci")["id"]
    shared = theirs[:8]
    assert ours.startswith(shared)  # both were made within a minute
    assert api.client("audio-ci").get(f"/jobs/{shared}").json()["id"] == ours
    detail = problem(api.client("admin").get(f"/jobs/{shared}"), 422, "InputError")
    assert theirs in detail
    problem(api.client("audio-ci").get(f"/jobs/{theirs}"), 404, "NotFound")


def test_a_fork_does_not_learn_where_a_board_is_nor_what_others_did_to_it(api: Live) -> None:
    nouns.a_lease(api.store, boards.get_board(api.store, "pi5-a"))
    api.client("admin").post("/boards/pi5-a/health", json={"health": "quarantined", "note": "run 77 broke it"})
    seen = {who: api.client(who).get("/boards/pi5-a").json() for who in ("vision-ci", "vision-engineer", "admin")}
    told = {who: (one["address"], one["holder"], one["note"]) for who, one in seen.items()}
    assert told == {
        "vision-ci": (None, None, ""),
        "vision-engineer": (None, "ann@bench", "run 77 broke it"),
        "admin": ("bench@10.0.0.5:22", "ann@bench", "run 77 broke it"),
    }


def test_a_ci_token_gets_no_high_priority_by_any_way(api: Live) -> None:
    answer = api.client("vision-ci").post("/jobs", json={"artifact": api.send(), "priority": "high"})
    problem(answer, 403, "Forbidden")
    high = api.submit("vision-engineer", priority="high")
    assert high["priority"] == "high"
    api.client("vision-ci").post(f"/jobs/{high['id']}/cancel")
    assert api.client("vision-ci").post(f"/jobs/{high['id']}/retry").json()["priority"] == "normal"
    assert api.client("vision-engineer").post(f"/jobs/{high['id']}/retry").json()["priority"] == "high"
