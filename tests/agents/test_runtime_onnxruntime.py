"""ONNX Runtime as a subject uses it: real models, made here, in fresh processes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from farm_agent.runtimes import onnxruntime as plugin
from onnx import TensorProto, helper, numpy_helper

from tests.agents import subjects

FLOAT = TensorProto.FLOAT
WEIGHTS = helper.make_tensor("w", FLOAT, [8, 4], np.linspace(-1, 1, 32).tolist())
WEIGHTS_OF_2_KB = numpy_helper.from_array(np.full(512, 7, dtype=np.float32), "w")


def model(nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], weights: Sequence[Any] = ()) -> bytes:
    """An ONNX file over (name, type, shape) inputs and outputs."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*port) for port in inputs],
        [port if isinstance(port, onnx.ValueInfoProto) else helper.make_tensor_value_info(*port) for port in outputs],
        list(weights),
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.custom", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()  # type: ignore[no-any-return]


def one_op(op: str, inputs: Sequence[str], type_in: int = FLOAT, **attributes: Any) -> bytes:
    return model(
        [helper.make_node(op, inputs, ["y"], **attributes)], [("x", type_in, [1, 8])], [("y", FLOAT, None)], [WEIGHTS]
    )


def run(tmp_path: Path, data: bytes, **more: Any) -> subjects.Ended:
    return subjects.run(tmp_path, data, entry="model.onnx", runtime="onnxruntime", **more)


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        pytest.param(b"", "load_error", "model.onnx", id="zero bytes"),
        pytest.param(b"\x08\x08garbage that is no protobuf", "load_error", "Protobuf parsing failed", id="garbage"),
        pytest.param(one_op("MatMul", ["x", "w"])[:60], "load_error", "model.onnx", id="truncated"),
        pytest.param(one_op("Frobnicate", ["x"], domain="ai.custom"), "unsupported_op", "Frobnicate", id="custom op"),
        pytest.param(one_op("MatMul", ["x", "nowhere"]), "load_error", "nowhere", id="graph with a hole"),
        pytest.param(one_op("Sinh", ["x"], TensorProto.BFLOAT16), "load_error", "", id="types that do not fit"),
    ],
)
def test_a_model_that_does_not_load_is_blamed_on_the_artifact(
    tmp_path: Path, data: bytes, kind: str, words: str
) -> None:
    ended = run(tmp_path, data)

    assert (ended.failed["stage"], ended.failed["kind"], ended.failed["blame"]) == ("load", kind, "artifact")
    assert words in ended.failed["text"]
    assert "\n" not in ended.failed["text"]


def test_a_type_without_a_kernel_is_an_unsupported_op(tmp_path: Path) -> None:
    data = model(
        [helper.make_node("Relu", ["x"], ["y"])], [("x", TensorProto.INT16, [4])], [("y", TensorProto.INT16, [4])]
    )

    failed = run(tmp_path, data).failed

    assert failed["kind"] == "unsupported_op"
    assert "Relu" in failed["text"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"thread": 2}, "known: arena, graph_optimization, inter_op_threads"),
        ({"threads": 0}, "at least 1"),
        ({"threads": "2"}, "its type is int"),
        ({"graph_optimization": "most"}, "choose one of all, extended, basic, disabled"),
        ({"providers": ["TensorrtExecutionProvider"]}, "CPUExecutionProvider"),
        ({"provider_options": {"CPUExecutionProvider": 7}}, "a mapping"),
    ],
)
def test_an_option_that_cannot_be_used_is_the_users_input(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    failed = run(tmp_path, one_op("MatMul", ["x", "w"]), options=options).failed

    assert (failed["kind"], failed["blame"]) == ("bad_option", "input")
    assert words in failed["text"]


def test_a_query_that_fails_is_blamed_on_the_artifact_with_its_stage(tmp_path: Path) -> None:
    table = helper.make_tensor("w", FLOAT, [1, 4], [0.0] * 4)
    data = model(
        [helper.make_node("Gather", ["w", "x"], ["y"])], [("x", TensorProto.INT64, [64])], [("y", FLOAT, None)], [table]
    )

    ended = run(tmp_path, data)

    assert (ended.failed["stage"], ended.failed["kind"], ended.failed["blame"]) == ("first", "run_error", "artifact")
    assert "Gather" in ended.failed["text"]
    assert list(ended.stages) == ["interpreter", "runtime", "load"]


def test_the_facts_say_what_ran(tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    data = model([node], [("x", FLOAT, [1, 8])], [("y", FLOAT, [1, 4])], [WEIGHTS])

    facts = run(tmp_path, data, options={"threads": 2}).facts

    assert facts["runtime"]["name"] == "onnxruntime"
    assert facts["runtime"]["telemetry_off"] is True
    assert len(facts["runtime"]["library_sha256"]) == 64
    assert "library" not in facts["runtime"]
    assert facts["providers"] == {
        "asked": ["CPUExecutionProvider"],
        "used": ["CPUExecutionProvider"],
        "fallback": False,
        "note": "",
    }
    assert facts["threads"] == 2
    assert facts["options"]["spinning"] is True
    assert facts["inputs"] == [{"name": "x", "dtype": "float32", "shape": [1, 8], "dynamic": {}}]
    assert facts["harness"]["api"] == "iobinding, 1 of 1 outputs preallocated"
    (output,) = facts["outputs"]
    assert (output["dtype"], output["shape"], output["nan"], output["constant"]) == ("float32", [1, 4], 0, False)


def test_an_asked_provider_that_did_not_start_is_a_reported_fallback() -> None:
    providers = plugin.used_providers(["CUDAExecutionProvider", "CPUExecutionProvider"], ["CPUExecutionProvider"])

    assert providers["fallback"] is True
    assert "CUDAExecutionProvider did not start" in providers["note"]


def test_a_named_dimension_given_for_one_input_holds_for_all(tmp_path: Path) -> None:
    ports = [("ids", TensorProto.INT64, ["batch", "seq"]), ("mask", TensorProto.INT64, ["batch", "seq"])]
    data = model(
        [helper.make_node("Add", ["ids", "mask"], ["sum"])], ports, [("sum", TensorProto.INT64, ["batch", "seq"])]
    )

    facts = run(tmp_path, data, shapes={"ids": [1, 16]}).facts

    assert [port["shape"] for port in facts["inputs"]] == [[1, 16], [1, 16]]
    assert facts["inputs"][1]["dynamic"] == {"batch": 1, "seq": 16}
    assert facts["harness"]["api"] == "iobinding, 1 of 1 outputs preallocated"
    assert facts["outputs"][0]["min"] >= 0
    assert facts["outputs"][0]["max"] <= 2


@pytest.mark.parametrize("scope", ["invoke", "end_to_end"])
def test_an_output_whose_shape_depends_on_values_is_left_to_the_runtime(tmp_path: Path, scope: str) -> None:
    data = model(
        [helper.make_node("NonZero", ["x"], ["y"])], [("x", FLOAT, [4, 4])], [("y", TensorProto.INT64, [2, None])]
    )

    facts = run(tmp_path, data, latency_scope=scope).facts

    assert facts["harness"]["api"] == "iobinding, 0 of 1 outputs preallocated"
    assert facts["outputs"][0]["shape"] == [2, 16]
    assert facts["latency_scope"] == scope


def test_an_output_that_is_no_tensor_still_runs(tmp_path: Path) -> None:
    sequence = helper.make_tensor_sequence_value_info("y", FLOAT, None)
    data = model([helper.make_node("SequenceConstruct", ["x", "x"], ["y"])], [("x", FLOAT, [2])], [sequence])

    facts = run(tmp_path, data).facts

    assert facts["harness"]["api"] == "session.run"
    assert (facts["outputs"][0]["dtype"], facts["outputs"][0]["nan"]) == ("list", None)


@pytest.mark.parametrize(
    ("op", "seen", "words"),
    [
        ("Log", {"nan": 8, "inf": 0}, "are NaN"),
        ("Exp", {"nan": 0, "inf": 8}, "are infinite"),
        ("Sign", {"constant": True}, "all 8 values are"),
    ],
)
def test_nan_infinite_and_constant_outputs_are_facts_with_a_warning(
    tmp_path: Path, op: str, seen: dict[str, Any], words: str
) -> None:
    far = helper.make_tensor("w", FLOAT, [1], [-1000.0 if op == "Log" else 1000.0])
    nodes = [helper.make_node("Add", ["x", "w"], ["z"]), helper.make_node(op, ["z"], ["y"])]
    data = model(nodes, [("x", FLOAT, [8])], [("y", FLOAT, [8])], [far])

    ended = run(tmp_path, data)

    assert {key: ended.facts["outputs"][0][key] for key in seen} == seen
    (warning,) = ended.warnings
    assert words in warning


def test_copies_in_and_out_leave_the_outputs_as_they_are(tmp_path: Path) -> None:
    data = one_op("MatMul", ["x", "w"])

    outputs = [run(tmp_path / scope, data, latency_scope=scope).facts["outputs"] for scope in ("invoke", "end_to_end")]

    assert outputs[0] == outputs[1]


def test_weights_in_a_file_beside_the_model_are_found(tmp_path: Path) -> None:
    loaded = onnx.load_from_string(
        model(
            [helper.make_node("Add", ["x", "w"], ["y"])],
            [("x", FLOAT, [512])],
            [("y", FLOAT, [512])],
            [WEIGHTS_OF_2_KB],
        )
    )
    onnx.save_model(
        loaded, tmp_path / "made.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    beside = {"weights.bin": (tmp_path / "weights.bin").read_bytes()}

    facts = run(tmp_path, (tmp_path / "made.onnx").read_bytes(), beside=beside).facts

    assert facts["outputs"][0]["min"] >= 7.0
