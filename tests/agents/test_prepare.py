"""The artifact's files before each Block: hashed, tempered, and the page cache asked whether it worked."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from farm_agent import prepare

SIZE = 3 << 20


def request(folder: Path, cache: str = "cold", **files: bytes) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    hashes = {}
    for name, content in files.items():
        (folder / name).write_bytes(content)
        hashes[name] = hashlib.sha256(content).hexdigest()
    return {"folder": str(folder), "files": hashes, "feed": "", "feed_sha256": "", "cache": cache}


def can_evict(folder: Path) -> bool:
    path = folder / "trial"
    path.write_bytes(b"x" * SIZE)
    left = prepare.evict([str(path)])
    path.unlink()
    return left == 0


def test_a_missing_file_is_corrupt(tmp_path: Path) -> None:
    asked = request(tmp_path / "a", model=b"m")
    (tmp_path / "a/model").unlink()
    with pytest.raises(prepare.Corrupt, match=r"a/model is not there .* It will be pushed again"):
        prepare.prepare(asked)


def test_a_changed_file_is_corrupt_and_both_hashes_are_told(tmp_path: Path) -> None:
    asked = request(tmp_path / "a", model=b"m")
    (tmp_path / "a/model").write_bytes(b"n")
    with pytest.raises(prepare.Corrupt, match=hashlib.sha256(b"m").hexdigest()):
        prepare.prepare(asked)


def test_a_changed_feed_is_corrupt(tmp_path: Path) -> None:
    asked = request(tmp_path / "a", model=b"m")
    (tmp_path / "feed.npz").write_bytes(b"feed")
    asked.update(feed=str(tmp_path / "feed.npz"), feed_sha256=hashlib.sha256(b"other").hexdigest())
    with pytest.raises(prepare.Corrupt, match=r"feed\.npz was changed"):
        prepare.prepare(asked)


def test_a_file_that_is_not_of_the_artifact_is_removed_and_its_target_is_not(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/precious").write_text("x")
    asked = request(tmp_path / "a", model=b"m")
    (tmp_path / "a/model.data").write_bytes(b"planted")
    (tmp_path / "a/link").symlink_to(tmp_path / "elsewhere")
    notes = prepare.prepare(asked)["notes"]
    assert "removed 'model.data', which is not of the artifact" in notes
    assert "removed 'link', which is not of the artifact" in notes
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["model"]
    assert (tmp_path / "elsewhere/precious").exists()


def test_cold_is_what_mincore_says(tmp_path: Path) -> None:
    if not can_evict(tmp_path):
        pytest.skip("this file system keeps its pages in memory")
    answer = prepare.prepare(request(tmp_path / "a", model=b"x" * SIZE))
    assert (answer["cache"], answer["resident_bytes"], answer["size_bytes"]) == ("cold", 0, SIZE)
    assert prepare.resident(str(tmp_path / "a/model")) == 0
    assert (tmp_path / "a/model").read_bytes() == b"x" * SIZE
    assert prepare.resident(str(tmp_path / "a/model")) == SIZE


def test_warm_is_read_and_counted(tmp_path: Path) -> None:
    answer = prepare.prepare(request(tmp_path / "a", cache="warm", model=b"x" * (SIZE + 1)))
    assert (answer["cache"], answer["resident_bytes"], answer["notes"]) == ("warm", SIZE + 1, [])


def test_where_eviction_has_no_effect_the_answer_is_warm_and_says_so() -> None:
    if not Path("/dev/shm").is_dir():
        pytest.skip("no tmpfs here")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        answer = prepare.prepare(request(Path(folder) / "a", model=b"x" * SIZE))
    assert (answer["cache"], answer["resident_bytes"]) == ("warm", SIZE)
    assert answer["notes"] == ["asked for cold, is warm: eviction had no effect"]


def test_as_a_child_it_answers_in_one_line(tmp_path: Path) -> None:
    asked = request(tmp_path / "a", cache="warm", model=b"")
    asked["files"]["gone"] = "0" * 64
    code = "import sys; from farm_agent import prepare; sys.exit(prepare.main([]))"
    done = subprocess.run([sys.executable, "-c", code], input=json.dumps(asked), capture_output=True, text=True)
    assert done.returncode == 0
    failed = json.loads(done.stdout)["failed"]
    assert (failed["code"], failed["blame"]) == ("cache_corrupt", "farm")
