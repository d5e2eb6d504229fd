"""What Runs, checks and persons say of a Board's health, and what the lab wants of it."""

from __future__ import annotations

import pytest

from farm.domain import BoardState, Health, Outcome
from farm.errors import BoardBusy, LeaseLost, NotFound
from farm.store import audit, boards, leases, notices, queue
from farm.store.db import Store
from tests.farm.store.moves import TTL_S, after, begun, ended, good_board, queued
from tests.farm.store.nouns import NOW


def broken(store: Store, blame: str = "board") -> None:
    """A Run that was BROKEN on a Board that was good before."""
    run = ended(store, begun(store, queued(store)), Outcome.BROKEN, blame=blame)
    assert queue.finish(store, run, verdict=None, reasons=run.reasons, now=NOW)


def check(store: Store, *, facts: dict[str, object] | None, now: float = 0.0) -> None:
    """A health check that found this."""
    lease = leases.grant(store, "orin-3", holder="d", ttl_s=TTL_S, now=NOW, is_check=True)
    again = None if facts is not None else after(now + 5)
    note = "" if facts is not None else "no answer"
    boards.checked(store, "orin-3", lease.token, facts=facts, note=note, next_check_at=again, now=after(now))
    leases.release(store, lease, now=after(now))


def health(store: Store) -> tuple[str, int]:
    status = boards.status(store, "orin-3")
    return status.health, status.failures


@pytest.mark.parametrize("move", ["state", "health", "drained", "later", "status"])
def test_a_board_that_nobody_knows_cannot_be_changed(store: Store, move: str) -> None:
    moves = {
        "state": lambda: boards.set_state(store, "x", BoardState.READY, note="", by="ann", now=NOW),
        "health": lambda: boards.set_health(store, "x", Health.GOOD, note="", by="ann", now=NOW),
        "drained": lambda: boards.drained(store, "x", now=NOW),
        "later": lambda: boards.check_later(store, "x", NOW),
        "status": lambda: boards.status(store, "x"),
    }
    with pytest.raises(NotFound, match="Board 'x' is not known to this farm"):
        moves[move]()  # type: ignore[no-untyped-call]
    assert audit.changes(store) == []


def test_what_the_farm_is_to_blame_for_tells_nothing_of_the_board(store: Store) -> None:
    good_board(store)
    broken(store, blame="farm")
    assert health(store) == ("good", 0)


def test_a_board_that_broke_a_run_is_looked_at_before_it_is_given_out_again(store: Store) -> None:
    good_board(store)
    broken(store)
    status = boards.status(store, "orin-3")
    assert (status.health, status.failures, status.next_check_at) == (Health.UNKNOWN, 1, NOW)
    assert "It did so." in status.note
    check(store, facts={"identity": {"family": "jetson"}})
    status = boards.status(store, "orin-3")
    assert (status.health, status.failures, status.next_check_at, status.note) == (Health.GOOD, 1, None, "")
    assert status.board.facts == {"identity": {"family": "jetson"}}


def test_three_broken_runs_in_a_row_quarantine_a_board_and_tell_of_it_once(store: Store) -> None:
    good_board(store)
    for expected in (("unknown", 1), ("unknown", 2), ("quarantined", 3)):
        broken(store)
        assert health(store) == expected
        check(store, facts={})
    assert health(store) == ("quarantined", 3)  # a check does not lift it
    told = [one.notice for one in notices.due(store, NOW) if one.notice.kind == "board.quarantined"]
    assert [notice.title for notice in told] == ["Board orin-3 is quarantined after 3 broken runs in a row"]
    assert told[0].project is None
    assert [change.action for change in audit.changes(store)] == ["board.quarantined"]
    with pytest.raises(BoardBusy, match="its health is quarantined"):
        begun(store, queued(store))


@pytest.mark.parametrize("outcome", [Outcome.OK, Outcome.NOISY, Outcome.FAILED])
def test_a_run_that_the_board_carried_out_forgets_what_was_blamed_on_it(store: Store, outcome: Outcome) -> None:
    good_board(store)
    for _ in range(2):
        broken(store)
        check(store, facts={})
    run = ended(store, begun(store, queued(store)), outcome)
    assert queue.finish(store, run, verdict=None, reasons=run.reasons, now=NOW)
    assert health(store) == ("good", 0)
    broken(store)
    assert health(store) == ("unknown", 1)


def test_a_run_that_breaks_does_not_lift_the_quarantine_of_a_person(store: Store) -> None:
    good_board(store)
    run = begun(store, queued(store))
    boards.set_health(store, "orin-3", Health.QUARANTINED, note="it smells", by="ann", now=NOW)
    over = ended(store, run, Outcome.BROKEN)
    assert queue.finish(store, over, verdict=None, reasons=over.reasons, now=NOW)
    status = boards.status(store, "orin-3")
    assert (status.health, status.note) == (Health.QUARANTINED, "it smells")


def test_checks_that_fail_are_counted_until_one_passes(store: Store) -> None:
    good_board(store)
    for n in (1, 2, 3):
        check(store, facts=None, now=n)
        assert boards.failed_checks(store, "orin-3") == n
    status = boards.status(store, "orin-3")
    assert (status.health, status.note, status.next_check_at) == (Health.UNKNOWN, "no answer", after(8))
    check(store, facts={})
    assert boards.failed_checks(store, "orin-3") == 0


def test_a_check_whose_lease_is_over_says_nothing(store: Store) -> None:
    good_board(store)
    lease = leases.grant(store, "orin-3", holder="d", ttl_s=TTL_S, now=NOW, is_check=True)
    leases.release(store, lease, now=NOW)
    with pytest.raises(LeaseLost):
        boards.checked(store, "orin-3", lease.token, facts={}, note="", next_check_at=None, now=NOW)


def test_a_draining_board_is_in_maintenance_once_nobody_holds_it(store: Store) -> None:
    good_board(store)
    run = begun(store, queued(store))
    boards.drained(store, "orin-3", now=NOW)
    assert boards.status(store, "orin-3").state is BoardState.READY
    boards.set_state(store, "orin-3", BoardState.DRAINING, note="new fan", by="ann", now=NOW)
    boards.drained(store, "orin-3", now=NOW)
    assert boards.status(store, "orin-3").state is BoardState.DRAINING
    ended(store, run)
    for _ in range(2):
        boards.drained(store, "orin-3", now=after(1))
    assert boards.status(store, "orin-3").state is BoardState.MAINTENANCE
    found = [(change.actor, change.data["from"], change.data["to"]) for change in audit.changes(store)]
    assert found == [("farm", "draining", "maintenance"), ("ann", "ready", "draining")]


def test_a_board_that_comes_back_is_looked_at_first(store: Store) -> None:
    good_board(store)
    for _ in range(3):
        broken(store)
        check(store, facts={})
    boards.set_state(store, "orin-3", BoardState.MAINTENANCE, note="", by="ann", now=NOW)
    assert health(store) == ("quarantined", 3)
    boards.set_state(store, "orin-3", BoardState.READY, note="", by="ann", now=after(9))
    assert health(store) == ("unknown", 0)
    assert boards.status(store, "orin-3").next_check_at == after(9)
