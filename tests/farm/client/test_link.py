"""Calls to a farm: what is said again and what is not, for how long, and what becomes of a refusal."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator

import pytest

from farm import errors
from farm.client import Client
from farm.schemas import JobAsked, TokenAsked
from tests.farm.standin import JOB, TOKEN, Hurried, Reply, StandIn, job, problem, standing_in

ME = {
    "id": "1234", "name": "pipeline", "role": "ci", "project": "vision", "created_at": "2026-01-02T03:04:05Z",
    "created_by": "ann", "expires_at": None, "revoked_at": None, "last_used_at": None,
}  # fmt: skip
ASKED = JobAsked(artifact="ab" * 32, on="virtual")


@pytest.fixture
def farm() -> Iterator[StandIn]:
    with standing_in() as found:
        yield found


@pytest.fixture
def hurried() -> Hurried:
    return Hurried()


@pytest.fixture
def client(farm: StandIn, hurried: Hurried) -> Iterator[Client]:
    with Client(farm.url, TOKEN, time=hurried.time) as found:
        yield found


def _unused_url() -> str:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{one.getsockname()[1]}"


@pytest.mark.parametrize("status", [502, 503, 504, 429])
def test_a_farm_that_has_no_time_is_asked_again(farm: StandIn, client: Client, status: int) -> None:
    farm.on("GET", "/tokens/self", Reply(status, b"<html>", kind="text/html"), Reply(data=ME))
    assert client.whoami().name == "pipeline"
    assert len(farm.asked) == 2


def test_a_connection_that_is_cut_is_made_again(farm: StandIn, client: Client) -> None:
    farm.on("GET", "/tokens/self", Reply(cut=True), Reply(cut=True), Reply(data=ME))
    assert client.whoami().name == "pipeline"


def test_a_connection_that_is_cut_is_told_as_that(farm: StandIn) -> None:
    farm.on("GET", "/tokens/self", Reply(cut=True))
    with (
        Client(farm.url, TOKEN, patience_s=0) as client,
        pytest.raises(errors.FarmUnreachable, match="the connection was cut: "),
    ):
        client.whoami()


def test_an_answer_that_is_cut_in_the_middle_is_asked_for_again(farm: StandIn, client: Client) -> None:
    farm.on("GET", "/tokens/self", Reply(parts=[b'{"id": "12', None]), Reply(data=ME))
    assert client.whoami().name == "pipeline"


def test_patience_ends_after_its_seconds_and_says_what_was_seen(farm: StandIn, hurried: Hurried) -> None:
    busy = problem(503, "StoreError", "The database is being restarted. Try again.")
    farm.on("GET", "/tokens/self", busy)
    with (
        Client(farm.url, TOKEN, patience_s=20, time=hurried.time) as client,
        pytest.raises(errors.FarmUnreachable) as e,
    ):
        client.whoami()
    assert str(e.value).startswith(f"The farm at '{farm.url}' did not answer GET /tokens/self in ")
    assert "503 The database is being restarted. Try again. See that it runs" in str(e.value)
    assert 10 <= hurried.clock() <= 20


def test_a_farm_that_is_not_there_is_told_as_unreachable(hurried: Hurried) -> None:
    said: list[str] = []
    url = _unused_url()
    with Client(url, TOKEN, patience_s=5, time=hurried.time, told=said.append) as client:
        with pytest.raises(errors.FarmUnreachable, match="refused"):
            client.whoami()
    assert len(said) == 1
    assert said[0].startswith(f"The farm at {url} does not answer (")


def test_pauses_grow_and_are_never_longer_than_ten_seconds(farm: StandIn, hurried: Hurried) -> None:
    farm.on("GET", "/tokens/self", Reply(503))
    with Client(farm.url, TOKEN, patience_s=200, time=hurried.time) as client, pytest.raises(errors.FarmUnreachable):
        client.whoami()
    assert hurried.slept[0] <= 0.25
    assert 5 <= hurried.slept[-1] <= 10


@pytest.mark.parametrize("value", ["7", "Fri, 02 Jan 2015 03:04:05 GMT"])
def test_a_farm_that_says_when_to_come_back_is_asked_then(
    farm: StandIn, client: Client, hurried: Hurried, value: str
) -> None:
    farm.on("GET", "/tokens/self", Reply(429, headers={"Retry-After": value}), Reply(data=ME))
    client.whoami()
    assert (hurried.clock() >= 7) == (value == "7")


def test_who_is_to_come_back_too_late_is_told_at_once(farm: StandIn, client: Client, hurried: Hurried) -> None:
    farm.on("GET", "/tokens/self", Reply(429, headers={"Retry-After": "3600"}))
    with pytest.raises(errors.FarmUnreachable):
        client.whoami()
    assert hurried.slept == []


def test_the_same_key_goes_with_every_try_of_one_submit(farm: StandIn, client: Client) -> None:
    farm.on("POST", "/jobs", Reply(cut=True), Reply(503), Reply(201, job()))
    assert client.submit(ASKED).id == JOB
    assert len({asked.headers["Idempotency-Key"] for asked in farm.asked}) == 1
    assert [asked.data for asked in farm.asked] == [{"artifact": "ab" * 32, "on": "virtual"}] * 3


def test_what_must_not_be_said_twice_is_not(farm: StandIn, client: Client) -> None:
    farm.on("POST", "/tokens", Reply(cut=True))
    with pytest.raises(errors.FarmUnreachable, match="It may have been done all the same"):
        client.make_token(TokenAsked(name="x", role="ci", project="vision"))
    assert len(farm.asked) == 1


def test_what_must_not_be_said_twice_is_said_again_where_it_was_not_heard(farm: StandIn, client: Client) -> None:
    made = {**ME, "secret": "s"}
    farm.on("POST", "/tokens", Reply(429), Reply(201, made))
    assert client.make_token(TokenAsked(name="x", role="ci", project="vision")).secret == "s"


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (problem(404, "NotFound", "x"), errors.NotFound),
        (problem(401, "NotSignedIn", "x"), errors.NotSignedIn),
        (problem(409, "KeyReused", "x"), errors.KeyReused),
        (problem(422, "NoBoardFits", "x"), errors.NoBoardFits),
        (problem(500, "StoreError", "x"), errors.StoreError),
        (problem(418, "Teapot", "x"), errors.InputError),
        (problem(400, "annotations", "x"), errors.InputError),
        (problem(500, "Exception", "x"), errors.FarmUnreachable),
        (Reply(404, b"<h1>nginx</h1>", kind="text/html"), errors.InputError),
        (Reply(302, b"", headers={"Location": "https://elsewhere/"}), errors.InputError),
        (Reply(500, b"oops", kind="text/plain"), errors.FarmUnreachable),
        (Reply(200, b"<h1>sign in to the hotel's network</h1>", kind="text/html"), errors.FarmUnreachable),
        (Reply(200, {"name": "pipeline"}), errors.FarmUnreachable),
        (Reply(200, b"\xff\xfe\x00", kind="application/json"), errors.FarmUnreachable),
        (Reply(200, b"not gzip", headers={"Content-Encoding": "gzip"}), errors.FarmUnreachable),
    ],
)
def test_a_refusal_is_the_error_that_it_names(
    farm: StandIn, client: Client, reply: Reply, kind: type[errors.FarmError]
) -> None:
    farm.on("GET", "/tokens/self", reply)
    with pytest.raises(errors.FarmError) as e:
        client.whoami()
    assert type(e.value) is kind


def test_a_redirect_is_not_followed_and_says_what_to_do(farm: StandIn, client: Client) -> None:
    farm.on("GET", "/tokens/self", Reply(301, b"", headers={"Location": f"{farm.url}/api/v1/jobs"}))
    with pytest.raises(errors.InputError, match=r"301, a redirect, .* Give the URL to which it leads"):
        client.whoami()
    assert len(farm.asked) == 1


def test_an_endless_answer_is_not_read_to_its_end(farm: StandIn, client: Client) -> None:
    farm.on("GET", "/tokens/self", Reply(parts=[b" " * (1 << 20)] * 70))
    with pytest.raises(errors.FarmUnreachable, match="longer than 64 MiB"):
        client.whoami()


def test_an_answer_that_drips_for_ever_is_given_up(farm: StandIn) -> None:
    farm.on("GET", "/tokens/self", Reply(parts=[b" ", 0.05] * 200))
    with Client(farm.url, TOKEN, timeout_s=0.1, patience_s=0) as client:
        with pytest.raises(errors.FarmUnreachable, match="too slowly"):
            client.whoami()


def test_a_farm_that_says_nothing_is_given_up(farm: StandIn) -> None:
    farm.on("GET", "/tokens/self", Reply(parts=[0.5, b"x"]))
    with Client(farm.url, TOKEN, timeout_s=0.1, patience_s=0) as client:
        with pytest.raises(errors.FarmUnreachable, match="timed out"):
            client.whoami()


def test_no_error_repr_or_log_ever_has_the_token(
    farm: StandIn, hurried: Hurried, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    said: list[str] = []
    leaky = f"The token {TOKEN} is no longer good."
    farm.on("GET", "/tokens/self", problem(401, "NotSignedIn", leaky))
    farm.on("GET", "/boards", problem(503, "StoreError", leaky))
    farm.on("GET", "/workers", Reply(200, {"workers": TOKEN}))
    with Client(farm.url, TOKEN, patience_s=1, time=hurried.time, told=said.append) as client:
        for ask in (client.whoami, client.boards, client.workers):
            with pytest.raises(errors.FarmError) as e:
                ask()
            said.append(f"{e.value!r} {e.value} {e.value.__cause__!r}")
        said.append(repr(client))
    assert farm.asked[0].headers["Authorization"] == f"Bearer {TOKEN}"
    assert "The token *** is no longer good." in said[0]
    assert TOKEN not in "".join(said) + caplog.text


@pytest.mark.parametrize("token", ["", " \n", "bf_ci_1 2", "bf_ci_ä", "x" * 501, "a\nX-Evil: 1"])
def test_a_token_that_is_none_is_refused_before_anything_is_sent(token: str) -> None:
    with pytest.raises(errors.NotSignedIn) as e:
        Client("https://farm.lab", token)
    assert not token.strip() or token.strip() not in str(e.value)


def test_a_name_cannot_lead_to_another_path(farm: StandIn, client: Client) -> None:
    farm.on("GET", "/boards/..%2Ftokens%3Fx", problem(404, "NotFound", "x"))
    with pytest.raises(errors.NotFound):
        client.board("../tokens?x")
    for name in ("..", ".", ""):
        with pytest.raises(errors.NotFound):
            client.board(name)
    assert [asked.path for asked in farm.asked] == ["/api/v1/boards/..%2Ftokens%3Fx"]
