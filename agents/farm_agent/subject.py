"""The subject: the fresh process that is measured. Load, first inference, warm-up, timed queries; then its columns.

Run as `python -I ./a subject` in the Block's work folder: `a` is the agent, `m/` the artifact, `f.npz` the feed, `c/`
takes the columns. One JSON line on stdin says what to do:

    {"block": Block, "spawned_ns": t, "cpus": [1], "limits": Limits, "backstop": what limits.apply_to_self takes}

and messages leave on fd 3, one JSON object a line: `stage` with its memory, then `result`, or `failed` and exit
status 1. Only os, sys, json and time are imported up to the first snapshot: the stage `interpreter` is Python itself.
"""

from __future__ import annotations

import json
import os
import sys
import time

from farm_agent import memory, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from array import array
    from types import ModuleType
    from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

    from farm_agent.feed import Feed
    from farm_agent.runtime import Model

    Column = Tuple[str, array[int], array[int]]  # metric, t_ns, value

MESSAGES_FD = 3
_CAP_RESERVE_S = 5.0  # of the Block's time limit, kept for writing the result
_WAIT_LIMIT_RATIO = 0.02  # of a timed window; more is worth a warning
_PART_BYTES = 1 << 16  # small, as it would show in the peak of the process
_BLAME_ARTIFACT = {"load": "load_error", "first": "run_error", "timed": "run_error"}


def main(argv: List[str]) -> int:
    """Measure the one Block that stdin names; 0 where a result was sent, 1 where a failure was."""
    os.set_inheritable(MESSAGES_FD, False)
    job = json.loads(_read_all(0))
    stages = Stages(int(job["spawned_ns"]), bool(job["block"]["plan"].get("stage_peaks", True)))
    stages.reached("interpreter")
    try:
        _send({"result": _measure(job, stages)})
    except Exception as error:  # noqa: BLE001 - the subject's door: whatever went wrong becomes one message
        _send({"failed": _failed(error, stages.now)})
        return 1
    return 0


class Stages:
    """Where the subject is, and the memory, time and page faults of each stage; a message is sent after each."""

    def __init__(self, spawned_ns: int, has_peaks: bool) -> None:
        self.now = wire.STAGES[0]
        self.cold_ns = 0  # time of the stages up to `first`, without what the harness does between them
        self._has_peaks = has_peaks
        self._is_running = False  # the first stage begins with the process: nothing to reset
        self._start_ns = spawned_ns
        self._faults: Tuple[Optional[int], Optional[int]] = (0, 0)

    def start(self, name: str) -> None:
        """The stage begins: its peak, clock and faults count from here."""
        self.now = name
        self._faults = memory.faults()
        self._is_running = not (self._has_peaks and memory.reset_peak())
        self._start_ns = time.monotonic_ns()

    def reached(self, name: str) -> Optional[int]:
        """The stage is over: take and send its snapshot; what is resident now."""
        t_ns = time.monotonic_ns()
        minor, major = memory.faults()
        found: Dict[str, Any] = dict(memory.snapshot())
        found["minor_faults"] = _minus(minor, self._faults[0])
        found["major_faults"] = _minus(major, self._faults[1])
        found["duration_ns"] = t_ns - self._start_ns
        found["peak_is_running"] = self._is_running
        if name != "steady":
            self.cold_ns += t_ns - self._start_ns
        _send({"stage": name, "t_ns": t_ns, "memory": found})
        rss_bytes: Optional[int] = found["rss_bytes"]
        return rss_bytes


def _measure(job: Mapping[str, Any], stages: Stages) -> Dict[str, Any]:
    """All stages after `interpreter`; the result's facts and columns."""
    stages.now = "runtime"
    limits_refused = _confine(job)
    block = wire.block_from(job["block"])
    plan = block.plan
    runtime, scenario, options, scenario_options = _chosen(plan)
    from farm_agent import outputs
    from farm_agent.feed import Feed

    stages.start("runtime")
    runtime.start()
    stages.reached("runtime")

    # what reads or makes the inputs stands between two stages, so that none of them pays for it
    stages.now = "load"
    feed = Feed(plan.shapes, plan.feed_seed, _feed_path(block))
    stages.start("load")
    model = runtime.load("m/" + block.entry, options, feed.choose)
    stages.reached("load")

    stages.now = "first"
    model.bind(feed.arrays(model.inputs))
    query = _query(model, plan.latency_scope)
    stages.start("first")
    query()
    stages.reached("first")

    model.settle()
    facts = _facts_of(plan, feed, model, stages)
    facts.update(options=options, scenario_options=scenario_options, limits_refused=limits_refused)
    columns = _timed(job, plan, model, scenario.schedule, stages, facts)
    facts["outputs"], warnings = outputs.check(model.outputs())
    facts["warnings"] += warnings
    _add_runtime(facts, model.facts())
    return {"facts": facts, "columns": [_write(column) for column in columns]}


def _confine(job: Mapping[str, Any]) -> List[str]:
    """Set what the supervisor could not set from outside, and the CPUs; the resource limits that were refused."""
    from farm_agent import limits
    from farm_agent.runtime import Failure, text_of

    refused = limits.apply_to_self(job.get("backstop") or {})
    cpus = job.get("cpus")
    try:
        if cpus:
            os.sched_setaffinity(0, cpus)
    except (OSError, ValueError) as error:
        text = f"the CPUs {cpus} cannot be used: {text_of(error)}. Name CPUs that are online and allowed."
        raise Failure(text, "affinity", "board") from None
    return refused


def _chosen(plan: wire.Plan) -> Tuple[ModuleType, ModuleType, Dict[str, Any], Dict[str, Any]]:
    """The Plan's runtime and scenario, and the options of each, checked."""
    from farm_agent import plugins
    from farm_agent.runtime import OptionError, check_options

    try:
        runtime = plugins.load("farm_agent.runtimes", plan.runtime)
        scenario = plugins.load("farm_agent.scenarios", plan.scenario)
    except KeyError as error:
        raise OptionError(f"{error.args[0]}. Correct its name.") from None
    options = check_options(runtime.OPTIONS, plan.options, f"runtime {plan.runtime!r}")
    scenario_options = check_options(scenario.OPTIONS, plan.scenario_options, f"scenario {plan.scenario!r}")
    return runtime, scenario, options, scenario_options


def _feed_path(block: wire.Block) -> str:
    if not (block.feed_file or block.plan.feed):
        return ""
    is_inside = not block.feed_file and block.plan.feed in block.files and not os.path.exists("f.npz")
    return "m/" + block.plan.feed if is_inside else "f.npz"


def _query(model: Model, scope: str) -> Callable[[], Any]:
    if scope == "invoke":
        return model.invoke
    copy_in, invoke, copy_out = model.copy_in, model.invoke, model.copy_out

    def end_to_end() -> None:
        copy_in()
        invoke()
        copy_out()

    return end_to_end


def _facts_of(plan: wire.Plan, feed: Feed, model: Model, stages: Stages) -> Dict[str, Any]:
    facts = feed.facts(model.inputs)
    facts["latency_scope"] = plan.latency_scope
    facts["affinity"] = sorted(os.sched_getaffinity(0))
    facts["time_to_first_inference_ns"] = stages.cold_ns
    return facts


def _timed(
    job: Mapping[str, Any],
    plan: wire.Plan,
    model: Model,
    schedule: Callable[[Mapping[str, Any], int], Any],
    stages: Stages,
    facts: Dict[str, Any],
) -> List[Column]:
    """Warm-up, the timed window and stage `steady`; their columns, and their facts added to `facts`."""
    import gc

    from farm_agent.scenario import Window, rows_for, run, warm_up

    query = _query(model, plan.latency_scope)
    limits = wire.limits_from(job["limits"])
    cap_ns = int(job["spawned_ns"] + (limits.run_s - min(_CAP_RESERVE_S, limits.run_s / 10)) * 1e9)
    lasting_ns = int(plan.duration_s / plan.processes * 1e9)
    gc.collect()
    gc.freeze()
    gc.disable()
    stages.start("steady")
    stages.now = "timed"  # for a failure's message: which query it was, not which snapshot comes next
    warm = warm_up(query, plan.warmup_queries, plan.warmup_s, cap_ns)
    rows = rows_for(warm, schedule(facts["scenario_options"], 0), lasting_ns, plan.min_queries)
    before = memory.rss_bytes()
    _send({"stage": "timed", "t_ns": time.monotonic_ns()})

    waited_ns = _waited_ns()
    start_ns = time.monotonic_ns()
    due_ns = schedule(facts["scenario_options"], start_ns)
    run(query, due_ns, Window(start_ns + lasting_ns, plan.min_queries, cap_ns), rows)

    waited_ns = _minus(_waited_ns(), waited_ns)
    after = stages.reached("steady")
    stages.now = "steady"
    gc.enable()
    facts["harness"] = {"buffer_bytes": rows.size_bytes}
    rows.cut()
    facts.update(n_timed=rows.n, n_warmup=warm.n, timed_ns=rows.end_ns - start_ns, gc_off=True, warnings=[])
    facts["waited_ns"] = waited_ns
    if waited_ns is not None and waited_ns > _WAIT_LIMIT_RATIO * facts["timed_ns"]:
        facts["warnings"].append(
            "other programs took the subject's CPU: it stood ready but waited for more than 2 % of a timed window. "
            "Stop what else runs on the board."
        )
    growth = _minus(after, before)
    facts["rss_growth_bytes"] = _minus(growth, rows.grown_bytes)
    if rows.is_capped:
        facts["warnings"].append(
            f"the timed window ended after {rows.n} queries because the Block's {limits.run_s} s were over. "
            "Raise limits.run_s, or lower min_queries and duration_s."
        )
    columns: List[Column] = [
        ("latency_ns", rows.t_ns, rows.latency_ns),
        ("warmup_latency_ns", warm.t_ns, warm.latency_ns),
    ]
    return columns + ([("start_delay_ns", rows.t_ns, rows.delay_ns)] if rows.has_delay else [])


def _waited_ns() -> Optional[int]:
    """How long this thread stood ready while its CPU ran others; None where the kernel keeps no count."""
    try:
        with open("/proc/thread-self/schedstat") as file:
            return int(file.read().split()[1])
    except (OSError, ValueError, IndexError):
        return None


def _write(column: Column) -> Dict[str, Any]:
    metric, t_ns, value = column
    for suffix, numbers in ((".t", t_ns), (".v", value)):
        with open("c/" + metric + suffix, "wb") as file:
            numbers.tofile(file)
    return {"metric": metric, "n": len(t_ns), "t_type": "q", "v_type": "q"}


def _add_runtime(facts: Dict[str, Any], found: Dict[str, Any]) -> None:
    folder = found["runtime"].pop("library", "")
    if folder:
        found["runtime"]["library_sha256"] = _hash_of_libraries(folder)
    facts["harness"].update(found.pop("harness"))
    facts.update(found)


def _sha256() -> Any:
    """The interpreter's own sha256: hashlib would load OpenSSL, 5 MB that an outside watcher takes for the model's."""
    from importlib import import_module

    for module in ("_sha2", "_sha256", "hashlib"):  # Python 3.12; before; one built without either
        try:
            return import_module(module).sha256()
        except ImportError:
            continue
    raise ImportError("this Python has no sha256")


def _hash_of_libraries(folder: str) -> Optional[str]:
    """sha256 over every shared library of the runtime that is mapped here, by name; only after all that is measured."""
    with open("/proc/self/maps", "rb") as file:
        paths = {os.fsdecode(line.split(None, 5)[5].rstrip(b"\n")) for line in file if b".so" in line}
    paths = {path for path in paths if path.startswith(os.path.realpath(folder) + "/")}
    total = _sha256()
    for path in sorted(paths, key=os.path.basename):
        total.update(os.path.basename(path).encode() + b"\0")
        with open(path, "rb") as file:
            for part in iter(lambda: file.read(_PART_BYTES), b""):
                total.update(part)
    return total.hexdigest() if paths else None


def _failed(error: Exception, stage: str) -> Dict[str, Any]:
    from farm_agent.runtime import Failure, kind_of, one_line, text_of

    if isinstance(error, Failure):
        return {"stage": stage, "kind": error.kind, "text": one_line(str(error)), "blame": error.blame}
    sys.excepthook(type(error), error, error.__traceback__)
    if isinstance(error, wire.WireError):
        return {"stage": stage, "kind": "bad_plan", "text": one_line(str(error)), "blame": "input"}
    kind = kind_of(error, _BLAME_ARTIFACT.get(stage, "crash"))
    blame = "artifact" if kind == "memory" or stage in _BLAME_ARTIFACT else "board"
    return {"stage": stage, "kind": kind, "text": text_of(error), "blame": blame}


def _minus(a: Optional[int], b: Optional[int]) -> Optional[int]:
    return None if a is None or b is None else a - b


def _read_all(fd: int) -> bytes:
    parts: List[bytes] = []
    while True:
        part = os.read(fd, _PART_BYTES)
        if not part:
            return b"".join(parts)
        parts.append(part)


def _send(message: Mapping[str, Any]) -> None:
    data = wire.dumps(message).encode() + b"\n"
    while data:
        data = data[os.write(MESSAGES_FD, data) :]
