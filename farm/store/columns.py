"""Samples <-> bytes: the codec of raw samples, exact to the bit.

`planes-zstd-1`: each column is turned into small whole numbers, those are split into byte planes (all lowest bytes
first, then all second ones, ...), and the planes go through zstd. Noise stays in the low planes; the high ones vanish.
int64 columns: the smallest of three forms is taken: the values; their differences; for `t_ns`, what the differences
leave once each query's own duration is taken off. Then the least of them is subtracted and the greatest common divisor
(the clock's tick) divided out; 4 bytes a number where they fit, else 8. float64 columns are split as they are, NaN
included. Differences suit times; for latencies they add noise, and lose.

    bytes   field
    4       b"BFS1"
    4       crc32 of all that follows
    8       n
    per column, t then v:
    1       form: 0 float64, 1 values, 2 differences, 3 differences less durations
    1       width: bytes a number
    8 8 8   first value, least number, tick
    8       length of the zstd frame
    then both zstd frames

History of CODEC: planes-zstd-1 the first.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from farm.domain import Samples
from farm.errors import FarmBug, StoreError

CODEC = "planes-zstd-1"

_MAGIC = b"BFS1"
_CRC = struct.Struct("<I")
_COUNT = struct.Struct("<Q")
_COLUMN = struct.Struct("<BBQQQQ")
_FLOAT, _VALUES, _DIFFERENCES, _LESS_DURATIONS = range(4)
_LEVEL = 9

# All arithmetic is on uint64, modulo 2**64: no difference of two int64 can overflow it.
_Words = NDArray[np.uint64]
_Column = tuple[bytes, bytes]  # header, zstd frame


def encode(samples: Samples) -> bytes:
    """One metric of one Block as bytes. Raises FarmBug for arrays of another type or shape."""
    t_ns, value = samples.t_ns, samples.value
    is_typed = t_ns.dtype == np.int64 and value.dtype in (np.int64, np.float64)
    if not is_typed or t_ns.ndim != 1 or t_ns.shape != value.shape:
        raise FarmBug(
            f"Samples of {samples.metric!r} are t_ns {t_ns.dtype}{t_ns.shape} and value {value.dtype}{value.shape}; "
            "int64[n] and int64[n] or float64[n] are needed. Please report this."
        )
    t, v = _words(t_ns), _words(value)
    t_forms = {_VALUES: t, _DIFFERENCES: t[1:] - t[:-1]}
    if value.dtype == np.int64:
        t_forms[_LESS_DURATIONS] = t[1:] - t[:-1] - v[:-1]
        v_column = _smallest({_VALUES: v, _DIFFERENCES: v[1:] - v[:-1]}, v)
    else:
        v_column = _pack(_FLOAT, 8, 0, 0, 1, v)
    (t_header, t_frame), (v_header, v_frame) = _smallest(t_forms, t), v_column
    body = _COUNT.pack(t.size) + t_header + v_header + t_frame + v_frame
    return _MAGIC + _CRC.pack(zlib.crc32(body)) + body


def decode(metric: str, data: bytes) -> Samples:
    """The Samples that `encode` was given. Raises StoreError for anything that is not whole."""
    body = data[8:]
    if data[:4] != _MAGIC or len(data) < 8 or _CRC.unpack(data[4:8])[0] != zlib.crc32(body):
        raise _corrupt(metric, f"{len(data)} bytes whose checksum does not match")
    try:
        (n,) = _COUNT.unpack_from(body, 0)
        headers = [_COLUMN.unpack_from(body, _COUNT.size + i * _COLUMN.size) for i in (0, 1)]
        start = _COUNT.size + 2 * _COLUMN.size
        middle = start + headers[0][5]
        v = _unpack(n, headers[1], body[middle : middle + headers[1][5]], None)
        t = _unpack(n, headers[0], body[start:middle], v)
    except (struct.error, zstandard.ZstdError, ValueError) as error:
        raise _corrupt(metric, str(error)) from None
    v_type = np.float64 if headers[1][0] == _FLOAT else np.int64
    return Samples(metric, t.view(np.int64), v.view(v_type))


def _words(array: NDArray[Any]) -> _Words:
    return np.ascontiguousarray(array).view(np.uint64)


def _smallest(forms: dict[int, _Words], column: _Words) -> _Column:
    """The shortest of several forms of one int64 column."""
    first = int(column[0]) if column.size else 0
    return min((_narrow(form, first, numbers) for form, numbers in forms.items()), key=lambda packed: len(packed[1]))


def _narrow(form: int, first: int, numbers: _Words) -> _Column:
    least = _words(np.array([numbers.view(np.int64).min() if numbers.size else 0]))[0]
    offsets = numbers - least
    tick = max(int(np.gcd.reduce(offsets)), 1) if numbers.size else 1
    ticks = offsets // np.uint64(tick)
    width = 4 if not ticks.size or int(ticks.max()) < 2**32 else 8
    return _pack(form, width, first, int(least), tick, ticks)


def _pack(form: int, width: int, first: int, least: int, tick: int, numbers: _Words) -> _Column:
    planes = numbers.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :width].T
    frame = zstandard.ZstdCompressor(level=_LEVEL).compress(planes.tobytes())
    return _COLUMN.pack(form, width, first, least, tick, len(frame)), frame


def _unpack(n: int, header: tuple[int, ...], frame: bytes, durations: _Words | None) -> _Words:
    form, width, first, least, tick, length = header
    count = n if form in (_FLOAT, _VALUES) else max(n - 1, 0)
    if form > _LESS_DURATIONS or width not in (4, 8) or len(frame) != length:
        raise ValueError(f"a column of form {form}, width {width} and {len(frame)} of {length} bytes")
    raw = zstandard.ZstdDecompressor().decompress(frame)
    if len(raw) != count * width:
        raise ValueError(f"a column of {len(raw)} bytes where {count * width} are needed")
    words = np.zeros((count, 8), np.uint8)
    words[:, :width] = np.frombuffer(raw, np.uint8).reshape(width, count).T
    numbers = words.reshape(-1).view("<u8").astype(np.uint64) * np.uint64(tick) + np.uint64(least)
    if form in (_FLOAT, _VALUES) or n == 0:
        return numbers
    if form == _LESS_DURATIONS:
        if durations is None:
            raise ValueError("durations without Samples to take them from")
        numbers = numbers + durations[:-1]
    return np.concatenate([np.array([first], np.uint64), np.uint64(first) + np.cumsum(numbers, dtype=np.uint64)])


def _corrupt(metric: str, seen: str) -> StoreError:
    return StoreError(
        f"Samples of {metric!r} are corrupt: {seen}. Check the disk of the blob store, then restore it from a backup."
    )
