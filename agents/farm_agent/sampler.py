"""The sampler: one process that reads the board's sensors at a fixed rate into preallocated columns.

stdin: one JSON line {"root", "sensors" (names; empty = all present), "hz", "capacity", "cpus"}, then silence. The end
of stdin or SIGTERM ends it: it writes `s/<metric>.t` (int64) and `s/<metric>.v` (float64), little-endian, and last
`s/index.json`:

    columns     [{"metric", "n", "t_type", "v_type"}]
    sensors     {name: {"reads", "failed", "nan", "cost_ns"}}: rounds; files that could not be read;
                readings out of range; median time of a round
    absent      {name: reason} of the sensors that were asked for, or known, and give nothing here
    hz, window_ns, cpu_ns    CPU time of this process within the window
    late_ticks  rounds left out because the one before, or the machine, took too long
    is_full     true where `capacity` was reached and sampling stopped
    pinned      true where it ran on the CPUs asked for

Due times are multiples of 1/hz from the start, so the rate does not drift. Exit status: 0; 2 where the line was wrong.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import sys
import time
from array import array

from farm_agent import plugins, sensor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Sequence, Set, Tuple

FOLDER = "s"
CAPACITY_LIMIT = 10_000_000
LINE_LIMIT_BYTES = 65536
STDIN = 0


class Series:
    """One sensor's Reader, and when and how long each of its rounds was."""

    def __init__(self, name: str, reader: sensor.Reader, capacity: int) -> None:
        self.name, self.reader = name, reader
        self.t_ns = array("q", bytes(8 * capacity))
        self.cost_ns = array("q", bytes(8 * capacity))


def main(argv: Sequence[str]) -> int:
    """Sample until stdin ends; see the module's text."""
    wake = _wake_on_signals()
    try:
        config = config_from(_first_line())
    except ValueError as error:
        sys.stderr.write(f"sampler: {error}. Send one JSON line as farm_agent/sampler.py says.\n")
        return 2
    pinned = _pin(config["cpus"])
    series, absent = open_all(config["root"], config["sensors"], config["capacity"])
    counts = sample(series, config["hz"], config["capacity"], [STDIN, wake])
    counts.update(hz=config["hz"], pinned=pinned, absent=absent)
    try:
        write(FOLDER, series, counts)
    except OSError as error:
        sys.stderr.write(f"sampler: cannot write its columns to {FOLDER}/: {error}. Free disk space on the board.\n")
        return 1
    return 0


def config_from(line: bytes) -> Dict[str, Any]:
    """The request, checked. Raises ValueError that names the field."""
    try:
        data = json.loads(line)
    except ValueError:
        raise ValueError(f"its request is not JSON: {line[:80]!r}") from None
    if not isinstance(data, dict):
        raise ValueError(f"its request is {type(data).__name__}, an object is needed")
    config = {"root": "/", "sensors": [], "hz": 10.0, "capacity": 0, "cpus": []}
    config.update(data)
    names, cpus, hz, capacity = config["sensors"], config["cpus"], config["hz"], config["capacity"]
    if not isinstance(config["root"], str) or not os.path.isdir(config["root"]):
        raise ValueError(f"root is {config['root']!r}, a folder is needed")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"sensors is {names!r}, a list of names is needed")
    if not isinstance(cpus, list) or not all(type(cpu) is int for cpu in cpus):
        raise ValueError(f"cpus is {cpus!r}, a list of whole numbers is needed")
    if isinstance(hz, bool) or not isinstance(hz, (int, float)) or not 0 < hz <= 1000:
        raise ValueError(f"hz is {hz!r}, a number above 0 and up to 1000 is needed")
    if type(capacity) is not int or not 0 < capacity <= CAPACITY_LIMIT:
        raise ValueError(f"capacity is {capacity!r}, a whole number from 1 to {CAPACITY_LIMIT} is needed")
    return config


def open_all(root: str, names: Sequence[str], capacity: int) -> Tuple[List[Series], Dict[str, str]]:
    """The sensors asked for, opened, and why others give nothing. A metric that two sensors claim is the first's."""
    series: List[Series] = []
    absent: Dict[str, str] = {}
    taken: Set[str] = set()
    for name in dict.fromkeys(names or plugins.names("farm_agent.sensors")):
        found = sensor.probe(root, name)
        channels = [channel for channel in found.channels if channel.metric not in taken]
        if not channels:
            absent[name] = found.reason or "another sensor has the same metrics"
            continue
        taken.update(channel.metric for channel in channels)
        reader = plugins.load("farm_agent.sensors", name).open(root, channels, capacity)
        series.append(Series(name, reader, capacity))
    return series, absent


def sample(series: Sequence[Series], hz: float, capacity: int, until: List[int]) -> Dict[str, Any]:
    """Read all sensors at each due time until one of the descriptors `until` ends, or the columns are full."""
    period_ns = int(1e9 / hz)
    gc.collect()
    gc.disable()
    cpu_ns = -time.process_time_ns()
    start_ns = due_ns = time.monotonic_ns()
    n = late = 0
    while not _ended(until, due_ns):
        for one in series:
            began_ns = time.monotonic_ns()
            one.reader.read(n)
            one.t_ns[n] = began_ns
            one.cost_ns[n] = time.monotonic_ns() - began_ns
        n += 1
        if n == capacity:
            break
        due_ns += period_ns
        behind_ns = time.monotonic_ns() - due_ns
        if behind_ns > 0:
            skipped = behind_ns // period_ns + 1
            late += skipped
            due_ns += skipped * period_ns
    end_ns = time.monotonic_ns()
    cpu_ns += time.process_time_ns()
    gc.enable()
    while n == capacity and not _ended(until, time.monotonic_ns() + 3_600_000_000_000):
        pass
    return {"n": n, "late_ticks": late, "is_full": n == capacity, "window_ns": end_ns - start_ns, "cpu_ns": cpu_ns}


def write(folder: str, series: Sequence[Series], counts: Dict[str, Any]) -> None:
    """The columns, then the index: whoever finds the index finds every column whole."""
    os.makedirs(folder, exist_ok=True)
    n = counts.pop("n")
    columns, sensors = [], {}
    for one in series:
        costs = sorted(one.cost_ns[:n])
        reader = one.reader
        median_ns = costs[n // 2] if n else None
        sensors[one.name] = {"reads": n, "failed": reader.failed, "nan": reader.nan, "cost_ns": median_ns}
        for place, channel in enumerate(reader.channels):
            _write_column(f"{folder}/{channel.metric}.t", one.t_ns[:n])
            _write_column(f"{folder}/{channel.metric}.v", reader.columns[place][:n])
            columns.append({"metric": channel.metric, "n": n, "t_type": "q", "v_type": "d"})
        reader.close()
    index = dict(counts, columns=columns, sensors=sensors)
    with open(f"{folder}/index.json.part", "w") as file:
        json.dump(index, file, sort_keys=True)
    os.replace(f"{folder}/index.json.part", f"{folder}/index.json")


def _write_column(path: str, values: array[Any]) -> None:
    if sys.byteorder == "big":
        values.byteswap()
    with open(path, "wb") as file:
        values.tofile(file)


def _ended(until: List[int], due_ns: int) -> bool:
    """Wait until `due_ns`; True as soon as a descriptor ended or a signal came."""
    while True:
        wait_ns = due_ns - time.monotonic_ns()
        ready, _, _ = select.select(until, [], [], wait_ns / 1e9 if wait_ns > 0 else 0.0)
        if not ready:
            return False
        if ready != [STDIN] or not os.read(STDIN, LINE_LIMIT_BYTES):
            return True


def _first_line() -> bytes:
    line = b""
    while b"\n" not in line:
        data = os.read(STDIN, LINE_LIMIT_BYTES)
        if not data or len(line) > LINE_LIMIT_BYTES:
            break
        line += data
    return line.partition(b"\n")[0]


def _wake_on_signals() -> int:
    """A descriptor that becomes readable at SIGTERM or SIGINT: a handler alone would not end a select."""
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: None)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    return readable


def _pin(cpus: Sequence[int]) -> bool:
    try:
        if cpus:
            os.sched_setaffinity(0, cpus)
    except OSError:
        return False
    return bool(cpus)
