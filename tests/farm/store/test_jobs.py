"""Artifacts and Jobs come back as they were saved."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from farm_agent import wire
from sqlalchemy import func, select

from farm.domain import Arm, File, JobState, plan_hash
from farm.errors import InputError, NotFound
from farm.store import jobs, queue
from farm.store.db import Store
from farm.store.tables import ArtifactFileRow, JobRow, ModelRow, PlanRow, ProjectRow
from tests.farm.store.nouns import ARTIFACT, LATER, NOW, PLAN, a_job


def test_an_unknown_artifact_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound, match="Artifact 'a1' is not known"):
        jobs.find_artifact(store, "a1")


def test_an_empty_prefix_is_no_name(store: Store) -> None:
    with pytest.raises(InputError, match="Give its id, or how that begins"):
        jobs.find_artifact(store, " ")


def test_an_ambiguous_prefix_lists_the_candidates(store: Store) -> None:
    jobs.save_artifact(store, ARTIFACT)
    jobs.save_artifact(store, replace(ARTIFACT, sha256="a1ff" + "0" * 60))
    with pytest.raises(InputError, match=f"'a1' is ambiguous: {'a1' * 32}, a1ff0{'0' * 59} begin so") as caught:
        jobs.find_artifact(store, "a1")
    assert not isinstance(caught.value, NotFound)
    assert jobs.find_artifact(store, "A1A").sha256 == "a1" * 32


def test_a_wildcard_in_a_prefix_matches_only_itself(store: Store) -> None:
    jobs.save_artifact(store, ARTIFACT)
    for prefix in ("%", "_1", "a1%"):
        with pytest.raises(NotFound):
            jobs.find_artifact(store, prefix)


@pytest.mark.parametrize("name", ["mod\udcffel.onnx", "mo\0del"])
def test_a_file_name_that_is_not_text_is_refused(store: Store, name: str) -> None:
    with pytest.raises(InputError, match="which is not UTF-8"):
        jobs.save_artifact(store, replace(ARTIFACT, files=(File(name, "b2" * 32, 1),)))


def test_an_unknown_job_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound, match="Job 'nowhere' is not known"):
        jobs.get_job(store, "nowhere")


def test_an_artifact_comes_back_as_it_was_saved_however_often(store: Store) -> None:
    jobs.save_artifact(store, ARTIFACT)
    jobs.save_artifact(store, ARTIFACT)
    assert jobs.find_artifact(store, ARTIFACT.sha256) == ARTIFACT


def test_a_folder_of_twenty_thousand_files_is_one_artifact(store: Store) -> None:
    files = tuple(File(f"data/{i}.png", "d4" * 32, i) for i in range(20_000))
    jobs.save_artifact(store, replace(ARTIFACT, files=files))
    assert jobs.find_artifact(store, "a1").files == files


def test_a_job_comes_back_as_it_was_saved(store: Store) -> None:
    job = a_job(branch="main", submitted_by="ann")
    jobs.save_job(store, job)
    assert jobs.get_job(store, job.id) == replace(job, queued_at=NOW)


def test_a_plan_keeps_the_seed_and_limits_that_its_hash_leaves_out(store: Store) -> None:
    other = wire.replace(PLAN, feed_seed=8, limits={"load_s": 60})
    assert plan_hash(other) == plan_hash(PLAN)
    first, second = a_job(), a_job(arms=(Arm("a", ARTIFACT, other),))
    jobs.save_job(store, first)
    jobs.save_job(store, second)
    assert jobs.get_job(store, first.id).arms[0].plan == PLAN
    assert jobs.get_job(store, second.id).arms[0].plan == other
    assert _count(store, PlanRow) == 1


def test_saving_a_job_again_changes_nothing_not_even_its_state(store: Store) -> None:
    job = a_job()
    jobs.save_job(store, job)
    queue.cancel(store, job.id, by="ann", now=LATER)
    jobs.save_job(store, job)
    assert jobs.get_job(store, job.id).state is JobState.CANCELLED
    assert _count(store, JobRow) == 1
    assert _count(store, ArtifactFileRow) == 2


def test_jobs_saved_at_once_share_one_project_and_model(store: Store) -> None:
    threads = [threading.Thread(target=jobs.save_job, args=(store, a_job())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (_count(store, JobRow), _count(store, ProjectRow), _count(store, ModelRow)) == (8, 1, 1)


def test_a_model_of_the_same_name_in_another_project_is_another_model(store: Store) -> None:
    jobs.save_job(store, a_job())
    jobs.save_job(store, a_job(project="audio"))
    assert _count(store, ModelRow) == 2


def _count(store: Store, table: type) -> int:
    with store.read() as session:
        return session.scalars(select(func.count()).select_from(table)).one()
