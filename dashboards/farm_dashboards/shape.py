"""Plain data against its annotation: TypedDict, list, Literal, `X | None` and plain types, to any depth."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict


def check(value: Any, kind: Any, where: str) -> None:
    """Nothing where the value has its annotation's shape. Raises ValueError naming the first place where it has not."""
    if kind is Any:
        return
    if is_typeddict(kind):
        _check_object(value, kind, where)
    elif get_origin(kind) is list:
        _check_list(value, get_args(kind)[0], where)
    elif get_origin(kind) in (types.UnionType, Union, Literal):
        _check_choice(value, kind, where)
    elif kind is float:
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise ValueError(f"{where} is {brief(value)}; a number is needed")
    elif not isinstance(value, get_origin(kind) or kind) or (isinstance(value, bool) and kind is int):
        raise ValueError(f"{where} is {brief(value)}; {(get_origin(kind) or kind).__name__} is needed")


def _check_object(value: Any, kind: Any, where: str) -> None:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} is {brief(value)}; an object is needed")
    fields = get_type_hints(kind)
    if missing := [name for name in fields if name not in value]:
        raise ValueError(f"{where} lacks the field {missing[0]!r}")
    for name, inner in fields.items():
        check(value[name], inner, f"{where}.{name}")


def _check_list(value: Any, inner: Any, where: str) -> None:
    if not isinstance(value, list):
        raise ValueError(f"{where} is {brief(value)}; a list is needed")
    numbers = {int, float, type(None)} if inner == float | None else {int, float} if inner is float else set()
    if {type(item) for item in value} <= numbers:
        return  # a column of a million numbers needs no million calls
    for i, item in enumerate(value):
        check(item, inner, f"{where}[{i}]")


def _check_choice(value: Any, kind: Any, where: str) -> None:
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ValueError(f"{where} is {brief(value)}; one of {', '.join(map(str, get_args(kind)))} is needed")
    elif value is not None or type(None) not in get_args(kind):
        choices = [choice for choice in get_args(kind) if choice is not type(None)]
        check(value, choices[0], where)


def brief(value: Any) -> str:
    """The value as an error message shows it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
