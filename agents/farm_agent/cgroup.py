"""The subject's own control group: memory and process limits, exact peak, whether the kernel killed it for memory.

Version 2 (one tree) and version 1 (a tree a controller), as the kernel documents them in
Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst. Where no group can be made, the reasons say why.
Verified on version 1, as root; version 2 only by a stand-in tree.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, Optional, Set, Tuple

FILES = {  # (controller, version) -> (limit, peak, events)
    ("memory", 2): ("memory.max", "memory.peak", "memory.events"),
    ("memory", 1): ("memory.limit_in_bytes", "memory.max_usage_in_bytes", "memory.oom_control"),
    ("pids", 2): ("pids.max", "", ""),
    ("pids", 1): ("pids.max", "", ""),
}
SWAP = {2: ("memory.swap.max", "0"), 1: ("memory.memsw.limit_in_bytes", "")}  # "" = the same as memory


class Cgroup:
    """A group for one Block. Made at once; removed by `remove`, which may be called twice."""

    def __init__(self, root: str, name: str, memory_bytes: Optional[int], processes: int) -> None:
        self.reasons: List[str] = []
        self._folders: Dict[str, Tuple[str, int]] = {}  # controller -> (folder, version)
        limits = {"memory": memory_bytes, "pids": processes}
        for controller in ("memory", "pids"):
            tried = []
            for parent, version in _parents(root, controller):
                problem = self._make(os.path.join(parent, name), controller, version, limits[controller])
                if not problem:
                    break
                tried.append(problem)
            else:
                self.reasons.append("%s cgroup: %s" % (controller, "; ".join(tried) or "no such controller"))

    def _make(self, folder: str, controller: str, version: int, limit: Optional[int]) -> str:
        made = False
        try:
            if not os.path.isdir(folder):
                os.mkdir(folder)
                made = True
            limit_file = FILES[(controller, version)][0]
            if not os.path.exists(os.path.join(folder, limit_file)):
                raise OSError("%s is not there: the controller is not delegated" % limit_file)
            if limit is not None:
                _write(os.path.join(folder, limit_file), str(limit))
                swap, value = SWAP[version]
                if controller == "memory" and os.path.exists(os.path.join(folder, swap)):
                    _write(os.path.join(folder, swap), value or str(limit))
        except OSError as error:
            if made:
                os.rmdir(folder)
            return "%s (%s)" % (error.strerror or error, folder)
        self._folders[controller] = (folder, version)
        return ""

    def hold(self, pid: int) -> Dict[str, str]:
        """Move a process into the group; returns controller -> "cgroup v1|v2" for those that took it."""
        held = {}
        for controller, (folder, version) in list(self._folders.items()):
            try:
                _write(os.path.join(folder, "cgroup.procs"), str(pid))
                held[controller] = "cgroup v%d" % version
            except OSError as error:
                self.reasons.append("%s cgroup: %s (%s)" % (controller, error.strerror, folder))
                _remove(folder)
                del self._folders[controller]
        return held

    def peak_bytes(self) -> Optional[int]:
        """The largest memory charge of the group, page cache included; None where there is no group or no counter."""
        if "memory" not in self._folders:
            return None
        folder, version = self._folders["memory"]
        text = _read(os.path.join(folder, FILES[("memory", version)][1])).strip()
        return int(text) if text.isdigit() else None

    def oom_kills(self) -> Optional[int]:
        """How many of the group's processes the kernel killed for memory; None where there is no group."""
        if "memory" not in self._folders:
            return None
        folder, version = self._folders["memory"]
        for line in _read(os.path.join(folder, FILES[("memory", version)][2])).splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
        return None

    def pids(self) -> List[int]:
        """Every process in the group now."""
        found: Set[int] = set()
        for folder, _ in self._folders.values():
            found.update(int(line) for line in _read(os.path.join(folder, "cgroup.procs")).split())
        return sorted(found)

    def remove(self) -> None:
        """Remove the group, once its processes are gone."""
        for folder, _ in self._folders.values():
            _remove(folder)
        self._folders = {}


def remove_leftovers(root: str, prefix: str) -> None:
    """Remove the empty groups of an agent that was killed before it could."""
    for controller in ("memory", "pids"):
        for parent, _ in _parents(root, controller):
            for name in os.listdir(parent):
                if name.startswith(prefix):
                    _remove(os.path.join(parent, name))


def _parents(root: str, controller: str) -> List[Tuple[str, int]]:
    """Folders in which a group may be tried, best first, with the cgroup version."""
    base = os.path.join(root, "sys/fs/cgroup")
    found = []
    for line in _read(os.path.join(root, "proc/self/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            found = [(os.path.join(base, controllers, path.lstrip("/")), 1)]
            break
        if controllers == "" and os.path.exists(os.path.join(base, "cgroup.controllers")):
            # A group that has processes of its own may not hand controllers down, so the top is tried as well.
            found = [(os.path.join(base, path.lstrip("/")), 2), (base, 2)]
    return [(folder, version) for folder, version in found if os.path.isdir(folder)]


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)  # never O_CREAT: a plain folder is not a control group
    try:
        os.write(fd, text.encode("ascii"))
    finally:
        os.close(fd)


def _remove(folder: str) -> None:
    for _ in range(50):  # a killed process leaves its group a moment after it was reaped
        try:
            os.rmdir(folder)
            return
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.01)
