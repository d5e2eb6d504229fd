"""Busy share of the whole machine and of each CPU since the reading before: `cpu.busy_ratio`, `cpu0.busy_ratio`.

YAML: `sensors: {cpu: {}}`. Busy is all but idle and iowait; time stolen by a hypervisor counts as busy. The kernel
counts in ticks of 10 ms (`user`, `system` ...), so at 10 Hz one reading is coarse (steps of a tenth); means over a
window are not. The CPU that the subject is pinned to tells of the subject, the others of foreign load.
Source: proc_stat(5). Verified on: stand-in, and the machine that runs the tests.
Cost: one pread, about 15 us with two CPUs on x86-64 (the kernel writes the whole of /proc/stat each time).
"""

from __future__ import annotations

import os

from farm_agent import board, sensor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List

IS_SLOW = False
PATH = "/proc/stat"
LINE_BYTES = 128


def probe(root: str) -> sensor.Found:
    """The machine and each CPU that is online now."""
    cpus = board.cpus(root)
    names = ["cpu", *(f"cpu{number}" for number in cpus)] if cpus else []
    return sensor.Found([sensor.Channel(f"{name}.busy_ratio", PATH, 0.0, 1.0) for name in names], f"cannot read {PATH}")


def open(root: str, channels: List[sensor.Channel], capacity: int) -> sensor.Reader:
    """A Reader whose first sample covers the time since now."""
    share = _Share([channel.metric.partition(".")[0].encode() for channel in channels])
    size_bytes = LINE_BYTES * ((os.cpu_count() or 1) + len(channels) + 1)
    reader = sensor.Reader(root, [(PATH, share.since_last, channels)], capacity, size_bytes)
    reader.read(0)  # sets the counters to start from; the sampler writes over place 0
    reader.failed = reader.nan = 0
    return reader


class _Share:
    """Busy shares between two readings of /proc/stat."""

    def __init__(self, names: List[bytes]) -> None:
        self._places = {name: place for place, name in enumerate(names)}
        self._total = [0] * len(names)
        self._busy = [0] * len(names)
        self._shares = [sensor.NAN] * len(names)

    def since_last(self, text: bytes) -> List[float]:
        """The share of each name; NaN where it is off-line or no tick has passed."""
        for place in self._places.values():
            self._shares[place] = sensor.NAN
        for line in text.split(b"\n"):
            words = line.split()
            if len(words) < 9 or words[0] not in self._places:
                continue
            place = self._places[words[0]]
            ticks = [int(word) for word in words[1:9]]  # guest time is within user time
            total = sum(ticks)
            busy = total - ticks[3] - ticks[4]
            passed = total - self._total[place]
            if passed > 0:
                self._shares[place] = (busy - self._busy[place]) / passed
            self._total[place], self._busy[place] = total, busy
        return self._shares
