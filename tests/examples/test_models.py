"""The models that tests and the demo measure: good ones compute something, hostile ones are as bad as they claim."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import yaml
from ai_edge_litert.interpreter import Interpreter
from farm_agent import wire
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
MAKE = ROOT / "examples" / "models" / "make.py"
TINY = ("mobilenet_v2_tiny*", "encoder*", "steady.fake", "hostile/*")
RUN_UNDER_LIMITS = """
import resource, signal, sys
import numpy, onnxruntime
used = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (used + (512 << 20),) * 2)
signal.alarm(int(sys.argv[2]))
options = onnxruntime.SessionOptions()
options.intra_op_num_threads, options.log_severity_level = 1, 4
session = onnxruntime.InferenceSession(sys.argv[1], options)
print("loaded", flush=True)
session.run(None, {"input": numpy.ones((1, 16), numpy.float32)})
print("ran", flush=True)
"""


def run_make(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as a person types it."""
    return subprocess.run(
        [sys.executable, str(MAKE), "--out", str(out), *arguments], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny, the encoder and the hostile models."""
    out = tmp_path_factory.mktemp("made")
    done = run_make(out, "--only", *TINY)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def pictures() -> list[NDArray[np.float32]]:
    """Eight inputs that no calibration has seen, NCHW."""
    rng = np.random.default_rng(42)
    coarse = rng.uniform(-1, 1, (8, 1, 3, 8, 8)).astype(np.float32)
    return list(coarse.repeat(4, axis=3).repeat(4, axis=4))


def onnx_logits(path: Path, pictures: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """What an ONNX file makes of each picture."""
    session = onnxruntime.InferenceSession(path)
    return np.concatenate([np.asarray(session.run(None, {"input": picture})[0]) for picture in pictures])


def tflite_logits(path: Path, pictures: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """What a TFLite file makes of each picture, in real numbers where it computes in int8."""
    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    put, get = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    out = []
    for picture in pictures:
        value: NDArray[Any] = np.ascontiguousarray(picture.transpose(0, 2, 3, 1))
        if put["dtype"] == np.int8:
            scale, zero = put["quantization"]
            value = np.clip(np.round(value / scale) + zero, -128, 127).astype(np.int8)
        interpreter.set_tensor(put["index"], value)
        interpreter.invoke()
        result = interpreter.get_tensor(get["index"]).astype(np.float32)
        if get["dtype"] == np.int8:
            scale, zero = get["quantization"]
            result = (result - zero) * scale
        out.append(result)
    return np.concatenate(out)


def cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """1.0 where both point the same way."""
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


def ends_under_limits(path: Path, limit_s: int = 60) -> subprocess.CompletedProcess[str]:
    """How a process with 512 MB and so many seconds to spare ends on this model."""
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-c", RUN_UNDER_LIMITS, str(path), str(limit_s)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("truncated.onnx", "INVALID_PROTOBUF"),
        ("picture.onnx", "INVALID_PROTOBUF"),
        ("text.onnx", "INVALID_PROTOBUF"),
        ("zero_bytes.onnx", "No graph was found"),
        ("unsupported_op.onnx", "com.example.vendor:Frobnicate"),
        ("header_3gb.onnx", "3221225472 bytes"),
    ],
)
def test_a_hostile_file_does_not_load(made: Path, name: str, said: str) -> None:
    done = ends_under_limits(made / "hostile" / name)
    assert done.returncode == 1
    assert done.stdout == ""
    assert said in done.stderr


@pytest.mark.parametrize("name", ["alloc_without_bound.onnx", "zeros_3gb.onnx"])
def test_a_greedy_model_loads_and_then_takes_more_memory_than_there_is(made: Path, name: str) -> None:
    done = ends_under_limits(made / "hostile" / name)
    assert done.returncode == 1
    assert done.stdout == "loaded\n"
    assert "alloc" in done.stderr


def test_an_endless_model_loads_and_is_ended_by_the_clock(made: Path) -> None:
    done = ends_under_limits(made / "hostile" / "endless_loop.onnx", limit_s=2)
    assert done.returncode == -14
    assert done.stdout == "loaded\n"


@pytest.mark.parametrize("name", ["truncated.tflite", "zero_bytes.tflite", "wrong_extension.tflite"])
def test_a_hostile_tflite_file_does_not_load(made: Path, name: str) -> None:
    with pytest.raises((ValueError, RuntimeError)):
        Interpreter(model_path=str(made / "hostile" / name)).allocate_tensors()


@pytest.mark.parametrize(("name", "first"), [("nan_output.onnx", float("nan")), ("constant_output.onnx", 3.0)])
def test_a_senseless_model_runs_and_gives_what_its_name_says(made: Path, name: str, first: float) -> None:
    session = onnxruntime.InferenceSession(made / "hostile" / name)
    for value in (0.5, -2.0):
        result = np.asarray(session.run(None, {"input": np.full((1, 16), value, np.float32)})[0])
        assert np.array_equal(result, np.full((1, 16), first, np.float32), equal_nan=True)


def test_every_fake_model_names_a_way_to_fail_that_the_runtime_knows(made: Path) -> None:
    from farm_agent.runtimes import fake

    files = sorted(made.rglob("*.fake"))
    assert len(files) == 8
    for path in files:
        how = json.loads(path.read_bytes()).get("misbehave", {}).get("how", "raise")
        assert how in fake.HOWS, path


def test_both_formats_compute_the_same(made: Path, pictures: list[NDArray[np.float32]]) -> None:
    onnx = onnx_logits(made / "mobilenet_v2_tiny.onnx", pictures)
    assert onnx.shape == (8, 100)
    np.testing.assert_allclose(tflite_logits(made / "mobilenet_v2_tiny.tflite", pictures), onnx, atol=1e-4)


def test_a_good_model_tells_its_inputs_apart(made: Path, pictures: list[NDArray[np.float32]]) -> None:
    logits = onnx_logits(made / "mobilenet_v2_tiny.onnx", pictures)
    assert np.isfinite(logits).all()
    assert logits.std(axis=0).mean() > 0.1  # over inputs
    assert logits.std(axis=1).mean() > 0.5  # over classes


def test_int8_stays_close_to_float(made: Path, pictures: list[NDArray[np.float32]]) -> None:
    exact = onnx_logits(made / "mobilenet_v2_tiny.onnx", pictures)
    for rounded in (
        onnx_logits(made / "mobilenet_v2_tiny_int8.onnx", pictures),
        tflite_logits(made / "mobilenet_v2_tiny_int8.tflite", pictures),
    ):
        assert cosine(exact, rounded) > 0.99
        assert not np.array_equal(exact, rounded)


def test_int8_files_are_much_smaller(made: Path) -> None:
    for suffix in ("onnx", "tflite"):
        small, large = (made / f"mobilenet_v2_tiny{kind}.{suffix}" for kind in ("_int8", ""))
        assert small.stat().st_size < large.stat().st_size / 2


@pytest.mark.parametrize("shape", [(1, 1), (3, 16), (1, 128)])
def test_the_encoder_takes_any_batch_and_length(made: Path, shape: tuple[int, int]) -> None:
    tokens = np.random.default_rng(0).integers(0, 1000, shape)
    session = onnxruntime.InferenceSession(made / "encoder.onnx")
    states, pooled = (np.asarray(output) for output in session.run(None, {"token_ids": tokens}))
    assert states.shape == (*shape, 128)
    assert pooled.shape == (shape[0], 128)
    assert np.isfinite(states).all()
    assert states.std() > 0.5


def test_an_encoder_with_its_weights_beside_it_computes_the_same(made: Path) -> None:
    tokens = np.arange(32).reshape(2, 16)
    paths = (made / "encoder.onnx", made / "encoder_external" / "model.onnx")
    one, two = (onnxruntime.InferenceSession(path).run(None, {"token_ids": tokens}) for path in paths)
    np.testing.assert_array_equal(one[0], two[0])
    assert paths[1].stat().st_size < 50_000
    assert (made / "encoder_external" / "weights.bin").stat().st_size > 2_000_000


def test_every_file_can_be_read_by_another_user(made: Path) -> None:
    assert {path.stat().st_mode & 0o777 for path in made.rglob("*") if path.is_file()} == {0o644}
    assert not list(made.rglob("*.part"))


def test_making_again_makes_nothing_and_says_so(made: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    done = run_make(made, "--only", *TINY)
    assert done.returncode == 0
    assert done.stderr.count("up to date") == len(done.stderr.splitlines()) - 1
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == before


def test_a_lost_file_is_made_again_with_the_same_bytes(made: Path) -> None:
    names = ["mobilenet_v2_tiny.onnx", "mobilenet_v2_tiny_int8.onnx", "mobilenet_v2_tiny_int8.tflite"]
    before = [hashlib.sha256((made / name).read_bytes()).hexdigest() for name in names]
    for name in names:
        (made / name).unlink()
    assert run_make(made, "--only", "mobilenet_v2_tiny*").returncode == 0
    assert [hashlib.sha256((made / name).read_bytes()).hexdigest() for name in names] == before


def test_a_name_that_matches_nothing_is_refused_and_makes_nothing(tmp_path: Path) -> None:
    done = run_make(tmp_path / "out", "--only", "resnet*")
    assert done.returncode == 2
    assert done.stderr == "No model matches 'resnet*'. --list shows the 36 names there are.\n"
    assert not (tmp_path / "out").exists()


def test_the_list_has_every_model_and_makes_none(tmp_path: Path) -> None:
    done = run_make(tmp_path / "out", "--list")
    names = done.stdout.splitlines()
    assert {"mobilenet_v2.onnx", "mobilenet_v2_int8.tflite", "encoder_external", "hostile/header_3gb.onnx"} <= set(
        names
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("path", sorted((ROOT / "examples" / "plans").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_sample_plan_is_a_plan(path: Path) -> None:
    plan = wire.plan_from(yaml.safe_load(path.read_text()))
    assert plan.runtime in ("onnxruntime", "litert")
