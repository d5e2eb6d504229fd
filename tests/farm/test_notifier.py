"""Which Channels want a Notice, when a failed delivery is tried again, and which URLs may be sent to."""

from __future__ import annotations

import random

import pytest

from farm import notifier
from farm.errors import DeliveryFailed, DeliveryRefused, FarmBug
from farm.notifier import Channel
from tests.farm.notifiers.receiver import NOW, SECRET, client, notice, running


class Never(random.Random):
    """Chance that is always at its lowest."""

    def uniform(self, a: float, b: float) -> float:
        return a


def waits(error: DeliveryFailed) -> list[float]:
    """Every wait of a delivery that always fails."""
    found: list[float] = []
    while (wait_s := notifier.again_s(len(found) + 1, error, rng=Never())) is not None:
        found.append(wait_s)
    return found


@pytest.mark.parametrize("error", [DeliveryRefused(), FarmBug(), notifier.OptionsWrong({"url": "is no URL."})])
def test_what_cannot_get_better_is_not_tried_again(error: DeliveryRefused) -> None:
    assert notifier.again_s(1, error, rng=Never()) is None


def test_the_waits_grow_to_an_hour_and_end_after_a_day() -> None:
    found = waits(DeliveryFailed())
    assert found[:6] == [10.0, 30.0, 120.0, 600.0, 3600.0, 3600.0]
    assert (len(found), sum(found)) == (27, 83560.0)


def test_a_receiver_that_asks_for_time_is_given_it() -> None:
    assert waits(DeliveryFailed(retry_after_s=90.0))[:4] == [90.0, 90.0, 120.0, 600.0]


def test_chance_makes_a_wait_up_to_a_fifth_longer_and_never_shorter() -> None:
    rng = random.Random(1)
    found = [notifier.again_s(1, DeliveryFailed(retry_after_s=100.0), rng=rng) or 0.0 for _ in range(1000)]
    assert (100.0 <= min(found) < 101.0, 119.0 < max(found) <= 120.0) == (True, True)


def test_a_channel_gets_the_kinds_and_projects_it_names() -> None:
    channels = [
        Channel("all", "webhook"),
        Channel("jobs", "webhook", on=("job.done",)),
        Channel("boards", "webhook", on=("board.quarantined",), projects=("vision",)),
        Channel("vision", "webhook", projects=("vision",)),
    ]

    def names(**changes: object) -> list[str]:
        return [channel.name for channel in notifier.wanted(channels, notice(**changes))]

    assert names(kind="job.done", project="vision") == ["all", "jobs", "vision"]
    assert names(kind="job.done", project="speech") == ["all", "jobs"]
    assert names(kind="board.quarantined", project=None) == ["all", "boards", "vision"]


def test_a_secret_is_not_in_what_a_channel_looks_like() -> None:
    channel = Channel("hook", "webhook", options={"url": "https://a.example"}, secret=SECRET)
    assert SECRET not in repr(channel)
    assert SECRET not in f"{channel} {[channel]}"


def test_send_delivers_by_the_channels_kind() -> None:
    with running() as receiver, client() as found:
        channel = Channel("hook", "webhook", options={"url": receiver.url + "/hook"}, secret=SECRET)
        notifier.send(channel, notice(), client=found, now=NOW)
    assert [request.path for request in receiver.requests] == ["/hook"]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (None, "is missing"),
        (17, "is no URL"),
        ("https://[::1", "is no URL"),
        ("https://a.example:port", "is no URL"),
        ("ci.example/hook", "is no URL of a web server"),
        ("ftp://ci.example/hook", "is no URL of a web server"),
        ("https:///hook", "is no URL of a web server"),
        ("https://ci.example/hook#part", "is no URL of a web server"),
        (f"https://user:{SECRET}@ci.example", "holds a password"),
        (f"https://{SECRET}@ci.example", "holds a password"),
        (f"http://ci.example/{SECRET}", "is http:// to another machine"),
        ("http://10.0.0.1", "is http:// to another machine"),
        ("http://127.evil.example", "is http:// to another machine"),
        ("http://localhost.evil.example", "is http:// to another machine"),
        ("http://[::ffff:10.0.0.1]", "is http:// to another machine"),
    ],
)
def test_a_url_that_may_not_be_sent_to_is_told_without_showing_it(url: object, words: str) -> None:
    told = notifier.wrong_url(url, insecure=None) or ""
    assert told.startswith(words)
    assert SECRET not in told


@pytest.mark.parametrize(
    "url",
    ["https://ci.example/a?b=c", "http://127.0.0.1:8080", "http://127.8.8.8", "http://[::1]:80/", "http://localhost"],
)
def test_https_and_this_machine_may_be_sent_to(url: str) -> None:
    assert notifier.wrong_url(url, insecure=None) is None


def test_http_to_another_machine_takes_a_clear_word() -> None:
    url = "http://10.0.0.1/hook"
    assert notifier.wrong_url(url, insecure=True) is None
    assert notifier.wrong_url(url, insecure="yes") is not None
