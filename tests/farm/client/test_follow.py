"""Following a Job: each event once and in order, whatever happens to the farm and on the way to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from farm import errors
from farm.client import Client
from farm.client.patience import Time
from farm.schemas import EventTold, QueuePlace
from tests.farm.standin import JOB, TOKEN, Hurried, Reply, StandIn, ended, event, job, problem, sse, standing_in, stream

SUBMITTED, GRANTED = event(1, "submitted"), event(2, "granted", board="virtual-0")
DONE = event(9, "done", state="done", outcome="OK", verdict="PASS", reasons=[])
EVENTS = f"/jobs/{JOB}/events"


@pytest.fixture
def farm() -> Iterator[StandIn]:
    with standing_in() as found:
        found.on("GET", f"/jobs/{JOB}", Reply(data=job()), Reply(data=job()), Reply(data=ended()))
        yield found


@pytest.fixture
def hurried() -> Hurried:
    return Hurried()


@pytest.fixture
def client(farm: StandIn, hurried: Hurried) -> Iterator[Client]:
    with Client(farm.url, TOKEN, time=hurried.time) as found:
        yield found


def _kinds(client: Client, after: int = 0) -> list[str]:
    return [told.kind for told in client.events(JOB, after=after)]


def test_events_come_in_order_and_end_with_the_last_one(farm: StandIn, client: Client) -> None:
    farm.on("GET", EVENTS, stream(sse(SUBMITTED), b": keepalive\n\n", sse(GRANTED, DONE), 30.0))
    assert _kinds(client) == ["submitted", "granted", "done"]
    (asked,) = farm.asked
    assert (asked.headers["Accept"], asked.headers["Last-Event-ID"]) == ("text/event-stream", "0")


def test_after_a_cut_connection_the_farm_is_asked_from_the_last_event_on(farm: StandIn, client: Client) -> None:
    half = sse(DONE)[:20]
    farm.on("GET", EVENTS, stream(sse(SUBMITTED), half, None), stream(sse(SUBMITTED, GRANTED, DONE)))
    assert _kinds(client) == ["submitted", "granted", "done"]
    assert [asked.headers["Last-Event-ID"] for asked in farm.of("GET", EVENTS)] == ["0", "1"]


@pytest.mark.parametrize("between", [Reply(503), Reply(502, b"<html>", kind="text/html"), Reply(429), Reply(cut=True)])
def test_a_farm_that_restarts_is_waited_for(farm: StandIn, client: Client, between: Reply) -> None:
    farm.on("GET", EVENTS, stream(sse(SUBMITTED), None), between, between, stream(sse(DONE)))
    assert _kinds(client) == ["submitted", "done"]


def test_a_restart_on_the_same_port_loses_nothing(farm: StandIn) -> None:
    farm.on("GET", EVENTS, stream(sse(SUBMITTED), 30.0), stream(sse(GRANTED, DONE)))

    def restart() -> None:
        time.sleep(0.1)
        farm.stop()
        time.sleep(0.3)
        farm.start()

    said: list[str] = []
    with Client(farm.url, TOKEN, told=said.append, time=Time()) as client:
        events = client.events(JOB)
        first = next(events)
        thread = threading.Thread(target=restart)
        thread.start()
        kinds = [first.kind, *(told.kind for told in events)]
        thread.join()
    assert kinds == ["submitted", "granted", "done"]
    assert said[-1] == f"The farm at {farm.url} answers again."


def test_a_stream_that_ends_before_the_job_is_asked_for_again(farm: StandIn, client: Client) -> None:
    farm.on("GET", EVENTS, stream(sse(SUBMITTED)), stream(sse(DONE)))
    assert _kinds(client) == ["submitted", "done"]


def test_a_job_that_is_over_ends_the_wait_even_where_no_event_says_so(farm: StandIn, client: Client) -> None:
    farm.on("GET", f"/jobs/{JOB}", Reply(data=ended()))
    farm.on("GET", EVENTS, stream(sse(SUBMITTED)), Reply(data={"events": [SUBMITTED, GRANTED]}))
    assert _kinds(client) == ["submitted", "granted"]


@pytest.mark.parametrize(
    "refused",
    [
        Reply(403, b"<h1>No streams here</h1>", kind="text/html"),
        Reply(406, b"", kind="text/plain"),
        Reply(200, b"<h1>sign in</h1>", kind="text/html"),
        Reply(200, {"events": []}),
    ],
)
def test_where_a_proxy_refuses_the_stream_the_farm_is_asked_every_two_seconds(
    farm: StandIn, client: Client, hurried: Hurried, refused: Reply
) -> None:
    lists = [Reply(data={"events": some}) for some in ([SUBMITTED], [SUBMITTED, GRANTED], [SUBMITTED, GRANTED, DONE])]
    farm.on("GET", EVENTS, refused, *lists)
    assert _kinds(client) == ["submitted", "granted", "done"]
    assert [asked.headers["Accept"] for asked in farm.of("GET", EVENTS)] == ["text/event-stream"] + [
        "application/json"
    ] * 3
    assert hurried.slept == [2.0, 2.0]


def test_a_proxy_that_keeps_the_stream_back_is_seen_through(farm: StandIn) -> None:
    farm.on("GET", EVENTS, stream(None), stream(None), Reply(data={"events": [SUBMITTED, DONE]}))
    with Client(farm.url, TOKEN, time=Hurried().time) as client:
        assert _kinds(client) == ["submitted", "done"]
    assert [asked.headers["Accept"] for asked in farm.of("GET", EVENTS)][-1] == "application/json"


def test_a_job_that_is_not_there_is_told_and_not_waited_for(farm: StandIn, client: Client) -> None:
    farm.on("GET", EVENTS, problem(404, "NotFound", "There is no job 0199. See `farm jobs`."))
    with pytest.raises(errors.NotFound, match="See `farm jobs`"):
        _kinds(client)


def test_a_token_that_is_revoked_ends_the_wait(farm: StandIn, client: Client) -> None:
    farm.on("GET", EVENTS, stream(sse(SUBMITTED), None), problem(401, "NotSignedIn", "It was revoked."))
    with pytest.raises(errors.NotSignedIn):
        _kinds(client)


@pytest.mark.parametrize("garbled", [b"id: 1\ndata: {\n\n", b'id: 1\ndata: {"id": "x"}\n\n'])
def test_an_event_that_cannot_be_understood_is_told(farm: StandIn, client: Client, garbled: bytes) -> None:
    farm.on("GET", EVENTS, stream(garbled))
    with pytest.raises(errors.FarmUnreachable, match="cannot be understood"):
        _kinds(client)


def test_an_event_without_an_end_is_no_memory_hole(farm: StandIn, client: Client) -> None:
    farm.on("GET", EVENTS, stream(*[b"data: " + b"x" * (1 << 20)] * 20), stream(sse(DONE)))
    assert _kinds(client) == ["done"]


def test_events_of_many_bytes_in_small_pieces_are_whole(farm: StandIn, client: Client) -> None:
    text = sse(event(1, "note", text="é" * 3000), DONE).replace(b"\n", b"\r\n")
    farm.on("GET", EVENTS, stream(*[text[i : i + 7] for i in range(0, len(text), 7)]))
    assert _kinds(client) == ["note", "done"]


def test_wait_gives_the_job_that_is_over_and_tells_events_and_places(farm: StandIn, client: Client) -> None:
    place = {"position": 3, "expected_wait_s": 60.0, "waits_for": "virtual boards"}
    farm.on("GET", f"/jobs/{JOB[:8]}", Reply(data=job(queue=place)))
    farm.on("GET", f"/jobs/{JOB}", Reply(data=ended()))
    farm.on("GET", EVENTS, stream(sse(SUBMITTED, DONE)))
    events: list[EventTold] = []
    places: list[QueuePlace] = []
    found = client.wait(JOB[:8], watch=events.append, queued=places.append)
    assert (found.state, found.verdict) == ("done", "PASS")
    assert [told.kind for told in events] == ["submitted", "done"]
    assert [told.position for told in places] == [3]


def test_while_it_waits_in_the_queue_its_place_is_looked_at_now_and_then(farm: StandIn) -> None:
    hurried = Hurried()

    class Ticking(Hurried):
        def clock(self) -> float:
            hurried.sleep(4.0)
            return hurried.clock()

    keepalives = [b": keepalive\n\n", 0.02] * 12
    places = [{"position": n, "expected_wait_s": None, "waits_for": "x"} for n in (3, 2, 1)]
    farm.on("GET", f"/jobs/{JOB}", *[Reply(data=job(queue=place)) for place in places])
    farm.on("GET", EVENTS, stream(*keepalives, sse(GRANTED), *keepalives, sse(DONE)))
    seen: list[QueuePlace] = []
    with Client(farm.url, TOKEN, time=Ticking().time) as client:
        client.wait(JOB, queued=seen.append)
    assert [place.position for place in seen][:2] == [3, 2]


def test_wait_ends_when_its_time_is_over_and_the_job_is_not(farm: StandIn) -> None:
    farm.on("GET", f"/jobs/{JOB}", Reply(data=job(state="running")))
    farm.on("GET", EVENTS, stream(sse(SUBMITTED), 30.0))
    with Client(farm.url, TOKEN) as client:
        assert client.wait(JOB, limit_s=0.3).state == "running"


def test_keepalives_do_not_make_the_wait_longer(farm: StandIn) -> None:
    farm.on("GET", f"/jobs/{JOB}", Reply(data=job()))
    farm.on("GET", EVENTS, stream(*[b": still here\n\n", 0.1] * 3000))
    with Client(farm.url, TOKEN) as client:
        assert client.wait(JOB, limit_s=0.4).state == "queued"


def test_wait_for_a_farm_that_is_gone_ends_when_its_time_is_over(farm: StandIn, hurried: Hurried) -> None:
    farm.stop()
    with Client(farm.url, TOKEN, time=hurried.time, patience_s=1) as client:
        with pytest.raises(errors.FarmUnreachable):
            client.wait(JOB, limit_s=3600)
    assert hurried.clock() > 3500
