"""How true are our numbers? One command, one table: `make fidelity` (or `python -m benchmarks.fidelity --rounds 61`).

1. P50 against a loop with nothing of benchfarm in it, over the same runtime: interleaved, median of ratios.
2. Peak RSS against what GNU time says of the very same subject command, started from a thin parent.
3. Peak RSS against itself over runs with paths and environments of random length.
4. P50 with the sampler on against off.
5. What the agent itself takes: the sampler's share of a core, the supervisor's memory, the zip's size.

Nothing here asserts a time; it prints ratios, their range, and whether they hold what docs/fidelity.md promises.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from farm_agent import launch, wire
from farm_agent.block import subject_environment

from farm import agent, bench, bundle, dispatch, domain, execute, intake, settings, show
from farm.stats import summary
from farm.store import db, jobs, results
from farm.transport import reach

HERE = Path(__file__).resolve().parent
MODELS = HERE.parent / "examples" / "models" / "made"
NAMES = (
    "mobilenet_v2_tiny.onnx",
    "mobilenet_v2_small.onnx",
    "mobilenet_v2.onnx",
    "mobilenet_v2_tiny.tflite",
    "mobilenet_v2_small.tflite",
    "mobilenet_v2.tflite",
)
NOT = "DOES NOT HOLD"
WARMUP_S = 0.2
CPU = max(os.sched_getaffinity(0))  # where the agent puts a subject of one thread


class Farm:
    """The verbs of `farm bench` in this process, on a store of their own."""

    def __init__(self, folder: Path) -> None:
        self.settings = settings.load({"data_dir": str(folder)}, {})
        self.store = db.open_store(self.settings.database_url, self.settings.blobs_dir, upgrade=True)

    def bench(
        self, model: Path, plan: dict[str, Any], home: Path, watch: Callable[[execute.Event], None] = lambda event: None
    ) -> dict[str, Any]:
        """One Run on this machine, as `farm bench --json` gives it."""
        board = domain.Board(name="local", home=str(home))
        artifact = intake.receive(model, store=self.store)
        now = datetime.now(UTC)
        job = intake.submit(
            store=self.store,
            artifact=artifact,
            plan=intake.plan_from(plan, artifact=artifact),
            model=None,
            project="fidelity",
            selector=domain.Selector(name="local"),
            now=now,
        )
        run = dispatch.grant(job, board, store=self.store, holder="fidelity", ttl_s=60.0, now=now)
        ended = asyncio.run(
            bench.carry_out(run, store=self.store, settings=self.settings, holder="fidelity", watch=watch)
        )
        found = show.run_json(self.store, ended.id)
        if found["outcome"] not in ("OK", "NOISY"):
            raise SystemExit(f"{model.name}: {found['outcome']}: {found['reasons']}")
        return found


def plain(model: Path, seconds: float) -> dict[str, float]:
    """The loop without benchfarm, in a fresh process with the environment that a subject has."""
    words = [sys.executable, "-I", str(HERE / "plain_loop.py"), str(model), f"{seconds:g}", f"{WARMUP_S:g}", str(CPU)]
    answer: dict[str, float] = json.loads(
        subprocess.run(words, env=subject_environment(1), check=True, capture_output=True).stdout
    )
    return answer


@contextmanager
def session(farm: Farm, name: str, home: Path) -> Iterator[Callable[[dict[str, Any]], float]]:
    """One agent for many Blocks of one model, as a Run has it: calls give the P50, in ns, of one fresh process each.

    A Run's pushes are done by a first Run; then the agent stays, so that what is compared lies close in time.
    """
    found = farm.bench(MODELS / name, {"processes": 1, "duration_s": 0.1}, home)
    artifact = jobs.find_artifact(farm.store, found["artifact"]["sha256"])
    terms = agent.Terms(
        farm="fidelity",
        token=time.time_ns(),
        ttl_s=3600.0,
        holder="fidelity",
        python=sys.executable,
        subject_python=sys.executable,
        zip_path=f"{home}/agents/{bundle.agent_hash()}.zip",
        agent_hash=bundle.agent_hash(),
    )
    board = domain.Board(name="local", home=str(home))
    with asyncio.Runner() as runner:

        async def enter() -> agent.Agent:
            transport = await stack.enter_async_context(reach(board, farm.settings))
            return await stack.enter_async_context(agent.start(transport, "local", terms))

        async def measure(worker: agent.Agent, plan: wire.Plan) -> float:
            files = {file.path: file.sha256 for file in artifact.files}
            block = wire.Block(0, "a", -1, plan, artifact.sha256, artifact.entry, files)
            result = await worker.measure(block, watch=lambda event: None)
            if result.outcome is not domain.Outcome.OK:
                raise SystemExit(f"{name}: {result.reasons}")
            values = next(column.value for column in result.samples if column.metric == "latency_ns")
            return summary.quantile(values, 0.5)

        stack = AsyncExitStack()
        worker = runner.run(enter())
        try:
            yield lambda plan: runner.run(measure(worker, intake.plan_from(plan, artifact=artifact)))
        finally:
            runner.run(stack.aclose())


def latency(farm: Farm, names: Sequence[str], rounds: int, seconds: float, home: Path) -> Iterator[tuple[str, ...]]:
    """Ours against the plain loop, in alternating order."""
    plan = {"processes": 1, "duration_s": seconds, "warmup_s": WARMUP_S, "min_queries": 20}
    for name in names:
        pairs = []
        with session(farm, name, home) as p50_ns:
            for i in range(rounds):
                other = plain(MODELS / name, seconds)["p50_ns"] if i % 2 else 0.0
                ours = p50_ns(plan)
                pairs.append((ours, other or plain(MODELS / name, seconds)["p50_ns"]))
                progress(f"{name}: round {i + 1} of {rounds}")
        ratios = sorted(ours / other for ours, other in pairs)
        base = statistics.median(other for _, other in pairs)
        yield (
            f"P50 of {name}, ours / plain loop",
            f"{base / 1e6:.3f} ms",
            f"{statistics.median(ratios):.4f}",
            "{:.4f} to {:.4f}".format(*interval(ratios)),
            "1 % + 3 us",
            verdict(ratios, (0.01 * base + 3000) / base),
        )


def memory(farm: Farm, home: Path) -> Iterator[tuple[str, ...]]:
    """Cold-load RSS against GNU time's maximum resident set of the same subject command.

    GNU time sees the whole life of a process, so the Plan ends it soon after the first inference. Peaks are not reset
    at each stage, as that would reset what GNU time reads, too.
    """
    for name in ("mobilenet_v2.onnx", "mobilenet_v2.tflite"):
        plan = {
            "processes": 5,
            "duration_s": 0.005,
            "min_queries": 1,
            "warmup_queries": 0,
            "warmup_s": 0.0,
            "stage_peaks": False,
        }
        ours = farm.bench(MODELS / name, plan, home)["metrics"]["cold_load_rss_bytes"]["value"]
        theirs = statistics.median(timed_subject(MODELS / name, plan) for _ in range(5))
        progress(name)
        ratio = ours / theirs
        yield (
            f"cold-load RSS of {name}, ours / GNU time",
            f"{theirs / 1e6:.2f} MB",
            f"{ratio:.4f}",
            "–",
            "1 %",
            verdict([ratio], 0.01),
        )


def timed_subject(model: Path, plan: dict[str, Any]) -> float:
    """GNU time's figure, in bytes, of one subject started as the agent starts it."""
    artifact = domain.Artifact("0" * 64, model.name, model.name, ())
    block = wire.Block(
        index=0,
        arm="a",
        pair=-1,
        plan=intake.plan_from(plan, artifact=artifact),
        artifact=artifact.sha256,
        entry=model.name,
        files={model.name: artifact.sha256},
    )
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "c").mkdir()
        with zipfile.ZipFile(bundle.bundle()) as sources, zipfile.ZipFile(work / "a", "w") as compiled:
            launch.compile_into(sources, compiled)
        (work / "m").symlink_to(model.parent)
        job = {
            "block": wire.as_dict(block),
            "spawned_ns": time.monotonic_ns(),
            "cpus": [CPU],
            "limits": {},
            "backstop": {},
        }
        messages = os.open(work / "messages", os.O_CREAT | os.O_RDWR)
        words = ["/usr/bin/time", "-v", "-o", str(work / "time"), "sh", "-c", 'exec 3<>messages; exec "$@"', "sh"]
        words += [sys.executable, "-I", "./a", "subject"]
        done = subprocess.run(
            words, cwd=work, env=subject_environment(1), input=json.dumps(job).encode(), capture_output=True
        )
        os.close(messages)
        if done.returncode:
            raise SystemExit(f"subject of {model.name} failed: {(work / 'messages').read_text()} {done.stderr!r}")
        line = next(line for line in (work / "time").read_text().splitlines() if "Maximum resident" in line)
        return float(line.rpartition(":")[2]) * 1024


def repeated(farm: Farm, runs: int) -> Iterator[tuple[str, ...]]:
    """Peak RSS over runs with paths and environments of random length."""
    rng = random.Random(7)
    for name in ("mobilenet_v2.onnx", "mobilenet_v2.tflite"):
        seen = []
        for i in range(runs):
            with tempfile.TemporaryDirectory(prefix="x" * rng.randrange(1, 120)) as folder:
                model = Path(folder) / ("y" * rng.randrange(1, 100)) / name
                model.parent.mkdir()
                shutil.copy(MODELS / name, model)
                with environment("z" * rng.randrange(1, 4000)):
                    plan = {"processes": 1, "duration_s": 0.1, "min_queries": 10}
                    found = farm.bench(model, plan, Path(folder) / "home")
                seen.append(float(found["metrics"]["cold_load_rss_bytes"]["value"]))
            progress(f"{name}: run {i + 1} of {runs}")
        middle = statistics.median(seen)
        worst = max(abs(value / middle - 1) for value in seen)
        yield (
            f"cold-load RSS of {name}, {runs} runs, random paths and environments",
            f"{middle / 1e6:.2f} MB",
            f"{1 + worst:.4f}",
            f"{min(seen) / middle:.4f} to {max(seen) / middle:.4f}",
            "1 %",
            verdict([1 + worst], 0.01),
        )


def sampler(farm: Farm, rounds: int, seconds: float, home: Path) -> Iterator[tuple[str, ...]]:
    """P50 with the sampler on against off, in alternating order."""
    plan = {"processes": 1, "duration_s": seconds, "warmup_s": WARMUP_S, "min_queries": 20}
    for name in ("mobilenet_v2_small.onnx", "mobilenet_v2_small.tflite"):
        ratios = []
        with session(farm, name, home) as p50_ns:
            for i in range(rounds):
                found = {hz: p50_ns({**plan, "sensor_hz": hz}) for hz in ((10.0, 0) if i % 2 else (0, 10.0))}
                ratios.append(found[10.0] / found[0])
                progress(f"{name}: round {i + 1} of {rounds}")
        yield (
            f"P50 of {name}, sampler on / off",
            "–",
            f"{statistics.median(ratios):.4f}",
            "{:.4f} to {:.4f}".format(*interval(ratios)),
            "1 %",
            verdict(ratios, 0.01),
        )


def cost(farm: Farm, home: Path) -> Iterator[tuple[str, ...]]:
    """What the agent itself takes while it measures."""
    peaks = []

    def watch(event: execute.Event) -> None:
        if event.kind == "timed":
            peaks.append(supervisor_peak_bytes(home))

    plan = {"processes": 3, "duration_s": 15.0}
    found = farm.bench(MODELS / "mobilenet_v2_small.onnx", plan, home, watch)
    facts = [block.facts["sampler"] for block in results.blocks_of(farm.store, found["run"])]
    share = statistics.median(fact["cpu_ns"] / fact["window_ns"] for fact in facts)
    size = bundle.bundle().stat().st_size
    yield ("sampler, share of one core at 10 Hz", "–", f"{share:.2%}", "–", "0.5 %", "holds" if share < 0.005 else NOT)
    peak = max(peaks)
    yield ("supervisor, peak RSS", "–", f"{peak / 1e6:.2f} MB", "–", "12 MB", "holds" if peak < 12e6 else NOT)
    yield ("agent zip", "–", f"{size / 1e3:.0f} kB", "–", "150 kB", "holds" if size < 150e3 else NOT)


def supervisor_peak_bytes(home: Path) -> int:
    """VmHWM of the supervisor that works for that folder."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (folder / "cmdline").exists():
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if b"supervise" in words and str(home).encode() in words:
                lines = (folder / "status").read_text().splitlines()
                return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    raise SystemExit("no supervisor was found while it measured")


@contextmanager
def environment(value: str) -> Iterator[None]:
    os.environ["BENCHFARM_FIDELITY_FILLER"] = value
    try:
        yield
    finally:
        del os.environ["BENCHFARM_FIDELITY_FILLER"]


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """The order statistics that hold the true median ratio between them with 95 %."""
    low, high = summary.interval(np.array(ratios), 0.5)
    return (min(ratios) if low is None else low, max(ratios) if high is None else high)


def verdict(ratios: Sequence[float], allowed: float) -> str:
    """Whether the median ratio is within the allowed distance of 1; undecided where its interval reaches inside."""
    if abs(statistics.median(ratios) - 1) <= allowed:
        return "holds"
    low, high = interval(ratios)
    return "undecided" if low <= 1 + allowed and high >= 1 - allowed and len(ratios) > 1 else NOT


def progress(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=41, help="interleaved rounds of each P50 comparison")
    parser.add_argument("--seconds", type=float, default=0.4, help="timed seconds of each process")
    parser.add_argument("--only", nargs="*", default=NAMES, metavar="MODEL", help="models of the P50 comparison")
    parser.add_argument("--runs", type=int, default=10, help="runs with random paths and environments")
    given = parser.parse_args()
    rows: list[tuple[str, ...]] = [("what", "base", "median ratio", "its 95 % interval", "promised", "")]
    with tempfile.TemporaryDirectory() as folder:
        farm, home = Farm(Path(folder) / "data"), Path(folder) / "home"
        for part in (
            latency(farm, given.only, given.rounds, given.seconds, home),
            memory(farm, home),
            repeated(farm, given.runs),
            sampler(farm, given.rounds, given.seconds, home),
            cost(farm, home),
        ):
            rows += part
        farm.store.close()
    for i, row in enumerate(rows):
        print("| " + " | ".join(row) + " |")
        if i == 0:
            print("|" + "---|" * len(row))
    return 1 if any(row[-1] == NOT for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
