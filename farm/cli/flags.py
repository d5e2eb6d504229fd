"""The flags of every verb that measures: what to measure, which make a Plan, and how it is kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

COMMIT_VARIABLES = ["GITHUB_SHA", "CI_COMMIT_SHA", "BUILDKITE_COMMIT", "GIT_COMMIT"]
REPOSITORY_VARIABLES = ["GITHUB_REPOSITORY", "CI_PROJECT_PATH"]
BRANCH_VARIABLES = ["GITHUB_HEAD_REF", "GITHUB_REF_NAME", "CI_COMMIT_REF_NAME", "BUILDKITE_BRANCH", "GIT_BRANCH"]
THE_PLAN, THE_RECORD = "What to measure (each wins over --plan)", "How it is kept and shown"
AS_GIVEN = ("runtime", "scenario", "duration_s", "processes", "cache", "latency_scope")  # fields of a Plan


def _plan(flag: str, text: str, metavar: str | None = None) -> Any:
    return typer.Option(flag, help=text, metavar=metavar, rich_help_panel=THE_PLAN, show_default=False)


def record(flag: str, text: str, **more: Any) -> Any:
    """A flag that says how something is kept and shown."""
    return typer.Option(flag, help=text, rich_help_panel=THE_RECORD, show_default=False, **more)


Model = Annotated[Path, typer.Argument(metavar="MODEL", help="model file, or folder of a model and its data")]

PlanFile = Annotated[Path | None, _plan("--plan", "YAML file of a Plan; see docs/plans.md", "FILE")]
Runtime = Annotated[str | None, _plan("--runtime", "default: by the file's suffix", "NAME")]
Scenario = Annotated[str | None, _plan("--scenario", "default: single_stream", "NAME")]
ScenarioOption = Annotated[list[str] | None, _plan("--scenario-option", "such as fps=30; repeatable", "NAME=VALUE")]
Duration = Annotated[float | None, _plan("--duration-s", "timed seconds of all processes together (default 10)")]
Processes = Annotated[int | None, _plan("--processes", "fresh processes (default 5)")]
Threads = Annotated[int | None, _plan("--threads", "threads of the runtime; short for --option threads=N")]
Option = Annotated[list[str] | None, _plan("--option", "option of the runtime; repeatable", "NAME=VALUE")]
Shape = Annotated[
    list[str] | None, _plan("--shape", "for dynamic dimensions, such as input=1,3,224,224; repeatable", "NAME=N,N")
]
Feed = Annotated[Path | None, _plan("--feed", "inputs (default: seeded random)", "FILE.npz")]
Cache = Annotated[str | None, _plan("--cache", "page cache of the model file: cold (default) or warm", "cold|warm")]
LatencyScope = Annotated[
    str | None,
    _plan("--latency-scope", "inside the clock: invoke (default) or end_to_end, copies too", "invoke|end_to_end"),
]
MemoryLimit = Annotated[
    str | None, _plan("--memory-limit", "end the model above this much memory, such as 512MB", "SIZE")
]

Entry = Annotated[str | None, record("--entry", "file to load, where MODEL is a folder", metavar="FILE")]
ModelName = Annotated[
    str | None, record("--model", "name to compare later artifacts under (default: the file's)", metavar="NAME")
]
Commit = Annotated[str | None, record("--commit", "commit it was built from", envvar=COMMIT_VARIABLES)]
Branch = Annotated[str | None, record("--branch", "branch of that commit", envvar=BRANCH_VARIABLES)]
Repository = Annotated[
    str | None, record("--repository", "owner/name of that commit's repository", envvar=REPOSITORY_VARIABLES)
]


def plan_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the Plan that a command's words make. Raises PlanError, InputError."""
    from farm.cli import plan

    fields: dict[str, Any] = plan.read(Path(given["plan_file"])) if given["plan_file"] else {}
    fields |= {name: given[name] for name in AS_GIVEN if given[name] is not None}
    options = plan.pairs(given["option"] or [], "--option")
    if given["threads"] is not None:
        options["threads"] = given["threads"]
    _merge(fields, "options", options)
    _merge(fields, "scenario_options", plan.pairs(given["scenario_option"] or [], "--scenario-option"))
    _merge(fields, "shapes", plan.shapes(given["shape"] or []))
    if given["memory_limit"] is not None:
        _merge(fields, "limits", {"memory_bytes": plan.size_bytes(given["memory_limit"], "--memory-limit")})
    return fields


def plan_name(given: Mapping[str, Any]) -> str:
    """How that Plan is called in messages."""
    return f"Plan of '{given['plan_file']}'" if given["plan_file"] else "Plan"


def _merge(fields: dict[str, Any], name: str, more: dict[str, Any]) -> None:
    if more:
        fields[name] = {**fields.get(name, {}), **more}
