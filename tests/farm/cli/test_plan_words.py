"""Words of the command line that become fields of a Plan."""

from __future__ import annotations

from typing import Any

import pytest

from farm.cli import plan
from farm.errors import InputError


@pytest.mark.parametrize("text", ["", "MB", "-5", "12PB", "1.2.3", "inf", "nan", "0x10", "5 apples"])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InputError, match="--memory-limit 512MB"):
        plan.size_bytes(text, "--memory-limit")


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("1000", 1000), ("512MB", 512_000_000), ("1.5 GiB", 1_610_612_736), ("64k", 64_000), ("2kib", 2048), ("7b", 7)],
)
def test_sizes_are_decimal_or_binary_as_their_unit_says(text: str, size_bytes: int) -> None:
    assert plan.size_bytes(text, "--memory-limit") == size_bytes


@pytest.mark.parametrize("word", ["input", "=1,2", "input=", "input=1,,2", "input=0", "input=-1,3", "input=1.5"])
def test_what_is_no_shape_is_refused_with_an_example(word: str) -> None:
    with pytest.raises(InputError, match="--shape input=1,3,224,224"):
        plan.shapes([word])


def test_a_tensor_name_may_have_any_letters() -> None:
    assert plan.shapes(["serving_default_x:0=1,3", "a=b=2x4"]) == {"serving_default_x:0": [1, 3], "a=b": [2, 4]}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("x=4", 4),
        ("x=0.5", 0.5),
        ("x=true", True),
        ("x=off", False),
        ("x=all", "all"),
        ("x=[CPUExecutionProvider]", ["CPUExecutionProvider"]),
        ("x=a=b", "a=b"),
        ("x=", ""),
        ("x=[1", "[1"),
    ],
)
def test_a_value_is_read_as_yaml_and_else_as_text(word: str, value: Any) -> None:
    assert plan.pairs([word], "--option") == {"x": value}
