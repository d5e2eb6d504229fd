"""Artifacts and Plans at the door: what is wrong is said, and nothing is half-kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from farm import domain, intake
from farm.errors import InputError, PlanError
from farm.store import db, jobs

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[db.Store]:
    opened = db.open_store(f"sqlite:///{tmp_path / 'farm.db'}", tmp_path / "blobs", upgrade=True)
    yield opened
    opened.close()


def write(path: Path, data: bytes = b"model") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def fake(name: str = "model.fake") -> domain.Artifact:
    return domain.Artifact("0" * 64, name, name, ())


def test_a_file_is_known_by_its_sha256_and_its_bytes_are_kept(store: db.Store, tmp_path: Path) -> None:
    artifact = intake.receive(write(tmp_path / "m.onnx", b"abc"), store=store)
    assert artifact.sha256 == hashlib.sha256(b"abc").hexdigest()
    assert (artifact.name, artifact.entry, artifact.size_bytes, artifact.is_folder) == ("m.onnx", "m.onnx", 3, False)
    assert store.blobs.path(artifact.sha256).read_bytes() == b"abc"
    assert jobs.find_artifact(store, artifact.sha256) == artifact


def test_a_folder_is_a_manifest_and_its_one_model_is_the_entry(store: db.Store, tmp_path: Path) -> None:
    write(tmp_path / "m" / "model.onnx")
    write(tmp_path / "m" / "data" / "weights.bin", b"w")
    artifact = intake.receive(tmp_path / "m", store=store)
    assert [file.path for file in artifact.files] == ["data/weights.bin", "model.onnx"]
    assert (artifact.entry, artifact.is_folder) == ("model.onnx", True)


def test_two_folders_with_equal_content_are_one_artifact(store: db.Store, tmp_path: Path) -> None:
    for name in ("x", "y"):
        write(tmp_path / name / "model.onnx", b"same")
    assert intake.receive(tmp_path / "x", store=store).sha256 == intake.receive(tmp_path / "y", store=store).sha256


def test_a_folder_with_two_models_asks_for_the_entry(store: db.Store, tmp_path: Path) -> None:
    write(tmp_path / "m" / "a.onnx")
    write(tmp_path / "m" / "b.tflite")
    with pytest.raises(InputError, match=r"2 models \(a\.onnx, b\.tflite\).*--entry FILE"):
        intake.receive(tmp_path / "m", store=store)
    assert intake.receive(tmp_path / "m", store=store, entry="b.tflite").entry == "b.tflite"
    with pytest.raises(InputError, match=r"'c\.onnx' is not in artifact folder"):
        intake.receive(tmp_path / "m", store=store, entry="c.onnx")


def test_a_missing_file_names_its_nearest_neighbour(store: db.Store, tmp_path: Path) -> None:
    write(tmp_path / "mobilenet.onnx")
    with pytest.raises(InputError, match=r"was not found.*Did you mean '.*mobilenet\.onnx'"):
        intake.receive(tmp_path / "mobilenot.onnx", store=store)


def test_a_dangling_link_is_called_one(store: db.Store, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").symlink_to(tmp_path / "gone")
    with pytest.raises(InputError, match="a link that leads nowhere"):
        intake.receive(tmp_path / "m.onnx", store=store)


def test_an_empty_folder_and_a_socket_are_no_artifacts(store: db.Store, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds 0 files"):
        intake.receive(tmp_path / "empty", store=store)
    with pytest.raises(InputError, match="neither a file nor a folder"):
        intake.receive(Path("/dev/null"), store=store)


def test_the_runtime_is_told_by_the_suffix_and_defaults_leave_the_plan() -> None:
    plan = intake.plan_from({"options": {"threads": 1}}, artifact=fake("m.onnx"))
    assert plan.runtime == "onnxruntime"
    assert domain.plan_form(plan) == {"runtime": "onnxruntime"}
    assert intake.plan_from({"options": {"threads": 2}}, artifact=fake("m.onnx")).options == {"threads": 2}


@pytest.mark.parametrize(
    ("data", "seen"),
    [
        ({"runtime": "onnxruntim"}, r"'onnxruntim' is not known.*did you mean 'onnxruntime'"),
        ({"scenario": "pacd"}, r"did you mean 'paced'"),
        ({"options": {"thread": 2}}, r"no option 'thread'; known: .*threads"),
        ({"options": {"threads": "two"}}, r"'threads' of runtime 'onnxruntime' is 'two'"),
        ({"duration": 3}, r"no field 'duration'"),
        ({"duration_s": -1}, r"duration_s is -1; a positive number"),
        ({"duration_s": float("nan")}, r"not a number"),
        ({"cache": "lukewarm"}, r"allowed: cold, warm"),
        ({"shapes": {"x": [0]}}, r"shapes\['x'\]"),
        ({"limits": {"memory_bytes": "1G"}}, r"limits.memory_bytes"),
        ({"sensors": ["thermel"]}, r"did you mean 'thermal'"),
    ],
)
def test_a_wrong_plan_says_which_field_and_what_was_seen(data: dict[str, object], seen: str) -> None:
    with pytest.raises(PlanError, match=seen):
        intake.plan_from(data, artifact=fake("m.onnx"))


def test_a_plan_that_names_a_feed_is_told_to_give_the_file(store: db.Store, tmp_path: Path) -> None:
    artifact = intake.receive(write(tmp_path / "m.fake", b"{}"), store=store)
    plan = intake.plan_from({"feed": "x.npz"}, artifact=artifact)
    with pytest.raises(PlanError, match="--feed"):
        intake.submit(
            store=store,
            artifact=artifact,
            plan=plan,
            model=None,
            project="p",
            selector=domain.Selector(),
            now=NOW,
        )


def test_an_unknown_suffix_lists_the_known_ones() -> None:
    with pytest.raises(PlanError, match=r"suffix '\.pt'.*\.onnx \(onnxruntime\).*--runtime"):
        intake.plan_from({}, artifact=fake("m.pt"))


def test_a_feed_becomes_a_blob_and_part_of_the_plan(store: db.Store, tmp_path: Path) -> None:
    artifact = intake.receive(write(tmp_path / "m.fake", b"{}"), store=store)
    feed = write(tmp_path / "in.npz", b"npz")
    sha256 = hashlib.sha256(b"npz").hexdigest()
    job = intake.submit(
        store=store,
        artifact=artifact,
        plan=intake.plan_from({}, artifact=artifact),
        model=None,
        project="default",
        selector=domain.Selector(name="local"),
        now=NOW,
        feed=feed,
    )
    assert job.arms[0].plan.feed == f"{sha256}/feed.npz"
    assert store.blobs.has(sha256)
    assert jobs.get_job(store, job.id) == job
    assert job.model == "m"
