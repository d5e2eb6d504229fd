"""The inputs of a model: shapes, seeded values, and the .npz that a user brings."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from farm_agent.feed import RANGES, Feed
from farm_agent.runtime import FeedError, LoadError, Port

IDS = Port("ids", "int64", ["batch", "seq"])
MASK = Port("mask", "int64", ["batch", "seq"])
IMAGE = Port("image", "float32", [1, 3, None, None])


def arrays(feed: Feed, *ports: Port) -> dict[str, Any]:
    feed.choose(ports)
    return feed.arrays(ports)


def npz(folder: Path, **named: Any) -> str:
    np.savez(folder / "feed.npz", **named)
    return str(folder / "feed.npz")


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({"pixels": [1]}, r"names the input 'pixels'; the model has ids, image, mask"),
        ({"image": [1, 3, 8]}, r"'image' was given the shape \[1, 3, 8\]; the model declares \[1, 3, '\?', '\?'\]"),
        ({"image": [2, 3, 8, 8]}, r"'image' was given the shape \[2, 3, 8, 8\]"),
        ({"ids": [1, 8], "mask": [1, 9]}, r"dimension 'seq' is given as both 8 and 9"),
    ],
)
def test_shapes_that_do_not_fit_the_model_are_refused(shapes: dict[str, list[int]], words: str) -> None:
    with pytest.raises(FeedError, match=words) as caught:
        Feed(shapes, 0).choose([IDS, MASK, IMAGE])

    assert (caught.value.kind, caught.value.blame) == ("bad_shape", "input")


def test_a_dynamic_dimension_is_one_unless_given_and_the_choice_is_a_fact() -> None:
    feed = Feed({"ids": [2, 16]}, 0)
    chosen = feed.choose([IDS, MASK, IMAGE])

    assert chosen == {"ids": (2, 16), "mask": (2, 16), "image": (1, 3, 1, 1)}
    inputs = {fact["name"]: fact for fact in feed.facts([IDS, MASK, IMAGE])["inputs"]}
    assert inputs["mask"]["dynamic"] == {"batch": 2, "seq": 16}
    assert inputs["image"]["dynamic"] == {"axis 2": 1, "axis 3": 1}


@pytest.mark.parametrize("dtype", sorted(RANGES))
def test_values_are_within_the_stated_range_of_each_dtype(dtype: str) -> None:
    values = arrays(Feed({}, 7), Port("x", dtype, [300, 300]))["x"]

    assert (values.dtype.name, values.shape, values.flags.c_contiguous) == (dtype, (300, 300), True)
    if RANGES[dtype] == "full range":
        assert (values.min(), values.max()) == (np.iinfo(dtype).min, np.iinfo(dtype).max)
    elif RANGES[dtype] == "uniform [0, 1)":
        assert values.min() >= 0
        assert values.max() < 1
        assert float(values.astype("float64").mean()) == pytest.approx(0.5, abs=0.01)
    else:
        assert set(np.unique(values).tolist()) == {0, 1}


def test_the_same_seed_gives_the_same_values_and_another_seed_others() -> None:
    port = Port("x", "float32", [100_000])

    first, again, other = (arrays(Feed({}, seed), port)["x"] for seed in (1, 1, 2))

    assert first.tobytes() == again.tobytes()
    assert np.mean(first == other) < 0.01


def test_two_inputs_of_one_model_differ() -> None:
    made = arrays(Feed({}, 0), Port("a", "float32", [64]), Port("b", "float32", [64]))

    assert not np.array_equal(made["a"], made["b"])


def test_the_values_are_the_ones_of_every_other_board() -> None:
    made = arrays(Feed({}, 0), Port("x", "float64", [3]))["x"]

    # the published SplitMix64 with seed 0 begins e220a8397b1dcdaf 6e789e6aa1b965f4 06c45d188009454f
    expected = [
        bits / 2.0**53 for bits in (0xE220A8397B1DCDAF >> 11, 0x6E789E6AA1B965F4 >> 11, 0x06C45D188009454F >> 11)
    ]
    assert made.tolist() == expected


def test_a_scalar_and_an_empty_input_are_made_too() -> None:
    made = arrays(Feed({}, 0), Port("scalar", "float32", []), Port("empty", "int64", [0, 4]))

    assert (made["scalar"].shape, made["empty"].shape) == ((), (0, 4))


def test_a_type_without_random_values_is_the_artifacts_failure() -> None:
    with pytest.raises(FeedError, match=r"'x' is of type tensor\(string\)") as caught:
        arrays(Feed({}, 0), Port("x", "tensor(string)", [1]))

    assert (caught.value.kind, caught.value.blame) == ("unsupported_input", LoadError.blame)


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"ids": np.zeros((1, 4), "int64")}, "holds the arrays ids; the model's inputs are ids, mask"),
        ({"ids": np.zeros((1, 4), "int64"), "mask": np.zeros((1, 4), "int32")}, "'mask' is int32 in the feed"),
        ({"ids": np.zeros((1, 4), "int64"), "mask": np.zeros((1, 5), "int64")}, "'seq' is given as both 4 and 5"),
        ({"ids": np.zeros(4, "int64"), "mask": np.zeros(4, "int64")}, r"'ids' was given the shape \[4\]"),
    ],
)
def test_an_npz_that_does_not_fit_the_model_is_refused(tmp_path: Path, named: dict[str, Any], words: str) -> None:
    with pytest.raises(FeedError, match=words):
        Feed({}, 0, npz(tmp_path, **named)).choose([IDS, MASK])


def test_more_rows_than_the_models_batch_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FeedError, match=r"'x' was given the shape \[9, 4\]; the model declares \[1, 4\]"):
        Feed({}, 0, npz(tmp_path, x=np.zeros((9, 4), "float32"))).choose([Port("x", "float32", [1, 4])])


def test_an_npz_against_the_plans_shapes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FeedError, match=r"'x' is \[2\] in the feed, \[3\] in plan.shapes"):
        Feed({"x": [3]}, 0, npz(tmp_path, x=np.zeros(2, "float32"))).choose([Port("x", "float32", [None])])


@pytest.mark.parametrize("kind", ["missing", "empty", "garbage", "bare array", "pickled", "cut short"])
def test_a_feed_that_is_no_npz_is_the_users_input(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "feed.npz"
    if kind == "bare array":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    elif kind == "pickled":
        np.savez(path, x=np.array([{"a": 1}], dtype=object))
    elif kind == "cut short":
        np.savez_compressed(path, x=np.arange(100_000) ** 2)
        with zipfile.ZipFile(path) as whole:
            at = whole.infolist()[0].compress_size // 2
        path.write_bytes(path.read_bytes()[:at] + b"\0" * 64 + path.read_bytes()[at + 64 :])
    elif kind != "missing":
        path.write_bytes(b"" if kind == "empty" else b"no archive at all")

    with pytest.raises(FeedError, match=r"feed\.npz") as caught:
        Feed({}, 0, str(path))

    assert (caught.value.kind, caught.value.blame) == ("bad_feed", "input")


def test_the_users_arrays_are_handed_on_whatever_the_only_one_is_called(tmp_path: Path) -> None:
    path = npz(tmp_path, arr_0=np.asfortranarray(np.arange(6, dtype="float32").reshape(2, 3)))

    made = arrays(Feed({}, 0, path), Port("x", "float32", ["n", 3]))

    assert made["x"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert made["x"].flags.c_contiguous


def test_the_users_scalar_stays_a_scalar(tmp_path: Path) -> None:
    made = arrays(Feed({}, 0, npz(tmp_path, x=np.float32(2.5))), Port("x", "float32", []))

    assert made["x"].shape == ()
