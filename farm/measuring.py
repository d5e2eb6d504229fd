"""A Board with our agent at work for one Run: the Artifacts pushed, Block after Block measured, certified and saved."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from farm_agent import wire

from farm import agent, boarding, bundle, domain, validity
from farm.errors import NotFound, StoreError
from farm.home import evict
from farm.store import results
from farm.store.db import Store
from farm.transport import Transport

REFERENCE = b'{"latency_us": 50}'  # the reference model of a board without one of its own: the runtime `fake`
PUSH_RESERVE_BYTES = 64 << 20  # left free on a board's disk, whatever is pushed


@dataclass(frozen=True, slots=True)
class Event:
    """Something a person who waits may want to see."""

    kind: str  # connect, push, wait, hello, stage, timed, alive, note, block, pair, retry, end
    text: str
    block: int | None = None  # 1-based
    blocks: int | None = None
    fraction: float | None = None


Watch = Callable[[Event], None]


class Measuring:
    """What a Run measures with, and what it has measured so far."""

    def __init__(self, store: Store, run: domain.Run, job: domain.Job, transport: Transport, watch: Watch) -> None:
        self.store, self.run, self.job, self.watch = store, run, job, watch
        self._transport = transport
        self._agent: agent.Agent | None = None
        self.results: list[domain.BlockResult] = []
        self.reasons: list[domain.Reason] = []

    def use(self, worker: agent.Agent) -> None:
        """From now on this agent measures."""
        self._agent = worker

    async def push(self) -> None:
        """Put on the board what the Arms need and it lacks."""
        wanted = self._wanted()
        with _farms_own():
            sizes = await asyncio.to_thread(self._sizes, wanted)
        missing = [path for path in wanted if not await self._transport.has(path, sizes[path])]
        if missing:
            keep = {path.split("/")[1] for path in wanted} | {f"{bundle.agent_hash()}.zip"}
            needed_bytes = sum(sizes[path] for path in missing) + PUSH_RESERVE_BYTES
            for gone in await evict(self._transport, keep, needed_bytes):
                self.watch(Event("push", f"removed {gone} from the board to make room"))
        for path in missing:
            with _farms_own():
                source = await asyncio.to_thread(self.store.blobs.local, wanted[path])
            await self._transport.push(source, path, sha256=wanted[path], progress=self._pushed)

    async def touch(self) -> None:
        """What was used just now leaves the board last. Asked after the measuring, which would have to wait for it."""
        for name in {path.split("/")[1] for path in self._wanted()}:
            await self._transport.touch(f"artifacts/{name}")

    def block(self, arm: domain.Arm, *, plan: wire.Plan | None = None, pair: int = -1) -> wire.Block:
        """The next Block of the Run: of this Arm, by its Plan or this one."""
        return wire.Block(
            index=len(self.results),
            arm=arm.letter,
            pair=pair,
            plan=plan or arm.plan,
            artifact=arm.artifact.sha256,
            entry=arm.artifact.entry,
            files={file.path: file.sha256 for file in arm.artifact.files},
            feed_file=arm.plan.feed,
        )

    async def measure(self, block: wire.Block, place: tuple[int, int] | None = None) -> domain.BlockResult:
        """Measure a Block, certify and save it.

        place: which one it is (from 0) of how many that count; without one its stages are not told of.
        """

        def watch(event: dict[str, Any]) -> None:
            kind = "timed" if event.get("stage") == "timed" else str(event["event"])
            if place is not None:
                self._tell(kind, str(event.get("stage") or event.get("text") or ""), place, 0)
            elif kind == "note":
                self.watch(Event(kind, str(event.get("text") or "")))

        worker = self._at_work()
        result = await worker.measure(block, watch=watch)
        if any(reason.code == "cache_corrupt" for reason in result.reasons):
            self.watch(Event("retry", "a cached file on the board was changed: pushing it again"))
            await self._transport.remove(f"artifacts/{block.artifact}")
            await self.push()
            result = await worker.measure(block, watch=watch)
        if result.outcome is domain.Outcome.OK:
            noisy = validity.block_reasons(result, block.plan)
            if noisy:
                result = replace(result, outcome=domain.Outcome.NOISY, reasons=noisy)
        if place is not None:
            text = str(result.outcome) + "".join(f"; {reason.text}" for reason in result.reasons)
            self._tell("block", text, place, 1)
        self.results.append(result)
        await asyncio.to_thread(results.save_block, self.store, self.run.id, self.run.token, result)
        return result

    async def prove(self) -> domain.BlockResult:
        """Measure the board's reference model: whether it works at all, after an artifact failed."""
        sha256 = await asyncio.to_thread(self.store.blobs.put_bytes, REFERENCE)
        source = await asyncio.to_thread(self.store.blobs.local, sha256)
        await boarding.push_file(self._transport, source, f"artifacts/{sha256}/reference.fake", sha256)
        block = wire.Block(
            index=0,
            arm="reference",
            pair=-1,
            plan=wire.Plan(runtime="fake", duration_s=0.1, min_queries=1, processes=1, warmup_s=0.0),
            artifact=sha256,
            entry="reference.fake",
            files={"reference.fake": sha256},
        )
        return await self._at_work().measure(block, watch=lambda event: None)

    def _tell(self, kind: str, text: str, place: tuple[int, int], done: int) -> None:
        index, blocks = place
        self.watch(Event(kind, text, index + 1, blocks, (index + done) / blocks))

    def _at_work(self) -> agent.Agent:
        assert self._agent is not None, "no agent was started"
        return self._agent

    def _wanted(self) -> dict[str, str]:
        """The files that the Arms need on the board: their places there, and what is to be there."""
        wanted: dict[str, str] = {}
        for arm in self.job.arms:
            wanted |= {f"artifacts/{arm.artifact.sha256}/{file.path}": file.sha256 for file in arm.artifact.files}
            if arm.plan.feed:
                wanted[f"artifacts/{arm.plan.feed}"] = arm.plan.feed.split("/")[0]
        return wanted

    def _sizes(self, wanted: Mapping[str, str]) -> dict[str, int]:
        return {path: self.store.blobs.size_bytes(sha256) for path, sha256 in wanted.items()}

    def _pushed(self, done: int, total: int) -> None:
        self.watch(Event("push", "artifact", fraction=done / total if total else 1.0))


@contextlib.contextmanager
def _farms_own() -> Iterator[None]:
    """What is looked for here the farm had accepted: where it is gone, that is no doing of a model or a user."""
    try:
        yield
    except NotFound as error:
        raise StoreError(str(error)) from None
