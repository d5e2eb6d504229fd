"""A subject that misbehaves ends in FAILED with a code, the stage and its last words; the agent lives on."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.agents.supervised import Agent, Home, build_zip

Start = Callable[..., Agent]
LIMITS = {"load_s": 1.0, "run_s": 1.8, "memory_bytes": 96 << 20}


def block_of(home: Home, agent: Agent, model: dict[str, Any], **limits: Any) -> dict[str, Any]:
    agent.measure(home.artifact("m.fake", json.dumps(model).encode()), plan={"limits": {**LIMITS, **limits}})
    block = agent.until("block")
    agent.until("done")
    assert home.processes() == []
    return block


@pytest.mark.parametrize(
    ("stage", "how", "code", "words"),
    [
        ("load", "hang", "timeout_load", "no first inference after 1 s"),
        ("first", "sleep_forever_ignoring_signals", "timeout_load", "stage 'first'"),
        ("load", "stop", "timeout_load", "stage 'load'"),
        ("timed", "spin", "timeout_run", "not done after 1.8 s"),
        ("load", "crash", "crash", "signal 11 (SIGSEGV)"),
        ("timed", "abort", "crash", "signal 6 (SIGABRT)"),
        ("first", "exit_zero", "no_result", "exit status 0 without a result"),
        ("first", "exit", "no_result", "exit status 3 without a result"),
        ("load", "oom", "out_of_memory", "stage 'load'"),
        ("load", "garbage_fd3", "garbage", "on descriptor 3"),
        ("load", "flood_fd3", "garbage", "stage 'load' after 'runtime'"),
        ("load", "flood_fd3_one_line", "garbage", "a line of more than 262144 bytes"),
        ("timed", "lie_fd3", "garbage", "a result before stage 'steady'"),
        ("load", "flood_stdout", "flood", "more than 1048576 bytes"),
        ("timed", "flood_stderr", "flood", "Last lines of stderr: "),
    ],
)
def test_a_misbehaving_subject_fails_by_name(
    home: Home, start: Start, stage: str, how: str, code: str, words: str
) -> None:
    agent = start()
    block = block_of(home, agent, {"misbehave": {"stage": stage, "how": how}})
    assert block["outcome"] == "FAILED"
    assert block["reasons"][0]["code"] == code
    assert words in block["reasons"][0]["text"]
    assert "Block 0 (arm a, m.fake) ended at stage" in block["reasons"][0]["text"]
    assert block["columns"] == 0


def test_the_agent_takes_the_next_block_after_a_crash(home: Home, start: Start) -> None:
    agent = start()
    assert block_of(home, agent, {"misbehave": {"stage": "load", "how": "crash"}})["outcome"] == "FAILED"
    assert block_of(home, agent, {"latency_us": 50})["outcome"] == "OK"


@pytest.mark.parametrize("how", ["fork", "leave_the_group"])
def test_children_that_a_subject_leaves_behind_are_killed_and_told(home: Home, start: Start, how: str) -> None:
    agent = start()
    assert block_of(home, agent, {"misbehave": {"stage": "first", "how": how}})["outcome"] == "OK"
    notes = [event["text"] for event in agent.events if event["event"] == "note"]
    assert any("processes; they were killed" in note for note in notes)


def test_what_a_subject_says_of_itself_is_kept_with_its_blame(home: Home, start: Start) -> None:
    agent = start()
    block = block_of(home, agent, {"unknown_key": 1})
    assert (block["outcome"], block["reasons"][0]["blame"]) == ("FAILED", "artifact")
    agent.measure(home.artifact("m.fake", b"{}"), plan={"options": {"no_such_option": 1}})
    block = agent.until("block")
    assert (block["outcome"], block["reasons"][0]["blame"]) == ("BROKEN", "input")
    assert "no_such_option" in block["reasons"][0]["text"]


STAND_IN = """
import json, os, sys
def main(argv):
    json.loads(sys.stdin.read())
    say = lambda message: os.write(3, (message if isinstance(message, str) else json.dumps(message)).encode() + b"\\n")
    for stage in ("interpreter", "runtime", "load", "first", "timed", "steady"):
        say({"stage": stage, "t_ns": 1, "memory": {}})
    %s
"""


@pytest.mark.parametrize(
    ("lines", "code", "words"),
    [
        ('say({"result": {"facts": {"p": float("nan")}, "columns": []}})', "garbage", "NaN is no number"),
        ('say(\'{"result": {"facts": {"p": 1e999}, "columns": []}}\')', "garbage", "not JSON compliant"),
        ('say("[" * 100000)', "garbage", "descriptor 3"),
        ('say({"result": {"facts": {}, "columns": [7]}})', "garbage", "a result without columns"),
        (
            'say({"result": {"facts": {}, "columns": [{"metric": "../x", "n": 1, "t_type": "q", "v_type": "q"}]}})',
            "garbage",
            "the name '../x' is not a metric's",
        ),
        (
            'os.mkfifo("c/a.t"); os.mkfifo("c/a.v");'
            'say({"result": {"facts": {}, "columns": [{"metric": "a", "n": 1, "t_type": "q", "v_type": "q"}]}})',
            "garbage",
            "c/a.t is not a file of 8 bytes",
        ),
        (
            'os.symlink("/etc/passwd", "c/a.t");'
            'say({"result": {"facts": {}, "columns": [{"metric": "a", "n": 1, "t_type": "q", "v_type": "q"}]}})',
            "garbage",
            "Look for what else writes there",
        ),
        (
            'sys.stderr.write("\\x1b[31mred\\x07 alert\\n"); sys.stderr.flush(); os._exit(9)',
            "no_result",
            "[31mred alert",
        ),
        ('sys.stderr.write("terminate: std::bad_alloc"); sys.stderr.flush(); os.abort()', "out_of_memory", "SIGABRT"),
    ],
)
def test_a_hostile_result_is_refused(home: Home, start: Start, lines: str, code: str, words: str) -> None:
    build_zip(home.zip, {"farm_agent/subject.py": STAND_IN % lines})
    agent = start()
    agent.measure(home.artifact("m.fake", b"{}"))
    block = agent.until("block")
    assert (block["outcome"], block["reasons"][0]["code"]) == ("FAILED", code)
    assert words in block["reasons"][0]["text"]
    assert "\x1b" not in block["reasons"][0]["text"]


def test_a_crash_after_the_result_is_told_but_the_result_stands(home: Home, start: Start) -> None:
    lines = 'say({"result": {"facts": {"n_timed": 1}, "columns": []}}); os.abort()'
    build_zip(home.zip, {"farm_agent/subject.py": STAND_IN % lines})
    agent = start()
    agent.measure(home.artifact("m.fake", b"{}"))
    assert agent.until("block")["outcome"] == "OK"
    notes = [event["text"] for event in agent.events if event["event"] == "note"]
    assert "The subject had given its result, then ended with signal 6 (SIGABRT)." in notes
