"""What a CI engineer gets wrong with `farm submit`: told before anything is sent, and in words that say what to do."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.farm.cli.test_submit import DATA, SHA256
from tests.farm.standin import TOKEN, Reply, StandIn, artifact, job, standing_in
from tests.junit import check_schema

Typed = Callable[..., Any]


@pytest.fixture
def farm(monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[StandIn]:
    """A farm that takes everything."""
    with standing_in() as found:
        monkeypatch.setenv("FARM_URL", found.url)
        monkeypatch.setenv("FARM_TOKEN", TOKEN)
        found.on("PUT", f"/artifacts/{SHA256}", Reply(201, artifact("m.fake", DATA, SHA256)))
        found.on("POST", "/jobs", Reply(201, job()))
        (home / "m.fake").write_bytes(DATA)
        yield found


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--on", ""], "--on is empty, so it asks for no board"),
        (["--on", " "], "see that the variable it comes from is set"),
        (["--on", "virtual", "--queue-limit-s", "-3"], "--queue-limit-s is -3.0: "),
        (["--on", "virtual", "--run-limit-s", "1e99"], "--run-limit-s is 1e+99: "),
        (["--on", "virtual", "--model", ""], "--model is ''"),
        (["--on", "virtual", "--idempotency-key", "a b"], "The idempotency key 'a b' is not 1 to 200 letters"),
        (["--on", "virtual", "--feed", "x.npz"], "--feed 'x.npz' cannot be used: there is no such file"),
        (["--on", "virtual", "--feed", "m.fake"], "--feed 'm.fake' cannot be used: its name does not end in .npz"),
    ],
)
def test_a_mistake_is_told_before_anything_is_sent(typed: Typed, farm: StandIn, words: list[str], told: str) -> None:
    found = typed("submit", "m.fake", *words, "--wait", "--junit", "j.xml")
    assert (found.code, found.out) == (2, "")
    assert told in found.err
    assert farm.asked == []
    (case,) = ET.parse("j.xml").getroot().findall("testcase")
    assert told in case.findtext("error", "")


def test_the_same_bytes_under_another_name_are_the_model_that_was_named_now(
    typed: Typed, farm: StandIn, home: Path
) -> None:
    farm.on("GET", f"/artifacts/{SHA256}", Reply(data=artifact("older.fake", DATA, SHA256)))
    found = typed("submit", "m.fake", "--on", "virtual")
    assert found.code == 0
    assert "the farm has these very bytes as 'older.fake' already, which 'm.fake' is now, too" in found.err
    (asked,) = farm.of("POST", "/jobs")
    assert (asked.data["model"], asked.data["artifact"]) == ("m", SHA256)
    typed("submit", "m.fake", "--on", "virtual", "--model", "mine")
    assert farm.of("POST", "/jobs")[1].data["model"] == "mine"


def test_a_farm_that_is_away_is_not_waited_for_longer_than_was_asked(
    typed: Typed, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        monkeypatch.setenv("FARM_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        monkeypatch.setenv("FARM_TOKEN", TOKEN)
        (home / "m.fake").write_bytes(DATA)
        found = typed("submit", "m.fake", "--on", "virtual", "--wait", "--wait-limit-s", "0.5", "--junit", "j.xml")
    assert (found.code, found.out) == (4, "")
    assert "did not answer whether it has the file" in found.err
    assert "See that it runs and that its URL (--url, FARM_URL) is right" in found.err
    suite = ET.parse("j.xml").getroot()
    check_schema(suite)
    assert suite.attrib["errors"] == "1"


@pytest.mark.parametrize("words", [["show"], ["wait"], ["cancel", "--yes"], ["logs"], ["retry"]])
def test_what_is_no_id_is_told_without_asking_the_farm(typed: Typed, farm: StandIn, words: list[str]) -> None:
    found = typed("job", *words, "mobilenet")
    assert found.code == 2
    assert "'mobilenet' is no id of a job: it has digits, a to f and dashes. `farm jobs` lists them." in found.err
    assert farm.asked == []


def test_the_error_is_an_object_where_json_is_asked_for(typed: Typed, farm: StandIn) -> None:
    found = typed("submit", "m.fake", "--on", "", "--json")
    assert (found.code, json.loads(found.out)["error"]["exit_code"]) == (2, 2)
