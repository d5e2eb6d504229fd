"""Which farm, and the token for it: what is refused before anything is sent, and who can read what is kept."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from farm.client import credentials
from farm.client.credentials import Credentials
from farm.errors import InputError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("https://farm.lab", "https://farm.lab"),
        ("https://farm.lab/", "https://farm.lab"),
        (" https://farm.lab:8443/bench/api/v1/ ", "https://farm.lab:8443/bench"),
        ("HTTPS://Farm.Lab", "https://farm.lab"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://127.9.9.9", "http://127.9.9.9"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("http://localhost:8080", "http://localhost:8080"),
    ],
)
def test_a_url_is_kept_without_what_follows_the_farm(given: str, url: str) -> None:
    assert credentials.checked_url(given) == url


@pytest.mark.parametrize(
    "given",
    [
        "http://farm.lab",
        "http://localhost.farm.lab",
        "http://127.0.0.1.farm.lab",
        "http://10.0.0.5",
        "ftp://farm.lab",
        "farm.lab",
        "",
        "https://",
        "https://farm.lab?x=1",
        "https://farm.lab#x",
        "https://ann@farm.lab",
        "https://farm.lab:99999999",
        "https://farm\x00.lab",
    ],
)
def test_a_url_that_could_give_the_token_away_or_is_none_is_refused(given: str) -> None:
    with pytest.raises(InputError):
        credentials.checked_url(given)


def test_http_to_another_machine_is_for_those_who_say_so() -> None:
    assert credentials.checked_url("http://10.0.0.5:8080", allow_http=True) == "http://10.0.0.5:8080"


def test_what_is_kept_is_for_this_user_alone_and_is_replaced_whole(home: Path) -> None:
    credentials.save(Credentials("https://a.lab", "bf_1"))
    file = credentials.save(Credentials("https://b.lab", "bf_2"))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert credentials.load() == Credentials("https://b.lab", "bf_2")
    assert [path.name for path in file.parent.iterdir()] == ["credentials.json"]


def test_a_file_that_others_could_read_is_narrowed_by_the_next_login(home: Path) -> None:
    file = credentials.save(Credentials("https://a.lab", "bf_1"))
    file.chmod(0o644)
    credentials.save(Credentials("https://a.lab", "bf_1"))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_where_nothing_can_be_kept_it_is_told(home: Path) -> None:
    (home / "benchfarm").write_text("a file where the folder should be")
    with pytest.raises(InputError, match="cannot be kept"):
        credentials.save(Credentials("https://a.lab", "bf_1"))
    assert credentials.load() is None
    assert credentials.forget() is False


def test_credentials_never_show_the_token() -> None:
    assert "bf_1" not in repr(Credentials("https://a.lab", "bf_1"))
