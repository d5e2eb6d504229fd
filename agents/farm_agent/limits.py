"""Limits of the subject: what the kernel is asked to enforce, by which means, and what could not be enforced.

Memory and processes by the subject's own cgroup where there can be one, else by resource limits; file size and core
dumps by resource limits; time and output by the supervisor's own loop. Resource limits are set from outside, before the
subject reads its first byte; only what that is refused for is handed to the subject as its `backstop`.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Mapping, Optional, Tuple

    from farm_agent.cgroup import Cgroup
    from farm_agent.wire import Limits


def apply_to_self(backstop: Mapping[str, Any]) -> List[str]:
    """In the subject, first of all: set the resource limits that the supervisor could not; returns those refused."""
    wanted = backstop.get("rlimits") or {}
    if not wanted:
        return []
    import resource

    refused = []
    for name in sorted(wanted):
        number = getattr(resource, name, None)
        try:
            if number is None:
                raise ValueError("unknown here")
            resource.setrlimit(number, (int(wanted[name]), int(wanted[name])))
        except (OSError, ValueError) as error:
            refused.append("%s: %s" % (name, error))
    return refused


def enforce(limits: Limits, pid: int, cgroup: Cgroup) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """Put `pid` under its limits: (facts, what is in force by which means; backstop, what is left to the subject)."""
    held = cgroup.hold(pid)
    rlimits: Dict[str, int] = {"RLIMIT_CORE": 0, "RLIMIT_FSIZE": limits.file_bytes}
    facts: Dict[str, Any] = {"time": "supervisor", "output": "supervisor", "file_size": "RLIMIT_FSIZE", "core": 0}
    missing = list(cgroup.reasons)
    if limits.memory_bytes is None:
        facts["memory"] = "no limit asked"
    elif "memory" in held:
        facts["memory"] = held["memory"]
    else:
        rlimits["RLIMIT_DATA"] = limits.memory_bytes
        facts["memory"] = "RLIMIT_DATA"
    if "pids" in held:
        facts["processes"] = held["pids"]
    elif os.getuid() != 0:
        # The kernel counts every task of the user, not only the subject's.
        rlimits["RLIMIT_NPROC"] = tasks_of_user(os.getuid()) + limits.processes
        facts["processes"] = "RLIMIT_NPROC"
    else:
        facts["processes"] = "none"
        missing.append("processes: no pids cgroup, and RLIMIT_NPROC does not bind root")
    left = set_from_outside(pid, rlimits)
    facts["set_by"] = "subject" if left else "supervisor"
    facts["not_enforced"] = missing
    facts["no_new_privileges"] = False  # needs ctypes in the subject, which would move its first memory stage
    return facts, ({"rlimits": left} if left else {})


def set_from_outside(pid: int, rlimits: Mapping[str, int]) -> Dict[str, int]:
    """Set resource limits of another process; returns those that were refused."""
    import resource

    left = {}
    for name in sorted(rlimits):
        try:
            resource.prlimit(pid, getattr(resource, name), (rlimits[name], rlimits[name]))
        except (OSError, ValueError, AttributeError):
            left[name] = rlimits[name]
    return left


def in_force(pid: int) -> Dict[str, str]:
    """What the kernel says of the limits of `pid` (/proc/<pid>/limits), for the facts; {} where it is gone."""
    names = {"Max data size": "RLIMIT_DATA", "Max file size": "RLIMIT_FSIZE", "Max processes": "RLIMIT_NPROC"}
    names["Max core file size"] = "RLIMIT_CORE"
    found = {}
    for line in _lines("/proc/%d/limits" % pid):
        for text in names:
            if line.startswith(text):
                found[names[text]] = line[len(text) :].split()[0]
    return found


def tasks_of_user(uid: int) -> int:
    """How many tasks, threads included, a user has now."""
    count = 0
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and os.stat("/proc/" + name).st_uid == uid:
                count += len(os.listdir("/proc/%s/task" % name))
        except OSError:
            continue  # it ended while we looked
    return count


def oom_kills_of_board() -> Optional[int]:
    """Processes the kernel has killed for memory since boot, anywhere on the board (/proc/vmstat)."""
    for line in _lines("/proc/vmstat"):
        if line.startswith("oom_kill "):
            return int(line.split()[1])
    return None


def _lines(path: str) -> List[str]:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().splitlines()
    except OSError:
        return []
