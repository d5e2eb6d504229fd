"""Knobs: a stand-in cpufreq tree is calmed, told and put back; what may not be written is said, never an error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from farm_agent import quiet


class Tree:
    """A stand-in for /sys with cpufreq policies, and an agent's home."""

    def __init__(self, folder: Path) -> None:
        self.root, self.home = folder / "root", folder / "home"
        self.home.mkdir()
        self.boot = self.root / "proc/sys/kernel/random/boot_id"
        self.boot.parent.mkdir(parents=True)
        self.boot.write_text("boot-1\n")

    def policy(self, name: str, governor: str, available: str = "ondemand performance") -> Path:
        folder = self.root / "sys/devices/system/cpu/cpufreq" / name
        folder.mkdir(parents=True)
        (folder / "scaling_available_governors").write_text(available + " \n")
        (folder / "scaling_governor").write_text(governor + "\n")
        return folder / "scaling_governor"

    def quiet(self) -> quiet.Quiet:
        return quiet.Quiet(str(self.root), str(self.home))


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_a_board_without_knobs_is_left_alone(tree: Tree) -> None:
    calm = tree.quiet()
    calm.write()
    assert (calm.facts, calm.restore(), list(tree.home.iterdir())) == ([], [], [])


def test_governors_are_written_saved_first_and_restored(tree: Tree) -> None:
    little, big = tree.policy("policy0", "ondemand"), tree.policy("policy4", "performance")
    calm = tree.quiet()
    calm.write()
    assert (little.read_text(), big.read_text()) == ("performance", "performance\n")
    assert json.loads((tree.home / "restore.json").read_text()) == {
        "boot": "boot-1",
        "knobs": {"governor.policy0": {"was": "ondemand", "wrote": "performance"}},
    }
    assert calm.facts == [
        {"name": "governor.policy0", "was": "ondemand", "now": "performance", "written": True, "reason": ""},
        {"name": "governor.policy4", "was": "performance", "now": "performance", "written": False, "reason": ""},
    ]
    assert calm.restore() == ["governor.policy0: performance -> ondemand"]
    assert (little.read_text(), big.read_text()) == ("ondemand", "performance\n")
    assert calm.restore() == []
    assert list(tree.home.iterdir()) == []


def test_a_governor_that_the_kernel_does_not_have_is_only_shown(tree: Tree) -> None:
    tree.policy("policy0", "schedutil", available="schedutil powersave")
    calm = tree.quiet()
    calm.write()
    assert calm.facts[0]["reason"] == "only shown"


def test_transparent_huge_pages_are_shown_never_written(tree: Tree) -> None:
    path = tree.root / "sys/kernel/mm/transparent_hugepage/enabled"
    path.parent.mkdir(parents=True)
    path.write_text("always [madvise] never\n")
    calm = tree.quiet()
    calm.write()
    assert calm.facts[0]["now"] == "always [madvise] never"
    assert path.read_text() == "always [madvise] never\n"


def test_a_knob_that_may_not_be_written_is_told_with_the_reason(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    governor = tree.policy("policy0", "ondemand")
    governor.unlink()
    governor.symlink_to("/proc/self/comm_is_not_here/governor")
    calm = tree.quiet()
    calm.write()
    assert calm.facts == []
    governor.unlink()
    governor.symlink_to("/proc/version")  # readable by all, writable by none, root included
    calm = tree.quiet()
    calm.write()
    assert calm.facts[0]["written"] is False
    assert calm.facts[0]["reason"] != ""
    assert not (tree.home / "restore.json").exists()


def test_what_cannot_be_saved_is_not_written(tree: Tree) -> None:
    governor = tree.policy("policy0", "ondemand")
    (tree.home / "restore.json.new").mkdir()
    calm = tree.quiet()
    calm.write()
    assert governor.read_text() == "ondemand\n"
    assert calm.facts[0]["reason"].startswith("the old value could not be saved")


def test_the_next_agent_puts_back_what_a_killed_one_left(tree: Tree) -> None:
    governor = tree.policy("policy0", "ondemand")
    tree.quiet().write()
    after = tree.quiet()
    assert after.restore_leftovers() == [
        "An agent was killed before it could tidy up. governor.policy0: performance -> ondemand"
    ]
    assert governor.read_text() == "ondemand"
    assert tree.quiet().restore_leftovers() == []


def test_leftovers_that_a_person_has_changed_since_are_left_alone(tree: Tree) -> None:
    governor = tree.policy("policy0", "ondemand")
    tree.quiet().write()
    governor.write_text("powersave\n")
    lines = tree.quiet().restore_leftovers()
    assert lines[0].endswith("governor.policy0 is powersave, not the performance we wrote: left alone.")
    assert governor.read_text() == "powersave\n"


def test_leftovers_from_before_a_reboot_are_forgotten(tree: Tree) -> None:
    governor = tree.policy("policy0", "ondemand")
    tree.quiet().write()
    tree.boot.write_text("boot-2\n")
    assert tree.quiet().restore_leftovers() == []
    assert governor.read_text() == "performance"
    assert list(tree.home.iterdir()) == []


@pytest.mark.parametrize("content", ["", "[]", '{"boot": "boot-1"}', '{"boot": "boot-1", "knobs": {"a": 1}}'])
def test_an_unreadable_restore_file_is_told_and_removed(tree: Tree, content: str) -> None:
    (tree.home / "restore.json").write_text(content)
    assert "could not be read" in tree.quiet().restore_leftovers()[0]
    assert list(tree.home.iterdir()) == []


def test_a_restore_file_cannot_name_a_path_of_its_own(tree: Tree, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("x")
    saved = {"boot": "boot-1", "knobs": {str(victim): {"was": "owned", "wrote": "x"}}}
    (tree.home / "restore.json").write_text(json.dumps(saved))
    tree.quiet().restore_leftovers()
    assert victim.read_text() == "x"


@pytest.mark.parametrize(
    ("cpus", "threads", "subject", "supervisor", "is_shared"),
    [
        ([0, 1], 1, [1], [0], False),
        ([0, 1], 2, [0, 1], [0], True),
        ([5, 4, 3, 2, 1, 0, 6, 7], 4, [4, 5, 6, 7], [0], False),
        ([3], 1, [3], [3], True),
        ([0, 1], 9, [0, 1], [0], True),
    ],
)
def test_the_subject_gets_the_last_cpus(
    cpus: list[int], threads: int, subject: list[int], supervisor: list[int], is_shared: bool
) -> None:
    assert quiet.share_cpus(cpus, threads) == {
        "subject": subject,
        "sampler": supervisor,
        "supervisor": supervisor,
        "is_shared": is_shared,
    }
