"""`farm up`: the whole farm in one process tree, started, used, ended and killed as a person would."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from farm import broker

QUICK = {"duration_s": 0.2, "processes": 2, "min_queries": 20, "warmup_s": 0.02, "warmup_queries": 2}


@dataclass
class Up:
    """A running `farm up`."""

    process: subprocess.Popen[str]
    log: Path
    url: str
    data: Path

    @property
    def api(self) -> httpx.Client:
        token = (self.data / "admin.token").read_text().strip()
        return httpx.Client(base_url=f"{self.url}/api/v1", headers={"Authorization": f"Bearer {token}"}, timeout=30)

    def end(self) -> int:
        """Ctrl-C in its terminal."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)


@contextlib.contextmanager
def up(folder: Path, *words: str, path: str | None = None) -> Iterator[Up]:
    """`farm up` in a folder, with a board that is this machine; killed at the end of the block if it still runs."""
    (folder / "inventory.yaml").write_text(f"version: 1\nboards:\n  - name: here\n    home: {folder / 'home'}\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FARM_")}
    environment |= {"FARM_DATA_DIR": str(folder / "data"), "FARM_INVENTORY": str(folder / "inventory.yaml")}
    environment |= {"FARM_API_PORT": "0", "FARM_TEST_TREE": str(folder), "PATH": path or environment["PATH"]}
    log = folder / "up.log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "farm", "up", *words],
            env=environment,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )
    try:
        give_up = time.monotonic() + 60
        while not (found := re.search(r"up at (http://\S+)", log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < give_up, log.read_text()
            time.sleep(0.1)
        yield Up(process, log, found[1], folder / "data")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def left_of(folder: Path) -> list[str]:
    """Processes whose environment or command names the folder."""
    left = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (place / "cmdline").read_bytes().replace(b"\0", b" ")
            if int(place.name) != os.getpid() and (
                str(folder).encode() in words or f"FARM_TEST_TREE={folder}".encode() in (place / "environ").read_bytes()
            ):
                left.append(words.decode(errors="replace"))
    return left


def gone(folder: Path) -> bool:
    give_up = time.monotonic() + 30
    while left_of(folder):
        if time.monotonic() > give_up:
            return False
        time.sleep(0.1)
    return True


def submit(farm: Up, **more: object) -> str:
    """A quick Job of a model of the runtime `fake`."""
    import hashlib

    body = json.dumps({"latency_us": 200}).encode()
    sha256 = hashlib.sha256(body).hexdigest()
    with farm.api as api:
        api.put(f"/artifacts/{sha256}", params={"name": "m.fake"}, content=body).raise_for_status()
        answer = api.post(
            "/jobs", json={"artifact": sha256, "plan": QUICK, **more}, headers={"Idempotency-Key": os.urandom(8).hex()}
        )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def ended(farm: Up, job: str) -> dict[str, object]:
    give_up = time.monotonic() + 90
    with farm.api as api:
        while (told := api.get(f"/jobs/{job}").json())["state"] in ("queued", "running"):
            assert time.monotonic() < give_up, farm.log.read_text()
            time.sleep(0.2)
    return dict(told)


def test_a_second_farm_in_the_same_folder_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    with up(tmp_path) as farm:
        again = subprocess.run(
            [sys.executable, "-m", "farm", "--data-dir", str(farm.data), "up"],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert again.returncode == 2
        assert f"process {farm.process.pid}" in again.stderr
        assert httpx.get(f"{farm.url}/readyz").json()["ready"] is True
        assert farm.end() == 0
    assert gone(tmp_path), left_of(tmp_path)


def test_it_measures_and_what_was_queued_goes_on_at_the_next_start(tmp_path: Path) -> None:
    with up(tmp_path) as farm:
        told = ended(farm, submit(farm))
        assert (told["verdict"], told["virtual"]) == ("PASS", False)
        with farm.api as api:
            api.post("/boards/here/state", json={"state": "maintenance"}).raise_for_status()
        waiting = submit(farm)
        assert farm.end() == 0
    assert gone(tmp_path), left_of(tmp_path)
    with up(tmp_path) as farm:
        with farm.api as api:
            assert api.get(f"/jobs/{waiting}").json()["state"] == "queued"
            api.post("/boards/here/state", json={"state": "ready"}).raise_for_status()
        assert ended(farm, waiting)["verdict"] == "PASS"


def test_killed_it_leaves_no_process_and_the_job_under_way_is_tried_again(tmp_path: Path) -> None:
    with up(tmp_path, "--virtual-boards", "1") as farm:
        job = submit(farm, on="virtual", plan={**QUICK, "duration_s": 20.0})
        with farm.api as api:
            while not (told := api.get(f"/jobs/{job}").json())["runs"] or told["runs"][-1]["begun_at"] is None:
                time.sleep(0.1)
        farm.process.kill()
        farm.process.wait()
        assert gone(tmp_path), left_of(tmp_path)
    with up(tmp_path, "--virtual-boards", "1") as farm:
        with farm.api as api:
            while len(runs := api.get(f"/jobs/{job}").json()["runs"]) < 2:
                assert "done" not in api.get(f"/jobs/{job}").json()["state"]
                time.sleep(0.2)
            assert (runs[0]["outcome"], runs[0]["blame"]) == ("BROKEN", "farm")
            api.post(f"/jobs/{job}/cancel").raise_for_status()
        told = ended(farm, job)
        assert (told["state"], told["virtual"]) == ("cancelled", True)


def test_without_any_redis_the_worker_lives_in_the_same_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "program", lambda: None)
    with broker.running(None, tmp_path) as url:
        assert url == broker.MEMORY
    with up(tmp_path, "--redis-url", broker.MEMORY) as farm:
        assert "in this process" in farm.log.read_text()
        assert ended(farm, submit(farm))["verdict"] == "PASS"
        assert farm.end() == 0
    assert gone(tmp_path), left_of(tmp_path)
