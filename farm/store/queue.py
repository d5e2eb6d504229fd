"""The queue: Jobs that wait for a Board, and how they move on. Each move is one transaction, and is made only once.

queued --grant--> running --begin--> its Run is under way --settle--> queued again, or done, or cancelled

Rows are locked in one order: Board, Run, Job, Lease, Project. What PostgreSQL ends as a deadlock all the same is a
StoreError: nothing of it is written, and a dispatcher's next round does it again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from farm_agent import wire
from sqlalchemy import Text, and_, cast, extract, func, literal_column, or_, select
from sqlalchemy.orm import Session, aliased

from farm.domain import (
    Board,
    Demand,
    Health,
    Job,
    JobState,
    Lease,
    Notice,
    Outcome,
    Reason,
    Run,
    Selector,
    TimeLimits,
    Verdict,
    new_id,
)
from farm.errors import BoardBusy, Conflict, FarmBug
from farm.store import audit, baselines, boards, events, jobs, leases, notices, results
from farm.store.db import Store
from farm.store.tables import BoardRow, EvidenceRow, JobRow, LeaseRow, ModelRow, ProjectRow, RunRow, SummaryRow

TERMINAL = (JobState.DONE, JobState.CANCELLED, JobState.REFUSED)
PATIENCE_S = 600.0  # for the Board that holds a baseline
_IS_QUEUED = JobRow.state == literal_column("'queued'")  # as the partial indexes have it: they do not know a parameter
_IS_RUNNING = JobRow.state == literal_column("'running'")
CLOCKS_APART_S = 60.0  # a Job that was queued later than that has seen another clock, or ours was stepped back


Asked = tuple[Selector, frozenset[str]]
"""What Jobs ask of a Board: a Selector and runtimes."""


def asked(store: Store, known: Mapping[str, Asked]) -> dict[str, Asked]:
    """All that the queued Jobs ask, by the hash that they have of it; what is known is not read again."""
    # From one demand in the index to the next: to look at every job takes 50 times as long.
    first = select(func.min(JobRow.demand).label("demand")).where(_IS_QUEUED).cte("found", recursive=True)
    following = select(func.min(JobRow.demand)).where(_IS_QUEUED, JobRow.demand > first.c.demand).scalar_subquery()
    each = first.union_all(select(following).where(first.c.demand.is_not(None)))
    with store.read() as session:
        found = set(session.scalars(select(each.c.demand).where(each.c.demand.is_not(None))))
        fresh = select(func.min(JobRow.id)).where(_IS_QUEUED, JobRow.demand.in_(found - known.keys()))
        rows = select(JobRow.demand, JobRow.selector, JobRow.runtimes).where(
            JobRow.id.in_(fresh.group_by(JobRow.demand))
        )
        read = {} if found <= known.keys() else {
            row.demand: (selector_of(row.selector), frozenset(row.runtimes)) for row in session.execute(rows)
        }  # fmt: skip
    everything = {**known, **read}
    return {name: everything[name] for name in found if name in everything}


def waiting(store: Store, now: datetime, *, of_each: int, demands: Collection[str] | None = None) -> list[Demand]:
    """Jobs that could start now; of those that the same Boards can serve, the first `of_each` of each Project.

    `demands`: only those that ask this; see `asked`.
    """
    alike = (JobRow.demand, JobRow.project_id, JobRow.affinity, cast(JobRow.avoid, Text))
    place = func.row_number().over(
        partition_by=alike, order_by=(JobRow.priority.desc(), JobRow.submitted_at, JobRow.id)
    )
    is_due = or_(
        JobRow.not_before.is_(None),
        JobRow.not_before <= now,
        JobRow.queued_at > now + timedelta(seconds=CLOCKS_APART_S),
    )
    wanted = [_IS_QUEUED, is_due]
    if demands is not None:
        wanted.append(JobRow.demand.in_(demands))
    first = select(JobRow.id, place.label("place")).where(*wanted).subquery()
    query = (
        select(
            JobRow.id, ProjectRow.name, JobRow.selector, JobRow.runtimes, JobRow.priority, JobRow.submitted_at,
            JobRow.avoid, JobRow.affinity, JobRow.queued_at, JobRow.expected_s,
        )
        .join(first, first.c.id == JobRow.id)
        .join(ProjectRow, ProjectRow.id == JobRow.project_id)
        .where(first.c.place <= of_each)
    )  # fmt: skip
    with store.read() as session:
        return [
            Demand(
                job_id=row.id,
                project=row.name,
                selector=selector_of(row.selector),
                runtimes=frozenset(row.runtimes),
                priority=row.priority,
                submitted_at=row.submitted_at,
                avoid=frozenset(row.avoid),
                affinity=row.affinity,
                patient_until=row.queued_at + timedelta(seconds=PATIENCE_S) if row.affinity else None,
                expected_s=row.expected_s,
            )
            for row in session.execute(query)
        ]


def usage(store: Store, now: datetime) -> dict[str, float]:
    """Board-seconds that each Project has used lately, those of the Leases that it holds now included."""
    held = (
        select(JobRow.project_id, func.count(), func.sum(extract("epoch", LeaseRow.granted_at)))
        .join(RunRow, RunRow.job_id == JobRow.id)
        .join(LeaseRow, and_(LeaseRow.board == RunRow.board, LeaseRow.token == RunRow.token))
        .where(LeaseRow.released_at.is_(None))
        .group_by(JobRow.project_id)
    )
    with store.read() as session:
        rows = session.execute(select(ProjectRow.id, ProjectRow.name, ProjectRow.usage_s, ProjectRow.usage_at)).all()
        used = {row.id: leases.usage_s(row.usage_s, row.usage_at, now) for row in rows}
        for project_id, n, granted_s in session.execute(held):
            used[project_id] += max(0.0, n * now.timestamp() - float(granted_s))
        return {row.name: used[row.id] for row in rows}


def grant(
    store: Store,
    job_id: str,
    board: str,
    *,
    holder: str,
    ttl_s: float,
    now: datetime,
    host: str | None,
    healths: Collection[Health] | None = (Health.GOOD,),
) -> Run:
    """A Run of a queued Job on a Board under a fresh Lease. Raises BoardBusy where another one was quicker.

    For `healths` see `leases.grant`.
    """
    with store.write() as session:
        lease = leases.grant_within(session, board, holder=holder, ttl_s=ttl_s, now=now, host=host, healths=healths)
        is_queued = (JobRow.id == job_id, JobRow.state == JobState.QUEUED)
        job = session.scalars(select(JobRow).where(*is_queued).with_for_update()).one_or_none()
        if job is None:
            raise BoardBusy(f"Job {job_id} is not queued any more. Nothing was granted.")
        job.state, job.not_before = JobState.RUNNING, None
        job.waited_s += _waited_s(job, now)
        run = Run(new_id(after=_newest(session, job_id) or ""), job_id, board, lease.token, started_at=now)
        values = {"id": run.id, "job_id": job_id, "board": board, "token": lease.token, "started_at": now}
        session.add(RunRow(**values, reasons=[], identity={}, context={}))
        session.flush()
        data = {"board": board, "waited_s": job.waited_s}
        events.add(session, job_id, kind="granted", at=now, run_id=run.id, data=data)
        return run


def begin(store: Store, run_id: str, token: int, *, worker: str, now: datetime) -> tuple[Run, Job, Board, Lease] | None:
    """A worker takes a granted Run up: all that it needs to carry it out.

    None where the Run was taken up before, or its Lease is over: then do nothing.
    """
    with store.write() as session:
        fresh = (RunRow.id == run_id, RunRow.token == token, RunRow.begun_at.is_(None), RunRow.outcome.is_(None))
        run = session.scalars(select(RunRow).where(*fresh).with_for_update()).one_or_none()
        if run is None:
            return None
        job = jobs.row_of(session, run.job_id, lock=True)
        same = (LeaseRow.board == run.board, LeaseRow.token == token, LeaseRow.released_at.is_(None))
        lease = session.scalars(select(LeaseRow).where(*same).with_for_update()).one_or_none()
        if lease is None:
            return None
        lease.holder, lease.renewed_at, lease.renewals = worker, now, lease.renewals + 1
        run.begun_at, run.worker = now, worker
        events.add(session, job.id, kind="begun", at=now, run_id=run_id, data={"worker": worker})
        board = session.get_one(BoardRow, run.board)
        return results.from_row(run), jobs.from_row(session, job), boards.from_row(board), leases.from_row(lease)


def withdraw(store: Store, lease: Lease, *, why: str, now: datetime) -> bool:
    """Take back a Run that nobody took up: its Job is queued again, where it was, and nobody is blamed.

    False where a worker has begun it meanwhile, or the Lease is renewed or over.
    """
    with store.write() as session:
        run = session.scalars(
            select(RunRow).where(RunRow.board == lease.board, RunRow.token == lease.token).with_for_update()
        ).one_or_none()
        if run is None or run.begun_at is not None:
            return False
        job = session.get_one(JobRow, run.job_id, with_for_update=True)
        row = session.scalars(_unrenewed(lease).with_for_update()).one_or_none()
        if row is None:
            return False
        started_at = run.started_at
        session.delete(run)
        session.flush()  # so that nobody is charged for the time either
        leases.end_within(session, row, now)
        if job.state != JobState.RUNNING:
            return True
        job.waited_s = max(0.0, job.waited_s - _waited_s(job, started_at))  # it goes on waiting since it was queued
        if job.cancel_at is not None:
            _cancelled(session, job, (Reason("cancelled", "A person cancelled it before a worker took it up."),), now)
            return True
        job.state = JobState.QUEUED
        events.add(session, job.id, kind="requeued", at=now, data={"why": why})
        return True


def unsettled(store: Store) -> list[Run]:
    """Runs that have ended, of Jobs that do not know it yet: who ended them died before it could tell."""
    newer = aliased(RunRow)
    is_newest = ~select(newer.id).where(newer.job_id == RunRow.job_id, newer.id > RunRow.id).exists()
    query = (
        select(RunRow)
        .join(JobRow, JobRow.id == RunRow.job_id)
        .where(_IS_RUNNING, RunRow.outcome.is_not(None), is_newest)
    )
    with store.read() as session:
        return [results.from_row(row) for row in session.scalars(query)]


def requeue(
    store: Store, run: Run, *, not_before: datetime, avoid: Sequence[str], why: Sequence[Reason], now: datetime
) -> bool:
    """Put a Job back after a Run that does not count. False where it has moved on already.

    A Job that a person has asked to end ends instead.
    """
    with store.write() as session:
        job = _running(session, run)
        if job is None:
            return False
        _tell_on_board(session, run, now)
        if job.cancel_at is not None:
            _cancelled(session, job, why, now)
            return True
        job.state, job.queued_at, job.not_before = JobState.QUEUED, now, not_before
        job.avoid = sorted({*job.avoid, *avoid})
        job.give_up_at = now + timedelta(seconds=max(0.0, TimeLimits(**job.limits).queue_s - job.waited_s))
        data = {"not_before": not_before.isoformat(), "reasons": [wire.as_dict(reason) for reason in why]}
        events.add(session, job.id, kind="requeued", at=now, run_id=run.id, data=data)
        return True


def finish(store: Store, run: Run, *, verdict: Verdict | None, reasons: Sequence[Reason], now: datetime) -> bool:
    """A Job ends with what its last Run ended in. False where it has ended already."""
    if run.outcome is None:
        raise FarmBug(f"Job {run.job_id} cannot end: run {run.id} has no outcome. Please report this.")
    with store.write() as session:
        job = _running(session, run)
        if job is None:
            return False
        _tell_on_board(session, run, now)
        state = JobState.CANCELLED if run.outcome is Outcome.CANCELLED else JobState.DONE
        _end(session, job, state, now=now, outcome=run.outcome, verdict=verdict, reasons=reasons, run_id=run.id)
        return True


def answer(
    store: Store,
    job_id: str,
    *,
    outcome: Outcome,
    verdict: Verdict,
    reasons: Sequence[Reason],
    evidence_id: str,
    now: datetime,
) -> bool:
    """A queued Job ends with what the same Arms, under the same Gate, were found to be before. False where it runs."""
    with store.write() as session:
        job = jobs.row_of(session, job_id, lock=True)
        if job.state != JobState.QUEUED:
            return False
        job.evidence_id = evidence_id
        _end(session, job, JobState.DONE, now=now, outcome=outcome, verdict=verdict, reasons=reasons)
        return True


def give_up(store: Store, now: datetime) -> list[str]:
    """End the Jobs that have been in the queue for too long; their ids."""
    late = select(JobRow).where(_IS_QUEUED, JobRow.give_up_at < now)
    with store.read() as session:
        if session.scalars(late.limit(1)).one_or_none() is None:
            return []
    with store.write() as session:
        rows = list(session.scalars(late.with_for_update(skip_locked=True)))
        for job in rows:
            text = (
                f"The job was in the queue for {TimeLimits(**job.limits).queue_s:g} s, as long as it may be, and no "
                "board became free for it. See `farm boards`; submit it again with a larger --queue-limit-s."
            )
            reason = Reason("queue_timeout", text, "farm")
            _end(session, job, JobState.DONE, now=now, outcome=Outcome.BROKEN, verdict=None, reasons=(reason,))
        return [job.id for job in rows]


def cancel(store: Store, job_id: str, *, by: str, now: datetime) -> Job:
    """Ask for a Job's end: at once where it is queued; a worker hears of it otherwise. Raises NotFound, Conflict."""
    with store.write() as session:
        job = jobs.row_of(session, job_id, lock=True)
        if job.state in TERMINAL:
            raise Conflict(f"Job {job_id} cannot be cancelled: it is {job.state} already. Nothing was changed.")
        if job.cancel_at is None:
            job.cancel_at = now
            project = session.scalars(select(ProjectRow.name).where(ProjectRow.id == job.project_id)).one()
            audit.add(session, actor=by, action="job.cancel", subject=job_id, project=project, at=now)
            events.add(session, job_id, kind="cancel", at=now, data={"by": by})
            if job.state == JobState.QUEUED:
                reason = Reason("cancelled", f"{by} cancelled it while it was queued.")
                _end(
                    session,
                    job,
                    JobState.CANCELLED,
                    now=now,
                    outcome=Outcome.CANCELLED,
                    verdict=None,
                    reasons=(reason,),
                )
    return jobs.get_job(store, job_id)


def asked_to_end(store: Store, run_ids: Sequence[str]) -> set[str]:
    """Which of these Runs belong to Jobs that a person wants to end."""
    if not run_ids:
        return set()
    query = select(RunRow.id).join(JobRow, JobRow.id == RunRow.job_id)
    with store.read() as session:
        return set(session.scalars(query.where(RunRow.id.in_(run_ids), JobRow.cancel_at.is_not(None))))


def counts(store: Store) -> dict[str, int]:
    """How many Jobs are in each state."""
    with store.read() as session:
        query = select(JobRow.state, func.count()).group_by(JobRow.state)
        found = {row[0]: row[1] for row in session.execute(query)}
    return {state: found.get(state, 0) for state in JobState}


def ahead(store: Store, job_id: str) -> list[tuple[Selector, frozenset[str], int, float]]:
    """The queued Jobs that go before this one by priority and age, those that ask the same of a Board together.

    (what they ask, the runtimes that they need, how many they are, for how long they will use a Board)
    """
    with store.read() as session:
        job = jobs.row_of(session, job_id)
        before = or_(
            JobRow.priority > job.priority,
            and_(JobRow.priority == job.priority, JobRow.submitted_at < job.submitted_at),
            and_(JobRow.priority == job.priority, JobRow.submitted_at == job.submitted_at, JobRow.id < job.id),
        )
        alike = (
            select(
                func.min(JobRow.id).label("id"), func.count().label("n"), func.sum(JobRow.expected_s).label("work_s")
            )
            .where(JobRow.state == JobState.QUEUED, before)
            .group_by(JobRow.demand)
            .subquery()
        )
        query = select(JobRow.selector, JobRow.runtimes, alike.c.n, alike.c.work_s).join(alike, alike.c.id == JobRow.id)
        return [
            (selector_of(stored), frozenset(runtimes), n, work_s)
            for stored, runtimes, n, work_s in session.execute(query)
        ]


def left_s(store: Store, now: datetime) -> dict[str, float]:
    """For how long each Board that is measuring will still be used, as the Plans say."""
    query = (
        select(LeaseRow.board, LeaseRow.granted_at, JobRow.expected_s)
        .join(RunRow, and_(RunRow.board == LeaseRow.board, RunRow.token == LeaseRow.token))
        .join(JobRow, JobRow.id == RunRow.job_id)
        .where(LeaseRow.released_at.is_(None))
    )
    with store.read() as session:
        return {
            row.board: max(0.0, row.expected_s - max(0.0, (now - row.granted_at).total_seconds()))
            for row in session.execute(query)
        }


def selector_of(stored: Mapping[str, Any]) -> Selector:
    """A Selector from its column."""
    return Selector(**{**stored, "tags": tuple(stored.get("tags", ()))})


def _unrenewed(lease: Lease) -> Any:
    return select(LeaseRow).where(
        LeaseRow.board == lease.board,
        LeaseRow.token == lease.token,
        LeaseRow.released_at.is_(None),
        LeaseRow.renewals == lease.renewals,
    )


def _running(session: Session, run: Run) -> JobRow | None:
    """The Job, held still with its Board, where this Run is the newest of it and nobody has settled it."""
    session.execute(select(BoardRow.name).where(BoardRow.name == run.board).with_for_update())
    job = session.get_one(JobRow, run.job_id, with_for_update=True)
    return job if job.state == JobState.RUNNING and _newest(session, job.id) == run.id else None


def _newest(session: Session, job_id: str) -> str | None:
    """The newest Run of a Job: `grant` sees to it that their ids rise."""
    return session.scalar(select(func.max(RunRow.id)).where(RunRow.job_id == job_id))


def _waited_s(job: JobRow, until: datetime) -> float:
    """How long a Job has been in the queue since it last joined it."""
    return max(0.0, (until - job.queued_at).total_seconds())


def _cancelled(session: Session, job: JobRow, reasons: Sequence[Reason], now: datetime) -> None:
    _end(session, job, JobState.CANCELLED, now=now, outcome=Outcome.CANCELLED, verdict=None, reasons=reasons)


def _tell_on_board(session: Session, run: Run, now: datetime) -> None:
    """Let a Run's end tell on its Board's health; once, as it is settled once."""
    if run.outcome is Outcome.BROKEN and run.blame == "board":
        text = f"run {run.id} was BROKEN: " + "; ".join(reason.text for reason in run.reasons)
        boards.blame(session, run.board, text=text, now=now)
    elif run.outcome in (Outcome.OK, Outcome.NOISY, Outcome.FAILED):
        boards.clear(session, run.board)


def _end(
    session: Session,
    job: JobRow,
    state: JobState,
    *,
    now: datetime,
    outcome: Outcome,
    verdict: Verdict | None,
    reasons: Sequence[Reason],
    run_id: str | None = None,
) -> None:
    job.state, job.ended_at, job.outcome, job.verdict = state, now, outcome, verdict
    job.reasons = [wire.as_dict(reason) for reason in reasons]
    data = {"state": state, "outcome": outcome, "verdict": verdict, "reasons": job.reasons}
    events.add(session, job.id, kind=str(state), at=now, run_id=run_id, data=data)
    project = session.scalars(select(ProjectRow.name).where(ProjectRow.id == job.project_id)).one()
    model = session.scalars(select(ModelRow.name).where(ModelRow.id == job.model_id)).one()
    word = verdict or outcome
    board = _measured_on(session, job, run_id)
    title = f"{word}: {model} on {board}" if board else f"{word}: {model}"
    text = " ".join([f"Job {job.id} is {state}: {word}.", *(reason.text for reason in reasons)])
    if verdict is Verdict.PASS and baselines.is_followed(session, job):
        baselines.promote(session, jobs.from_row(session, job), board, now)
    about = {"job": job.id, "run": run_id, "board": board, "model": model, "commit": job.commit, "branch": job.branch}
    measured = {"repository": job.repository, "metrics": _metrics(session, run_id)}
    notices.add(session, Notice(new_id(), "job.done", project, title, text, now, {**about, **data, **measured}))


def _measured_on(session: Session, job: JobRow, run_id: str | None) -> str | None:
    """The Board of the Run that ends a Job; of the Evidence, where an earlier Job's is its answer."""
    if run_id is not None:
        return session.scalar(select(RunRow.board).where(RunRow.id == run_id))
    is_answered = job.verdict is not None and job.evidence_id is not None
    return session.get_one(EvidenceRow, job.evidence_id).board if is_answered else None


def _metrics(session: Session, run_id: str | None) -> list[dict[str, Any]]:
    """What was measured over a Run's Blocks, for who is told of its Job's end."""
    names = ("metric", "value", "low", "high", "n")
    query = select(*(getattr(SummaryRow, name) for name in names)).where(
        SummaryRow.run_id == run_id, SummaryRow.block.is_(None), SummaryRow.value.is_not(None)
    )
    return [dict(zip(names, row, strict=True)) for row in session.execute(query.order_by(SummaryRow.id))]
