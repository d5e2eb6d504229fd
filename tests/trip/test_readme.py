"""The README's part on the farm, word for word: what a new user types is what runs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from farm.settings import Settings
from tests.farm.test_up import gone, left_of
from tests.junit import check_schema, facts

ROOT = Path(__file__).parents[2]
PASSES, FAILS = "examples/models/made/mobilenet_v2.onnx", "examples/models/made/hostile/truncated.onnx"


def _block() -> str:
    """The first commands below the heading."""
    (part,) = re.findall(r"^## The farm\n(.*?)^## ", (ROOT / "README.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return str(re.findall(r"^```sh\n(.*?)^```", part, re.DOTALL | re.MULTILINE)[0])


def _with_one_that_fails(block: str) -> str:
    """The same commands, and the submit once more with a model that is cut short."""
    (submit,) = [line for line in block.splitlines() if line.startswith("farm submit")]
    assert PASSES in submit
    assert "junit.xml" in submit
    return block + submit.replace(PASSES, FAILS).replace("junit.xml", "failed.xml") + "\n"


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@dataclass
class Typed:
    """What a new user saw, and where."""

    out: str
    err: str
    folder: Path


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Typed]:
    """All of it typed once, in an empty home and a folder that looks like a checkout after `make models`.

    The port is the only thing that is not the user's: the setting `api_port` names one that is free.
    """
    folder = tmp_path_factory.mktemp("readme")
    shutil.copy(ROOT / "inventory.yaml", folder)
    make = [sys.executable, str(ROOT / "examples" / "models" / "make.py")]
    make += ["--out", str(folder / "examples" / "models" / "made")]
    names = [name.removeprefix("examples/models/made/") for name in (PASSES, FAILS)]
    subprocess.run([*make, "--only", *names], check=True, capture_output=True, timeout=60)
    ours = ("FARM_", "XDG_", "GITHUB_", "CI_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment |= {"HOME": str(folder), "FARM_TEST_TREE": str(folder), "FARM_API_PORT": str(_free_port())}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    out, err = folder / "out", folder / "err"
    with out.open("w") as stdout, err.open("w") as stderr:
        process = subprocess.Popen(
            ["bash", "-c", _with_one_that_fails(_block())],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
    try:
        process.wait(110)
        yield Typed(out.read_text(), err.read_text(), folder)
    finally:
        os.killpg(process.pid, signal.SIGINT)  # what was started in the background
        process.wait(30)
        if not gone(folder):
            os.killpg(process.pid, signal.SIGKILL)
    assert not left_of(folder)


def _ends(typed: Typed) -> list[tuple[str, str]]:
    """The verdict's word and the exit code of each submit, as they were printed."""
    words = re.findall(r"^(PASS|FAIL|UNDECIDED|BROKEN|CANCELLED)$", typed.out, re.MULTILINE)
    codes = re.findall(r"^(\d+)$", typed.out, re.MULTILINE)
    return list(zip(words, codes, strict=True))


def test_the_port_of_the_readme_is_the_default() -> None:
    assert Settings().api_port == 8470
    assert "`api_port`" in (ROOT / "docs" / "settings.md").read_text("utf-8")


def test_a_new_user_gets_a_pass_and_a_fail_with_their_exit_codes(typed: Typed) -> None:
    assert _ends(typed) == [("PASS", "0"), ("FAIL", "1")], typed.err
    assert "Signed in to http://127.0.0.1:" in typed.err
    assert "Traceback" not in typed.err


def test_the_junit_files_say_the_same(typed: Typed) -> None:
    for name, word, failures in (("junit.xml", "PASS", 0), ("failed.xml", "FAIL", 1)):
        suite = ET.parse(typed.folder / name).getroot()
        check_schema(suite)
        known = facts(suite)
        assert (known["verdict"], known["virtual"], len(suite.findall("testcase/failure"))) == (word, "true", failures)
        assert known["job"][:13] in typed.err


def test_the_list_of_jobs_shows_the_verdict(typed: Typed) -> None:
    (row,) = [line for line in typed.out.splitlines() if re.match(r"[0-9a-f-]{13} .* done ", line)]
    assert re.search(r"mobilenet_v2 +virtual +done +PASS$", row)
