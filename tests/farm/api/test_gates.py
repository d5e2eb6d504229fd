"""Jobs with gates over HTTP: what is refused, what is answered at once, what a second try goes on with."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from farm_agent import wire

from farm.domain import Arm, Selector
from farm.store import evidence, jobs
from tests.farm.api.gates import P50, judge, measured, over
from tests.farm.api.live import MODEL_SHA, Live, problem
from tests.farm.store.nouns import ARTIFACT, a_job

SLOW = b'{"latency_us": 9}'
ASK = {"on": "family=raspberrypi", "model": "mobilenet", "branch": "topic"}


def ask(api: Live, who: str = "vision-ci", *, key: str | None = None, **body: Any) -> httpx.Response:
    """Submit the slow model as the next mobilenet."""
    asked = {"artifact": api.send(who, SLOW), **ASK, **body}
    return api.client(who).post("/jobs", json=asked, headers={} if key is None else {"Idempotency-Key": key})


def made(api: Live, who: str = "vision-ci", **body: Any) -> dict[str, Any]:
    answer = ask(api, who, **{"gate": P50, **body})
    assert answer.status_code == 201, answer.text
    return answer.json()  # type: ignore[no-any-return]


@pytest.fixture
def ready(api: Live) -> Live:
    """A farm on whose Board mobilenet has passed, on the main branch."""
    measured(api, on="family=raspberrypi", model="mobilenet", branch="main")
    return api


# What is refused


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", ["the gate:1: the file holds nothing"]),
        ("x: 1\n", ["the gate:1: `metrics` is missing", "the gate:1: `version` is missing", "'x'"]),
        (P50 + "alpa: 0.01\n", ["the gate:3:", "alpa"]),
        (P50 + "alpha: 2\nbeta: x\n", ["the gate:3:", "the gate:4:", "2 mistakes"]),
        ("version: 1\nmetrics:\n  p50_latency_ns: {max_change: -1 %}\n", ["the gate:3:", "max_change"]),
        ("version: 1\nmetrics:\n  p49_latency_ns: {}\n", ["the gate:3:", "p49_latency_ns"]),
        (P50 + "references:\n  - {name: x, brunch: main}\n", ["the gate:4:", "brunch"]),
        (P50 + "pairs: 3\n", ["the gate:3: pairs is 3, but no FAIL can come before pair 7"]),
        ("version: 1\nmetrics: {p50_latency_ns: [\n", ["the gate:3:"]),
        ("a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n", ["the gate:"]),
    ],
)
def test_mistakes_of_a_gate_come_with_their_lines_and_nothing_is_queued(api: Live, text: str, lines: list[str]) -> None:
    answer = ask(api, gate=text)
    detail = problem(answer, 422, "GateError")
    assert [part for part in lines if part not in detail] == [], detail
    assert (answer.json()["exit_code"], jobs.list_jobs(api.store)) == (2, [])


@pytest.mark.parametrize(
    ("body", "seen"),
    [
        ({"gate": P50 + "#" * 100_000}, "gate"),
        ({"gate": P50 + "\x00"}, "gate"),
        ({"gate": ["version: 1"]}, "gate"),
        ({"against": "last-passing"}, "against"),
        ({"against": ["last-passing"] * 9}, "against"),
        ({"against": ["a\nb"]}, "against"),
        ({"fresh": "perhaps"}, "fresh"),
    ],
)
def test_a_gate_of_another_shape_is_refused(shared: Live, body: dict[str, Any], seen: str) -> None:
    assert seen in problem(ask(shared, **body), 422, "InputError")
    assert jobs.list_jobs(shared.store) == []


@pytest.mark.parametrize("named", ["", " ", "runn:01", "artifact:", "artifact:xyz", "branch:", "Deployed", "a b"])
def test_what_names_no_reference_is_refused_with_what_would(shared: Live, named: str) -> None:
    detail = problem(ask(shared, against=[named]), 422, "GateError")
    assert f"--against {named!r} names no reference" in detail
    assert "artifact:…, run:…, branch:…, baseline:…" in detail
    assert jobs.list_jobs(shared.store) == []


def test_a_gate_that_compares_nothing_takes_no_reference(ready: Live) -> None:
    limits = "version: 1\nmetrics: {cold_load_rss_bytes: {limit: 200 MB}}\n"
    detail = problem(ask(ready, gate=limits, against=["last-passing"]), 422, "GateError")
    assert "the gate has only limits, on cold_load_rss_bytes" in detail
    assert made(ready, gate=limits)["gate"]["absent"] == {}


def test_as_many_references_as_leave_too_few_pairs_are_refused(ready: Live) -> None:
    named = [f"branch:b{n}" for n in range(8)]
    detail = problem(ask(ready, gate=P50 + "pairs: 8\n", against=named), 422, "GateError")
    assert "no FAIL can come before pair 10" in detail
    assert len(made(ready, gate=P50 + "pairs: 10\n", against=named)["gate"]["absent"]) == 8


@pytest.mark.parametrize("named", ["run:0000", "artifact:00000000"])
def test_a_reference_that_is_named_and_unknown_is_not_found(ready: Live, named: str) -> None:
    problem(ask(ready, against=[named]), 404, "NotFound")
    assert len(jobs.list_jobs(ready.store)) == 1


def test_a_misspelt_baseline_is_told_with_the_known_ones(ready: Live) -> None:
    ready.client("vision-engineer").post(
        "/baselines", json={"model": "mobilenet", "name": "gold", "artifact": MODEL_SHA}
    )
    assert "known: gold (on any board)" in problem(ask(ready, against=["gould"]), 404, "NotFound")


def test_another_projects_run_artifact_and_verdicts_are_not_there(ready: Live) -> None:
    theirs = made(ready)
    judge(ready, theirs["id"], slower=0.5)
    run = ready.client("vision-ci").get(f"/jobs/{theirs['id']}").json()["runs"][0]["id"]
    for named in (f"run:{run}", f"artifact:{MODEL_SHA}"):
        problem(ask(ready, "audio-ci", against=[named]), 404, "NotFound")
    told = made(ready, "audio-ci")
    assert (told["state"], list(told["gate"]["absent"])) == ("queued", ["last-passing"])
    problem(ready.client("audio-ci").get(f"/jobs/{theirs['id']}"), 404, "NotFound")


def test_arms_that_no_one_board_can_run_are_refused_at_once(ready: Live) -> None:
    plan = wire.Plan(runtime="onnxruntime")
    job = jobs.save_job(ready.store, a_job(arms=(Arm("a", ARTIFACT, plan),), selector=Selector(name="pi5-a")))
    run = over(ready, job.id)  # when the board had that runtime still
    detail = problem(ask(ready, against=[f"run:{run}"]), 422, "NoBoardFits")
    assert "pi5-a: runtime onnxruntime is absent" in detail
    assert len(jobs.list_jobs(ready.store)) == 2


# What a gated Job is


def test_a_ci_token_submits_a_gate_and_is_told_what_is_compared(ready: Live) -> None:
    told = made(ready, gate=P50 + "references: [last-passing, deployed]\non_undecided: accept\nbudget_s: 60\n")
    gate = told["gate"]
    assert [(arm["letter"], arm["reference"], arm["artifact_name"]) for arm in gate["arms"]] == [
        ("a", None, "mobilenet.fake"), ("b", "last-passing", "mobilenet.fake"),
    ]  # fmt: skip
    assert [arm["artifact"][:8] for arm in gate["arms"]] == [told["artifact"][:8], MODEL_SHA[:8]]
    assert list(gate["absent"]) == ["deployed"]
    assert (gate["alpha"], gate["beta"], gate["pairs_limit"], gate["budget_s"]) == (0.01, 0.05, 80, 60.0)
    assert (gate["on_undecided"], gate["pairs"], gate["findings"], gate["board"]) == ("accept", 0, [], None)
    (job, _) = ready.client("vision-ci").get("/jobs").json()["jobs"]
    assert (job["id"], job["gate"]) == (told["id"], None)


def test_references_alone_are_judged_by_the_default_gate(ready: Live) -> None:
    told = made(ready, gate=None, against=["last-passing"])
    stored = jobs.get_job(ready.store, told["id"])
    assert stored.gate is not None
    assert [rule["metric"] for rule in stored.gate.gate["rules"]] == [
        "p50_latency_ns", "p95_latency_ns", "cold_load_rss_bytes",
    ]  # fmt: skip
    assert made(ready, gate=None, against=[])["gate"] is None


def test_the_evidence_is_told_while_it_grows_and_once_it_has_decided(ready: Live) -> None:
    job = made(ready)
    judge(ready, job["id"], slower=0.5)
    told = ready.client("vision-ci").get(f"/jobs/{job['id']}").json()
    gate, (one,) = told["gate"], told["gate"]["findings"]
    assert (told["state"], told["verdict"], told["outcome"]) == ("done", "FAIL", "OK")
    assert (gate["board"], gate["queries"], gate["dropped"]) == ("pi5-a", 40, 0)
    assert (gate["kept"], gate["pairs"], gate["board_s"]) == (7, 7, 16.0)
    assert gate["saved_s"] == 144.0  # 80 pairs of 2 s
    assert (one["metric"], one["reference"], one["status"], one["bound"]) == (
        "p50_latency_ns", "last-passing", "fail", 0.03,
    )  # fmt: skip
    assert one["fail_ratio"] >= 1
    assert 0.03 < one["low"] <= one["effect"] <= one["high"]
    assert one["effect"] == pytest.approx(0.5, abs=0.01)


# Once is enough


def test_the_same_request_under_the_same_key_is_one_job_and_another_gate_is_another_request(ready: Live) -> None:
    first, again = (ask(ready, gate=P50, key="build-7") for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    for other in ({"gate": P50 + "alpha: 0.02\n"}, {"gate": P50, "fresh": True}, {"against": ["last-passing"]}):
        problem(ask(ready, key="build-7", **other), 409, "KeyReused")
    judge(ready, first.json()["id"], slower=0.5)
    assert ask(ready, gate=P50, key="build-7").json()["reasons"][-1]["code"] == "worse"  # its own, and not as a replay


def test_what_was_decided_before_is_the_answer_at_once_with_its_reasons(ready: Live) -> None:
    first = made(ready)
    known = judge(ready, first["id"], slower=0.5)
    kicks = len(ready.kicks)
    told = made(ready, commit="another", branch="other")
    assert (told["state"], told["outcome"], told["verdict"], told["runs"]) == ("done", "OK", "FAIL", [])
    assert [reason["code"] for reason in told["reasons"]] == ["worse", "decided_before"]
    assert told["reasons"][0]["text"] == known.reasons[0].text
    assert "on board 'pi5-a' before; --fresh" in told["reasons"][1]["text"]
    assert told["gate"]["findings"][0]["status"] == "fail"
    assert jobs.get_job(ready.store, told["id"]).evidence_id == known.id
    assert len(ready.kicks) == kicks + 1
    events = ready.client("vision-ci").get(f"/jobs/{told['id']}/events", headers={"Accept": "application/json"}).json()
    assert [event["kind"] for event in events["events"]] == ["submitted", "done"]


@pytest.mark.parametrize(
    "other", [{"gate": P50 + "alpha: 0.02\n"}, {"plan": {"options": {}, "duration_s": 3}}, {"fresh": True}]
)
def test_another_gate_or_plan_is_measured_and_so_is_what_shall_be_fresh(ready: Live, other: dict[str, Any]) -> None:
    judge(ready, made(ready)["id"], slower=0.5)
    assert made(ready, **other)["state"] == "queued"


def test_what_was_not_decided_is_gone_on_with_on_its_board(ready: Live) -> None:
    first = made(ready)
    found = judge(ready, first["id"])
    told = made(ready)
    stored = jobs.get_job(ready.store, told["id"])
    assert (told["state"], stored.affinity) == ("queued", "pi5-a")
    assert evidence.newest(ready.store, evidence.key_of(stored), "pi5-a") == found


def test_a_retry_keeps_the_gate_its_references_and_its_evidence(ready: Live) -> None:
    first = made(ready)
    judge(ready, first["id"])
    measured(ready, on="family=raspberrypi", model="mobilenet", branch="main", plan={"duration_s": 3})
    told = ready.client("vision-ci").post(f"/jobs/{first['id']}/retry").json()
    assert (told["state"], told["retry_of"], told["gate"]["arms"]) == ("queued", first["id"], first["gate"]["arms"])
    old, new = (jobs.get_job(ready.store, one["id"]) for one in (first, told))
    assert (new.gate, new.arms, evidence.key_of(new)) == (old.gate, old.arms, evidence.key_of(old))


def test_a_retry_of_what_was_decided_is_answered_at_once(ready: Live) -> None:
    first = made(ready)
    judge(ready, first["id"])
    second = ready.client("vision-ci").post(f"/jobs/{first['id']}/retry").json()
    judge(ready, second["id"], slower=0.5, seconds=9.0)
    third = ready.client("vision-ci").post(f"/jobs/{second['id']}/retry").json()
    assert (third["state"], third["verdict"], third["reasons"][-1]["code"]) == ("done", "FAIL", "decided_before")


def test_a_retry_of_what_shall_be_fresh_begins_anew_only_where_nothing_was_measured(ready: Live) -> None:
    judge(ready, made(ready)["id"], slower=0.5)
    client = ready.client("vision-ci")
    first = made(ready, fresh=True)
    client.post(f"/jobs/{first['id']}/cancel")
    second = client.post(f"/jobs/{first['id']}/retry").json()
    assert second["state"] == "queued"  # although it was decided before
    fresh = judge(ready, second["id"], seconds=9.0)
    third = jobs.get_job(ready.store, client.post(f"/jobs/{second['id']}/retry").json()["id"])
    assert (third.state, third.gate is not None and third.gate.is_fresh) == ("queued", False)
    assert evidence.newest(ready.store, evidence.key_of(third), "pi5-a") == fresh
