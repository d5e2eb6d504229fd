"""A virtual Jetson Orin Nano (Super).

recorded     model, temperature of the GPU's zone, voltage and current of the rails (jetson_sysfs-orinnanosuper)
             , L4T release file (nv_tegra_release-orin_r36); both name their source
documented   `compatible`, names and formats of the sysfs files
MODELLED     temperature of the CPU's and the tj zone, clock, state of the cooling device, current of VDD_IN. The
             thermal figures are chosen, not measured: 3.4 K/W is the recording's 50.5 °C at 7.55 W in a room taken to
             be at 25 °C; 99 and 103 °C are taken for the limits of software and hardware [unverified]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from farm.virtual import thermal, tree
from farm.virtual.thermal import Profile, State

MAX_KHZ, MIN_KHZ = 1_728_000, 729_600
COOLING = f"{tree.THERMAL}/cooling_device0"
RAILS = "/sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1"
PROFILE = Profile(
    ambient_c=25.0, resistance_k_per_w=3.4, time_constant_s=40.0, idle_w=4.0, load_w=5.0,
    soft_c=99.0, hard_c=103.0, soft_factor=0.6, hard_factor=0.35,
)  # fmt: skip


@cache
def facts() -> dict[str, list[str]]:
    """The recording: key -> words."""
    lines = tree.recorded("jetson_sysfs-orinnanosuper-68952728469").splitlines()
    return {line.split()[0]: line.split()[1:] for line in lines}


def files() -> Mapping[str, bytes]:
    """What never changes."""
    known = facts()
    text = {
        "/proc/device-tree/model": f"{' '.join(known['model'])} (virtual)\0",  # see pi5.py
        "/proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0",
        "/etc/nv_tegra_release": tree.recorded("nv_tegra_release-orin_r36-61309404237"),
        f"{tree.THERMAL}/thermal_zone0/type": "cpu-thermal\n",
        f"{tree.THERMAL}/thermal_zone1/type": "gpu-thermal\n",
        f"{tree.THERMAL}/thermal_zone1/temp": f"{known['temp_gpu'][0]}\n",
        f"{tree.THERMAL}/thermal_zone8/type": "tj-thermal\n",
        f"{COOLING}/type": "cpufreq-cpu0\n",
        f"{COOLING}/max_state": "2\n",
        f"{tree.CPUFREQ}/scaling_governor": "schedutil\n",
        f"{tree.CPUFREQ}/scaling_available_governors": "schedutil performance powersave\n",
        f"{tree.CPUFREQ}/scaling_min_freq": f"{MIN_KHZ}\n",
        f"{tree.CPUFREQ}/scaling_max_freq": f"{MAX_KHZ}\n",
        f"{RAILS}/name": "ina3221\n",
    }
    for number, name in enumerate(("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"), start=1):
        millivolt, milliampere = known[f"rail_{name}"]
        text[f"{RAILS}/in{number}_label"] = f"{name}\n"
        text[f"{RAILS}/in{number}_input"] = f"{millivolt}\n"
        text[f"{RAILS}/curr{number}_input"] = f"{milliampere}\n"
    return {path: content.encode() for path, content in text.items()}


def live(profile: Profile, state: State, governor: str) -> Mapping[str, str]:
    """What the model says of the board now."""
    factor = thermal.clock_factor(profile, state.level)
    khz = tree.clock_khz(MAX_KHZ, MIN_KHZ, factor, state, governor)
    temp = f"{round(state.temp_c * 1000)}\n"
    volt = int(facts()["rail_VDD_IN"][0]) / 1000
    return {
        f"{tree.THERMAL}/thermal_zone0/temp": temp,
        f"{tree.THERMAL}/thermal_zone8/temp": temp,
        f"{tree.CPUFREQ}/scaling_cur_freq": f"{khz}\n",
        f"{tree.CPUFREQ}/cpuinfo_cur_freq": f"{khz}\n",
        f"{COOLING}/cur_state": f"{int(state.level)}\n",
        f"{RAILS}/curr1_input": f"{round(thermal.power_w(profile, state.cpu_ratio) / volt * 1000)}\n",
    }


def programs(root: Path) -> Mapping[str, str]:
    """None: what the agent reads of a Jetson are files."""
    return {}


KIND = tree.Kind(
    files=files,
    live=live,
    programs=programs,
    profile=PROFILE,
    hot_profile=replace(PROFILE, ambient_c=35.0, resistance_k_per_w=10.0, time_constant_s=12.0),
)
