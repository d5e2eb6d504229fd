"""What a Board family is, and what any Linux board says of itself: identity and context facts.

One file a family in `boards/`. Each has
    detect(root) -> int        0 where this is no such board; the family with the highest answer is taken
    identity(root) -> dict     family, model, revision, soc and what else must be equal for two Runs to be comparable
    context(root) -> dict      what is worth showing beside a Run, but need not be equal
Readers take `root`: "/" is this machine, any other folder is a recorded tree. A fact that cannot be read is None.
"""

from __future__ import annotations

import os

from farm_agent import plugins

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any, Dict, List, Optional

# Main ID register: implementer, part -> core. Source: util-linux sys-utils/lscpu-arm.c
ARM_CORES = {
    "0x41/0xb76": "ARM1176",
    "0x41/0xc07": "Cortex-A7",
    "0x41/0xd03": "Cortex-A53",
    "0x41/0xd05": "Cortex-A55",
    "0x41/0xd07": "Cortex-A57",
    "0x41/0xd08": "Cortex-A72",
    "0x41/0xd0b": "Cortex-A76",
    "0x41/0xd42": "Cortex-A78AE",
    "0x4e/0x003": "Denver 2",
    "0x4e/0x004": "Carmel",
}


def under(root: str, path: str) -> str:
    """Where the board's absolute `path` lies when `root` is its tree."""
    return root.rstrip("/") + path


def read_text(root: str, path: str) -> Optional[str]:
    """A small file of the board without surrounding blanks and NUL bytes; None where it cannot be read."""
    data = read_bytes(root, path)
    return None if data is None else data.decode("utf-8", "replace").strip("\0 \t\r\n")


def read_bytes(root: str, path: str) -> Optional[bytes]:
    """The first 64 KiB of a file of the board; None where it cannot be read."""
    try:
        with open(under(root, path), "rb", buffering=0) as file:
            return file.read(1 << 16)
    except OSError:
        return None


def read_number(root: str, path: str) -> Optional[int]:
    """A file of the board that holds one whole number; None where it does not."""
    text = read_text(root, path)
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def read_u32(root: str, path: str) -> Optional[int]:
    """A device-tree cell: 4 bytes, big-endian; None where there is none."""
    data = read_bytes(root, path)
    return int.from_bytes(data, "big") if data is not None and len(data) == 4 else None


def compatible(root: str) -> List[str]:
    """The device tree's `compatible` words, most specific first; empty where there is no device tree."""
    data = read_bytes(root, "/proc/device-tree/compatible") or b""
    return [word.decode("utf-8", "replace") for word in data.split(b"\0") if word]


def listed(root: str, path: str) -> List[str]:
    """The names in a folder of the board, in natural order (policy2 before policy10); empty where there is none."""
    try:
        names = os.listdir(under(root, path))
    except OSError:
        return []
    return sorted(names, key=lambda name: (name.rstrip("0123456789"), trailing_number(name), name))


def trailing_number(name: str) -> int:
    """The number that a name such as `policy10` ends in; -1 where it ends in none."""
    digits = name[len(name.rstrip("0123456789")) :]
    return int(digits) if digits else -1


def find(root: str) -> ModuleType:
    """The board family of this tree."""
    families = [plugins.load("farm_agent.boards", name) for name in plugins.names("farm_agent.boards")]
    best: ModuleType = max(families, key=lambda family: int(family.detect(root)))
    return best


def identity(root: str) -> Dict[str, Any]:
    """What must be equal for two Runs to be comparable, as far as the board knows it by itself."""
    release = _os_release(root)
    facts: Dict[str, Any] = {
        "os": release.get("ID"),
        "os_version": release.get("VERSION_ID") or release.get("BUILD_ID"),
        "kernel": read_text(root, "/proc/sys/kernel/osrelease"),
        "arch": _arch(root),
        "cpu": cpu_model(root),
        "governor": _governors(root),
        "accelerators": [],
    }
    facts.update(find(root).identity(root))
    return facts


def context(root: str) -> Dict[str, Any]:
    """What is shown beside a Run but need not be equal: uptime, memory, caches, swap, load."""
    memory = _meminfo(root)
    facts: Dict[str, Any] = {
        "uptime_s": _first_number(root, "/proc/uptime"),
        "load_1min": _first_number(root, "/proc/loadavg"),
        "memory_total_bytes": memory.get("MemTotal"),
        "memory_available_bytes": memory.get("MemAvailable"),
        "swap_total_bytes": memory.get("SwapTotal"),
        "swap_free_bytes": memory.get("SwapFree"),
        "zram_bytes": _zram_bytes(root),
        "swappiness": read_number(root, "/proc/sys/vm/swappiness"),
        "cpu_count": len(cpus(root)) or None,
        "cache_bytes": _caches(root),
        "kernel_build": read_text(root, "/proc/sys/kernel/version"),
        "ambient_temp_c": None,
    }
    facts.update(find(root).context(root))
    return facts


def cpus(root: str) -> List[int]:
    """The numbers of the online CPUs, as /proc/stat lists them."""
    lines = (read_text(root, "/proc/stat") or "").split("\n")
    return [int(word[3:]) for word in (line.split(" ", 1)[0] for line in lines) if word[:3] == "cpu" and word[3:]]


def cpu_model(root: str) -> Optional[str]:
    """The CPU's name: Arm cores by implementer and part (each kind once), others by `model name`."""
    pairs = [
        (key.strip(), value.strip())
        for key, colon, value in (line.partition(":") for line in (read_text(root, "/proc/cpuinfo") or "").split("\n"))
        if colon
    ]
    cores, implementer = set(), ""
    for key, value in pairs:
        if key == "CPU implementer":
            implementer = value
        elif key == "CPU part":
            cores.add(f"{implementer}/{value}")
    if cores:
        return " + ".join(ARM_CORES.get(core, core) for core in sorted(cores))
    return next((" ".join(value.split()) for key, value in pairs if key == "model name"), None)


def _first_number(root: str, path: str) -> Optional[float]:
    try:
        return float((read_text(root, path) or "").split(" ")[0])
    except ValueError:
        return None


def _os_release(root: str) -> Dict[str, str]:
    """The assignments in os-release(5)."""
    text = read_text(root, "/etc/os-release") or read_text(root, "/usr/lib/os-release") or ""
    pairs = (line.partition("=") for line in text.split("\n") if not line.startswith("#"))
    return {key.strip(): value.strip().strip("\"'") for key, equals, value in pairs if equals}


def _arch(root: str) -> Optional[str]:
    if root == "/":
        return os.uname().machine
    return read_text(root, "/proc/sys/kernel/arch")  # since Linux 6.1


def _governors(root: str) -> Dict[str, Optional[str]]:
    folder = "/sys/devices/system/cpu/cpufreq"
    policies = [name for name in listed(root, folder) if name.startswith("policy")]
    return {policy: read_text(root, f"{folder}/{policy}/scaling_governor") for policy in policies}


def _meminfo(root: str) -> Dict[str, int]:
    """/proc/meminfo in bytes."""
    found = {}
    for line in (read_text(root, "/proc/meminfo") or "").split("\n"):
        key, _, value = line.partition(":")
        words = value.split()
        if len(words) == 2 and words[1] == "kB" and words[0].isdigit():
            found[key] = int(words[0]) * 1024
    return found


def _zram_bytes(root: str) -> Optional[int]:
    """Size of the swap that lies compressed in memory; 0 where there is none."""
    swaps = read_text(root, "/proc/swaps")
    if swaps is None:
        return None
    rows = (line.split() for line in swaps.split("\n")[1:])
    return sum(int(row[2]) * 1024 for row in rows if len(row) >= 3 and row[0].startswith("/dev/zram"))


def _caches(root: str) -> Dict[str, int]:
    """The first CPU's caches: `l1d`, `l1i`, `l2`, ... in bytes."""
    folder = "/sys/devices/system/cpu/cpu0/cache"
    found = {}
    for index in listed(root, folder):
        size = read_text(root, f"{folder}/{index}/size") or ""
        kind = {"Data": "d", "Instruction": "i"}.get(read_text(root, f"{folder}/{index}/type") or "", "")
        level = read_text(root, f"{folder}/{index}/level")
        if level and size.endswith("K") and size[:-1].isdigit():
            found[f"l{level}{kind}"] = int(size[:-1]) * 1024
    return found
