"""The pairs of a Run whose Job has a Gate: Blocks of its Arms in turn on one Board, until the Gate decides.

Every pair is stored before the next begins, so that whoever goes on after a crash goes on from there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
from farm_agent import wire

from farm import domain, findings, gate, pairs, rules
from farm.figures import scalars
from farm.measuring import Event, Measuring
from farm.stats import noise
from farm.store import evidence
from farm.store.evidence import Stored

GAP_S = 0.2  # between Blocks, the same for all
TIMED_S = 0.001  # a Block of a gate is as long as its queries take

COUNTED = (domain.Outcome.OK, domain.Outcome.NOISY, domain.Outcome.FAILED)


async def interleave(bench: Measuring, *, fingerprint: Callable[[], str]) -> gate.Decision | None:
    """Measure pairs until the Gate decides. None where a Block ended in what is no figure: the Run ends with it.

    fingerprint: of the Board with the candidate on it, once a Block of that was measured. What was measured under
    another one is left alone, and the evidence begins anew.
    """
    way = _Way(bench, await asyncio.to_thread(_begun, bench))
    if way.stored.is_final:
        bench.watch(Event("note", f"the same was decided before: {way.stored.verdict}"))
        await way.take_over()
        return _decision(way.stored)
    asked = gate.ask(way.evidence)
    while isinstance(asked, gate.Next):
        pair = await way.measure(asked)
        if pair is None:
            return None
        asked = await way.count(pair, fingerprint())
    await way.end(asked)
    return asked


class _Way:
    """The Evidence on its way to a Decision."""

    def __init__(self, bench: Measuring, stored: Stored) -> None:
        self.bench, self.stored = bench, stored
        self.evidence = pairs.evidence_from(stored.state)
        self.gate = self.evidence.setup.gate
        self._arms = {arm.letter: arm for arm in bench.job.arms}
        self._names = {letter: name for name, letter in self.evidence.setup.references.items()}
        self._names[self.evidence.setup.candidate] = "the candidate"
        _, self._fraction = _progress(self.evidence)

    async def measure(self, asked: gate.Next) -> pairs.Pair | None:
        """A Block of each Arm, in the order asked for. None where one ended in what is no figure."""
        began, taken = time.monotonic(), []
        for letter in asked.order:
            if letter == pairs.PROOF:
                proof = await self.bench.prove()
                works = proof.outcome in (domain.Outcome.OK, domain.Outcome.NOISY)
                text = " ".join(reason.text for reason in proof.reasons)
                taken.append(pairs.Taken(letter, "ok" if works else "failed", reason=text))
            else:
                arm = self._arms[letter]
                block = self.bench.block(arm, plan=self._plan(arm.plan), pair=asked.pair)
                text = f"pair {self.evidence.pairs + (not self.evidence.is_warming)}: measuring {self._names[letter]}"
                self.bench.watch(Event("stage", text, fraction=self._fraction))
                result = await self.bench.measure(block)
                if result.outcome not in COUNTED or any(reason.blame == "input" for reason in result.reasons):
                    return None
                taken.append(pairs.taken(result, self.gate, scalars(result)))
            await asyncio.sleep(GAP_S)
        return pairs.Pair(asked.pair, tuple(taken), time.monotonic() - began)

    async def count(self, pair: pairs.Pair, fingerprint: str) -> gate.Next | gate.Decision:
        """Store a pair and the Evidence with it; what comes now."""
        if self.stored.fingerprint not in (None, fingerprint):
            self.bench.watch(Event("note", "the board has changed since: the evidence begins anew"))
            self.evidence, pair = gate.start(self.evidence.setup), replace(pair, index=0)
            self.stored = replace(self.stored, id=domain.new_id(), created_at=datetime.now(UTC), queries=None)
        was_warm_up = self.evidence.is_warming
        self.evidence, asked = gate.step(self.evidence, pair)
        queries = self.stored.queries
        if queries is None and was_warm_up:
            queries = self._queries(pair)
        self.stored = replace(
            self.stored,
            fingerprint=fingerprint,
            queries=queries,
            state=self.evidence.as_json(),
            verdict=None,
            outcome=None,
            decided_at=None,
            reasons=(),
        )
        await self._save((pair.index, pair.as_json()))
        told, self._fraction = _progress(self.evidence)
        if any(block.state != "ok" for block in pair.blocks):
            told = "dropped: " + "; ".join(f"{one.state}: {one.reason}" for one in pair.blocks if one.state != "ok")
        what = "warm-up pair" if was_warm_up else f"pair {self.evidence.pairs}"
        self.bench.watch(Event("pair", f"{what}: {told}", fraction=self._fraction))
        return asked

    async def take_over(self) -> None:
        """Have this Job rest on what an earlier one of the same was decided by."""
        await self._save(None)

    async def end(self, decision: gate.Decision) -> None:
        """Store what was decided."""
        self.stored = replace(
            self.stored,
            state=self.evidence.as_json(),
            verdict=decision.verdict,
            outcome=decision.outcome,
            reasons=decision.reasons,
            decided_at=datetime.now(UTC),
        )
        await self._save(None)

    async def _save(self, pair: tuple[int, dict[str, object]] | None) -> None:
        now = datetime.now(UTC)
        await asyncio.to_thread(evidence.save, self.bench.store, self.stored, self.bench.run, now=now, pair=pair)

    def _plan(self, plan: wire.Plan) -> wire.Plan:
        """The Plan of one Block: as many queries as tell most, in one process."""
        queries = max(self.stored.queries or noise.DEFAULT_QUERIES, rules.least_queries(self.gate))
        seconds = max(TIMED_S, rules.least_block_s(self.gate))
        return wire.replace(plan, processes=1, min_queries=queries, duration_s=seconds)

    def _queries(self, pair: pairs.Pair) -> int:
        """How many queries a Block shall have, by what the warm-up pair showed."""
        candidate = self.evidence.setup.candidate
        blocks = self.bench.results[-len(self._arms) :]
        latency = next(
            (
                one.value
                for block in blocks
                if block.arm == candidate
                for one in block.samples
                if one.metric == "latency_ns"
            ),
            np.empty(0),
        )
        sigma0 = self.evidence.setup.sigma0.get("p50_latency_ns")
        if len(latency) == 0:
            return noise.queries(0.0, 0.0, None, None)
        middle = float(np.median(latency))
        within = 1.4826 * float(np.median(np.abs(latency - middle))) / middle
        between = None if sigma0 is None else sigma0 / noise.WIDER / 2**0.5
        start_s = max(0.0, pair.board_s / len(pair.blocks) - float(np.sum(latency)) / 1e9)
        return noise.queries(start_s, middle / 1e9, within, between)


def _begun(bench: Measuring) -> Stored:
    """The Evidence to go on with: this Job's, or what was measured before of the same; else none yet."""
    job, board = bench.job, bench.run.board
    if job.gate is None:
        raise ValueError(f"job {job.id} has no gate")
    asked, key = rules.gate_from(job.gate.gate), evidence.key_of(job)
    mine = evidence.get(bench.store, job.evidence_id) if job.evidence_id is not None else None
    if mine is not None and mine.board != board:
        mine = None
    if mine is None and not job.gate.is_fresh:
        mine = evidence.newest(bench.store, key, board)
    now = datetime.now(UTC)
    if mine is None:
        found = domain.new_id()
        setup = pairs.Setup(asked, job.arms[0].letter, dict(job.gate.letters), seed=int(domain.digest(found)[:12], 16))
        return Stored(found, key, board, gate.start(setup).as_json(), now)
    if mine.is_final:
        return mine
    before = pairs.evidence_from(mine.state)
    before = replace(before, setup=replace(before.setup, gate=asked))  # its budget and policies are this Job's
    going_on = gate.resume(before, is_new_attempt=mine.outcome is not None)
    return replace(mine, state=going_on.as_json(), verdict=None, outcome=None, reasons=(), decided_at=None)


def _decision(stored: Stored) -> gate.Decision:
    return gate.Decision(stored.verdict, stored.outcome or domain.Outcome.OK, stored.reasons)


def _progress(seen: pairs.Evidence) -> tuple[str, float]:
    """What the Evidence says now, in a few words, and how near it is to a Decision."""
    found = findings.findings(seen)
    if not found or not seen.kept:
        return "nothing counted yet", 0.0
    nearness = [1.0 if one.status != "open" else max(one.fail_ratio, one.pass_ratio) for one in found]
    failing = max(one.fail_ratio for one in found)
    told = [f"{one.metric} {100 * one.effect:+.2g} %" for one in found if one.effect is not None and one.reference]
    return ", ".join(told[:3]) or f"{seen.kept} kept", min(1.0, max(0.0, min(nearness), failing))
