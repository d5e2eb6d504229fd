"""Board families on trees: which one it is, and its identity as documented or recorded."""

from __future__ import annotations

from pathlib import Path

import pytest
from farm_agent import board
from farm_agent.boards import jetson, raspberrypi

from tests.agents.trees import LINUX, ORIN, PI5, plant, recorded


def test_an_empty_tree_is_generic_and_nothing_is_made_up(tmp_path: Path) -> None:
    facts = board.identity(str(tmp_path))
    assert facts.pop("family") == "generic"
    assert facts.pop("accelerators") == []
    assert facts.pop("governor") == {}
    assert set(facts.values()) == {None}
    assert {value for value in board.context(str(tmp_path)).values() if value not in (None, {})} == set()


def test_a_raspberry_pi_5_is_known_by_its_device_tree(tmp_path: Path) -> None:
    assert board.identity(plant(tmp_path, PI5)) == {
        "family": "raspberrypi",
        "model": "Raspberry Pi 5 Model B Rev 1.0",
        "revision": "d04170",
        "soc": "bcm2712",
        "generation": 5,
        "os": "debian",
        "os_version": "13",
        "kernel": "6.12.25+rpt-rpi-2712",
        "arch": "aarch64",
        "cpu": "Cortex-A76",
        "governor": {"policy0": "ondemand"},
        "accelerators": [],
    }


def test_the_context_of_a_raspberry_pi_5_tells_memory_supply_caches_and_swap(tmp_path: Path) -> None:
    assert board.context(plant(tmp_path, PI5)) == {
        "uptime_s": 1234.5,
        "load_1min": 0.08,
        "memory_total_bytes": 8245612 * 1024,
        "memory_available_bytes": 7340032 * 1024,
        "swap_total_bytes": 524272 * 1024,
        "swap_free_bytes": 523248 * 1024,
        "zram_bytes": 524272 * 1024,
        "swappiness": 60,
        "cpu_count": 2,
        "cache_bytes": {"l1d": 65536, "l3": 2097152},
        "kernel_build": "#1 SMP PREEMPT",
        "ambient_temp_c": None,
        "supply_limit_a": 5.0,
    }


def test_the_overvoltage_bits_are_not_part_of_a_revision(tmp_path: Path) -> None:
    tree = {**PI5, "/proc/device-tree/system/linux,revision": bytes.fromhex("02d04170")}
    assert raspberrypi.identity(plant(tmp_path, tree))["revision"] == "d04170"


@pytest.mark.parametrize(
    ("model", "generation"),
    [
        ("Raspberry Pi 4 Model B Rev 1.5", 4),
        ("Raspberry Pi Compute Module 5 Rev 1.0", 5),
        ("Raspberry Pi Zero 2 W Rev 1.0", None),
        ("Raspberry Pi", None),
        ("", None),
    ],
)
def test_the_generation_is_the_number_in_the_model(tmp_path: Path, model: str, generation: int | None) -> None:
    tree = {"/proc/device-tree/model": model.encode() + b"\0", "/proc/device-tree/compatible": b"raspberrypi,x\0"}
    assert raspberrypi.identity(plant(tmp_path, tree))["generation"] == generation


def test_a_revision_that_is_no_device_tree_cell_is_absent_and_the_soc_comes_from_compatible(tmp_path: Path) -> None:
    facts = raspberrypi.identity(plant(tmp_path, {**PI5, "/proc/device-tree/system/linux,revision": b"\x01\x02"}))
    assert (facts["revision"], facts["soc"]) == (None, "bcm2712")


def test_a_jetson_takes_its_soc_from_the_device_tree_not_from_the_release_file(tmp_path: Path) -> None:
    facts = board.identity(plant(tmp_path, ORIN))
    assert facts["family"] == "jetson"
    assert facts["model"] == "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
    assert facts["revision"] == "p3768-0000+p3767-0005-super"
    assert facts["soc"] == "tegra234"
    assert (facts["l4t"], facts["jetpack"]) == ("36.4.7", "6.2.1")
    assert (facts["os"], facts["os_version"]) == ("ubuntu", "22.04")


def test_an_old_jetson_release_is_read_and_an_unlisted_jetpack_is_absent(tmp_path: Path) -> None:
    root = plant(tmp_path, {"/etc/nv_tegra_release": recorded("nv_tegra_release-nano_r32-6714189195")})
    facts = board.identity(root)
    assert (facts["family"], facts["l4t"], facts["jetpack"]) == ("jetson", "32.5.1", None)


@pytest.mark.parametrize("text", ["", "# R36", "R (release), REVISION: 4.7", "garbage, REVISION: 1.0", "\0\xff"])
def test_a_release_file_that_says_nothing_gives_no_release(tmp_path: Path, text: str) -> None:
    assert jetson.release(plant(tmp_path, {"/etc/nv_tegra_release": text})) is None


def test_a_machine_is_named_by_its_firmware_but_not_by_its_placeholders(tmp_path: Path) -> None:
    dmi = "/sys/class/dmi/id"
    names = {f"{dmi}/sys_vendor": "LENOVO\n", f"{dmi}/product_name": "M720q\n", f"{dmi}/product_version": "None\n"}
    facts = board.identity(plant(tmp_path, {**LINUX, **names}))
    assert (facts["family"], facts["model"], facts["revision"]) == ("generic", "LENOVO M720q", None)


@pytest.mark.parametrize(
    ("text", "cpu"),
    [
        ("model name\t: AMD EPYC\nmodel name\t: AMD EPYC\n", "AMD EPYC"),
        (
            "CPU implementer\t: 0x41\nCPU part\t: 0xd03\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n",
            "Cortex-A53 + Cortex-A72",
        ),
        ("model name : ARMv7 Processor rev 3 (v7l)\nCPU implementer : 0x41\nCPU part : 0xfff\n", "0x41/0xfff"),
        ("", None),
    ],
)
def test_a_cpu_is_named_by_its_cores(tmp_path: Path, text: str, cpu: str | None) -> None:
    assert board.cpu_model(plant(tmp_path, {"/proc/cpuinfo": text})) == cpu
