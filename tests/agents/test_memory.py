"""Memory as /proc tells it, recorded and real; clocks and the offset between two."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

import pytest
from farm_agent import clock, memory

STATUS = """Name:\tpython3 (a) b
VmPeak:\t  200 kB
VmHWM:\t   90 kB
VmRSS:\t   80 kB
RssAnon:\t   50 kB
RssFile:\t   25 kB
RssShmem:\t    5 kB
VmSwap:\t    7 kB
Threads:\t3
"""
ROLLUP = (
    "00400000-7fff00000000 ---p 00000000 00:00 0 [rollup]\nRss:  80 kB\nPss:  60 kB\nPss_Anon: 50 kB\nSwapPss: 7 kB\n"
)
STAT = "42 (python3 (a) b) R 1 42 42 0 -1 4194304 1234 99 7 3 50 20 0 0 20 0 1 0 100 5000 20 18446744073709551615"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A recorded process."""
    (tmp_path / "status").write_text(STATUS)
    (tmp_path / "smaps_rollup").write_text(ROLLUP)
    (tmp_path / "stat").write_text(STAT)
    return tmp_path


def test_a_process_that_is_gone_has_no_numbers(tmp_path: Path) -> None:
    assert set(memory.snapshot(str(tmp_path)).values()) == {None}
    assert memory.faults(str(tmp_path)) == (None, None)
    assert memory.rss_bytes(str(tmp_path)) is None
    assert memory.reset_peak(str(tmp_path)) is False


def test_a_kernel_without_some_lines_gives_none_for_them(proc: Path) -> None:
    (proc / "status").write_text("VmRSS:\t 80 kB\n")

    found = memory.snapshot(str(proc))

    assert found["rss_bytes"] == 81920
    assert found["anon_bytes"] is None
    assert found["swap_bytes"] is None


def test_a_recorded_process_is_read_in_bytes(proc: Path) -> None:
    assert memory.snapshot(str(proc)) == {
        "rss_bytes": 81920,
        "anon_bytes": 51200,
        "file_bytes": 25600,
        "swap_bytes": 7168,
        "peak_bytes": 92160,
        "virtual_peak_bytes": 204800,
        "pss_bytes": 61440,
    }
    assert memory.rss_bytes(str(proc)) == 81920


def test_the_programs_name_cannot_confuse_the_fault_counters(proc: Path) -> None:
    assert memory.faults(str(proc)) == (1234, 7)


def test_a_kernel_without_smaps_rollup_is_read_from_smaps(proc: Path) -> None:
    (proc / "smaps_rollup").rename(proc / "smaps")
    (proc / "smaps").write_text(ROLLUP + ROLLUP)

    assert memory.pss_bytes(str(proc)) == 122880


def test_the_peak_holds_what_was_freed_and_starts_again_after_a_reset() -> None:
    size = 32 << 20
    before = memory.snapshot()["rss_bytes"]
    _touch_and_free(size)
    peak = memory.snapshot()["peak_bytes"]
    assert before is not None
    assert peak is not None
    assert peak >= before + size * 0.95

    if not memory.reset_peak():
        pytest.skip("this kernel does not let a process reset its own peak")
    after = memory.snapshot()["peak_bytes"]
    assert after is not None
    assert after < peak - size / 2


def test_touching_memory_counts_as_minor_faults() -> None:
    before, _ = memory.faults()
    _touch_and_free(4 << 20)
    after, _ = memory.faults()

    assert before is not None
    assert after is not None
    assert after - before >= 2  # at least one even where huge pages are in use


def test_an_offset_needs_a_ping_that_was_answered() -> None:
    with pytest.raises(ValueError, match="no ping was answered"):
        clock.offset([])


def test_an_answer_before_its_question_is_refused() -> None:
    with pytest.raises(ValueError, match="10 ns before its ping"):
        clock.offset([(100, 500, 90)])


def test_the_shortest_round_trip_gives_the_offset_and_half_of_it_the_error() -> None:
    assert clock.offset([(0, 5_300, 600), (1_000, 6_051, 1_101), (2_000, 7_900, 3_000)]) == (5_001, 51)


@pytest.mark.parametrize("way_there_ns", [0, 37, 100])
def test_the_true_offset_is_within_the_error_however_unequal_the_ways_are(way_there_ns: int) -> None:
    true = -12_345
    offset, error = clock.offset([(10_000, 10_000 + way_there_ns + true, 10_100)])

    assert abs(offset - true) <= error == 50


def test_an_anchor_takes_the_try_with_the_narrowest_bracket() -> None:
    monotonic = iter([0, 900, 1_000, 1_010, 2_000, 2_500])
    wall = iter([7, 8, 9])

    found = clock.anchor(3, monotonic=lambda: next(monotonic), wall=lambda: next(wall))

    assert found == {"t_ns": 1_005, "unix_ns": 8, "error_ns": 5}


def test_the_boards_clock_is_clock_monotonic() -> None:
    timespec = (ctypes.c_long * 2)()
    before = clock.now_ns()
    assert ctypes.CDLL(None).clock_gettime(1, timespec) == 0  # 1 is CLOCK_MONOTONIC in linux/time.h
    assert before <= timespec[0] * 10**9 + timespec[1] <= clock.now_ns()


def _touch_and_free(size: int) -> None:
    block = mmap.mmap(-1, size)
    for at in range(0, size, os.sysconf("SC_PAGESIZE")):
        block[at] = 1
    block.close()
