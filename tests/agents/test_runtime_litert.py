"""LiteRT as a subject uses it: real models, made here, in fresh processes."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flatbuffers  # type: ignore[import-untyped]
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from farm_agent.runtimes import litert as plugin

from tests.agents import subjects

FLOAT32, INT8, INT32 = schema.TensorType.FLOAT32, schema.TensorType.INT8, schema.TensorType.INT32
ADD, LOG, EXP = schema.BuiltinOperator.ADD, schema.BuiltinOperator.LOG, schema.BuiltinOperator.EXP


def model(op: int = ADD, *, dtype: int = FLOAT32, signature: Sequence[int] = (), custom: str = "") -> bytes:
    """y = op(x), or x + x, on [1, 4]; `signature` declares dynamic dimensions as -1."""
    tensors = []
    for name in ("x", "y"):
        tensor = schema.TensorT()
        tensor.shape, tensor.type, tensor.buffer, tensor.name = [1, 4], dtype, 0, name
        tensor.shapeSignature = list(signature) or None
        tensors.append(tensor)
    code = schema.OperatorCodeT()
    code.builtinCode = schema.BuiltinOperator.CUSTOM if custom else op
    code.deprecatedBuiltinCode, code.version, code.customCode = min(code.builtinCode, 127), 1, custom or None
    node = schema.OperatorT()
    node.opcodeIndex, node.inputs, node.outputs = 0, [0, 0] if op == ADD else [0], [1]
    if op == ADD and not custom:
        node.builtinOptionsType, node.builtinOptions = schema.BuiltinOptions.AddOptions, schema.AddOptionsT()
    graph = schema.SubGraphT()
    graph.tensors, graph.inputs, graph.outputs, graph.operators = tensors, [0], [1], [node]
    whole = schema.ModelT()
    whole.version, whole.operatorCodes, whole.subgraphs, whole.buffers = 3, [code], [graph], [schema.BufferT()]
    builder = flatbuffers.Builder(512)
    builder.Finish(whole.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def run(tmp_path: Path, data: bytes, **more: Any) -> subjects.Ended:
    return subjects.run(tmp_path, data, entry="model.tflite", runtime="litert", **more)


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        pytest.param(b"", "load_error", "mmap of size 0", id="zero bytes"),
        pytest.param(b"garbage" * 20, "load_error", "not a valid Flatbuffer", id="garbage"),
        pytest.param(model()[:100], "load_error", "not a valid Flatbuffer", id="truncated"),
        pytest.param(model(custom="Frobnicate"), "unsupported_op", "Frobnicate", id="custom op"),
    ],
)
def test_a_model_that_does_not_load_is_blamed_on_the_artifact(
    tmp_path: Path, data: bytes, kind: str, words: str
) -> None:
    failed = run(tmp_path, data).failed

    assert (failed["stage"], failed["kind"], failed["blame"]) == ("load", kind, "artifact")
    assert words in failed["text"]


def test_an_unknown_option_is_the_users_input(tmp_path: Path) -> None:
    failed = run(tmp_path, model(), options={"delegate": "gpu"}).failed

    assert (failed["kind"], failed["blame"]) == ("bad_option", "input")
    assert "known: threads, xnnpack" in failed["text"]


@pytest.mark.parametrize(
    ("is_asked", "used"), [(True, ["xnnpack", "cpu"]), (False, ["cpu"])], ids=["xnnpack", "built-in kernels"]
)
def test_the_facts_say_what_ran(tmp_path: Path, is_asked: bool, used: list[str]) -> None:
    facts = run(tmp_path, model(), options={"xnnpack": is_asked, "threads": 2}).facts

    assert (facts["providers"]["used"], facts["providers"]["fallback"]) == (used, False)
    assert facts["runtime"]["name"] == "litert"
    assert facts["runtime"]["build"] == "ai_edge_litert"
    assert len(facts["runtime"]["library_sha256"]) == 64
    assert facts["threads"] == 2
    assert facts["inputs"] == [{"name": "x", "dtype": "float32", "shape": [1, 4], "dynamic": {}}]
    assert facts["outputs"][0]["shape"] == [1, 4]
    assert facts["harness"]["api"] == "interpreter.invoke"


def test_a_model_that_xnnpack_does_not_take_is_a_reported_fallback(tmp_path: Path) -> None:
    facts = run(tmp_path, model(dtype=INT32)).facts

    assert facts["providers"]["used"] == ["cpu"]
    assert facts["providers"]["fallback"] is True


def test_a_package_that_does_not_tell_what_it_delegated_is_not_guessed_at() -> None:
    assert plugin.used_providers(["xnnpack", "cpu"], None, None)["used"] is None


def test_a_dynamic_dimension_is_one_or_as_the_plan_says(tmp_path: Path) -> None:
    data = model(signature=[-1, 4])

    by_itself = run(tmp_path / "1", data).facts["inputs"][0]
    given = run(tmp_path / "2", data, shapes={"x": [8, 4]}).facts

    assert (by_itself["shape"], by_itself["dynamic"]) == ([1, 4], {"axis 0": 1})
    assert (given["inputs"][0]["shape"], given["inputs"][0]["dynamic"]) == ([8, 4], {"axis 0": 8})
    assert given["outputs"][0]["shape"] == [8, 4]


def test_a_shape_that_the_model_does_not_declare_is_the_users_input(tmp_path: Path) -> None:
    failed = run(tmp_path, model(signature=[-1, 4]), shapes={"x": [8, 5]}).failed

    assert (failed["stage"], failed["kind"], failed["blame"]) == ("load", "bad_shape", "input")
    assert "'x'" in failed["text"]
    assert "['?', 4]" in failed["text"]


def test_the_users_npz_is_what_the_model_sees(tmp_path: Path) -> None:
    np.savez(tmp_path / "feed.npz", whatever=np.array([[1, 2, 3, 4]], dtype=np.float32))

    for scope in ("invoke", "end_to_end"):
        facts = run(tmp_path / scope, model(), feed=tmp_path / "feed.npz", latency_scope=scope).facts
        assert facts["feed"] == {"kind": "npz"}
        assert (facts["outputs"][0]["min"], facts["outputs"][0]["max"]) == (2.0, 8.0)


def test_nan_and_infinite_outputs_are_facts(tmp_path: Path) -> None:
    np.savez(tmp_path / "feed.npz", np.array([[-1, -1, 0, 1]], dtype=np.float32))

    ended = run(tmp_path, model(LOG), feed=tmp_path / "feed.npz")

    output = ended.facts["outputs"][0]
    assert (output["nan"], output["inf"], output["min"], output["max"]) == (2, 1, 0.0, 0.0)
    assert len(ended.warnings) == 2


def test_the_probes_tiny_model_is_a_tflite_file() -> None:
    assert zlib.decompress(base64.b64decode(plugin._TINY_MODEL))[4:8] == b"TFL3"
