"""Temperatures of the kernel's thermal zones: `cpu_thermal.temp_c` is zone type `cpu-thermal`.

YAML: `sensors: {thermal: {}}`. Where several zones share a type, each name ends in its zone's number:
`acpitz_zone1.temp_c`. A zone whose block is off answers EAGAIN (Jetson's cv zones): NaN, counted. Left out:
placeholders and estimates.
Source: kernel Documentation/driver-api/thermal/sysfs-api.rst (`temp` in milli-degrees). Verified on: stand-in.
Cost: one pread per zone, a few microseconds; zones behind a slow bus or firmware call cost more, see `probe
--self-cost`.
"""

from __future__ import annotations

from farm_agent import board, sensor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List

IS_SLOW = False
FOLDER = "/sys/class/thermal"
LOW_C, HIGH_C = -40.0, 150.0
NO_SENSOR = {
    "PMIC-Die": "a placeholder that always says 100 °C (Jetson Nano)",
    "thermal-fan-est": "an estimate made of other zones (Jetson)",
}


def probe(root: str) -> sensor.Found:
    """Every thermal zone that can be read."""
    zones = [name for name in board.listed(root, FOLDER) if name.startswith("thermal_zone")]
    kinds = {zone: board.read_text(root, f"{FOLDER}/{zone}/type") or "zone" for zone in zones}
    notes = [f"{zone} left out: {NO_SENSOR[kind]}" for zone, kind in kinds.items() if kind in NO_SENSOR]
    paths = {zone: f"{FOLDER}/{zone}/temp" for zone, kind in kinds.items() if kind not in NO_SENSOR}
    dead = [zone for zone, path in paths.items() if not sensor.is_readable(root, path)]
    notes += [f"{zone} ({kinds[zone]}) left out: its temp cannot be read" for zone in dead]
    slugs = {zone: _slug(kinds[zone]) for zone in paths if zone not in dead}
    channels = []
    for zone, slug in slugs.items():
        is_shared = list(slugs.values()).count(slug) > 1
        name = f"{slug}_zone{board.trailing_number(zone)}" if is_shared else slug
        channels.append(sensor.Channel(f"{name}.temp_c", paths[zone], LOW_C, HIGH_C))
    return sensor.Found(channels, f"no readable thermal zone in {FOLDER}", notes)


def open(root: str, channels: List[sensor.Channel], capacity: int) -> sensor.Reader:
    """A Reader in °C."""
    return sensor.one_number_a_file(root, channels, capacity, scale=0.001)


def _slug(kind: str) -> str:
    """`CPU-therm` as `cpu_therm`."""
    letters = (letter if letter.isalnum() and letter.isascii() else "_" for letter in kind.lower())
    return "".join(letters).strip("_") or "zone"
