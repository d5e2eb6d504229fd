"""The witness sees what must not be: it is shown a farm in which it happened."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from farm.store import queue
from tests.faults import witness
from tests.faults.farmhouse import Farmhouse, farm_template, house

__all__ = ["farm_template", "house"]

LEASE = (
    "INSERT INTO lease (board, token, holder, ttl_s, granted_at, renewed_at, renewals, is_check) "
    "VALUES ('pi-1', %s, 'tests', 30, now(), now(), 0, false)"
)
RELEASE = "UPDATE lease SET released_at = now() WHERE token = %s"


def line(what: str, pid: int, t: int, *, token: int = 1) -> dict[str, Any]:
    """A line of a guard's log."""
    return {"what": what, "pid": pid, "started": 100, "token": token, "farm": "f/pi-1", "unix_ns": t}


def test_a_job_that_has_not_ended_or_has_left_its_end_is_seen(house: Farmhouse) -> None:
    job = house.submit()
    assert any(f"job {job} is queued and has ended 0 times" in text for text in witness.problems(house.conninfo, []))
    queue.cancel(house.store, job, by="tests", now=datetime.now(UTC))
    assert witness.problems(house.conninfo, []) == []
    house.sql("UPDATE job SET state = 'done' WHERE id = %s", job)
    found = witness.problems(house.conninfo, [])
    assert f"job {job} left cancelled for done" in found
    assert f"job {job} is done and has ended 2 times" in found


def test_a_board_that_is_leased_twice_is_seen_even_where_it_lasts_a_moment(house: Farmhouse) -> None:
    house.add_board("pi-1")
    for row in house.sql(
        "SELECT indexname AS name FROM pg_indexes WHERE tablename = 'lease' AND indexdef LIKE '%%WHERE%%'"
    ):
        house.sql(f"DROP INDEX {row['name']}")
    for query, token in ((LEASE, 1), (LEASE, 2), (RELEASE, 1), (RELEASE, 2)):
        house.sql(query, token)
    assert "board pi-1 was leased with token 2 while token 1 was out" in witness.problems(house.conninfo, [])


def test_leases_one_after_the_other_are_no_problem_and_one_that_stays_is(house: Farmhouse) -> None:
    house.add_board("pi-1")
    for query, token in ((LEASE, 1), (RELEASE, 1), (LEASE, 2), (RELEASE, 2)):
        house.sql(query, token)
    assert witness.problems(house.conninfo, []) == []
    house.sql(LEASE, 3)
    assert witness.problems(house.conninfo, []) == ["board pi-1 is still leased with token 3"]


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([line("acquire", 1, 1), line("release", 1, 2), line("acquire", 2, 3, token=2)], []),
        ([line("acquire", 1, 1), line("acquire", 2, 2, token=2), line("release", 2, 3, token=2)], []),  # 1 was killed
        ([line("acquire", 1, 1), line("acquire", 2, 2, token=2), line("release", 1, 3)], ["measured beside another"]),
        ([line("acquire", 1, 1), line("release", 1, 2), line("acquire", 2, 3)], ["taken 2 times with token 1"]),
    ],
)
def test_agents_that_measure_at_once_or_with_one_token_are_seen(lines: list[dict[str, Any]], found: list[str]) -> None:
    seen = list(witness.guard_problems(lines, []))
    assert len(seen) == len(found)
    assert all(words in text for words, text in zip(found, seen, strict=True))


def test_a_run_that_was_measured_without_the_boards_lock_is_seen() -> None:
    run = {"id": "r1", "board": "pi-1", "token": 7, "outcome": "OK"}
    assert list(witness.guard_problems([line("acquire", 1, 1, token=7)], [run])) == []
    assert list(witness.guard_problems([], [run])) == ["run r1 was measured on pi-1 without its lock"]
