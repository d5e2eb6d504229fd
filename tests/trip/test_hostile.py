"""Every hostile model over the whole path: it ends as FAILED with a reason a person can use, and the board lives on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from farm import domain, show
from farm.store import results
from tests.faults.conftest import is_clean
from tests.trip.conftest import Trip

MODELS = Path(__file__).parents[2] / "examples" / "models"
LIMITS = {"load_s": 6.0, "run_s": 9.0, "memory_bytes": 700_000_000}

CODES = {
    "truncated.onnx": {"load_error"},
    "truncated.tflite": {"load_error", "crash"},
    "picture.onnx": {"load_error"},
    "text.onnx": {"load_error"},
    "wrong_extension.tflite": {"load_error"},
    "zero_bytes.onnx": {"load_error"},
    "zero_bytes.tflite": {"load_error"},
    "unsupported_op.onnx": {"unsupported_op"},
    "endless_loop.onnx": {"timeout_load"},
    "alloc_without_bound.onnx": {"out_of_memory", "memory"},
    "header_3gb.onnx": {"load_error", "memory", "out_of_memory"},
    "zeros_3gb.onnx": {"memory", "out_of_memory"},
    "hang.fake": {"timeout_run"},
    "hang_in_load.fake": {"timeout_load"},
    "crash.fake": {"crash"},
    "oom.fake": {"out_of_memory", "memory"},
    "flood.fake": {"flood"},
    "garbage.fake": {"garbage"},
}
RUNS = {"nan_output.onnx": "nan", "constant_output.onnx": "still computes something"}


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The hostile models, made once."""
    folder = tmp_path_factory.mktemp("models")
    sys.path.insert(0, str(MODELS))
    try:
        import make

        make.make(folder, ["hostile/*"])
    finally:
        sys.path.remove(str(MODELS))
    return folder / "hostile"


def test_every_hostile_model_has_its_line_here(hostile: Path) -> None:
    assert {path.name for path in hostile.iterdir()} == {*CODES, *RUNS, "fork_bomb.fake"}


@pytest.mark.parametrize("name", CODES)
def test_a_hostile_model_is_failed_with_its_reason(trip: Trip, hostile: Path, name: str) -> None:
    board = trip.local()
    run = trip.bench(hostile / name, board, limits=LIMITS)
    assert run.outcome is domain.Outcome.FAILED, run.reasons
    (reason,) = run.reasons
    assert reason.code in CODES[name], reason
    assert reason.blame == "artifact"
    assert len(reason.text) > 60
    assert is_clean(Path(board.home))


@pytest.mark.parametrize(("name", "word"), RUNS.items())
def test_a_model_with_senseless_outputs_is_measured_with_a_warning(
    trip: Trip, hostile: Path, name: str, word: str
) -> None:
    run = trip.bench(hostile / name, trip.local())
    assert run.outcome is domain.Outcome.OK
    assert any(word in warning.lower() for warning in show.run_json(trip.store, run.id)["warnings"])


def test_a_fork_bomb_is_contained_and_leaves_no_process(trip: Trip, hostile: Path) -> None:
    board = trip.local()
    run = trip.bench(hostile / "fork_bomb.fake", board, limits={**LIMITS, "processes": 32})
    assert run.outcome in (domain.Outcome.OK, domain.Outcome.FAILED)
    assert is_clean(Path(board.home))
    assert len(results.blocks_of(trip.store, run.id)) == 2
    assert trip.bench(trip.fake(), board).outcome is domain.Outcome.OK
