"""What a gate found, as JUnit XML and as Markdown: a case and a row for each rule, counted right."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from farm.cli import junit, markdown
from farm.cli.verdict import Ended
from farm.schemas import JobTold
from tests.farm.cli.gated import MEMORY, finding, gate, judged
from tests.junit import check_schema

NOW = datetime(2026, 1, 2, 3, 4, 20, tzinfo=UTC)
EVIL = "a|b `c` <script>alert(1)</script>\n# head *x* [l](http://e.vil) @everyone &amp; \x1b[31m\x00"


def over(word: str, told: dict[str, Any]) -> Ended:
    job = JobTold.model_validate(told)
    return Ended(word, job.model, job.on, "https://farm.lab", job)


def suite_of(ended: Ended) -> ET.Element:
    suite = ET.fromstring(junit.render(ended, NOW))
    check_schema(suite)
    return suite


def counts(suite: ET.Element) -> dict[str, int]:
    """What the suite says, which must be what is in it."""
    cases = suite.findall("testcase")
    found = {"tests": len(cases)} | {
        name: sum(case.find(element) is not None for case in cases)
        for name, element in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped"))
    }
    assert {name: int(suite.attrib[name]) for name in found} == found
    return found


def test_each_rule_is_a_case_that_fails_passes_or_is_skipped() -> None:
    rules = (finding("fail"), finding("pass", **MEMORY), finding("open"), finding("lost"))
    suite = suite_of(over("FAIL", judged("FAIL", "OK", "worse", told=gate(*rules))))
    assert counts(suite) == {"tests": 5, "failures": 2, "errors": 0, "skipped": 2}
    whole, worse, memory, undecided, lost = suite.findall("testcase")
    assert (worse.attrib["classname"], worse.attrib["name"]) == (
        "mobilenet.gate", "p50_latency_ns against last-passing",
    )  # fmt: skip
    assert memory.attrib["name"] == "cold_load_rss_bytes within its limit"
    assert whole.find("failure") is not None
    assert worse.find("failure").attrib == {"message": "+5 % against main", "type": "FAIL"}  # type: ignore[union-attr]
    assert [child.tag for child in memory] == ["system-out"]
    assert [case.find("skipped").attrib["message"] for case in (undecided, lost)] == [  # type: ignore[union-attr]
        "not bounded yet", "no figure",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("word", "verdict", "outcome", "policy", "expected"),
    [
        ("PASS", "PASS", "OK", "fail", (0, 0, 0)),
        ("UNDECIDED", "UNDECIDED", "OK", "undecided", (0, 0, 1)),
        ("UNDECIDED", "UNDECIDED", "OK", "accept", (0, 0, 1)),
        ("UNDECIDED", "UNDECIDED", "NOISY", "fail", (1, 0, 0)),
        ("UNDECIDED", None, "OK", "fail", (0, 0, 1)),
        ("BROKEN", None, "BROKEN", "fail", (0, 1, 0)),
        ("CANCELLED", None, "CANCELLED", "accept", (0, 1, 0)),
    ],
)
def test_the_case_of_the_job_is_what_its_exit_code_says_but_nothing_accepted_is_a_pass(
    word: str, verdict: str | None, outcome: str, policy: str, expected: tuple[int, int, int]
) -> None:
    told = judged(verdict, outcome, *([] if word == "PASS" else ["not_decided"]), told=gate(on_undecided=policy))
    suite = suite_of(over(word, told))
    found = counts(suite)
    assert (found["failures"], found["errors"], found["skipped"]) == expected
    failure = suite.find("testcase/failure")
    if failure is not None:
        assert failure.attrib["message"] == "UNDECIDED, which the gate lets fail: not_decided: because not_decided"


def test_the_arms_the_pairs_and_the_cost_are_properties() -> None:
    suite = suite_of(over("PASS", judged("PASS", "OK", "holds", told=gate(finding()))))
    facts = {one.attrib["name"]: one.attrib["value"] for one in suite[0]}
    assert (facts["artifact.candidate"], facts["artifact.last-passing"]) == ("a" * 64, "b" * 64)
    assert (facts["pairs"], facts["board_s"]) == ("8", "24.4")


def test_markdown_has_a_row_a_rule_the_reasons_and_what_was_not_compared() -> None:
    rules = (finding("fail"), finding("pass", **MEMORY))
    told = gate(*rules, absent={"deployed": "no baseline 'deployed' yet"})
    lines = markdown.render(over("FAIL", judged("FAIL", "OK", "worse", "holds", told=told))).splitlines()
    assert lines[0] == "### FAIL: `mobilenet` on `virtual-0`"
    assert "- `worse: because worse`" in lines
    assert not [line for line in lines if "because holds" in line]  # the table shows it
    at = lines.index("| rule | figure | interval | allowed | pairs | says |")
    assert lines[at + 1 : at + 5] == [
        "|---|---|---|---|---|---|",
        "| `p50_latency_ns against last-passing` | `+5.1 %` | `above +4.8 %` | `3 %` | `9` | `FAILS` |",
        "| `cold_load_rss_bytes` | `150 MB` | `below 160 MB` | `limit 200 MB` | `9` | `holds` |",
        "",
    ]
    assert any(line.startswith("- not compared with `deployed`: ") for line in lines)
    assert any(
        line.startswith("8 pairs kept, 1 dropped; 24 board-seconds, 180 s of the budget saved") for line in lines
    )


def test_before_the_first_pair_there_is_no_table() -> None:
    told = judged("UNDECIDED", "OK", "nothing_to_judge", told=gate(kept=0, dropped=0, board_s=0.0, saved_s=0.0))
    text = markdown.render(over("UNDECIDED", told))
    assert "| rule |" not in text
    assert "0 pairs kept; 0 board-seconds. `candidate` `aaaaaaaaaaaa`" in text


def test_what_strangers_called_their_references_stays_text() -> None:
    told = gate(finding("fail", reference=EVIL, metric=EVIL, text=EVIL), absent={EVIL: EVIL})
    ended = over("FAIL", judged("FAIL", "OK", "worse", told=told))
    text = markdown.render(ended)
    outside = re.sub(r"<code>[^<>`*|\[\]@\\]*</code>|`[^`<>|@\\]*`", "", text)
    assert "script" not in outside
    assert "@" not in text
    assert set(re.findall(r"</?\w+", text)) <= {"<code", "</code", "<sub", "</sub"}
    assert {line.count("|") for line in text.splitlines() if line.startswith("|")} == {7}
    case = suite_of(ended).findall("testcase")[1]
    assert case.attrib["name"].startswith("a|b `c` <script>")


def test_a_comment_on_a_gate_is_never_endless() -> None:
    rules = [finding("open", metric=f"sensor{n}.x_ns", text="y" * 10_000) for n in range(3000)]
    text = markdown.render(over("UNDECIDED", judged("UNDECIDED", "OK", "not_decided", told=gate(*rules))))
    assert len(text) < 60_000
