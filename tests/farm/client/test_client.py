"""The client against a farm's real API."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from farm import errors
from farm.client import Client, word
from farm.domain import BoardState, Outcome, Reason, Verdict
from farm.schemas import (
    BoardAsked,
    EventTold,
    HealthAsked,
    JobAsked,
    JobTold,
    LimitsAsked,
    QueuePlace,
    RotateAsked,
    StateAsked,
    TokenAsked,
)
from farm.store import queue, results
from farm.store.db import open_store
from tests.farm.api import live
from tests.farm.standin import ended


@pytest.fixture
def api(tmp_path: Path, _sqlite_template: Path) -> Iterator[live.Live]:
    shutil.copy(_sqlite_template, tmp_path / "farm.db")
    store = open_store(f"sqlite:///{tmp_path}/farm.db", tmp_path / "blobs", upgrade=False)
    with live.serve(store, tmp_path) as served:
        yield served
    store.close()


@pytest.fixture
def ci(api: live.Live) -> Iterator[Client]:
    with Client(api.url, api.secrets["vision-ci"], patience_s=5) as client:
        yield client


@pytest.fixture
def admin(api: live.Live) -> Iterator[Client]:
    with Client(api.url, api.secrets["admin"], patience_s=5) as client:
        yield client


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "mobilenet.fake"
    path.write_text("{}")
    return path


def _measure(api: live.Live, job_id: str, outcome: Outcome, verdict: Verdict | None) -> None:
    """What dispatcher, worker and judge do, without measuring anything."""
    run = queue.grant(api.store, job_id, "pi5-a", holder="x", ttl_s=30, now=api.clock(), host=None)
    assert queue.begin(api.store, run.id, run.token, worker="lab1", now=api.clock())
    reasons = () if outcome is Outcome.OK else (Reason("throttled", "CPU at 1510 MHz. Check its fan."),)
    run = replace(run, outcome=outcome, reasons=reasons, ended_at=api.clock())
    results.finish_run(api.store, run, run.token)
    assert queue.finish(api.store, run, verdict=verdict, reasons=reasons, now=api.clock())


def test_a_model_is_sent_once_submitted_and_followed_to_its_verdict(api: live.Live, ci: Client, model: Path) -> None:
    told: list[tuple[int, int]] = []
    sent = ci.send(model, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (2, 2)
    told.clear()
    assert ci.send(model, progress=lambda done, total: told.append((done, total))) == sent
    assert told == []
    asked = JobAsked(
        artifact=sent.sha256, on="pi5-a", commit="abc", limits=LimitsAsked(run_s=60), plan={"processes": 2}
    )
    job = ci.submit(asked, idempotency_key="pipeline-7")
    assert ci.submit(asked, idempotency_key="pipeline-7").id == job.id
    with pytest.raises(errors.KeyReused):
        ci.submit(asked.model_copy(update={"commit": "abd"}), idempotency_key="pipeline-7")
    events: list[EventTold] = []
    places: list[QueuePlace] = []

    def watch(event: EventTold) -> None:
        events.append(event)
        if event.kind == "submitted":
            threading.Thread(target=_measure, args=(api, job.id, Outcome.OK, Verdict.PASS)).start()

    found = ci.wait(job.id[:20], watch=watch, queued=places.append, limit_s=20)
    assert (found.state, found.verdict, word(found)) == ("done", "PASS", "PASS")
    assert [event.kind for event in events] == ["submitted", "granted", "begun", "done"]
    assert [place.position for place in places] == [1]
    assert ci.run(found.runs[-1].id)["board"] == "pi5-a"
    assert [run["run"] for run in ci.runs(model="mobilenet").runs] == [found.runs[-1].id]
    assert [event.id for event in ci.events(job.id, after=events[1].id)] == [event.id for event in events[2:]]


def test_a_folder_is_sent_file_by_file_and_only_once(ci: Client, tmp_path: Path) -> None:
    folder = tmp_path / "net"
    (folder / "data").mkdir(parents=True)
    (folder / "net.fake").write_text("{}")
    (folder / "data" / "weights.bin").write_bytes(b"1234")
    told: list[tuple[int, int]] = []
    sent = ci.send(folder, progress=lambda done, total: told.append((done, total)))
    assert (sent.is_folder, sent.entry, sent.size_bytes, told[-1]) == (True, "net.fake", 6, (6, 6))
    told.clear()
    (folder / "data" / "more.bin").write_bytes(b"5")
    ci.send(folder, entry="net.fake", progress=lambda done, total: told.append((done, total)))
    assert told == [(0, 1), (1, 1)]


def test_a_file_that_is_too_large_is_told_though_it_is_still_being_sent(ci: Client, tmp_path: Path) -> None:
    (tmp_path / "large.onnx").write_bytes(bytes(8_000_000))
    with pytest.raises(errors.TooLarge, match="3000000 is the limit"):
        ci.send(tmp_path / "large.onnx")


@pytest.mark.parametrize(
    ("more", "kind"),
    [
        ({"on": "accelerator=coral"}, errors.NoBoardFits),
        ({"artifact": "ff" * 32}, errors.NotFound),
        ({"plan": {"processes": 0}}, errors.PlanError),
        ({"on": "famly=x"}, errors.InputError),
    ],
)
def test_what_the_farm_refuses_is_raised_as_what_it_is(
    ci: Client, model: Path, more: dict[str, object], kind: type[errors.FarmError]
) -> None:
    asked = JobAsked.model_validate({"artifact": ci.send(model).sha256, "on": "pi5-a", **more})
    with pytest.raises(errors.InputError) as e:
        ci.submit(asked)
    assert type(e.value) is kind


def test_a_job_is_cancelled_as_often_as_one_likes_and_tried_again(ci: Client, model: Path) -> None:
    job = ci.submit(JobAsked(artifact=ci.send(model).sha256, on="pi5-a"))
    assert [ci.cancel(job.id).state, ci.cancel(job.id).state] == ["cancelled", "cancelled"]
    assert ci.wait(job.id).outcome == "CANCELLED"
    again = ci.retry(job.id)
    assert (again.retry_of, again.state) == (job.id, "queued")
    assert [found.id for found in ci.jobs(limit=1).jobs] == [again.id]
    first = ci.jobs(limit=1)
    assert [found.id for found in ci.jobs(limit=1, cursor=first.next).jobs] == [job.id]


def test_a_job_that_is_over_cannot_be_cancelled(api: live.Live, ci: Client, model: Path) -> None:
    job = ci.submit(JobAsked(artifact=ci.send(model).sha256, on="pi5-a"))
    _measure(api, job.id, Outcome.FAILED, Verdict.FAIL)
    with pytest.raises(errors.Conflict):
        ci.cancel(job.id)
    assert word(ci.wait(job.id)) == "FAIL"


def test_an_admin_runs_boards_workers_and_tokens(admin: Client, api: live.Live) -> None:
    assert admin.save_board("orin", BoardAsked(address="bench@10.0.0.6")).name == "orin"
    assert [board.name for board in admin.boards()] == ["orin", "pi5-a"]
    drained = admin.set_board_state("pi5-a", StateAsked(state=BoardState.MAINTENANCE, note="new fan"))
    assert (drained.state, admin.board("pi5-a").note) == ("maintenance", "new fan")
    assert admin.set_board_health("pi5-a", HealthAsked(health="quarantined")).health == "quarantined"
    worker = admin.workers().workers[0]
    admin.drain_worker(worker.id)
    assert admin.workers().workers[0].draining
    made = admin.make_token(TokenAsked(name="x", role="ci", project="vision"))
    rotated = admin.rotate_token(made.id, RotateAsked(grace_s=0))
    with Client(api.url, rotated.secret) as fresh:
        assert fresh.whoami().project == "vision"
    admin.revoke_token(rotated.id)
    assert rotated.id in [token.id for token in admin.tokens()]
    assert admin.changes(limit=1).changes[0].action.startswith("token.")
    with Client(api.url, rotated.secret) as ended, pytest.raises(errors.NotSignedIn):
        ended.whoami()


@pytest.mark.parametrize(
    ("verdict", "outcome", "expected"),
    [
        ("PASS", "OK", "PASS"),
        ("UNDECIDED", "NOISY", "UNDECIDED"),
        (None, "BROKEN", "BROKEN"),
        (None, "CANCELLED", "CANCELLED"),
        (None, "OK", "UNDECIDED"),
        (None, "FAILED", "FAIL"),
    ],
)
def test_nothing_but_a_verdict_of_pass_is_a_pass(verdict: str | None, outcome: str, expected: str) -> None:
    assert word(JobTold.model_validate(ended(verdict, outcome))) == expected


def test_a_refused_job_is_broken() -> None:
    told = ended(None) | {"state": "refused", "outcome": None}
    assert word(JobTold.model_validate(told)) == "BROKEN"
