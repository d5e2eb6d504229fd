"""One subject run for real, as the supervisor would: from the agent's zip, in a fresh process and work folder."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from farm import bundle

BARE_PYTHONS = sorted(
    python
    for python in Path.home().glob(".pyenv/versions/3.*/bin/python3")
    if int(python.parts[-3].split(".")[1]) >= 8  # the oldest that the agent runs under
)
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/nonexistent",
    "LANG": "C.UTF-8",
    "ORT_DISABLE_TELEMETRY": "1",
    "ORT_TELEMETRY_DISABLED": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MALLOC_TRIM_THRESHOLD_": "131072",
    "PYTHONHASHSEED": "0",
}


@dataclass(frozen=True)
class Ended:
    """How a subject ended and everything it said."""

    status: int  # negative: signal
    lines: Sequence[str]  # of fd 3
    stdout: str
    stderr: str
    folder: Path

    @cached_property
    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]

    @cached_property
    def stages(self) -> dict[str, dict[str, Any]]:
        return {message["stage"]: message for message in self.messages if "stage" in message}

    @cached_property
    def facts(self) -> dict[str, Any]:
        assert self.status == 0, (self.lines, self.stderr)
        facts = self.messages[-1]["result"]["facts"]
        assert isinstance(facts, dict)
        return facts

    @cached_property
    def warnings(self) -> list[str]:
        """What the subject warned of, but for other programs on the machine that runs the tests."""
        return [warning for warning in self.facts["warnings"] if "took the subject's CPU" not in warning]

    @cached_property
    def failed(self) -> dict[str, Any]:
        assert self.status == 1, (self.lines, self.stderr)
        failed = self.messages[-1]["failed"]
        assert isinstance(failed, dict)
        return failed

    def memory(self, stage: str) -> dict[str, Any]:
        memory = self.stages[stage]["memory"]
        assert isinstance(memory, dict)
        return memory

    def column(self, metric: str, part: str = "v") -> list[int]:
        numbers = array("q")
        numbers.frombytes((self.folder / "c" / f"{metric}.{part}").read_bytes())
        return numbers.tolist()


def run(
    tmp_path: Path,
    model: bytes | Mapping[str, Any],
    *,
    entry: str = "model.fake",
    runtime: str = "fake",
    feed: Path | None = None,
    cpus: Sequence[int] = (),
    limits: Mapping[str, Any] | None = None,
    backstop: Mapping[str, Any] | None = None,
    python: Path | None = None,
    beside: Mapping[str, bytes] | None = None,
    **plan: Any,
) -> Ended:
    """Run one Block over `model`, and files `beside` it: a few short queries unless the plan says otherwise."""
    data = json.dumps(model).encode() if isinstance(model, Mapping) else model
    files = {entry: data, **(beside or {})}
    folder = work_folder(tmp_path, files, feed)
    short = {"duration_s": 0.01, "processes": 1, "min_queries": 3, "warmup_queries": 2, "warmup_s": 0.0}
    block = {
        "index": 0,
        "arm": "a",
        "pair": -1,
        "plan": {"runtime": runtime, **short, **plan},
        "artifact": hashlib.sha256(data).hexdigest(),
        "entry": entry,
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        "feed_file": "0/feed.npz" if feed else "",
    }
    job: dict[str, Any] = {
        "block": block,
        "cpus": list(cpus),
        "limits": dict(limits or {}),
        "backstop": dict(backstop or {}),
    }
    command = ["sh", "-c", 'exec "$@" 3>messages', "sh", str(python or sys.executable), "-I", "./a", "subject"]
    job["spawned_ns"] = time.monotonic_ns()
    ended = subprocess.run(
        command,
        cwd=folder,
        input=json.dumps(job).encode(),
        env=ENVIRONMENT,
        capture_output=True,
        timeout=60,
        check=False,
    )
    lines = (folder / "messages").read_text(errors="replace").splitlines()
    return Ended(ended.returncode, lines, ended.stdout.decode(), ended.stderr.decode(errors="replace"), folder)


def work_folder(tmp_path: Path, files: Mapping[str, bytes], feed: Path | None) -> Path:
    """`w` with its `a`, `m`, `c/` and `f.npz`."""
    folder = tmp_path / "w"
    (folder / "c").mkdir(parents=True)
    artifact = tmp_path / "artifacts" / "0"
    for name, content in files.items():
        (artifact / name).parent.mkdir(parents=True, exist_ok=True)
        (artifact / name).write_bytes(content)
    os.symlink(artifact, folder / "m")
    os.symlink(bundle.bundle(tmp_path / "agents"), folder / "a")
    if feed:
        os.symlink(feed, folder / "f.npz")
    return folder
