"""YAML that knows its line numbers: texts to nodes, nodes to plain data, each mistake with its node."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Any

import yaml

SIZE_LIMIT_BYTES = 1 << 20
DEPTH_LIMIT = 8


class Unreadable(Exception):
    """A text that is no YAML document of ours; `line` is where it shows."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.line = line


class Wrong(Exception):
    """A value that cannot be used: the text says what was seen and what is needed."""

    def __init__(self, node: yaml.Node, needed: str) -> None:
        super().__init__(f"{seen(node)}; {needed}")
        self.node = node


def composed(data: bytes | str) -> yaml.Node:
    """The one document of a text. Raises Unreadable."""
    if len(data) > SIZE_LIMIT_BYTES:
        raise Unreadable(1, f"the file has {len(data)} bytes; at most {SIZE_LIMIT_BYTES} are read. Check its path.")
    try:
        # libyaml's own loader is faster, but dies of a deeply nested text
        documents = list(yaml.compose_all(data, Loader=yaml.SafeLoader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
        where = mark.line + 1 if mark is not None else 1
        raise Unreadable(where, f"this is not YAML: {problem}. Check indentation, quotes and colons here.") from None
    except RecursionError:
        raise Unreadable(1, f"this is nested too deeply; at most {DEPTH_LIMIT} levels are read.") from None
    if len(documents) != 1:
        found = f"{len(documents)} documents" if documents else "nothing"
        raise Unreadable(1, f"the file holds {found}; one document is needed.")
    node: yaml.Node = documents[0]
    return node


def plain(node: yaml.Node, depth: int = 0) -> Any:
    """A node as plain data. Raises Wrong where it is nested too deeply, or refers to itself."""
    if depth > DEPTH_LIMIT:
        raise Wrong(node, f"at most {DEPTH_LIMIT} levels are read.")
    if isinstance(node, yaml.MappingNode):
        return {key.value: plain(value, depth + 1) for key, value in pairs(node)}
    if isinstance(node, yaml.SequenceNode):
        return [plain(value, depth + 1) for value in node.value]
    try:
        return yaml.constructor.SafeConstructor().construct_object(node)
    except (yaml.YAMLError, ValueError):
        raise Wrong(node, "this value cannot be read.") from None


def pairs(node: yaml.Node) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
    """The keys and values of a mapping of texts. Raises Wrong, for a repeated key too."""
    if not isinstance(node, yaml.MappingNode):
        raise Wrong(node, "a mapping is needed, such as {key: value}.")
    known = set()
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise Wrong(key, "a key must be a text.")
        if key.value in known:
            raise Wrong(key, "this key is there twice. Keep one of them.")
        known.add(key.value)
        yield key, value


def line(node: yaml.Node) -> int:
    """Where a node starts, counted from 1."""
    return int(node.start_mark.line) + 1


def seen(node: yaml.Node) -> str:
    """A node as the user wrote it, short and printable."""
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list" if node.value else "an empty list"
    return "nothing" if node.tag.endswith(":null") else repr(f"{node.value:.60}")


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown word: the nearest known one, and all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1)
    guess = f"; did you mean {near[0]!r}?" if near else "."
    return f"{guess} Known: {', '.join(names) or 'none'}."
