"""The codec of raw samples: exact to the bit, or an error."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from farm.domain import Samples
from farm.errors import FarmBug, StoreError
from farm.store.columns import decode, encode

LENGTHS = st.integers(0, 60)
INT64 = st.integers(-(2**63), 2**63 - 1)
DOUBLE_BITS = st.integers(0, 2**64 - 1)  # every NaN there is, not only the usual one


@pytest.mark.parametrize("keep", [0, 3, 4, 8, 15, 40, 90, -1])
def test_a_truncated_column_is_an_error(keep: int) -> None:
    data = encode(Samples("latency_ns", np.arange(50), np.arange(50) ** 2))
    with pytest.raises(StoreError, match="Samples of 'latency_ns' are corrupt"):
        decode("latency_ns", data[:keep])


@given(st.data())
def test_any_changed_byte_is_an_error(data: st.DataObject) -> None:
    good = bytearray(encode(Samples("latency_ns", np.arange(40) * 1000, np.arange(40) % 7)))
    place = data.draw(st.integers(0, len(good) - 1))
    good[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(StoreError, match="corrupt"):
        decode("latency_ns", bytes(good))


@pytest.mark.parametrize(
    ("t_ns", "value"),
    [
        (np.zeros(3, np.int64), np.zeros(2, np.int64)),
        (np.zeros(3, np.int32), np.zeros(3, np.int64)),
        (np.zeros(3, np.int64), np.zeros(3, np.float32)),
        (np.zeros((2, 2), np.int64), np.zeros((2, 2))),
    ],
)
def test_arrays_of_another_type_or_shape_are_refused(t_ns: np.ndarray, value: np.ndarray) -> None:
    with pytest.raises(FarmBug, match=r"int64\[n\] and int64\[n\] or float64\[n\] are needed"):
        encode(Samples("latency_ns", t_ns, value))


@given(LENGTHS.flatmap(lambda n: st.tuples(*(arrays.arrays(np.int64, n, elements=INT64),) * 2)))
@settings(max_examples=200)
def test_any_whole_numbers_come_back_exactly(columns: tuple[np.ndarray, np.ndarray]) -> None:
    _assert_round_trip(*columns)


@given(
    LENGTHS.flatmap(
        lambda n: st.tuples(
            arrays.arrays(np.int64, n, elements=INT64), arrays.arrays(np.uint64, n, elements=DOUBLE_BITS)
        )
    )
)
def test_any_doubles_come_back_to_the_bit(columns: tuple[np.ndarray, np.ndarray]) -> None:
    _assert_round_trip(columns[0], columns[1].view(np.float64))


@pytest.mark.parametrize(
    "value",
    [
        np.array([], np.int64),
        np.array([], np.float64),
        np.array([-(2**63), 2**63 - 1, 0]),
        np.array([2**31 - 1, 0]),
        np.array([2**31, 0]),
        np.array([2**32, 0]),
        np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324]),
    ],
)
def test_the_ends_of_each_type_come_back_exactly(value: np.ndarray) -> None:
    _assert_round_trip(np.arange(value.size), value)


def test_a_column_that_is_not_contiguous_comes_back_exactly() -> None:
    _assert_round_trip(np.arange(20)[::2], np.arange(20)[1::2] * 1.5)


def test_the_same_samples_give_the_same_bytes() -> None:
    samples = Samples("latency_ns", np.arange(500), np.arange(500) ** 2)
    assert encode(samples) == encode(samples)


def test_realistic_latencies_take_less_than_three_bytes_and_with_their_start_times_less_than_four() -> None:
    rng = np.random.default_rng(1)
    latency_ns = (1.6e6 * np.exp(0.05 * rng.standard_normal(10_000))).astype(np.int64)
    t_ns = 10**15 + np.cumsum(latency_ns + rng.integers(300, 800, 10_000)) - latency_ns
    both = len(encode(Samples("latency_ns", t_ns, latency_ns)))
    alone = len(encode(Samples("latency_ns", np.zeros(10_000, np.int64), latency_ns)))
    assert alone < 30_000
    assert both < 40_000


def _assert_round_trip(t_ns: np.ndarray, value: np.ndarray) -> None:
    back = decode("metric_ns", encode(Samples("metric_ns", t_ns, value)))
    assert (back.metric, back.t_ns.dtype.str, back.value.dtype) == ("metric_ns", "<i8", value.dtype)
    assert back.t_ns.tobytes() == t_ns.tobytes()
    assert back.value.tobytes() == value.tobytes()
