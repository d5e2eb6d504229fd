"""The API goes away while `farm submit --wait` talks to it, and comes back: one Job, and its verdict arrives."""

from __future__ import annotations

import contextlib
import signal
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import yaml

from farm.domain import Role
from farm.store import tokens
from tests import sshd
from tests.faults import witness
from tests.faults.farmhouse import QUICK, Farmhouse, Process, farm_template, house, until
from tests.faults.parts import free_port

__all__ = ["farm_template", "house"]


def start_api(house: Farmhouse, port: int) -> Process:
    """`farm api` on this port; back once it listens."""

    def listens() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return True
        return False

    api = house.run("api", FARM_API_PORT=str(port))
    until(lambda: listens() or not api.is_alive(), "the API listens")
    assert api.is_alive(), api.log.read_text()
    return api


def start_submit(house: Farmhouse, port: int, junit: Path, **plan: Any) -> Process:
    """`farm submit --wait` of a pipeline."""
    _, secret = tokens.create(
        house.store,
        name="ci",
        role=Role.CI,
        project="tests",
        created_by="tests",
        expires_at=None,
        now=datetime.now(UTC),
    )
    plan_file = house.folder / "plan.yaml"
    plan_file.write_text(yaml.safe_dump({**QUICK, **plan}))
    words = [str(house.model()), "--on", "pi-1", "--plan", str(plan_file), "--wait", "--junit", str(junit)]
    return house.run("submit", *words, FARM_URL=f"http://127.0.0.1:{port}", FARM_TOKEN=secret)


def jobs_of(house: Farmhouse) -> list[str]:
    return [row["id"] for row in house.sql("SELECT id FROM job ORDER BY id")]


def failures_in(junit: Path) -> list[str]:
    return [found.tag for found in ET.parse(junit).iter() if found.tag in ("failure", "error", "skipped")]


def test_an_api_that_is_restarted_and_then_killed_costs_a_client_that_waits_nothing(house: Farmhouse) -> None:
    house.add_board("pi-1")
    house.worker()
    port, junit = free_port(), house.folder / "junit.xml"
    api = start_api(house, port)
    client = start_submit(house, port, junit, duration_s=3.0)
    (job,) = until(lambda: jobs_of(house), "the job is submitted")
    house.until_told(job, "timed")
    api.send(signal.SIGTERM)
    assert api.wait() == 0
    api = start_api(house, port)
    until(lambda: "answers again" in client.log.read_text(), "the client hears the API again")
    api.kill()
    assert house.until_over(job) == ["OK"]  # nobody needs the API to measure
    until(lambda: client.log.read_text().count("does not answer") == 2, "the client tries again")
    assert client.is_alive()
    start_api(house, port)
    assert client.wait() == 0
    assert failures_in(junit) == []
    assert client.log.read_text().count("PASS") >= 1
    assert jobs_of(house) == [job]
    assert len(house.runs(job)) == 1
    house.check()


def test_an_api_killed_while_it_takes_a_job_makes_one_of_it_on_either_side_of_the_commit(house: Farmhouse) -> None:
    house.add_board("pi-1")
    house.worker()
    port, junit = free_port(), house.folder / "junit.xml"
    api = start_api(house, port)
    with witness.closed(house.conninfo, "submit") as gate:
        client = start_submit(house, port, junit)
        gate.await_someone()
        api.kill()
    assert jobs_of(house) == []
    api = start_api(house, port)
    assert client.wait() == 0
    assert len(jobs_of(house)) == 1

    with sshd.proxy(port) as proxy:
        with witness.closed(house.conninfo, "submit") as gate:
            client = start_submit(house, proxy.port, junit)
            gate.await_someone()
            proxy.delay(600.0)  # the answer stays on its way
        until(lambda: len(jobs_of(house)) == 2, "the job is stored")
        api.kill()
        start_api(house, port)
        proxy.delay(0.0)
        proxy.cut()
        assert client.wait() == 0
    assert len(jobs_of(house)) == 2
    assert failures_in(junit) == []
    house.check()
