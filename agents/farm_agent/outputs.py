"""What a Model's outputs look like after the timed queries: NaN, infinities and constants are facts, with a warning."""

from __future__ import annotations

from array import array

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Sequence, Tuple

_MOST_NAME = 200


def check(outputs: Sequence[Tuple[str, Any]]) -> Tuple[List[Dict[str, Any]], List[str]]:
    """(one fact an output, warnings). Counts, min and max are None where the type has no numbers to look at."""
    facts = [_facts(name, value) for name, value in outputs]
    return facts, [warning for fact in facts for warning in _warnings(fact)]


def _facts(name: str, value: Any) -> Dict[str, Any]:
    fact: Dict[str, Any] = {
        "name": name[:_MOST_NAME],
        "dtype": type(value).__name__,
        "shape": None,
        "size": None,
        "nan": None,
        "inf": None,
        "constant": None,
        "min": None,
        "max": None,
    }
    if isinstance(value, array):
        fact.update(_of_array(value))
    elif hasattr(value, "dtype") and hasattr(value, "ravel"):
        fact.update(dtype=value.dtype.name, shape=list(value.shape), size=int(value.size))
        if value.dtype.kind in "fiub":
            fact.update(_of_numpy(value))
    return fact


def _of_array(value: array[Any]) -> Dict[str, Any]:
    finite = [number for number in value if abs(number) < float("inf")]
    nan = sum(number != number for number in value)
    found = {"dtype": value.typecode, "shape": [len(value)], "size": len(value), "nan": nan}
    return dict(found, **_range(finite, len(value), nan))


def _of_numpy(value: Any) -> Dict[str, Any]:
    flat = value.ravel()
    if value.dtype.kind != "f":
        return dict(_range(flat, flat.size, 0), nan=0)
    finite = flat[abs(flat) < float("inf")]
    nan = int((flat != flat).sum())
    return dict(_range(finite, flat.size, nan), nan=nan)


def _range(finite: Any, size: int, nan: int) -> Dict[str, Any]:
    inf = size - nan - len(finite)
    if not len(finite):
        return {"inf": inf, "constant": False, "min": None, "max": None}
    low, high = (min(finite), max(finite)) if isinstance(finite, list) else (finite.min(), finite.max())
    # one number alone, such as a score, says nothing of whether it can change
    return {
        "inf": inf,
        "constant": size == len(finite) > 1 and bool(low == high),
        "min": float(low),
        "max": float(high),
    }


def _warnings(fact: Dict[str, Any]) -> List[str]:
    texts = []
    for key, what in (("nan", "NaN"), ("inf", "infinite")):
        if fact[key]:
            texts.append(
                f"output {fact['name']!r}: {fact[key]} of {fact['size']} values are {what}. "
                "Its speed may differ from that of sound values; check the export and the inputs."
            )
    if fact["constant"]:
        texts.append(
            f"output {fact['name']!r}: all {fact['size']} values are {fact['min']}. "
            "Check that the model still computes something; try inputs of your own."
        )
    return texts
