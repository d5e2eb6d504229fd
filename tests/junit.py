"""JUnit XML as CI systems read it."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET


def check_schema(suite: ET.Element) -> None:
    """What Jenkins' and Surefire's schemas ask of a suite: names, order, required attributes, numbers."""
    assert suite.tag == "testsuite"
    assert set(suite.attrib) == {"name", "tests", "failures", "errors", "skipped", "time", "timestamp"}
    for name in ("tests", "failures", "errors", "skipped"):
        assert suite.attrib[name].isdecimal()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.attrib["timestamp"])
    assert [child.tag for child in suite] == ["properties", *["testcase"] * int(suite.attrib["tests"])]
    for fact in suite[0]:
        assert (fact.tag, set(fact.attrib), len(fact)) == ("property", {"name", "value"}, 0)
    cases = suite[1:]
    for case in cases:
        _check_case(case)
    counted = {tag: sum(len(case.findall(tag)) for case in cases) for tag in ("failure", "error", "skipped")}
    assert [suite.attrib[name] for name in ("failures", "errors", "skipped")] == [str(n) for n in counted.values()]
    assert float(suite.attrib["time"]) == sum(float(case.attrib["time"]) for case in cases)


def _check_case(case: ET.Element) -> None:
    assert set(case.attrib) == {"classname", "name", "time"}
    assert float(case.attrib["time"]) >= 0
    tags = [child.tag for child in case]
    assert tags in ([], ["system-out"], *([tag, "system-out"] for tag in ("failure", "error", "skipped")), ["skipped"])
    for child in case:
        allowed = {"failure": {"message", "type"}, "error": {"message", "type"}, "skipped": {"message"}}
        assert set(child.attrib) == allowed.get(child.tag, set())


def facts(suite: ET.Element) -> dict[str, str]:
    """The properties of a suite."""
    return {fact.attrib["name"]: fact.attrib["value"] for fact in suite.iter("property")}
