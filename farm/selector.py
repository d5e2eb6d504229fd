"""A Selector as a person types it, as it is written back, and which Boards it fits.

    family=raspberrypi, generation=5     what the board says of itself; each key once
    accelerator=hailo8l                  one of the accelerators it has
    memory>=4GB                          what its kernel can use (MemTotal); kB, MB, GB, KiB, MiB, GiB
    tags>={active-cooler,ssd}            has all of these; `tag=ssd` is the same for one and may repeat
    name=pi5-a                           this board; a bare `pi5-a` is the same
    virtual                              a virtual board; without the word a virtual board never fits

Nothing at all is any real board. Capitals do not matter: boards, families and tags have none.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, NoReturn

from farm import domain
from farm.errors import InputError

WORD = re.compile(r"[a-z0-9][a-z0-9._+-]{0,62}")
TERM = re.compile(r"(?P<key>[^=<>!~]*?)\s*(?P<sign>[=<>!~]+)\s*(?P<value>.*)", re.DOTALL)
BRACES = re.compile(r"\{([^{}]*)\}")
SIZE = re.compile(r"([0-9]{1,16}(?:\.[0-9]{1,9})?)\s*([kmg]i?b|b?)")
UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
WRITTEN = {"GiB": 2**30, "GB": 10**9, "MiB": 2**20, "MB": 10**6, "KiB": 2**10, "kB": 10**3}  # the largest first
MOST_BYTES = 2**53  # what every reader of JSON holds exactly
SHAPES = {
    "family": "family=raspberrypi",
    "generation": "generation=5",
    "accelerator": "accelerator=hailo8l",
    "memory": "memory>=4GB",
    "tags": "tags>={active-cooler,ssd}",
    "tag": "tag=ssd",
    "name": "name=pi5-a",
    "virtual": "virtual",
}
NEAREST = 5  # boards that a refusal tells of
LONGEST_REASON = 200


def parse(text: str) -> domain.Selector:
    """The Selector that `text` writes. Raises InputError naming the term."""
    found: dict[str, Any] = {}
    tags: set[str] = set()
    for term in _terms(text):
        match = TERM.fullmatch(term)
        key, value = _pair(term, match["key"], match["sign"], match["value"]) if match else _word(term)
        if key == "tag":
            tags.add(_read_word(term, value))
        elif key in found:
            _refuse(term, f"'{key}' is given twice", "Keep one of them")
        else:
            found[key] = _READ[key](term, value)
    tags |= found.pop("tags", set())
    if "memory" in found:
        found["memory_bytes"] = found.pop("memory")
    return domain.Selector(**found, tags=tuple(sorted(tags)))


def text(selector: domain.Selector) -> str:
    """How `selector` is written: one way for all that ask the same; `parse` reads it back."""
    asked = [
        ("name=", selector.name),
        ("family=", selector.family),
        ("generation=", selector.generation),
        ("accelerator=", selector.accelerator),
        ("memory>=", None if selector.memory_bytes is None else _size(selector.memory_bytes)),
        ("tags>=", _braced(selector.tags) if selector.tags else None),
    ]
    terms = [f"{key}{value}" for key, value in asked if value is not None]
    return ",".join([*terms, "virtual"] if selector.virtual else terms)


def key(selector: domain.Selector, runtimes: Collection[str]) -> str:
    """What a demand is known by: Jobs with the same 16 hex digits can be served by exactly the same Boards."""
    return domain.digest([text(selector), sorted(set(runtimes))])[:16]


def fits(selector: domain.Selector, board: domain.Board, runtimes: Collection[str]) -> bool:
    """Whether the Board meets every demand, as far as is known."""
    return next(_lacks(selector, board, runtimes), None) is None


def why_not(selector: domain.Selector, board: domain.Board, runtimes: Collection[str]) -> list[str]:
    """Each demand that the Board does not meet, with what was seen; empty where it fits.

    A Board that was never probed may have what only a probe can tell, and so fits as to that.
    """
    return list(_lacks(selector, board, runtimes))


def missing(selector: domain.Selector, boards: Sequence[domain.BoardStatus], runtimes: Collection[str]) -> str | None:
    """Why no Board can ever serve this, for the refusal at submit; None where one that is not retired could.

    A Board that is leased, quarantined, offline or draining could, later.
    """
    lacking: list[tuple[bool, int, str, str]] = []  # sorts by how far from fitting; the wrong kind is farthest
    for status in boards:
        lacks = why_not(selector, status.board, runtimes)
        if status.state is domain.BoardState.RETIRED:
            lacks.append("is retired")
        if not lacks:
            return None
        is_other_kind = _is_virtual(status.board) is not selector.virtual
        lacking.append((is_other_kind, len(lacks), status.board.name, "; ".join(lacks)))
    asked = f"'{text(selector) or 'any real board'}'"
    if runtimes:
        asked += f" with {' and '.join(sorted(set(runtimes)))}"
    return f"No board can ever serve {asked}: {_seen(sorted(lacking))}. {_advice(selector, boards)}"


def _lacks(selector: domain.Selector, board: domain.Board, runtimes: Collection[str]) -> Iterator[str]:
    """The unmet demands one by one, what the inventory tells first; a caller may stop at the first."""
    if selector.name is not None and selector.name != board.name:
        yield f"name is {board.name}, {selector.name} is asked"
    facts = board.facts
    is_virtual = _is_virtual(board)
    if is_virtual and not selector.virtual:
        yield "is virtual, and the selector does not say virtual"
    if selector.virtual and not is_virtual:
        yield "is a real board, and the selector says virtual"
    for tag in selector.tags:
        if tag not in board.tags:
            yield f"tag {tag} is absent: it has {_braced(board.tags)}"
    if facts:
        yield from _lacking_facts(selector, facts, runtimes)


def _lacking_facts(selector: domain.Selector, facts: Mapping[str, Any], runtimes: Collection[str]) -> Iterator[str]:
    """The unmet demands that only the board's probe can tell of. What it says is not trusted to have any shape."""
    identity = _mapping(facts.get("identity"))
    family, generation = identity.get("family"), identity.get("generation")
    if selector.family is not None and (not isinstance(family, str) or family.lower() != selector.family):
        yield f"family is {_told(family)}, {selector.family} is asked"
    if selector.generation is not None and generation != selector.generation:
        yield f"generation is {_told(generation)}, {selector.generation} is asked"
    if selector.accelerator is not None:
        names = _accelerators(identity.get("accelerators"))
        if selector.accelerator not in (name.lower() for name in names):
            yield f"accelerator {selector.accelerator} is absent: it has {_braced(names)}"
    if selector.memory_bytes is not None:
        total = _mapping(facts.get("context")).get("memory_total_bytes")
        if not isinstance(total, int) or total < selector.memory_bytes:
            seen = f"{total // 10**7 / 100} GB" if isinstance(total, int) else "not known"
            yield f"memory is {seen}, {_size(selector.memory_bytes)} is asked"
    known = _mapping(facts.get("runtimes"))
    for runtime in sorted(runtimes):
        said = _mapping(known.get(runtime))
        if said.get("present") is not True:
            yield f"runtime {runtime} is absent: {_told(said.get('reason'), 'its probe does not know it')}"


def _terms(text: str) -> list[str]:
    """`text` cut at its commas, but for those within braces."""
    if not text.strip():
        return []
    terms, depth = [""], 0
    for letter in text:
        depth += (letter == "{") - (letter == "}")
        if letter == "," and depth == 0:
            terms.append("")
        else:
            terms[-1] += letter
    terms = [term.strip() for term in terms]
    if "" in terms:
        _refuse(text.strip(), "there is nothing between two commas or at an end", "Remove the comma")
    return terms


def _pair(term: str, key: str, sign: str, value: str) -> tuple[str, str]:
    """Key and value of a term with a sign, both known to belong together."""
    key = key.strip().lower()
    if key not in SHAPES:
        near = difflib.get_close_matches(key, SHAPES, n=1)
        seen = f"there is no key '{key}'" if key else f"it has no key before '{sign}'"
        advice = f"Did you mean {SHAPES[near[0]]}? " if near else ""
        _refuse(term, seen, f"{advice}Known: {', '.join(SHAPES.values())}")
    shape = SHAPES[key]
    wanted = ">=" if ">=" in shape else "=" if "=" in shape else ""
    if sign != wanted:
        _refuse(term, f"'{key}' is written with '{sign}'" if wanted else f"'{key}' takes no value", f"Write {shape}")
    if not value.strip():
        _refuse(term, "it has no value", f"Write {shape}")
    return key, value.strip()


def _word(term: str) -> tuple[str, str]:
    """Key and value of a term without a sign: the word `virtual`, or the name of a board."""
    word = term.lower()
    if word == "virtual":
        return "virtual", ""
    if word in SHAPES:
        _refuse(term, "it has no value", f"Write {SHAPES[word]}, or name={word} for a board of that name")
    if not WORD.fullmatch(word):
        _refuse(term, "it is no name of a board", f"Known terms: {', '.join(SHAPES.values())}")
    return "name", word


def _read_word(term: str, value: str) -> str:
    if not WORD.fullmatch(value.lower()):
        _refuse(term, f"'{value}' is not one word", "Use letters, digits and . _ + -, at most 63")
    return value.lower()


def _read_number(term: str, value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,4}", value):
        _refuse(term, f"'{value}' is not a whole number", "Write generation=5")
    return int(value)


def _read_size(term: str, value: str) -> int:
    match = SIZE.fullmatch(value.lower())
    size_bytes = int(Decimal(match[1]) * UNITS[match[2]]) if match else 0
    if not 0 < size_bytes <= MOST_BYTES:
        _refuse(term, f"'{value}' is not a size", "Write bytes, or a number with kB, MB, GB, KiB, MiB or GiB")
    return size_bytes


def _read_set(term: str, value: str) -> set[str]:
    match = BRACES.fullmatch(value)
    if not match or not match[1].strip():
        _refuse(term, f"'{value}' is not a set of tags", f"Write {SHAPES['tags']}, or {SHAPES['tag']}")
    return {_read_word(term, tag.strip()) for tag in match[1].split(",")}


def _read_flag(term: str, value: str) -> bool:
    return True


_READ = {
    "family": _read_word,
    "generation": _read_number,
    "accelerator": _read_word,
    "memory": _read_size,
    "tags": _read_set,
    "name": _read_word,
    "virtual": _read_flag,
}


def _refuse(term: str, seen: str, advice: str) -> NoReturn:
    raise InputError(f"Selector: the term '{term}' cannot be used: {seen}. {advice}.")


def _seen(lacking: Sequence[tuple[bool, int, str, str]]) -> str:
    """The boards that lack least, each with what it lacks."""
    if not lacking:
        return "there are no boards"
    nearest = " | ".join(f"{name}: {lacks}" for _, _, name, lacks in lacking[:NEAREST])
    more = f" | {len(lacking) - NEAREST} more are no nearer" if len(lacking) > NEAREST else ""
    count = f"of {len(lacking)} boards none fits" if len(lacking) > 1 else "the only board does not fit"
    return f"{count}. {nearest}{more}"


def _advice(selector: domain.Selector, boards: Sequence[domain.BoardStatus]) -> str:
    near = []
    if selector.name is not None and selector.name not in {status.board.name for status in boards}:
        near = difflib.get_close_matches(selector.name, ["virtual", *(status.board.name for status in boards)], n=1)
    meant = f"Did you mean '{near[0]}'? " if near else ""
    return (
        f"{meant}Ask for less with --on, or add such a board to inventory.yaml; `farm probe BOARD` shows what one has."
    )


def _is_virtual(board: domain.Board) -> bool:
    """Whether its figures are no board's: the inventory says so, or its agent reads a recorded tree."""
    return board.is_virtual or board.facts.get("is_virtual") is True


def _size(size_bytes: int) -> str:
    """Exactly so many bytes, in the largest unit that divides them."""
    for unit, factor in WRITTEN.items():
        if size_bytes % factor == 0:
            return f"{size_bytes // factor}{unit}"
    return str(size_bytes)


def _accelerators(value: Any) -> list[str]:
    """Their names; an entry is a name, or says it under `name`."""
    entries = value if isinstance(value, list | tuple) else ()
    names = (_mapping(entry).get("name", entry) for entry in entries)
    return [name for name in names if isinstance(name, str)]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _told(value: Any, absent: str = "not known") -> str:
    """What a board said, in one line that is not too long."""
    return absent if value is None else " ".join(str(value).split())[:LONGEST_REASON]


def _braced(words: Collection[str]) -> str:
    return "{" + ",".join(sorted(set(words))) + "}"
