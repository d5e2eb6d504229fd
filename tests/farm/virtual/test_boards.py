"""Virtual boards as the farm sees them: started, probed, measured on, throttled."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from farm_agent import wire

from farm import agent, boarding, bundle, domain
from farm.connections import Connections
from farm.errors import BoardBusy, InputError, LabError
from farm.settings import Settings
from farm.transport import reach
from farm.virtual import VirtualBoards
from tests.farm.virtual.conftest import Start, tree_file, until

TEMP = "/sys/class/thermal/thermal_zone0/temp"
CLOCK = "/sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq"
THROTTLED = "/sys/devices/platform/soc/soc:firmware/get_throttled"
GOVERNOR = "/sys/devices/system/cpu/cpufreq/policy0/scaling_governor"
# Says its pid, then its CPU time against the clock, until it has input.
SPIN = """
import os, select, sys, time
print(os.getpid())
while True:
    used, began = time.process_time(), time.monotonic()
    while time.monotonic() < began + 0.25:
        pass
    print((time.process_time() - used) / (time.monotonic() - began), flush=True)
    if select.select([sys.stdin], [], [], 0)[0]:
        break
"""


@pytest.mark.parametrize(("count", "hot"), [(0, 0), (-1, 0), (65, 0), (2, 3), (2, -1)])
def test_an_impossible_number_is_refused(count: int, hot: int, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be started"):
        VirtualBoards(tmp_path, count, hot=hot)


def test_a_start_that_fails_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "virtual-1").write_text("in the way")
    boards = VirtualBoards(tmp_path / "v", 1)
    with pytest.raises(LabError, match=r"exit status 1\..*FileExistsError.*log"):
        boards.start()
    assert boards.boards() == ()
    boards.stop()


def test_stopping_twice_or_before_the_start_is_no_error(start: Start, tmp_path: Path) -> None:
    VirtualBoards(tmp_path / "never", 1).stop()
    boards = start()
    boards.stop()
    boards.stop()
    assert boards.boards() == ()


def test_they_are_named_in_order_and_marked_virtual(start: Start) -> None:
    boards = start(3).boards()
    assert [board.name for board in boards] == ["virtual-1", "virtual-2", "virtual-3"]
    assert all(board.is_virtual and board.root != "/" and board.tags == ("virtual",) for board in boards)
    assert {board.python for board in boards} == {sys.executable}
    assert len({(board.address, board.root, board.home) for board in boards}) == 3


def test_what_lies_in_a_home_is_still_there_after_the_next_start(start: Start) -> None:
    first = start()
    home = Path(first.boards()[0].home)
    home.mkdir()
    (home / "kept").write_text("cached")
    first.stop()
    assert (Path(start().boards()[0].home) / "kept").read_text() == "cached"


def test_each_answers_to_probe_as_its_family_with_the_models_values(start: Start, known: Settings) -> None:
    pi, orin = start(2).boards()
    assert tree_file(pi, TEMP) == "34500"  # 25 + 1.9 W * 5 K/W
    assert tree_file(orin, TEMP) == "38600"  # 25 + 4.0 W * 3.4 K/W
    found = [asyncio.run(boarding.probe(board, connections=Connections(known))) for board in (pi, orin)]
    assert [one["is_virtual"] for one in found] == [True, True]
    assert [one["identity"]["family"] for one in found] == ["raspberrypi", "jetson"]
    assert found[0]["identity"]["generation"] == 5
    assert all(one["sensors"][name]["present"] for one in found for name in ("thermal", "cpufreq", "cpu", "memory"))
    assert 34_500 < int(tree_file(pi, TEMP)) < 40_000  # the probe was work


async def _measure(board: domain.Board, known: Settings) -> tuple[dict[str, Any], domain.BlockResult]:
    """One Block of the runtime `fake` by the agent: (what the board said it is, the result)."""
    model = json.dumps({"latency_us": 200}).encode()
    sha256 = hashlib.sha256(model).hexdigest()
    source = known.data_dir / "steady.fake"
    source.parent.mkdir()
    source.write_bytes(model)
    plan = wire.Plan(runtime="fake", duration_s=0.6, min_queries=20, processes=1, warmup_s=0.02)
    block = wire.Block(
        index=0, arm="A", pair=-1, plan=plan, artifact=sha256, entry=source.name, files={source.name: sha256}
    )
    async with reach(board, known) as transport:
        zip_path = await boarding.push_agent(transport)
        await transport.push(source, f"artifacts/{sha256}/{source.name}", sha256=sha256)
        terms = agent.Terms(
            farm=f"virtual-tests-{os.getpid()}/{board.name}", token=1, ttl_s=30.0, holder="tests", python=board.python,
            subject_python=board.python, zip_path=zip_path, agent_hash=bundle.agent_hash(), root=board.root,
        )  # fmt: skip
        async with asyncio.timeout(60):  # someone else of this machine may measure
            while True:
                try:
                    async with agent.start(transport, board.name, terms) as worker:
                        return worker.probe, await worker.measure(block, watch=lambda event: None)
                except BoardBusy:
                    await asyncio.sleep(0.3)


def test_a_measurement_is_marked_virtual_and_holds_the_models_values(start: Start, known: Settings) -> None:
    board = start(2).boards()[1]
    facts, result = asyncio.run(_measure(board, known))
    assert (result.outcome, facts["is_virtual"]) == (domain.Outcome.OK, True)
    assert facts["identity"]["model"].endswith("(virtual)")
    assert "cgroup" in str(result.facts["limits"]) or "RLIMIT" in str(result.facts["limits"])
    samples = {one.metric: one.value for one in result.samples}
    assert len(samples["latency_ns"]) >= 20
    assert 38.0 < samples["cpu_thermal.temp_c"][-1] < 60.0
    assert samples["policy0.freq_hz"][-1] == 1_728_000_000  # the agent asked for the governor `performance`
    assert tree_file(board, GOVERNOR) == "schedutil"  # and has put it back
    assert json.loads((Path(board.home) / "guard.log").read_text().splitlines()[-1])["what"] == "release"


def test_two_virtual_boards_of_one_machine_never_measure_at_once(start: Start, known: Settings) -> None:
    first, second = start(2).boards()

    async def both() -> None:
        async with reach(first, known) as one, reach(second, known) as two:
            zips = [await boarding.push_agent(way) for way in (one, two)]
            terms = [
                agent.Terms(
                    farm=f"virtual-tests-{os.getpid()}/{board.name}", token=1, ttl_s=30.0, holder=board.name,
                    python=board.python, subject_python=board.python, zip_path=zip_path,
                    agent_hash=bundle.agent_hash(), root=board.root,
                )
                for board, zip_path in zip((first, second), zips, strict=True)
            ]  # fmt: skip
            async with asyncio.timeout(60):
                while True:
                    try:
                        async with agent.start(one, first.name, terms[0]):
                            with pytest.raises(BoardBusy, match="held by virtual-1"):
                                async with agent.start(two, second.name, terms[1]):
                                    pass
                        return
                    except BoardBusy:
                        await asyncio.sleep(0.3)

    asyncio.run(both())


def _stopped_ratio(pid: int) -> float:
    """The share of 300 looks that found the process stopped."""
    found = 0
    for _ in range(300):
        found += Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        time.sleep(0.0037)
    return found / 300


def test_a_busy_hot_board_throttles_for_real_and_an_idle_cool_one_does_not(start: Start, known: Settings) -> None:
    hot, _, cool = start(3, hot=1).boards()
    assert (tree_file(hot, TEMP), tree_file(hot, THROTTLED), tree_file(hot, CLOCK)) == ("61600", "0", "1500000")

    async def work() -> tuple[list[float], float, float]:
        async with reach(hot, known) as transport:
            channel = await transport.start([sys.executable, "-S", "-c", SPIN])
            lines = channel.lines()
            pid = int(await anext(lines))
            free = await asyncio.to_thread(_stopped_ratio, pid)
            while not int(tree_file(hot, THROTTLED), 16) & 0x8:  # its soft limit, now
                await anext(lines)
            slowed = await asyncio.to_thread(_stopped_ratio, pid)
            return [float(await anext(lines)) for _ in range(6)], free, slowed

    shares, free, slowed = asyncio.run(work())
    assert free == 0.0
    assert 0.15 < slowed < 0.75  # 0.375 at its soft limit, 0.667 at its hard one
    assert sum(shares) / len(shares) < 0.75  # at most 0.625, less where others use this machine too
    hottest = int(tree_file(hot, TEMP))
    assert hottest > 79_000
    assert int(tree_file(hot, CLOCK)) <= 1_500_000
    assert int(tree_file(hot, THROTTLED), 16) >> 16 & 0x8
    assert (tree_file(cool, TEMP), tree_file(cool, THROTTLED)) == ("34500", "0")
    assert until(lambda: int(tree_file(hot, TEMP)) < hottest - 500)  # and cools when the work is over
    assert until(lambda: int(tree_file(hot, THROTTLED), 16) & 0xF == 0)
