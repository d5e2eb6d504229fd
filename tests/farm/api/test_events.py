"""Events as they happen: none is missed, told twice or told to others; nothing waits for who takes none."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Generator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx_sse
import pytest

from farm.api.events import BACKLOG, Hub, Listener
from farm.domain import Event
from farm.store import events, queue
from farm.store.db import Store
from tests.farm.api.live import NOW, Live, answer_of, problem, request, serve


def _tell(api: Live, job_id: str, n: int, start: int = 0) -> None:
    with api.store.write() as session:
        for i in range(start, start + n):
            events.add(session, job_id, kind="note", at=NOW + timedelta(seconds=i), data={"text": f"note {i}"})
            session.flush()


def _stream(
    api: Live, job_id: str, who: str = "vision-ci", last: int | None = None
) -> Generator[httpx_sse.ServerSentEvent, None, None]:
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    with httpx_sse.connect_sse(api.client(who), "GET", f"/jobs/{job_id}/events", headers=headers) as source:
        yield from source.iter_sse()


def _until(is_true: Any) -> None:
    deadline = time.monotonic() + 10
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _hub(api: Live) -> Hub:
    return api.server.config.app.state.hub  # type: ignore[no-any-return, union-attr]


@pytest.mark.parametrize("last", ["x", "-1", "1.5", str(2**63), "1, 2"])
def test_a_last_event_id_that_is_no_number_is_refused(api: Live, last: str) -> None:
    job_id = api.submit()["id"]
    answer = api.client("vision-ci").get(f"/jobs/{job_id}/events", headers={"Last-Event-ID": last})
    problem(answer, 422, "InputError")


def test_another_projects_events_are_not_there(api: Live) -> None:
    job_id = api.submit()["id"]
    for accept in ("text/event-stream", "application/json"):
        answer = api.client("audio-ci").get(f"/jobs/{job_id}/events", headers={"Accept": accept})
        problem(answer, 404, "NotFound")


def test_the_events_of_a_job_that_is_over_come_all_and_the_stream_ends(each_api: Live) -> None:
    job_id = each_api.submit()["id"]
    _tell(each_api, job_id, 1500)
    queue.cancel(each_api.store, job_id, by="ann", now=NOW)
    found = list(_stream(each_api, job_id))
    assert [one.event for one in found] == ["submitted", *["note"] * 1500, "cancel", "cancelled"]
    ids = [int(one.id) for one in found]
    assert ids == sorted(set(ids))
    assert found[1].json()["data"] == {"text": "note 0"}
    assert found[-1].json()["data"]["outcome"] == "CANCELLED"


def test_after_the_last_event_there_is_nothing_and_the_stream_ends(api: Live) -> None:
    job_id = api.submit()["id"]
    queue.cancel(api.store, job_id, by="ann", now=NOW)
    last = events.of_job(api.store, job_id)[-1].id
    assert list(_stream(api, job_id, last=last)) == []
    assert list(_stream(api, job_id, last=last + 1000)) == []


def test_who_listens_hears_what_happens_from_now_to_the_end(each_api: Live) -> None:
    job_id, other = each_api.submit()["id"], each_api.submit()["id"]
    stream = _stream(each_api, job_id)
    assert next(stream).event == "submitted"
    _tell(each_api, other, 1)
    _tell(each_api, job_id, 1)
    assert next(stream).json()["data"] == {"text": "note 0"}
    each_api.client("vision-ci").post(f"/jobs/{job_id}/cancel")
    assert [one.event for one in stream] == ["cancel", "cancelled"]


def test_who_comes_back_with_the_last_event_id_misses_none_and_hears_none_twice(each_api: Live) -> None:
    job_id = each_api.submit()["id"]
    _tell(each_api, job_id, 5)
    first = []
    for one in _stream(each_api, job_id):
        first.append(one)
        if len(first) == 3:
            break
    _tell(each_api, job_id, 3, start=5)
    stream = _stream(each_api, job_id, last=int(first[-1].id))
    second = [next(stream) for _ in range(6)]
    assert [one.json()["data"].get("text") for one in first + second] == [None, *(f"note {i}" for i in range(8))]
    stream.close()


def test_the_events_so_far_as_json_end_at_once(api: Live) -> None:
    job_id = api.submit()["id"]
    _tell(api, job_id, 2)
    headers = {"Accept": "application/json"}
    found = api.client("vision-ci").get(f"/jobs/{job_id}/events", headers=headers).json()["events"]
    assert [one["kind"] for one in found] == ["submitted", "note", "note"]
    later = api.client("vision-ci").get(
        f"/jobs/{job_id}/events", headers={**headers, "Last-Event-ID": str(found[1]["id"])}
    )
    assert [one["data"]["text"] for one in later.json()["events"]] == ["note 1"]


def test_one_poller_serves_all_and_rests_while_nobody_listens(api: Live) -> None:
    job_id = api.submit()["id"]
    streams = [_stream(api, job_id) for _ in range(5)]
    for stream in streams:
        next(stream)
    hub = _hub(api)
    _until(lambda: hub.listeners == 5)
    assert hub.is_polling
    _tell(api, job_id, 1)
    assert [next(stream).event for stream in streams] == ["note"] * 5
    for stream in streams:
        stream.close()
    _until(lambda: hub.listeners == 0 and hub.taken == 0)
    _until(lambda: not hub.is_polling)


def test_when_the_server_stops_streams_end_at_once_and_can_be_resumed_elsewhere(api: Live) -> None:
    job_id = api.submit()["id"]
    heard: list[str] = []

    def listen() -> None:
        path = f"/api/v1/jobs/{job_id}/events"
        connection = api.raw()
        connection.sendall(request("GET", path, api.secrets["vision-ci"], "Accept: text/event-stream"))
        heard.append(answer_of(connection).decode())

    thread = threading.Thread(target=listen)
    thread.start()
    _until(lambda: _hub(api).listeners == 1)
    began_s = time.monotonic()
    api.server.should_exit = True
    thread.join()
    assert time.monotonic() - began_s < 5  # not the ten seconds after which it would be cut off
    assert ": the farm is stopping\n\n" in heard[0]
    assert "event: submitted\n" in heard[0]
    assert heard[0].endswith("0\r\n\r\n")  # a clean end


def test_a_revoked_token_hears_its_stream_to_the_end_and_opens_no_other(api: Live) -> None:
    job_id = api.submit()["id"]
    stream = _stream(api, job_id)
    next(stream)
    token_id = api.client("vision-ci").get("/tokens/self").json()["id"]
    api.client("admin").delete(f"/tokens/{token_id}")
    queue.cancel(api.store, job_id, by="ann", now=NOW)
    assert [one.event for one in stream] == ["cancel", "cancelled"]
    problem(api.client("vision-ci").get(f"/jobs/{job_id}/events"), 401, "NotSignedIn")


def test_a_client_that_takes_nothing_is_sent_away_and_its_place_is_free(impatient: Live) -> None:
    job_id = impatient.submit()["id"]
    connection = impatient.raw()
    connection.sendall(request("GET", f"/api/v1/jobs/{job_id}/events", impatient.secrets["vision-ci"]))
    hub = _hub(impatient)
    _until(lambda: hub.listeners == 1)
    text = "x" * 900_000
    for i in range(16):  # more than the buffers of both sides hold
        events.tell(impatient.store, job_id, kind="note", at=NOW, data={"text": text, "n": i})
    _until(lambda: hub.listeners == 0 and hub.taken == 0)
    assert impatient.client("vision-ci").get("/jobs").status_code == 200


def test_a_listener_too_far_behind_is_told_to_come_back() -> None:
    async def fall_behind() -> list[int | None]:
        listener = Listener("job", 0)
        for i in range(1, BACKLOG + 50):
            listener.offer(Event(i, "job", None, NOW, "note", {}))
        listener.offer(Event(1, "job", None, NOW, "note", {}))
        listener.dismiss("again")
        assert listener.goodbye == "too slow: reconnect with Last-Event-ID"
        found = [listener.waiting.get_nowait() for _ in range(listener.waiting.qsize())]
        return [None if one is None else one.id for one in found]

    assert asyncio.run(fall_behind()) == [*range(1, BACKLOG + 1), None]


def test_no_more_listen_at_once_than_there_are_places(store: Store, tmp_path: Path) -> None:
    with serve(store, tmp_path, listeners=2) as api:
        job_id = api.submit()["id"]
        streams = [_stream(api, job_id) for _ in range(2)]
        for stream in streams:
            next(stream)
        answer = api.client("vision-ci").get(f"/jobs/{job_id}/events")
        assert "has 2 listeners" in problem(answer, 503, "LabError")
        assert answer.headers["retry-after"] == "5"
        streams[0].close()
        _until(lambda: _hub(api).taken == 1)
        assert next(_stream(api, job_id)).event == "submitted"


def test_a_database_that_is_away_for_a_while_ends_no_stream(api: Live) -> None:
    job_id = api.submit()["id"]
    stream = _stream(api, job_id)
    next(stream)
    _until(lambda: _hub(api).listeners == 1)
    with api.store.write() as session:
        session.connection().exec_driver_sql("ALTER TABLE event RENAME TO hidden")
    time.sleep(0.6)  # two looks at least
    with api.store.write() as session:
        session.connection().exec_driver_sql("ALTER TABLE hidden RENAME TO event")
    _tell(api, job_id, 1)
    assert next(stream).event == "note"
    stream.close()
