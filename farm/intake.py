"""VERB 1: receive an artifact, check and store a job."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from farm_agent import plugins, wire
from farm_agent import runtime as agent_runtime

from farm import domain, references, rules
from farm.errors import InputError, PlanError
from farm.sources import listed, sources, unreadable
from farm.store import evidence, jobs, queue
from farm.store.db import Store

Progress = Callable[[int, int], None]


def receive(path: Path, *, store: Store, entry: str | None = None, progress: Progress | None = None) -> domain.Artifact:
    """The Artifact at `path` (a file, or a folder as a manifest), its bytes stored as blobs.

    Raises InputError where it is missing, unreadable, empty, or a folder in which no one model can be told.
    """
    found = sources(path, entry=entry)
    total = sum(source.stat().st_size for source in found.values())
    files, done = [], 0
    for name, source in found.items():
        try:
            sha256, size = store.blobs.put_file(source, progress=_shifted(progress, done, total))
        except PermissionError:
            raise InputError(unreadable(source)) from None
        done += size
        files.append(domain.File(path=name, sha256=sha256, size_bytes=size))
    if path.is_dir():
        artifact = folder_artifact(path.resolve().name, files, entry)
    else:
        artifact = domain.Artifact(files[0].sha256, path.name, path.name, tuple(files))
    jobs.save_artifact(store, artifact)
    return artifact


def folder_artifact(name: str, files: Sequence[domain.File], entry: str | None) -> domain.Artifact:
    """The Artifact that a folder of these files is. Raises InputError where no one model in it can be told."""
    files = sorted(files, key=lambda file: file.path)
    manifest = [[file.path, file.sha256] for file in files]
    entry = _entry(name, entry, [file.path for file in files])
    return domain.Artifact(domain.digest(manifest), name, entry, tuple(files), is_folder=True)


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
    repository: str | None = None,
    submitted_by: str | None = None,
    feed: Path | None = None,
    feed_sha256: str | None = None,
    priority: int = 0,
    limits: domain.TimeLimits | None = None,
    gate: rules.Gate | None = None,
    main_branch: str = "main",
    is_fresh: bool = False,
    check: Callable[[domain.Job], None] = lambda job: None,
    idempotency_key: str | None = None,
    request_hash: str | None = None,
) -> domain.Job:
    """A Job in the queue: measure this Artifact by this Plan on a Board that fits the Selector.

    A feed is stored as a blob, or is one already, and is named in the Plan as `<sha256>/<file name>`, so that it is
    part of its identity. With an idempotency key that was used before, the Job of then. With a Gate it is measured
    against that one's References; what was decided before of the same is its answer at once, unless it is to be fresh.
    `check` sees the whole Job before it is stored, and may raise.
    """
    if feed_sha256 is not None and not plan.feed:
        plan = wire.replace(plan, feed=f"{feed_sha256}/feed.npz")
    elif feed is not None:
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
        repository=repository,
        submitted_by=submitted_by,
        priority=priority,
        limits=limits or domain.TimeLimits(),
    )
    if gate is not None:
        job = references.against(job, gate, store=store, main_branch=main_branch, is_fresh=is_fresh)
    check(job)
    return queue_up(job, store=store, now=now, idempotency_key=idempotency_key, request_hash=request_hash)


def queue_up(
    job: domain.Job,
    *,
    store: Store,
    now: datetime,
    idempotency_key: str | None = None,
    request_hash: str | None = None,
) -> domain.Job:
    """Store a checked Job. One whose Verdict is known from the same Arms under the same Gate is over at once."""
    known = None
    if job.gate is not None and not job.gate.is_fresh:
        known = evidence.newest(store, evidence.key_of(job))
        if known is not None:
            job = replace(job, affinity=known.board)
    kept = jobs.save_job(store, job, idempotency_key=idempotency_key, request_hash=request_hash)
    is_ours = kept.id == job.id  # and not that of the same request at the same time
    if not is_ours or known is None or not known.is_final or known.verdict is None or known.outcome is None:
        return kept
    text = f"The same was decided on board '{known.board}' before; --fresh measures it anew."
    reasons = (*known.reasons, domain.Reason("decided_before", text))
    queue.answer(
        store,
        job.id,
        outcome=known.outcome,
        verdict=known.verdict,
        reasons=reasons,
        evidence_id=known.id,
        now=now,
    )
    return jobs.get_job(store, job.id)


def _entry(path: str, entry: str | None, files: Sequence[str]) -> str:
    if entry is not None:
        if entry not in files:
            raise InputError(f"'{entry}' is not in artifact folder '{path}'. It holds: {listed(list(files))}.")
        return entry
    suffixes = {suffix for name in plugins.names("farm_agent.runtimes") for suffix in _suffixes(name)}
    models = [name for name in files if Path(name).suffix.lower() in suffixes]
    if len(models) != 1:
        seen = f"{len(models)} models ({listed(models)})" if models else "no file that a runtime knows by its suffix"
        raise InputError(f"Artifact folder '{path}' holds {seen}. Say which file the runtime shall load: --entry FILE.")
    return models[0]


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
