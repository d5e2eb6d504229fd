"""What each kind of reference stands for, what is not there yet, and what is misspelt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from farm import gatefile, references, rules
from farm.domain import Arm, Job, Outcome, Selector, Verdict, plan_hash
from farm.errors import InputError, NotFound
from farm.store import baselines, evidence, jobs, queue, results
from farm.store.db import Store, open_store
from tests.farm.judged import FOUR, GATE, NEW, OLD, a_baseline, passed
from tests.farm.store.moves import after, begun, ended, good_board
from tests.farm.store.nouns import PLAN, a_job

ON = "of model 'mobilenet_v2_int8' on 'name=orin-3,tags>={active-cooler}' by this plan"


@pytest.fixture
def store(database_url: str, tmp_path: Path) -> Iterator[Store]:
    opened = open_store(database_url, tmp_path / "blobs", upgrade=False)
    good_board(opened)
    yield opened
    opened.close()


def candidate(**changes: Any) -> Job:
    return a_job(**{"arms": (Arm("a", NEW, PLAN),), "commit": "f00", **changes})


def asked(store: Store, *named: str, text: str = GATE, job: Job | None = None) -> Job:
    """The Job of NEW against these references."""
    gate = gatefile.parse(text, "gate.yaml")
    gate = gatefile.with_references(gate, named) if named else gate
    return references.against(job or candidate(), gate, store=store, main_branch="main")


def compared(store: Store, *named: str, **more: Any) -> dict[str, str]:
    """References that were found: name -> first letters of the Artifact's sha256."""
    found = asked(store, *named, **more)
    assert found.gate is not None
    arms = {arm.letter: arm.artifact.sha256[:2] for arm in found.arms}
    return {name: arms[letter] for name, letter in found.gate.letters.items()}


def old(store: Store, seconds: float = 1.0, **changes: Any) -> Job:
    """A Job of OLD that passed."""
    return passed(store, **{"seconds": seconds, "arms": (Arm("a", OLD, PLAN),), "branch": "main", **changes})


# What is misspelt, or another's


def test_a_misspelt_baseline_is_refused_with_those_that_are_known(store: Store) -> None:
    old(store)
    baselines.save(store, a_baseline(name="deployed"))
    baselines.save(store, a_baseline(name="golden", selector=""))
    with pytest.raises(NotFound) as refused:
        asked(store, "deployd")
    assert str(refused.value) == (
        "Baseline 'deployd' of model 'mobilenet_v2_int8' is not known; known: golden (on any board), deployed (on "
        "name=orin-3,tags>={active-cooler}). Correct the name, or set it: farm baselines set."
    )


@pytest.mark.parametrize("kind", ["run", "artifact"])
@pytest.mark.parametrize("start", ["0" * 12, "deadbeef0000"])
def test_a_run_or_an_artifact_that_is_not_there_is_refused(store: Store, kind: str, start: str) -> None:
    old(store)
    with pytest.raises(NotFound, match=f"'{start}' is not known"):
        asked(store, f"{kind}:{start}")


def test_another_projects_run_artifact_and_baseline_are_not_there(store: Store) -> None:
    theirs = old(store, project="audio")
    (run,) = results.runs_of(store, theirs.id)
    for named in (f"run:{run.id}", f"artifact:{OLD.sha256}"):
        with pytest.raises(NotFound, match="is not known"):
            asked(store, named)
    baselines.save(store, a_baseline(project="audio", name="deployed"))
    found = asked(store, "deployed", "last-passing")
    assert found.gate is not None
    assert (found.gate.letters, sorted(found.gate.absent)) == ({}, ["deployed", "last-passing"])


def test_a_start_that_several_share_is_told_with_them(store: Store) -> None:
    first, second = (results.runs_of(store, old(store, seconds).id)[0].id for seconds in (1, 5))
    shared = first[:4]
    with pytest.raises(InputError, match="is ambiguous") as told:
        asked(store, f"run:{shared}")
    assert first in str(told.value)
    assert second in str(told.value)


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.BROKEN, Outcome.CANCELLED])
def test_a_run_that_measured_nothing_is_no_reference(store: Store, outcome: Outcome) -> None:
    job = jobs.save_job(store, a_job(arms=(Arm("a", OLD, PLAN),)))
    over = ended(store, begun(store, job), outcome)
    queue.finish(store, over, verdict=None, reasons=(), now=after(1))
    with pytest.raises(InputError, match=f"it ended {outcome}"):
        asked(store, f"run:{over.id}")


def test_a_run_that_is_under_way_is_no_reference(store: Store) -> None:
    job = jobs.save_job(store, a_job(arms=(Arm("a", OLD, PLAN),)))
    run = begun(store, job)
    with pytest.raises(InputError, match="has not ended yet"):
        asked(store, f"run:{run.id}")


# What is not there yet


@pytest.mark.parametrize(
    ("named", "why"),
    [
        ("deployed", f"no baseline 'deployed' {ON}"),
        ("last-passing", f"no job {ON} has passed on branch 'main' yet"),
        ("branch:release", f"no job {ON} has passed on branch 'release' yet"),
    ],
)
def test_what_there_is_not_yet_is_left_to_the_gate_with_the_reason(store: Store, named: str, why: str) -> None:
    found = asked(store, named)
    assert found.gate is not None
    assert list(found.gate.absent.values()) == [why]
    assert ([arm.letter for arm in found.arms], found.gate.letters, found.affinity) == (["a"], {}, None)


def test_a_baseline_that_was_set_on_another_board_is_not_there_yet_here(store: Store) -> None:
    old(store)
    baselines.save(store, a_baseline(selector="virtual"))
    found = asked(store, "default")
    assert found.gate is not None
    assert found.gate.absent == {"default": f"no baseline 'default' {ON}"}


# What there is


def test_each_kind_is_an_arm_of_its_own_lettered_by_its_name(store: Store) -> None:
    first = old(store, arms=(Arm("a", OLD, FOUR),), branch="release", selector=Selector(name="orin-3"))
    (run,) = results.runs_of(store, first.id)
    old(store, 5, branch="topic")
    baselines.save(store, a_baseline(name="deployed", plan=FOUR, board="orin-3"))
    found = asked(store, f"run:{run.id}", "deployed", "last-passing", f"artifact:{OLD.sha256[:8]}")
    assert found.gate is not None
    letters = {f"artifact:{OLD.sha256[:8]}": "b", "deployed": "c", f"run:{run.id}": "d"}
    assert (found.gate.letters, list(found.gate.absent)) == (letters, ["last-passing"])
    told = [(arm.letter, arm.artifact.sha256[:2], arm.plan.options["threads"]) for arm in found.arms]
    assert told == [("a", "f6", 2), ("b", "e5", 2), ("c", "e5", 4), ("d", "e5", 4)]
    assert found.affinity == "orin-3"
    kept = jobs.save_job(store, found).gate
    assert kept is not None
    assert (kept.letters, kept.absent) == (letters, found.gate.absent)
    assert rules.gate_from(kept.gate) == rules.gate_from(found.gate.gate)


def test_the_order_in_which_a_gate_names_things_begins_no_new_evidence(store: Store) -> None:
    old(store)
    baselines.save(store, a_baseline(name="deployed", plan=FOUR, plan_hash=plan_hash(PLAN)))
    two = "version: 1\nmetrics: {p50_latency_ns: {max_change: 3 %}, p95_latency_ns: {}}\n"
    same = "version: 1\nmetrics: {p95_latency_ns: {}, p50_latency_ns: {max_change: 3 %}}\n"
    first = asked(store, "deployed", "last-passing", text=two)
    second = asked(store, "last-passing", "deployed", text=same)
    assert first.arms == second.arms
    assert evidence.key_of(first) == evidence.key_of(second)


def test_a_noisy_run_may_be_a_reference(store: Store) -> None:
    job = jobs.save_job(store, a_job(arms=(Arm("a", OLD, PLAN),)))
    over = ended(store, begun(store, job), Outcome.NOISY)
    queue.finish(store, over, verdict=Verdict.UNDECIDED, reasons=(), now=after(1))
    assert list(compared(store, f"run:{over.id[:30]}").values()) == ["e5"]


def test_the_last_that_passed_is_the_newest_of_the_main_branch_or_of_none(store: Store) -> None:
    old(store, 1)
    old(store, 5, branch="topic", arms=(Arm("a", replace(NEW, sha256="aa" * 32), PLAN),))
    assert compared(store, "last-passing") == {"last-passing": "e5"}
    old(store, 9, branch=None, arms=(Arm("a", replace(NEW, sha256="bb" * 32), PLAN),))
    assert compared(store, "last-passing") == {"last-passing": "bb"}
    assert list(compared(store, "branch:topic").values()) == ["aa"]
    assert list(compared(store, "branch:main").values()) == ["e5"]


@pytest.mark.parametrize(
    "changes",
    [
        {"selector": Selector(name="orin-3")},
        {"selector": Selector(virtual=True)},
        {"arms": (Arm("a", OLD, FOUR),)},
        {"model": "resnet"},
        {"project": "audio"},
        {"branch": "topic"},
    ],
)
def test_the_last_that_passed_asked_the_same_of_board_and_plan(store: Store, changes: dict[str, Any]) -> None:
    old(store, **changes)
    assert compared(store, "last-passing") == {}
    old(store, 9)
    assert compared(store, "last-passing") == {"last-passing": "e5"}


@pytest.mark.parametrize(
    ("verdict", "outcome"), [(Verdict.FAIL, Outcome.OK), (Verdict.UNDECIDED, Outcome.NOISY), (None, Outcome.BROKEN)]
)
def test_what_did_not_pass_is_no_reference(store: Store, verdict: Verdict | None, outcome: Outcome) -> None:
    job = jobs.save_job(store, a_job(arms=(Arm("a", OLD, PLAN),), branch="main"))
    over = ended(store, begun(store, job), outcome)
    queue.finish(store, over, verdict=verdict, reasons=(), now=after(1))
    assert compared(store, "last-passing") == {}


def test_a_baseline_keeps_the_plan_that_it_was_set_with(store: Store) -> None:
    old(store)
    baselines.save(store, a_baseline(name="one_thread", plan=FOUR, plan_hash=plan_hash(PLAN)))
    arms = asked(store, "one_thread").arms
    assert [arm.plan for arm in arms] == [PLAN, FOUR]


def test_a_gate_of_limits_alone_needs_no_reference(store: Store) -> None:
    found = asked(store, text="version: 1\nmetrics: {cold_load_rss_bytes: {limit: 200 MB}}\n")
    assert found.gate is not None
    assert (len(found.arms), found.gate.letters, found.gate.absent) == (1, {}, {})


def test_the_board_is_that_of_the_first_reference_that_was_measured(store: Store) -> None:
    good_board(store, "pi5-a")
    old(store, 1)
    baselines.save(store, a_baseline(name="deployed", board="pi5-a"))
    assert asked(store, f"artifact:{OLD.sha256}", "deployed", "last-passing").affinity == "pi5-a"
    assert asked(store, "last-passing", "deployed").affinity == "orin-3"
    assert asked(store, "deployed", job=candidate(affinity="orin-3")).affinity == "orin-3"
