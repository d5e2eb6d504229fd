"""The webhook: signed so that a receiver can check it, the same each time, and never too large."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from farm.domain import Notice
from farm.errors import DeliveryFailed, DeliveryRefused
from farm.notifiers import webhook
from tests.farm.notifiers.receiver import NOW, SECRET, Receiver, client, notice, running, says

IsGenuine = Callable[..., bool]
DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture(scope="module")
def is_genuine() -> IsGenuine:
    """The receiver's snippet, as docs/notifiers.md has it."""
    (snippet,) = re.findall(r"```python\n(.*?)```", (DOCS / "notifiers.md").read_text("utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(snippet, names)
    return cast(IsGenuine, names["is_genuine"])


def deliver(
    receiver: Receiver,
    told: Notice | None = None,
    secret: str | None = SECRET,
    now: datetime = NOW,
    timeout_s: float = 10,
) -> None:
    """One attempt."""
    with client(timeout_s) as found:
        webhook.deliver(told or notice(), {"url": f"{receiver.url}/hook?to=ci"}, client=found, secret=secret, now=now)


def test_what_was_tampered_with_is_not_genuine(is_genuine: IsGenuine) -> None:
    with running() as receiver:
        deliver(receiver, now=datetime.now(UTC))
    (request,) = receiver.requests
    later = {**request.headers, "x-benchfarm-timestamp": str(int(time.time()) + 1)}
    unsigned = {key: value for key, value in request.headers.items() if "signature" not in key}
    assert is_genuine(SECRET, request.headers, request.body)
    assert not is_genuine(SECRET, request.headers, request.body.replace(b"PASS", b"FAIL"))
    assert not is_genuine(SECRET + "x", request.headers, request.body)
    assert not is_genuine(SECRET, later, request.body)
    assert not is_genuine(SECRET, unsigned, request.body)
    assert not is_genuine(SECRET, {**request.headers, "x-benchfarm-signature-256": "sha256=é"}, request.body)
    assert not is_genuine(SECRET, {}, request.body)


def test_what_is_replayed_after_five_minutes_is_not_genuine(is_genuine: IsGenuine) -> None:
    with running() as receiver:
        deliver(receiver, now=datetime.now(UTC) - timedelta(seconds=400))
    (request,) = receiver.requests
    assert not is_genuine(SECRET, request.headers, request.body)
    assert is_genuine(SECRET, request.headers, request.body, max_age_s=500)


def test_a_known_body_has_a_known_signature() -> None:
    # printf '1777863721.{}' | openssl dgst -sha256 -hmac 5f2d8a1c9be04477aa10c3e6d9f8b721
    assert webhook.signature(SECRET, "1777863721", b"{}") == (
        "sha256=1c40dea09965077cb6a0dcf350d4eafdba21d367a4b5569e6b984a522adb7105"
    )


def test_it_is_told_again_under_the_same_id_with_a_new_time_and_the_same_body() -> None:
    with running(says(500), says(200)) as receiver:
        with pytest.raises(DeliveryFailed, match="answered 500"):
            deliver(receiver)
        deliver(receiver, now=NOW + timedelta(seconds=10))
    first, second = receiver.requests
    assert first.body == second.body
    assert first.headers["x-benchfarm-delivery"] == second.headers["x-benchfarm-delivery"] == notice().id
    times = [request.headers["x-benchfarm-timestamp"] for request in receiver.requests]
    assert times == ["1777863721", "1777863731"]
    assert first.headers["x-benchfarm-signature-256"] != second.headers["x-benchfarm-signature-256"]


def test_a_receiver_that_sleeps_has_failed() -> None:
    with running(lambda handler: time.sleep(0.5)) as receiver:
        with pytest.raises(DeliveryFailed, match=r"gave no answer within 0\.2 s"):
            deliver(receiver, timeout_s=0.2)


def test_a_receiver_that_refuses_is_named_with_what_it_said_and_what_to_do() -> None:
    with running(says(403, b"bad signature")) as receiver:
        with pytest.raises(DeliveryRefused) as caught:
            deliver(receiver)
    assert str(caught.value) == (
        f"{receiver.url} answered 403: bad signature. It is not tried again. "
        "Correct the notifier's `url` or secret, or its receiver."
    )


def test_without_a_secret_nothing_is_signed() -> None:
    with running() as receiver:
        deliver(receiver, secret=None)
    assert "x-benchfarm-signature-256" not in receiver.requests[0].headers


def test_the_body_is_the_notice_and_nan_is_null() -> None:
    told = notice(metrics=[{"metric": "p99_latency_ns", "value": math.nan}])
    with running() as receiver:
        deliver(receiver, told)
    (request,) = receiver.requests
    assert request.path == "/hook?to=ci"
    assert (request.headers["content-type"], request.headers["x-benchfarm-event"]) == ("application/json", "job.done")
    assert json.loads(request.body) == {
        "version": 1,
        "id": "0197a000-0000-7000-8000-00000000000a",
        "kind": "job.done",
        "project": "default",
        "title": "PASS: mobilenet_v2 on pi5-a",
        "text": "p50 latency 1.637 ms",
        "at": "2026-05-04T03:02:01Z",
        "data": {**told.data, "metrics": [{"metric": "p99_latency_ns", "value": None}]},
        "is_cut": False,
    }


def test_a_body_that_is_too_large_is_cut_to_what_is_short() -> None:
    large = notice(metrics=[{"metric": f"m{n}_ns"} for n in range(5000)], title="t" * 90_000, text="ü" * 90_000)
    many = replace(large, data={**large.data, **{f"key{n}": "x" * 900 for n in range(500)}})
    content = webhook.body(many)
    found = json.loads(content)
    assert len(content) <= webhook.MAX_BODY_BYTES
    assert (found["is_cut"], found["id"], found["data"]["verdict"]) == (True, many.id, "PASS")
    assert "metrics" not in found["data"]
    assert (found["title"], found["text"]) == ("t" * 1000, "ü" * 1000)
