"""Clock of each cpufreq policy: `policy0.freq_hz`, and `policy0.hw_freq_hz` where the hardware's own figure may be
read.

YAML: `sensors: {cpufreq: {}}`. The first is what the governor last set; the second what the hardware says it runs at
(root only on most kernels), which tells of throttling by firmware: a Jetson Thor was seen with 2601000 against
649000 kHz.
Source: kernel Documentation/admin-guide/pm/cpufreq.rst (both in kHz). Verified on: stand-in.
Cost: one pread per file, a few microseconds; `hw_freq_hz` may ask the firmware, see `probe --self-cost`.
"""

from __future__ import annotations

from farm_agent import board, sensor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List

IS_SLOW = False
FOLDER = "/sys/devices/system/cpu/cpufreq"
FILES = (("freq_hz", "scaling_cur_freq"), ("hw_freq_hz", "cpuinfo_cur_freq"))
LOW_HZ, HIGH_HZ = 1e6, 1e10


def probe(root: str) -> sensor.Found:
    """Every policy whose clock can be read."""
    policies = [name for name in board.listed(root, FOLDER) if name.startswith("policy")]
    channels = [
        sensor.Channel(f"{policy}.{metric}", f"{FOLDER}/{policy}/{file}", LOW_HZ, HIGH_HZ)
        for policy in policies
        for metric, file in FILES
        if sensor.is_readable(root, f"{FOLDER}/{policy}/{file}")
    ]
    return sensor.Found(channels, f"no cpufreq policy in {FOLDER}; the kernel does not scale this CPU's clock")


def open(root: str, channels: List[sensor.Channel], capacity: int) -> sensor.Reader:
    """A Reader in Hz."""
    return sensor.one_number_a_file(root, channels, capacity, scale=1000.0)
