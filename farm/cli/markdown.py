"""A verdict as Markdown, fit for a comment on a pull request. Names and reasons are strangers' text: they stay text."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from farm.cli import gate, output
from farm.cli.verdict import Ended

if TYPE_CHECKING:
    from farm.schemas import GateTold

PLAIN = re.compile(r"[A-Za-z0-9 _.,:;=/+()#%–-]+")
LINK = re.compile(r"https?://[A-Za-z0-9.:/_~%-]+")
FIGURE = re.compile("[0-9A-Za-z .+/–×µ°-]+")
LONGEST = 1000  # characters of one text
MOST_METRICS = 60


def render(ended: Ended) -> str:
    """The whole comment."""
    return "\n".join(_lines(ended)) + "\n"


def _lines(ended: Ended) -> Iterator[str]:
    where = ended.board or ended.on or "any board"
    yield f"### {ended.word}: {code(ended.model)} on {code(where)}"
    yield ""
    if ended.is_virtual:
        yield "> **Virtual board**: for tests of the pipeline, not a measurement of real hardware."
        yield ""
    if ended.reasons:
        yield from (f"- {code(reason)}" for reason in ended.reasons)
        yield ""
    if ended.job is not None and ended.job.gate is not None:
        yield from _gate(ended.job.gate)
    metrics = (ended.run or {}).get("metrics") or {}
    if metrics:
        yield "| metric | value | low – high | n × processes |"
        yield "|---|---:|---|---|"
        for name, values in list(metrics.items())[:MOST_METRICS]:
            yield f"| {' | '.join(_cells(str(name), values))} |"
        yield ""
    yield from _footer(ended)


def _gate(told: GateTold) -> Iterator[str]:
    """What the evidence says of each rule."""
    if told.findings:
        yield f"| {' | '.join(gate.HEAD)} |"
        yield f"|{'---|' * len(gate.HEAD)}"
        for one in told.findings[:MOST_METRICS]:
            yield f"| {' | '.join(code(cell) for cell in gate.row(one))} |"
        yield ""
    for name, why in told.absent.items():
        yield f"- not compared with {code(name)}: {code(why)}"
    arms = (f"{code(arm.reference or 'candidate')} {code(arm.artifact[:12])}" for arm in told.arms)
    yield f"{gate.cost(told)}. {' · '.join(arms)}"
    yield ""


def _cells(name: str, values: Mapping[str, Any]) -> tuple[str, str, str, str]:
    counted = f"{values.get('n')} × {values.get('processes')}"
    value, low, high = (values.get(key) for key in ("value", "low", "high"))
    if value is None:
        return code(name), "–", code(str(values.get("reason") or "absent")), _figure(counted)
    interval = "–" if low is None or high is None else f"{output.figure(low, name)} – {output.figure(high, name)}"
    return code(name), _figure(output.figure(value, name)), _figure(interval), _figure(counted)


def _figure(text: str) -> str:
    return text if FIGURE.fullmatch(text) else code(text)


def _footer(ended: Ended) -> Iterator[str]:
    job = ended.job
    if ended.plan:
        yield f"Plan: {code(ended.plan)}"
        yield ""
    if job is None:
        return
    told = [f"job {_job(ended)}"]
    told += [f"run {code(str(ended.run['run']))}"] if ended.run else []
    told += [f"artifact {code(job.artifact[:12])}"]
    told += [f"commit {code(job.commit[:12])}"] if job.commit else []
    told += [f"branch {code(job.branch)}"] if job.branch else []
    yield f"<sub>{' · '.join(told)}</sub>"


def _job(ended: Ended) -> str:
    assert ended.job is not None
    name = code(ended.job.id)
    return f"[{name}]({ended.url}/api/v1/jobs/{ended.job.id})" if LINK.fullmatch(ended.url or "") else name


def code(text: str) -> str:
    """A stranger's text as code, which is neither Markdown nor HTML, mentions nobody and leads nowhere."""
    line = output.printable(" ".join(text.split()))
    line = line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"
    if PLAIN.fullmatch(line):
        return f"`{line}`"
    return f"<code>{_text(line)}</code>" if line else "–"


def _text(text: str) -> str:
    """Text in which nothing is Markdown or HTML."""
    return "".join(
        letter
        if letter.isalnum() or letter in " -–"
        else html.escape(letter, quote=True)
        if letter in "&<>\"'"
        else f"&#{ord(letter)};"
        for letter in text
    )
