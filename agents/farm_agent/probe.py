"""What am I, what can I do: identity and context; sensors and runtimes, each present or absent with a reason.

    probe [--json] [--root /] [--python PY] [--home ~/.benchfarm] [--self-cost]

    is_virtual   true where `root` is not /: a recorded tree, whose figures are never a board's
    identity     what must be equal for two Runs to be comparable (board.py)
    context      what is shown beside a Run (board.py), free disk space, Python versions
    sensors      {name: {"present", "reason", "metrics", "notes", "is_slow"}}
    runtimes     {name: {"present", "reason", "version", ...}} as the subject's interpreter sees them
    knobs        {name: {"now", "wanted"}}: what a measurement sets for its time (quiet.py); wanted null = only shown
    self_cost    with --self-cost: the sampler's share of one core, in percent, and each sensor's median time

Every runtime is asked in a process of its own: a library that crashes or hangs on import makes itself absent, not the
board.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from farm_agent import board, plugins, quiet, sensor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Sequence

AGENT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # the zip, or the folder that holds farm_agent
RUNTIME_LIMIT_S = 20.0
SELF_COST_S = 2.0
SELF_COST_HZ = 10.0
ENVIRONMENT = {  # no telemetry, no threads: asking must not disturb
    "LANG": "C.UTF-8",
    "ORT_DISABLE_TELEMETRY": "1",
    "ORT_TELEMETRY_DISABLED": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}
START = "import sys; sys.path.insert(0, sys.argv.pop(1)); from farm_agent import {0}; sys.exit({0}.{1}(sys.argv[1:]))"


def main(argv: Sequence[str]) -> int:
    """Print what the board is and can do; exit status 2 where the options are wrong."""
    import argparse

    parser = argparse.ArgumentParser(prog="probe", description="What this board is, and what it can do.")
    parser.add_argument("--json", action="store_true", help="one JSON object on one line")
    parser.add_argument("--root", default="/", help="a recorded tree to read in place of this machine's")
    parser.add_argument("--python", default=sys.executable, help="the subject's interpreter: the one with the runtimes")
    parser.add_argument("--home", default="~/.benchfarm", help="benchfarm's folder on the board")
    parser.add_argument("--self-cost", action="store_true", help="run the sampler for 2 s and tell its cost")
    options = parser.parse_args(list(argv))
    if not os.path.isdir(options.root):
        sys.stderr.write(f"probe: root {options.root!r} is not a folder. Name the folder of a recorded tree, or /.\n")
        return 2
    found = facts(options.root, options.python, options.home)
    if options.self_cost:
        found["self_cost"] = self_cost(options.root)
    sys.stdout.write((json.dumps(found, sort_keys=True) if options.json else text(found)) + "\n")
    return 0


def facts(root: str, python: str, home: str) -> Dict[str, Any]:
    """All but the self-cost, as JSON data."""
    is_virtual = os.path.realpath(root) != "/"
    runtimes = ask_runtimes(python)
    context = board.context(root)
    versions = sorted({str(one.pop("python")) for one in runtimes.values() if "python" in one})
    context["python"] = versions[0] if versions else None
    context["agent_python"] = ".".join(map(str, sys.version_info[:3]))
    context["disk_free_bytes"] = None if is_virtual else _disk_free_bytes(os.path.expanduser(home))
    return {
        "is_virtual": is_virtual,
        "identity": board.identity(root),
        "context": context,
        "sensors": {name: _sensor_facts(name, found) for name, found in sensor.probe_all(root).items()},
        "runtimes": runtimes,
        "knobs": {knob.name: {"now": knob.show(), "wanted": knob.wanted} for knob in quiet.knobs(root)},
    }


def ask_runtimes(python: str) -> Dict[str, Dict[str, Any]]:
    """What the interpreter `python` says of every runtime; all are asked at once."""
    environment = dict(ENVIRONMENT, PATH=os.environ.get("PATH", os.defpath), HOME=os.environ.get("HOME", "/"))
    children: Dict[str, Any] = {}
    answers: Dict[str, Dict[str, Any]] = {}
    for name in plugins.names("farm_agent.runtimes"):
        command = [python, "-I", "-c", START.format("probe", "answer_runtime"), AGENT, name]
        try:
            children[name] = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            answers[name] = _absent(
                f"interpreter {python!r} does not start: {error.strerror}. Correct the board's python"
            )
    due = time.monotonic() + RUNTIME_LIMIT_S
    for name, child in children.items():
        answers[name] = _answer(child, due)
    return {name: answers[name] for name in sorted(answers)}


def answer_runtime(argv: Sequence[str]) -> int:
    """In the child: one runtime's answer as the last line of stdout; what its library prints goes to stderr."""
    stdout = os.dup(1)
    os.dup2(2, 1)
    found = plugins.load("farm_agent.runtimes", argv[0]).probe()
    found["python"] = ".".join(map(str, sys.version_info[:3]))
    os.write(stdout, json.dumps(found).encode())
    return 0


def self_cost(root: str) -> Dict[str, Any]:
    """What the sampler costs on this board now: CPU share of one core in percent, median time of each sensor."""
    folder = tempfile.mkdtemp(prefix="benchfarm-")
    try:
        command = [sys.executable, "-I", "-S", "-c", START.format("sampler", "main"), AGENT]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder) as child:
            request = {"root": root, "hz": SELF_COST_HZ, "capacity": 1000}
            assert child.stdin is not None
            child.stdin.write(json.dumps(request).encode() + b"\n")
            child.stdin.flush()
            time.sleep(SELF_COST_S)
            _, complaint = child.communicate(timeout=RUNTIME_LIMIT_S)
        if child.returncode != 0:
            return {"cpu_percent": None, "reason": complaint.decode("utf-8", "replace").strip()[-300:]}
        with open(os.path.join(folder, "s", "index.json")) as file:
            index = json.load(file)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "cpu_percent": round(100.0 * index["cpu_ns"] / index["window_ns"], 3),
        "hz": SELF_COST_HZ,
        "window_ns": index["window_ns"],
        "late_ticks": index["late_ticks"],
        "sensors": {name: {"cost_ns": one["cost_ns"]} for name, one in index["sensors"].items()},
    }


def text(found: Dict[str, Any]) -> str:
    """What a person reads."""
    lines = ["VIRTUAL: a recorded tree, not a board"] if found["is_virtual"] else []
    lines += [f"{key:24} {_shown(value)}" for key, value in found["identity"].items()]
    lines += [f"{key:24} {_shown(value)}" for key, value in found["context"].items()]
    for kind in ("sensors", "runtimes"):
        for name, one in found[kind].items():
            said = one.get("version") or ", ".join(one.get("metrics", [])) if one["present"] else one["reason"]
            lines.append(f"{kind[:-1] + ' ' + name:24} {'present' if one['present'] else 'ABSENT'}: {said}")
    if "self_cost" in found:
        lines.append(f"{'self cost':24} {_shown(found['self_cost'])}")
    return "\n".join(lines)


def _sensor_facts(name: str, found: sensor.Found) -> Dict[str, Any]:
    is_present = bool(found.channels)
    return {
        "present": is_present,
        "reason": found.reason,
        "metrics": [channel.metric for channel in found.channels],
        "notes": found.notes,
        "is_slow": plugins.load("farm_agent.sensors", name).IS_SLOW if is_present else None,
    }


def _answer(child: Any, due: float) -> Dict[str, Any]:
    try:
        out, complaint = child.communicate(timeout=max(0.1, due - time.monotonic()))
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        return _absent(f"its probe took over {RUNTIME_LIMIT_S:.0f} s and was ended. Try to import it by hand")
    last = complaint.decode("utf-8", "replace").strip().split("\n")[-1][-300:]
    if child.returncode != 0:
        how = _signal_name(-child.returncode) if child.returncode < 0 else f"exit status {child.returncode}"
        return _absent(f"its probe ended with {how}: {last or 'nothing was said'}. Try to import it by hand")
    try:
        answer = json.loads(out)
        is_present = answer["present"] is True
    except (ValueError, KeyError, TypeError):
        return _absent(f"its probe answered {out[:80]!r}. This is a bug in its file of runtimes/")
    return {"reason": None, "version": None, **answer, "present": is_present}


def _absent(reason: str) -> Dict[str, Any]:
    return {"present": False, "reason": reason + ".", "version": None}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _disk_free_bytes(home: str) -> int:
    """Free space for this user where `home` is, or will be."""
    while not os.path.isdir(home):
        home = os.path.dirname(home)
    disk = os.statvfs(home)
    return disk.f_bavail * disk.f_frsize


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(one)}" for key, one in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(_shown(one) for one in value) or "none"
    return "unknown" if value is None else str(value)
