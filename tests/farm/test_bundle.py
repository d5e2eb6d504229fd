"""The agent's zip: the same for the same sources, whole or not there, small, and it runs."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from farm import bundle
from farm.errors import StoreError


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot be written to .*/file/agents: Not a directory\."):
        bundle.bundle(tmp_path / "file" / "agents")


@pytest.mark.parametrize("damage", [b"", b"not a zip", None])
def test_a_damaged_zip_is_made_anew(tmp_path: Path, damage: bytes | None) -> None:
    path = bundle.bundle(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert bundle.bundle(tmp_path).read_bytes() == whole


def test_a_zip_that_is_there_is_used_again(tmp_path: Path) -> None:
    before = bundle.bundle(tmp_path).stat()
    after = bundle.bundle(tmp_path).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert len(list(tmp_path.iterdir())) == 1


def test_the_zip_is_named_by_the_hash_and_the_same_byte_for_byte_each_time(tmp_path: Path) -> None:
    one, other = bundle.bundle(tmp_path / "one"), bundle.bundle(tmp_path / "other")
    assert re.fullmatch(r"[0-9a-f]{64}\.zip", one.name)
    assert one.name == other.name == bundle.agent_hash() + ".zip"
    assert one.read_bytes() == other.read_bytes()


def test_the_zip_holds_sources_only_and_is_under_150_kb(tmp_path: Path) -> None:
    path = bundle.bundle(tmp_path)
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    assert names[0] == "__main__.py"
    assert "farm_agent/sensors/thermal.py" in names
    assert [name for name in names if not name.endswith(".py") or "__pycache__" in name] == []
    assert path.stat().st_size < 150_000


def test_the_hash_is_that_of_the_sources_wherever_python_starts(tmp_path: Path) -> None:
    code = "from farm import bundle; print(bundle.agent_hash())"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == bundle.agent_hash()


def test_a_bare_python_runs_the_zip_and_an_unknown_word_is_refused(tmp_path: Path) -> None:
    path = bundle.bundle(tmp_path)
    done = subprocess.run([sys.executable, "-I", "-S", path, "dance"], cwd="/", capture_output=True, text=True)
    assert done.returncode == 2
    assert "'dance'" in done.stderr


def test_without_a_folder_the_users_cache_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert bundle.bundle().parent == tmp_path / "benchfarm" / "agents"
