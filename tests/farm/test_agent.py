"""What the coordinator believes of a board, and what not. The agents here are stand-ins: scripts that misbehave."""

from __future__ import annotations

import asyncio
import base64
import json
import stat
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from farm_agent import wire

from farm import agent, domain, settings
from farm.errors import AgentCrashed, AgentMismatch, BoardBusy, BoardRefused, FarmError, LeaseLost
from farm.transport import reach

HELLO = {"event": "hello", "wire": wire.VERSION, "measure": wire.MEASURE_VERSION, "agent": "abc", "probe": {}}
PONG = "pong"
BLOCK = wire.Block(0, "a", -1, wire.Plan(runtime="fake"), "0" * 64, "m.fake", {"m.fake": "0" * 64})
HEAD = {"event": "block", "block": 0, "outcome": "OK", "reasons": [], "stages": {}, "facts": {}, "columns": 1}

SCRIPT = """#!{python}
import json, sys
for step in json.load(open({steps!r})):
    if step == "pong":
        n = json.loads(sys.stdin.readline())["n"]
        step = {{"event": "pong", "n": n, "t_ns": 5, "unix_ns": 6}}
    elif step == "request":
        sys.stdin.readline()
        continue
    elif isinstance(step, int):
        sys.stderr.write("the last words\\n")
        sys.exit(step)
    print(step if isinstance(step, str) else json.dumps(step), flush=True)
sys.stdin.read()
"""


def column(**changes: Any) -> dict[str, Any]:
    """A good column event of two samples, but for the changes."""
    packed = base64.b64encode(zlib.compress(b"\x01" + bytes(15))).decode()
    good = {"event": "column", "block": 0, "metric": "latency_ns", "part": 0, "parts": 1, "n": 2}
    return {**good, "t": packed, "v": packed, "t_type": "q", "v_type": "q", **changes}


def measure(folder: Path, *steps: Any) -> domain.BlockResult:
    """One Block by an agent that says these steps."""
    (folder / "steps.json").write_text(json.dumps(steps))
    script = folder / "agent"
    script.write_text(SCRIPT.format(python=sys.executable, steps=str(folder / "steps.json")))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    terms = agent.Terms("farm/pi", 7, 30.0, "me", str(script), sys.executable, "/x.zip", "abc")

    async def trip() -> domain.BlockResult:
        board = domain.Board("pi", home=str(folder / "home"))
        async with (
            reach(board, settings.load({"data_dir": str(folder)}, {})) as transport,
            agent.start(transport, "pi", terms) as worker,
        ):
            return await worker.measure(BLOCK, watch=lambda event: None)

    return asyncio.run(trip())


def test_a_good_block_comes_back_whole(tmp_path: Path) -> None:
    stage = {"t_ns": 3, "memory": {"rss_bytes": 9, "swap_bytes": None}}
    steps = [HELLO, PONG, "request", {**HEAD, "stages": {"load": stage}}, column(), {"event": "done", "block": 0}]
    result = measure(tmp_path, *steps, PONG)
    assert result.outcome is domain.Outcome.OK
    assert result.stages == {"load": {"t_ns": 3, "rss_bytes": 9, "swap_bytes": None}}
    (samples,) = result.samples
    assert (samples.metric, samples.t_ns.tolist(), samples.value.tolist()) == ("latency_ns", [1, 0], [1, 0])


@pytest.mark.parametrize(
    ("change", "seen"),
    [({"wire": 2}, "wire = 2"), ({"measure": 0}, "measure = 0"), ({"agent": "def"}, "agent = 'def'")],
)
def test_an_agent_of_another_version_is_refused_with_both_and_what_to_do(
    tmp_path: Path, change: dict[str, Any], seen: str
) -> None:
    with pytest.raises(AgentMismatch, match=f"board 'pi' says {seen}; this coordinator has .*Remove /x.zip"):
        measure(tmp_path, {**HELLO, **change})


@pytest.mark.parametrize(
    ("code", "kind"), [("busy", BoardBusy), ("refused_token", LeaseLost), ("disk_full", BoardRefused)]
)
def test_an_agent_that_refuses_is_told_by_its_code(tmp_path: Path, code: str, kind: type[FarmError]) -> None:
    with pytest.raises(kind, match="because of that"):
        measure(tmp_path, {"event": "error", "code": code, "message": "because of that"})


def test_an_agent_that_dies_before_hello_is_told_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(AgentCrashed, match=r"exit status 3\).*the last words"):
        measure(tmp_path, 3)


def test_an_agent_that_dies_in_a_block_is_told_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(AgentCrashed, match=r"exit status 1\).*the last words"):
        measure(tmp_path, HELLO, PONG, "request", HEAD, 1)


@pytest.mark.parametrize("reason", ["ttl", "superseded"])
def test_an_agent_that_let_go_means_a_lost_lease(tmp_path: Path, reason: str) -> None:
    with pytest.raises(LeaseLost, match=reason):
        measure(tmp_path, HELLO, PONG, "request", {"event": "end", "reason": reason})


@pytest.mark.parametrize(
    "line",
    [
        "Welcome to this board!",
        "[1, 2]",
        '{"event": 7}',
        {"event": "surprise"},
        {**HEAD, "outcome": "GREAT"},
        {**HEAD, "reasons": [{"text": "no code"}]},
        {**HEAD, "stages": {"load": {"t_ns": 1, "memory": {"rss_bytes": "many"}}}},
        {**HEAD, "columns": 2},
        column(n=3),
        column(n=-1),
        column(n=10**9),
        column(part=1),
        column(metric="latency"),
        column(metric=None),
        column(v_type="f"),
        column(t="!!!"),
        column(v="AAAA"),
    ],
)
def test_what_breaks_the_protocol_ends_the_run_and_is_never_stored(tmp_path: Path, line: Any) -> None:
    done = {"event": "done", "block": 0}
    head = [] if isinstance(line, dict) and line.get("event") == "block" else [HEAD]
    with pytest.raises(AgentCrashed, match="broke the protocol"):
        measure(tmp_path, HELLO, PONG, "request", *head, line, *([] if head else [column()]), done)


def test_a_column_that_unpacks_to_more_than_it_says_is_refused_without_unpacking_it_all(tmp_path: Path) -> None:
    bomb = base64.b64encode(zlib.compress(bytes(200_000_000), 9)).decode()
    with pytest.raises(AgentCrashed, match="17 bytes for 2 samples"):
        measure(tmp_path, HELLO, PONG, "request", HEAD, column(v=bomb), {"event": "done", "block": 0})


def test_control_characters_of_a_board_are_not_shown(tmp_path: Path) -> None:
    reason = {"code": "x\x1b[2J", "text": "a\x07b\x00c", "blame": "the moon"}
    steps = [HELLO, PONG, "request", {**HEAD, "outcome": "FAILED", "reasons": [reason]}, column()]
    result = measure(tmp_path, *steps, {"event": "done", "block": 0}, PONG)
    assert result.reasons == (domain.Reason("x [2J", "a b c", None),)


@pytest.mark.parametrize("ticks", range(5))
def test_a_cancellation_that_meets_an_event_is_never_swallowed(ticks: int) -> None:
    async def race() -> None:
        events: asyncio.Queue[dict[str, Any] | BaseException] = asyncio.Queue()
        worker = agent.Agent("pi", None, {}, events)  # type: ignore[arg-type] - nothing is sent
        waiting = asyncio.create_task(worker._next())
        await asyncio.sleep(0)
        events.put_nowait({"event": "alive"})
        for _ in range(ticks):
            await asyncio.sleep(0)
        if waiting.cancel():  # it had not ended yet
            with pytest.raises(asyncio.CancelledError):
                await waiting
        else:
            assert (await waiting)["event"] == "alive"

    asyncio.run(race())
