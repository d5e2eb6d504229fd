"""A virtual board's own tree: a few files of a board family, the rest links to this machine's own.

The agent reads its board below `root`. Model, release, thermal zones and clocks are those of the virtual board:
recorded, documented or modelled, as the family's file says. CPU, kernel, memory, swap, pressure and control groups are
links to this machine's own, because it is this machine that runs the model: its identity belongs into every
fingerprint, and limits of memory have to bind. The guard's lock is this machine's too, so that one virtual board of a
host measures at a time.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from farm.virtual.thermal import Profile, State

OWN = (
    "/proc/cpuinfo",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/pressure",
    "/proc/self",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/kernel/osrelease",
    "/proc/sys/kernel/random",
    "/proc/sys/kernel/version",
    "/proc/sys/vm",
    "/proc/uptime",
    "/proc/vmstat",
    "/etc/os-release",
    "/usr/lib/os-release",
    "/run/lock",
    "/tmp",  # noqa: S108 - the guard's second choice for its lock
    "/sys/devices/system/cpu/cpu0/cache",
    "/sys/fs/cgroup",
    "/sys/kernel/mm/transparent_hugepage",
)
ARCH = "/proc/sys/kernel/arch"  # since Linux 6.1; so it is written rather than linked
CPUFREQ = "/sys/devices/system/cpu/cpufreq/policy0"
THERMAL = "/sys/class/thermal"


@dataclass(frozen=True, slots=True)
class Kind:
    """A family of virtual boards."""

    files: Callable[[], Mapping[str, bytes]]  # what never changes, by absolute path in the tree
    live: Callable[[Profile, State, str], Mapping[str, str]]  # what the model writes, by path; given the governor
    programs: Callable[[Path], Mapping[str, str]]  # scripts of its bin folder, by name; given the tree
    profile: Profile
    hot_profile: Profile  # throttles after seconds of full load


@cache
def recorded(name: str) -> str:
    """A recording that is shipped, without its first line, which says where it is from."""
    text = (resources.files("farm.virtual") / "recordings" / f"{name}.txt").read_text("utf-8")
    return text.partition("\n")[2]


def plant(root: Path, kind: Kind) -> None:
    """Make the tree anew."""
    if root.exists():
        shutil.rmtree(root)
    for path in OWN:
        link = root / path.lstrip("/")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    for path, content in {ARCH: os.uname().machine.encode() + b"\n", **kind.files()}.items():
        file = root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


class Writer:
    """Writes small files in place: sensors keep them open, so they are never replaced."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._last: dict[str, str] = {}

    def write(self, files: Mapping[str, str]) -> None:
        """Those that changed."""
        for path, text in files.items():
            if self._last.get(path) != text:
                with contextlib.suppress(OSError):  # a full disk must not end the boards: the next round tries again
                    self._write(self._root / path.lstrip("/"), text.encode())
                    self._last[path] = text

    def _write(self, file: Path, data: bytes) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(file, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.pwrite(fd, data, 0)
            os.ftruncate(fd, len(data))
        finally:
            os.close(fd)


def governor(root: Path) -> str:
    """What the agent, or a person, has set; "" where that cannot be read."""
    try:
        return (root / CPUFREQ.lstrip("/") / "scaling_governor").read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def clock_khz(max_khz: int, min_khz: int, factor: float, state: State, governor: str) -> int:
    """The modelled clock: the lowest without work, unless the governor holds it up."""
    is_up = governor == "performance" or state.cpu_ratio > 0.05
    return round(max_khz * factor) if is_up else min(min_khz, round(max_khz * factor))
