"""VERB 2: give boards to jobs. One job to one named board today; the queue and its dispatcher build on this."""

from __future__ import annotations

from datetime import datetime

from farm import domain
from farm.store import jobs, leases, results
from farm.store.db import Store


def grant(
    job: domain.Job, board: domain.Board, *, store: Store, holder: str, ttl_s: float, now: datetime
) -> domain.Run:
    """A Run of this Job on this Board under a fresh Lease.

    Leases whose time is over are expired first, and the Runs they left half-way are ended as BROKEN.
    Raises BoardBusy where the Board is leased to somebody else.
    """
    results.save_board(store, board, now)
    leases.expire(store, now=now)
    for left in results.unfinished_runs(store):
        text = f"Its lease on board '{left.board}' ended without a word from its holder. Measure again."
        results.abandon(store, left.id, domain.Reason("lease_expired", text, "farm"), now)
    lease = leases.grant(store, board.name, holder=holder, ttl_s=ttl_s, now=now)
    run = domain.Run(domain.new_id(), job.id, board.name, lease.token, started_at=now)
    results.start_run(store, run)
    jobs.set_job_state(store, job.id, domain.JobState.RUNNING)
    return run
