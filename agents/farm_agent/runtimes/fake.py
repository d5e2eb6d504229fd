"""A deterministic stand-in for tests of everything around it: a model file is JSON that says how to behave.

    runtime: fake
    options: {threads: 1}

The model file (`*.fake`), every key optional:

    latency_us: 200               each query is a busy loop of this long, times
    jitter: [1.0, 1.1, 0.9]       the next multiplier of this cycle (query 0 is the first inference)
    load_ms: 5                    loading takes this long
    load_bytes: 1000000           allocated and touched while loading, freed at its end but for
    keep_bytes: 0                 the part that a loaded model keeps
    leak_bytes_per_query: 0       touched and kept with each query
    outputs: ok                   ok | nan | inf | constant
    misbehave: {stage: load, how: crash, after: 3}
                                  stage: load | first | timed (`after` that many further queries, warm-up included)
                                  how: one of HOWS below

Needs no numpy, so it runs under every bare interpreter. Verified on: board (x86-64 Linux, Python 3.8 to 3.13).
"""

from __future__ import annotations

import json
import os
import signal
import time
from array import array

from farm_agent.runtime import LoadError, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Mapping, NoReturn, Tuple

    from farm_agent.runtime import Choose, Port

OPTIONS = (Option("threads", "int", 1, "stored, without effect", at_least=1),)
SUFFIXES = (".fake",)
_OUTPUTS = {
    "ok": (0.25, 0.5, 0.25),
    "nan": (0.25, float("nan"), 0.25),
    "inf": (0.25, float("inf"), 0.25),
    "constant": (0.5, 0.5, 0.5),
}
_KEYS = ("latency_us", "jitter", "load_ms", "load_bytes", "keep_bytes", "leak_bytes_per_query", "outputs", "misbehave")
_PAGE_BYTES = 4096


def probe() -> Dict[str, Any]:
    """Always present."""
    return {"present": True, "version": "1"}


def start() -> None:
    """Nothing to import."""


def load(path: str, options: Mapping[str, Any], choose: Choose) -> FakeModel:
    """The behaviour that the file describes. Raises LoadError where it is not such a file."""
    try:
        with open(path, encoding="utf-8") as file:
            says = json.load(file)
    except (OSError, ValueError) as error:
        raise LoadError(f"{os.path.basename(path)} is not a fake model: {error}") from None
    if not _is_fake_model(says):
        raise LoadError(f"{os.path.basename(path)} is not a fake model; it may have {', '.join(_KEYS)}: {says!r:.80}")
    choose(())
    return FakeModel(says, int(options["threads"]))


def _is_fake_model(says: Any) -> bool:
    if not isinstance(says, dict) or set(says) - set(_KEYS):
        return False
    misbehave = says.get("misbehave", {"how": "raise"})
    return says.get("outputs", "ok") in _OUTPUTS and isinstance(misbehave, dict) and misbehave.get("how") in HOWS


class FakeModel:
    """A Model without inputs that is as slow, large and ill-behaved as its file says."""

    def __init__(self, says: Mapping[str, Any], threads: int) -> None:
        self.inputs: Tuple[Port, ...] = ()
        self._threads = threads
        self._says = says
        self._cycle = [int(says.get("latency_us", 0) * 1000 * factor) for factor in says.get("jitter", [1.0])]
        self._n = 0
        self._kept: List[bytearray] = []
        misbehave = says.get("misbehave", {})
        self._stage = misbehave.get("stage", "")
        self._after = int(misbehave.get("after", 0))
        self._how = HOWS[misbehave["how"]] if misbehave else _raise
        if self._stage == "load":
            self._how()
        _spin(int(says.get("load_ms", 0) * 1_000_000))
        peak = _touched(int(says.get("load_bytes", 0)))
        self._kept.append(_touched(min(int(says.get("keep_bytes", 0)), len(peak))))

    def bind(self, arrays: Mapping[str, Any]) -> None:
        """No inputs."""

    def settle(self) -> None:
        """Nothing to preallocate."""

    def copy_in(self) -> None:
        """No inputs."""

    def copy_out(self) -> None:
        """Nothing to keep."""

    def invoke(self) -> None:
        """One query."""
        end = time.monotonic_ns() + self._cycle[self._n % len(self._cycle)]
        if self._stage and self._is_time():
            self._how()
        self._n += 1
        leak = self._says.get("leak_bytes_per_query", 0)
        if leak:
            self._kept.append(_touched(int(leak)))
        while time.monotonic_ns() < end:
            pass

    def outputs(self) -> List[Tuple[str, Any]]:
        """One output of three numbers."""
        return [("out", array("d", _OUTPUTS[self._says.get("outputs", "ok")]))]

    def facts(self) -> Dict[str, Any]:
        """As every Model."""
        return {
            "runtime": {"name": "fake", "version": "1", "build": ""},
            "providers": {"asked": ["fake"], "used": ["fake"], "fallback": False, "note": ""},
            "threads": self._threads,
            "harness": {"api": "busy loop", "overhead_note": "one Python call"},
        }

    def _is_time(self) -> bool:
        if self._stage == "first":
            return self._n == 0
        return self._stage == "timed" and self._n > self._after


def _touched(size: int) -> bytearray:
    block = bytearray(size)
    for at in range(0, size, _PAGE_BYTES):
        block[at] = 1
    return block


def _spin(duration_ns: int) -> None:
    end = time.monotonic_ns() + duration_ns
    while time.monotonic_ns() < end:
        pass


def _raise() -> NoReturn:
    raise RuntimeError("the fake model raises, as its file says")


def _crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _sleep_for_ever() -> NoReturn:
    while True:
        time.sleep(3600)


def _spin_for_ever() -> NoReturn:
    while True:
        pass


def _sleep_ignoring_signals() -> NoReturn:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM, signal.SIGXCPU):
        signal.signal(number, signal.SIG_IGN)
    _sleep_for_ever()


def _allocate_without_bound() -> NoReturn:
    blocks = []
    while True:
        blocks.append(_touched(1 << 24))


def _flood(fd: int, text: bytes) -> Callable[[], NoReturn]:
    def flood() -> NoReturn:
        while True:
            os.write(fd, text)

    return flood


def _garbage_on_fd3() -> None:
    os.write(3, b'\xff\x00{"stage": 7}\n[[[[\n{"result": NaN}\n"half a line')


def _lie_on_fd3() -> NoReturn:
    os.write(3, b'{"result":{"facts":{},"columns":[{"metric":"../../x","n":1,"t_type":"q","v_type":"q"}]}}\n')
    os._exit(0)


def _fork_sleepers() -> None:
    for _ in range(8):
        if os.fork() == 0:
            _sleep_for_ever()


def _fork_bomb() -> NoReturn:
    while True:
        try:
            os.fork()
        except OSError:
            time.sleep(0.01)


def _leave_the_group() -> None:
    if os.fork() == 0:
        os.setsid()
        _sleep_ignoring_signals()


HOWS: Dict[str, Callable[[], Any]] = {
    "raise": _raise,
    "crash": _crash,
    "abort": os.abort,
    "exit": lambda: os._exit(3),
    "exit_zero": lambda: os._exit(0),
    "hang": _sleep_for_ever,
    "spin": _spin_for_ever,
    "sleep_forever_ignoring_signals": _sleep_ignoring_signals,
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "oom": _allocate_without_bound,
    "flood_stdout": _flood(1, b"flood " * 1000 + b"\n"),
    "flood_stderr": _flood(2, b"flood " * 1000 + b"\n"),
    "flood_fd3": _flood(3, b'{"stage":"load"}\n' * 256),
    "flood_fd3_one_line": _flood(3, b"x" * 4096),
    "garbage_fd3": _garbage_on_fd3,
    "lie_fd3": _lie_on_fd3,
    "close_fd3": lambda: os.close(3),
    "fork": _fork_sleepers,
    "fork_bomb": _fork_bomb,
    "leave_the_group": _leave_the_group,
    "kill_parent": lambda: os.kill(os.getppid(), signal.SIGKILL),
}
"""What a fake model can do wrong, by name: what a hostile or broken real one might."""
