"""The GitHub action and the GitLab job, each script as it is, against a farm that is up and a token of role `ci`.

The first step of the action really installs this checkout with pip, which needs a package index. Not run here: GitHub's
and GitLab's own runners (`tests/trip/runners.py` stands in for them), the image python:3.12-slim, and the download of
the distribution `benchfarm` itself, which the GitLab job finds installed from the checkout.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml

from farm.client import Client
from farm.domain import JobState, Role
from farm.schemas import TokenAsked
from tests.farm.test_up import gone, left_of, up
from tests.junit import check_schema, facts
from tests.trip import runners

ROOT = Path(__file__).parents[2]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
PIPELINE = yaml.safe_load((ROOT / "examples" / "ci" / "gitlab-ci.yml").read_text("utf-8"))["benchmark"]
GOOD = {"latency_us": 200}
CRASHES = {"latency_us": 200, "misbehave": {"stage": "timed", "how": "crash", "after": 5}}
PLAN = "duration_s: 0.2\nprocesses: 2\nmin_queries: 20\nwarmup_s: 0.02\nwarmup_queries: 2\n"
INSTALL, SUBMIT = slice(0, 1), slice(1, None)


@dataclass
class Lab:
    """A farm that is up, with one virtual board, and what lets a pipeline in."""

    url: str
    token: str
    log: Path


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("lab")
    with up(folder, "--virtual-boards", "1") as farm:
        with Client(farm.url, (farm.data / "admin.token").read_text()) as admin:
            made = admin.make_token(TokenAsked(name="pipeline", role=Role.CI, project="vision"))
        yield Lab(farm.url, made.secret, farm.log)
        assert farm.end() == 0
    assert gone(folder), left_of(folder)


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A runner's environment once the first step has run: benchfarm is installed, its base install only."""
    folder = tmp_path_factory.mktemp("runner")
    ours = ("FARM_", "GITHUB_", "CI_", "PYTHON", "VIRTUAL_ENV", "XDG_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment |= {"RUNNER_TEMP": str(folder), "GITHUB_ACTION_PATH": str(ROOT), "GITHUB_WORKSPACE": str(folder)}
    given = {"model": "-", "on": "-", "python": sys.executable}
    done = runners.github(ACTION, given, folder, environment, steps=INSTALL)
    assert done.code == 0, done.err
    return environment | {"HOME": str(folder)}


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A checkout with a model that is good, one that crashes, and a quick Plan."""
    (tmp_path / "good.fake").write_text(json.dumps(GOOD))
    (tmp_path / "crashes.fake").write_text(json.dumps(CRASHES))
    (tmp_path / "quick plan.yaml").write_text(PLAN)
    return tmp_path


def _suite(path: Path) -> ET.Element:
    suite = ET.parse(path).getroot()
    check_schema(suite)
    return suite


def _action(workspace: Path, runner: dict[str, str], lab: Lab, model: str, **more: str) -> runners.Done:
    given = {"model": model, "on": "virtual", "url": lab.url, "plan": "quick plan.yaml", **more}
    secrets = {"FARM_TOKEN": lab.token}
    return runners.github(ACTION, given, workspace, {**secrets, **runner, **secrets}, steps=SUBMIT)


def test_the_first_step_installs_the_thin_client_and_nothing_of_a_coordinator(runner: dict[str, str]) -> None:
    python = Path(runner["RUNNER_TEMP"]) / "benchfarm" / "bin" / "python"
    code = (
        "import farm, importlib.util as u; print(farm.__file__);"
        " print([name for name in ('numpy', 'sqlalchemy', 'fastapi', 'celery', 'asyncssh') if u.find_spec(name)])"
    )
    done = subprocess.run(
        [python, "-c", code], capture_output=True, text=True, env=runner, cwd=runner["HOME"], timeout=30
    )
    where, servers = done.stdout.splitlines()
    assert (where.startswith(runner["RUNNER_TEMP"]), servers) == (True, "[]")


def test_the_action_fails_a_model_that_crashes_and_says_why(workspace: Path, runner: dict[str, str], lab: Lab) -> None:
    done = _action(workspace, runner, lab, "crashes.fake", junit="out.xml", markdown="out file.md")
    assert (done.code, done.out.splitlines()[0]) == (1, "FAIL"), done.err
    suite = _suite(workspace / "out.xml")
    assert (suite.attrib["failures"], done.outputs) == ("1", {"verdict": "FAIL", "job": facts(suite)["job"]})
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert "stage 'timed'" in failure.attrib["message"]
    assert done.summary == (workspace / "out file.md").read_text()
    assert done.summary.startswith("### FAIL: `crashes` on `virtual-1`\n")
    assert "stage" in done.summary


def test_the_action_passes_a_good_model(workspace: Path, runner: dict[str, str], lab: Lab) -> None:
    extra = "--model=steady\n--processes=3\n--queue-limit-s=600\n"
    done = _action(workspace, runner | {"GITHUB_SHA": "abc123"}, lab, "good.fake", **{"extra-args": extra})
    assert (done.code, done.out.splitlines()[0]) == (0, "PASS"), done.err
    suite = _suite(workspace / "benchfarm.xml")
    known = facts(suite)
    assert done.outputs == {"verdict": "PASS", "job": known["job"]}
    assert (known["board"], known["virtual"], known["commit"]) == ("virtual-1", "true", "abc123")
    assert float(known["metric.p50_latency_ns"]) > 0
    assert (suite[1].attrib["classname"], len(suite[1])) == ("steady", 0)
    assert done.summary.startswith("### PASS: `steady` on `virtual-1`\n")
    assert "Virtual board" in done.summary
    with Client(lab.url, lab.token) as farm:
        job = farm.job(done.outputs["job"])
        assert (job.state, job.project, job.plan["processes"]) == (JobState.DONE, "vision", 3)


def test_the_action_judges_a_slower_model_by_a_gate(workspace: Path, runner: dict[str, str], lab: Lab) -> None:
    (workspace / "gate.yaml").write_text("version: 1\nmetrics: {p50_latency_ns: {max_change: 60 %}}\n")
    (workspace / "slow.fake").write_text(json.dumps({**GOOD, "latency_us": 5 * GOOD["latency_us"]}))
    before = _action(workspace, runner, lab, "good.fake", **{"extra-args": "--model=judged"})
    assert (before.code, before.out.splitlines()[0]) == (0, "PASS"), before.err
    more = {"gate": "gate.yaml", "against": "last-passing", "extra-args": "--model=judged"}
    done = _action(workspace, runner, lab, "slow.fake", **more)
    assert (done.code, done.out.splitlines()[0], done.outputs["verdict"]) == (1, "FAIL", "FAIL"), done.err
    suite = _suite(workspace / "benchfarm.xml")
    assert [case.attrib["name"] for case in suite.iter("testcase")][1:] == ["p50_latency_ns against last-passing"]
    assert "| `p50_latency_ns against last-passing` |" in done.summary


@pytest.mark.parametrize(
    ("token", "model", "on", "code", "told"),
    [
        ("bf_ci_0123456789_wrong", "good.fake", "virtual", 2, "token"),
        ("", "good.fake", "virtual", 2, "a pipeline of a fork gets no secrets"),
        (None, "missing.fake", "virtual", 2, "'missing.fake' was not found"),
        (None, "good.fake", "family=jetson", 2, "family=jetson"),
        (None, "good.fake", "famly=jetson", 2, "Did you mean"),
    ],
    ids=["wrong token", "no token", "no model", "no board", "no selector"],
)
def test_the_action_is_red_and_says_why_where_nothing_can_be_submitted(
    workspace: Path, runner: dict[str, str], lab: Lab, token: str | None, model: str, on: str, code: int, told: str
) -> None:
    farm = Lab(lab.url, lab.token if token is None else token, lab.log)
    done = _action(workspace, runner, farm, model, on=on)
    assert (done.code, done.out, done.outputs) == (code, "", {"verdict": "BROKEN", "job": ""})
    assert told in done.err
    suite = _suite(workspace / "benchfarm.xml")
    error = suite.find("testcase/error")
    assert error is not None
    assert told in error.attrib["message"]
    assert done.summary.startswith("### BROKEN: ")
    assert lab.token not in done.err + done.summary + (workspace / "benchfarm.xml").read_text()


@pytest.mark.parametrize(("model", "word", "code"), [("good.fake", "PASS", 0), ("crashes.fake", "FAIL", 1)])
def test_the_gitlab_job_ends_with_the_verdict_and_leaves_its_reports(
    workspace: Path, runner: dict[str, str], lab: Lab, model: str, word: str, code: int
) -> None:
    tools = Path(runner["RUNNER_TEMP"]) / "benchfarm" / "bin"
    variables = {"PATH": f"{tools}{os.pathsep}{runner['PATH']}", "CI_JOB_ID": f"{model}-7", "BENCH_ON": "virtual"}
    variables |= {"FARM_URL": lab.url, "FARM_TOKEN": lab.token, "BENCH_MODEL": model, "CI_COMMIT_SHA": "abc123"}
    done = runners.gitlab(PIPELINE, workspace, runner | variables)
    assert (done.code, done.out.splitlines()[0]) == (code, word), done.err
    known = facts(_suite(workspace / PIPELINE["artifacts"]["reports"]["junit"]))
    assert (known["verdict"], known["commit"]) == (word, "abc123")
    assert [path for path in PIPELINE["artifacts"]["paths"] if not (workspace / path).is_file()] == []
    again = runners.gitlab(PIPELINE, workspace, runner | variables)
    assert (again.code, facts(_suite(workspace / "benchfarm.xml"))["job"]) == (code, known["job"])


def test_a_script_needs_nothing_but_the_url_and_the_token_in_its_environment(
    workspace: Path, runner: dict[str, str], lab: Lab
) -> None:
    tools = Path(runner["RUNNER_TEMP"]) / "benchfarm" / "bin"
    script = """
        farm submit good.fake --on virtual --plan 'quick plan.yaml' --wait --json > verdict.json
        job=$(farm submit good.fake --on virtual --plan 'quick plan.yaml')
        farm job wait "$job"
        farm job show "$job" --json > job.json
        farm jobs --json > jobs.json
    """
    known = {"PATH": f"{tools}{os.pathsep}{runner['PATH']}", "FARM_URL": lab.url, "FARM_TOKEN": lab.token}
    done = runners.bash(script, workspace, {**known, "HOME": str(workspace)})
    assert done.returncode == 0, done.stderr
    verdict, shown, listed = (
        json.loads((workspace / f"{name}.json").read_text()) for name in ("verdict", "job", "jobs")
    )
    assert (verdict["verdict"], verdict["job"]["state"], shown["verdict"]) == ("PASS", "done", "PASS")
    assert {verdict["job"]["id"], shown["id"]} <= {job["id"] for job in listed["jobs"]}
    assert not (workspace / ".config").exists()
    assert not (workspace / ".local").exists()
