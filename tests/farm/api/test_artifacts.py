"""Artifacts by HTTP: what is refused is stored nowhere, and no Project learns of another's."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from farm.store.db import Store
from tests.farm.api.live import MODEL, MODEL_SHA, Live, answer_of, problem, request, serve

BIG = b"b" * 2_500_000
BIG_SHA = hashlib.sha256(BIG).hexdigest()
OTHER_SHA = hashlib.sha256(b"something else").hexdigest()


def _kept(store: Store) -> list[str]:
    """What lies in the folder of the blobs."""
    return sorted(path.name for path in store.blobs.folder.rglob("*") if path.is_file())


def _upload(api: Live, sha256: str, *headers: str) -> socket.socket:
    connection = api.raw()
    path = f"/api/v1/artifacts/{sha256}?name=m.fake"
    connection.sendall(request("PUT", path, api.secrets["vision-ci"], *headers))
    return connection


def test_a_length_over_the_limit_is_refused_before_a_byte_is_read(api: Live) -> None:
    connection = _upload(api, BIG_SHA, "Content-Length: 3000001", "Expect: 100-continue")
    answer = answer_of(connection)  # the farm closes: it does not wait for what it does not want
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"it has 3000001 bytes, 3000000 is the limit" in answer
    assert _kept(api.store) == []


def test_bytes_over_the_limit_are_refused_though_no_length_was_said(api: Live) -> None:
    data = b"x" * 3_000_001

    def chunks() -> Any:
        for start in range(0, len(data), 100_000):
            yield data[start : start + 100_000]

    sha256 = hashlib.sha256(data).hexdigest()
    answer = api.client("vision-ci").put(f"/artifacts/{sha256}", params={"name": "m.fake"}, content=chunks())
    problem(answer, 413, "TooLarge")
    assert _kept(api.store) == []
    problem(api.client("vision-ci").get(f"/artifacts/{sha256}"), 404, "NotFound")


def test_bytes_of_another_hash_are_refused_and_not_kept(each_api: Live) -> None:
    answer = each_api.client("vision-ci").put(f"/artifacts/{OTHER_SHA}", params={"name": "m.fake"}, content=BIG)
    assert BIG_SHA in problem(answer, 422, "InputError")
    assert _kept(each_api.store) == []
    problem(each_api.client("admin").get(f"/artifacts/{OTHER_SHA}"), 404, "NotFound")


def test_of_a_client_that_goes_away_half_way_nothing_is_kept(api: Live) -> None:
    connection = _upload(api, BIG_SHA, f"Content-Length: {len(BIG)}")
    connection.sendall(BIG[:2_000_000])
    deadline = time.monotonic() + 10
    while not _kept(api.store) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(_kept(api.store)) == 1  # aside
    connection.close()
    while _kept(api.store) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert _kept(api.store) == []
    problem(api.client("vision-ci").get(f"/artifacts/{BIG_SHA}"), 404, "NotFound")


@pytest.mark.parametrize("sent", [0, 100_000])
def test_a_client_that_stalls_is_given_up(impatient: Live, sent: int) -> None:
    connection = _upload(impatient, BIG_SHA, f"Content-Length: {len(BIG)}")
    connection.sendall(BIG[:sent])
    answer = answer_of(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"stalled: less than 65536 bytes came in 1 s" in answer
    assert _kept(impatient.store) == []


def test_a_client_that_trickles_is_given_up(impatient: Live) -> None:
    connection = _upload(impatient, BIG_SHA, f"Content-Length: {len(BIG)}")
    connection.settimeout(0.1)
    answer = b""
    for _ in range(100):
        connection.sendall(b"b")
        try:
            answer = connection.recv(65536)
            break
        except TimeoutError:
            continue
    assert answer.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("sha256", ["0" * 63, "G" * 64, "A" * 64, "%00", "..%2f..%2fetc"])
def test_what_is_no_sha256_is_refused(shared: Live, sha256: str) -> None:
    answer = shared.client("vision-ci").put(f"/artifacts/{sha256}?name=m.fake", content=MODEL)
    assert answer.status_code in (404, 422)
    assert _kept(shared.store) == []


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "a\0b", "a\nb", "x" * 201])
def test_a_name_that_is_no_file_name_is_refused(shared: Live, name: str) -> None:
    answer = shared.client("vision-ci").put(f"/artifacts/{MODEL_SHA}", params={"name": name}, content=MODEL)
    problem(answer, 422, "InputError")
    assert _kept(shared.store) == []


def test_the_first_time_it_is_new_and_the_second_time_it_is_there(each_api: Live) -> None:
    client = each_api.client("vision-ci")
    codes = [
        client.put(f"/artifacts/{BIG_SHA}", params={"name": name}, content=BIG).status_code
        for name in ("a.fake", "b.fake")
    ]
    assert codes == [201, 200]
    told = client.get(f"/artifacts/{BIG_SHA}").json()
    file = {"path": "a.fake", "sha256": BIG_SHA, "size_bytes": 2_500_000}
    assert told == {
        "sha256": BIG_SHA, "name": "a.fake", "entry": "a.fake", "is_folder": False, "size_bytes": 2_500_000,
        "files": [file],
    }  # fmt: skip
    assert client.head(f"/artifacts/{BIG_SHA}").status_code == 200
    assert each_api.store.blobs.size_bytes(BIG_SHA) == 2_500_000


def test_a_file_of_no_bytes_is_one(api: Live) -> None:
    assert api.send(data=b"", file="empty.txt") == hashlib.sha256(b"").hexdigest()


def test_two_who_send_the_same_at_once_both_have_it(each_api: Live) -> None:
    codes = []

    def send(name: str) -> None:
        answer = each_api.client(name).put(f"/artifacts/{BIG_SHA}", params={"name": f"{name}.fake"}, content=BIG)
        codes.append(answer.status_code)

    names = ["vision-ci", "vision-ci", "audio-ci", "audio-ci"]
    threads = [threading.Thread(target=send, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [200, 200, 201, 201]
    assert _kept(each_api.store) == [BIG_SHA[2:]]


def test_another_projects_artifact_is_not_there_nor_is_its_name(each_api: Live) -> None:
    each_api.send("vision-ci", file="secret-of-vision.bin")
    audio = each_api.client("audio-ci")
    problem(audio.get(f"/artifacts/{MODEL_SHA}"), 404, "NotFound")
    assert audio.head(f"/artifacts/{MODEL_SHA}").status_code == 404
    problem(audio.post("/jobs", json={"artifact": MODEL_SHA}), 404, "NotFound")
    folder = {"name": "f", "files": [{"path": "m.fake", "sha256": MODEL_SHA}]}
    assert audio.post("/artifacts", json=folder).json()["missing"] == [MODEL_SHA]
    answer = audio.put(f"/artifacts/{MODEL_SHA}", params={"name": "mine.fake"}, content=MODEL)
    assert (answer.status_code, answer.json()["name"]) == (201, "mine.fake")
    job = audio.post("/jobs", json={"artifact": MODEL_SHA}).json()
    assert (job["model"], job["plan"]) == ("mine", {"runtime": "fake"})
    assert each_api.client("vision-ci").get(f"/artifacts/{MODEL_SHA}").json()["name"] == "secret-of-vision.bin"


def test_more_uploads_at_once_than_there_are_places_are_sent_away(store: Store, tmp_path: Path) -> None:
    with serve(store, tmp_path, upload_idle_s=20.0) as api:
        waiting = [_upload(api, BIG_SHA, f"Content-Length: {len(BIG)}") for _ in range(16)]
        deadline = time.monotonic() + 10
        while api.server.config.app.state.uploads.borrowed_tokens < 16:  # type: ignore[union-attr]
            assert time.monotonic() < deadline
            time.sleep(0.01)
        answer = api.client("audio-ci").put(f"/artifacts/{MODEL_SHA}", params={"name": "m.fake"}, content=MODEL)
        problem(answer, 503, "LabError")
        assert answer.headers["retry-after"] == "5"
        assert api.client("audio-ci").get("/jobs").status_code == 200  # the others are served
        for connection in waiting:
            connection.close()
