"""MobileNetV2 with seeded random weights, as layers that any format can be made of.

Source: https://arxiv.org/abs/1801.04381, table 2. Batch normalisation is folded away, as a deployed model has it.
Padding is TensorFlow's SAME, so that the ONNX and the TFLite file of one size compute the same.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float32]
_PAPER = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
_SHORT = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 2, 2), (6, 64, 1, 2))


@dataclass(frozen=True)
class Size:
    """One size of the network: pixels of a side, width of its layers, and (expansion, channels, repeats, stride)."""

    pixels: int
    width: float
    blocks: tuple[tuple[int, int, int, int], ...]
    head: int
    classes: int


SIZES = {
    "mobilenet_v2_tiny": Size(32, 0.5, _SHORT, 256, 100),
    "mobilenet_v2_small": Size(64, 0.35, _PAPER, 512, 100),
    "mobilenet_v2": Size(224, 1.0, _PAPER, 1280, 1000),
}


@dataclass(frozen=True)
class Layer:
    """One step: it takes the tensor `source` and makes the tensor `name`."""

    name: str
    kind: str  # conv | depthwise | add | mean | dense
    source: str
    other: str = ""  # the second tensor of `add`
    weight: Weights = field(default_factory=lambda: np.zeros(0, np.float32))  # conv and depthwise OIHW, dense OI
    bias: Weights = field(default_factory=lambda: np.zeros(0, np.float32))
    stride: int = 1
    is_relu6: bool = False
    shape: tuple[int, ...] = ()  # of the output: (channels, height, width) or (channels,)


def layers(name: str) -> list[Layer]:
    """Every layer of one size, in order; the first takes `input`, the last makes `logits`."""
    size = SIZES[name]
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    net = _Net(rng, size.pixels)
    x = net.conv("input", 3, _channels(32, size.width), 3, 2)
    for expansion, channels, repeats, stride in size.blocks:
        for i in range(repeats):
            x = net.bottleneck(x, expansion, _channels(channels, size.width), stride if i == 0 else 1)
    x = net.conv(x, net.channels, size.head, 1, 1)
    net.layers.append(Layer("pooled", "mean", x, shape=(size.head,)))
    weight = rng.normal(0, (1 / size.head) ** 0.5, (size.classes, size.head)).astype(np.float32)
    bias = rng.normal(0, 0.1, size.classes).astype(np.float32)
    net.layers.append(Layer("logits", "dense", "pooled", weight=weight, bias=bias, shape=(size.classes,)))
    return net.layers


def inputs(name: str, count: int, seed: int = 0) -> list[Weights]:
    """Seeded pictures in [-1, 1), NCHW: in patches, since to a deep network all white noise is the same."""
    pixels = SIZES[name].pixels
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        coarse = rng.uniform(-1, 1, (1, 3, 8, 8)).astype(np.float32)
        out.append(np.repeat(np.repeat(coarse, pixels // 8, axis=2), pixels // 8, axis=3))
    return out


class _Net:
    def __init__(self, rng: np.random.Generator, pixels: int) -> None:
        self.rng, self.pixels, self.channels = rng, pixels, 3
        self.layers: list[Layer] = []

    def conv(self, source: str, before: int, after: int, kernel: int, stride: int, is_relu6: bool = True) -> str:
        return self._add("conv", source, (after, before, kernel, kernel), stride, is_relu6, before * kernel * kernel)

    def bottleneck(self, source: str, expansion: int, channels: int, stride: int) -> str:
        before, x = self.channels, source
        if expansion != 1:
            x = self.conv(x, before, before * expansion, 1, 1)
        x = self._add("depthwise", x, (before * expansion, 1, 3, 3), stride, True, 9)
        x = self.conv(x, before * expansion, channels, 1, 1, is_relu6=False)
        if stride == 1 and before == channels:
            name = f"add{len(self.layers)}"
            self.layers.append(Layer(name, "add", source, x, shape=(channels, self.pixels, self.pixels)))
            return name
        return x

    def _add(self, kind: str, source: str, dims: tuple[int, ...], stride: int, is_relu6: bool, fan_in: int) -> str:
        weight = self.rng.normal(0, (2 / fan_in) ** 0.5, dims).astype(np.float32)
        bias = self.rng.normal(0, 0.1, dims[0]).astype(np.float32)
        self.pixels, self.channels = -(-self.pixels // stride), dims[0]
        shape = (dims[0], self.pixels, self.pixels)
        name = f"{kind}{len(self.layers)}"
        self.layers.append(Layer(name, kind, source, "", weight, bias, stride, is_relu6, shape))
        return name


def _channels(channels: int, width: float) -> int:
    """Channels at that width: a multiple of 8, never less than nine tenths, as the paper's own code rounds."""
    scaled = channels * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded
