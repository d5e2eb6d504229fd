"""Boards as folders: recordings, and stand-ins built from documented formats where there is no recording."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

RECORDINGS = Path(__file__).parents[1] / "recordings"
CPUFREQ = "/sys/devices/system/cpu/cpufreq"


def recorded(name: str) -> str:
    """A recording without its first line, which says where it is from."""
    source, _, text = (RECORDINGS / f"{name}.txt").read_text().partition("\n")
    assert source.startswith("# source: ")
    return text


ORIN_FACTS = dict(
    line.split(" ", 1) for line in recorded("jetson_sysfs-orinnanosuper-68952728469").splitlines() if " " in line
)

STAT = """cpu  100 0 50 800 50 0 0 0 0 0
cpu0 60 0 20 400 20 0 0 0 0 0
cpu1 40 0 30 400 30 0 0 0 0 0
intr 200757 0 0 0
ctxt 343157
"""
MEMINFO = """MemTotal:        8245612 kB
MemFree:         5117284 kB
MemAvailable:    7340032 kB
Buffers:           32788 kB
SwapTotal:        524272 kB
SwapFree:         523248 kB
"""
VMSTAT = "nr_free_pages 1279321\npgpgin 402\npswpin 3\npswpout 7\npgalloc_dma 0\n"
SWAPS = "Filename Type Size Used Priority\n/dev/zram0 partition 524272 1024 100\n"
PRESSURE = "some avg10=0.00 avg60=0.00 avg300=0.00 total=28\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=21\n"
LINUX: Mapping[str, str | bytes] = {
    "/proc/stat": STAT,
    "/proc/meminfo": MEMINFO,
    "/proc/vmstat": VMSTAT,
    "/proc/swaps": SWAPS,
    "/proc/pressure/cpu": recorded("psi_cpu-local"),
    "/proc/pressure/memory": PRESSURE,
    "/proc/pressure/io": PRESSURE,
    "/proc/loadavg": "0.08 0.03 0.01 1/170 2101\n",
    "/proc/uptime": "1234.50 4900.11\n",
    "/proc/sys/vm/swappiness": "60\n",
    "/proc/sys/kernel/arch": "aarch64\n",
    "/proc/sys/kernel/version": "#1 SMP PREEMPT\n",
}

# A stand-in: device-tree values and file formats as documented, figures chosen here.
PI5: Mapping[str, str | bytes] = {
    **LINUX,
    "/proc/device-tree/model": b"Raspberry Pi 5 Model B Rev 1.0\0",
    "/proc/device-tree/compatible": b"raspberrypi,5-model-b\0brcm,bcm2712\0",
    "/proc/device-tree/system/linux,revision": bytes.fromhex("00d04170"),
    "/proc/device-tree/chosen/power/max_current": (5000).to_bytes(4, "big"),
    "/proc/sys/kernel/osrelease": "6.12.25+rpt-rpi-2712\n",
    "/proc/cpuinfo": "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n\nprocessor\t: 1\n"
    "CPU implementer\t: 0x41\nCPU part\t: 0xd0b\n\nRevision\t: d04170\n",
    "/etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nID=debian\nVERSION_ID="13"\n',
    "/sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "/sys/class/thermal/thermal_zone0/temp": "76800\n",
    f"{CPUFREQ}/policy0/scaling_cur_freq": "2400000\n",
    f"{CPUFREQ}/policy0/cpuinfo_cur_freq": "1500000\n",
    f"{CPUFREQ}/policy0/scaling_governor": "ondemand\n",
    "/sys/devices/system/cpu/cpu0/cache/index0/level": "1\n",
    "/sys/devices/system/cpu/cpu0/cache/index0/type": "Data\n",
    "/sys/devices/system/cpu/cpu0/cache/index0/size": "64K\n",
    "/sys/devices/system/cpu/cpu0/cache/index3/level": "3\n",
    "/sys/devices/system/cpu/cpu0/cache/index3/type": "Unified\n",
    "/sys/devices/system/cpu/cpu0/cache/index3/size": "2048K\n",
}

# Model, GPU temperature and release file are recorded; the rest is a stand-in.
ORIN: Mapping[str, str | bytes] = {
    **LINUX,
    "/proc/device-tree/model": ORIN_FACTS["model"].encode() + b"\0",
    "/proc/device-tree/compatible": b"nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0",
    "/etc/nv_tegra_release": recorded("nv_tegra_release-orin_r36-61309404237"),
    "/proc/sys/kernel/osrelease": "5.15.148-tegra\n",
    "/etc/os-release": "ID=ubuntu\nVERSION_ID='22.04'\n",
    "/sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "/sys/class/thermal/thermal_zone0/temp": "49812\n",
    "/sys/class/thermal/thermal_zone1/type": "gpu-thermal\n",
    "/sys/class/thermal/thermal_zone1/temp": ORIN_FACTS["temp_gpu"] + "\n",
}


def plant(root: Path, files: Mapping[str, str | bytes]) -> str:
    """Write a board's files below `root`; returns it as the agent takes it."""
    for name, content in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(root)
