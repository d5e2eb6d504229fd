"""`farm gate check`, and `farm submit --gate --against --fresh`: what is refused here, what is asked, how it ends."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.farm.cli.gated import DATA, MEMORY, P50, ends, finding, gate, judged
from tests.farm.cli.test_door import WITHOUT_EXTRAS
from tests.farm.standin import JOB, TOKEN, Reply, StandIn, event, job, problem, sse, standing_in, stream

Typed = Callable[..., Any]


@pytest.fixture
def model(home: Path) -> Path:
    path = home / "m.fake"
    path.write_bytes(DATA)
    (home / "gate.yaml").write_text(P50)
    return path


@pytest.fixture
def farm(monkeypatch: pytest.MonkeyPatch, model: Path) -> Iterator[StandIn]:
    """A farm whose gated Jobs pass, unless it is told otherwise; the environment names it."""
    with standing_in() as found:
        monkeypatch.setenv("FARM_URL", found.url)
        monkeypatch.setenv("FARM_TOKEN", TOKEN)
        ends(found, judged("PASS", "OK", "holds", told=gate(finding("pass"))))
        yield found


# farm gate check


def test_every_mistake_of_a_file_is_told_with_its_line(typed: Typed, home: Path) -> None:
    (home / "g.yaml").write_text(
        "version: 1\nmetrics:\n  p49_latency_ns: {}\n  p50_latency_ns: {max_chnge: 2 %}\nalpha: 2\n"
    )
    found = typed("gate", "check", "g.yaml")
    assert (found.code, found.out) == (2, "")
    assert [line[: len("g.yaml:3:")] for line in found.err.splitlines() if line.startswith("g.yaml:")] == [
        "g.yaml:3:", "g.yaml:4:", "g.yaml:5:",
    ]  # fmt: skip
    assert "has 3 mistakes" in found.err


def test_mistakes_are_one_object_where_json_is_asked_for(typed: Typed, home: Path) -> None:
    (home / "g.yaml").write_text("version: 2\nmetrics: {p50_latency_ns: {}}\n")
    found = typed("gate", "check", "g.yaml", "--json")
    error = json.loads(found.out)["error"]
    assert (found.code, error["kind"], error["exit_code"]) == (2, "GateError", 2)
    assert "g.yaml:1: version is '2'" in error["message"]


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("none.yaml", None, "cannot be read: No such file or directory"),
        (".", None, "cannot be read: Is a directory"),
        ("g.yaml", b"", "the file holds nothing"),
        ("g.yaml", P50.encode("utf-16"), "is not UTF-8 text: byte 0xff in line 1"),
        ("g.yaml", P50.encode() + b"# caf\xe9\n", "is not UTF-8 text: byte 0xe9 in line 3"),
        ("g.yaml", P50.encode() + b"#" * 100_000, "at most 100000 are read"),
        ("g.yaml", P50.encode() + b"---\n" + P50.encode(), "the file holds 2 documents"),
        ("g.yaml", b"\x00\x01\x02", "g.yaml:1:"),
    ],
)
@pytest.mark.parametrize("words", [("gate", "check"), ("submit", "m.fake", "--on", "virtual", "--gate")])
def test_what_is_no_gate_file_is_told_alike_by_check_and_submit(
    typed: Typed, farm: StandIn, home: Path, words: tuple[str, ...], name: str, data: bytes | None, told: str
) -> None:
    if data is not None:
        (home / name).write_bytes(data)
    found = typed(*words, name)
    assert (found.code, found.out, told in found.err) == (2, "", True), found.err
    assert farm.asked == []


def test_a_good_file_is_shown_as_it_is_understood(typed: Typed, home: Path) -> None:
    (home / "g.yaml").write_bytes(
        b"\xef\xbb\xbfversion: 1\nmetrics:\n  p50_latency_ns: {}\n  p99_latency_ns: {max_change: 25 %, limit: 60 ms}\n"
        b"  deadline_miss_ratio: {deadline: 33 ms, limit: 1 %}\n"
        b"references: [last-passing, {name: golden, artifact: 3fa94c1d, max_change: {p50_latency_ns: 5 %}}]\n"
    )
    found = typed("gate", "check", "g.yaml")
    lines = [line.split("  ") for line in found.out.splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert (found.code, cells[:4]) == (
        0,
        [
            ["metric", "may get worse by", "limit"],
            ["p50_latency_ns", "2 %, 5 % (against golden)", "–"],
            ["p99_latency_ns", "25 %", "60 ms"],
            ["deadline_miss_ratio", "–", "0.01 of queries later than 33 ms"],
        ],
    )
    assert "against: last-passing, golden" in found.out
    assert "false FAIL at most 1 %, false PASS at most 5 %; at most 80 pairs and 900 board-seconds" in found.out


def test_a_gate_of_limits_says_that_it_compares_nothing(typed: Typed, home: Path) -> None:
    (home / "g.yaml").write_text("version: 1\nmetrics: {cold_load_rss_bytes: {limit: 200 MB}}\n")
    assert "against: nothing; there are limits alone" in typed("gate", "check", "g.yaml").out


def test_json_has_the_gate_its_form_and_the_hash_of_that(typed: Typed, home: Path) -> None:
    (home / "one.yaml").write_text(P50 + "pairs: 30\non_undecided: accept\n")
    (home / "two.yaml").write_text(P50)
    one, two = (json.loads(typed("gate", "check", f"{name}.yaml", "--json").out) for name in ("one", "two"))
    assert (one["hash"], one["form"]) == (two["hash"], two["form"])
    assert (one["gate"]["pairs"], one["gate"]["on_undecided"], two["gate"]["pairs"]) == (30, "accept", 80)
    assert two["form"]["rules"] == [{"metric": "p50_latency_ns", "max_change": 0.03}]


def test_check_needs_nothing_but_the_thin_install(started: Typed, model: Path) -> None:
    found = started("gate", "check", "gate.yaml", preamble=WITHOUT_EXTRAS)
    assert (found.code, "p50_latency_ns  3 %" in found.out) == (0, True), found.err


# farm submit --gate


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--fresh"], "--fresh is of a gate, and none is asked for"),
        (["--against", "runn:01"], "--against 'runn:01' names no reference"),
        (["--against", ""], "--against '' names no reference"),
        (["--against", "last-passing", "--against", "artifact:xyz"], "--against 'artifact:xyz' names no reference"),
        ([word for n in range(9) for word in ("--against", f"b{n}")], "--against is ["),
        (["--gate", "limits.yaml", "--against", "last-passing"], "the gate has only limits, on load_ns"),
        (["--gate", "few.yaml", "--against", "a", "--against", "b"], "no FAIL can come before pair 8"),
    ],
)
def test_a_gate_that_cannot_be_is_told_before_anything_is_sent(
    typed: Typed, farm: StandIn, model: Path, home: Path, words: list[str], told: str
) -> None:
    (home / "limits.yaml").write_text("version: 1\nmetrics: {load_ns: {limit: 1 s}}\n")
    (home / "few.yaml").write_text(P50 + "pairs: 7\n")
    found = typed("submit", model, "--on", "virtual", *words)
    assert (found.code, found.out, told in found.err) == (2, "", True), found.err
    assert farm.asked == []


def test_what_the_farm_knows_better_is_told_as_it_says_it(typed: Typed, farm: StandIn, model: Path) -> None:
    farm.on("POST", "/jobs", problem(404, "NotFound", "Baseline 'gould' is not known; known: gold (on any board)."))
    found = typed("submit", model, "--on", "virtual", "--against", "gould", "--wait", "--junit", "j.xml")
    assert (found.code, "known: gold (on any board)" in found.err) == (2, True)
    assert ET.parse("j.xml").getroot().attrib["errors"] == "1"


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ([], {}),
        (["--gate", "gate.yaml"], {"gate": P50}),
        (["--gate", "gate.yaml", "--fresh"], {"gate": P50, "fresh": True}),
        (["--against", "gold", "--against", "run:0199"], {"against": ["gold", "run:0199"]}),
        (["--against", "branch:main", "--fresh"], {"against": ["branch:main"], "fresh": True}),
    ],
)
def test_the_gate_is_asked_for_as_it_was_given(
    typed: Typed, farm: StandIn, model: Path, words: list[str], asked: dict[str, Any]
) -> None:
    assert typed("submit", model, "--on", "virtual", *words).code == 0
    (sent,) = farm.of("POST", "/jobs")
    assert {key: sent.data[key] for key in ("gate", "against", "fresh") if key in sent.data} == asked


def test_a_gate_may_come_through_a_pipe(typed: Typed, farm: StandIn, model: Path, home: Path) -> None:
    os.mkfifo(home / "pipe")
    threading.Thread(target=lambda: (home / "pipe").write_text(P50), daemon=True).start()
    assert typed("submit", model, "--on", "virtual", "--gate", "pipe").code == 0
    assert farm.of("POST", "/jobs")[0].data["gate"] == P50


@pytest.mark.parametrize(
    ("verdict", "outcome", "policy", "code"),
    [
        ("PASS", "OK", "fail", 0),
        ("FAIL", "OK", "accept", 1),
        ("UNDECIDED", "OK", "undecided", 3),
        ("UNDECIDED", "OK", "fail", 1),
        ("UNDECIDED", "NOISY", "accept", 0),
        (None, "BROKEN", "accept", 4),
        (None, "CANCELLED", "accept", 5),
    ],
)
@pytest.mark.parametrize("verb", [["submit", "m.fake", "--on", "virtual", "--wait"], ["job", "wait", JOB]])
def test_the_policy_changes_the_exit_code_of_undecided_alone_and_never_the_word(
    typed: Typed, farm: StandIn, verb: list[str], verdict: str | None, outcome: str, policy: str, code: int
) -> None:
    ends(farm, judged(verdict, outcome, "not_decided", told=gate(finding("open"), on_undecided=policy)))
    found = typed(*verb)
    assert (found.code, found.out.splitlines()[0]) == (code, verdict or outcome)
    assert json.loads(typed(*verb, "--json").out)["verdict"] == (verdict or outcome)


def test_a_wait_that_was_given_up_is_no_verdict_that_a_gate_could_accept(typed: Typed, farm: StandIn) -> None:
    running = job(state="running", gate=gate(on_undecided="accept"))
    farm.on("GET", f"/jobs/{JOB}", Reply(data=running))
    farm.on("GET", f"/jobs/{JOB}/events", stream(sse(event(1, "submitted")), 30.0))
    farm.on("POST", f"/jobs/{JOB}/cancel", Reply(data=running))
    found = typed("submit", "m.fake", "--on", "virtual", "--wait", "--wait-limit-s", "0.3")
    assert (found.code, found.out.splitlines()[0]) == (3, "UNDECIDED")


def test_what_the_evidence_says_is_shown_rule_by_rule_with_its_cost(typed: Typed, farm: StandIn, model: Path) -> None:
    rules = (finding("fail"), finding("pass", **MEMORY), finding("lost", effect=None, low=None))
    ends(farm, judged("FAIL", "OK", "worse", told=gate(*rules, absent={"deployed": "no baseline yet"})))
    out = typed("submit", model, "--on", "virtual", "--wait").out
    assert "because worse" in out
    rows = [line.split() for line in out.splitlines() if line.startswith(("p50_latency", "cold_load"))]
    assert [" ".join(row) for row in rows] == [
        "p50_latency_ns against last-passing +5.1 % above +4.8 % 3 % 9 FAILS",
        "cold_load_rss_bytes 150 MB below 160 MB limit 200 MB 9 holds",
        "p50_latency_ns against last-passing – – 3 % 9 not measured",
    ]
    assert "not compared with 'deployed': no baseline yet" in out
    assert "8 pairs kept, 1 dropped; 24 board-seconds, 180 s of the budget saved" in out
