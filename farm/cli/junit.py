"""A verdict as JUnit XML, as CI systems read it.

There is no element for "not decided". UNDECIDED becomes `skipped`, which Jenkins, GitLab and GitHub's reporters show
as neither passed nor failed; the exit code says it too. FAIL is `failure`; what the lab or a person ended is `error`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

from farm.cli.verdict import Ended

NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
ELEMENTS = {"FAIL": "failure", "UNDECIDED": "skipped", "BROKEN": "error", "CANCELLED": "error"}


def render(ended: Ended, now: datetime) -> str:
    """The whole document: one suite with one case."""
    element = ELEMENTS.get(ended.word)
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
            told = ET.SubElement(case, element, {"message": message, "type": _clean(ended.error_kind or ended.word)})
            told.text = _clean(said or message)
    if said:
        ET.SubElement(case, "system-out").text = _clean(said)
    ET.indent(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suite, encoding="unicode") + "\n"


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
    metrics = {f"metric.{name}": values.get("value") for name, values in (run.get("metrics") or {}).items()}
    return {name: str(value) for name, value in (found | metrics).items() if value is not None}


def _clean(text: str) -> str:
    """The text without what XML cannot hold."""
    return NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
