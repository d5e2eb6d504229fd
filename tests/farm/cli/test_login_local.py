"""`farm login --local`: to the user's own `farm up`, also while that is still starting."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from farm.cli import login
from farm.errors import InputError
from farm.store.db import open_store
from tests.farm.api import live

Typed = Callable[..., Any]


@pytest.fixture
def api(home: Path, _sqlite_template: Path) -> Iterator[live.Live]:
    shutil.copy(_sqlite_template, home / "served.db")
    store = open_store(f"sqlite:///{home}/served.db", home / "blobs", upgrade=False)
    with live.serve(store, home) as served:
        yield served
    store.close()


def test_where_no_farm_was_started_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"No farm was started here: .*admin\.token' is not there") as e:
        login.local_token(tmp_path / "data", limit_s=0.0)
    assert "`farm up`" in str(e.value)
    assert "--data-dir" in str(e.value)


def test_a_file_that_is_no_token_is_told(typed: Typed, home: Path) -> None:
    (home / "admin.token").write_bytes(b"\xff\n")
    found = typed("login", "--local", "--data-dir", home)
    assert (found.code, "cannot be read: it is no text" in found.err) == (2, True)


@pytest.mark.parametrize(
    ("words", "told"),
    [(["--token-stdin"], "Leave one of them out"), (["--api-port", "0"], "give the URL that `farm up` printed")],
)
def test_what_cannot_be_meant_is_refused(typed: Typed, words: list[str], told: str) -> None:
    found = typed("login", "--local", *words)
    assert (found.code, told in found.err) == (2, True)


def test_it_waits_for_the_token_of_a_farm_that_starts_and_signs_in(typed: Typed, api: live.Live, home: Path) -> None:
    data = home / ".local" / "share" / "benchfarm"

    def start() -> None:
        time.sleep(0.2)
        data.mkdir(parents=True)
        with (data / "admin.token").open("w") as file:
            file.write(api.secrets["admin"][:12])
            file.flush()
            time.sleep(0.2)
            file.write(api.secrets["admin"][12:] + "\n")

    starts = threading.Thread(target=start)
    starts.start()
    found = typed("login", "--local", "--api-port", api.url.rpartition(":")[2])
    starts.join()
    assert found.code == 0, found.err
    assert "Waiting for the first start of `farm up`" in found.err
    assert f"Signed in to {api.url} as admin: role admin, every project." in found.err
    kept = json.loads((home / ".config" / "benchfarm" / "credentials.json").read_text())
    assert (kept["url"], kept["token"]) == (api.url, api.secrets["admin"])


def test_it_goes_to_the_farm_here_though_another_one_is_named(
    typed: Typed, api: live.Live, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FARM_URL", "https://farm.lab")
    (home / "admin.token").write_text(api.secrets["admin"] + "\n")
    found = typed("login", "--local", "--data-dir", home, "--api-port", api.url.rpartition(":")[2])
    assert (found.code, f"Signed in to {api.url} as admin" in found.err) == (0, True)
    assert "FARM_URL is set, and wins" in found.err
