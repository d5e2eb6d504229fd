"""What the agent's own readers, and a person with vcgencmd, find on a virtual board."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from farm_agent import board as readers
from farm_agent import cgroup, guard, quiet, sensor

from farm.virtual import orin, pi5, tree
from farm.virtual.thermal import Level, State

KINDS = {"pi5": pi5.KIND, "orin": orin.KIND}


def _planted(root: Path, kind: tree.Kind, state: State, governor: str = "ondemand") -> str:
    tree.plant(root, kind)
    tree.Writer(root).write(kind.live(kind.profile, state, governor))
    return str(root)


def _read(root: str, name: str) -> dict[str, float]:
    found = sensor.probe(root, name)
    module = __import__(f"farm_agent.sensors.{name}", fromlist=["open"])
    reader = module.open(root, found.channels, 1)
    reader.read(0)
    reader.close()
    return {channel.metric: column[0] for channel, column in zip(reader.channels, reader.columns, strict=True)}


def _vcgencmd(root: Path, *words: str) -> tuple[int, str]:
    script = root.parent / "vcgencmd"
    script.write_text(pi5.programs(root)["vcgencmd"])
    script.chmod(0o755)
    done = subprocess.run([script, *words], capture_output=True, text=True)
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_no_fingerprint_can_equal_that_of_a_real_board(kind: str, tmp_path: Path) -> None:
    facts = readers.identity(_planted(tmp_path / "root", KINDS[kind], State(40.0)))
    assert facts["model"].endswith(" (virtual)")
    for name in ("cpu", "kernel", "arch", "os", "os_version"):  # what runs the model is this machine
        assert facts[name] == readers.identity("/")[name]


def test_the_pi_is_found_as_a_raspberry_pi_5(tmp_path: Path) -> None:
    root = _planted(tmp_path / "root", pi5.KIND, State(40.0))
    facts = readers.identity(root)
    assert {name: facts[name] for name in ("family", "generation", "soc", "revision")} == {
        "family": "raspberrypi", "generation": 5, "soc": "bcm2712", "revision": "d04170",
    }  # fmt: skip
    assert readers.context(root)["supply_limit_a"] == 5.0


def test_the_jetson_is_found_with_its_recorded_release_and_gpu(tmp_path: Path) -> None:
    root = _planted(tmp_path / "root", orin.KIND, State(40.0))
    facts = readers.identity(root)
    assert (facts["family"], facts["soc"], facts["l4t"], facts["jetpack"]) == ("jetson", "tegra234", "36.4.7", "6.2.1")
    assert _read(root, "thermal") == {
        "cpu_thermal.temp_c": 40.0, "gpu_thermal.temp_c": pytest.approx(50.468), "tj_thermal.temp_c": 40.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "governor", "cpu_ratio", "level", "freq_hz"),
    [
        ("pi5", "ondemand", 0.0, Level.FREE, 1.5e9),
        ("pi5", "ondemand", 0.9, Level.FREE, 2.4e9),
        ("pi5", "performance", 0.0, Level.FREE, 2.4e9),
        ("pi5", "ondemand", 0.9, Level.SOFT, 1.5e9),
        ("pi5", "performance", 0.9, Level.HARD, 0.8e9),
        ("pi5", "ondemand", 0.0, Level.HARD, 0.8e9),
        ("orin", "schedutil", 0.0, Level.FREE, 0.7296e9),
        ("orin", "schedutil", 0.9, Level.SOFT, 1.0368e9),
    ],
)
def test_the_clock_follows_load_governor_and_throttling(
    kind: str, governor: str, cpu_ratio: float, level: Level, freq_hz: float, tmp_path: Path
) -> None:
    root = _planted(tmp_path / "root", KINDS[kind], State(60.0, cpu_ratio, level, level), governor)
    assert _read(root, "cpufreq") == {"policy0.freq_hz": freq_hz, "policy0.hw_freq_hz": freq_hz}


@pytest.mark.parametrize(
    ("now", "worst", "said"),
    [
        (Level.FREE, Level.FREE, "throttled=0x0\n"),
        (Level.SOFT, Level.SOFT, "throttled=0x80008\n"),
        (Level.SOFT, Level.HARD, "throttled=0xe0008\n"),
        (Level.HARD, Level.HARD, "throttled=0xe000e\n"),
        (Level.FREE, Level.SOFT, "throttled=0x80000\n"),
    ],
)
def test_get_throttled_tells_now_and_since_start(now: Level, worst: Level, said: str, tmp_path: Path) -> None:
    root = tmp_path / "a root with 'quotes' $HOME"
    _planted(root, pi5.KIND, State(60.0, 0.5, now, worst))
    assert _vcgencmd(root, "get_throttled") == (0, said)


def test_the_other_words_of_vcgencmd(tmp_path: Path) -> None:
    root = tmp_path / "root"
    _planted(root, pi5.KIND, State(76.84, 1.0))
    assert _vcgencmd(root, "measure_temp") == (0, "temp=76.8'C\n")
    assert _vcgencmd(root, "measure_clock", "arm") == (0, "frequency(0)=2400000000\n")
    assert _vcgencmd(root, "pmic_read_adc", "EXT5V_V") == (0, "EXT5V_V volt(24)=5.11478000V\n")


def test_an_unknown_word_is_refused_as_by_the_real_one(tmp_path: Path) -> None:
    _planted(tmp_path / "root", pi5.KIND, State(40.0))
    expected = 'vc_gencmd_read_response returned -1\nerror=1 error_msg="Command not registered"\n'
    assert _vcgencmd(tmp_path / "root", "measure_moon") == (255, expected)


def test_idle_rails_are_the_recorded_ones_and_load_is_drawn_from_the_core(tmp_path: Path) -> None:
    def total_w(text: str) -> float:
        amps = dict(re.findall(r"(\S+)_A current\(\d+\)=([0-9.]+)A", text))
        volts = dict(re.findall(r"(\S+)_V volt\(\d+\)=([0-9.]+)V", text))
        assert (len(amps), len(volts)) == (12, 14)
        return sum(float(amps[name]) * float(volts[name]) for name in amps)

    assert pi5.pmic(0.0) == tree.recorded("pmic_read_adc-pi5-idle-70472762044")
    assert total_w(pi5.pmic(0.0)) == pytest.approx(1.90, abs=0.01)
    assert total_w(pi5.pmic(4.0)) == pytest.approx(5.90, abs=0.01)


def test_a_recording_that_is_shipped_is_the_recording() -> None:
    folder = Path(tree.__file__).parent / "recordings"
    for file in folder.iterdir():
        assert file.read_text().startswith("# source: ")
        known = Path(__file__).parents[2] / "recordings" / file.name
        assert not known.exists() or known.read_bytes() == file.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_memory_load_and_the_lock_are_this_machines_own(kind: str, tmp_path: Path) -> None:
    root = _planted(tmp_path / "root", KINDS[kind], State(40.0))
    assert readers.context(root)["memory_total_bytes"] == readers.context("/")["memory_total_bytes"]
    assert readers.cpus(root) == readers.cpus("/")
    assert cgroup._parents(root, "memory") == [
        (root + folder, version) for folder, version in cgroup._parents("/", "memory")
    ]
    path, fd = guard._open(root)
    os.close(fd)
    assert Path(path).resolve() in (Path("/run/lock/benchfarm.lock"), Path("/tmp/benchfarm.lock"))


def test_the_governor_can_be_set_and_is_back_at_the_next_start(tmp_path: Path) -> None:
    root = _planted(tmp_path / "root", pi5.KIND, State(40.0))
    (governor,) = [knob for knob in quiet.knobs(root) if knob.name == "governor.policy0"]
    assert (governor.wanted, governor.write("performance")) == ("performance", "")
    assert tree.governor(Path(root)) == "performance"
    tree.plant(Path(root), pi5.KIND)
    assert tree.governor(Path(root)) == "ondemand"


def test_planting_anew_touches_nothing_of_this_machine(tmp_path: Path) -> None:
    root = tmp_path / "root"
    _planted(root, orin.KIND, State(40.0))
    before = Path("/proc/sys/kernel/random/boot_id").read_text(), sorted(os.listdir("/run/lock"))
    tree.plant(root, orin.KIND)
    assert before == (Path("/proc/sys/kernel/random/boot_id").read_text(), sorted(os.listdir("/run/lock")))


def test_a_file_that_is_held_open_shows_each_new_value(tmp_path: Path) -> None:
    writer = tree.Writer(tmp_path)
    writer.write({"/sys/temp": "100000\n"})
    fd = os.open(tmp_path / "sys/temp", os.O_RDONLY)
    writer.write({"/sys/temp": "99\n"})
    assert os.pread(fd, 64, 0) == b"99\n"
    os.close(fd)


def test_a_tree_that_was_damaged_does_not_end_the_boards(tmp_path: Path) -> None:
    assert tree.governor(tmp_path) == ""
    writer = tree.Writer(tmp_path)
    (tmp_path / "sys").write_text("in the way")
    writer.write({"/sys/temp": "1\n"})
    (tmp_path / "sys").unlink()
    writer.write({"/sys/temp": "1\n"})
    assert (tmp_path / "sys/temp").read_text() == "1\n"
