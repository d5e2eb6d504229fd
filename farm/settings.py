"""Settings: each key once; its flag, environment variable FARM_<KEY> and config.toml key share the name.

A flag wins over the environment, that over the file, that over the default.
`farm settings` prints all with their origin.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError

from farm.errors import InputError

PREFIX = "FARM_"
CONFIG_VARIABLE = "FARM_CONFIG"  # names the file itself, so it cannot be a key within it
TOKEN_VARIABLE = "FARM_TOKEN"  # noqa: S105 - a secret is no setting: it is never shown, and no flag gives it
PATHS = ("data_dir", "blobs_dir", "inventory", "known_hosts", "notifiers", "ssh_keys")


def data_home() -> Path:
    """Where a user's data is kept on this machine (XDG base directories)."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "benchfarm"


def config_home() -> Path:
    """Where a user's configuration is kept on this machine (XDG base directories)."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "benchfarm"


def _found(name: str) -> Path | None:
    """Where a file is that need not be named: here, else beside the settings file."""
    return next((place for place in (Path(name), config_home() / name) if place.exists()), None)


def _expanded(value: Any) -> Any:
    return Path(value).expanduser() if isinstance(value, (str, Path)) and str(value) else value


def _split(value: Any) -> Any:
    return [part for part in value.split(os.pathsep) if part] if isinstance(value, str) else value


Where = Annotated[Path, BeforeValidator(_expanded)]
Places = Annotated[tuple[Where, ...], BeforeValidator(_split)]
Name = Annotated[str, Field(min_length=1)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=1000)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseModel):
    """Every setting of the coordinator, checked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data_dir: Where = Field(default_factory=data_home, description="folder of the database and of the blobs")
    database_url: Name = Field(
        default_factory=lambda data: f"sqlite:///{data['data_dir'].absolute() / 'farm.db'}",
        description="SQLAlchemy URL of the database: sqlite:///… or postgresql+psycopg://…",
    )
    blobs_dir: Where = Field(
        default_factory=lambda data: data["data_dir"] / "blobs",
        description="folder of artifacts and raw samples, or their cache where blobs_url names a bucket",
    )
    blobs_url: Name | None = Field(
        default=None,
        description="artifacts and raw samples elsewhere: s3://bucket/prefix?endpoint_url=…&region=… or file:///folder",
    )
    blobs_cache_bytes: Annotated[int, Field(gt=0, le=2**53)] = Field(
        default=20 << 30, description="most that blobs_dir holds where it caches a bucket; what is in use stays"
    )
    inventory: Where | None = Field(
        default_factory=lambda: _found("inventory.yaml"),
        description="inventory.yaml, which names the boards; without one there is just the board `local`",
    )
    known_hosts: Where = Field(
        default_factory=lambda data: data["data_dir"] / "known_hosts", description="file of the pinned SSH host keys"
    )
    ssh_keys: Places = Field(default=(), description="private key files for SSH, beside the SSH agent's")
    connect_timeout_s: Positive = Field(default=15.0, description="longest wait for an SSH connection")
    keepalive_s: Positive = Field(default=3.0, description="seconds between SSH keepalives; three lost ones end it")
    lease_ttl_s: Positive = Field(default=30.0, description="how long a lease on a board lives without renewal")
    notifiers: Where | None = Field(
        default_factory=lambda: _found("notifiers.yaml"),
        description="notifiers.yaml, which says who is told what; without one nobody is",
    )
    cool_down_s: NotNegative = Field(default=60.0, description="pause before a NOISY run is tried again")
    redis_url: str | None = Field(
        default=None, description="redis://… of the message broker; without one `farm up` finds or starts its own"
    )
    site: Name = Field(default="default", description="where this worker is: it serves the boards of its site")
    slots: Count = Field(default=16, description="how many runs a worker carries out at once")
    api_host: Name = Field(default="127.0.0.1", description="address on which the REST API listens")
    api_port: Annotated[int, Field(ge=0, le=65535)] = Field(default=8470, description="its port; 0: any that is free")
    upload_limit_bytes: Annotated[int, Field(gt=0, le=2**53)] = Field(
        default=8 << 30, description="largest file that the REST API takes"
    )
    upload_idle_s: Positive = Field(
        default=30.0, description="how long a client of the REST API may send or take nothing before it is given up"
    )
    project: Name = Field(default="default", description="the Project that owns what is submitted")
    main_branch: Name = Field(
        default="main", description="the branch whose passing jobs `last-passing` stands for, in this farm's gates"
    )
    url: Name | None = Field(
        default=None, description="the farm to submit to, such as https://farm.lab; by default the one of `farm login`"
    )
    allow_http: bool = Field(
        default=False, description="true sends the token in the clear, to a url of http:// that is not this machine"
    )

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)
    _warnings: tuple[str, ...] = PrivateAttr(default=())

    def origins(self) -> Mapping[str, str]:
        """Where each key's value came from: flag, environment, a file (which) or default."""
        return self._origins

    def warnings(self) -> tuple[str, ...]:
        """What the user should know of the environment: variables that look like settings and are none."""
        return self._warnings

    def shown(self) -> dict[str, Any]:
        """Every key with its value as it may be printed: no password."""
        return {key: redacted(value) if isinstance(value, str) else value for key, value in self}


def load(flags: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings from flags, environment and file. `flags` holds only what was given; `config` names the file.

    Raises InputError with every wrong value, where it came from and what is needed.
    """
    given = dict(flags or {})
    environment = os.environ if environ is None else environ
    file = given.pop("config", None) or environment.get(CONFIG_VARIABLE)
    path = Path(file).expanduser() if file else config_home() / "config.toml"
    values: dict[str, Any] = {}
    origins = dict.fromkeys(Settings.model_fields, "default")
    variables = {key: environment[name] for key in origins if (name := PREFIX + key.upper()) in environment}
    for source, found in (
        (f"file {path}", _from_file(path, required=bool(file))),
        ("environment", variables),
        ("flag", given),
    ):
        values.update(found)
        origins.update(dict.fromkeys(found, source))
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise InputError(_explained(error, origins)) from None
    settings._origins.update(origins)
    settings._warnings = _strangers(environment)
    return settings


def redacted(url: str) -> str:
    """A URL without its password, also where it is one of its options or within one of these."""
    url = re.sub(r"(?i)((?::|%3A)(?:/|%2F){2}(?:(?!%3A|%2F|%40)[^:/?@])*)(:|%3A).*(@|%40)", r"\1\2***\3", url)
    return re.sub(r"(?i)((?:password|secret|token|key)\w*=)[^&]*", r"\1***", url)


def _from_file(path: Path, *, required: bool) -> dict[str, Any]:
    try:
        text = path.read_text("utf-8")
        data = tomllib.loads(text)
    except (FileNotFoundError, NotADirectoryError):
        if required:
            raise InputError(
                f"Settings file '{path}' was not found. Give an existing file with --config or {CONFIG_VARIABLE}."
            ) from None
        return {}
    except OSError as error:
        raise InputError(
            f"Settings file '{path}' cannot be read: {error.strerror}. Correct its rights or name another (--config)."
        ) from None
    except ValueError as error:  # TOML and UTF-8 alike
        raise InputError(f"Settings file '{path}' is not valid TOML: {error}. Correct that line.") from None
    unknown = [
        f"{path}:{_line_of(text, key)}: there is no setting '{key}'.{_nearest(key, Settings.model_fields)}"
        for key in data
        if key not in Settings.model_fields
    ]
    if unknown:
        raise InputError("\n".join([*unknown, "`farm settings` lists every setting."]))
    return {key: _beside(path, key, value) for key, value in data.items()}


def _beside(path: Path, key: str, value: Any) -> Any:
    """Paths in a file are relative to it, not to where the command happens to run."""
    if isinstance(value, list):
        return [_beside(path, key, part) for part in value]
    if key not in PATHS:
        return value
    return path.absolute().parent / Path(value).expanduser() if isinstance(value, str) and value else value


def _line_of(text: str, key: str) -> int:
    pattern = re.compile(rf"\s*\[?\s*[\"']?{re.escape(key)}\b")
    return next((number for number, line in enumerate(text.splitlines(), 1) if pattern.match(line)), 1)


def _nearest(key: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    return f" Did you mean '{near[0]}'?" if near else ""


def _explained(error: ValidationError, origins: Mapping[str, str]) -> str:
    lines = []
    for problem in error.errors():
        key = str(problem["loc"][0])
        origin = origins.get(key, "flag")
        name = {"environment": PREFIX + key.upper(), "flag": "--" + key.replace("_", "-")}.get(origin, origin)
        need = problem["msg"][0].lower() + problem["msg"][1:]
        seen = problem["input"]
        shown = redacted(seen) if isinstance(seen, str) else seen
        lines.append(f"Setting '{key}' is {shown!r} ({name}): {need}. Correct it or leave it out.")
    return "\n".join(lines)


def _strangers(environ: Mapping[str, str]) -> tuple[str, ...]:
    known = {PREFIX + key.upper(): key for key in Settings.model_fields}
    known |= {CONFIG_VARIABLE: "config", TOKEN_VARIABLE: "token"}
    return tuple(
        f"Environment variable {name} is not a setting of benchfarm and was ignored.{_nearest(name, known)}"
        for name in sorted(environ)
        if name.startswith(PREFIX) and name not in known
    )
