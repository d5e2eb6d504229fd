"""A gate file (YAML) -> Gate; every mistake with its line number.

    version: 1
    metrics:
      p50_latency_ns: {max_change: 2 %}                   # worse than a reference, by the way that is worse
      p99_latency_ns: {max_change: 25 %, limit: 60 ms}
      cold_load_rss_bytes: {max_change: 1 %, limit: 200 MB}
      deadline_miss_ratio: {deadline: 33 ms, limit: 1 %}
      p95_latency_ns: {}                                  # the default margin
    references:                                           # PASS needs all; last-passing when left out
      - last-passing
      - deployed                                          # a Baseline that was set under this name
      - {name: uncompressed, artifact: 3fa94c1d, max_change: {p50_latency_ns: 5 %}}
    alpha: 0.01                                           # false FAIL at most
    beta: 0.05                                            # false PASS at most
    pairs: 80                                             # at most
    budget_s: 900                                         # board-seconds, at most
    on_no_baseline: limits                                # or undecided, or fail
    on_undecided: undecided                               # or fail, or accept

Only `version` and `metrics` are needed. History of `version`: 1 the first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import yaml

from farm import nodes, quantities, rules, units
from farm.errors import GateError
from farm.rules import Gate, Reference, Rule

VERSION = 1
NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}\Z")
SHA256 = re.compile(r"[0-9a-f]{8,64}\Z")
RATE = (1e-6, 0.2)
PAIRS = 1000
BUDGET_S = 86_400.0
LONGEST = 100_000  # characters of a file, as the API takes it
CHANGE = 10.0
KINDS = ("artifact", "run", "branch", "baseline")


def load(path: Path) -> Gate:
    """The Gate of a file. Raises GateError with every mistake."""
    return parse(read(path), str(path))


def read(path: Path) -> str:
    """The text of a gate file, which can be read only once where it is a pipe. Raises GateError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise GateError(
            f"Gate file '{path}' cannot be read: {error.strerror}. Correct the path, or start one with:\n"
            f"version: {VERSION}\nmetrics:\n  p50_latency_ns: {{max_change: 2 %}}"
        ) from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise GateError(
            f"Gate file '{path}' is not UTF-8 text: byte {data[error.start]:#04x} in line {line}. Save it as UTF-8."
        ) from None
    if len(text) > LONGEST:
        raise GateError(f"Gate file '{path}' has {len(text)} characters; at most {LONGEST} are read. Check its path.")
    return text


def parse(data: bytes | str, source: str) -> Gate:
    """The Gate of a text; `source` is its file's name. Raises GateError with every mistake."""
    reading = _Reading()
    gate = reading.gate(data)
    mistakes = sorted(set(reading.mistakes))
    if mistakes or gate is None:
        count = f"{len(mistakes)} mistakes" if len(mistakes) > 1 else "a mistake"
        lines = "\n".join(f"{source}:{line}: {text}" for line, text in mistakes)
        raise GateError(f"Gate file '{source}' has {count}:\n{lines}\ndocs/gates.md explains every key.")
    return gate


def reference(text: str) -> Reference:
    """A Reference as `--against` names it: last-passing, the name of a Baseline, or KIND:VALUE. Raises GateError."""
    kind, colon, value = text.strip().partition(":")
    node = yaml.ScalarNode("tag:yaml.org,2002:str", text.strip())
    try:
        if not colon:
            return _named(node, kind, (), node)
        key, named = (yaml.ScalarNode("tag:yaml.org,2002:str", word) for word in (kind, value.strip()))
        return _reference(yaml.MappingNode("tag:yaml.org,2002:map", [(key, named)]), ())
    except nodes.Wrong as wrong:
        kinds = ", ".join(f"{one}:…" for one in KINDS)
        raise GateError(
            f"--against {text!r} names no reference: {wrong} Give {rules.LAST_PASSING}, the name of a baseline, or one"
            f" of {kinds}"
        ) from None


def with_references(gate: Gate, against: Sequence[str]) -> Gate:
    """The Gate with these References instead of its own. Raises GateError."""
    listed = {one.name: one for one in map(reference, against)}
    found = replace(gate, references=tuple(listed.values()))
    if not any(rule.max_change is not None for rule in gate.rules):
        names = ", ".join(rule.metric for rule in gate.rules)
        raise GateError(
            f"There is nothing to compare with {', '.join(listed)}: the gate has only limits, on {names}. Give a metric"
            " a max_change, or leave --against out."
        )
    if rules.fewest_pairs(found) > found.pairs:
        raise GateError(
            f"A gate of {found.pairs} pairs cannot be judged against {len(listed)} references: no FAIL can come before"
            f" pair {rules.fewest_pairs(found)}. Allow more `pairs`, or name fewer references."
        )
    return found


class _Reading:
    """One gate file while it is read; mistakes are gathered, not raised."""

    def __init__(self) -> None:
        self.mistakes: list[tuple[int, str]] = []

    def gate(self, data: bytes | str) -> Gate | None:
        """The Gate as far as it could be read; None where nothing of it could."""
        try:
            top = nodes.composed(data)
        except nodes.Unreadable as error:
            self.mistakes.append((error.line, str(error)))
            return None
        fields = self._fields(top, "the gate", ("version", "metrics", "references", *_SIMPLE))
        if not isinstance(top, yaml.MappingNode):
            return None
        self._check_version(top, fields.get("version"))
        values: dict[str, Any] = {}
        for key in _SIMPLE:
            if key in fields:
                self._try(key, fields[key], _SIMPLE[key], values)
        found = self._rules(top, fields.get("metrics"))
        if "references" in fields:
            values["references"] = self._references(fields["references"], found)
        gate = Gate(rules=found, **values)
        if not self.mistakes:
            self._check_whole(gate, fields)
        return gate

    def _rules(self, top: yaml.Node, node: yaml.Node | None) -> tuple[Rule, ...]:
        if node is None or not isinstance(node, yaml.MappingNode) or not node.value:
            seen = "is missing" if node is None else f"is {nodes.seen(node)}"
            self._mistake(node or top, f"`metrics` {seen}. Name one, such as p50_latency_ns: {{max_change: 2 %}}.")
            return ()
        found = []
        for key, value in self._fields(node, "metrics", None).items():
            rule = self._rule(key, value)
            if rule is not None:
                found.append(rule)
        return tuple(found)

    def _rule(self, metric: str, node: yaml.Node) -> Rule | None:
        before = len(self.mistakes)
        if problem := _metric_mistake(metric):
            self._mistake(node, f"metric {metric!r} {problem}")
            return None
        is_empty = nodes.seen(node) == "nothing"
        known = ("max_change", "limit", *(("deadline",) if metric == rules.MISSES else ()))
        fields = {} if is_empty else self._fields(node, f"metric {metric}", known)
        values: dict[str, Any] = {}
        if "max_change" in fields:
            self._try(f"max_change of {metric}", fields["max_change"], _share, values, "max_change")
        if "limit" in fields:
            self._try(
                f"limit of {metric}", fields["limit"], partial(quantities.quantity, metric=metric), values, "limit"
            )
        if "deadline" in fields:
            self._try(
                "deadline",
                fields["deadline"],
                partial(quantities.quantity, metric="latency_ns"),
                values,
                "deadline_ns",
            )
        if len(self.mistakes) > before:
            return None
        if "max_change" not in values and "limit" not in values and metric != rules.MISSES:
            if metric not in rules.MARGINS:
                self._mistake(node, f"metric {metric} has no default margin. Give it max_change, limit or both.")
                return None
            values["max_change"] = rules.MARGINS[metric]
        rule = Rule(metric, **values)
        self._check_rule(rule, node)
        return rule

    def _check_rule(self, rule: Rule, node: yaml.Node) -> None:
        """What no field of a Rule can tell by itself."""
        if rule.metric == rules.MISSES:
            if rule.deadline_ns is None or rule.limit is None or rule.max_change is not None:
                self._mistake(node, f"{rule.metric} needs a deadline and a limit: {{deadline: 33 ms, limit: 1 %}}.")
                return
            if rule.deadline_ns <= 0 or not 0 < rule.limit < 1:
                self._mistake(node, "a deadline above 0 ms and a limit between 0 % and 100 % are needed.")
                return
        if rule.limit is not None and rules.needed(rule) > rules.QUERIES[1]:
            self._mistake(
                node,
                f"a limit on {rule.metric} this strict needs {rules.needed(rule)} queries of each block,"
                f" and a gate's block has at most {rules.QUERIES[1]}. Allow more, or gate another quantile.",
            )
        if rule.max_change is not None and rule.higher_is_better and rule.max_change >= 1:
            self._mistake(node, f"{rule.metric} cannot fall by 100 % or more. Allow less than that.")

    def _references(self, node: yaml.Node, found: Sequence[Rule]) -> tuple[Reference, ...]:
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            self._mistake(node, f"references is {nodes.seen(node)}; a list is needed, such as [deployed].")
            return ()
        listed: dict[str, Reference] = {}
        for one in node.value:
            try:
                reference = _reference(one, [rule.metric for rule in found if rule.max_change is not None])
            except nodes.Wrong as wrong:
                self._mistake(wrong.node, f"a reference is {wrong}")
                continue
            if reference.name in listed:
                self._mistake(one, f"reference {reference.name!r} is there twice. Give each its own name.")
            listed[reference.name] = reference
        return tuple(listed.values())

    def _check_whole(self, gate: Gate, fields: dict[str, yaml.Node]) -> None:
        rates = [fields[key] for key in ("alpha", "beta") if key in fields]
        if rules.fewest_pairs(gate) > gate.pairs:
            where = [fields["pairs"]] if "pairs" in fields else rates
            text = f"pairs is {gate.pairs}, but no FAIL can come before pair {rules.fewest_pairs(gate)}"
            self._mistake((where or [fields["metrics"]])[0], f"{text} at these error rates. Allow more pairs.")
        if "references" in fields and not any(rule.max_change is not None for rule in gate.rules):
            self._mistake(fields["references"], "there are references, but no metric has a max_change. Give one.")

    def _check_version(self, top: yaml.Node, node: yaml.Node | None) -> None:
        if node is None:
            self._mistake(top, f"`version` is missing. Add the line `version: {VERSION}`.")
        elif not isinstance(node, yaml.ScalarNode) or node.value != str(VERSION):
            self._mistake(node, f"version is {nodes.seen(node)}; this benchfarm reads version {VERSION}. Update it.")

    def _fields(self, node: yaml.Node, what: str, known: Sequence[str] | None) -> dict[str, yaml.Node]:
        """Key -> value; unknown and repeated keys are mistakes and left out. known None: whatever is a text."""
        if not isinstance(node, yaml.MappingNode):
            tail = f"; known: {', '.join(known)}" if known else ""
            self._mistake(node, f"{what} is {nodes.seen(node)}. Write `key: value` lines{tail}.")
            return {}
        fields: dict[str, yaml.Node] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or (known is not None and key.value not in known):
                tail = nodes.nearest(str(key.value), known or ())
                self._mistake(key, f"{what} has an unknown key {nodes.seen(key)}{tail}")
            elif key.value in fields:
                first = nodes.line(fields[key.value])
                self._mistake(key, f"line {first} gave the key {key.value!r} already. Keep one of them.")
            else:
                fields[key.value] = value
        return fields

    def _try(
        self,
        what: str,
        node: yaml.Node,
        read: Callable[[yaml.Node], Any],
        values: dict[str, Any],
        name: str | None = None,
    ) -> None:
        try:
            values[name or what] = read(node)
        except nodes.Wrong as wrong:
            self._mistake(wrong.node, f"{what} is {wrong}")

    def _mistake(self, node: yaml.Node, text: str) -> None:
        self.mistakes.append((nodes.line(node), text))


def _metric_mistake(metric: str) -> str | None:
    if metric in rules.METRICS:
        return None
    if "." not in metric.strip("."):
        return f"is none that a gate knows{nodes.nearest(metric, rules.METRICS)}"
    try:
        unit = units.unit_of(metric)
    except ValueError:
        return f"ends in no known unit. Known: {', '.join(sorted(units.UNITS))}."
    return "has no worse direction. Gate another metric." if unit.better == "neither" else None


def _share(node: yaml.Node) -> float:
    return quantities.share(node, CHANGE)


def _rate(node: yaml.Node) -> float:
    return quantities.rate(node, *RATE)


def _pairs(node: yaml.Node) -> int:
    number, unit = quantities.number(node)
    if unit or number != int(number) or not 1 <= number <= PAIRS:
        raise nodes.Wrong(node, f"a whole number from 1 to {PAIRS} is needed; nothing measured is never a pass.")
    return int(number)


def _budget_s(node: yaml.Node) -> float:
    number, unit = quantities.number(node)
    if unit not in ("", "s") or not 0 < number <= BUDGET_S:
        raise nodes.Wrong(
            node, f"board-seconds above 0, up to {BUDGET_S:g}, are needed; nothing measured is never a pass."
        )
    return number


def _one_of(allowed: Sequence[str]) -> Callable[[yaml.Node], str]:
    def read(node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode) or node.value not in allowed:
            raise nodes.Wrong(node, f"one of these is needed: {', '.join(allowed)}.")
        return str(node.value)

    return read


def _reference(node: yaml.Node, metrics: Sequence[str]) -> Reference:
    if isinstance(node, yaml.ScalarNode):
        return _named(node, node.value, (), node)
    fields = {}
    for key, value in nodes.pairs(node):
        known = ("name", "max_change", *KINDS)
        if key.value not in known:
            raise nodes.Wrong(key, f"a reference has no such key{nodes.nearest(key.value, known)}")
        fields[key.value] = value
    kinds = [key for key in KINDS if key in fields]
    if len(kinds) > 1:
        raise nodes.Wrong(node, f"one of {' and '.join(kinds)} is needed, not both.")
    margins = _margins(fields["max_change"], metrics) if "max_change" in fields else ()
    name = fields.get("name")
    if not kinds:
        if name is None:
            raise nodes.Wrong(node, f"a name, or one of {', '.join(KINDS)}, is needed.")
        return _named(name, nodes.plain(name), margins, node)
    kind, value = kinds[0], fields[kinds[0]]
    text = str(value.value) if isinstance(value, yaml.ScalarNode) else ""
    if not text or not text.isprintable() or (kind == "artifact" and not SHA256.match(text)):
        raise nodes.Wrong(
            value, f"{'8 to 64 hex digits of a sha256 are' if kind == 'artifact' else 'a text is'} needed."
        )
    label = _checked_name(name, nodes.plain(name)) if name is not None else f"{kind}:{text}"
    return Reference(label, kind, text, margins)  # type: ignore[arg-type]


def _named(node: yaml.Node, name: Any, margins: tuple[tuple[str, float], ...], whole: yaml.Node) -> Reference:
    checked = _checked_name(node, name)
    if checked == rules.LAST_PASSING:
        return Reference(checked, "last-passing", "", margins)
    return Reference(checked, "baseline", checked, margins)


def _checked_name(node: yaml.Node, name: Any) -> str:
    if not isinstance(name, str) or not NAME.match(name):
        raise nodes.Wrong(node, "lowercase letters, digits, ., - and _ are needed, at most 63.")
    return name


def _margins(node: yaml.Node, metrics: Sequence[str]) -> tuple[tuple[str, float], ...]:
    found = []
    for key, value in nodes.pairs(node):
        if key.value not in metrics:
            raise nodes.Wrong(key, f"no metric above has a max_change by this name{nodes.nearest(key.value, metrics)}")
        found.append((key.value, _share(value)))
    return tuple(found)


_SIMPLE: dict[str, Callable[[yaml.Node], Any]] = {
    "alpha": _rate,
    "beta": _rate,
    "pairs": _pairs,
    "budget_s": _budget_s,
    "on_no_baseline": _one_of(get_args(rules.NoBaseline)),
    "on_undecided": _one_of(get_args(rules.OnUndecided)),
}
