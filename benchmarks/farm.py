"""How fast is the farm? One command, Markdown tables: `make bench-farm` (or `python -m benchmarks.farm --quick`).

The boards are stand-ins that answer at once (standin.py), so that what is left is the farm's own time. All else is
real: `farm up`, `farm api` and `farm worker` in processes of their own, PostgreSQL that syncs to the disk, Redis, SSH.

    latency      from a request sent to the API until `measure` is asked of an agent on a warm board
    throughput   Jobs from the first request to the last end
    rounds       how long a dispatcher takes to assign, as the lab grows; the queue is long
    boards       memory, the API's answers and Jobs per second, as the lab grows; the queue is long

Nothing here asserts a time; it prints figures and whether they hold what docs/farm-speed.md promises.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import sys
import tempfile
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from benchmarks import crowd, lab, latency, load, standin, tables
from tests import servers

PARTS = ("latency", "throughput", "rounds", "boards")


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    trips: int  # of the latency, for each farm
    jobs: int  # of the throughput, for each farm
    boards: int  # of both
    sizes: tuple[int, ...]  # of the labs that grow
    queued: int
    rounds: int  # with one free board
    requests: int  # to the API, of each kind


FULL = Size(60, 300, 20, (10, 100, 1000), 10_000, 15, 40)
QUICK = Size(6, 20, 4, (10, 20), 300, 5, 5)


class Bench:
    """What all parts need: servers, stand-in boards, a folder."""

    def __init__(self, size: Size, stack: contextlib.ExitStack) -> None:
        self.size, self._stack = size, stack
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self._postgres_url = stack.enter_context(servers.postgres(fsync="on"))
        self._redis_url = stack.enter_context(servers.redis())
        self.boards = stack.enter_context(standin.running(self.folder / "boards"))

    def database(self) -> str:
        """A fresh one on PostgreSQL."""
        return self._stack.enter_context(lab.database(self._postgres_url))

    def farms(self, parts: Collection[str]) -> tuple[tables.Row, list[tables.Row]]:
        """The table of what is compared between farms on several services."""
        size, kinds = self.size, lab.combinations(self.database(), self._redis_url)
        found: list[tables.Row] = []
        with contextlib.ExitStack() as up:
            labs = [
                up.enter_context(lab.running(kind, self.folder / kind.prefix, self.boards, size.boards))
                for kind in kinds
            ]
            if "latency" in parts:
                with latency.Wire(self.boards, self.folder) as wire:
                    found += latency.rows(labs, self.boards, wire, size.trips)
            if "throughput" in parts:
                found += load.throughput(labs, size.boards, size.jobs)
        return ("what", *(kind.name for kind in kinds), "promised", ""), found

    def growth(self, parts: Collection[str]) -> tuple[tables.Row, list[tables.Row]]:
        """The table of what is compared between labs of several sizes."""
        size, found = self.size, list[tables.Row]()
        if "rounds" in parts:
            for kind in ("PostgreSQL", "SQLite"):
                urls = {
                    count: self.database() if kind == "PostgreSQL" else f"sqlite:///{self.folder / str(count)}.db"
                    for count in size.sizes
                }
                facts = self.boards.facts()
                found += crowd.growth(kind, urls, self.folder, facts, queued=size.queued, repeats=size.rounds)
        if "boards" in parts:
            costs = {}
            for count in size.sizes:
                services = lab.combinations(self.database(), self._redis_url)[0]
                place = self.folder / f"boards-{count}"
                costs[count] = load.cost(
                    services, place, self.boards, count, queued=size.queued, requests=size.requests
                )
            found += load.growth(costs, size.queued)
        head = (f"{size.queued} Jobs queued", *(f"{count} boards" for count in size.sizes))
        return (*head, "exponent", "promised", ""), found


def measure(size: Size, parts: Collection[str]) -> str:
    """Measure the parts that are asked for: the tables, in Markdown."""
    started, found = time.monotonic(), []
    with contextlib.ExitStack() as stack:
        bench = Bench(size, stack)
        if {"latency", "throughput"} & set(parts):
            found.append(tables.table(*bench.farms(parts)))
        if {"rounds", "boards"} & set(parts):
            found.append(tables.table(*bench.growth(parts)))
    place = f"{platform.machine()} with {os.cpu_count()} cores, Python {platform.python_version()}"
    found.append(f"Taken on {place}, in {(time.monotonic() - started) / 60:.0f} minutes.")
    return "\n\n".join(found)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a look in a minute, at small labs; its figures are rough")
    parser.add_argument("--only", nargs="*", default=PARTS, choices=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--into", type=Path, metavar="FILE", help="put the tables on this page too, between its marks")
    given = parser.parse_args()
    text = measure(QUICK if given.quick else FULL, given.only)
    print(text)
    if given.into is not None:
        tables.put(text, given.into)
    return 1 if tables.NOT in text else 0


if __name__ == "__main__":
    sys.exit(main())
