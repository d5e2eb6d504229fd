"""NVIDIA Jetson, from Nano to Thor: model and SoC from the device tree, L4T release from /etc/nv_tegra_release.

From R36 on the release file says `BOARD: generic`, so the board is never taken from there. Zone, rail and power-mode
readers come with the family's sensors.
Source: jetson_stats jtop/core/jetson_variables.py (the map of L4T to JetPack). Verified on: recording (release file,
model), stand-in (device tree).
"""

from __future__ import annotations

from farm_agent import board

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Optional

JETPACKS = {
    "39.2.0": "7.2",
    "38.4.0": "7.1",
    "36.5.0": "6.2.2",
    "36.4.7": "6.2.1",
    "36.4.4": "6.2.1",
    "36.4.3": "6.2",
    "36.4.0": "6.1",
    "36.3.0": "6.0",
    "32.7.1": "4.6.1",
}


def detect(root: str) -> int:
    """10 where the device tree names a Tegra, or L4T is installed."""
    return 10 if _soc(root) or release(root) else 0


def identity(root: str) -> Dict[str, Any]:
    """Model, module and carrier numbers, SoC, L4T and JetPack release (None where the map does not know it)."""
    words = board.compatible(root)
    version = release(root)
    return {
        "family": "jetson",
        "model": board.read_text(root, "/proc/device-tree/model"),
        "revision": words[0].partition(",")[2] if words else None,
        "soc": _soc(root),
        "l4t": version,
        "jetpack": JETPACKS.get(version or ""),
    }


def context(root: str) -> Dict[str, Any]:
    """Nothing yet beyond what every Linux board says."""
    return {}


def release(root: str) -> Optional[str]:
    """The L4T release, "36.4.7", of "# R36 (release), REVISION: 4.7, ..."; None where it cannot be read."""
    line = (board.read_text(root, "/etc/nv_tegra_release") or "").split("\n")[0]
    fields = [field.strip() for field in line.lstrip("# ").split(",")]
    major = fields[0].split(" ")[0]
    minor = next((field.partition(":")[2].strip() for field in fields if field.startswith("REVISION:")), "")
    return f"{major[1:]}.{minor}" if major[:1] == "R" and major[1:].isdigit() and minor else None


def _soc(root: str) -> Optional[str]:
    chips = [word.partition(",")[2] for word in board.compatible(root)]
    return next((chip for chip in chips if chip.startswith("tegra")), None)
