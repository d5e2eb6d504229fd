"""The hostile files: what users upload by mistake or on purpose. Each is small; what it asks for is not."""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

import numpy as np
import onnx_models
import tflite_models
from onnx import TensorProto, helper, numpy_helper

SIDE = 16
FAKES: dict[str, dict[str, Any]] = {  # the schema is in farm_agent/runtimes/fake.py
    "hang": {"misbehave": {"stage": "timed", "how": "hang", "after": 20}},
    "hang_in_load": {"misbehave": {"stage": "load", "how": "hang"}},
    "crash": {"misbehave": {"stage": "timed", "how": "crash", "after": 20}},
    "oom": {"misbehave": {"stage": "first", "how": "oom"}},
    "flood": {"misbehave": {"stage": "timed", "how": "flood_stdout", "after": 20}},
    "garbage": {"misbehave": {"stage": "first", "how": "garbage_fd3"}},
    "fork_bomb": {"misbehave": {"stage": "load", "how": "fork_bomb"}},
}


def fake(says: dict[str, Any]) -> bytes:
    """A model file of the runtime `fake`."""
    return json.dumps(says, indent=2).encode() + b"\n"


def truncated_onnx() -> bytes:
    """The first half of a good file, as a broken upload leaves it."""
    whole = onnx_models.mobilenet("mobilenet_v2_tiny")
    return whole[: len(whole) // 2]


def truncated_tflite() -> bytes:
    """The first half of a good file: its header is good, its offsets point behind its end."""
    whole = tflite_models.mobilenet("mobilenet_v2_tiny")
    return whole[: len(whole) // 2]


def picture() -> bytes:
    """A good PNG of 1 x 1 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 4)) + chunk(b"IEND", b"")


def text() -> bytes:
    """What a download that needed a login leaves behind."""
    return b"<!doctype html><title>Sign in</title><p>You must sign in to download this model.</p>\n"


def unsupported_op() -> bytes:
    """An operator of a domain that no runtime knows."""
    node = helper.make_node("Frobnicate", ["input"], ["output"], domain="com.example.vendor")
    return onnx_models.to_bytes(_graph("unsupported_op", [node]), ("com.example.vendor",))


def nan_output() -> bytes:
    """Loads, runs, and gives nothing but NaN: the root of a negative number."""
    nodes = [
        helper.make_node("Mul", ["input", "input"], ["square"]),
        helper.make_node("Sub", ["minus_one", "square"], ["below_zero"]),
        helper.make_node("Sqrt", ["below_zero"], ["output"]),
    ]
    return onnx_models.to_bytes(_graph("nan_output", nodes, [_scalar("minus_one", -1.0)]))


def constant_output() -> bytes:
    """Loads, runs, and gives the same number whatever goes in."""
    nodes = [
        helper.make_node("Mul", ["input", "none"], ["gone"]),
        helper.make_node("Add", ["gone", "three"], ["output"]),
    ]
    return onnx_models.to_bytes(_graph("constant_output", nodes, [_scalar("none", 0.0), _scalar("three", 3.0)]))


def endless_loop() -> bytes:
    """A Loop of 2**62 turns that computes nothing of use."""
    body = [
        helper.make_node("Identity", ["go_on"], ["go_on_after"]),
        helper.make_node("Sin", ["state"], ["state_after"]),
    ]
    return _loop("endless_loop", body, 2**62, [1, SIDE])


def alloc_without_bound() -> bytes:
    """A Loop whose state doubles with each turn: 64 bytes at first, 64 GB after thirty, and no end."""
    body = [
        helper.make_node("Identity", ["go_on"], ["go_on_after"]),
        helper.make_node("Concat", ["state", "state"], ["state_after"], axis=0),
    ]
    return _loop("alloc_without_bound", body, 2**62, [None, SIDE])


def header_3gb() -> bytes:
    """Declares a weight of 3 GB of which 16 bytes are there."""
    weight = TensorProto(name="weight", data_type=TensorProto.FLOAT, dims=[3 * 2**28], raw_data=b"\0" * 16)
    return onnx_models.to_bytes(_graph("header_3gb", _add_mean_of_weight(), [weight]))


def zeros_3gb() -> bytes:
    """A good file of 200 bytes whose one weight is 3 GB of zeros once it is loaded."""
    count = numpy_helper.from_array(np.array([3 * 2**28], np.int64), "count")
    zeros = helper.make_node("ConstantOfShape", ["count"], ["weight"])
    return onnx_models.to_bytes(_graph("zeros_3gb", [zeros, *_add_mean_of_weight()], [count]))


def _add_mean_of_weight() -> list[Any]:
    mean = helper.make_node("ReduceMean", ["weight"], ["mean"], keepdims=0)
    return [mean, helper.make_node("Add", ["input", "mean"], ["output"])]


def _graph(name: str, nodes: list[Any], weights: list[Any] | None = None) -> Any:
    put = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, SIDE])
    get = helper.make_tensor_value_info("output", TensorProto.FLOAT, None)
    return helper.make_graph(nodes, name, [put], [get], weights or [])


def _loop(name: str, body: list[Any], turns: int, shape: list[int | None]) -> bytes:
    value = helper.make_tensor_value_info
    state, state_after = (value(word, TensorProto.FLOAT, shape) for word in ("state", "state_after"))
    before = [value("turn", TensorProto.INT64, []), value("go_on", TensorProto.BOOL, []), state]
    after = [value("go_on_after", TensorProto.BOOL, []), state_after]
    loop = helper.make_node(
        "Loop", ["turns", "always", "input"], ["output"], body=helper.make_graph(body, name + "_body", before, after)
    )
    weights = [
        numpy_helper.from_array(np.array(turns, np.int64), "turns"),
        numpy_helper.from_array(np.array(True), "always"),
    ]
    return onnx_models.to_bytes(_graph(name, [loop], weights))


def _scalar(name: str, value: float) -> Any:
    return numpy_helper.from_array(np.array(value, np.float32), name)
