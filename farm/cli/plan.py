"""A Plan as a person writes it: a YAML file with every mistake reported by line, and words like `fps=30` on top."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from farm_agent import wire

from farm.errors import InputError, PlanError

SIZES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def read(path: Path) -> dict[str, Any]:
    """The fields that the file gives. Raises PlanError with every mistake and its line."""
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise InputError(
            f"Plan file '{path}' cannot be read: {error.strerror or error}. Give an existing YAML file with --plan."
        ) from None
    except UnicodeDecodeError as error:
        raise PlanError(f"Plan file '{path}' is not text: {error}. A Plan is a YAML file.") from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise PlanError(f"{path}:{_line(error)}: not valid YAML: {_problem(error)}. Correct that line.") from None
    if root is None:
        return {}
    if not isinstance(root, yaml.MappingNode) or not isinstance(data, dict):
        seen = "a list" if isinstance(root, yaml.SequenceNode) else "a single value"
        raise PlanError(
            f"{path}:{root.start_mark.line + 1}: this is {seen}; a Plan is fields and values, such as `duration_s: 20`."
        )
    mistakes: list[str] = []
    names: set[str] = set()
    for key, value in root.value:
        name = key.value
        wrong = f"field '{name}' is given twice." if name in names else _mistake(name, data.get(name))
        names.add(name)
        if wrong:
            mistakes.append(f"{path}:{(value if name in data else key).start_mark.line + 1}: {wrong}")
    if mistakes:
        raise PlanError("\n".join([*mistakes, "docs/plans.md lists every field of a Plan."]))
    return data


def pairs(words: Sequence[str], flag: str) -> dict[str, Any]:
    """`["fps=30"]` as `{"fps": 30}`; values are read as YAML. Raises InputError naming the flag."""
    found: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not (name and equals):
            raise InputError(f"{flag} '{word}' is not NAME=VALUE. Write it like {flag} {name or 'name'}=1.")
        try:
            found[name] = yaml.safe_load(text) if text else ""
        except yaml.YAMLError:
            found[name] = text
    return found


def shapes(words: Sequence[str]) -> dict[str, list[int]]:
    """`["input=1,3,224,224"]` as `{"input": [1, 3, 224, 224]}`. Raises InputError."""
    found = {}
    for word in words:
        name, _, text = word.rpartition("=")  # names of tensors may have '=' in them
        try:
            found[name] = [int(part) for part in text.replace("x", ",").split(",")]
        except ValueError:
            found[name] = []
        if not name or not found[name] or min(found[name]) < 1:
            raise InputError(
                f"--shape '{word}' is not NAME=N,N,… with positive whole numbers."
                " Write it like --shape input=1,3,224,224."
            )
    return found


def size_bytes(text: str, flag: str) -> int:
    """`512MB` or `1GiB` or `1000` in bytes. Raises InputError naming the flag."""
    lower = text.strip().lower().removesuffix("b")
    number = lower.rstrip("kmgi")
    try:
        size = int(float(number) * SIZES[lower[len(number) :]])
    except (KeyError, ValueError, OverflowError):
        size = 0
    if size < 1:
        raise InputError(
            f"{flag} '{text}' is not a size. Write bytes, or a number with kB, MB, GB, KiB, MiB or GiB: {flag} 512MB."
        )
    return size


def _mistake(name: str, value: Any) -> str | None:
    known = list(wire.Plan.__annotations__)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        return f"a Plan has no field '{name}'." + (f" Did you mean '{near[0]}'?" if near else "")
    try:
        wire.plan_from({"runtime": "any", name: value})
    except wire.WireError as error:
        return str(error).replace("Mapping[str, Any]", "a mapping of names to values") + "."
    return None


def _line(error: yaml.YAMLError) -> int:
    mark = getattr(error, "problem_mark", None)
    return mark.line + 1 if mark is not None else 1


def _problem(error: yaml.YAMLError) -> str:
    return str(getattr(error, "problem", None) or error).splitlines()[0]
