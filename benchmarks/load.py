"""A farm under load: Jobs per second; and what boards cost, measuring and turning over, as the lab grows."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks import crowd, lab, standin
from benchmarks.tables import Row, grown, grown_bytes, ms, p95, progress
from farm.store import db

CLIENTS = 4
TURNING = 10  # boards that turn Jobs over as fast as they can, while the others measure
WINDOW_S = 10.0  # in which Jobs that end are counted
LOOK_S = 0.25
REQUESTS = ("GET /jobs", "GET /boards", "POST /jobs")
MEASURE, TURN = "all boards measure", f"{TURNING} boards turn over"


def throughput(labs: Sequence[lab.Lab], boards: int, jobs: int) -> Iterator[Row]:
    """Jobs per second, from the first request until the last Job's end. A column for each farm."""
    rates, cpu_ms = [], []
    for one in labs:
        before_s, started = one.cpu_s(), time.perf_counter()
        _flood(one, jobs)
        while one.count("queued", "running"):
            time.sleep(LOOK_S)
        rates.append(jobs / (time.perf_counter() - started))
        cpu_ms.append((one.cpu_s() - before_s) * 1e3 / jobs)
        bad = [outcome for outcome in one.outcomes() if outcome != "OK"]
        if bad:
            raise SystemExit(f"{one.services.name}: {len(bad)} jobs did not end as OK but as {bad[0]}")
        progress(f"throughput: {one.services.name}")
    yield (
        f"Jobs of 1 Block end to end, {boards} boards, {jobs} Jobs",
        *(f"{rate:.1f} / s" for rate in rates),
        "–",
        "",
    )
    yield ("processor time of API and worker for each", *map(ms, cpu_ms), "–", "")


@dataclass(slots=True)
class Cost:
    """What a farm with so many boards costs."""

    idle_bytes: tuple[int, int] = (0, 0)  # worker, API
    busy_bytes: tuple[int, int] = (0, 0)
    took_ms: dict[tuple[str, str], float] = field(default_factory=dict)  # (request, what the boards do) -> P95
    job_ms: float = 0.0  # between two Jobs' ends


def growth(found: Mapping[int, Cost], queued: int) -> Iterator[Row]:
    """A column for each size of the lab."""
    sizes, costs = list(found), list(found.values())
    for place, process in enumerate(("worker", "API")):
        yield grown_bytes(f"{process} process, all boards idle", [one.idle_bytes[place] for one in costs], sizes)
        yield grown_bytes(f"{process} process, all boards measure", [one.busy_bytes[place] for one in costs], sizes)
    for text, figures in (
        ("worker, each further board, idle", [one.idle_bytes[0] for one in costs]),
        ("worker, each further board that measures", [one.busy_bytes[0] for one in costs]),
    ):
        each = [(more - figures[0]) / (size - sizes[0]) for size, more in zip(sizes[1:], figures[1:], strict=True)]
        yield (text, "–", *(f"{one / 1e3:.0f} kB" for one in each), "–", "–", "")
    for what in (MEASURE, TURN):
        for request in REQUESTS:
            times = [one.took_ms[request, what] for one in costs]
            yield grown(f"{request}, P95 while {what}, {queued} Jobs queued", times, sizes)
    rates = (f"{1e3 / one.job_ms:.1f} / s" for one in costs)
    yield (f"Jobs that end while {TURN}", *rates, *grown("", [one.job_ms for one in costs], sizes)[-3:])


def cost(
    services: lab.Services,
    folder: Path,
    boards: standin.Boards,
    count: int,
    *,
    queued: int,
    requests: int,
    window_s: float = WINDOW_S,
) -> Cost:
    """A farm with so many boards: idle, all measuring, and some of them turning Jobs over."""
    found = Cost()
    mine = replace(services, prefix=f"f{count}x")
    with lab.running(mine, folder, boards, count, slots=max(lab.SLOTS, count)) as one:
        progress(f"{count} boards: warm")
        found.idle_bytes = one.rss_bytes()
        boards.hold()
        boards.forget()
        with closing(db.open_store(one.database_url, folder / "blobs", upgrade=False)) as store:
            crowd.fill_queue(store, folder, queued + count, board=f"{mine.prefix}0")
        for number in range(1, count + 1):
            boards.next("measure", mine.prefix)
            if number % 100 == 0:
                progress(f"{count} boards: {number} measure")
        found.busy_bytes = one.rss_bytes()
        progress(f"{count} boards: all measure")
        found.took_ms |= {(request, MEASURE): took for request, took in _asked(one, requests).items()}
        progress(f"{count} boards: API asked while all measure")
        boards.go(TURNING)
        for _ in range(min(TURNING, count)):  # caches fill
            boards.next("measure", mine.prefix)
        boards.forget()
        started = time.perf_counter()
        found.took_ms |= {(request, TURN): took for request, took in _asked(one, requests).items()}
        time.sleep(max(0.0, started + window_s - time.perf_counter()))
        took_s, begun = time.perf_counter() - started, boards.count("measure", mine.prefix)
        found.job_ms = took_s * 1e3 / max(1, begun)
        progress(f"{count} boards: API asked while {TURN}")
        one.kill()  # to carry out what is queued would take long
        boards.go(None)
    return found


def _flood(one: lab.Lab, jobs: int) -> None:
    """Submit over a few connections at once."""
    left = iter(range(jobs))

    def submit() -> None:
        with one.new_client() as client:
            for _ in left:
                one.submit(client)

    threads = [threading.Thread(target=submit) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _asked(one: lab.Lab, requests: int) -> dict[str, float]:
    """The P95 of each kind of request."""
    took: dict[str, list[float]] = {request: [] for request in REQUESTS}
    for _ in range(requests):
        for request, times_ms in took.items():
            started = time.perf_counter()
            if request == "POST /jobs":
                one.submit()
            else:
                one.ask("GET", request.removeprefix("GET "))
            times_ms.append((time.perf_counter() - started) * 1e3)
    return {request: p95(times_ms) for request, times_ms in took.items()}
