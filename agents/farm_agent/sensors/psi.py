"""Pressure stall information: how long some (or all) tasks have waited for CPU, memory or I/O, as counters since boot.

YAML: `sensors: {psi: {}}`. `psi.memory.some_total_us` only rises: use its difference over a window. `full` of cpu is
always 0 for the whole machine and is left out. Needs CONFIG_PSI, on some kernels also the boot option psi=1.
Source: kernel Documentation/accounting/psi.rst. Verified on: recording (psi_cpu), stand-in for memory and io.
Cost: one pread per file, three files, about 3 us each on x86-64.
"""

from __future__ import annotations

from farm_agent import board, sensor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, Tuple

IS_SLOW = False
FOLDER = "/proc/pressure"
LINES = {"cpu": ("some",), "memory": ("some", "full"), "io": ("some", "full")}


def probe(root: str) -> sensor.Found:
    """The resources whose pressure the kernel tells."""
    readable = [name for name in LINES if sensor.is_readable(root, f"{FOLDER}/{name}")]
    channels = [
        sensor.Channel(f"psi.{name}.{line}_total_us", f"{FOLDER}/{name}") for name in readable for line in LINES[name]
    ]
    if board.listed(root, FOLDER):
        return sensor.Found(channels, "the kernel has PSI, but it is off; boot with psi=1")
    return sensor.Found(channels, f"no {FOLDER}; the kernel was built without CONFIG_PSI")


def open(root: str, channels: List[sensor.Channel], capacity: int) -> sensor.Reader:
    """A Reader in microseconds."""
    files = sensor.by_file(channels)
    return sensor.Reader(root, [(path, _totals, group) for path, group in files.items()], capacity)


def _totals(text: bytes) -> Tuple[int, ...]:
    """The totals of `some` and, where there is such a line, `full`."""
    return tuple(sensor.number_after(line, b"total=") for line in text.split(b"\n") if line)
