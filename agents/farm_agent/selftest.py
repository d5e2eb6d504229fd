"""Is this board fit to measure on: PASS or FAIL for each thing that a measurement leans on; exit status 1 on FAIL.

    selftest [--python PY] [--home ~/.benchfarm] [--root /]

Works in a folder of its own below `home`, which it removes. Takes a few seconds.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time

from farm_agent import cgroup, memory, prepare, probe, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterator, List, Sequence, Tuple

TRIAL_BYTES = 32 << 20
MEASURE_LIMIT_S = 60.0
MODEL = b'{"latency_us": 200}'


class Failed(Exception):
    """A check did not hold; the text says what was seen and what to do."""


def main(argv: Sequence[str]) -> int:
    """Run every check and print its line."""
    import argparse

    parser = argparse.ArgumentParser(prog="selftest", description="Whether this board is fit to measure on.")
    parser.add_argument("--python", default=sys.executable, help="the subject's interpreter")
    parser.add_argument("--home", default="~/.benchfarm", help="benchfarm's folder on the board")
    parser.add_argument("--root", default="/", help="a recorded tree to read in place of this machine's")
    options = parser.parse_args(list(argv))
    home = os.path.expanduser(options.home)
    try:
        os.makedirs(home, exist_ok=True)
        folder = tempfile.mkdtemp(prefix="selftest-", dir=home)
    except OSError as error:
        sys.stdout.write(f"FAIL folder: {home} cannot be written ({error.strerror}). Name another with --home.\n")
        return 1
    try:
        return run(checks(options.python, folder, options.root))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def checks(python: str, folder: str, root: str) -> List[Tuple[str, Callable[[], str]]]:
    """Name and check, in order; a check returns what was seen or raises Failed."""
    return [
        ("clock", clock),
        ("folder", lambda: writable(folder)),
        ("spawn", lambda: spawn(python)),
        ("memory peak", peak),
        ("page cache", lambda: eviction(folder)),
        ("control group", control_group),
        ("sampler", lambda: sampler(root)),
        ("runtimes", lambda: runtimes(python)),
        ("measure", lambda: measure(python, folder, root)),
    ]


def run(todo: Sequence[Tuple[str, Callable[[], str]]]) -> int:
    """Print one line a check; 1 where any failed."""
    status = 0
    for name, check in todo:
        try:
            line = f"PASS {name}: {check()}"
        except (Failed, OSError, subprocess.SubprocessError) as error:
            line, status = f"FAIL {name}: {error}", 1
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    return status


def clock() -> str:
    """The monotonic clock rises, in fine steps, and a sleep takes its time by it."""
    stamps = [time.monotonic_ns() for _ in range(1000)]
    steps = [stamps[place + 1] - stamps[place] for place in range(len(stamps) - 1)]
    begin_ns = time.monotonic_ns()
    time.sleep(0.02)
    slept_ns = time.monotonic_ns() - begin_ns
    if min(steps) < 0 or slept_ns < 19_000_000:
        raise Failed(f"the monotonic clock went back, or a sleep of 20 ms took {slept_ns} ns. Check the clock source.")
    step_ns = sorted(steps)[len(steps) // 2]
    if step_ns > 100_000:
        raise Failed(f"one reading takes {step_ns} ns. Choose a faster clock source (tsc, arch_sys_counter).")
    return f"one reading takes {step_ns} ns"


def writable(folder: str) -> str:
    """A file can be written, synced and renamed."""
    path = os.path.join(folder, "trial")
    with open(path + ".part", "wb") as file:
        file.write(b"x")
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".part", path)
    return f"{folder} can be written"


def spawn(python: str) -> str:
    """A fresh interpreter starts."""
    times_ms = []
    for _ in range(3):
        begin_ns = time.monotonic_ns()
        done = subprocess.run([python, "-I", "-c", "pass"], stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
        times_ms.append((time.monotonic_ns() - begin_ns) / 1e6)
        if done.returncode != 0:
            said = done.stderr.decode("utf-8", "replace").strip()[-200:]
            raise Failed(f"{python} ended with status {done.returncode}: {said}. Correct the board's python.")
    return f"{python} starts in {sorted(times_ms)[1]:.0f} ms"


def peak() -> str:
    """VmHWM sees an allocation, and forgets it when reset."""
    trial = bytearray(TRIAL_BYTES)
    for place in range(0, TRIAL_BYTES, 4096):
        trial[place] = 1
    high = memory.snapshot()["peak_bytes"]
    del trial
    if not memory.reset_peak():
        return "VmHWM cannot be reset here (/proc/self/clear_refs); stages will carry running peaks"
    low = memory.snapshot()["peak_bytes"]
    if high is None or low is None or high - low < TRIAL_BYTES // 2:
        raise Failed(f"VmHWM was {high} with 32 MiB allocated and {low} after a reset. The kernel's figures are odd.")
    return f"VmHWM falls from {high / 1e6:.1f} to {low / 1e6:.1f} MB when reset"


def eviction(folder: str) -> str:
    """A file can be dropped from the page cache, so that a load can be cold."""
    path = os.path.join(folder, "evict")
    with open(path, "wb") as file:
        file.write(bytes(4 << 20))
    warm = prepare.resident(path)
    left = prepare.evict([path])
    if left:
        raise Failed(f"{left} of {warm} bytes stayed after eviction. Is {folder} on a disk, not a tmpfs? See --home.")
    return f"{warm} bytes in the cache, 0 after eviction"


def control_group() -> str:
    """Whether the subject can have a control group of its own. Without one, weaker limits are used, and said."""
    group = cgroup.Cgroup("/", f"benchfarm-selftest-{os.getpid()}", None, 64)
    group.remove()
    return "; ".join(group.reasons) + ": resource limits are used" if group.reasons else "memory and processes"


def sampler(root: str) -> str:
    """The sampler runs and its cost is known."""
    cost = probe.self_cost(root)
    if cost["cpu_percent"] is None:
        raise Failed(f"the sampler failed: {cost['reason']}.")
    return f"{cost['cpu_percent']} % of a core at {cost['hz']} Hz, {cost['late_ticks']} late rounds"


def runtimes(python: str) -> str:
    """Which runtimes the subject's interpreter has."""
    return ", ".join(
        f"{name} {one['version']}" if one["present"] else f"no {name}"
        for name, one in probe.ask_runtimes(python).items()
    )


def measure(python: str, folder: str, root: str) -> str:
    """One Block of the runtime `fake`, the whole way that a real one takes."""
    if not os.path.isfile(probe.AGENT):
        raise Failed("this agent was not started from its zip. Run it as `farm` does.")
    sha256 = hashlib.sha256(MODEL).hexdigest()
    os.makedirs(os.path.join(folder, "artifacts", sha256))
    with open(os.path.join(folder, "artifacts", sha256, "selftest.fake"), "wb") as file:
        file.write(MODEL)
    plan = wire.Plan(runtime="fake", duration_s=0.2, min_queries=10, processes=1, warmup_s=0.0)
    block = wire.Block(0, "a", -1, plan, sha256, "selftest.fake", {"selftest.fake": sha256})
    options = {
        "--home": folder,
        "--farm": "selftest",
        "--token": str(int(time.time())),
        "--ttl-s": str(int(MEASURE_LIMIT_S)),
        "--holder": "selftest",
        "--python": python,
        "--root": root,
    }
    words = [word for pair in options.items() for word in pair]
    command = [sys.executable, "-I", "-S", probe.AGENT, "measure", *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as agent:
        limit = threading.Timer(MEASURE_LIMIT_S, agent.kill)
        limit.start()
        try:
            queries = _queries(agent, {"do": "measure", "block": wire.as_dict(block)})
        finally:
            limit.cancel()
            agent.communicate()  # end of file: the agent puts everything back
    return f"{queries} queries of the runtime `fake`"


def _queries(agent: Any, request: Dict[str, Any]) -> int:
    """Send the request; the number of timed queries once the Block is done. Raises Failed."""
    queries = 0
    for event in _events(agent):
        if event["event"] == "hello":
            agent.stdin.write(wire.dumps(request).encode() + b"\n")
            agent.stdin.flush()
        elif event["event"] == "column" and event["metric"] == "latency_ns":
            queries += int(event["n"])
        elif event["event"] in ("error", "end") or event.get("outcome", "OK") != "OK":
            raise Failed(_said(event))
        elif event["event"] == "done":
            return queries
    raise Failed(f"the agent ended: {agent.stderr.read().decode('utf-8', 'replace')[-400:] or 'without a word'}")


def _said(event: Dict[str, Any]) -> str:
    """What an event says in words."""
    reasons = [str(reason.get("text")) for reason in event.get("reasons", [])]
    return " ".join(reasons) or str(event.get("message") or json.dumps(event)[:400])


def _events(agent: Any) -> Iterator[Dict[str, Any]]:
    for line in agent.stdout:
        yield wire.loads(line, "event")
