"""A virtual Raspberry Pi 5.

documented   model, `compatible`, revision code; names and formats of the files of device tree and sysfs, and of what
             vcgencmd prints
recorded     the rails of `pmic_read_adc` (a Pi 5, idle; the file in recordings/ names its source)
MODELLED     temperature, clock, throttle bits, current of VDD_CORE; the thermal figures are chosen, not measured.
             Recorded idle power is 1.90 W; soft and hard limit are the documented 80 and 85 °C. Soft sets bit 3, hard
             bits 1 to 3, as recorded on a Pi 4 (0x80008, then 0xe0008 after more heat)
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from farm.virtual import thermal, tree
from farm.virtual.thermal import Level, Profile, State

MAX_KHZ, MIN_KHZ = 2_400_000, 1_500_000
THROTTLED = "/sys/devices/platform/soc/soc:firmware/get_throttled"
PMIC = "/run/virtual/pmic_read_adc"
BITS = {Level.FREE: 0x0, Level.SOFT: 0x8, Level.HARD: 0xE}
PROFILE = Profile(
    ambient_c=25.0, resistance_k_per_w=5.0, time_constant_s=40.0, idle_w=1.9, load_w=4.0,
    soft_c=80.0, hard_c=85.0, soft_factor=0.625, hard_factor=1 / 3,
)  # fmt: skip

_VCGENCMD = """#!/bin/sh
# A stand-in for vcgencmd: it prints what the thermal model of this virtual board wrote. Nothing here is measured.
root={root}
case "$1 $2" in
"get_throttled ") echo "throttled=0x$(cat "$root{throttled}")" ;;
"measure_temp ") t=$(cat "$root{temp}"); echo "temp=$((t / 1000)).$((t % 1000 / 100))'C" ;;
"measure_clock arm") echo "frequency(0)=$(cat "$root{clock}")000" ;;
"pmic_read_adc ") cat "$root{pmic}" ;;
"pmic_read_adc "*) grep "^ *$2 " "$root{pmic}" | sed 's/^ *//' ;;
*) echo "vc_gencmd_read_response returned -1"; echo 'error=1 error_msg="Command not registered"'; exit 255 ;;
esac
"""


def files() -> Mapping[str, bytes]:
    """What never changes."""
    return {
        # The word in brackets is ours: no fingerprint of a virtual board equals a real one's.
        "/proc/device-tree/model": b"Raspberry Pi 5 Model B Rev 1.0 (virtual)\0",
        "/proc/device-tree/compatible": b"raspberrypi,5-model-b\0brcm,bcm2712\0",
        "/proc/device-tree/system/linux,revision": bytes.fromhex("00d04170"),
        "/proc/device-tree/chosen/power/max_current": (5000).to_bytes(4, "big"),
        f"{tree.THERMAL}/thermal_zone0/type": b"cpu-thermal\n",
        f"{tree.CPUFREQ}/scaling_governor": b"ondemand\n",
        f"{tree.CPUFREQ}/scaling_available_governors": b"ondemand performance powersave\n",
        f"{tree.CPUFREQ}/scaling_min_freq": f"{MIN_KHZ}\n".encode(),
        f"{tree.CPUFREQ}/scaling_max_freq": f"{MAX_KHZ}\n".encode(),
    }


def live(profile: Profile, state: State, governor: str) -> Mapping[str, str]:
    """What the model says of the board now."""
    factor = thermal.clock_factor(profile, state.level)
    khz = tree.clock_khz(MAX_KHZ, MIN_KHZ, factor, state, governor)
    return {
        f"{tree.THERMAL}/thermal_zone0/temp": f"{round(state.temp_c * 1000)}\n",
        f"{tree.CPUFREQ}/scaling_cur_freq": f"{khz}\n",
        f"{tree.CPUFREQ}/cpuinfo_cur_freq": f"{khz}\n",
        THROTTLED: f"{BITS[state.worst] << 16 | BITS[state.level]:x}\n",
        PMIC: pmic(profile.load_w * state.cpu_ratio),
    }


def pmic(load_w: float) -> str:
    """The recorded rails with so much more drawn from VDD_CORE."""
    text = tree.recorded("pmic_read_adc-pi5-idle-70472762044")
    volts = float(re.findall(r"VDD_CORE_V volt\(15\)=([0-9.]+)V", text)[0])
    return re.sub(
        r"(VDD_CORE_A current\(7\)=)([0-9.]+)A",
        lambda found: f"{found[1]}{float(found[2]) + load_w / volts:.8f}A",
        text,
    )


def programs(root: Path) -> Mapping[str, str]:
    """vcgencmd."""
    places = {
        "throttled": THROTTLED,
        "temp": f"{tree.THERMAL}/thermal_zone0/temp",
        "clock": f"{tree.CPUFREQ}/scaling_cur_freq",
        "pmic": PMIC,
    }
    return {"vcgencmd": _VCGENCMD.format(root=shlex.quote(str(root)), **places)}


KIND = tree.Kind(
    files=files,
    live=live,
    programs=programs,
    profile=PROFILE,
    hot_profile=replace(PROFILE, ambient_c=35.0, resistance_k_per_w=14.0, time_constant_s=12.0),
)
