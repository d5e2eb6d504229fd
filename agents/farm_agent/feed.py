"""The inputs of a Model: seeded random values within each dtype, or the arrays of an .npz that the user brings.

Random values come from SplitMix64 (Steele, Lea, Flood 2014) over the element's index: the same on every board and under
every numpy version, and numpy.random, whose import would count as the model's memory, is not needed.
"""

from __future__ import annotations

import os

from farm_agent.runtime import FeedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Mapping, Sequence, Tuple

    from farm_agent.runtime import Dim, Port

RANGES = {
    "float16": "uniform [0, 1)",
    "float32": "uniform [0, 1)",
    "float64": "uniform [0, 1)",
    "bool": "false or true",
    "int8": "full range",
    "uint8": "full range",
    # 0 and 1 are valid as token, segment, mask and position alike; larger ones leave some model's embedding table
    "int16": "0 or 1",
    "uint16": "0 or 1",
    "int32": "0 or 1",
    "uint32": "0 or 1",
    "int64": "0 or 1",
    "uint64": "0 or 1",
}
_PART = 1 << 13
_MANTISSA_BITS = {"float16": 11, "float32": 24, "float64": 53}


class Feed:
    """Where the inputs of one Block come from. Reads the .npz at once, so that no stage of the model pays for it."""

    def __init__(self, shapes: Mapping[str, Sequence[int]], seed: int, path: str = "") -> None:
        self._shapes = {name: tuple(shape) for name, shape in shapes.items()}
        self._seed = seed
        self._path = path
        self._brought = _read(path) if path else {}
        self._chosen: Dict[str, Tuple[int, ...]] = {}
        self._dynamic: Dict[str, Dict[str, int]] = {}

    def choose(self, ports: Sequence[Port]) -> Dict[str, Tuple[int, ...]]:
        """A shape for each input, by name. Raises FeedError where what was given does not fit the model."""
        names = [port.name for port in ports]
        unknown = sorted(set(self._shapes) - set(names))
        if unknown:
            raise FeedError(f"plan.shapes names the input {unknown[0]!r}; the model has {_list(names)}.", "bad_shape")
        if self._path:
            self._match(ports)
        given = dict(self._shapes)
        for name, array in self._brought.items():
            if given.setdefault(name, array.shape) != array.shape:
                raise FeedError(
                    f"input {name!r} is {list(array.shape)} in the feed, {list(given[name])} in plan.shapes."
                )
        named = _named_dims(ports, given)
        self._chosen = {port.name: self._shape_of(port, given.get(port.name), named) for port in ports}
        return self._chosen

    def arrays(self, ports: Sequence[Port]) -> Dict[str, Any]:
        """A C-contiguous array for each input, in the shape that `choose` gave it."""
        if self._path:
            return {port.name: self._brought[port.name] for port in ports}
        return {port.name: _random(port, self._chosen[port.name], self._seed + n) for n, port in enumerate(ports)}

    def facts(self, ports: Sequence[Port]) -> Dict[str, Any]:
        """A Block's facts `inputs` (shapes, each dynamic dimension's choice) and `feed` (where the values are from)."""
        inputs: List[Dict[str, Any]] = [
            {
                "name": port.name,
                "dtype": port.dtype,
                "shape": list(self._chosen[port.name]),
                "dynamic": self._dynamic.get(port.name, {}),
            }
            for port in ports
        ]
        feed: Dict[str, Any] = {"kind": "npz"}
        if not self._path:
            ranges = {port.dtype: RANGES[port.dtype] for port in ports}
            feed = {"kind": "random", "seed": self._seed, "generator": "splitmix64", "ranges": ranges}
        return {"inputs": inputs, "feed": feed}

    def _match(self, ports: Sequence[Port]) -> None:
        if len(ports) == 1 and len(self._brought) == 1:
            self._brought = {ports[0].name: next(iter(self._brought.values()))}
        wanted, found = {port.name for port in ports}, set(self._brought)
        if wanted != found:
            raise FeedError(
                f"the feed holds the arrays {_list(found)}; the model's inputs are {_list(wanted)}. Name them alike."
            )
        for port in ports:
            seen = self._brought[port.name].dtype.name
            if seen != port.dtype:
                raise FeedError(f"input {port.name!r} is {seen} in the feed; the model takes {port.dtype}. Convert it.")

    def _shape_of(self, port: Port, given: Any, named: Mapping[str, int]) -> Tuple[int, ...]:
        if given is not None and len(given) != len(port.shape):
            raise _misfit(port, given)
        chosen = []
        dynamic = {}
        for axis, dim in enumerate(port.shape):
            if isinstance(dim, int):
                size = dim
            else:
                size = given[axis] if given is not None else named.get(dim or "", 1)
                dynamic[dim or f"axis {axis}"] = size
            if given is not None and given[axis] != size:
                raise _misfit(port, given)
            chosen.append(size)
        if dynamic:
            self._dynamic[port.name] = dynamic
        return tuple(chosen)


def _misfit(port: Port, given: Sequence[int]) -> FeedError:
    declared = [("?" if dim is None else dim) for dim in port.shape]
    return FeedError(
        f"input {port.name!r} was given the shape {list(given)}; the model declares {declared} of {port.dtype}.",
        "bad_shape",
    )


def _named_dims(ports: Sequence[Port], given: Mapping[str, Tuple[int, ...]]) -> Dict[str, int]:
    """A named dimension that one given shape fixes holds for the inputs without a given shape too."""
    named: Dict[str, int] = {}
    for port in ports:
        sizes: Sequence[int] = given.get(port.name, ())
        dims: Sequence[Dim] = port.shape
        for dim, size in zip(dims, sizes):
            if isinstance(dim, str) and named.setdefault(dim, size) != size:
                raise FeedError(f"dimension {dim!r} is given as both {named[dim]} and {size}.", "bad_shape")
    return named


def _random(port: Port, shape: Tuple[int, ...], seed: int) -> Any:
    import numpy as np

    if port.dtype not in RANGES:
        text = f"input {port.name!r} is of type {port.dtype}, for which there are no random values. Use another type."
        raise FeedError(text, "unsupported_input", "artifact")
    array = np.empty(shape, dtype=port.dtype)
    flat = array.reshape(-1)
    for first in range(0, flat.size, _PART):  # in parts: the uint64 values must not become the memory's peak
        part = flat[first : first + _PART]
        bits = _splitmix64(np, first, part.size, seed)
        if port.dtype in _MANTISSA_BITS:
            mantissa = _MANTISSA_BITS[port.dtype]
            part[:] = (bits >> np.uint64(64 - mantissa)).astype(np.float64) * 2.0**-mantissa
        elif port.dtype in ("int8", "uint8"):
            part[:] = (bits >> np.uint64(56)).astype(np.uint8).view(port.dtype)
        else:
            part[:] = (bits >> np.uint64(63)).astype(port.dtype)
    return array


def _splitmix64(np: Any, first: int, count: int, seed: int) -> Any:
    z = np.arange(first + 1, first + 1 + count, dtype=np.uint64)
    z *= np.uint64(0x9E3779B97F4A7C15)
    z += np.uint64(seed * 0xD1342543DE82EF95 & 0xFFFFFFFFFFFFFFFF)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _read(path: str) -> Dict[str, Any]:
    try:
        import numpy as np
    except ImportError as error:
        raise FeedError(f"an .npz feed needs numpy on the board: {error}. Install numpy there.") from None
    name = os.path.basename(path)
    try:
        with open(path, "rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if not hasattr(loaded, "files"):
                raise FeedError(f"the feed {name} is one bare array; np.savez with the inputs' names makes an .npz.")
            return {key: np.ascontiguousarray(loaded[key]).reshape(loaded[key].shape) for key in loaded.files}
    except MemoryError:
        raise FeedError(f"the feed {name} does not fit in memory. Bring a smaller one.", "memory") from None
    except (FeedError, KeyboardInterrupt):
        raise
    except Exception as error:  # noqa: BLE001 - whatever a broken archive makes zipfile and numpy raise
        raise FeedError(
            f"the feed {name} is not a readable .npz: {type(error).__name__}: {error}. Save it anew with np.savez."
        ) from None


def _list(names: Any) -> str:
    return ", ".join(sorted(names)) or "none"
