"""Any Linux machine that no other family knows.

Model and revision come from the device tree where there is one, else from the firmware's DMI table.
Source: kernel Documentation/ABI/testing/sysfs-firmware-dmi-entries and /sys/class/dmi/id. Verified on: stand-in.
"""

from __future__ import annotations

from farm_agent import board

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional

NO_NAME = ("", "none", "default string", "to be filled by o.e.m.", "system product name", "system version")


def detect(root: str) -> int:
    """1: the family of last resort."""
    return 1


def identity(root: str) -> Dict[str, Any]:
    """Vendor's model and revision, as the firmware names them."""
    words = board.compatible(root)
    return {
        "family": "generic",
        "model": board.read_text(root, "/proc/device-tree/model") or _dmi(root, ["sys_vendor", "product_name"]),
        "revision": _dmi(root, ["product_version"]),
        "soc": words[-1] if words else None,
    }


def context(root: str) -> Dict[str, Any]:
    """Nothing beyond what every Linux board says."""
    return {}


def _dmi(root: str, names: List[str]) -> Optional[str]:
    values = [board.read_text(root, f"/sys/class/dmi/id/{name}") or "" for name in names]
    return " ".join(value for value in values if value.lower() not in NO_NAME) or None
