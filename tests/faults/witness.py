"""What really happened in a farm, told by PostgreSQL's own triggers and the boards' own logs: none of the farm's code.

Every write to the tables that matter is copied into the table `witness`, in its order. At some of these writes there is
a gate: whoever comes to a closed one waits there, in the middle of its transaction, so that a test can kill it there.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import DictRow, dict_row

TABLES = ("job", "run", "lease", "block", "samples", "summary", "event")
TERMINAL = ("done", "cancelled", "refused")
_INSTALL = """
CREATE TABLE witness (
    n bigserial PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(),
    by text NOT NULL DEFAULT current_setting('application_name'), what text, op text, old jsonb, new jsonb
);
CREATE FUNCTION witness() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE gate text;
BEGIN
    INSERT INTO witness (what, op, old, new) VALUES (TG_TABLE_NAME, TG_OP, to_jsonb(OLD), to_jsonb(NEW));
    IF TG_TABLE_NAME = 'job' AND TG_OP = 'INSERT' THEN gate := 'submit';
    ELSIF TG_TABLE_NAME = 'run' AND TG_OP = 'INSERT' THEN gate := 'grant';
    ELSIF TG_TABLE_NAME = 'run' AND TG_OP = 'UPDATE' THEN
        IF OLD.begun_at IS NULL AND NEW.begun_at IS NOT NULL THEN gate := 'begin';
        ELSIF OLD.outcome IS NULL AND NEW.outcome IS NOT NULL THEN gate := 'finish'; END IF;
    ELSIF TG_TABLE_NAME = 'block' AND TG_OP = 'INSERT' THEN gate := 'block';
    ELSIF TG_TABLE_NAME = 'summary' AND TG_OP = 'INSERT' THEN gate := 'judge';
    END IF;
    IF gate IS NOT NULL THEN PERFORM pg_advisory_xact_lock_shared(hashtext(gate)); END IF;
    RETURN NULL;
END $$;
"""


def connect(conninfo: str) -> psycopg.Connection[DictRow]:
    """A connection of the test's own; rows are dicts."""
    return psycopg.connect(conninfo, autocommit=True, row_factory=dict_row)


def install(conninfo: str) -> None:
    """Have a database with the farm's tables witnessed."""
    with connect(conninfo) as connection:
        connection.execute(_INSTALL)
        for table in TABLES:
            connection.execute(
                f"CREATE TRIGGER witness AFTER INSERT OR UPDATE OR DELETE ON {table} "
                "FOR EACH ROW EXECUTE FUNCTION witness()"
            )


class Gate:
    """A closed gate: `submit`, `grant`, `begin`, `block`, `finish` or `judge`."""

    def __init__(self, connection: psycopg.Connection[DictRow], name: str) -> None:
        self._connection, self._name = connection, name

    def await_someone(self, within_s: float = 60.0) -> None:
        """Wait until somebody stands at the gate."""
        deadline = time.monotonic() + within_s
        waiting = (
            "SELECT count(*) AS n FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database "
            "WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted"
        )
        while self._connection.execute(waiting).fetchone() == {"n": 0}:
            assert time.monotonic() < deadline, f"nobody came to the gate {self._name!r} within {within_s:g} s"
            time.sleep(0.02)


@contextlib.contextmanager
def closed(conninfo: str, name: str) -> Iterator[Gate]:
    """That gate is closed for as long as the block."""
    with connect(conninfo) as connection:
        connection.execute("SELECT pg_advisory_lock(hashtext(%s))", [name])
        yield Gate(connection, name)


def problems(conninfo: str, homes: Iterable[Path]) -> list[str]:
    """What is wrong with a farm that has come to rest; the boards' folders are at `homes`."""
    with connect(conninfo) as connection:
        rows = connection.execute("SELECT * FROM witness ORDER BY n").fetchall()
        jobs = connection.execute("SELECT * FROM job").fetchall()
        runs = connection.execute("SELECT * FROM run ORDER BY id").fetchall()
        blocks = connection.execute("SELECT * FROM block").fetchall()
        plans = {row["job_id"]: row["plan"] for row in connection.execute("SELECT * FROM arm").fetchall()}
    history: defaultdict[str, list[DictRow]] = defaultdict(list)
    for row in rows:
        history[row["what"]].append(row)
    found = [*_job_problems(jobs, history), *_lease_problems(history["lease"]), *_run_problems(runs, history)]
    found += _block_problems(jobs, runs, blocks, plans, history)
    logs = [line for home in homes for line in guard_lines(home)]
    return [*found, *guard_problems(logs, runs)]


def guard_lines(home: Path) -> list[dict[str, Any]]:
    """What the agents of that folder wrote of the board's lock, the oldest first."""
    files = [path for path in (home / "guard.log.1", home / "guard.log") if path.exists()]
    return [json.loads(line) for path in files for line in path.read_text().splitlines()]


def _job_problems(jobs: list[DictRow], history: dict[str, list[DictRow]]) -> Iterator[str]:
    ends: defaultdict[str, int] = defaultdict(int)
    for row in history["job"]:
        if row["op"] == "UPDATE" and row["old"]["state"] != row["new"]["state"]:
            ends[row["new"]["id"]] += row["new"]["state"] in TERMINAL
            if row["old"]["state"] in TERMINAL:
                yield f"job {row['new']['id']} left {row['old']['state']} for {row['new']['state']}"
    told: defaultdict[str, list[str]] = defaultdict(list)
    for row in sorted((row["new"] for row in history["event"]), key=lambda event: event["id"]):
        told[row["job_id"]].append(row["kind"])
    for job in jobs:
        if job["state"] not in TERMINAL or ends[job["id"]] != 1:
            yield f"job {job['id']} is {job['state']} and has ended {ends[job['id']]} times"
        kinds = told[job["id"]]
        if sum(kind in TERMINAL for kind in kinds) != 1 or kinds[-1] != job["state"]:
            yield f"job {job['id']} is {job['state']}, but its events are {kinds}"


def _lease_problems(leases: list[DictRow]) -> Iterator[str]:
    """By the order of the writes themselves, whatever any clock said."""
    held: dict[str, int] = {}
    highest: dict[str, int] = {}
    for row in leases:
        if row["op"] == "INSERT":
            board, token = row["new"]["board"], row["new"]["token"]
            if board in held:
                yield f"board {board} was leased with token {token} while token {held[board]} was out"
            if token <= highest.get(board, 0):
                yield f"board {board} was leased with token {token} after {highest[board]}"
            held[board] = highest[board] = token
        elif row["op"] == "UPDATE" and row["old"]["released_at"] is None and row["new"]["released_at"] is not None:
            if held.pop(row["new"]["board"], None) != row["new"]["token"]:
                yield f"lease {row['new']} was released though it was not held"
        elif row["op"] == "DELETE" or row["old"]["released_at"] is not None:
            yield f"lease {row['old']} was changed after its end"
    for board, token in held.items():
        yield f"board {board} is still leased with token {token}"


def _run_problems(runs: list[DictRow], history: dict[str, list[DictRow]]) -> Iterator[str]:
    for run in runs:
        if run["outcome"] is None:
            yield f"run {run['id']} of job {run['job_id']} has not ended"
    for job_id, times in Counter(run["job_id"] for run in runs if run["outcome"] == "OK").items():
        if times > 1:
            yield f"job {job_id} was measured to a good end {times} times"
    for row in history["run"]:
        if row["op"] == "UPDATE" and row["old"]["outcome"] is not None:
            yield f"run {row['new']['id']} was changed after its end"
        if row["op"] == "DELETE" and row["old"]["begun_at"] is not None:
            yield f"run {row['old']['id']} was removed though it had begun"


def _block_problems(
    jobs: list[DictRow], runs: list[DictRow], blocks: list[DictRow], plans: dict[str, Any], history: dict[str, Any]
) -> Iterator[str]:
    for what in ("block", "samples"):
        for row in history[what]:
            if row["op"] != "INSERT":
                yield f"a stored {what} was changed: {row['op']} {row['old']}"
    span = _lease_spans(history["lease"])
    of_run = {run["id"]: (run["board"], run["token"]) for run in runs}
    for row in history["block"]:
        first, last = span[of_run[row["new"]["run_id"]]]
        if not first < row["n"] < last:
            yield f"block {row['new']['index']} of run {row['new']['run_id']} was stored outside of its lease"
    for job in jobs:
        if job["outcome"] != "OK":
            continue
        run = [run for run in runs if run["job_id"] == job["id"]][-1]
        good = [block["index"] for block in blocks if block["run_id"] == run["id"] and block["outcome"] == "OK"]
        if run["outcome"] != "OK" or sorted(good) != list(range(plans[job["id"]]["processes"])):
            yield f"job {job['id']} is OK with run {run['id']} {run['outcome']}, whose good blocks are {good}"
        summaries = [row for row in history["summary"] if row["op"] == "INSERT" and row["new"]["run_id"] == run["id"]]
        if not summaries:
            yield f"job {job['id']} is OK without any summary"


def _lease_spans(leases: list[DictRow]) -> dict[tuple[str, int], tuple[float, float]]:
    """From which write to which write each lease lived."""
    spans: dict[tuple[str, int], tuple[float, float]] = {}
    for row in leases:
        key = (row["new"]["board"], row["new"]["token"])
        if row["op"] == "INSERT":
            spans[key] = (row["n"], float("inf"))
        elif row["new"]["released_at"] is not None:
            spans[key] = (spans[key][0], row["n"])
    return spans


def guard_problems(lines: list[dict[str, Any]], runs: list[DictRow]) -> Iterator[str]:
    """All these boards are this one machine, which has one lock: no two agents held it at once, no token came twice."""
    holder: dict[str, Any] | None = None
    gone: set[tuple[int, int]] = set()
    taken: defaultdict[tuple[str, int], int] = defaultdict(int)
    for line in sorted(lines, key=lambda line: int(line["unix_ns"])):
        who = (line["pid"], line["started"])
        if who in gone:
            yield f"an agent measured beside another one: {line}"
        if line["what"] == "acquire":
            if holder is not None:
                gone.add((holder["pid"], holder["started"]))  # it was killed: it must never be heard of again
            holder = line
            taken[line["farm"].rpartition("/")[2], line["token"]] += 1
        elif line["what"] == "release":
            holder = None
    for (board, token), times in taken.items():
        if times != 1:
            yield f"board {board} was taken {times} times with token {token}"
    for run in runs:
        if run["outcome"] in ("OK", "NOISY", "FAILED") and not taken[run["board"], run["token"]]:
            yield f"run {run['id']} was measured on {run['board']} without its lock"
