"""Folders by HTTP: manifests of files that were sent before."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from farm import intake
from tests.farm.api.live import MODEL, MODEL_SHA, Live, problem

WEIGHTS_SHA = hashlib.sha256(b"weights").hexdigest()


def _folder(*paths: str, **more: Any) -> dict[str, Any]:
    return {"name": "llm", "files": [{"path": path, "sha256": MODEL_SHA} for path in paths], **more}


@pytest.mark.parametrize(
    "paths",
    [
        ("../m.fake",),
        ("/etc/m.fake",),
        ("a//m.fake",),
        ("a/./m.fake",),
        ("a\\m.fake",),
        ("m.fake\0",),
        ("m.fake\n",),
        ("",),
        ("m.fake", "m.fake"),
        ("m.fake", "m.fake/inner"),
        ("a/b/c", "m.fake", "a/b"),
        (),
    ],
)
def test_a_path_that_could_leave_the_folder_or_meet_another_is_refused(shared: Live, paths: tuple[str, ...]) -> None:
    shared.send()
    problem(shared.client("vision-ci").post("/artifacts", json=_folder(*paths)), 422, "InputError")


@pytest.mark.parametrize("entry", ["no-such.fake", "", "../m.fake"])
def test_an_entry_that_is_not_in_the_folder_is_refused(shared: Live, entry: str) -> None:
    shared.send()
    problem(shared.client("vision-ci").post("/artifacts", json=_folder("m.fake", entry=entry)), 422, "InputError")


def test_a_folder_in_which_no_one_model_can_be_told_needs_an_entry(api: Live) -> None:
    api.send()
    client = api.client("vision-ci")
    assert "2 models" in problem(client.post("/artifacts", json=_folder("a.fake", "b.fake")), 422, "InputError")
    assert client.post("/artifacts", json=_folder("a.fake", "b.fake", entry="b.fake")).json()["entry"] == "b.fake"
    answer = client.post("/artifacts", json=_folder("a.fake", "b.fake", entry="a.fake"))
    assert "has it with 'b.fake'" in problem(answer, 409, "Conflict")


def test_files_that_were_not_sent_are_listed_and_sent_and_then_it_is_the_same_as_a_local_folder(
    each_api: Live, tmp_path: Path
) -> None:
    client = each_api.client("vision-ci")
    asked = {
        "name": "llm",
        "files": [
            {"path": "weights/part.bin", "sha256": WEIGHTS_SHA},
            {"path": "m.fake", "sha256": MODEL_SHA},
        ],
    }
    answer = client.post("/artifacts", json=asked)
    assert "lacks 2 of its 2 files" in problem(answer, 409, "Conflict")
    assert answer.json()["missing"] == sorted([WEIGHTS_SHA, MODEL_SHA])
    each_api.send()
    assert client.post("/artifacts", json=asked).json()["missing"] == [WEIGHTS_SHA]
    each_api.send(data=b"weights", file="part.bin")
    told = client.post("/artifacts", json=asked)
    assert told.status_code == 201
    (tmp_path / "llm" / "weights").mkdir(parents=True)
    (tmp_path / "llm" / "m.fake").write_bytes(MODEL)
    (tmp_path / "llm" / "weights" / "part.bin").write_bytes(b"weights")
    local = intake.receive(tmp_path / "llm", store=each_api.store)
    assert told.json()["sha256"] == local.sha256
    assert (told.json()["entry"], told.json()["size_bytes"], told.json()["is_folder"]) == ("m.fake", 9, True)
    assert [file["path"] for file in told.json()["files"]] == [file.path for file in local.files]
    assert client.post("/jobs", json={"artifact": local.sha256}).json()["artifact_name"] == "llm"


def test_a_folder_is_no_file_of_a_folder(api: Live) -> None:
    api.send()
    client = api.client("vision-ci")
    inner = client.post("/artifacts", json=_folder("m.fake")).json()["sha256"]
    answer = client.post("/artifacts", json={"name": "f", "files": [{"path": "m.fake", "sha256": inner}]})
    assert answer.json()["missing"] == [inner]
