"""inventory.yaml -> Boards; every mistake with its line number.

    version: 1
    boards:
      - name: pi5-a                   # lowercase letters, digits, - and _; known by this everywhere
        transport: ssh                # a file of transports/; local when left out
        address: bench@10.0.0.5:22    # [user@]host[:port], IPv6 in brackets; not for local
        site: default                 # where its meters and switches are
        python: /usr/bin/python3      # interpreter with the runtimes; when left out the transport's default
        home: ~/.benchfarm            # benchfarm's folder on the board
        tags: [active-cooler]
        sensors: {thermal: {}}        # files of farm_agent/sensors/ with their settings; when left out all present
        start_temp_c: 50              # a run waits until the board is this cool
        options: {keys: [~/.ssh/id]}  # of the transport. Nothing turns the check of host keys off
      - name: pi5-recorded
        virtual: true                 # not a board: its figures are never shared with a board's
        root: /srv/trees/pi5          # a recorded /sys and /proc tree to read; only for a virtual board

Only `name` is needed. Without an inventory there is one board, `local`: this machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from farm_agent import plugins

from farm import nodes
from farm.domain import Board
from farm.errors import InventoryError

LOCAL = Board(name="local")
VERSION = 1
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}\Z")
HOST = r"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_][A-Za-z0-9._-]*"
ADDRESS = re.compile(rf"([A-Za-z0-9_][A-Za-z0-9._-]*@)?(?P<host>{HOST})(:(?P<port>\d{{1,5}}))?\Z")
LOOPBACK = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])\Z")


def load(path: Path | None) -> tuple[Board, ...]:
    """The Boards of an inventory; `local` where `path` is None. Raises InventoryError with every mistake."""
    if path is None:
        return (LOCAL,)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InventoryError(
            f"Inventory {path} cannot be read: {error.strerror}. Correct the path, or start one with:\n"
            "version: 1\nboards:\n  - name: local"
        ) from None
    return parse(data, str(path))


def parse(data: bytes | str, source: str) -> tuple[Board, ...]:
    """The Boards that a text names; `source` is its file's name. Raises InventoryError with every mistake."""
    reading = _Reading()
    boards = reading.boards(data)
    mistakes = sorted(set(reading.mistakes))
    if mistakes:
        count = f"{len(mistakes)} mistakes" if len(mistakes) > 1 else "a mistake"
        lines = "\n".join(f"{source}:{line}: {text}" for line, text in mistakes)
        raise InventoryError(f"Inventory {source} has {count}:\n{lines}")
    return boards


class _Reading:
    """One inventory while it is read; mistakes are gathered, not raised."""

    def __init__(self) -> None:
        self.mistakes: list[tuple[int, str]] = []
        self._what = "the inventory"  # what the mistakes are said to be of

    def boards(self, data: bytes | str) -> tuple[Board, ...]:
        """Every board that could be read."""
        try:
            top = nodes.composed(data)
        except nodes.Unreadable as error:
            self.mistakes.append((error.line, f"{self._what}: {error}"))
            return ()
        fields = self._fields(top, ("version", "boards"))
        if fields is None:
            return ()
        self._check_version(top, fields.get("version"))
        listed = fields.get("boards")
        if not isinstance(listed, yaml.SequenceNode) or not listed.value:
            seen = "is missing" if listed is None else f"is {nodes.seen(listed)}"
            self._mistake(listed or top, f"`boards` {seen}. Make it a list with one `- name: …` for each board.")
            return ()
        found = [(node, board) for node in listed.value if (board := self._board(node)) is not None]
        self._check_names(found)
        return tuple(board for _, board in found)

    def _board(self, node: yaml.Node) -> Board | None:
        self._what = "a board"
        if isinstance(node, yaml.MappingNode):
            named = next((nodes.seen(value) for key, value in node.value if key.value == "name"), "without a name")
            self._what = f"board {named}"
        fields = self._fields(node, tuple(_FIELDS))
        if fields is None:
            return None
        if "name" not in fields:
            self._mistake(node, "`name` is missing. Give it one of lowercase letters, digits, - and _.")
        values: dict[str, Any] = {"name": ""}
        for key, value in fields.items():
            try:
                values[_RENAMED.get(key, key)] = _FIELDS[key](value)
            except nodes.Wrong as wrong:
                self._mistake(wrong.node, f"{key} is {wrong}")
        board = Board(**values)
        is_transport_known = "transport" in values or "transport" not in fields
        self._check_whole(node, fields, board, board.transport if is_transport_known else None)
        return board

    def _check_whole(
        self, node: yaml.Node, fields: Mapping[str, yaml.Node], board: Board, transport: str | None
    ) -> None:
        """What no field can tell by itself."""
        address = fields.get("address")
        if transport == "ssh" and address is None:
            self._mistake(node, "`address` is missing, which transport ssh needs. Add [user@]host[:port].")
        if transport == "local" and address is not None:
            self._mistake(address, "address means nothing to transport local. Remove it, or add `transport: ssh`.")
        if board.root != "/" and not board.is_virtual:
            self._mistake(
                fields["root"], f"root is {board.root!r}, but only a virtual board has a root. Add `virtual: true`."
            )
        host = ADDRESS.match(board.address)
        if address is not None and board.is_virtual and host and not LOOPBACK.match(host["host"]):
            self._mistake(
                address,
                f"address is {board.address!r}, but a virtual board is on loopback. Use 127.0.0.1, or no `virtual`.",
            )
        if "options" in fields and transport is not None:
            self._check_options(fields["options"], transport)

    def _check_options(self, node: yaml.Node, transport: str) -> None:
        try:
            known = plugins.load("farm.transports", transport).OPTIONS
        except ImportError:
            return  # absent on this machine: `reach` says so, with what to install
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key.value not in known:
                tail = nodes.nearest(str(key.value), known)
                self._mistake(key, f"transport {transport} has no option {nodes.seen(key)}{tail}")

    def _check_version(self, top: yaml.Node, node: yaml.Node | None) -> None:
        if node is None:
            self._mistake(top, f"`version` is missing. Add the line `version: {VERSION}`.")
        elif not isinstance(node, yaml.ScalarNode) or node.value != str(VERSION):
            self._mistake(node, f"version is {nodes.seen(node)}; this benchfarm reads version {VERSION}. Update it.")

    def _check_names(self, found: Sequence[tuple[yaml.Node, Board]]) -> None:
        lines: dict[str, int] = {}
        for node, board in found:
            if board.name and board.name in lines:
                self._what = f"board {board.name!r}"
                self._mistake(node, f"line {lines[board.name]} gave this name already. Give each board its own.")
            lines.setdefault(board.name, nodes.line(node))

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

    def _mistake(self, node: yaml.Node, text: str) -> None:
        self.mistakes.append((nodes.line(node), f"{self._what}: {text}"))


def _text(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode) or node.tag != "tag:yaml.org,2002:str":
        raise nodes.Wrong(node, "a text is needed. If it is one, put it in quotes.")
    text: str = node.value
    if not text or not text.isprintable():
        raise nodes.Wrong(node, "a text of printable characters is needed.")
    return text


def _name(node: yaml.Node) -> str:
    text = _text(node)
    if not NAME.match(text):
        raise nodes.Wrong(node, "lowercase letters, digits, - and _ are needed, at most 63, the first no - or _.")
    return text


def _transport(node: yaml.Node) -> str:
    text, known = _text(node), plugins.names("farm.transports")
    if text not in known:
        raise nodes.Wrong(node, f"there is no such transport{nodes.nearest(text, known)}")
    return text


def _address(node: yaml.Node) -> str:
    text = _text(node)
    found = ADDRESS.match(text)
    if not found or not 0 < int(found["port"] or 22) < 65536:
        raise nodes.Wrong(node, "[user@]host[:port] is needed, such as bench@10.0.0.5:22; IPv6 goes in brackets.")
    return text


def _root(node: yaml.Node) -> str:
    text = _text(node)
    if not text.startswith("/"):
        raise nodes.Wrong(node, "an absolute path on the board is needed.")
    return text


def _tags(node: yaml.Node) -> tuple[str, ...]:
    if not isinstance(node, yaml.SequenceNode):
        raise nodes.Wrong(node, "a list is needed, such as [active-cooler, ssd].")
    return tuple(_name(one) for one in node.value)


def _temp_c(node: yaml.Node) -> float:
    value = nodes.plain(node)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -40 <= value <= 150:
        raise nodes.Wrong(node, "a temperature from -40 to 150 °C is needed.")
    return float(value)


def _flag(node: yaml.Node) -> bool:
    value = nodes.plain(node)
    if not isinstance(value, bool):
        raise nodes.Wrong(node, "true or false is needed.")
    return value


def _sensors(node: yaml.Node) -> dict[str, Mapping[str, Any]]:
    known = plugins.names("farm_agent.sensors")
    found: dict[str, Mapping[str, Any]] = {}
    for key, value in nodes.pairs(node):
        if key.value not in known:
            raise nodes.Wrong(key, f"there is no such sensor{nodes.nearest(key.value, known)}")
        found[key.value] = {} if nodes.seen(value) == "nothing" else _options(value)
    return found


def _options(node: yaml.Node) -> dict[str, Any]:
    return {key.value: nodes.plain(value) for key, value in nodes.pairs(node)}


_RENAMED = {"virtual": "is_virtual"}
_FIELDS: dict[str, Callable[[yaml.Node], Any]] = {
    "name": _name,
    "transport": _transport,
    "address": _address,
    "site": _name,
    "python": _text,
    "home": _text,
    "tags": _tags,
    "sensors": _sensors,
    "start_temp_c": _temp_c,
    "virtual": _flag,
    "root": _root,
    "options": _options,
}
