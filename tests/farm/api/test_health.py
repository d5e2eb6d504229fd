"""Health, readiness and metrics; and what is told when the farm itself is at fault."""

from __future__ import annotations

import logging
import re
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from farm.store.blobs import Blobs, disk_full
from farm.store.db import Store
from tests.farm.api.live import Live, problem, serve
from tests.farm.store import nouns


def _hide(api: Live, table: str) -> None:
    with api.store.write() as session:
        session.connection().exec_driver_sql(f"ALTER TABLE {table} RENAME TO hidden")


def test_a_farm_without_a_live_worker_is_not_ready(each_api: Live) -> None:
    client = each_api.client(None)
    assert client.get(f"{each_api.url}/readyz").json()["ready"] is True
    each_api.clock.step(61)
    answer = client.get(f"{each_api.url}/readyz")
    assert (answer.status_code, answer.json()["ready"]) == (503, False)
    assert answer.json()["problems"] == ["no worker was heard of for 60 s: start one, or see why they ended"]


def test_a_database_of_another_version_is_not_ready_and_no_detail_is_told(each_api: Live) -> None:
    with each_api.store.write() as session:
        session.connection().exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
    answer = each_api.client(None).get(f"{each_api.url}/readyz")
    assert answer.status_code == 503
    assert answer.json()["problems"] == [
        "the database does not answer, or is of another version: the farm's log says more"
    ]
    assert each_api.client(None).get(f"{each_api.url}/healthz").status_code == 200


def test_a_blob_store_that_is_gone_is_not_ready(api: Live) -> None:
    shutil.rmtree(api.store.blobs.folder)
    answer = api.client(None).get(f"{api.url}/readyz")
    assert answer.json()["problems"] == ["the blob store takes nothing: the farm's log says more"]


def test_the_metrics_say_what_the_store_knows(each_api: Live) -> None:
    each_api.submit()
    nouns.a_started_run(each_api.store)
    text = each_api.client("vision-engineer").get(f"{each_api.url}/metrics").text
    found = {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["farm_jobs", "queued"] == 2
    assert found["farm_jobs", "done"] == 0
    assert found["farm_boards", "good", "ready"] == 1
    assert found["farm_boards", "unknown", "ready"] == 1
    assert found["farm_boards", "quarantined", "retired"] == 0
    assert found["farm_leases",] == 1
    assert found["farm_workers", "lab"] == 1
    assert found["farm_slots", "lab"] == 2
    assert found["farm_runs", "OK"] == 0
    assert found["farm_http_requests_total", "POST", "/jobs", "201"] == 1
    assert found["farm_http_request_duration_seconds_count", "POST", "/jobs"] == 1


def test_what_a_client_makes_up_makes_no_new_series(api: Live) -> None:
    client = api.client("vision-ci")
    for i in range(20):
        client.get(f"/made-up-{i}")
        client.get(f"/jobs/{i:08x}")
        client.request(f"MADEUP{i}", "/jobs")
    text = api.client("admin").get(f"{api.url}/metrics").text
    series = re.findall(r"^farm_http_requests_total\{(.*)\}", text, re.MULTILINE)
    assert sorted(series) == [
        'method="GET",route="/jobs/{job_id}",status="404"',
        'method="GET",route="unmatched",status="404"',
        'method="other",route="/jobs",status="405"',
    ]


def test_a_lost_database_is_told_as_such_without_its_address(api: Live, caplog: pytest.LogCaptureFixture) -> None:
    _hide(api, "job")
    answer = api.client("vision-ci").get("/jobs")
    detail = problem(answer, 503, "StoreError")
    assert answer.headers["retry-after"] == "5"
    assert answer.json()["exit_code"] == 4
    (entry,) = re.findall(r"problem ([0-9a-f]{12})", detail)
    assert "farm.db" not in detail
    assert any(entry in record.getMessage() and "farm.db" in record.getMessage() for record in caplog.records)


def test_a_lost_database_lets_nobody_in(api: Live) -> None:
    _hide(api, "token")
    problem(api.client("admin").get("/jobs"), 503, "StoreError")


class FullBlobs(Blobs):
    """A blob store on a full disk."""

    def put_stream(self, *_: Any, **__: Any) -> int:
        """Fail as a full disk does."""
        raise disk_full("/srv/farm", "no room")


def test_a_full_disk_is_told_as_such(api: Live) -> None:
    api.store.blobs = FullBlobs(api.store.blobs.folder)
    answer = api.client("vision-ci").put(f"/artifacts/{'a' * 64}", params={"name": "m.fake"}, content=b"x")
    assert "/srv/farm" not in problem(answer, 507, "StoreFull")
    assert answer.json()["exit_code"] == 4


def test_a_bug_is_told_by_an_id_that_is_in_the_log_with_its_traceback(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise ZeroDivisionError("the secret of the farm")

    with serve(store, tmp_path, kick=broken) as api:
        answer = api.client("vision-ci").post("/jobs", json={"artifact": api.send()})
        assert httpx.get(f"{api.url}/healthz").status_code == 200
    detail = problem(answer, 500, "FarmBug")
    assert answer.json()["exit_code"] == 70
    assert "secret" not in detail
    (entry,) = re.findall(r"problem ([0-9a-f]{12})", detail)
    logged = [record for record in caplog.records if entry in record.getMessage()]
    assert [record.levelno for record in logged] == [logging.ERROR]
    assert logged[0].exc_info is not None
