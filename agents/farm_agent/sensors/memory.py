"""Memory and swap of the whole machine: `memory.available_bytes`, `swap.used_bytes`, and swap traffic as counters.

YAML: `sensors: {memory: {}}`. `swap.in_total_bytes` and `swap.out_total_bytes` only rise since boot: use their
difference over a window; they are there only where the board has swap. On boards whose accelerator shares the memory
(Jetson), the drop of `memory.available_bytes` tells of it.
Source: proc_meminfo(5), proc_vmstat(5) (`pswpin`, `pswpout` in pages). Verified on: stand-in, and the machine that
runs the tests.
Cost: one pread of about 7 us on x86-64; with swap one more of about 27 us.
"""

from __future__ import annotations

import os

from farm_agent import board, sensor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, Tuple

IS_SLOW = False
MEMINFO, VMSTAT, SWAPS = "/proc/meminfo", "/proc/vmstat", "/proc/swaps"
FILE_BYTES = 16384
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def probe(root: str) -> sensor.Found:
    """Memory always; swap and its traffic where there is swap: /proc/vmstat is the dearest file of all."""
    if not sensor.is_readable(root, MEMINFO):
        return sensor.Found([], f"cannot read {MEMINFO}")
    channels = [sensor.Channel("memory.available_bytes", MEMINFO), sensor.Channel("swap.used_bytes", MEMINFO)]
    if len((board.read_text(root, SWAPS) or "").split("\n")) < 2:
        return sensor.Found(channels, notes=["swap traffic left out: the board has no swap"])
    if sensor.is_readable(root, VMSTAT):
        channels += [sensor.Channel(f"swap.{way}_total_bytes", VMSTAT) for way in ("in", "out")]
    return sensor.Found(channels)


def open(root: str, channels: List[sensor.Channel], capacity: int) -> sensor.Reader:
    """A Reader in bytes."""
    parsers = {MEMINFO: _meminfo, VMSTAT: _vmstat}
    files = sensor.by_file(channels)
    return sensor.Reader(root, [(path, parsers[path], group) for path, group in files.items()], capacity, FILE_BYTES)


def _meminfo(text: bytes) -> Tuple[int, int]:
    used_kb = sensor.number_after(text, b"SwapTotal:") - sensor.number_after(text, b"SwapFree:")
    return sensor.number_after(text, b"MemAvailable:") * 1024, used_kb * 1024


def _vmstat(text: bytes) -> Tuple[int, int]:
    return (
        sensor.number_after(text, b"\npswpin ") * PAGE_BYTES,
        sensor.number_after(text, b"\npswpout ") * PAGE_BYTES,
    )
