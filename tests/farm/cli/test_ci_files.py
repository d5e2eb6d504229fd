"""The GitHub Action and the examples for CI: no input becomes part of a script, and the scripts do what they say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.farm.cli.test_submit import DATA, RUN_JSON, SHA256
from tests.farm.standin import (
    JOB,
    RUN,
    TOKEN,
    Reply,
    StandIn,
    artifact,
    ended,
    event,
    job,
    problem,
    sse,
    standing_in,
    stream,
)

ROOT = Path(__file__).parents[3]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
STEPS = ACTION["runs"]["steps"]
WORKFLOW = yaml.safe_load((ROOT / "examples" / "ci" / "github-workflow.yml").read_text("utf-8"))
PIPELINE = yaml.safe_load((ROOT / "examples" / "ci" / "gitlab-ci.yml").read_text("utf-8"))


def test_every_input_reaches_its_script_through_the_environment_only() -> None:
    for step in STEPS:
        assert "${{" not in step["run"]
        assert step["shell"] == "bash"
    given = [value for step in STEPS for value in step["env"].values()]
    assert sorted(given) == sorted("${{ inputs." + name + " }}" for name in ACTION["inputs"])


def test_the_token_is_no_input() -> None:
    assert [name for name in ACTION["inputs"] if "token" in name.lower()] == []
    assert "FARM_TOKEN" not in str(STEPS)


def test_the_workflow_gives_what_the_action_takes_and_gives_forks_nothing() -> None:
    job = WORKFLOW["jobs"]["benchmark"]
    (used,) = [step for step in job["steps"] if "benchfarm" in step.get("uses", "")]
    assert set(used["with"]) <= set(ACTION["inputs"])
    assert "head.repo.full_name == github.repository" in job["if"]
    assert WORKFLOW["permissions"] == {"contents": "read"}


@pytest.fixture
def farm(home: Path) -> Iterator[StandIn]:
    with standing_in() as found:
        found.on("PUT", f"/artifacts/{SHA256}", Reply(201, artifact("m.fake", DATA, SHA256)))
        found.on("POST", "/jobs", Reply(201, job()))
        found.on("GET", f"/jobs/{JOB}", Reply(data=job()), Reply(data=ended("FAIL", "FAILED")))
        found.on("GET", f"/jobs/{JOB}/events", stream(sse(event(1, "done"))))
        found.on("GET", f"/runs/{RUN}", Reply(data=RUN_JSON))
        yield found


@pytest.fixture
def runner(home: Path, farm: StandIn) -> dict[str, str]:
    """A runner's environment, with benchfarm installed where the first step installs it."""
    (home / "temp" / "benchfarm").mkdir(parents=True)
    tools = home / "temp" / "benchfarm" / "bin"
    tools.mkdir()
    (tools / "python").symlink_to(sys.executable)
    (tools / "farm").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m farm "$@"\n')
    (tools / "farm").chmod(0o755)
    (home / "m ;$(touch hacked).fake").write_bytes(DATA)
    return {
        **os.environ,
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
        "RUNNER_TEMP": str(home / "temp"),
        "GITHUB_OUTPUT": str(home / "output"),
        "GITHUB_STEP_SUMMARY": str(home / "summary"),
        "FARM_TOKEN": TOKEN,
        "BENCH_MODEL": "m ;$(touch hacked).fake",
        "BENCH_ON": "virtual",
        "BENCH_URL": farm.url,
        "BENCH_PLAN": "",
        "BENCH_JUNIT": "benchfarm.xml",
        "BENCH_MARKDOWN": "bench farm.md",
        "BENCH_EXTRA_ARGS": "--model=a b $(touch hacked)\n\n--processes=3\n",
        "CI_JOB_ID": "77",
    }


def _bash(script: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    argv = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)


def test_the_action_submits_and_ends_with_the_exit_code_and_tells_verdict_and_job(
    farm: StandIn, runner: dict[str, str], home: Path
) -> None:
    done = _bash(STEPS[1]["run"], runner)
    assert (done.returncode, done.stdout.splitlines()[0]) == (1, "FAIL")
    assert (home / "output").read_text() == f"verdict=FAIL\njob={JOB}\n"
    assert (home / "summary").read_text().startswith("### FAIL: ")
    (asked,) = farm.of("POST", "/jobs")
    assert (asked.data["model"], asked.data["plan"]) == ("a b $(touch hacked)", {"processes": 3})
    assert not list(home.rglob("hacked"))


def test_the_action_tells_a_refusal_and_never_an_older_verdict(
    farm: StandIn, runner: dict[str, str], home: Path
) -> None:
    (home / "benchfarm.xml").write_text('<p><property name="verdict" value="PASS"/></p>')
    farm.on("POST", "/jobs", problem(422, "NoBoardFits", "No board fits."))
    done = _bash(STEPS[1]["run"], runner)
    assert done.returncode == 2
    assert (home / "output").read_text() == "verdict=BROKEN\n"
    assert "No board fits" in (home / "summary").read_text()
    done = _bash(STEPS[1]["run"], runner | {"BENCH_EXTRA_ARGS": "--no-such-flag"})
    assert (done.returncode, (home / "benchfarm.xml").exists()) == (2, False)


def test_the_script_for_gitlab_submits_under_the_key_of_its_job(
    farm: StandIn, runner: dict[str, str], home: Path
) -> None:
    job = PIPELINE["benchmark"]
    (script,) = job["script"]
    done = _bash(script, runner | {"FARM_URL": farm.url})
    assert (done.returncode, done.stdout.splitlines()[0]) == (1, "FAIL")
    assert farm.of("POST", "/jobs")[0].headers["Idempotency-Key"] == "gitlab-77"
    assert (home / job["artifacts"]["reports"]["junit"]).exists()
    assert [name for name in job["artifacts"]["paths"] if not (home / name).exists()] == []


def test_an_old_python_is_told_by_the_first_step(runner: dict[str, str], home: Path) -> None:
    (home / "old").write_text("#!/bin/sh\nexit 1\n")
    (home / "old").chmod(0o755)
    done = _bash(STEPS[0]["run"], runner | {"BENCH_PYTHON": str(home / "old"), "GITHUB_ACTION_PATH": str(ROOT)})
    assert done.returncode == 2
    assert re.match(r"::error::benchfarm needs Python 3\.11", done.stdout)
