"""Artifacts on their way to a farm: hashed here, sent once, and never other than they were hashed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from farm import errors
from farm.client import Client
from farm.domain import digest
from tests.farm.standin import TOKEN, Hurried, Reply, StandIn, artifact, problem, standing_in

DATA = bytes(range(256)) * 4096  # 1 MiB
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def farm() -> Iterator[StandIn]:
    with standing_in() as found:
        yield found


@pytest.fixture
def client(farm: StandIn) -> Iterator[Client]:
    with Client(farm.url, TOKEN, time=Hurried().time) as found:
        yield found


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m ü&?.onnx"
    path.write_bytes(DATA)
    return path


def test_a_file_is_sent_with_its_name_hash_and_length_and_the_way_is_told(
    farm: StandIn, client: Client, model: Path
) -> None:
    farm.on("PUT", f"/artifacts/{SHA256}", Reply(201, artifact(model.name, DATA, SHA256)))
    told: list[tuple[int, int]] = []
    assert client.send(model, progress=lambda done, total: told.append((done, total))).sha256 == SHA256
    (asked,) = farm.of("PUT", f"/artifacts/{SHA256}")
    assert asked.body == DATA
    assert asked.query == {"name": ["m ü&?.onnx"]}
    assert (asked.headers["Content-Length"], "Transfer-Encoding" in asked.headers) == (str(len(DATA)), False)
    assert (told[0], told[-1]) == ((0, len(DATA)), (len(DATA), len(DATA)))
    assert told == sorted(told)


def test_a_file_that_the_farm_has_is_not_sent(farm: StandIn, client: Client, model: Path) -> None:
    farm.on("GET", f"/artifacts/{SHA256}", Reply(200, artifact(model.name, DATA, SHA256)))
    assert client.send(model).name == model.name
    assert [asked.method for asked in farm.asked] == ["GET"]


def test_an_upload_that_is_cut_is_sent_again_from_its_start(farm: StandIn, client: Client, model: Path) -> None:
    farm.on("PUT", f"/artifacts/{SHA256}", Reply(cut=True), Reply(503), Reply(201, artifact(model.name, DATA, SHA256)))
    client.send(model)
    assert [len(asked.body) for asked in farm.of("PUT", f"/artifacts/{SHA256}")] == [len(DATA)] * 3


def test_an_upload_that_is_too_large_is_told_as_the_farm_says(farm: StandIn, client: Client, model: Path) -> None:
    farm.on("PUT", f"/artifacts/{SHA256}", problem(413, "TooLarge", "m.onnx has 1 MiB; this farm takes 1 kB."))
    with pytest.raises(errors.TooLarge, match="this farm takes 1 kB"):
        client.send(model)


@pytest.mark.parametrize("changed", [b"x" + DATA, DATA[:-1], b"x" + DATA[1:], b""])
def test_a_file_that_changes_while_it_is_sent_never_arrives(
    farm: StandIn, client: Client, model: Path, changed: bytes
) -> None:
    def change(done: int, total: int) -> None:
        if done == 0:
            model.write_bytes(changed)

    with pytest.raises(errors.InputError, match="was changed while it was sent"):
        client.send_file(model, progress=change)
    assert farm.of("PUT", f"/artifacts/{SHA256}") == []


def test_an_empty_file_is_sent_as_one(farm: StandIn, client: Client, tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    sha256 = hashlib.sha256(b"").hexdigest()
    farm.on("PUT", f"/artifacts/{sha256}", Reply(201, artifact("empty", b"", sha256)))
    assert client.send_file(tmp_path / "empty").size_bytes == 0
    assert farm.asked[-1].headers["Content-Length"] == "0"


@pytest.mark.parametrize("name", ["gone", "folder"])
def test_what_cannot_be_read_is_told_before_anything_is_sent(
    farm: StandIn, client: Client, tmp_path: Path, name: str
) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(errors.InputError, match=name):
        client.send_file(tmp_path / name)
    assert farm.asked == []


@pytest.fixture
def folder(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A folder of three files, two of them alike, and their hashes."""
    path = tmp_path / "model"
    (path / "data").mkdir(parents=True)
    contents = {"data/one.bin": b"1", "data/two.bin": b"1", "m.onnx": b"2"}
    for name, data in contents.items():
        (path / name).write_bytes(data)
    return path, {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}


def test_of_a_folder_only_what_the_farm_lacks_is_sent(
    farm: StandIn, client: Client, folder: tuple[Path, dict[str, str]]
) -> None:
    path, hashes = folder
    whole = digest(sorted([name, sha256] for name, sha256 in hashes.items()))
    one = hashes["data/one.bin"]
    farm.on(
        "POST",
        "/artifacts",
        problem(409, "Conflict", "One file was not sent.", missing=[one]),
        Reply(201, {**artifact("model", b"", whole), "is_folder": True, "entry": "m.onnx"}),
    )
    farm.on("PUT", f"/artifacts/{one}", Reply(201, artifact("one.bin", b"1", one)))
    told: list[tuple[int, int]] = []
    found = client.send(path, entry="m.onnx", progress=lambda done, total: told.append((done, total)))
    assert found.sha256 == whole
    first, second = farm.of("POST", "/artifacts")
    assert first.data == second.data
    assert first.data == {
        "name": "model",
        "entry": "m.onnx",
        "files": [{"path": name, "sha256": sha256} for name, sha256 in sorted(hashes.items())],
    }
    assert [asked.path for asked in farm.asked if asked.method == "PUT"] == [f"/api/v1/artifacts/{one}"]
    assert told[-1] == (1, 1)


def test_a_farm_that_always_lacks_something_is_given_up(
    farm: StandIn, client: Client, folder: tuple[Path, dict[str, str]]
) -> None:
    path, hashes = folder
    one = hashes["m.onnx"]
    farm.on("POST", "/artifacts", problem(409, "Conflict", "One file was not sent.", missing=[one, "ff" * 32]))
    farm.on("PUT", f"/artifacts/{one}", Reply(200, artifact("m.onnx", b"2", one)))
    with pytest.raises(errors.Conflict, match="One file was not sent"):
        client.send(path)
    assert len(farm.of("PUT", f"/artifacts/{one}")) == 3


def test_a_server_that_is_no_farm_gets_no_file(farm: StandIn, client: Client, model: Path) -> None:
    farm.on("GET", f"/artifacts/{SHA256}", Reply(404, b"<h1>nginx</h1>", kind="text/html"))
    with pytest.raises(errors.InputError, match="See that it is the URL of a benchfarm"):
        client.send(model)
    assert [asked.method for asked in farm.asked] == ["GET"]
