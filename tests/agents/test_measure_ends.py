"""However and whenever a session ends, the board is as it was: no process, old governor, free lock, no work folder."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.agents.supervised import Agent, Home, build_zip, wait_until

Start = Callable[..., Agent]
SLOW_PREPARE = "import time\ndef main(argv):\n    time.sleep(600)\n"


@pytest.fixture
def governor(home: Home) -> Iterator[Path]:
    """A stand-in cpufreq policy that is on `ondemand`; the test must leave it so."""
    path = home.governor("ondemand")
    yield path
    assert path.read_text() == "ondemand"


def assert_clean(home: Home, agent: Agent) -> None:
    wait_until(lambda: home.processes() == [])
    assert sorted(os.listdir(home.path)) == ["agents", "artifacts", "guard.log", "run"]
    assert os.listdir(home.path / "run") == []
    assert [line["what"] for line in home.guard_log()] == ["acquire", "release"]
    assert json.loads((home.root / "run/lock/benchfarm.lock").read_text())["holder"] is None


def to_prepare(home: Home, agent: Agent) -> None:
    agent.measure(home.artifact("m.fake", b"{}"))
    wait_until(lambda: any(" prepare" in line for line in home.processes()))


def to_load(home: Home, agent: Agent) -> None:
    agent.measure(home.artifact("m.fake", b'{"misbehave": {"stage": "load", "how": "sleep_forever_ignoring_signals"}}'))
    agent.until("stage", stage="runtime")


def to_timed(home: Home, agent: Agent) -> None:
    agent.measure(home.artifact("m.fake", b'{"latency_us": 1000}'), plan={"duration_s": 60})
    agent.until("stage", stage="timed")


def to_columns(home: Home, agent: Agent) -> None:
    agent.measure(home.artifact("m.fake", b"{}"), plan={"min_queries": 100_000})
    agent.until("block")  # and read no further: 100 000 samples do not fit into the pipe


STAGES: dict[str, Callable[[Home, Agent], None]] = {
    "prepare": to_prepare,
    "load": to_load,
    "timed": to_timed,
    "columns": to_columns,
}


def begun(home: Home, start: Start, stage: str) -> Agent:
    if stage == "prepare":
        build_zip(home.zip, {"farm_agent/prepare.py": SLOW_PREPARE})
    agent = start()
    agent.until("hello")
    assert (home.root / "sys/devices/system/cpu/cpufreq/policy0/scaling_governor").read_text() == "performance"
    STAGES[stage](home, agent)
    return agent


@pytest.mark.parametrize("stage", STAGES)
def test_end_of_stdin_leaves_a_clean_board(home: Home, start: Start, governor: Path, stage: str) -> None:
    agent = begun(home, start, stage)
    agent.close_stdin()
    assert agent.wait() == 0
    assert_clean(home, agent)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_leaves_a_clean_board(home: Home, start: Start, governor: Path, number: signal.Signals) -> None:
    agent = begun(home, start, "load")
    agent.process.send_signal(number)
    assert agent.rest()[-1] == {"event": "end", "reason": "signal"}
    assert agent.wait() == 0
    assert_clean(home, agent)


def test_a_reader_that_is_gone_leaves_a_clean_board(home: Home, start: Start, governor: Path) -> None:
    agent = begun(home, start, "timed")
    assert agent.process.stdout is not None
    agent.process.stdout.close()
    assert agent.wait() == 0
    assert_clean(home, agent)


def test_a_lease_that_is_not_renewed_ends_the_session(home: Home, start: Start, governor: Path) -> None:
    agent = start(ttl_s="1.5")
    agent.until("hello")
    to_load(home, agent)
    assert agent.rest()[-1] == {"event": "end", "reason": "ttl"}
    assert_clean(home, agent)


def test_a_renewed_lease_lives_on(home: Home, start: Start, governor: Path) -> None:
    agent = start(ttl_s="1.5")
    agent.send(do="renew", ttl_s=60)
    agent.measure(home.artifact("m.fake", b'{"latency_us": 1000}'), plan={"duration_s": 2.0})
    assert agent.until("block")["outcome"] == "OK"
    agent.send(do="bye")
    assert agent.rest()[-1]["reason"] == "bye"
    assert_clean(home, agent)


@pytest.mark.parametrize("stage", ["prepare", "load", "timed"])
def test_a_killed_agent_takes_its_children_along_and_the_next_one_tidies_up(
    home: Home, start: Start, governor: Path, stage: str
) -> None:
    agent = begun(home, start, stage)
    assert home.processes() != []
    agent.process.kill()
    agent.wait()
    wait_until(lambda: home.processes() == [])
    assert governor.read_text() == "performance"
    build_zip(home.zip, {})
    after = start(token=8)
    hello = after.until("hello")
    after.measure(home.artifact("m.fake", b"{}"))
    assert after.until("block")["outcome"] == "OK"
    notes = [event["text"] for event in after.events if event["event"] == "note"]
    assert any("governor.policy0: performance -> ondemand" in note for note in notes)
    assert any(f"(token 7, pid {agent.process.pid}) ended without giving the board back" in note for note in notes)
    assert hello["token"] == 8
    after.close_stdin()
    assert after.wait() == 0
    assert os.listdir(home.path / "run") == []
    assert not (home.path / "restore.json").exists()


def test_a_subject_that_kills_the_agent_does_not_outlive_it(home: Home, start: Start) -> None:
    agent = start()
    agent.measure(home.artifact("m.fake", b'{"misbehave": {"stage": "load", "how": "kill_parent"}}'))
    assert agent.wait() == -signal.SIGKILL
    wait_until(lambda: home.processes() == [])


def test_a_process_that_outlived_a_killed_agent_is_found_by_the_next(home: Home, start: Start) -> None:
    agent = start()
    model = b'{"latency_us": 1000, "misbehave": {"stage": "first", "how": "leave_the_group"}}'
    agent.measure(home.artifact("m.fake", model), plan={"duration_s": 60})
    agent.until("stage", stage="timed")
    agent.process.kill()
    agent.wait()
    wait_until(lambda: len(home.processes()) == 1)
    after = start(token=8)
    after.until("hello")
    assert home.processes() == []
    after.close_stdin()
    notes = [event["text"] for event in after.rest() if event["event"] == "note"]
    assert "1 processes of an earlier Block were still there; they were killed." in notes


def test_a_higher_token_stops_the_holder_and_waits_for_its_knobs(home: Home, start: Start, governor: Path) -> None:
    old = begun(home, start, "timed")
    new = start(token=8)
    hello = new.until("hello")
    assert hello["token"] == 8
    assert old.rest()[-1] == {"event": "end", "reason": "superseded"}
    assert old.wait() == 0
    new.close_stdin()
    assert new.wait() == 0
    log = home.guard_log()
    assert [(line["what"], line["token"]) for line in log] == [
        ("acquire", 7),
        ("supersede", 8),
        ("release", 7),
        ("acquire", 8),
        ("release", 8),
    ]
    assert [line["unix_ns"] for line in log] == sorted(line["unix_ns"] for line in log)


def test_a_lower_token_is_refused_even_when_nobody_holds_the_board(home: Home, start: Start) -> None:
    first = start(token=9)
    first.until("hello")
    first.close_stdin()
    first.wait()
    late = start(token=8)
    assert [event["event"] for event in late.rest()] == ["error", "end"]
    assert (late.events[0]["code"], late.events[1]["reason"]) == ("refused_token", "refused")
    assert late.wait() == 3
    assert os.listdir(home.path / "run") == []


def test_a_frozen_and_woken_agent_ends_by_itself(home: Home, start: Start) -> None:
    agent = start(ttl_s="1")
    agent.until("hello")
    agent.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, agent.process.pid, os.WSTOPPED | os.WNOWAIT)
    time.sleep(1.2)  # the lease's end passes while it is frozen
    agent.process.send_signal(signal.SIGCONT)
    assert agent.rest()[-1]["reason"] == "ttl"
