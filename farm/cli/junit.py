"""A verdict as JUnit XML, as CI systems read it.

There is no element for "not decided". UNDECIDED becomes `skipped`, which Jenkins, GitLab and GitHub's reporters show
as neither passed nor failed; the exit code says it too. A gate whose `on_undecided` is `fail` makes it a `failure`, as
FAIL is one; what the lab or a person ended is `error`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from farm.cli.verdict import Ended

if TYPE_CHECKING:
    from farm.schemas import FindingTold

NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
ELEMENTS = {"FAIL": "failure", "UNDECIDED": "skipped", "BROKEN": "error", "CANCELLED": "error"}


def render(ended: Ended, now: datetime) -> str:
    """The whole document: one suite with a case for the Job, and one for each rule of its gate."""
    element = "failure" if ended.counts_as == "FAIL" else ELEMENTS.get(ended.word)
    time_s = f"{ended.measured_s:.3f}"
    suite = ET.Element(
        "testsuite",
        {
            "name": "benchfarm",
            "tests": "1",
            "failures": str(int(element == "failure")),
            "errors": str(int(element == "error")),
            "skipped": str(int(element == "skipped")),
            "time": time_s,
            "timestamp": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
        },
    )
    properties = ET.SubElement(suite, "properties")
    for name, value in _facts(ended).items():
        ET.SubElement(properties, "property", {"name": _clean(name), "value": _clean(value)})
    name = f"on {ended.board or ended.on or 'any board'}" + (f" / {ended.plan}" if ended.plan else "")
    case = ET.SubElement(suite, "testcase", {"classname": _clean(ended.model), "name": _clean(name), "time": time_s})
    said = "\n".join(ended.reasons)
    if element is not None:
        message = _clean(next(iter(ended.reasons), f"The verdict is {ended.word}."))
        if element == "skipped":
            ET.SubElement(case, element, {"message": f"UNDECIDED: {message}"})
        else:
            message = message if ended.word != "UNDECIDED" else f"UNDECIDED, which the gate lets fail: {message}"
            told = ET.SubElement(case, element, {"message": message, "type": _clean(ended.error_kind or ended.word)})
            told.text = _clean(said or message)
    if said:
        ET.SubElement(case, "system-out").text = _clean(said)
    for one in ended.job.gate.findings if ended.job is not None and ended.job.gate is not None else ():
        _rule(suite, ended.model, one)
    ET.indent(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suite, encoding="unicode") + "\n"


def _rule(suite: ET.Element, model: str, one: FindingTold) -> None:
    """A rule of the gate as a case of its own, counted as the suite counts them."""
    name = one.metric + (f" against {one.reference}" if one.reference is not None else " within its limit")
    named = {"classname": _clean(f"{model}.gate"), "name": _clean(name)}
    case = ET.SubElement(suite, "testcase", {**named, "time": "0.000"})  # the whole time is the Job's case's
    _count(suite, "tests")
    if one.status == "fail":
        ET.SubElement(case, "failure", {"message": _clean(one.text), "type": "FAIL"}).text = _clean(one.text)
        _count(suite, "failures")
    elif one.status != "pass":
        ET.SubElement(case, "skipped", {"message": _clean(one.text)})
        _count(suite, "skipped")
    ET.SubElement(case, "system-out").text = _clean(one.text)


def _count(suite: ET.Element, what: str) -> None:
    suite.set(what, str(int(suite.get(what, "0")) + 1))


def _facts(ended: Ended) -> dict[str, str]:
    """What is known, as properties; metrics in base units."""
    job, run = ended.job, ended.run or {}
    found = {
        "verdict": ended.word,
        "farm": ended.url,
        "job": job.id if job else None,
        "run": run.get("run") or (job.runs[-1].id if job and job.runs else None),
        "board": ended.board,
        "virtual": "true" if ended.is_virtual else "false",
        "commit": job.commit if job else None,
        "branch": job.branch if job else None,
        "artifact": job.artifact if job else None,
        "fingerprint": run.get("fingerprint"),
    }
    if job is not None and job.gate is not None:
        found |= {f"artifact.{arm.reference or 'candidate'}": arm.artifact for arm in job.gate.arms}
        found |= {"pairs": str(job.gate.kept), "board_s": f"{job.gate.board_s:.1f}"}
    metrics = {f"metric.{name}": values.get("value") for name, values in (run.get("metrics") or {}).items()}
    return {name: str(value) for name, value in (found | metrics).items() if value is not None}


def _clean(text: str) -> str:
    """The text without what XML cannot hold."""
    return NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
