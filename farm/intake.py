"""VERB 1: receive an artifact, check and store a job."""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from farm_agent import plugins, wire
from farm_agent import runtime as agent_runtime

from farm import domain
from farm.errors import InputError, PlanError
from farm.store import jobs
from farm.store.db import Store

Progress = Callable[[int, int], None]

ADDRESS_LIMIT = 10_000  # files of one artifact; a folder with more is a mistake of the path


def receive(path: Path, *, store: Store, entry: str | None = None, progress: Progress | None = None) -> domain.Artifact:
    """The Artifact at `path` (a file, or a folder as a manifest), its bytes stored as blobs.

    Raises InputError where it is missing, unreadable, empty, or a folder in which no one model can be told.
    """
    sources = _sources(path)
    if entry is not None and not path.is_dir() and entry != path.name:
        raise InputError(f"'{path}' is a file, so --entry '{entry}' says nothing. Leave it out, or give the folder.")
    total = sum(source.stat().st_size for source in sources.values())
    files, done = [], 0
    for name, source in sources.items():
        try:
            sha256, size = store.blobs.put_file(source, progress=_shifted(progress, done, total))
        except PermissionError:
            raise InputError(_unreadable(source)) from None
        done += size
        files.append(domain.File(path=name, sha256=sha256, size_bytes=size))
    if not path.is_dir():
        artifact = domain.Artifact(files[0].sha256, path.name, path.name, tuple(files))
    else:
        manifest = [[file.path, file.sha256] for file in files]
        artifact = domain.Artifact(
            domain.digest(manifest), path.resolve().name, _entry(path, entry, sources), tuple(files), is_folder=True
        )
    jobs.save_artifact(store, artifact)
    return artifact


def plan_from(data: Mapping[str, Any], *, artifact: domain.Artifact, where: str = "plan") -> wire.Plan:
    """A checked Plan for this Artifact; the runtime is told by the entry's suffix where none is named.

    Options that equal a runtime's or scenario's default are dropped, so that the Plan has one canonical form.
    Raises PlanError naming the field, what was seen and what is allowed.
    """
    data = dict(data)
    data["runtime"] = data.get("runtime") or _runtime_for(artifact.entry)
    try:
        plan = wire.plan_from(data)
        runtime = _kind("farm_agent.runtimes", plan.runtime)
        scenario = _kind("farm_agent.scenarios", plan.scenario)
        for name in plan.sensors:
            _kind("farm_agent.sensors", name)
        return wire.replace(
            plan,
            options=_without_defaults(runtime.OPTIONS, plan.options, f"runtime {plan.runtime!r}"),
            scenario_options=_without_defaults(scenario.OPTIONS, plan.scenario_options, f"scenario {plan.scenario!r}"),
        )
    except wire.WireError as error:
        seen = str(error)
        raise PlanError(
            f"The {where} cannot be used: {seen}{'' if seen[-1] in '.?' else '.'} docs/plans.md lists every field."
        ) from None


def submit(
    *,
    store: Store,
    artifact: domain.Artifact,
    plan: wire.Plan,
    model: str | None,
    project: str,
    selector: domain.Selector,
    now: datetime,
    commit: str | None = None,
    branch: str | None = None,
    submitted_by: str | None = None,
    feed: Path | None = None,
) -> domain.Job:
    """A Job in the queue: measure this Artifact by this Plan on a Board that fits the Selector.

    A feed is stored as a blob and named in the Plan as `<sha256>/<file name>`, so that it is part of its identity.
    """
    if feed is not None:
        if not feed.is_file() or feed.suffix != ".npz":
            raise InputError(
                f"The feed '{feed}' is not an .npz file. Save the inputs with numpy.savez(file, input_name=array, …)."
            )
        sha256, _ = store.blobs.put_file(feed)
        plan = wire.replace(plan, feed=f"{sha256}/feed.npz")
    elif plan.feed:
        raise PlanError(f"plan.feed is {plan.feed!r}, but feeds are given as a file. Use --feed FILE.npz.")
    job = domain.Job(
        id=domain.new_id(),
        project=project,
        model=model or _model_name(artifact.name),
        arms=(domain.Arm("a", artifact, plan),),
        selector=selector,
        submitted_at=now,
        commit=commit,
        branch=branch,
        submitted_by=submitted_by,
    )
    jobs.save_job(store, job)
    return job


def _sources(path: Path) -> dict[str, Path]:
    """Every file of the artifact, by its path within it, sorted."""
    if not path.exists():
        near = difflib.get_close_matches(path.name, _siblings(path), n=1)
        hint = f" Did you mean '{path.with_name(near[0])}'?" if near else ""
        seen = "a link that leads nowhere" if path.is_symlink() else "nothing there"
        raise InputError(f"Model file '{path}' was not found: {seen}.{hint} Give the path of a model file or folder.")
    if path.is_file():
        sources = {path.name: path}
    elif path.is_dir():
        sources = {
            str(found.relative_to(path)): found
            for folder, _, names in os.walk(path)
            for found in (Path(folder) / name for name in names)
            if found.is_file()
        }
        sources = dict(sorted(sources.items()))
        if not 0 < len(sources) <= ADDRESS_LIMIT:
            raise InputError(
                f"Artifact folder '{path}' holds {len(sources)} files; 1 to {ADDRESS_LIMIT} are allowed."
                " Give the folder that holds just the model and its data."
            )
    else:
        raise InputError(f"'{path}' is neither a file nor a folder. Give the path of a model file or folder.")
    for name, source in sources.items():
        if not os.access(source, os.R_OK):
            raise InputError(_unreadable(source))
        if not wire.is_safe_path(name):
            raise InputError(f"File name {name!r} in artifact '{path}' has a backslash or the like. Rename it.")
    return sources


def _siblings(path: Path) -> list[str]:
    try:
        return [sibling.name for sibling in path.parent.iterdir()]
    except OSError:
        return []


def _unreadable(path: Path) -> str:
    return f"Model file '{path}' cannot be read: permission denied. Give yourself read rights (chmod u+r)."


def _entry(path: Path, entry: str | None, sources: Mapping[str, Path]) -> str:
    if entry is not None:
        if entry not in sources:
            raise InputError(f"'{entry}' is not in artifact folder '{path}'. It holds: {_listed(list(sources))}.")
        return entry
    suffixes = {suffix for name in plugins.names("farm_agent.runtimes") for suffix in _suffixes(name)}
    models = [name for name in sources if Path(name).suffix.lower() in suffixes]
    if len(models) != 1:
        seen = f"{len(models)} models ({_listed(models)})" if models else "no file that a runtime knows by its suffix"
        raise InputError(f"Artifact folder '{path}' holds {seen}. Say which file the runtime shall load: --entry FILE.")
    return models[0]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:8])
    return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _suffixes(runtime: str) -> tuple[str, ...]:
    return tuple(plugins.load("farm_agent.runtimes", runtime).SUFFIXES)


def _runtime_for(entry: str) -> str:
    suffix = Path(entry).suffix.lower()
    known = {s: name for name in plugins.names("farm_agent.runtimes") for s in _suffixes(name)}
    if suffix not in known:
        raise PlanError(
            f"No runtime is known by the suffix {suffix!r} of '{entry}'. Known: "
            + ", ".join(f"{s} ({name})" for s, name in sorted(known.items()))
            + ". Name one with --runtime."
        )
    return known[suffix]


def _kind(package: str, name: str) -> Any:
    try:
        return plugins.load(package, name)
    except KeyError as error:
        near = difflib.get_close_matches(name, plugins.names(package), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise wire.WireError(f"{error.args[0]}{hint}") from None


def _without_defaults(options: Sequence[agent_runtime.Option], given: Mapping[str, Any], owner: str) -> dict[str, Any]:
    try:
        full = agent_runtime.check_options(options, given, owner)
    except agent_runtime.OptionError as error:
        raise wire.WireError(str(error)) from None
    return {option.name: full[option.name] for option in options if full[option.name] != option.default}


def _model_name(name: str) -> str:
    stem = name.rsplit(".", 1)[0] if "." in name.strip(".") else name
    return stem or hashlib.sha256(name.encode()).hexdigest()[:12]


def _shifted(progress: Progress | None, done: int, total: int) -> Progress | None:
    if progress is None:
        return None
    return lambda part, _: progress(done + part, total)
