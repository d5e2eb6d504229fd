"""Settings: who wins, where a value came from, and what a wrong one is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm import settings
from farm.errors import InputError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home and working directory, so that no setting of this machine is seen."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_unknown_key_in_the_file_is_refused_with_its_line_and_the_nearest_name(tmp_path: Path) -> None:
    file = tmp_path / "farm.toml"
    file.write_text('project = "vision"\nkeep_alive_s = 2\n')
    with pytest.raises(InputError) as told:
        settings.load({"config": file}, {})
    assert str(told.value) == (
        f"{file}:2: there is no setting 'keep_alive_s'. Did you mean 'keepalive_s'?\n"
        "`farm settings` lists every setting."
    )


@pytest.mark.parametrize(
    ("flags", "environ", "names"),
    [
        ({"keepalive_s": "soon"}, {}, ["'keepalive_s'", "'soon'", "--keepalive-s", "number"]),
        ({}, {"FARM_KEEPALIVE_S": "-1"}, ["'keepalive_s'", "'-1'", "FARM_KEEPALIVE_S", "greater than 0"]),
        ({}, {"FARM_LEASE_TTL_S": "nan"}, ["'lease_ttl_s'", "FARM_LEASE_TTL_S", "finite"]),
        ({"project": ""}, {}, ["'project'", "--project", "at least 1 character"]),
    ],
)
def test_a_wrong_value_is_named_with_where_it_came_from(
    flags: dict[str, str], environ: dict[str, str], names: list[str]
) -> None:
    with pytest.raises(InputError) as told:
        settings.load(flags, environ)
    assert [name for name in names if name not in str(told.value)] == []


def test_every_wrong_value_is_told_at_once() -> None:
    with pytest.raises(InputError) as told:
        settings.load({"keepalive_s": "0"}, {"FARM_CONNECT_TIMEOUT_S": "x"})
    assert len(str(told.value).splitlines()) == 2


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    for flags, environ in (({"config": tmp_path / "no.toml"}, {}), ({}, {"FARM_CONFIG": str(tmp_path / "no.toml")})):
        with pytest.raises(InputError, match=r"no\.toml' was not found"):
            settings.load(flags, environ)


def test_a_file_that_is_not_toml_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("project = 'a'\nkeepalive_s 3\n")
    with pytest.raises(InputError, match=r"bad\.toml' is not valid TOML.*line 2"):
        settings.load({"config": tmp_path / "bad.toml"}, {})


def test_a_folder_in_place_of_the_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        settings.load({"config": tmp_path}, {})


def test_a_variable_that_looks_like_a_setting_is_warned_of_with_the_nearest_name() -> None:
    found = settings.load({}, {"FARM_DATABSE_URL": "sqlite:///x.db", "FARMYARD": "1", "FARM_PROJECT": "p"})
    assert found.warnings() == (
        "Environment variable FARM_DATABSE_URL is not a setting of benchfarm and was ignored."
        " Did you mean 'FARM_DATABASE_URL'?",
    )


def test_flag_wins_over_environment_over_file_over_default(home: Path) -> None:
    file = home / ".config" / "benchfarm" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text('project = "file"\nkeepalive_s = 7\nlease_ttl_s = 20\n')
    found = settings.load({"project": "flag"}, {"FARM_PROJECT": "environment", "FARM_KEEPALIVE_S": "9"})
    assert (found.project, found.keepalive_s, found.lease_ttl_s, found.connect_timeout_s) == ("flag", 9.0, 20.0, 15.0)
    origins = found.origins()
    assert [origins[key] for key in ("project", "keepalive_s", "lease_ttl_s", "connect_timeout_s")] == [
        "flag",
        "environment",
        f"file {file}",
        "default",
    ]


def test_every_key_has_an_origin_and_a_description() -> None:
    assert set(settings.load({}, {}).origins()) == set(settings.Settings.model_fields)
    assert all(field.description for field in settings.Settings.model_fields.values())


def test_database_and_blobs_follow_the_data_folder(home: Path) -> None:
    found = settings.load({}, {"FARM_DATA_DIR": "~/lab"})
    assert (found.database_url, found.blobs_dir) == (f"sqlite:///{home}/lab/farm.db", home / "lab" / "blobs")


def test_a_relative_data_folder_is_a_database_below_the_working_directory(home: Path) -> None:
    assert settings.load({"data_dir": "lab"}, {}).database_url == f"sqlite:///{home}/lab/farm.db"


def test_paths_in_a_file_are_relative_to_the_file(home: Path) -> None:
    (home / "etc").mkdir()
    (home / "etc" / "farm.toml").write_text('inventory = "boards.yaml"\nssh_keys = ["key", "/root/key"]\n')
    found = settings.load({"config": "etc/farm.toml"}, {})
    assert found.inventory == home / "etc" / "boards.yaml"
    assert found.ssh_keys == (home / "etc" / "key", Path("/root/key"))


def test_keys_in_a_variable_are_separated_like_a_path() -> None:
    assert settings.load({}, {"FARM_SSH_KEYS": "/a/one:/b/two"}).ssh_keys == (Path("/a/one"), Path("/b/two"))


def test_the_inventory_is_found_here_then_in_the_configuration_folder(home: Path) -> None:
    assert settings.load({}, {}).inventory is None
    (home / ".config" / "benchfarm").mkdir(parents=True)
    (home / ".config" / "benchfarm" / "inventory.yaml").write_text("boards: []\n")
    assert settings.load({}, {}).inventory == home / ".config" / "benchfarm" / "inventory.yaml"
    (home / "inventory.yaml").write_text("boards: []\n")
    assert settings.load({}, {}).inventory == Path("inventory.yaml")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql+psycopg://farm:s3cret@db/farm", "postgresql+psycopg://farm:***@db/farm"),
        ("postgresql+psycopg://farm:s3@cret@db/farm", "postgresql+psycopg://farm:***@db/farm"),
        (
            "postgresql+psycopg://db/farm?user=a&password=s3cret&x=1",
            "postgresql+psycopg://db/farm?user=a&password=***&x=1",
        ),
        ("sqlite:////var/lib/farm.db", "sqlite:////var/lib/farm.db"),
    ],
)
def test_a_password_in_a_url_is_never_shown(url: str, shown: str) -> None:
    found = settings.load({"database_url": url}, {})
    assert found.database_url == url
    assert found.shown()["database_url"] == shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://bench/blobs?endpoint_url=https://m.lab:9000", "s3://bench/blobs?endpoint_url=https://m.lab:9000"),
        ("s3://AKIA:s3cret@bench/blobs", "s3://AKIA:***@bench/blobs"),
        ("s3://bench?endpoint_url=https://AKIA:s3cret@m.lab", "s3://bench?endpoint_url=https://AKIA:***@m.lab"),
        ("s3://bench?endpoint_url=https%3a%2f%2fa%3as3cret%40m", "s3://bench?endpoint_url=https%3a%2f%2fa%3a***%40m"),
        ("s3://bench?aws_secret_access_key=s3cret&region=x", "s3://bench?aws_secret_access_key=***&region=x"),
        ("s3://bench?aws_session_token=s3cret", "s3://bench?aws_session_token=***"),
    ],
)
def test_what_should_not_be_in_the_url_of_the_blobs_is_not_shown_either(url: str, shown: str) -> None:
    assert settings.load({}, {"FARM_BLOBS_URL": url}).shown()["blobs_url"] == shown


def test_without_a_url_the_blobs_are_in_their_folder() -> None:
    assert settings.load({}, {}).blobs_url is None
