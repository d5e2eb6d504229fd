"""What a person may get wrong: each ends with exit code 2 (4 for the lab's), names the thing and says what to do."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Typed = Callable[..., Any]


@pytest.fixture
def model(home: Path) -> Path:
    """A model that a runtime knows."""
    path = home / "m.fake"
    path.write_text('{"latency_us": 200}')
    return path


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--board", "pi"], ["Board 'pi'", "there is no inventory", "--inventory"]),
        (["--runtime", "onxruntime"], ["'onxruntime'", "did you mean 'onnxruntime'"]),
        (["--scenario", "pace"], ["'pace'", "did you mean 'paced'"]),
        (["--option", "thread=2"], ["'thread'", "threads"]),
        (["--option", "threads"], ["--option 'threads'", "NAME=VALUE", "--option threads=1"]),
        (["--scenario", "paced", "--scenario-option", "fsp=30"], ["'fsp'", "fps"]),
        (["--shape", "input=1,x"], ["--shape 'input=1,x'", "--shape input=1,3,224,224"]),
        (["--shape", "1,3"], ["--shape '1,3'", "NAME=N,N"]),
        (["--memory-limit", "lots"], ["--memory-limit 'lots'", "512MB"]),
        (["--processes", "0"], ["plan.processes is 0", "positive"]),
        (["--processes", "five"], ["--processes", "integer"]),
        (["--cache", "tepid"], ["'tepid'", "cold, warm"]),
        (["--feed", "m.fake"], ["'m.fake'", ".npz"]),
        (["--plan", "none.yaml"], ["'none.yaml'", "No such file", "--plan"]),
        (["--entry"], ["--entry", "requires an argument", "--help"]),
        (["--inventory", "none.yaml"], ["none.yaml", "No such file"]),
        (["--duraton-s", "3"], ["--duraton-s", "--duration-s"]),
        (["--plot", "none/x.png"], ["'none/x.png'", "No such file or directory"]),
        (["--plot", "x.bmp"], ["'x.bmp'", ".png, .svg, .pdf"]),
        (["--plot", "folder.png"], ["'folder.png'", "a folder has that name"]),
    ],
)
def test_a_wrong_word_of_bench_is_named_before_anything_is_measured(
    typed: Typed, model: Path, words: list[str], told: list[str]
) -> None:
    (model.parent / "folder.png").mkdir()
    ended = typed("bench", model, *words)
    assert (ended.code, ended.out) == (2, "")
    assert [part for part in told if part not in ended.err] == []
    assert "process 1 of" not in ended.err


def test_a_missing_model_is_told_with_the_nearest_name(typed: Typed, home: Path) -> None:
    (home / "mobilenet.onnx").write_bytes(b"x")
    ended = typed("bench", "mobilnet.onnx")
    assert ended.code == 2
    assert "Model file 'mobilnet.onnx' was not found" in ended.err
    assert "Did you mean 'mobilenet.onnx'?" in ended.err


def test_a_link_that_leads_nowhere_is_told_as_one(typed: Typed, home: Path) -> None:
    (home / "m.onnx").symlink_to(home / "gone.onnx")
    ended = typed("bench", "m.onnx")
    assert (ended.code, "a link that leads nowhere" in ended.err) == (2, True)


def test_an_empty_folder_is_no_model(typed: Typed, home: Path) -> None:
    (home / "empty").mkdir()
    ended = typed("bench", "empty")
    assert (ended.code, "'empty' holds 0 files" in ended.err) == (2, True)


def test_a_folder_of_two_models_asks_for_the_entry(typed: Typed, home: Path) -> None:
    for name in ("a.fake", "b.fake"):
        (home / name).write_text("{}")
    ended = typed("bench", home)
    assert ended.code == 2
    assert "--entry FILE" in ended.err


def test_a_suffix_that_no_runtime_knows_lists_those_that_are_known(typed: Typed, home: Path) -> None:
    (home / "m.pt").write_bytes(b"x")
    ended = typed("bench", "m.pt")
    assert (ended.code, ".onnx (onnxruntime)" in ended.err, "--runtime" in ended.err) == (2, True, True)


@pytest.fixture
def powerless(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home that is ours while we have no power over other people's files: root is set aside, if we are root."""
    typed("runs")  # what is imported late may be out of reach afterwards
    typed("bench", "none.fake")
    folder = Path(tempfile.mkdtemp())
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(folder)
    user = os.geteuid()
    if user == 0:
        os.chown(folder, 65534, 65534)
        os.seteuid(65534)
    try:
        yield folder
    finally:
        os.seteuid(user)
        monkeypatch.undo()
        shutil.rmtree(folder)


def test_a_model_that_may_not_be_read_is_told_so(typed: Typed, powerless: Path) -> None:
    model = powerless / "m.fake"
    model.write_text("{}")
    model.chmod(0)
    ended = typed("bench", model, "--data-dir", powerless / "data")
    assert ended.code == 2
    assert str(model) in ended.err
    assert "cannot be read: permission denied" in ended.err.lower()


def test_a_data_folder_that_may_not_be_written_is_told_so(typed: Typed, powerless: Path) -> None:
    (powerless / "data").mkdir()
    (powerless / "data").chmod(0o500)
    ended = typed("runs", "--data-dir", powerless / "data")
    assert ended.code == 4
    assert str(powerless / "data" / "farm.db") in ended.err
    assert "permissions" in ended.err


def test_a_data_folder_that_cannot_be_made_is_told_so(typed: Typed, home: Path) -> None:
    (home / "file").write_text("")
    ended = typed("runs", "--data-dir", home / "file" / "data")
    assert (ended.code, "--data-dir" in ended.err) == (4, True)


def test_every_mistake_of_a_plan_file_is_told_with_its_line(typed: Typed, model: Path) -> None:
    model.with_name("p.yaml").write_text("duration_s: 5\nproceses: 3\ncache: tepid\noptions: 3\nduration_s: 6\n")
    ended = typed("bench", model, "--plan", "p.yaml")
    assert ended.code == 2
    assert ended.err == (
        "Error: p.yaml:2: a Plan has no field 'proceses'. Did you mean 'processes'?\n"
        "p.yaml:3: plan.cache is 'tepid'; allowed: cold, warm.\n"
        "p.yaml:4: plan.options is 3; a mapping of names to values is needed.\n"
        "p.yaml:5: field 'duration_s' is given twice.\n"
        "docs/plans.md lists every field of a Plan.\n"
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [1\nb", "p.yaml:2: not valid YAML"),
        ("- 1\n", "p.yaml:1: this is a list"),
        ("\nfast\n", "p.yaml:2: this is a single value"),
        ("a: \x00", "p.yaml:1: not valid YAML"),
    ],
)
def test_a_plan_file_of_another_shape_is_told_with_its_line(typed: Typed, model: Path, text: str, told: str) -> None:
    model.with_name("p.yaml").write_text(text)
    ended = typed("bench", model, "--plan", "p.yaml")
    assert (ended.code, told in ended.err) == (2, True)


def test_a_plan_file_that_is_no_text_is_told_so(typed: Typed, model: Path) -> None:
    model.with_name("p.yaml").write_bytes(b"\xff\xfe\x00")
    ended = typed("bench", model, "--plan", "p.yaml")
    assert (ended.code, "'p.yaml' is not text" in ended.err) == (2, True)


def test_a_mistake_in_the_inventory_is_told_with_its_line(typed: Typed, home: Path) -> None:
    (home / "inventory.yaml").write_text("version: 1\nboards:\n  - name: pi\n    adress: a@b\n")
    ended = typed("boards")
    assert (ended.code, "inventory.yaml:4" in ended.err, "did you mean 'address'" in ended.err) == (2, True, True)


def test_a_database_url_of_another_kind_is_refused(typed: Typed) -> None:
    assert typed("runs", "--database-url", "mysql://db/farm").code == 2


def test_a_database_that_does_not_answer_never_shows_its_password(typed: Typed) -> None:
    ended = typed("runs", "--database-url", "postgresql+psycopg://farm:s3cret@127.0.0.1:1/farm")
    assert (ended.code, "s3cret" in ended.err, "farm:***@127.0.0.1" in ended.err) == (4, False, True)


@pytest.mark.parametrize(
    "words", [["show"], ["compare", "last"], ["plot", "run", "--out", "x.png"], ["export", "--out", "o"]]
)
def test_a_run_that_is_not_there_is_told(typed: Typed, words: list[str]) -> None:
    nothing_yet = typed(*words, "last")
    assert (nothing_yet.code, "No run is stored yet" in nothing_yet.err) == (2, True)
    assert not Path("x.png").exists()


def test_with_json_the_error_is_one_object_on_stdout_too(typed: Typed) -> None:
    ended = typed("show", "last", "--json")
    assert json.loads(ended.out) == {
        "error": {
            "kind": "NotFound",
            "message": "No run is stored yet, so there is no last one. Measure one: farm bench MODEL.",
            "exit_code": 2,
        }
    }
