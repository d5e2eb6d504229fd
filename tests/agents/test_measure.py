"""One session with the real subject, sampler and prepare, on the fake runtime: the door first, then a Block."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import zlib
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.agents.supervised import Agent, Home, build_zip, wait_until

Start = Callable[..., Agent]


def run_words(home: Home, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", str(home.zip), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)


def test_an_unknown_word_is_refused_with_the_known_ones(home: Home) -> None:
    done = run_words(home, "dance")
    assert done.returncode == 2
    assert (
        done.stderr
        == "The agent did not start: the word 'dance' is not known. Give one of: probe, measure, selftest.\n"
    )


def test_no_word_is_refused(home: Home) -> None:
    assert run_words(home).returncode == 2


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"ttl_s": "soon"}, "option --ttl-s is 'soon', not a number"),
        ({"ttl_s": "-1"}, "option --ttl-s is -1.0, not a positive number"),
        ({"farm": ""}, "option --farm is missing"),
        ({"colour": "red"}, "option --colour is not known"),
    ],
)
def test_a_wrong_option_is_named(start: Start, options: dict[str, str], complaint: str) -> None:
    agent = start(**options)
    assert agent.wait() == 2
    assert agent.process.stderr is not None
    assert complaint in agent.process.stderr.read().decode()


def test_a_home_that_cannot_be_made_is_told_over_the_wire(home: Home, start: Start) -> None:
    (home.path / "blocked").write_text("a file, not a folder")
    agent = start(home=str(home.path / "blocked"))
    assert [event["event"] for event in agent.rest()] == ["error", "end"]
    assert agent.events[0]["code"] == "board_io"
    assert "Check that the folder is writable" in agent.events[0]["message"]
    assert agent.wait() == 3


def test_requests_that_make_no_sense_are_refused_and_the_agent_lives_on(home: Home, start: Start) -> None:
    agent = start()
    agent.until("hello")
    assert agent.process.stdin is not None
    agent.process.stdin.write(
        b'not json\n{"do":"fly"}\n{"do":"renew","ttl_s":0}\n{"do":"measure","block":{"plan":{}}}\n'
    )
    agent.process.stdin.write(b'{"do":"measure","pad":"' + b"x" * (5 << 20) + b'"}\n')
    agent.send(do="ping", n=3)
    assert agent.until("pong")["n"] == 3
    errors = [event for event in agent.events if event["event"] == "error"]
    assert [error["code"] for error in errors] == ["bad_request"] * 5
    assert [error["message"][:40] for error in errors[1:4]] == [
        "the request 'fly' is not known",
        "renew.ttl_s is 0; a positive number is n",
        "plan lacks the field 'runtime'",
    ]
    agent.send(do="bye")
    assert agent.rest()[-1] == {"event": "end", "reason": "bye"}
    assert agent.wait() == 0


def test_a_second_block_is_refused_while_one_is_in_hand(home: Home, start: Start) -> None:
    agent = start()
    artifact = home.artifact("m.fake", b'{"latency_us": 100}')
    agent.measure(artifact, index=0)
    agent.measure(artifact, index=1)
    assert agent.until("error")["code"] == "busy"
    assert agent.until("block")["outcome"] == "OK"


def test_a_changed_file_in_the_cache_is_broken_and_names_the_file(home: Home, start: Start) -> None:
    artifact = home.artifact("m.fake", b"{}")
    (home.path / "artifacts" / artifact["artifact"] / "m.fake").write_bytes(b'{"a":1}')
    agent = start()
    agent.measure(artifact)
    block = agent.until("block")
    assert (block["outcome"], block["reasons"][0]["code"], block["reasons"][0]["blame"]) == (
        "BROKEN",
        "cache_corrupt",
        "farm",
    )
    assert "m.fake was changed" in block["reasons"][0]["text"]
    agent.until("done")


def test_an_interpreter_that_is_not_there_blames_the_board(home: Home, start: Start) -> None:
    agent = start(python="/nowhere/python3")
    agent.measure(home.artifact("m.fake", b"{}"))
    block = agent.until("block")
    assert (block["outcome"], block["reasons"][0]["code"]) == ("BROKEN", "no_python")
    assert "'/nowhere/python3'" in block["reasons"][0]["text"]


def test_a_block_gives_its_stages_facts_and_whole_columns(home: Home, start: Start) -> None:
    agent = start()
    agent.measure(home.artifact("m.fake", b'{"latency_us": 10}'), index=4, plan={"min_queries": 20000})
    done = agent.until("done")
    assert [event["stage"] for event in agent.events if event["event"] == "stage"] == [
        "interpreter",
        "runtime",
        "load",
        "first",
        "timed",
        "steady",
    ]
    block = next(event for event in agent.events if event["event"] == "block")
    assert (block["block"], block["outcome"], block["reasons"], done["block"]) == (4, "OK", [], 4)
    assert sorted(block["stages"]) == ["first", "interpreter", "load", "runtime", "steady"]
    assert block["facts"]["cache"] in ("cold", "warm")
    assert block["facts"]["n_timed"] >= 20000
    parts = [event for event in agent.events if event["event"] == "column" and event["metric"] == "latency_ns"]
    assert [part["part"] for part in parts] == list(range(parts[0]["parts"]))
    assert len(parts) > 2
    latencies = unpacked(parts, "v")
    assert len(latencies) == block["facts"]["n_timed"] == sum(part["n"] for part in parts)
    assert min(latencies) >= 10_000
    starts = unpacked(parts, "t")
    assert list(starts) == sorted(starts)
    assert block["columns"] == len({event["metric"] for event in agent.events if event["event"] == "column"})
    agent.close_stdin()
    assert agent.rest()[-1]["reason"] == "eof"
    assert agent.wait() == 0
    assert sorted(os.listdir(home.path)) == ["agents", "artifacts", "guard.log", "run"]
    assert os.listdir(home.path / "run") == []


def test_the_subject_sees_short_fixed_names_and_nothing_of_our_environment(
    home: Home, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "do-not-hand-on")
    agent = start()
    agent.measure(home.artifact("m.fake", b'{"misbehave": {"stage": "load", "how": "hang"}}'))
    agent.until("stage", stage="runtime")
    subject = next(line for line in home.processes() if " subject" in line)
    environ = Path(f"/proc/{subject.split()[0]}/environ").read_text()
    assert "./a subject" in subject
    assert "SECRET_TOKEN" not in environ
    assert "MALLOC_TRIM_THRESHOLD_=131072" in environ
    assert os.readlink(f"/proc/{subject.split()[0]}/cwd") == str(home.path / "w")
    agent.send(do="cancel")
    block = agent.until("block")
    assert (block["outcome"], block["reasons"][0]["code"], block["columns"]) == ("CANCELLED", "cancelled", 0)
    agent.until("done")
    assert home.processes() == []


def test_after_a_cancel_the_next_block_in_the_same_write_is_measured(home: Home, start: Start) -> None:
    agent = start()
    agent.measure(home.artifact("m.fake", b'{"misbehave": {"stage": "first", "how": "spin"}}'), index=0)
    agent.until("stage", stage="load")
    block = {"index": 1, "arm": "a", "pair": -1, "plan": {"runtime": "fake", "duration_s": 0.1, "min_queries": 1}}
    block.update(home.artifact("good.fake", b"{}"))
    assert agent.process.stdin is not None
    agent.process.stdin.write(
        (json.dumps({"do": "cancel"}) + "\n" + json.dumps({"do": "measure", "block": block})).encode()
    )
    agent.process.stdin.write(b"\n")
    agent.process.stdin.flush()
    assert agent.until("block")["outcome"] == "CANCELLED"
    assert agent.until("block")["outcome"] == "OK"


def test_a_stray_print_in_the_agent_cannot_corrupt_the_protocol(home: Home, start: Start) -> None:
    quiet = Path(__file__).parents[2].joinpath("agents/farm_agent/quiet.py").read_text()
    build_zip(
        home.zip, {"farm_agent/quiet.py": quiet.replace("def knobs(", "print('stray', flush=True)\n\n\ndef knobs(")}
    )
    noisy = quiet.replace("    found = []\n", "    found = []\n    print('stray', flush=True)\n", 1)
    build_zip(home.zip, {"farm_agent/quiet.py": noisy})
    agent = start()
    assert agent.until("hello")["event"] == "hello"
    agent.close_stdin()
    agent.rest()
    assert agent.process.stderr is not None
    assert "stray" in agent.process.stderr.read().decode()


def test_a_sampler_that_fails_costs_its_columns_not_the_block(home: Home, start: Start) -> None:
    build_zip(home.zip, {"farm_agent/sampler.py": "def main(argv):\n    raise SystemExit('the sensor bus is gone')\n"})
    agent = start()
    agent.measure(home.artifact("m.fake", b"{}"))
    block = agent.until("block")
    assert block["outcome"] == "OK"
    assert block["facts"]["sampler"] == {"failed": True, "status": 1, "text": "the sensor bus is gone"}
    notes = [event["text"] for event in agent.events if event["event"] == "note"]
    assert any("left no columns" in note and "the sensor bus is gone" in note for note in notes)


def test_pings_are_answered_while_a_block_runs(home: Home, start: Start) -> None:
    agent = start()
    agent.measure(home.artifact("m.fake", b'{"latency_us": 1000}'), plan={"duration_s": 1.0})
    agent.until("stage", stage="timed")
    agent.send(do="ping", n=1)
    agent.until("pong")
    assert not [event for event in agent.events if event["event"] == "block"]
    wait_until(lambda: agent.until("block")["outcome"] == "OK")


def unpacked(parts: list[dict[str, Any]], side: str) -> array[int]:
    values: array[int] = array("q")
    for part in parts:
        values.frombytes(zlib.decompress(base64.b64decode(part[side])))
    return values
