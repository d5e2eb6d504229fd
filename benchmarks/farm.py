"""How fast is the farm? One command, Markdown tables: `make bench-farm` (or `python -m benchmarks.farm --quick`).

The boards are stand-ins that answer at once (standin.py), so that what is left is the farm's own time. All else is
real: `farm up`, `farm api` and `farm worker` in processes of their own, PostgreSQL that syncs to the disk, Redis, SSH.

1. Latency: from a request sent to the API until `measure` is asked of an agent on a warm board; one at a time, the
   combinations of services in turns, and between them the bare SSH round trip.
2. Throughput: Jobs from the first request to the last end, on 20 boards.
3. The API's P95 while 20 boards are busy.
4. A dispatcher's round, and a worker's memory, as the lab grows.

Nothing here asserts a time; it prints figures and whether they hold what docs/farm-speed.md promises.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from benchmarks import crowd, lab, standin
from farm import agent, boarding, settings
from farm.bundle import agent_hash
from farm.transport import Transport, reach
from tests import servers

BOARDS = 20
CLIENTS = 4
NOT = "DOES NOT HOLD"
LATENCY_LIMIT_MS = 60.0
ROUND_LIMIT_MS = 20.0
STEPS = ("submitted", "granted", "begun", "connect", "hello")  # kinds of events on the way to `measure`
TOLD = {
    "submitted": "request sent → checked by the API",
    "granted": "→ stored, dispatcher's round begins",
    "begun": "→ board granted, message delivered, worker at it",
    "connect": "→ Run begun and read by the worker",
    "hello": "→ connection looked at, files there, agent said hello",
    "measure": "→ `measure` asked",
}

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    jobs: int  # of the latency, each combination
    rounds: int  # of the throughput
    batch: int  # Jobs of one such round
    requests: int  # to the API, of each kind
    boards: tuple[int, ...]  # of a dispatcher's rounds
    queued: int
    repeats: int  # of the round with one free board
    fleet: tuple[int, ...]  # boards of one worker, for its memory


FULL = Size(120, 1, 500, 60, (10, 100, 1000), 10_000, 15, (10, 100, 500))
QUICK = Size(8, 1, 20, 3, (10, 100), 1000, 5, (10,))


class Wire:
    """The bare SSH round trip, by the code that a worker uses, on a warm connection of our own."""

    def __init__(self, boards: standin.Boards, folder: Path) -> None:
        self._settings = settings.load({"data_dir": str(folder), "known_hosts": str(boards.known_hosts)}, {})
        self._board = boards.board("wire")
        self._runner = asyncio.Runner()
        self._stack = contextlib.AsyncExitStack()
        self._token = 0

    def __enter__(self) -> Wire:
        self._transport: Transport = self._runner.run(self._open())
        return self

    def __exit__(self, *error: object) -> None:
        self._runner.run(self._stack.aclose())
        self._runner.close()

    async def _open(self) -> Transport:
        transport = await self._stack.enter_async_context(reach(self._board, self._settings))
        self._zip = await boarding.push_agent(transport)
        return transport

    def true_ms(self) -> float:
        """An exec of `true`."""

        async def ask() -> None:
            await self._transport.run(["true"], timeout_s=30.0)

        return self._timed_ms(ask)

    def agent_ms(self) -> float:
        """An agent's start, until it said hello and answered a ping."""
        self._token += 1
        terms = agent.Terms("f", self._token, 30.0, "b", "python3", "python3", self._zip, agent_hash())
        stack = contextlib.AsyncExitStack()

        async def start() -> None:
            await stack.enter_async_context(agent.start(self._transport, "wire", terms))

        took_ms = self._timed_ms(start)
        self._runner.run(stack.aclose())
        return took_ms

    def _timed_ms(self, action: Callable[[], object]) -> float:
        started = time.perf_counter()
        self._runner.run(action())  # type: ignore[arg-type]
        return (time.perf_counter() - started) * 1e3


@dataclass(slots=True)
class Trip:
    """One Job on its way to `measure`."""

    total_ms: float
    above_ms: float  # the SSH round trip
    steps_ms: dict[str, float]


def latency(labs: Sequence[lab.Lab], boards: standin.Boards, wire: Wire, jobs: int) -> Iterator[Row]:
    """From the request to `measure`, one Job at a time, the farms in turns."""
    trips: dict[str, list[Trip]] = {one.services.name: [] for one in labs}
    true_ms, agent_ms = [], []
    for number in range(jobs + 2):  # the first two are not counted: caches fill
        for one in _turned(labs, number):
            ssh_ms, start_ms = wire.true_ms(), wire.agent_ms()
            trip = _trip(one, boards, ssh_ms)
            if number >= 2:
                true_ms.append(ssh_ms)
                agent_ms.append(start_ms)
                trips[one.services.name].append(trip)
        progress(f"latency: {number + 1} of {jobs + 2}")
    found = list(trips.values())
    above = [statistics.median(trip.above_ms for trip in some) for some in found]
    yield ("request → `measure`, median", *(ms(middle(t.total_ms for t in some)) for some in found), "–", "")
    yield ("request → `measure`, P95", *(ms(p95([t.total_ms for t in some])) for some in found), "–", "")
    yield (
        f"median above the SSH round trip ({ms(middle(true_ms))})",
        *map(ms, above),
        f"{LATENCY_LIMIT_MS:.0f} ms",
        "holds" if max(above) < LATENCY_LIMIT_MS else NOT,
    )
    for kind, text in TOLD.items():
        parts = (middle(t.steps_ms[kind] for t in some) for some in found)
        yield (f"{text}", *map(ms, parts), "–", "")
    yield ("an agent's start alone, same code", *(ms(middle(agent_ms)) for _ in found), "–", "")


def _trip(one: lab.Lab, boards: standin.Boards, ssh_ms: float) -> Trip:
    boards.forget()
    wall_ns, started_ns = time.time_ns(), time.monotonic_ns()
    job = one.submit(blocks=1)
    seen = boards.next("measure", one.services.prefix)
    one.wait_done(job)
    total_ms = (seen.t_ns - started_ns) / 1e6
    at_ms = {event["kind"]: _since_ms(event["at"], wall_ns) for event in reversed(one.events(job))}
    marks = [0.0, *(at_ms[kind] for kind in STEPS), total_ms]
    steps_ms = dict(zip(TOLD, (after - before for before, after in pairwise(marks)), strict=True))
    time.sleep(0.05)  # what follows a Job's end is not the next one's business
    return Trip(total_ms, total_ms - ssh_ms, steps_ms)


def throughput(labs: Sequence[lab.Lab], rounds: int, batch: int) -> Iterator[Row]:
    """Jobs per second, from the first request until the last Job's end."""
    found: dict[str, list[float]] = {one.services.name: [] for one in labs}
    cpu_ms: dict[str, list[float]] = {one.services.name: [] for one in labs}
    for number in range(rounds):
        for one in _turned(labs, number):
            before_s = _cpu_s(one)
            found[one.services.name].append(_rate(one, batch))
            cpu_ms[one.services.name].append((_cpu_s(one) - before_s) * 1e3 / batch)
            progress(f"throughput: {one.services.name}, round {number + 1} of {rounds}")
    for one in labs:
        bad = [outcome for outcome in one.outcomes() if outcome != "OK"]
        if bad:
            raise SystemExit(f"{one.services.name}: {len(bad)} jobs did not end as OK but as {bad[0]}")
    rates = (f"{middle(some):.1f} / s" for some in found.values())
    yield (f"Jobs of 1 Block end to end, {BOARDS} boards, {batch} Jobs", *rates, "–", "")
    yield ("processor time of API and worker for a Job", *(ms(middle(some)) for some in cpu_ms.values()), "–", "")


def _cpu_s(one: lab.Lab) -> float:
    return sum(lab.cpu_s(pid) for pid in {one.front, one.worker})


def _rate(one: lab.Lab, batch: int) -> float:
    started = time.perf_counter()
    _flood(one, batch)
    while one.count("queued", "running"):
        time.sleep(0.05)
    return batch / (time.perf_counter() - started)


def _flood(one: lab.Lab, batch: int) -> None:
    """Submit over a few connections at once."""
    left = iter(range(batch))

    def submit() -> None:
        with one.new_client() as client:
            for _ in left:
                one.submit(1, client)

    threads = [threading.Thread(target=submit) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def answers(labs: Sequence[lab.Lab], boards: standin.Boards, requests: int) -> Iterator[Row]:
    """The API's P95: while every board measures, and while every board turns Jobs over as fast as it can."""
    kinds = ("GET /jobs", "GET /boards", "POST /jobs")
    measuring: list[dict[str, float]] = []
    turning: list[dict[str, float]] = []
    for one in labs:
        with boards.held():
            _flood(one, BOARDS)
            while sum(told["leased_since"] is not None for told in one.ask("GET", "/boards")["boards"]) < BOARDS:
                time.sleep(0.05)
            measuring.append(_asked(one, requests))
        _flood(one, 2 * requests)
        turning.append(_asked(one, requests))
        while one.count("queued", "running"):
            time.sleep(0.1)
        progress(f"API: {one.services.name}")
    for text, found in (("measure", measuring), ("turn Jobs over", turning)):
        for kind in kinds:
            yield (f"{kind}, P95 while {BOARDS} boards {text}", *(ms(some[kind]) for some in found), "–", "")


def _asked(one: lab.Lab, requests: int) -> dict[str, float]:
    """The P95 of each kind of request."""
    took: dict[str, list[float]] = {"GET /jobs": [], "GET /boards": [], "POST /jobs": []}
    for _ in range(requests):
        for kind, times_ms in took.items():
            started = time.perf_counter()
            if kind == "POST /jobs":
                one.submit(1)
            else:
                one.ask("GET", kind.removeprefix("GET "))
            times_ms.append((time.perf_counter() - started) * 1e3)
    return {kind: p95(times_ms) for kind, times_ms in took.items()}


def growth(postgres_url: str, folder: Path, facts: Mapping[str, object], size: Size) -> Iterator[Row]:
    """A dispatcher's rounds on labs of several sizes, with the same queue; the sizes in turns."""
    for name in ("PostgreSQL", "SQLite"):
        with contextlib.ExitStack() as stack:
            crowds = []
            for boards in size.boards:
                place = folder / f"{name}-{boards}"
                place.mkdir()
                url = f"sqlite:///{place / 'farm.db'}"
                if name == "PostgreSQL":
                    url = stack.enter_context(lab.database(postgres_url))
                crowds.append(stack.enter_context(crowd.crowd(url, place, facts, size=boards, queued=size.queued)))
            first = [_grant(one, one.size) for one in crowds]
            progress(f"rounds: {name}, all boards free")
            free: list[list[float]] = [[] for _ in crowds]
            for number in range(size.repeats):
                for one, found in zip(crowds, free, strict=True):
                    one.end_one()
                    found.append(_grant(one, 1))
                progress(f"rounds: {name}, {number + 1} of {size.repeats}")
        yield grown(f"{name}: one board free, median", list(map(middle, free)), size.boards, ROUND_LIMIT_MS)
        yield grown(f"{name}: all boards free (first round)", first, size.boards, None)


def _grant(one: crowd.Crowd, count: int) -> float:
    """How long a round took, in ms, which must have given out so many boards."""
    granted, took_s = one.round()
    if granted != count:
        raise SystemExit(f"{granted} of {one.size} boards were given out where {count} were free and wanted")
    return took_s * 1e3


def memory(services: lab.Services, folder: Path, boards: standin.Boards, fleet: Sequence[int]) -> Iterator[Row]:
    """What a worker process needs for each board that it has a warm connection to, and for each that measures."""
    idle, busy = {}, {}
    for count in (1, *fleet):
        some = replace(services, prefix=f"f{count}x", database_url=None)
        with lab.running(some, folder / f"fleet-{count}", boards, count, slots=max(fleet)) as one:
            idle[count] = lab.rss_bytes(one.worker)
            boards.forget()
            with boards.held():
                _flood(one, count)
                for _ in range(count):
                    boards.next("measure", some.prefix)
                busy[count] = lab.rss_bytes(one.worker)
                one.kill()  # to carry out what is held would take minutes
        progress(f"memory: {count} boards")
    for text, found in (("all idle, connections warm", idle), ("all busy", busy)):
        yield (f"worker process, {text}", *(f"{found[count] / 1e6:.0f} MB" for count in fleet), "–", "")
    for text, found in (("idle", idle), ("busy", busy)):
        each = [(found[count] - idle[1]) / (count - 1) for count in fleet]
        yield (f"each further board, {text}", *(f"{one / 1e3:.0f} kB" for one in each), "–", "")


def grown(text: str, found: Sequence[float], sizes: Sequence[int], limit: float | None) -> Row:
    """A row on how a time grows: the exponent 1 is linear."""
    exponent = math.log(found[-1] / found[0]) / math.log(sizes[-1] / sizes[0])
    holds = exponent <= 1.0 and (limit is None or found[-1] < limit)
    promised = "linear" if limit is None else f"linear, {limit:.0f} ms"
    return (text, *map(ms, found), f"{exponent:.2f}", promised, "holds" if holds else NOT)


def ms(value: float) -> str:
    """A time as it is printed."""
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms"


def middle(values: object) -> float:
    """The median."""
    return statistics.median(list(values))  # type: ignore[call-overload,no-any-return]


def p95(values: Sequence[float]) -> float:
    """The 95th percentile: the smallest value that 95 % do not exceed."""
    return sorted(values)[math.ceil(0.95 * len(values)) - 1]


def _since_ms(at: str, wall_ns: int) -> float:
    return datetime.fromisoformat(at).timestamp() * 1e3 - wall_ns / 1e6


def _turned(labs: Sequence[lab.Lab], number: int) -> Sequence[lab.Lab]:
    """The labs, another one first each time."""
    turn = number % len(labs)
    return [*labs[turn:], *labs[:turn]]


def progress(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def table(head: Row, rows: Sequence[Row]) -> None:
    """Print a table."""
    for i, row in enumerate([head, *rows]):
        print("| " + " | ".join(row) + " |", flush=True)
        if i == 0:
            print("|" + "---|" * len(row))
    print()


def measure(size: Size, parts: Sequence[str]) -> list[Row]:
    """Measure and print the parts that are asked for; every row."""
    rows: list[Row] = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        postgres_url = stack.enter_context(servers.postgres(fsync="on"))
        redis_url = stack.enter_context(servers.redis())
        boards = stack.enter_context(standin.running(folder / "boards"))
        kinds = lab.combinations(stack.enter_context(lab.database(postgres_url)), redis_url)
        if {"latency", "throughput", "api"} & set(parts):
            with contextlib.ExitStack() as up:
                labs = [up.enter_context(lab.running(kind, folder / kind.prefix, boards, BOARDS)) for kind in kinds]
                wire = up.enter_context(Wire(boards, folder))
                found = [
                    *(latency(labs, boards, wire, size.jobs) if "latency" in parts else ()),
                    *(throughput(labs, size.rounds, size.batch) if "throughput" in parts else ()),
                    *(answers(labs, boards, size.requests) if "api" in parts else ()),
                ]
            table(("what", *(kind.name for kind in kinds), "promised", ""), found)
            rows += found
        if "rounds" in parts:
            found = list(growth(postgres_url, folder, boards.facts(), size))
            head = tuple(f"{boards_} boards" for boards_ in size.boards)
            table((f"round, {size.queued} Jobs queued", *head, "exponent", "promised", ""), found)
            rows += found
        if "memory" in parts:
            found = list(memory(kinds[1], folder, boards, size.fleet))
            table(("memory", *(f"{count} boards" for count in size.fleet), "promised", ""), found)
            rows += found
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a look in less than a minute; its figures are rough")
    parts = ("latency", "throughput", "api", "rounds", "memory")
    parser.add_argument("--only", nargs="*", default=parts, choices=parts, metavar="PART", help=", ".join(parts))
    given = parser.parse_args()
    rows = measure(QUICK if given.quick else FULL, given.only)
    return 1 if any(row[-1] == NOT for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
