"""A number and its unit as a person writes them in YAML: `2 %`, `60 ms`, `200 MB`."""

from __future__ import annotations

import math
import re

import yaml

from farm import nodes, units

NUMBER = re.compile(r"(?P<number>[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?)\s*(?P<unit>\S*)\Z")
BINARY = {"KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}


def number(node: yaml.Node) -> tuple[float, str]:
    """A finite number and what stands behind it. Raises nodes.Wrong."""
    found = NUMBER.match(node.value.strip()) if isinstance(node, yaml.ScalarNode) else None
    if found is None or not math.isfinite(float(found["number"])):
        raise nodes.Wrong(node, "a number and its unit are needed, such as 2 %, 60 ms or 200 MB.")
    return float(found["number"]), found["unit"]


def share(node: yaml.Node, most: float) -> float:
    """A share that is written in percent: 0.02 of `2 %`. Raises nodes.Wrong unless it is above 0 and up to `most`."""
    value, unit = number(node)
    if unit != "%" or not 0 < value <= 100 * most:
        raise nodes.Wrong(node, f"a share above 0 % and up to {100 * most:g} % is needed, such as 2 %.")
    return _tidy(value / 100)


def rate(node: yaml.Node, least: float, most: float) -> float:
    """An error rate, bare or in percent. Raises nodes.Wrong unless it is in that range."""
    value, unit = number(node)
    found = value / 100 if unit == "%" else value
    if unit not in ("", "%") or not least <= found <= most:
        raise nodes.Wrong(node, f"an error rate from {least:g} to {most:g} is needed, such as 0.01.")
    return _tidy(found)


def quantity(node: yaml.Node, metric: str) -> float:
    """A figure of this metric in its base unit: 6e7 of `60 ms` for a metric in ns. Raises nodes.Wrong."""
    value, symbol = number(node)
    unit = units.unit_of(metric)
    scales = {name: factor for factor, name in unit.scales}
    if unit.suffix == "bytes":
        scales |= BINARY
    if "µs" in scales:
        scales["us"] = scales["µs"]
    if unit.suffix == "ratio":
        scales["%"] = 0.01
    if symbol not in scales:
        names = ", ".join(name for name in scales if name)
        needed = f"a number with one of these units is needed: {names}" if names else "a bare number is needed"
        raise nodes.Wrong(node, f"{needed}.")
    return _tidy(value * scales[symbol])


def _tidy(value: float) -> float:
    """Without the last bits that a product of decimals leaves: 0.29 % is 0.0029."""
    return float(f"{value:.12g}")
