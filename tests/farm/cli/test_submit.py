"""`farm submit`: what is sent, what is printed, and the exit code, against a server that says what it is told to."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.farm.cli.test_door import WITHOUT_EXTRAS
from tests.farm.standin import (
    JOB,
    RUN,
    TOKEN,
    Reply,
    StandIn,
    artifact,
    ended,
    event,
    job,
    problem,
    sse,
    standing_in,
    stream,
)

Typed = Callable[..., Any]
DATA = b'{"latency_us": 200}'
SHA256 = hashlib.sha256(DATA).hexdigest()
RUN_JSON: dict[str, Any] = {
    "run": RUN,
    "outcome": "OK",
    "blame": None,
    "reasons": [],
    "board": "virtual-0",
    "virtual": True,
    "model": "mobilenet",
    "artifact": {"name": "m.fake", "sha256": SHA256, "size_bytes": len(DATA)},
    "plan": {"runtime": "fake"},
    "fingerprint": "ab" * 32,
    "identity": {"runtime": {"version": "1"}},
    "metrics": {
        "p50_latency_ns": {"value": 1637000.0, "unit": "ns", "n": 64, "processes": 5, "low": 1.6e6, "high": 1.7e6}
    },
    "stages": {"load": {"rss_bytes": 2e6}},
    "warnings": [],
    "context": {},
    "started_at": "2026-01-02T03:04:06Z",
    "ended_at": "2026-01-02T03:04:16Z",
}


@pytest.fixture
def model(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = home / "m.fake"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def farm(monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[StandIn]:
    """A farm whose Jobs pass, unless it is told otherwise; the environment names it."""
    with standing_in() as found:
        monkeypatch.setenv("FARM_URL", found.url)
        monkeypatch.setenv("FARM_TOKEN", TOKEN)
        found.on("PUT", f"/artifacts/{SHA256}", Reply(201, artifact("m.fake", DATA, SHA256)))
        place = {"position": 2, "expected_wait_s": 300.0, "waits_for": "a free board"}
        found.on("POST", "/jobs", Reply(201, job(queue=place)))
        _ends(found, ended())
        yield found


def _ends(farm: StandIn, over: dict[str, Any]) -> None:
    farm.on("GET", f"/jobs/{JOB}", Reply(data=job()), Reply(data=over))
    first = [event(1, "submitted"), event(2, "granted", board="virtual-0", waited_s=3.0)]
    steps = [event(3, "stage", text="load", block=1, blocks=5, fraction=0.0), event(4, over["state"])]
    farm.on("GET", f"/jobs/{JOB}/events", stream(sse(*first), sse(*steps)))
    run = RUN_JSON | {"outcome": over["outcome"], "reasons": over["reasons"]}
    farm.on("GET", f"/runs/{RUN}", Reply(data=run))


NOISY = [{"code": "throttled", "text": "CPU at 1510 MHz. Check its fan.", "blame": None}]


@pytest.mark.parametrize(
    ("over", "word", "code"),
    [
        (ended(), "PASS", 0),
        (ended("FAIL", "FAILED", reasons=NOISY), "FAIL", 1),
        (ended("UNDECIDED", "NOISY", reasons=NOISY), "UNDECIDED", 3),
        (ended(None, "BROKEN", reasons=NOISY), "BROKEN", 4),
        (ended(None, "CANCELLED", reasons=NOISY), "CANCELLED", 5),
        (ended(None, "OK"), "UNDECIDED", 3),
    ],
)
def test_the_word_comes_first_and_the_exit_code_is_its(
    typed: Typed, farm: StandIn, model: Path, over: dict[str, Any], word: str, code: int
) -> None:
    _ends(farm, over)
    found = typed("submit", model, "--on", "virtual", "--wait", "--junit", "j.xml", "--markdown", "m.md")
    assert (found.code, found.out.splitlines()[0]) == (code, word)
    assert "p50_latency_ns  1.637 ms" in found.out
    assert f"job {JOB}" in found.err
    suite = ET.parse("j.xml").getroot()
    assert suite.find("properties/property[@name='verdict']").attrib["value"] == word  # type: ignore[union-attr]
    assert Path("m.md").read_text().startswith(f"### {word}: `mobilenet` on `virtual-0`\n")


def test_a_log_has_plain_lines_of_what_happens(typed: Typed, farm: StandIn, model: Path) -> None:
    said = typed("submit", model, "--on", "virtual", "--wait").err
    lines = [line.split(" s  ", 1)[1] for line in said.splitlines() if " s  " in line[:12]]
    assert lines == [
        "sent 19 B",
        f"job {JOB} is in the queue of {farm.url}",
        "board virtual-0 is free after 3 s in the queue",
    ]


def test_without_wait_the_id_is_printed_and_how_to_follow_it(typed: Typed, farm: StandIn, model: Path) -> None:
    found = typed("submit", model, "--on", "virtual")
    assert (found.code, found.out) == (0, JOB + "\n")
    assert "in the queue at place 2, about 5 min to go; waits for a free board" in found.err
    assert f"farm job wait {JOB[:13]}" in found.err
    assert [asked.path for asked in farm.asked if "events" in asked.path] == []


def test_everything_that_was_given_is_asked_for(typed: Typed, farm: StandIn, model: Path, home: Path) -> None:
    (home / "p.yaml").write_text("duration_s: 5\noptions: {threads: 2}\n")
    (home / "x.npz").write_bytes(b"npz")
    feed = hashlib.sha256(b"npz").hexdigest()
    farm.on("GET", f"/artifacts/{feed}", Reply(data=artifact("x.npz", b"npz", feed)))
    words = ["--plan", "p.yaml", "--processes", "3", "--option", "x=1", "--memory-limit", "1MB", "--feed", "x.npz"]
    words += ["--model", "net", "--commit", "abc", "--branch", "b", "--priority", "high", "--queue-limit-s", "60"]
    words += ["--repository", "acme/vision"]
    words += ["--run-limit-s", "30", "--idempotency-key", "pipeline-7"]
    found = typed("submit", model, "--on", "virtual", *words)
    assert found.code == 0
    (asked,) = farm.of("POST", "/jobs")
    assert asked.headers["Idempotency-Key"] == "pipeline-7"
    assert asked.data == {
        "artifact": SHA256,
        "on": "virtual",
        "plan": {
            "duration_s": 5,
            "processes": 3,
            "options": {"threads": 2, "x": 1},
            "limits": {"memory_bytes": 1000000},
        },
        "model": "net",
        "feed": feed,
        "priority": "high",
        "limits": {"queue_s": 60.0, "run_s": 30.0},
        "commit": "abc",
        "branch": "b",
        "repository": "acme/vision",
    }


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--junit", "j.xml"], ["--junit", "Add --wait"]),
        (["--wait", "--junit", "none/j.xml"], ["--junit 'none/j.xml'", "No such file or directory"]),
        (["--wait", "--markdown", "."], ["--markdown '.'", "a folder has that name"]),
        (["--plan", "none.yaml"], ["'none.yaml'", "--plan"]),
        (["--processes", "0"], ["processes is 0", "docs/plans.md"]),
        (["--option", "x=.nan"], ["not JSON compliant"]),
        (["--option", "x=2020-01-01"], ["not JSON serializable"]),
        (["--feed", "m.fake"], ["'m.fake'", ".npz"]),
        (["--entry", "x.onnx"], ["is a file, so --entry 'x.onnx' says nothing"]),
        (["--priority", "urgent"], ["urgent", "high"]),
    ],
)
def test_what_can_be_seen_to_be_wrong_here_is_told_before_anything_is_sent(
    typed: Typed, farm: StandIn, model: Path, words: list[str], told: list[str]
) -> None:
    found = typed("submit", model, "--on", "virtual", *words)
    assert (found.code, found.out) == (2, "")
    assert [part for part in told if part not in found.err] == []
    assert farm.asked == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--queue-limit-s", "0"], "--queue-limit-s is 0.0"),
        (["--run-limit-s", "nan"], "--run-limit-s is nan"),
        (["--model", "a\nb"], "--model is 'a\\nb'"),
        (["--commit", "x" * 201], "--commit is"),
        (["--idempotency-key", "a b"], "idempotency key 'a b'"),
    ],
)
def test_a_value_that_no_farm_takes_is_told_with_its_flag(
    typed: Typed, farm: StandIn, model: Path, words: list[str], told: str
) -> None:
    found = typed("submit", model, "--on", "virtual", *words)
    assert (found.code, told in found.err) == (2, True)
    assert farm.of("POST", "/jobs") == []


def test_a_selector_that_is_none_is_told_before_anything_is_sent(typed: Typed, farm: StandIn, model: Path) -> None:
    found = typed("submit", model, "--on", "famly=raspberrypi")
    assert (found.code, "famly" in found.err) == (2, True)
    assert farm.asked == []


def test_a_refusal_of_the_farm_is_told_and_written_where_ci_looks(typed: Typed, farm: StandIn, model: Path) -> None:
    farm.on("POST", "/jobs", problem(422, "NoBoardFits", "No board has a hailo8l. See `farm boards`."))
    found = typed("submit", model, "--on", "accelerator=hailo8l", "--wait", "--junit", "j.xml", "--json")
    assert found.code == 2
    assert "Error: No board has a hailo8l. See `farm boards`." in found.err
    assert json.loads(found.out)["error"]["kind"] == "NoBoardFits"
    told = ET.parse("j.xml").getroot().find("testcase/error")
    assert told is not None
    assert told.attrib == {"message": "No board has a hailo8l. See `farm boards`.", "type": "NoBoardFits"}


def test_json_is_one_object_with_the_verdict_the_job_and_the_run(typed: Typed, farm: StandIn, model: Path) -> None:
    found = json.loads(typed("submit", model, "--on", "virtual", "--wait", "--json").out)
    assert (found["verdict"], found["job"]["id"], found["run"]["run"]) == ("PASS", JOB, RUN)


def test_a_run_that_cannot_be_read_does_not_lose_the_verdict(typed: Typed, farm: StandIn, model: Path) -> None:
    farm.on("GET", f"/runs/{RUN}", problem(500, "FarmBug", "Broken."))
    found = typed("submit", model, "--on", "virtual", "--wait")
    assert (found.code, found.out.splitlines()[0]) == (0, "PASS")
    assert "Its run could not be read: Broken." in found.err


@pytest.mark.parametrize("words", [[], ["--no-cancel"]])
def test_when_the_time_to_wait_is_over_it_is_undecided(
    typed: Typed, farm: StandIn, model: Path, words: list[str]
) -> None:
    farm.on("GET", f"/jobs/{JOB}", Reply(data=job(state="running")))
    farm.on("GET", f"/jobs/{JOB}/events", stream(sse(event(1, "submitted")), 30.0))
    farm.on("POST", f"/jobs/{JOB}/cancel", Reply(data=job(state="running")))
    found = typed("submit", model, "--on", "virtual", "--wait", "--wait-limit-s", "0.3", *words)
    assert (found.code, found.out.splitlines()[0]) == (3, "UNDECIDED")
    assert "The job was not over after 0.3 s" in found.out
    assert (len(farm.of("POST", f"/jobs/{JOB}/cancel")) == 1) == (words == [])


def test_it_needs_nothing_but_the_thin_install(started: Typed, farm: StandIn, model: Path) -> None:
    found = started("submit", model, "--on", "virtual", "--wait", "--junit", "j.xml", preamble=WITHOUT_EXTRAS)
    assert (found.code, found.out.splitlines()[0]) == (0, "PASS")
    assert "fake 1; m.fake, 19 B" in found.out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("words", [[], ["--no-cancel"]])
def test_who_interrupts_the_wait_cancels_the_job_unless_told_otherwise(
    farm: StandIn, model: Path, number: signal.Signals, words: list[str]
) -> None:
    farm.on("GET", f"/jobs/{JOB}", Reply(data=job(state="running")))
    farm.on("GET", f"/jobs/{JOB}/events", stream(sse(event(1, "submitted")), 30.0))
    farm.on("POST", f"/jobs/{JOB}/cancel", Reply(data=job(state="running")))
    found = _interrupted(farm, model, number, "GET", f"/jobs/{JOB}/events", words)
    assert (found.returncode, found.stdout.splitlines()[0]) == (5, "CANCELLED")
    assert (len(farm.of("POST", f"/jobs/{JOB}/cancel")) == 1) == (words == [])
    assert ET.parse("j.xml").getroot().find("testcase/error[@type='Cancelled']") is not None


def test_who_interrupts_the_submit_itself_leaves_no_job_behind(farm: StandIn, model: Path) -> None:
    slow = Reply(201, parts=[10.0, b"x"])
    farm.on("POST", "/jobs", slow, Reply(200, job()))
    farm.on("POST", f"/jobs/{JOB}/cancel", Reply(data=job(state="cancelled")))
    found = _interrupted(farm, model, signal.SIGINT, "POST", "/jobs", [])
    assert found.returncode == 5
    first, second = farm.of("POST", "/jobs")
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
    assert len(farm.of("POST", f"/jobs/{JOB}/cancel")) == 1


def _interrupted(
    farm: StandIn, model: Path, number: int, method: str, path: str, words: list[str]
) -> subprocess.CompletedProcess[str]:
    """What `farm submit` ends with when it is interrupted after it asked for this."""
    argv = [sys.executable, "-m", "farm", "submit", model, "--on", "virtual", "--wait", "--junit", "j.xml", *words]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL, env=environment
    ) as process:
        deadline = time.monotonic() + 30
        while not farm.of(method, path) and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.2)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    return subprocess.CompletedProcess(argv, process.returncode, out, err)
