"""Raspberry Pi, all generations: model, revision code, SoC and supply from the device tree.

The revision code's bits are uuuuuuuuFMMMCCCCPPPPTTTTTTTTRRRR; bit 23 (F) says that it is of this new style, bits 12-15
(P) name the processor. Bits 24-31 tell of overvoltage and locked memory, not of the board, and are left out.
Source: Raspberry Pi documentation, "Raspberry Pi revision codes". Verified on: stand-in.
"""

from __future__ import annotations

from farm_agent import board

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Optional

PROCESSORS = ("bcm2835", "bcm2836", "bcm2837", "bcm2711", "bcm2712")
NEW_STYLE = 1 << 23


def detect(root: str) -> int:
    """10 where the device tree names a Raspberry Pi."""
    return 10 if any(word.startswith("raspberrypi,") for word in board.compatible(root)) else 0


def identity(root: str) -> Dict[str, Any]:
    """Model with its PCB revision, revision code (in hex, as /proc/cpuinfo shows it), SoC, generation."""
    code = board.read_u32(root, "/proc/device-tree/system/linux,revision")
    model = board.read_text(root, "/proc/device-tree/model")
    return {
        "family": "raspberrypi",
        "model": model,
        "revision": None if code is None else f"{code & 0xFFFFFF:x}",
        "soc": _soc(root, code),
        "generation": _generation(model or ""),
    }


def context(root: str) -> Dict[str, Any]:
    """What the supply says it can give (5000 mA with the 5 A supply of a Pi 5)."""
    limit_ma = board.read_u32(root, "/proc/device-tree/chosen/power/max_current")
    return {"supply_limit_a": None if limit_ma is None else limit_ma / 1000}


def _soc(root: str, code: Optional[int]) -> Optional[str]:
    if code is not None and code & NEW_STYLE:
        processor = (code >> 12) & 0xF
        if processor < len(PROCESSORS):
            return PROCESSORS[processor]
    chips = [word.partition(",")[2] for word in board.compatible(root) if word.startswith("brcm,")]
    return chips[0] if chips else None


def _generation(model: str) -> Optional[int]:
    """5 of "Raspberry Pi 5 Model B Rev 1.0" and of "Raspberry Pi Compute Module 5"; None of a Zero."""
    words = model.replace("Compute Module ", "").split()
    number = words[2] if words[:2] == ["Raspberry", "Pi"] and len(words) > 2 else ""
    return int(number[0]) if number[:1].isdigit() else None
