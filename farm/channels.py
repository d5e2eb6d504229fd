"""notifiers.yaml -> Channels; every mistake with its line number, and no secret in any of them.

    version: 1
    notifiers:
      - name: ci-hook                       # lowercase letters, digits, - and _
        kind: webhook                       # a file of notifiers/
        on: [job.done, board.quarantined]   # kinds of Notices; all when left out
        projects: [default]                 # whose Notices; all when left out. Those of no Project are for everyone
        secret_env: BENCHFARM_HOOK_SECRET   # the variable that holds the secret: it is never in this file
        options: {url: "https://ci.example/hooks/benchfarm"}  # of the kind

Without the file nobody is told.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from farm_agent import plugins

from farm import nodes, notifier
from farm.errors import InputError
from farm.notifier import Channel

VERSION = 1
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}\Z")
VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,99}\Z")

T = TypeVar("T")


def load(path: Path | None, environ: Mapping[str, str]) -> tuple[Channel, ...]:
    """The Channels of a notifiers.yaml; none where `path` is None. Raises InputError with every mistake."""
    if path is None:
        return ()
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"Notifiers {path} cannot be read: {error.strerror}. Correct the path, or start with:\n"
            "version: 1\nnotifiers: []"
        ) from None
    return parse(data, str(path), environ)


def parse(data: bytes | str, source: str, environ: Mapping[str, str]) -> tuple[Channel, ...]:
    """The Channels that a text names; `source` is its file's name. Raises InputError with every mistake."""
    reading = _Reading(environ)
    channels = reading.channels(data)
    mistakes = sorted(set(reading.mistakes))
    if mistakes:
        count = f"{len(mistakes)} mistakes" if len(mistakes) > 1 else "a mistake"
        lines = "\n".join(f"{source}:{line}: {text}" for line, text in mistakes)
        raise InputError(f"Notifiers {source} has {count}:\n{lines}")
    return channels


class _Reading:
    """One notifiers.yaml while it is read; mistakes are gathered, not raised."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.mistakes: list[tuple[int, str]] = []
        self._environ = environ
        self._what = "the notifiers"  # what the mistakes are said to be of

    def channels(self, data: bytes | str) -> tuple[Channel, ...]:
        """Every channel that could be read."""
        try:
            top = nodes.composed(data)
        except nodes.Unreadable as error:
            self.mistakes.append((error.line, f"{self._what}: {error}"))
            return ()
        fields = self._fields(top, ("version", "notifiers"))
        if fields is None:
            return ()
        version, listed = fields.get("version"), fields.get("notifiers")
        if version is None:
            self._mistake(top, f"`version` is missing. Add the line `version: {VERSION}`.")
        elif not isinstance(version, yaml.ScalarNode) or version.value != str(VERSION):
            seen = nodes.seen(version)
            self._mistake(version, f"version is {seen}; this benchfarm reads version {VERSION}. Update it.")
        if not isinstance(listed, yaml.SequenceNode):
            seen = "is missing" if listed is None else f"is {nodes.seen(listed)}"
            self._mistake(listed or top, f"`notifiers` {seen}. Make it a list with one `- name: …` for each.")
            return ()
        return tuple(self._named([(node, found) for node in listed.value if (found := self._channel(node))]))

    def _channel(self, node: yaml.Node) -> Channel | None:
        self._what = "a notifier"
        if isinstance(node, yaml.MappingNode):
            named = next((nodes.seen(value) for key, value in node.value if key.value == "name"), "without a name")
            self._what = f"notifier {named}"
        fields = self._fields(node, ("name", "kind", "on", "projects", "secret_env", "options"))
        if fields is None:
            return None
        self._mistakes_of(node, {key: f"`{key}` is missing." for key in ("name", "kind") if key not in fields}, {})
        name, kind = self._read(fields, "name", _name), self._read(fields, "kind", _kind)
        on, projects = self._read(fields, "on", _notices), self._read(fields, "projects", _texts)
        secret = self._secret(fields.get("secret_env"))
        options = self._options(node, fields.get("options"), kind) if kind else {}
        if kind and options is not None and (secret is not None or "secret_env" not in fields):
            try:
                notifier.kind_of(kind).check_secret(options, secret)
            except notifier.OptionsWrong as wrong:
                self._mistake(fields.get("secret_env", node), str(wrong))
        return Channel(name or "", kind or "", on or (), projects or (), options or {}, secret)

    def _read(self, fields: Mapping[str, yaml.Node], key: str, reader: Callable[[yaml.Node], T]) -> T | None:
        if key not in fields:
            return None
        try:
            return reader(fields[key])
        except nodes.Wrong as wrong:
            self._mistake(wrong.node, f"{key} is {wrong}")
            return None

    def _secret(self, node: yaml.Node | None) -> str | None:
        """What the variable holds. What is written is never shown: somebody may have put the secret itself here."""
        if node is None:
            return None
        if not isinstance(node, yaml.ScalarNode) or not VARIABLE.match(node.value):
            self._mistake(
                node,
                "secret_env is not the name of a variable: capital letters, digits and _ are needed. "
                "Put the secret itself in that variable, never in this file.",
            )
            return None
        value = self._environ.get(node.value, "")
        if not value:
            self._mistake(node, "secret_env names a variable that is not set here. Set it, or correct its name.")
        return value or None

    def _options(self, channel: yaml.Node, node: yaml.Node | None, kind: str) -> dict[str, Any] | None:
        """A kind's options, checked by it; None where they have mistakes."""
        count = len(self.mistakes)
        values: dict[str, Any] = {}
        where: dict[str, yaml.Node] = {}
        try:
            for key, value in nodes.pairs(node) if node is not None else ():
                where[key.value] = value
                values[key.value] = nodes.plain(value)
        except nodes.Wrong as wrong:
            self._mistake(wrong.node, f"options is {wrong}")
        known = notifier.kind_of(kind).OPTIONS
        for option, at in where.items():
            if option not in known:
                self._mistake(at, f"kind {kind} has no option {option[:60]!r}{nodes.nearest(option, known)}")
        if len(self.mistakes) == count:
            try:
                notifier.kind_of(kind).check(values)
            except notifier.OptionsWrong as wrong:
                told = {option: f"option {option} {text}" for option, text in wrong.mistakes.items()}
                self._mistakes_of(node or channel, told, where)
        return values if len(self.mistakes) == count else None

    def _named(self, found: Sequence[tuple[yaml.Node, Channel]]) -> Iterator[Channel]:
        lines: dict[str, int] = {}
        for node, channel in found:
            if channel.name and channel.name in lines:
                self._what = f"notifier {channel.name!r}"
                self._mistake(node, f"line {lines[channel.name]} gave this name already. Give each its own.")
            lines.setdefault(channel.name, nodes.line(node))
            yield channel

    def _fields(self, node: yaml.Node, known: Sequence[str]) -> dict[str, yaml.Node] | None:
        """Key -> value; unknown and repeated keys are mistakes and left out."""
        if not isinstance(node, yaml.MappingNode):
            self._mistake(node, f"{nodes.seen(node)} is here. Write `key: value` lines; known: {', '.join(known)}.")
            return None
        fields: dict[str, yaml.Node] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value not in known:
                self._mistake(key, f"unknown key {nodes.seen(key)}{nodes.nearest(str(key.value), known)}")
            elif key.value in fields:
                first = nodes.line(fields[key.value])
                self._mistake(key, f"line {first} gave the key {key.value!r} already. Keep one of them.")
            else:
                fields[key.value] = value
        return fields

    def _mistakes_of(self, node: yaml.Node, texts: Mapping[str, str], where: Mapping[str, yaml.Node]) -> None:
        for key, text in texts.items():
            self._mistake(where.get(key, node), text)

    def _mistake(self, node: yaml.Node, text: str) -> None:
        self.mistakes.append((nodes.line(node), f"{self._what}: {text}"))


def _text(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode) or node.tag != "tag:yaml.org,2002:str" or not node.value:
        raise nodes.Wrong(node, "a text is needed. If it is one, put it in quotes.")
    text: str = node.value
    return text


def _name(node: yaml.Node) -> str:
    text = _text(node)
    if not NAME.match(text):
        raise nodes.Wrong(node, "lowercase letters, digits, - and _ are needed, at most 63, the first no - or _.")
    return text


def _kind(node: yaml.Node) -> str:
    text, known = _text(node), plugins.names("farm.notifiers")
    if text not in known:
        raise nodes.Wrong(node, f"there is no such kind{nodes.nearest(text, known)}")
    try:
        notifier.kind_of(text)
    except ImportError as error:
        raise nodes.Wrong(node, f"it is absent here: {error}. Install 'benchfarm[farm]'.") from None
    return text


def _texts(node: yaml.Node) -> tuple[str, ...]:
    if not isinstance(node, yaml.SequenceNode) or not node.value:
        raise nodes.Wrong(node, "a list is needed, such as [default].")
    return tuple(_text(one) for one in node.value)


def _notices(node: yaml.Node) -> tuple[str, ...]:
    for one, text in zip(node.value, _texts(node), strict=True):
        if text not in notifier.KINDS:
            raise nodes.Wrong(one, f"there is no such notice{nodes.nearest(text, notifier.KINDS)}")
    return _texts(node)
