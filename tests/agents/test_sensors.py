"""The generic Linux sensors on trees: dead readings are NaN and counted, true ones come in base units."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
from farm_agent import plugins, sensor
from farm_agent.sensors import memory

from tests.agents.trees import CPUFREQ, LINUX, PI5, PRESSURE, plant

ZONE = "/sys/class/thermal/thermal_zone"


def opened(root: str, name: str) -> sensor.Reader:
    """A Reader with room for three samples."""
    module = plugins.load("farm_agent.sensors", name)
    reader: sensor.Reader = module.open(root, module.probe(root).channels, 3)
    return reader


def values(reader: sensor.Reader, i: int) -> dict[str, float]:
    """One reading, by metric."""
    reader.read(i)
    return {channel.metric: column[i] for channel, column in zip(reader.channels, reader.columns, strict=True)}


@pytest.mark.parametrize("text", ["-256000", "-87900", "-89700", "85000000", "150001", "-40001"])
def test_a_dead_thermal_sensor_is_nan_and_counted(tmp_path: Path, text: str) -> None:
    reader = opened(plant(tmp_path, {f"{ZONE}0/type": "cpu-thermal\n", f"{ZONE}0/temp": text + "\n"}), "thermal")
    assert math.isnan(values(reader, 0)["cpu_thermal.temp_c"])
    assert (reader.nan, reader.failed) == (1, 0)


@pytest.mark.parametrize("text", ["", "\n", "warm\n", "76.8\n", "\0\0"])
def test_a_zone_that_says_no_number_is_nan_and_counted_as_failed(tmp_path: Path, text: str) -> None:
    reader = opened(plant(tmp_path, {f"{ZONE}0/type": "cpu-thermal\n", f"{ZONE}0/temp": text}), "thermal")
    assert math.isnan(values(reader, 0)["cpu_thermal.temp_c"])
    assert (reader.nan, reader.failed) == (0, 1)


def test_a_zone_that_falls_silent_does_not_spoil_the_others(tmp_path: Path) -> None:
    files = {f"{ZONE}{n}/{name}": text for n in (0, 1) for name, text in (("type", f"soc{n}\n"), ("temp", "50000\n"))}
    reader = opened(plant(tmp_path, files), "thermal")
    values(reader, 0)
    os.truncate(f"{tmp_path}{ZONE}0/temp", 0)
    after = values(reader, 1)
    assert math.isnan(after["soc0.temp_c"])
    assert after["soc1.temp_c"] == 50.0
    assert reader.columns[0][0] == 50.0


def test_a_file_that_the_kernel_answers_with_an_error_is_nan_and_counted(tmp_path: Path) -> None:
    (tmp_path / "temp").symlink_to("/proc/self/mem")  # pread at 0 gives EIO
    channels = [sensor.Channel("a.temp_c", "/temp"), sensor.Channel("b.temp_c", "/not-there")]
    reader = sensor.one_number_a_file(str(tmp_path), channels, 1, 1.0)
    assert all(math.isnan(value) for value in values(reader, 0).values())
    assert reader.failed == 2
    reader.close()


def test_zones_of_one_type_are_told_apart_by_number_and_a_type_becomes_a_name(tmp_path: Path) -> None:
    kinds = {0: "acpitz", 1: "CPU-therm", 10: "acpitz", 2: "acpitz"}
    files = {f"{ZONE}{n}/type": kind for n, kind in kinds.items()} | {f"{ZONE}{n}/temp": "1000" for n in kinds}
    found = sensor.probe(plant(tmp_path, files), "thermal")
    assert [channel.metric for channel in found.channels] == [
        "acpitz_zone0.temp_c",
        "cpu_therm.temp_c",
        "acpitz_zone2.temp_c",
        "acpitz_zone10.temp_c",
    ]


def test_placeholders_and_unreadable_zones_are_left_out_and_said(tmp_path: Path) -> None:
    files = {f"{ZONE}0/type": "PMIC-Die", f"{ZONE}0/temp": "100000", f"{ZONE}1/type": "gpu-thermal"}
    found = sensor.probe(plant(tmp_path, files), "thermal")
    assert found.channels == []
    assert found.notes == [
        "thermal_zone0 left out: a placeholder that always says 100 °C (Jetson Nano)",
        "thermal_zone1 (gpu-thermal) left out: its temp cannot be read",
    ]


def test_temperature_and_clock_come_in_base_units(tmp_path: Path) -> None:
    root = plant(tmp_path, PI5)
    assert values(opened(root, "thermal"), 0) == {"cpu_thermal.temp_c": pytest.approx(76.8)}
    assert values(opened(root, "cpufreq"), 0) == {"policy0.freq_hz": 2.4e9, "policy0.hw_freq_hz": 1.5e9}


def test_policies_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    root = plant(tmp_path, {f"{CPUFREQ}/policy{n}/scaling_cur_freq": "1000000" for n in (10, 2, 0)})
    metrics = [channel.metric for channel in sensor.probe(root, "cpufreq").channels]
    assert metrics == ["policy0.freq_hz", "policy2.freq_hz", "policy10.freq_hz"]


def test_pressure_is_the_recorded_total(tmp_path: Path) -> None:
    assert values(opened(plant(tmp_path, LINUX), "psi"), 0) == {
        "psi.cpu.some_total_us": 217040284,
        "psi.memory.some_total_us": 28,
        "psi.memory.full_total_us": 21,
        "psi.io.some_total_us": 28,
        "psi.io.full_total_us": 21,
    }


def test_pressure_without_its_second_line_is_nan_not_zero(tmp_path: Path) -> None:
    root = plant(tmp_path, {"/proc/pressure/memory": PRESSURE.split("\n")[0] + "\n"})
    reader = opened(root, "psi")
    assert math.isnan(values(reader, 0)["psi.memory.full_total_us"])
    assert reader.failed == 1


def test_pressure_that_is_off_says_how_to_turn_it_on(tmp_path: Path) -> None:
    (tmp_path / "proc/pressure").mkdir(parents=True)
    (tmp_path / "proc/pressure/cpu").symlink_to("/not-there")
    assert sensor.probe(str(tmp_path), "psi").reason == "the kernel has PSI, but it is off; boot with psi=1"


def test_the_busy_share_is_that_since_the_reading_before(tmp_path: Path) -> None:
    reader = opened(plant(tmp_path, LINUX), "cpu")
    plant(tmp_path, {"/proc/stat": "cpu  106 0 50 808 52 0 0 4 0 0\ncpu0 60 0 20 410 20 0 0 0 0 0\n"})
    after = values(reader, 0)
    assert after["cpu.busy_ratio"] == 0.5  # 6 user and 4 stolen of 20
    assert after["cpu0.busy_ratio"] == 0.0
    assert math.isnan(after["cpu1.busy_ratio"])  # off-line now
    assert (reader.nan, reader.failed) == (0, 0)


def test_no_tick_since_the_reading_before_is_nan(tmp_path: Path) -> None:
    reader = opened(plant(tmp_path, LINUX), "cpu")
    assert all(math.isnan(value) for value in values(reader, 0).values())


def test_memory_and_swap_come_in_bytes(tmp_path: Path) -> None:
    assert values(opened(plant(tmp_path, LINUX), "memory"), 0) == {
        "memory.available_bytes": 7340032 * 1024,
        "swap.used_bytes": 1024 * 1024,
        "swap.in_total_bytes": 3 * memory.PAGE_BYTES,
        "swap.out_total_bytes": 7 * memory.PAGE_BYTES,
    }


def test_a_board_without_swap_is_not_asked_for_its_traffic(tmp_path: Path) -> None:
    found = sensor.probe(plant(tmp_path, {**LINUX, "/proc/swaps": "Filename Type Size Used Priority\n"}), "memory")
    assert [channel.metric for channel in found.channels] == ["memory.available_bytes", "swap.used_bytes"]
    assert found.notes == ["swap traffic left out: the board has no swap"]


def test_an_unknown_sensor_is_absent_with_the_known_ones() -> None:
    reason = sensor.probe("/", "thermometer").reason
    assert reason is not None
    assert "'thermometer' is not known; known sensors: cpu, cpufreq, memory, psi, thermal" in reason


def test_a_sensor_whose_probe_fails_is_absent_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(root: str) -> sensor.Found:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("farm_agent.sensors.psi.probe", broken)
    reason = sensor.probe("/", "psi").reason
    assert reason == "its probe failed with ZeroDivisionError: division by zero. This is a bug in sensors/psi.py"
