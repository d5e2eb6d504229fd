"""VERB 3: the trip of one Run: reach the board, push, measure Block by Block, pull, save, release.

Whatever happens on the way - a cut cable, Ctrl-C, a lost lease, a full disk - the Run ends in exactly one Outcome, the
lease is released or lost, and the agent's end of file puts the board back as it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from farm_agent import wire

from farm import agent, boarding, bundle, domain, gate, validity
from farm.connections import Connections
from farm.errors import (
    BoardBusy,
    Cancelled,
    FarmBug,
    FarmError,
    InputError,
    LeaseLost,
    StoreError,
    TookTooLong,
)
from farm.interleave import interleave
from farm.keeper import Keeper
from farm.measuring import Event as Event
from farm.measuring import Measuring
from farm.measuring import Watch as Watch
from farm.store import leases, queue, results
from farm.store.db import Store
from farm.transport import Transport

BUSY_WAIT_S = 120.0  # for a board that someone else holds
BUSY_RETRY_S = 2.0
_MEASURED = (domain.Outcome.OK, domain.Outcome.NOISY)


async def run(
    run_id: str,
    token: int,
    *,
    worker: str,
    store: Store,
    connections: Connections,
    keeper: Keeper,
    watch: Watch,
) -> domain.Run | None:
    """Carry out one granted Run to its end and return it; the lease is released.

    None where another worker has taken it up, or its lease is over: nothing was done. Lab and artifact failures end in
    the Run's Outcome; a mistake in the input and our own bugs are raised after the Run was ended. A cancelled task ends
    the Run as CANCELLED and is passed on; a Job that a person cancels ends its Run so, and the Run is returned.
    """
    found = await asyncio.to_thread(queue.begin, store, run_id, token, worker=worker, now=datetime.now(UTC))
    if found is None:
        return None
    started, job, board, lease = found
    trip = _Trip(store, started, job, lease, board, connections, watch)
    loop = asyncio.get_running_loop()
    keeper.hold(
        lease,
        run_id,
        lost=lambda: loop.call_soon_threadsafe(trip.lose_lease),
        cancel=lambda: loop.call_soon_threadsafe(trip.cancel),
    )
    try:
        return await _ended(trip)
    finally:
        keeper.let_go(lease)
        with contextlib.suppress(LeaseLost, StoreError):  # lost already, or it expires by itself
            await asyncio.to_thread(leases.release, store, lease, now=datetime.now(UTC))


async def _ended(trip: _Trip) -> domain.Run:
    """The Run at its end, whatever that is."""
    try:
        ended = await trip.go()
    except asyncio.CancelledError:
        if trip.lease_lost:
            ended = await trip.end_without_lease("It could not be renewed while the Run was under way.")
        else:
            text = "A person cancelled it." if trip.is_cancelled else "Whoever carried it out was told to stop."
            ended = await trip.end(domain.Outcome.CANCELLED, (domain.Reason("cancelled", text),))
            if not trip.is_cancelled:
                raise
    except FarmError as error:
        if isinstance(error, LeaseLost):
            ended = await trip.end_without_lease(str(error))
        else:
            blame = "input" if isinstance(error, InputError) else error.blame
            reason = trip.cause or domain.Reason(_code(error), str(error), blame)
            ended = await trip.end(domain.Outcome(error.outcome), (reason,), blame=error.blame)
            if isinstance(error, InputError | FarmBug | Cancelled):
                raise
    except Exception as error:  # the Run is ended whatever happens; then the door tells of our bug
        text = f"benchfarm itself failed: {type(error).__name__}: {error}. Please report it."
        await trip.end(domain.Outcome.BROKEN, (domain.Reason("farm_bug", text, "farm"),), blame="farm")
        raise
    trip.watch(Event("end", f"{ended.outcome}"))
    return ended


class _Trip:
    """One Run on its way: what it has, and how it ends."""

    def __init__(
        self,
        store: Store,
        run: domain.Run,
        job: domain.Job,
        lease: domain.Lease,
        board: domain.Board,
        connections: Connections,
        watch: Watch,
    ) -> None:
        self.store, self.run, self.job, self.lease, self.board = store, run, job, lease, board
        self.connections, self.watch = connections, watch
        self.lease_lost = self.is_cancelled = self._is_ending = False
        self.bench: Measuring | None = None  # once the board is reached
        self.decision: gate.Decision | None = None  # of a Job with a Gate
        self.reasons: list[domain.Reason] = []
        self.cause: domain.Reason | None = None  # of an error that the board itself found
        self.context: dict[str, Any] = {"board": board.name, "commit": job.commit, "branch": job.branch}
        self.probe: Mapping[str, Any] = {}
        self._task = asyncio.current_task()

    def lose_lease(self) -> None:
        """Called on the loop when the lease could not be renewed: stop at once, write nothing more."""
        if self._is_ending:
            return
        self.lease_lost = True
        if self._task is not None:
            self._task.cancel()

    def cancel(self) -> None:
        """Called on the loop when a person wants the end of the Job."""
        if self._is_ending:
            return  # its outcome is on its way into the store
        self.is_cancelled = True
        if self._task is not None:
            self._task.cancel()

    async def go(self) -> domain.Run:
        """Reach, push, measure, and end."""
        self.watch(Event("connect", f"reaching board {self.board.name}"))
        limits = self.job.limits
        async with contextlib.AsyncExitStack() as stack:
            async with self._within("start", limits.start_s):
                transport, python = await stack.enter_async_context(self.connections.reach(self.board))
                zip_path = await boarding.push_agent(transport)
            bench = self.bench = Measuring(self.store, self.run, self.job, transport, self.watch)
            async with self._within("upload", limits.upload_s):
                await bench.push()
            terms = agent.Terms(
                farm=f"{await asyncio.to_thread(leases.farm_id, self.store)}/{self.board.name}",
                token=self.lease.token,
                ttl_s=self.lease.ttl_s,
                holder=self.lease.holder,
                python=python,
                subject_python=python,
                zip_path=zip_path,
                agent_hash=bundle.agent_hash(),
                root=self.board.root,
            )
            async with self._within("start", limits.start_s):
                worker = await stack.enter_async_context(self._agent(transport, terms))
            bench.use(worker)
            self.probe = worker.probe
            self.context |= {"transport": transport.name, "agent": terms.agent_hash}
            self.watch(Event("hello", f"agent {terms.agent_hash[:8]} is ready"))
            keep = asyncio.create_task(self._keep_agent(worker))
            try:
                async with self._within("run", limits.run_s or _longest_s(self.job)):
                    if self.job.gate is None:
                        self.reasons += await _measure_all(bench)
                    else:
                        self.decision = await interleave(bench, fingerprint=lambda: domain.digest(self._identity()))
            finally:
                keep.cancel()
                await asyncio.gather(keep, return_exceptions=True)
            await worker.anchor()
            await bench.touch()
            clock = validity.clock_reason(worker.anchors)
            self.context["clock_anchors"] = [list(anchor) for anchor in worker.anchors]
        if clock is not None and self.job.gate is None:  # a pair's durations are of the monotonic clock alone
            self.reasons.append(clock)
        return await self._conclude()

    @contextlib.asynccontextmanager
    async def _within(self, what: str, limit_s: float) -> AsyncIterator[None]:
        """A part of the trip, which may take so long."""
        limit = asyncio.timeout(limit_s)
        try:
            async with limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise TookTooLong(
                f"On board '{self.board.name}' the part '{what}' of run {self.run.id} took longer than {limit_s:g} s, "
                f"as long as it may. See `farm job logs {self.job.id}`; raise {what}_s of the job's limits if that is "
                "too short."
            ) from None

    @contextlib.asynccontextmanager
    async def _agent(self, transport: Transport, terms: agent.Terms) -> AsyncIterator[agent.Agent]:
        """The agent, once the board is free: another farm, or a person, may hold it for a while."""
        give_up = time.monotonic() + BUSY_WAIT_S
        async with contextlib.AsyncExitStack() as stack:
            while True:
                try:
                    worker = await stack.enter_async_context(agent.start(transport, self.board.name, terms))
                    break
                except BoardBusy as busy:
                    if time.monotonic() > give_up:
                        raise
                    self.watch(Event("wait", str(busy)))
                    await asyncio.sleep(BUSY_RETRY_S)
            yield worker

    async def _keep_agent(self, worker: agent.Agent) -> None:
        """Tell the agent that its lease lives on; the lease itself is renewed by `Renewal`."""
        while True:
            await asyncio.sleep(self.lease.ttl_s / 3)
            await worker.renew(self.lease.ttl_s)

    async def _conclude(self) -> domain.Run:
        if self.decision is not None:
            outcome = self.decision.outcome  # what a Verdict rests on is the Evidence's
            reasons = () if outcome is domain.Outcome.OK else self.decision.reasons
        else:
            outcome, reasons = validity.conclude(self._results(), self.reasons)
        if any(reason.blame == "input" for reason in reasons):
            self.cause = reasons[0]
            raise InputError(self.cause.text)
        blame = next((reason.blame for reason in reasons if reason.blame in ("board", "farm")), "board")
        return await self.end(outcome, reasons, blame=blame)

    def _results(self) -> list[domain.BlockResult]:
        return [] if self.bench is None else self.bench.results

    def _identity(self) -> dict[str, Any]:
        """The identity list of measurement.md: what must be equal for two Runs to be comparable. The candidate's."""
        arm = self.job.arms[0]
        is_good = (result for result in self._results() if result.arm == arm.letter and result.outcome in _MEASURED)
        facts = next((result.facts for result in is_good), {})
        return {
            "plan": domain.plan_hash(arm.plan),
            "measure_version": wire.MEASURE_VERSION,
            "board": self.probe.get("identity", {}),
            "runtime": facts.get("runtime", {}),
            "providers": facts.get("providers", {}).get("used"),
            "cache": facts.get("cache"),
        }

    async def end(
        self, outcome: domain.Outcome, reasons: tuple[domain.Reason, ...], *, blame: str | None = None
    ) -> domain.Run:
        """The Run as it ended, saved under its token."""
        self._is_ending = True
        identity = self._identity()
        ended = replace(
            self.run,
            ended_at=datetime.now(UTC),
            outcome=outcome,
            blame=blame if outcome is domain.Outcome.BROKEN else None,
            reasons=reasons,
            fingerprint=domain.digest(identity),
            identity=identity,
            context={**self.context, **_context(self.probe, self._results())},
        )
        await asyncio.to_thread(results.finish_run, self.store, ended, self.lease.token)
        return ended

    async def end_without_lease(self, why: str) -> domain.Run:
        """The Run as BROKEN where the store still knows our lease (the board refused it); else as the store has it."""
        reason = domain.Reason("lease_lost", why, "farm")
        try:
            return await self.end(domain.Outcome.BROKEN, (reason,), blame="farm")
        except LeaseLost:  # whoever expired the lease ends the Run, if we do not
            await asyncio.to_thread(results.abandon, self.store, self.run.id, reason, datetime.now(UTC))
            return await asyncio.to_thread(results.get_run, self.store, self.run.id)


async def _measure_all(bench: Measuring) -> list[domain.Reason]:
    """The Blocks of a plain Run; one that FAILED is tried once more, where the board works. Reasons of the Run."""
    arm = bench.job.arms[0]
    failures = 0
    while len(bench.results) < arm.plan.processes + failures:
        result = await bench.measure(bench.block(arm), (len(bench.results) - failures, arm.plan.processes))
        if result.outcome in (domain.Outcome.OK, domain.Outcome.NOISY):
            continue
        if result.outcome is not domain.Outcome.FAILED or any(r.blame == "input" for r in result.reasons):
            return []
        failures += 1
        if failures == 2:
            return []
        proof = await bench.prove()
        if proof.outcome is not domain.Outcome.OK:
            text = " ".join(reason.text for reason in proof.reasons)
            board = bench.run.board
            return [domain.Reason("reference_failed", f"Board '{board}' failed its own model too: {text}", "board")]
        bench.watch(Event("retry", "the artifact failed; the reference model works: trying once more"))
    return []


def _longest_s(job: domain.Job) -> float:
    """As long as a Job's Blocks can take at most: each to its own limit, two that fail, and the pulls."""
    plans = [arm.plan for arm in job.arms]
    if job.gate is not None:
        return float(60.0 + 2 * job.gate.gate["budget_s"] + sum(wire.limits_from(plan.limits).run_s for plan in plans))
    return 60.0 + sum((plan.processes + 2) * (30.0 + wire.limits_from(plan.limits).run_s) for plan in plans)


def _context(probe: Mapping[str, Any], blocks: list[domain.BlockResult]) -> dict[str, Any]:
    first = next((result.facts for result in blocks if result.facts), {})
    return {"probe": probe.get("context", {}), "virtual": bool(probe.get("is_virtual")), "facts": dict(first)}


def _code(error: FarmError) -> str:
    """`BoardUnreachable` as `board_unreachable`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower()
