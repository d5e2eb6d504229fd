"""A board's home on disk, and agents that are started, spoken with and killed on it for real."""

from __future__ import annotations

import hashlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).resolve().parents[2] / "agents"
ZIP_MAIN = "from farm_agent.__main__ import main\nraise SystemExit(main())\n"
WAIT_S = 30.0
QUICK_PROBE = "def main(argv):\n    print('{\"stand_in\": true}')\n    return 0\n"  # the real one takes 0.3 s a start


class Home:
    """A board: its home folder with the agent's zip, a fake root tree, artifacts."""

    def __init__(self, folder: Path, replace: dict[str, str] | None = None) -> None:
        self.path = folder / "home"
        self.root = folder / "root"
        (self.root / "run/lock").mkdir(parents=True)
        (self.path / "agents").mkdir(parents=True)
        self.zip = self.path / "agents" / "0123abcd.zip"
        build_zip(self.zip, replace or {})

    def artifact(self, name: str, content: bytes) -> dict[str, Any]:
        """Push a one-file artifact; the fields of a Block that name it."""
        sha = hashlib.sha256(content).hexdigest()
        folder = self.path / "artifacts" / sha
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        return {"artifact": sha, "entry": name, "files": {name: sha}}

    def governor(self, value: str) -> Path:
        """A stand-in for a cpufreq policy below the fake root."""
        policy = self.root / "sys/devices/system/cpu/cpufreq/policy0"
        policy.mkdir(parents=True, exist_ok=True)
        (policy / "scaling_available_governors").write_text("ondemand performance\n")
        (policy / "scaling_governor").write_text(value)
        return policy / "scaling_governor"

    def guard_log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.path / "guard.log").read_text().splitlines()]

    def marker(self) -> bytes:
        return b"BENCHFARM_BLOCK=%08x" % zlib.crc32(str(self.path).encode())

    def processes(self) -> list[str]:
        """Every process of a Block of this home that lives now."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and self.marker() in (entry / "environ").read_bytes():
                    found.append(entry.name + " " + (entry / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
        return found


class Agent:
    """One `measure` process, spoken with in lines."""

    def __init__(self, board: Home, token: int = 7, interpreter: str = sys.executable, **options: str) -> None:
        given = {"home": str(board.path), "farm": "farm-1", "token": str(token), "ttl_s": "60", "holder": "tester@here"}
        given.update({"python": sys.executable, "root": str(board.root)})
        given.update(options)
        argv = [interpreter, "-I", "-S", str(board.zip), "measure"]
        for name, value in given.items():
            argv += ["--" + name.replace("_", "-"), value]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.events: list[dict[str, Any]] = []
        self._buffer = b""

    def send(self, **request: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()

    def measure(self, artifact: dict[str, Any], index: int = 0, plan: dict[str, Any] | None = None) -> None:
        block = {"index": index, "arm": "a", "pair": -1, "plan": quick_plan(**(plan or {})), **artifact}
        self.send(do="measure", block=block)

    def close_stdin(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def until(self, event: str, timeout_s: float = WAIT_S, **fields: Any) -> dict[str, Any]:
        """The next event of that name with those fields; all before it are kept in `events`."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            message = self._next(deadline)
            if message is None:
                break
            self.events.append(message)
            if message["event"] == event and all(message.get(name) == value for name, value in fields.items()):
                return message
        raise AssertionError(f"no {event} {fields}; got {self.events}; stderr {self._stderr()}")

    def rest(self) -> list[dict[str, Any]]:
        """Every event up to the end of its stdout."""
        deadline = time.monotonic() + WAIT_S
        while (message := self._next(deadline)) is not None:
            self.events.append(message)
        return self.events

    def wait(self) -> int:
        return self.process.wait(WAIT_S)

    def status_kb(self, name: str) -> int:
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(text.split(name + ":")[1].split()[0])

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(WAIT_S)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            try:
                stream.close()
            except BrokenPipeError:
                pass

    def _next(self, deadline: float) -> dict[str, Any] | None:
        assert self.process.stdout is not None
        fd = self.process.stdout.fileno()
        while b"\n" not in self._buffer:
            if not select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise AssertionError(f"nothing within the time; got {self.events}")
            data = os.read(fd, 1 << 20)
            if not data:
                return None
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def _stderr(self) -> str:
        assert self.process.stderr is not None
        if self.process.poll() is None:
            return "(it runs)"
        return self.process.stderr.read().decode()


def quick_plan(**changes: Any) -> dict[str, Any]:
    plan = {
        "runtime": "fake",
        "duration_s": 0.2,
        "processes": 1,
        "min_queries": 5,
        "warmup_queries": 1,
        "warmup_s": 0.01,
    }
    plan.update(changes)
    return plan


def build_zip(path: Path, replace: dict[str, str]) -> None:
    """The agent as one zip; `replace` swaps whole modules for stand-ins."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("__main__.py", ZIP_MAIN)
        replace = {"farm_agent/probe.py": QUICK_PROBE, **replace}
        for source in sorted((SOURCES / "farm_agent").rglob("*.py")):
            name = source.relative_to(SOURCES).as_posix()
            archive.writestr(name, replace.get(name, source.read_text()))


def wait_until(condition: Callable[[], object], timeout_s: float = WAIT_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.01)
