"""The ONNX files: MobileNetV2 in float32 and int8, and a small transformer encoder, also with its weights beside it."""

from __future__ import annotations

import logging
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import mobilenet_v2
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 17, 8  # old enough for any ONNX Runtime that a board may have
VOCABULARY, HIDDEN, HEADS, LAYERS, LONGEST = 1000, 128, 4, 2, 128


@lru_cache
def mobilenet(name: str) -> bytes:
    """One size in float32: `input` float32[1, 3, H, W] to `logits`."""
    size, layers = mobilenet_v2.SIZES[name], mobilenet_v2.layers(name)
    nodes: list[Any] = []
    weights: list[Any] = []
    for layer in layers:
        parameters = [f"{layer.name}.weight", f"{layer.name}.bias"] if layer.weight.size else []
        for parameter, value in zip(parameters, (layer.weight, layer.bias), strict=False):
            weights.append(numpy_helper.from_array(value, parameter))
        nodes += _nodes(layer, parameters)
    limits = [numpy_helper.from_array(np.array(value, np.float32), key) for key, value in (("zero", 0), ("six", 6))]
    put = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, size.pixels, size.pixels])
    get = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, size.classes])
    return to_bytes(helper.make_graph(nodes, name, [put], [get], [*weights, *limits]))


def mobilenet_int8(name: str) -> bytes:
    """The same with weights and activations in int8 (QDQ), calibrated on eight seeded pictures."""
    from onnxruntime import quantization

    class Pictures(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(mobilenet_v2.inputs(name, 8))

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            picture = next(self.left, None)
            return None if picture is None else {"input": picture}

    logging.getLogger().setLevel(logging.ERROR)  # it advises a preprocessing that this graph does not need
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        before.write_bytes(mobilenet(name))
        quantization.quantize_static(
            before,
            after,
            Pictures(),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
        )
        return onnx.load(after).SerializeToString(deterministic=True)


@lru_cache
def encoder() -> bytes:
    """Two layers of a transformer encoder: `token_ids` int64[batch, sequence] to `states` and `pooled`."""
    rng = np.random.default_rng(7)
    net = _Encoder(rng)
    x = net.embed("token_ids")
    for i in range(LAYERS):
        x = net.norm(net.add(x, net.attend(x, f"layer{i}.attention")), f"layer{i}.norm1")
        x = net.norm(net.add(x, net.feed(x, f"layer{i}.feed")), f"layer{i}.norm2")
    net.node("Identity", [x], "states")
    net.node("ReduceMean", [x], "pooled", axes=[1], keepdims=0)
    put = helper.make_tensor_value_info("token_ids", TensorProto.INT64, ["batch", "sequence"])
    states = helper.make_tensor_value_info("states", TensorProto.FLOAT, ["batch", "sequence", HIDDEN])
    pooled = helper.make_tensor_value_info("pooled", TensorProto.FLOAT, ["batch", HIDDEN])
    return to_bytes(helper.make_graph(net.nodes, "encoder", [put], [states, pooled], net.weights))


def encoder_external() -> dict[str, bytes]:
    """The same encoder as a folder: the graph in one file, every larger weight in another."""
    model = onnx.load_from_string(encoder())
    data = bytearray()
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) < 1024:
            continue
        data += b"\0" * (-len(data) % 4096)  # so that a runtime may map it
        entries = {"location": "weights.bin", "offset": str(len(data)), "length": str(len(tensor.raw_data))}
        data += tensor.raw_data
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=value)
    return {"model.onnx": model.SerializeToString(deterministic=True), "weights.bin": bytes(data)}


def to_bytes(graph: Any, domains: tuple[str, ...] = ()) -> bytes:
    """The file of one graph; the same graph gives the same bytes."""
    opsets = [helper.make_opsetid("", OPSET), *(helper.make_opsetid(domain, 1) for domain in domains)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="benchfarm")
    return model.SerializeToString(deterministic=True)


def _nodes(layer: mobilenet_v2.Layer, parameters: list[str]) -> list[Any]:
    out, raw = layer.name, layer.name + ".raw" if layer.is_relu6 else layer.name
    relu6 = [helper.make_node("Clip", [raw, "zero", "six"], [out])] if layer.is_relu6 else []
    if layer.kind == "add":
        return [helper.make_node("Add", [layer.source, layer.other], [out])]
    if layer.kind == "mean":
        pool = helper.make_node("GlobalAveragePool", [layer.source], [out + ".raw"])
        return [pool, helper.make_node("Flatten", [out + ".raw"], [out])]
    if layer.kind == "dense":
        return [helper.make_node("Gemm", [layer.source, *parameters], [out], transB=1)]
    conv = helper.make_node(
        "Conv",
        [layer.source, *parameters],
        [raw],
        kernel_shape=list(layer.weight.shape[2:]),
        strides=[layer.stride, layer.stride],
        auto_pad="SAME_UPPER",
        group=layer.weight.shape[0] if layer.kind == "depthwise" else 1,
    )
    return [conv, *relu6]


class _Encoder:
    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def node(self, kind: str, sources: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, sources, [name], **attributes))
        return name

    def constant(self, name: str, value: NDArray[Any]) -> str:
        self.weights.append(numpy_helper.from_array(value, name))
        return name

    def embed(self, ids: str) -> str:
        words = self.constant("words", self.rng.normal(0, 1, (VOCABULARY, HIDDEN)).astype(np.float32))
        places = self.constant("places", self.rng.normal(0, 0.3, (LONGEST, HIDDEN)).astype(np.float32))
        self.node("Shape", [ids], "length", start=1, end=2)
        start = self.constant("start", np.array([0], np.int64))
        self.node("Slice", [places, start, "length"], "places.here")
        return self.add(self.node("Gather", [words, ids], "words.here"), "places.here")

    def add(self, a: str, b: str) -> str:
        return self.node("Add", [a, b], f"{a}+{len(self.nodes)}")

    def dense(self, x: str, name: str, before: int, after: int) -> str:
        weight = self.rng.normal(0, before**-0.5, (before, after)).astype(np.float32)
        self.node("MatMul", [x, self.constant(name + ".weight", weight)], name + ".product")
        bias = self.constant(name + ".bias", self.rng.normal(0, 0.02, after).astype(np.float32))
        return self.node("Add", [name + ".product", bias], name)

    def attend(self, x: str, name: str) -> str:
        split = self.constant(name + ".split", np.array([0, 0, HEADS, HIDDEN // HEADS], np.int64))
        heads = []
        for part, order in (("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3])):
            flat = self.dense(x, f"{name}.{part}", HIDDEN, HIDDEN)
            self.node("Reshape", [flat, split], f"{flat}.heads")
            heads.append(self.node("Transpose", [f"{flat}.heads"], f"{flat}.turned", perm=order))
        self.node("MatMul", heads[:2], name + ".scores")
        scale = self.constant(name + ".scale", np.array((HIDDEN // HEADS) ** -0.5, np.float32))
        self.node("Mul", [name + ".scores", scale], name + ".scaled")
        self.node("Softmax", [name + ".scaled"], name + ".shares", axis=-1)
        self.node("MatMul", [name + ".shares", heads[2]], name + ".mixed")
        self.node("Transpose", [name + ".mixed"], name + ".back", perm=[0, 2, 1, 3])
        join = self.constant(name + ".join", np.array([0, 0, HIDDEN], np.int64))
        self.node("Reshape", [name + ".back", join], name + ".joined")
        return self.dense(name + ".joined", name + ".out", HIDDEN, HIDDEN)

    def feed(self, x: str, name: str) -> str:
        wide = self.dense(x, name + ".wide", HIDDEN, 4 * HIDDEN)
        half = self.constant(name + ".half", np.array(0.5, np.float32))
        one = self.constant(name + ".one", np.array(1, np.float32))
        root = self.constant(name + ".root", np.array(2**-0.5, np.float32))
        self.node("Erf", [self.node("Mul", [wide, root], name + ".scaled")], name + ".erf")
        self.node("Mul", [self.node("Add", [name + ".erf", one], name + ".plus"), wide], name + ".gated")
        return self.dense(
            self.node("Mul", [name + ".gated", half], name + ".gelu"), name + ".narrow", 4 * HIDDEN, HIDDEN
        )

    def norm(self, x: str, name: str) -> str:
        scale = self.constant(name + ".scale", np.ones(HIDDEN, np.float32))
        shift = self.constant(name + ".shift", np.zeros(HIDDEN, np.float32))
        return self.node("LayerNormalization", [x, scale, shift], name, axis=-1)
