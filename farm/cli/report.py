"""What one Run measured, and several side by side, as tables for people. The same data as the JSON and the figures."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from farm.cli import output

STAGE_COLUMNS = (
    ("rss_bytes", "resident"),
    ("pss_bytes", "proportional"),
    ("anon_bytes", "anonymous"),
    ("file_bytes", "file"),
    ("swap_bytes", "swap"),
    ("peak_bytes", "peak"),
    ("duration_ns", "time"),
    ("major_faults", "major faults"),
)


def run(found: Mapping[str, Any], *, picture: Path | None = None, is_here: bool = True) -> None:
    """One Run: outcome and why, figures, memory by stage, what to mind, where to look next if it is stored here."""
    mark = " (virtual board: for tests, not a measurement)" if found.get("virtual") else ""
    output.result(f"{found['model']} on {found['board']}: {found['outcome'] or 'not ended'}{mark}")
    output.result(_what(found))
    if found["reasons"]:
        output.result("")
        for reason in found["reasons"]:
            output.result(f"  {reason['code']}: {reason['text']}")
    if found["metrics"]:
        output.result("")
        output.table(
            ("metric", "value", "low – high", "n x processes"),
            [_figures(metric, values) for metric, values in found["metrics"].items()],
            right=(1,),
        )
    if found["stages"]:
        output.result("")
        _stages(found["stages"])
    for warning in found.get("warnings") or ():
        output.result(f"\nWarning: {warning}")
    output.result(f"\nfingerprint {(found['fingerprint'] or '–')[:12]}   run {found['run']}")
    sys.stdout.flush()
    name = output.short(found["run"])
    if is_here and picture is None and found["metrics"]:
        output.say(f"Look closer: farm plot run {name} --out run.png   farm export {name} --out run/")


def _what(found: Mapping[str, Any]) -> str:
    """The Plan in one line, and the Artifact."""
    artifact = found["artifact"]
    size = output.figure(artifact["size_bytes"], "size_bytes")
    line = plan_line(found["plan"], found["identity"])
    return f"{line}; {artifact['name']}, {size}, sha256 {artifact['sha256'][:12]}"


def plan_line(plan: Mapping[str, Any], identity: Mapping[str, Any]) -> str:
    """A Plan in one line, also where a newer farm's has fields that this client does not know."""
    from farm_agent import wire

    from farm import domain

    try:
        return domain.plan_line(wire.plan_from(dict(plan)), identity)
    except wire.WireError:
        return ", ".join(f"{name}={value}" for name, value in plan.items())


def _figures(metric: str, values: Mapping[str, Any]) -> tuple[str, str, str, str]:
    counted = f"{values['n']} x {values['processes']}"
    if values["value"] is None:
        return metric, "–", values.get("reason") or "absent", counted
    return metric, output.figure(values["value"], metric), _interval(values, metric), counted


def _interval(values: Mapping[str, Any], metric: str) -> str:
    if values["low"] is None or values["high"] is None:
        return "–"
    return f"{output.figure(values['low'], metric)} – {output.figure(values['high'], metric)}"


def _stages(stages: Mapping[str, Mapping[str, Any]]) -> None:
    """Memory after each stage: medians over processes. A column that no stage has is left out."""
    given = {name for values in stages.values() for name, value in values.items() if value is not None}
    columns = [(name, title) for name, title in STAGE_COLUMNS if name in given]
    output.table(
        ("memory after", *(title for _, title in columns)),
        [(stage, *(output.figure(values.get(name), name) for name, _ in columns)) for stage, values in stages.items()],
        right=range(1, len(columns) + 1),
    )


def comparison(document: Mapping[str, Any]) -> None:
    """Runs side by side: what they are, in which fields their Fingerprints differ, then their figures."""
    compared = document["runs"]
    letters = [chr(ord("a") + place) for place in range(len(compared))]
    output.table(
        ("", "run", "model", "board", "outcome"),
        [
            (letter, output.short(one["id"]), one["model"], one["board"], one["outcome"] or "not ended")
            for letter, one in zip(letters, compared, strict=True)
        ],
    )
    if not document["comparable"]:
        output.result("\nNot comparable: these runs differ in more than the model, so nothing is judged.")
        _differences(document["differences"], letters)
    output.result("")
    with_ratio = document["comparable"]
    rows = []
    for metric in document["metrics"]:
        cells = [_cell(values, metric["metric"]) for values in metric["runs"]]
        if with_ratio:
            cells += [_ratio(values) for values in metric["runs"][1:]]
        rows.append((metric["metric"], *cells))
    ratios = [f"{letter}/a" for letter in letters[1:]] if with_ratio else []
    output.table(("metric", *letters, *ratios), rows, right=range(1, len(letters) + len(ratios) + 1))
    for letter, one in zip(letters, compared, strict=True):
        for reason in one["reasons"]:
            output.result(f"\n{letter} is {one['outcome']}: {reason['text']}")


def _differences(differences: Sequence[Mapping[str, Any]], letters: Sequence[str]) -> None:
    if differences:
        output.result("")
        output.table(
            ("differs", *letters),
            [(row["field"], *("–" if value is None else str(value) for value in row["values"])) for row in differences],
        )


def _cell(values: Mapping[str, Any], metric: str) -> str:
    if values["value"] is None:
        return values["reason"] or "–"
    figure = output.figure(values["value"], metric)
    if values["low"] is None or values["high"] is None:
        return figure
    return f"{figure} ({_interval(values, metric)})"


def _ratio(values: Mapping[str, Any]) -> str:
    return "–" if values["first_ratio"] is None else f"{values['first_ratio']:.3f}"
