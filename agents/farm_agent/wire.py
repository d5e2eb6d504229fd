"""What travels between coordinator and board: Plans and requests in, events and columns out.

One JSON object a line, UTF-8, at most `MAX_LINE_BYTES`. Coordinator to agent (stdin): an object with `do`; agent to
coordinator (the agent's real stdout): an object with `event`. The tables below name every one and its fields.

    do        fields                                             meaning
    measure   block (Block as JSON)                              measure one Block; answered by `block` and its columns
    ping      n                                                  answered by `pong`: an anchor for lining clocks up
    renew     ttl_s                                              the lease lives on for that long from now
    cancel    -                                                  end the Block in hand (outcome CANCELLED), stay
    bye       -                                                  end; the same as end of file

    event     fields                                             meaning
    hello     wire, measure, agent, token, pid, python, t_ns,    the first line; the guard's lock is held
              unix_ns, probe
    pong      n, t_ns, unix_ns                                   the board's monotonic and wall clock, in ns
    alive     t_ns                                               every few seconds, inside a timed window too
    stage     block, stage, t_ns                                 the subject has reached this stage (STAGES, or `timed`)
    note      block (or null), text                              one line a person may want to read
    block     block, outcome, reasons, stages, facts, columns    the Block is over; `stages` holds each stage's t_ns and
                                                                 memory, `columns` is the number of metrics that follow
    column    block, metric, part, parts, n, t, v, t_type,       n samples of one metric, one of its parts; t and v are
              v_type                                             base64 of zlib of little-endian int64 (q), float64 (d)
    done      block                                              every column of the Block was sent
    error     code, message                                      refused: refused_token, busy (then `end`), bad_request,
                                                                 board_io, disk_full; or `bug`, then exit status 70
    end       reason                                             the last line: bye, eof, ttl, superseded, signal

History of VERSION: 1 the first.
History of MEASURE_VERSION (what a number means; part of every Fingerprint): 1 the first; 2 a model of one file is
loaded by a name of fixed length, as path lengths move a process's memory.
"""

from __future__ import annotations

import json

TYPE_CHECKING = False  # type checkers take this name for true; importing typing costs the supervisor 0.6 MB
if TYPE_CHECKING:
    from dataclasses import dataclass as record
    from typing import Any, Dict, Mapping, Optional, Tuple, Type, TypeVar

    T = TypeVar("T")

VERSION = 1
MEASURE_VERSION = 2
MAX_LINE_BYTES = 4 << 20
COLUMN_PART_SAMPLES = 65536
STAGES = ("interpreter", "runtime", "load", "first", "steady")
OUTCOMES = ("OK", "NOISY", "FAILED", "BROKEN", "CANCELLED")


class WireError(ValueError):
    """What came over the wire is not what the table says. The text names the field and what was seen."""


if not TYPE_CHECKING:
    # A frozen dataclass in 20 lines: importing `dataclasses` costs the supervisor 1.7 MB of the 12 it may have.
    def record(frozen):
        def make(cls):
            names = tuple(cls.__annotations__)
            defaults = {name: cls.__dict__[name] for name in names if name in cls.__dict__}

            def __init__(self, *args, **kwargs):
                values = dict(defaults)
                values.update(zip(names, args))
                values.update(kwargs)
                wrong = [n for n in values if n not in names] + [n for n in names if n not in values]
                if wrong or len(args) > len(names):
                    raise TypeError(f"{cls.__name__}: missing or unknown {wrong}")
                for name in names:
                    object.__setattr__(self, name, values[name])

            def __setattr__(self, name, value):
                raise AttributeError(f"{cls.__name__}.{name} is frozen; use wire.replace")

            cls._names = names
            cls.__init__ = __init__
            cls.__setattr__ = __setattr__
            cls.__eq__ = lambda a, b: type(a) is type(b) and as_dict(a) == as_dict(b)
            cls.__hash__ = lambda self: hash(dumps(as_dict(self)))
            cls.__repr__ = lambda self: f"{cls.__name__}({', '.join(f'{n}={getattr(self, n)!r}' for n in names)})"
            return cls

        return make


@record(frozen=True)
class Plan:
    """What to do on a board. Its canonical form, hashed, is its name (`farm.domain.plan_hash`).

    Every field but `limits` and `feed_seed` is part of that form where it differs from its default here.
    """

    runtime: str  # a file of runtimes/
    options: Mapping[str, Any] = {}  # of the runtime: threads, providers, xnnpack, ...
    scenario: str = "single_stream"  # a file of scenarios/
    scenario_options: Mapping[str, Any] = {}  # of the scenario: fps, ...
    duration_s: float = 10.0  # timed seconds of all processes together
    min_queries: int = (
        64  # of one process: the timed window ends when both this and its share of duration_s are reached
    )
    processes: int = 5  # fresh processes = Blocks of a plain Run
    warmup_queries: int = 10  # at least this many and
    warmup_s: float = 0.5  # at least this long before the timed window; kept apart
    cache: str = "cold"  # "cold": model file evicted from the page cache and checked; "warm": read once before
    latency_scope: str = "invoke"  # or "end_to_end": copies in and out inside the clock
    shapes: Mapping[str, Any] = {}  # input name -> list of int, for dynamic dimensions (else 1, and stored)
    feed: str = ""  # an .npz inside the artifact or beside it, by file name; "" = seeded random within dtype
    feed_seed: int = 0
    sensors: Tuple[str, ...] = ()  # names of sensors/; () = all that are present
    sensor_hz: float = 10.0  # 0 = no sampler
    stage_peaks: bool = True  # reset VmHWM at each stage where the kernel allows; False: running peaks
    limits: Mapping[str, Any] = {}  # Limits as JSON; see limits.py


@record(frozen=True)
class Limits:
    """What the subject may use before it is ended. None = no limit."""

    load_s: float = 120.0  # from process start to the end of the first inference
    run_s: float = 600.0  # the whole Block
    memory_bytes: Optional[int] = None
    processes: int = 256  # threads included, as the kernel counts them
    file_bytes: int = 1 << 30
    output_bytes: int = 1 << 20  # of stdout and stderr together; more is read and thrown away


@record(frozen=True)
class Block:
    """One fresh process of one Arm within a Run, as it is sent to the board."""

    index: int  # 0-based place in the order
    arm: str  # "a", "b"
    pair: int  # -1 for a plain Run
    plan: Plan
    artifact: str  # sha256 of the Artifact; the folder artifacts/<sha256>/ on the board
    entry: str  # the file within it that the runtime loads
    files: Mapping[str, str]  # every file within it -> sha256; all are hashed before use
    feed_file: str = ""  # sha256/name of an .npz that was pushed beside; "" = none


def as_dict(thing: Any) -> Dict[str, Any]:
    """A record as plain JSON data, nested records included."""
    names = getattr(thing, "_names", None) or tuple(thing.__dataclass_fields__)
    out = {}
    for name in names:
        value = getattr(thing, name)
        if hasattr(value, "_names") or hasattr(value, "__dataclass_fields__"):
            value = as_dict(value)
        elif isinstance(value, tuple):
            value = list(value)
        elif isinstance(value, dict):
            value = dict(value)
        out[name] = value
    return out


def replace(thing: T, **changes: Any) -> T:
    """The same record with some fields changed."""
    values = {name: getattr(thing, name) for name in thing.__class__.__annotations__}
    values.update(changes)
    return thing.__class__(**values)


def dumps(message: Mapping[str, Any]) -> str:
    """One line without its newline: keys sorted, no spaces, NaN refused (absent is null)."""
    return json.dumps(message, sort_keys=True, separators=(",", ":"), allow_nan=False)


def loads(line: Any, key: str) -> Dict[str, Any]:
    """One line to one message. Raises WireError unless it is an object with the string field `key`."""
    if len(line) > MAX_LINE_BYTES:
        raise WireError(f"line of {len(line)} bytes; at most {MAX_LINE_BYTES} are allowed")
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise WireError(f"not JSON: {line[:80]!r} ({error})") from None
    if not isinstance(message, dict) or not isinstance(message.get(key), str):
        raise WireError(f"not an object with {key!r}: {line[:80]!r}")
    return message


def plan_from(data: Any) -> Plan:
    """A Plan from JSON data; every field checked. Raises WireError naming the field."""
    plan = _build(Plan, data, "plan")
    _positive(plan, "plan", ("duration_s", "min_queries", "processes"))
    if not 0 <= plan.sensor_hz <= 1000:
        raise WireError(f"plan.sensor_hz is {plan.sensor_hz!r}; 0 (no sampler) to 1000 is needed")
    for name, allowed in (("cache", ("cold", "warm")), ("latency_scope", ("invoke", "end_to_end"))):
        if getattr(plan, name) not in allowed:
            raise WireError(f"plan.{name} is {getattr(plan, name)!r}; allowed: {', '.join(allowed)}")
    if plan.warmup_queries < 0 or plan.warmup_s < 0:
        raise WireError("plan.warmup_queries and plan.warmup_s must not be negative")
    for name, shape in plan.shapes.items():
        if not isinstance(shape, list) or not all(type(n) is int and n > 0 for n in shape):
            raise WireError(f"plan.shapes[{name!r}] is {shape!r}; a list of positive whole numbers is needed")
    limits_from(plan.limits)
    return plan


def limits_from(data: Any) -> Limits:
    """Limits from JSON data; every field checked. Raises WireError naming the field."""
    limits = _build(Limits, data, "limits")
    _positive(limits, "limits", ("load_s", "run_s", "memory_bytes", "processes", "file_bytes", "output_bytes"))
    return limits


def block_from(data: Any) -> Block:
    """A Block from JSON data; every field checked, no path may leave its folder. Raises WireError naming the field."""
    if not isinstance(data, dict):
        raise WireError(f"block is {type(data).__name__}; an object is needed")
    data = dict(data, plan=plan_from(data.get("plan")))
    block = _build(Block, data, "block")
    for name in [block.artifact, block.entry, *block.files, *([block.feed_file] if block.feed_file else [])]:
        if not isinstance(name, str) or not is_safe_path(name):
            raise WireError(f"block names the path {name!r}; a relative path without '..' is needed")
    if block.entry not in block.files:
        raise WireError(f"block.entry {block.entry!r} is not among block.files")
    return block


def is_safe_path(path: str) -> bool:
    """True for a relative path that stays below its folder: no empty, '.' or '..' part, no NUL, no backslash."""
    parts = path.split("/")
    return all(part not in ("", ".", "..") for part in parts) and "\0" not in path and "\\" not in path


_TYPES: Dict[str, Tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "Optional[int]": (int, type(None)),
    "Mapping[str, Any]": (dict,),
    "Mapping[str, str]": (dict,),
    "Tuple[str, ...]": (list, tuple),
}


def _build(cls: Type[T], data: Any, what: str) -> T:
    if not isinstance(data, dict):
        raise WireError(f"{what} is {type(data).__name__}; an object is needed")
    names = cls.__annotations__
    unknown = sorted(set(data) - set(names))
    if unknown:
        raise WireError(f"{what} has no field {unknown[0]!r}; known: {', '.join(sorted(names))}")
    for name, value in data.items():
        kinds = _TYPES.get(names[name])
        if kinds and (not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)):
            raise WireError(f"{what}.{name} is {value!r}; {names[name]} is needed")
        if isinstance(value, float) and value != value:
            raise WireError(f"{what}.{name} is not a number")
        if names[name] == "Tuple[str, ...]" and not all(isinstance(item, str) for item in value):
            raise WireError(f"{what}.{name} is {value!r}; a list of strings is needed")
    missing = [name for name in names if name not in data and not hasattr(cls, name)]
    if missing:
        raise WireError(f"{what} lacks the field {missing[0]!r}")
    return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in data.items()})


def _positive(thing: Any, what: str, names: Any) -> None:
    for name in names:
        value = getattr(thing, name)
        if value is not None and not 0 < value < float("inf"):
            raise WireError(f"{what}.{name} is {value!r}; a positive number is needed")
