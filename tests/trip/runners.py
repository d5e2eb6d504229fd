"""Stand-ins for the runners of CI systems, as far as our files need them: the scripts themselves run as they are.

GitHub: docs.github.com, "Workflow syntax" (`shell: bash` is `bash --noprofile --norc -eo pipefail {0}`), "Workflow
commands" (a file for outputs and one for the summary, of each step its own) and "Metadata syntax" (composite actions).
GitLab: docs.gitlab.com, "Shell scripts": `before_script` and `script` are one script, under `set -eo pipefail`.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ASKED = re.compile(r"\$\{\{ *([a-z]+)\.([\w.-]+) *\}\}")


@dataclass
class Done:
    """How a job of a pipeline ended."""

    code: int = 0
    out: str = ""
    err: str = ""
    summary: str = ""
    outputs: dict[str, str] = field(default_factory=dict)


def bash(script: str, folder: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """The script, run from a file as a runner does, with nothing to read."""
    file = folder / ".runner" / "script.sh"
    file.parent.mkdir(exist_ok=True)
    file.write_text(script)
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(file)],
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
    )


def github(
    action: Mapping[str, Any],
    given: Mapping[str, str],
    folder: Path,
    environment: Mapping[str, str],
    *,
    steps: slice = slice(None),
) -> Done:
    """The steps of a composite action in that workspace; a step that fails is the last one."""
    inputs = {name: str(one.get("default", "")) for name, one in action["inputs"].items()}
    assert set(given) <= set(inputs)
    assert {name for name, one in action["inputs"].items() if one.get("required")} <= set(given)
    known = {f"inputs.{name}": value for name, value in {**inputs, **given}.items()}
    done = Done()
    for step in action["runs"]["steps"][steps]:
        assert step["shell"] == "bash"
        files = {name: folder / ".runner" / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        for file in files.values():
            file.parent.mkdir(exist_ok=True)
            file.write_text("")
        own = {name: _filled(str(value), known) for name, value in step.get("env", {}).items()}
        ended = bash(step["run"], folder, {**environment, **{n: str(file) for n, file in files.items()}, **own})
        done.code, done.out, done.err = ended.returncode, done.out + ended.stdout, done.err + ended.stderr
        done.summary += files["GITHUB_STEP_SUMMARY"].read_text()
        told = dict(line.split("=", 1) for line in files["GITHUB_OUTPUT"].read_text().splitlines())
        known |= {f"steps.{step.get('id')}.outputs.{name}": value for name, value in told.items()}
        if done.code:
            break
    done.outputs = {name: _filled(one["value"], known) for name, one in action["outputs"].items()}
    return done


def gitlab(job: Mapping[str, Any], folder: Path, environment: Mapping[str, str]) -> Done:
    """The scripts of a GitLab job in that folder."""
    script = "\n".join([*job["before_script"], *job["script"]])
    ended = bash(script, folder, {**{name: str(value) for name, value in job["variables"].items()}, **environment})
    return Done(ended.returncode, ended.stdout, ended.stderr)


def _filled(text: str, known: Mapping[str, str]) -> str:
    """The text with each `${{ … }}` replaced; an output that no step gave is empty, as a runner has it."""

    def value(found: re.Match[str]) -> str:
        name = f"{found[1]}.{found[2]}"
        assert name in known or found[1] == "steps", name
        return known.get(name, "")

    return ASKED.sub(value, text)
