"""Whatever happens in whatever order, on whatever clock: what is always true of Jobs, Runs and Leases."""

from __future__ import annotations

import shutil
import tempfile
from collections import defaultdict
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select

from farm import settle
from farm.domain import Health, JobState, Outcome, Run, Selector
from farm.errors import Conflict, LeaseLost
from farm.store import boards, db, jobs, leases, queue, results
from farm.store.tables import JobRow, LeaseRow, RunRow
from tests.farm.rounds import Clock, Post, dispatcher, worker
from tests.farm.store.moves import after, good_board, queued

NAMES = ("pi-0", "pi-1", "virtual-0", "virtual-1")
TERMINAL = (JobState.DONE, JobState.CANCELLED, JobState.REFUSED)
picks = st.integers(0, 999)


class Farm(RuleBasedStateMachine):
    """Two dispatchers, any number of workers that die, messages that are lost or come twice, clocks that jump."""

    def __init__(self, empty: Path, folder: Path) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=folder))
        shutil.copy(empty, self.folder / "farm.db")
        self.store = db.open_store(f"sqlite:///{self.folder}/farm.db", self.folder / "blobs", upgrade=False)
        self.wall_s = 0.0
        self.post, self.clock = Post(), Clock()
        self.both = [dispatcher(self.store, self.post, self.clock, seed=seed) for seed in (1, 2)]
        self.under_way: list[Run] = []  # taken up by a worker that may live or not
        self.ended: dict[str, object] = {}
        self.tokens: dict[str, int] = defaultdict(int)

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)

    @initialize()
    def boards(self) -> None:
        for name in NAMES:
            good_board(self.store, name, is_virtual=name.startswith("virtual"))
        for wanted in (None, None, "pi-1", "virtual-0", "virtual-1"):
            self.submit(wanted, "a")

    # --- what may happen

    @rule(name=st.sampled_from([None, *NAMES]), project=st.sampled_from(["a", "b"]))
    def submit(self, name: str | None, project: str) -> None:
        is_virtual = name is not None and name.startswith("virtual")
        queued(self.store, project=project, selector=Selector(name=name, virtual=is_virtual), submitted_at=self._now())

    @rule(outcome=st.sampled_from([None, None, *Outcome]), is_settled=st.booleans())
    def go_on_as_one_should(self, outcome: Outcome | None, is_settled: bool) -> None:
        """A round, whose messages arrive; and what is under way ends, as it may."""
        before = len(self.post.runs)
        self.dispatch(0, 6.0)
        for place in range(len(self.post.runs) - before):
            self.deliver_a_message_again_or_late_or_now(place)
        while outcome is not None and self.under_way:
            self.end(0, outcome, is_settled)

    @rule(who=st.integers(0, 1), later_s=st.sampled_from([0.0, 1.0, 11.0, 31.0]))
    def dispatch(self, who: int, later_s: float) -> None:
        self.clock.go_on(later_s)
        self.wall_s += later_s
        worker(self.store, now=self._now())
        self.both[who].once(self._now())

    @rule(step_s=st.sampled_from([-86_400.0, -61.0, 61.0, 86_000.0]))
    def step_the_wall_clock(self, step_s: float) -> None:
        self.wall_s += step_s

    @precondition(lambda self: self.post.runs)
    @rule(pick=picks)
    def deliver_a_message_again_or_late_or_now(self, pick: int) -> None:
        run_id, token, _ = self.post.runs[-1 - pick % len(self.post.runs)]
        if queue.begin(self.store, run_id, token, worker="w", now=self._now()):
            self.under_way.append(results.get_run(self.store, run_id))

    @precondition(lambda self: self.under_way)
    @rule(pick=picks)
    def renew(self, pick: int) -> None:
        run = self.under_way[pick % len(self.under_way)]
        held = leases.current(self.store, run.board)
        if held is not None and held.token == run.token:
            leases.renew(self.store, held, now=self._now())

    @precondition(lambda self: self.under_way)
    @rule(pick=picks, outcome=st.sampled_from(Outcome), is_settled=st.booleans())
    def end(self, pick: int, outcome: Outcome, is_settled: bool) -> None:
        run = self.under_way.pop(pick % len(self.under_way))
        blame = "board" if outcome is Outcome.BROKEN else None
        over = replace(run, outcome=outcome, ended_at=self._now(), blame=blame)
        try:
            results.finish_run(self.store, over, run.token)
            held = leases.current(self.store, run.board)
            assert held is not None
            assert held.token == run.token
            leases.release(self.store, held, now=self._now())
        except LeaseLost:
            return
        if is_settled:
            self._settle(run.job_id)

    @precondition(lambda self: self.post.judged)
    @rule(pick=picks)
    def judge(self, pick: int) -> None:
        run_id, _ = self.post.judged[pick % len(self.post.judged)]
        self._settle(results.get_run(self.store, run_id).job_id)

    @rule(pick=picks)
    def settle_any_job_again(self, pick: int) -> None:
        found = jobs.list_jobs(self.store)
        if found:
            self._settle(found[pick % len(found)].id)

    @rule(pick=picks)
    def cancel(self, pick: int) -> None:
        found = jobs.list_jobs(self.store)
        if found and pick % 4 == 0:
            job = found[pick % len(found)]
            try:
                queue.cancel(self.store, job.id, by="ann", now=self._now())
            except Conflict:
                assert job.state in TERMINAL

    @rule(name=st.sampled_from(NAMES))
    def look_at_a_board(self, name: str) -> None:
        """A check that somebody carries out; a quarantined Board is made good by a person."""
        held = leases.current(self.store, name)
        if held is not None and held.is_check:
            boards.checked(self.store, name, held.token, facts={}, note="", next_check_at=None, now=self._now())
            leases.release(self.store, held, now=self._now())
        elif boards.status(self.store, name).health is Health.QUARANTINED:
            boards.set_health(self.store, name, Health.GOOD, note="", by="ann", now=self._now())

    def _settle(self, job_id: str) -> None:
        settle.settle(job_id, store=self.store, cool_down_s=60.0, now=self._now())

    def _now(self) -> datetime:
        return after(self.wall_s)

    # --- what is always true

    @invariant()
    def a_board_and_a_host_have_at_most_one_lease_and_tokens_only_rise(self) -> None:
        with self.store.read() as session:
            rows = session.scalars(select(LeaseRow).order_by(LeaseRow.token)).all()
        held = [row for row in rows if row.released_at is None]
        assert len({row.board for row in held}) == len(held)
        assert len([row for row in held if row.host is not None]) <= 1
        newest = {row.board: row.token for row in rows}
        assert all(newest.get(name, 0) >= token for name, token in self.tokens.items())
        self.tokens.update(newest)

    @invariant()
    def every_run_has_its_own_lease(self) -> None:
        with self.store.read() as session:
            runs = session.execute(select(RunRow.board, RunRow.token)).all()
            owned = session.execute(select(LeaseRow.board, LeaseRow.token)).all()
        assert len(set(runs)) == len(runs)
        assert set(runs) <= set(owned)

    @invariant()
    def a_running_job_has_one_run_that_is_not_settled_and_any_other_has_none(self) -> None:
        with self.store.read() as session:
            states = {row.id: row.state for row in session.execute(select(JobRow.id, JobRow.state))}
            runs = session.scalars(select(RunRow).order_by(RunRow.id)).all()
        unfinished = defaultdict(list)
        newest = {}
        for run in runs:
            newest[run.job_id] = run
            if run.outcome is None:
                unfinished[run.job_id].append(run)
        for job_id, state in states.items():
            if state == JobState.RUNNING:
                assert job_id in newest
                assert unfinished[job_id] in ([], [newest[job_id]])
            else:
                assert unfinished[job_id] == []

    @invariant()
    def a_job_that_has_ended_never_changes(self) -> None:
        for job in jobs.list_jobs(self.store, limit=1000):
            if job.id in self.ended:
                assert job == self.ended[job.id]
            if job.state in TERMINAL:
                self.ended[job.id] = job


def test_whatever_happens_in_whatever_order_the_laws_of_the_farm_hold(tmp_path: Path) -> None:
    empty = tmp_path / "empty.db"
    db.upgrade(f"sqlite:///{empty}")
    few = settings(max_examples=8, stateful_step_count=30, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(lambda: Farm(empty, tmp_path), settings=few)  # type: ignore[arg-type]
