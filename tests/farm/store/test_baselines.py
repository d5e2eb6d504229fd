"""Baselines: set, followed, pinned, removed; every change stays in their history and in the audit log."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from farm.domain import Arm, Baseline, Job, Outcome, Run, Selector, Verdict, plan_hash
from farm.errors import InputError, NotFound
from farm.store import audit, baselines, jobs, queue
from farm.store.db import Store
from tests.farm.judged import FOUR, NEW, OLD, a_baseline, decided, gated, passed
from tests.farm.store.moves import after, at_once, begun, ended, good_board
from tests.farm.store.nouns import NOW, PLAN, a_job

MODEL = "mobilenet_v2_int8"


@pytest.fixture
def stocked(store: Store) -> Store:
    """A store whose Projects vision and audio have sent OLD and NEW, with a Board."""
    good_board(store)
    for project in ("vision", "audio"):
        for artifact in (OLD, NEW):
            job = jobs.save_job(store, a_job(project=project, arms=(Arm("a", artifact, PLAN),)))
            queue.cancel(store, job.id, by="ann", now=NOW)
    return store


def now_is(store: Store) -> list[tuple[str, str | None]]:
    """The Baselines of vision: name and artifact."""
    return [
        (one.name, one.artifact.sha256 if one.artifact else None) for one in baselines.current(store, "vision", MODEL)
    ]


def ends(store: Store, verdict: Verdict | None, outcome: Outcome = Outcome.OK, **changes: Any) -> Job:
    """A Job of NEW that ends so."""
    job = jobs.save_job(store, a_job(**{"arms": (Arm("a", NEW, PLAN),), **changes}))
    over = ended(store, begun(store, job, now=after(1)), outcome, now=after(2))
    assert queue.finish(store, over, verdict=verdict, reasons=(), now=after(2))
    return job


def test_what_is_half_a_baseline_is_refused_and_changes_nothing(stocked: Store) -> None:
    for half in (a_baseline(artifact=None), a_baseline(plan=None)):
        with pytest.raises(InputError, match="an artifact and a plan, or neither"):
            baselines.save(stocked, half)
    assert baselines.current(stocked, None) == []
    assert [one for one in audit.changes(stocked, limit=10) if one.action.startswith("baseline")] == []


def test_a_baseline_is_found_for_its_model_selector_and_plan_alone(stocked: Store) -> None:
    baselines.save(stocked, a_baseline())
    job = a_job(arms=(Arm("a", NEW, PLAN),))
    assert baselines.find(stocked, job, "default") == a_baseline()
    others: list[tuple[Job, str]] = [
        (job, "deployed"),
        (replace(job, model="resnet"), "default"),
        (replace(job, project="audio"), "default"),
        (replace(job, selector=Selector(name="orin-3")), "default"),
        (replace(job, arms=(Arm("a", NEW, FOUR),)), "default"),
    ]
    assert [baselines.find(stocked, *other) for other in others] == [None] * len(others)


@pytest.mark.parametrize(
    ("verdict", "outcome", "changes"),
    [
        (Verdict.FAIL, Outcome.OK, {"branch": "main"}),
        (Verdict.FAIL, Outcome.FAILED, {"branch": "main"}),
        (Verdict.UNDECIDED, Outcome.NOISY, {"branch": "main"}),
        (None, Outcome.BROKEN, {"branch": "main"}),
        (None, Outcome.CANCELLED, {"branch": "main"}),
        (Verdict.PASS, Outcome.OK, {"branch": "topic"}),
        (Verdict.PASS, Outcome.OK, {"branch": None}),
        (Verdict.PASS, Outcome.OK, {"branch": "Main"}),
        (Verdict.PASS, Outcome.OK, {"branch": "main", "model": "resnet"}),
        (Verdict.PASS, Outcome.OK, {"branch": "main", "project": "audio"}),
        (Verdict.PASS, Outcome.OK, {"branch": "main", "selector": Selector(name="orin-3")}),
        (
            Verdict.PASS,
            Outcome.OK,
            {"branch": "main", "arms": (Arm("a", NEW, FOUR),)},
        ),
    ],
)
def test_nothing_but_a_pass_of_the_followed_branch_on_the_same_promotes(
    stocked: Store, verdict: Verdict | None, outcome: Outcome, changes: dict[str, Any]
) -> None:
    baselines.save(stocked, a_baseline(follows="main"))
    ends(stocked, verdict, outcome, **changes)
    assert now_is(stocked) == [("default", OLD.sha256)]
    assert len(baselines.history(stocked, "vision", MODEL, "default")) == 1


def test_a_pass_of_the_followed_branch_is_the_baseline_from_then_on(stocked: Store) -> None:
    baselines.save(stocked, a_baseline(follows="main"))
    job = ends(stocked, Verdict.PASS, branch="main")
    now, before = baselines.history(stocked, "vision", MODEL, "default")
    assert before == a_baseline(follows="main")
    assert now == a_baseline(
        follows="main", artifact=NEW, job_id=job.id, board="orin-3", commit="0a1b2c3", set_by="farm", set_at=after(2),
        note=f"job {job.id} of branch main passed",
    )  # fmt: skip
    assert baselines.find(stocked, job, "default") == now
    ends(stocked, Verdict.PASS, branch="main")  # the same artifact again
    assert len(baselines.history(stocked, "vision", MODEL, "default")) == 2


def test_a_gated_job_promotes_its_candidate_and_not_what_it_was_compared_with(stocked: Store) -> None:
    baselines.save(stocked, a_baseline(follows="main"))
    decided(stocked, jobs.save_job(stocked, gated(branch="main")))
    assert now_is(stocked) == [("default", NEW.sha256)]


def test_each_name_follows_its_own_branch(stocked: Store) -> None:
    baselines.save(stocked, a_baseline(follows="main"))
    baselines.save(stocked, a_baseline(name="deployed", follows="release"))
    baselines.save(stocked, a_baseline(name="golden"))
    ends(stocked, Verdict.PASS, branch="release")
    found = dict(now_is(stocked))
    assert found == {"default": OLD.sha256, "deployed": NEW.sha256, "golden": OLD.sha256}


def test_a_pinned_baseline_stays_until_it_is_unpinned(stocked: Store) -> None:
    baselines.save(stocked, a_baseline(follows="main"))
    baselines.save(stocked, a_baseline(follows="main", is_pinned=True, set_at=after(0.5)))
    ends(stocked, Verdict.PASS, branch="main")
    assert now_is(stocked) == [("default", OLD.sha256)]
    baselines.save(stocked, a_baseline(follows="main", set_at=after(3)))
    ends(stocked, Verdict.PASS, branch="main")
    assert now_is(stocked) == [("default", NEW.sha256)]


def test_a_removed_baseline_is_gone_follows_nothing_and_stays_in_the_history(stocked: Store) -> None:
    baselines.save(stocked, a_baseline(follows="main"))
    baselines.save(stocked, a_baseline(follows="main", artifact=None, plan=None, note="removed", set_by="bob"))
    assert (now_is(stocked), baselines.names(stocked, "vision", MODEL)) == ([], [])
    assert baselines.find(stocked, a_job(arms=(Arm("a", NEW, PLAN),)), "default") is None
    ends(stocked, Verdict.PASS, branch="main")
    assert now_is(stocked) == []
    history = baselines.history(stocked, "vision", MODEL, "default")
    assert [(one.artifact, one.set_by) for one in history] == [(None, "bob"), (OLD, "ann")]


def test_every_change_is_in_the_audit_log_of_its_project(stocked: Store) -> None:
    baselines.save(stocked, a_baseline(follows="main", note="first"))
    ends(stocked, Verdict.PASS, branch="main")
    baselines.save(stocked, a_baseline(artifact=None, plan=None, set_by="bob", set_at=after(9)))
    found = [one for one in audit.changes(stocked, limit=20) if one.action.startswith("baseline")]
    told = [(one.action, one.actor, one.subject, one.project, one.data["artifact"]) for one in found]
    what = (f"{MODEL}/default", "vision")
    assert told == [
        ("baseline.remove", "bob", *what, None),
        ("baseline.set", "farm", *what, NEW.sha256),
        ("baseline.set", "ann", *what, OLD.sha256),
    ]
    assert (found[2].data["follows"], found[2].data["note"]) == ("main", "first")


def test_projects_do_not_see_each_others(stocked: Store) -> None:
    baselines.save(stocked, a_baseline())
    baselines.save(stocked, a_baseline(project="audio", artifact=NEW))
    assert [one.project for one in baselines.current(stocked, "audio")] == ["audio"]
    assert [one.artifact for one in baselines.history(stocked, "vision", MODEL, "default")] == [OLD]
    assert [one.project for one in baselines.current(stocked, None)] == ["audio", "vision"]
    assert baselines.history(stocked, "video", MODEL, "default") == []


def test_the_same_name_on_another_selector_or_plan_is_another_baseline(stocked: Store) -> None:
    baselines.save(stocked, a_baseline())
    baselines.save(stocked, a_baseline(selector="virtual", artifact=NEW))
    baselines.save(stocked, a_baseline(plan=FOUR, plan_hash=plan_hash(FOUR)))
    assert len(now_is(stocked)) == 3
    assert baselines.names(stocked, "vision", MODEL) == [
        "default (on name=orin-3,tags>={active-cooler})", "default (on virtual)",
        "default (on name=orin-3,tags>={active-cooler})",
    ]  # fmt: skip
    ends(stocked, Verdict.PASS, branch="main")
    assert len(baselines.history(stocked, "vision", MODEL, "default")) == 3


def test_many_changes_at_once_are_each_kept(stocked: Store) -> None:
    changes = [lambda n=n: baselines.save(stocked, a_baseline(note=f"{n}")) for n in range(6)]
    at_once(*changes)
    history = baselines.history(stocked, "vision", MODEL, "default")
    assert sorted(one.note for one in history) == ["0", "1", "2", "3", "4", "5"]
    assert baselines.current(stocked, "vision") == history[:1]


def test_a_pin_holds_although_a_job_passes_at_the_same_moment(stocked: Store) -> None:
    for at in range(5):
        baselines.save(stocked, a_baseline(follows="main", set_at=after(10 * at)))
        job = jobs.save_job(stocked, a_job(arms=(Arm("a", NEW, PLAN),), branch="main"))
        over = ended(stocked, begun(stocked, job, now=after(10 * at + 1)), now=after(10 * at + 2))
        pinned = a_baseline(follows="main", board="orin-3", is_pinned=True, set_at=after(10 * at + 2))

        def finish(over: Run = over) -> None:
            queue.finish(stocked, over, verdict=Verdict.PASS, reasons=(), now=NOW)

        def pin(pinned: Baseline = pinned) -> None:
            baselines.save(stocked, pinned)

        assert at_once(finish, pin) == [None, None]
        assert baselines.current(stocked, "vision") == [pinned]


def test_a_run_and_an_artifact_are_found_by_their_start_in_their_project_alone(stocked: Store) -> None:
    job = passed(stocked)
    assert baselines.board_of(stocked, job.id) == "orin-3"
    assert baselines.board_of(stocked, "01990000-0000-7000-8000-000000000000") is None
    assert baselines.artifact_of(stocked, "vision", OLD.sha256[:8]) == OLD
    for project, sha256 in (("video", OLD.sha256), ("audio", "a1" * 32), ("vision", "00000000")):
        with pytest.raises(NotFound):
            baselines.artifact_of(stocked, project, sha256)


def test_an_attempt_that_broke_is_no_place_where_a_job_was_measured(stocked: Store) -> None:
    job = ends(stocked, None, Outcome.BROKEN)
    assert baselines.board_of(stocked, job.id) is None
