"""The TFLite files: MobileNetV2 in float32 and full int8, written straight into the flatbuffer; no TensorFlow needed.

The schema is the one that ai-edge-litert ships. Sources: tensorflow/compiler/mlir/lite/schema/schema.fbs, and the
quantisation rules of https://ai.google.dev/edge/litert/models/quantization_spec.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import flatbuffers
import mobilenet_v2
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from mobilenet_v2 import Layer
from numpy.typing import NDArray

_OPERATORS = {  # kind -> operator, its version in float32 and in int8
    "conv": (schema.BuiltinOperator.CONV_2D, 1, 3),
    "depthwise": (schema.BuiltinOperator.DEPTHWISE_CONV_2D, 1, 3),
    "add": (schema.BuiltinOperator.ADD, 1, 2),
    "mean": (schema.BuiltinOperator.MEAN, 1, 2),
    "dense": (schema.BuiltinOperator.FULLY_CONNECTED, 1, 4),
}


@dataclass(frozen=True)
class Scale:
    """Affine quantisation of one tensor: real = scale * (stored - zero); one scale, or one for each of `axis`."""

    scale: NDArray[np.float32]
    zero: int = 0
    axis: int = 0


@dataclass
class _File:
    tensors: list[Any] = field(default_factory=list)
    buffers: list[Any] = field(default_factory=lambda: [schema.BufferT()])  # the first is empty, by the format
    operators: list[Any] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)

    def tensor(self, name: str, shape: tuple[int, ...], kind: int, scale: Scale | None, data: bytes = b"") -> int:
        made = schema.TensorT()
        made.name, made.shape, made.type, made.buffer = name, list(shape), kind, 0
        if scale is not None:
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale = scale.scale.tolist()
            made.quantization.zeroPoint = [scale.zero] * len(scale.scale)
            made.quantization.quantizedDimension = scale.axis
        if data:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(data, np.uint8)
            made.buffer = len(self.buffers)
            self.buffers.append(buffer)
        self.numbers[name] = len(self.tensors)
        self.tensors.append(made)
        return self.numbers[name]


@lru_cache
def mobilenet(name: str) -> bytes:
    """One size in float32: `input` float32[1, H, W, 3] to `logits`."""
    return _build(name, {})


def mobilenet_int8(name: str) -> bytes:
    """The same with weights, activations, input and output in int8, calibrated on eight seeded pictures."""
    return _build(name, _calibrate(name))


def _build(name: str, scales: dict[str, Scale]) -> bytes:
    size, layers, file = mobilenet_v2.SIZES[name], mobilenet_v2.layers(name), _File()
    kind = schema.TensorType.INT8 if scales else schema.TensorType.FLOAT32
    file.tensor("input", (1, size.pixels, size.pixels, 3), kind, scales.get("input"))
    for layer in layers:
        _add_layer(file, layer, kind, scales)
    graph = schema.SubGraphT()
    graph.tensors, graph.operators, graph.name = file.tensors, file.operators, "main"
    graph.inputs, graph.outputs = [file.numbers["input"]], [file.numbers["logits"]]
    model = schema.ModelT()
    model.version, model.description = 3, name
    model.operatorCodes = [_code(operator, versions[1 if scales else 0]) for operator, *versions in _OPERATORS.values()]
    model.subgraphs, model.buffers = [graph], file.buffers
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _add_layer(file: _File, layer: Layer, kind: int, scales: dict[str, Scale]) -> None:
    sources = [file.numbers[layer.source]]
    if layer.other:
        sources.append(file.numbers[layer.other])
    if layer.weight.size:
        sources += _parameters(file, layer, scales)
    if layer.kind == "mean":
        axes = np.array([1, 2], np.int32)
        sources.append(file.tensor(layer.name + ".axes", (2,), schema.TensorType.INT32, None, axes.tobytes()))
    shape = (1, *layer.shape[1:], layer.shape[0])
    operator = schema.OperatorT()
    operator.opcodeIndex = list(_OPERATORS).index(layer.kind)
    operator.inputs = sources
    operator.outputs = [file.tensor(layer.name, shape, kind, scales.get(layer.name))]
    operator.builtinOptionsType, operator.builtinOptions = _options(layer)
    file.operators.append(operator)


def _parameters(file: _File, layer: Layer, scales: dict[str, Scale]) -> list[int]:
    """Weight and bias; in int8 the weight has one scale for each output channel (a dense layer one for all)."""
    weight, axis = _as_tflite(layer)
    names = layer.name + ".weight", layer.name + ".bias"
    if not scales:
        kind = schema.TensorType.FLOAT32
        return [
            file.tensor(names[0], weight.shape, kind, None, weight.tobytes()),
            file.tensor(names[1], layer.bias.shape, kind, None, layer.bias.tobytes()),
        ]
    others = tuple(i for i in range(weight.ndim) if i != axis) if layer.kind != "dense" else None
    step = (np.abs(weight).max(axis=others, keepdims=True) / 127).astype(np.float32)
    stored = np.clip(np.round(weight / step), -127, 127).astype(np.int8)
    flat = step.reshape(-1)
    bias_step = flat * scales[layer.source].scale[0]
    bias = np.round(layer.bias / bias_step).astype(np.int32)
    kinds = schema.TensorType.INT8, schema.TensorType.INT32
    return [
        file.tensor(names[0], weight.shape, kinds[0], Scale(flat, axis=axis), stored.tobytes()),
        file.tensor(names[1], bias.shape, kinds[1], Scale(bias_step), bias.tobytes()),
    ]


def _as_tflite(layer: Layer) -> tuple[NDArray[np.float32], int]:
    """The weight as TFLite has it, and the axis of its output channels: conv OHWI, depthwise 1HWC, dense OI."""
    if layer.kind == "conv":
        return np.ascontiguousarray(layer.weight.transpose(0, 2, 3, 1)), 0
    if layer.kind == "depthwise":
        return np.ascontiguousarray(layer.weight.transpose(1, 2, 3, 0)), 3
    return layer.weight, 0


def _options(layer: Layer) -> tuple[int, Any]:
    kinds = schema.BuiltinOptions
    if layer.kind == "add":
        return kinds.AddOptions, schema.AddOptionsT()
    if layer.kind == "mean":
        return kinds.ReducerOptions, schema.ReducerOptionsT()
    if layer.kind == "dense":
        return kinds.FullyConnectedOptions, schema.FullyConnectedOptionsT()
    is_depthwise = layer.kind == "depthwise"
    options = schema.DepthwiseConv2DOptionsT() if is_depthwise else schema.Conv2DOptionsT()
    options.strideH = options.strideW = layer.stride
    options.padding = schema.Padding.SAME
    if layer.is_relu6:
        options.fusedActivationFunction = schema.ActivationFunctionType.RELU6
    if is_depthwise:
        options.depthMultiplier = 1
    return (kinds.DepthwiseConv2DOptions if is_depthwise else kinds.Conv2DOptions), options


def _code(operator: int, version: int) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = operator, min(operator, 127), version
    return code


def _calibrate(name: str) -> dict[str, Scale]:
    """Each activation's range over eight pictures, as int8 with zero in the range."""
    interpreter = Interpreter(
        model_content=mobilenet(name),
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,  # XNNPACK keeps none
    )
    interpreter.allocate_tensors()
    names = ["input", *(layer.name for layer in mobilenet_v2.layers(name))]
    numbers = {
        tensor["name"]: tensor["index"] for tensor in interpreter.get_tensor_details() if tensor["name"] in names
    }
    low, high = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    for picture in mobilenet_v2.inputs(name, 8):
        interpreter.set_tensor(numbers["input"], np.ascontiguousarray(picture.transpose(0, 2, 3, 1)))
        interpreter.invoke()
        for tensor, number in numbers.items():
            value = interpreter.get_tensor(number)
            low[tensor], high[tensor] = min(low[tensor], float(value.min())), max(high[tensor], float(value.max()))
    out = {}
    for tensor in names:
        step = (high[tensor] - low[tensor]) / 255
        zero = int(np.clip(round(-128 - low[tensor] / step), -128, 127))
        out[tensor] = Scale(np.array([step], np.float32), zero)
    return out
