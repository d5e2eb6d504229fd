"""The verdict as JUnit XML and as Markdown: right for CI systems; whatever strangers wrote stays text."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from farm.cli import junit, markdown
from farm.cli.verdict import Ended
from farm.schemas import JobTold
from tests.farm.standin import JOB, RUN, ended
from tests.junit import check_schema

NOW = datetime(2026, 1, 2, 3, 4, 20, tzinfo=UTC)
EVIL = "a|b `c` <script>alert(1)</script>\n# head *x* [l](http://e.vil) @everyone &amp; \x1b[31m\x00 www.e.vil \\"
METRICS: dict[str, Any] = {
    "p50_latency_ns": {"value": 1637000.0, "n": 64, "processes": 5, "low": 1600000.0, "high": 1700000.0},
    "p999_latency_ns": {"value": None, "n": 64, "processes": 5, "low": None, "high": None, "reason": "needs 4603"},
    "temp_max_c": {"value": 61.5, "n": 1, "processes": 5, "low": None, "high": None},
}
WHY = [{"code": "throttled", "text": "CPU at 1510 MHz, locked to 2201 MHz. Check its fan.", "blame": None}]


def _run(**more: Any) -> dict[str, Any]:
    plain = {"run": RUN, "board": "virtual-0", "virtual": True, "reasons": [], "fingerprint": None}
    return {**plain, "metrics": METRICS, **more}


def _ended(word: str = "PASS", told: dict[str, Any] | None = None, **more: Any) -> Ended:
    job = JobTold.model_validate(told or ended())
    return Ended(word, job.model, job.on, "https://farm.lab", job, more.pop("run", _run()), **more)


def _suite(found: Ended) -> ET.Element:
    return ET.fromstring(junit.render(found, NOW))


def test_a_pass_is_a_case_with_nothing_in_it() -> None:
    suite = _suite(_ended())
    check_schema(suite)
    assert len(suite[1]) == 0
    assert suite[1].attrib == {
        "classname": "mobilenet",
        "name": "on virtual-0 / single_stream, 10 s, 5 processes, cold cache, onnxruntime",
        "time": "10.500",
    }


@pytest.mark.parametrize(
    ("word", "verdict", "outcome", "element", "kind"),
    [
        ("FAIL", "FAIL", "FAILED", "failure", "FAIL"),
        ("BROKEN", None, "BROKEN", "error", "BROKEN"),
        ("CANCELLED", None, "CANCELLED", "error", "CANCELLED"),
    ],
)
def test_a_fail_is_a_failure_and_what_the_lab_or_a_person_ended_an_error(
    word: str, verdict: str | None, outcome: str, element: str, kind: str
) -> None:
    suite = _suite(_ended(word, ended(verdict, outcome, reasons=WHY)))
    check_schema(suite)
    told = suite[1].find(element)
    assert told is not None
    assert told.attrib["type"] == kind
    assert told.attrib["message"] == "throttled: CPU at 1510 MHz, locked to 2201 MHz. Check its fan."
    assert suite[1].findtext("system-out") == told.text


def test_undecided_is_skipped_and_says_so() -> None:
    suite = _suite(_ended("UNDECIDED", ended("UNDECIDED", "NOISY", reasons=WHY)))
    check_schema(suite)
    told = suite[1].find("skipped")
    assert told is not None
    assert told.attrib["message"].startswith("UNDECIDED: throttled: CPU at 1510 MHz")


def test_properties_say_what_was_measured_where_and_of_what() -> None:
    facts = {one.attrib["name"]: one.attrib["value"] for one in _suite(_ended())[0]}
    assert facts == {
        "verdict": "PASS",
        "farm": "https://farm.lab",
        "job": JOB,
        "run": RUN,
        "board": "virtual-0",
        "virtual": "true",
        "commit": "abc123",
        "branch": "main",
        "artifact": "ab" * 32,
        "metric.p50_latency_ns": "1637000.0",
        "metric.temp_max_c": "61.5",
    }


def test_where_nothing_was_submitted_the_error_is_told() -> None:
    found = Ended("BROKEN", "m.onnx", "virtual", error="No board fits.", error_kind="NoBoardFits")
    suite = _suite(found)
    check_schema(suite)
    told = suite[1].find("error")
    assert told is not None
    assert (told.attrib["type"], told.attrib["message"]) == ("NoBoardFits", "No board fits.")
    assert markdown.render(found) == "### BROKEN: `m.onnx` on `virtual`\n\n- `No board fits.`\n\n"


def test_what_strangers_wrote_stays_text_in_junit() -> None:
    evil = EVIL + "\ud800\ufffe"
    job = JobTold.model_validate(ended("FAIL", "FAILED", reasons=[{"code": "x", "text": EVIL, "blame": None}]))
    suite = _suite(Ended("FAIL", evil, "virtual", evil, job, _run(board=evil)))
    check_schema(suite)
    expected = EVIL.replace("\x1b", "\ufffd").replace("\x00", "\ufffd")
    assert suite[1].attrib["classname"] == expected + "\ufffd\ufffd"
    assert suite[1].findtext("system-out") == f"x: {expected}"


def test_markdown_has_the_word_the_figures_with_units_and_the_links() -> None:
    lines = markdown.render(_ended()).splitlines()
    assert lines[0] == "### PASS: `mobilenet` on `virtual-0`"
    assert "> **Virtual board**: for tests of the pipeline, not a measurement of real hardware." in lines
    assert "| `p50_latency_ns` | 1.637 ms | 1.6 ms – 1.7 ms | 64 × 5 |" in lines
    assert "| `p999_latency_ns` | – | `needs 4603` | 64 × 5 |" in lines
    assert "| `temp_max_c` | 61.5 °C | – | 1 × 5 |" in lines
    assert f"[`{JOB}`](https://farm.lab/api/v1/jobs/{JOB})" in lines[-1]
    assert "commit `abc123` · branch `main`" in lines[-1]


def test_a_real_board_has_no_warning() -> None:
    text = markdown.render(_ended(told=ended() | {"virtual": False}, run=_run(virtual=False)))
    assert "Virtual" not in text


def test_what_strangers_wrote_stays_text_in_markdown() -> None:
    told = ended("FAIL", "FAILED", reasons=[{"code": "x", "text": EVIL, "blame": None}]) | {"branch": EVIL}
    evil = {**METRICS, EVIL: {"value": None, "n": 1, "processes": 1, "low": None, "high": None, "reason": EVIL}}
    found = _ended("FAIL", told, run=_run(board=EVIL, metrics=evil))
    text = markdown.render(Ended("FAIL", EVIL, "virtual", "javascript:x", found.job, found.run))
    outside = re.sub(r"<code>[^<>`*|\[\]@\\]*</code>|`[^`<>|@\\]*`", "", text)
    assert "script" not in outside
    assert "@" not in text
    assert set(re.findall(r"</?\w+", text)) <= {"<code", "</code", "<sub", "</sub"}
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert [line.count("|") for line in rows] == [5] * 6
    (shown,) = re.findall(r"^### FAIL: <code>(.*?)</code> on", text)
    assert html.unescape(shown) == " ".join(EVIL.split()).replace("\x1b", "\ufffd").replace("\x00", "\ufffd")


def test_a_comment_is_never_endless() -> None:
    reason = {"code": "x", "text": "y" * 100_000, "blame": None}
    many = {f"m{n}_ns": METRICS["p50_latency_ns"] for n in range(5000)}
    found = _ended("FAIL", ended("FAIL", "FAILED", reasons=[reason]), run=_run(metrics=many))
    assert len(markdown.render(found)) < 60_000
