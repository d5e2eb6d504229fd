"""Which farm, and what lets us in: its URL and a token, kept in credentials.json for this user alone."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import httpx

from farm.errors import InputError, NotSignedIn
from farm.settings import config_home, redacted

VERSION = 1  # of the file; 1: version, url, token


@dataclass(frozen=True, slots=True)
class Credentials:
    """A farm's URL and a token that it takes."""

    url: str
    token: str

    def __repr__(self) -> str:
        return f"Credentials({self.url!r})"


def path() -> Path:
    """Where they are kept."""
    return config_home() / "credentials.json"


def load() -> Credentials | None:
    """Those of the last `farm login`; None where there are none. Raises InputError for a file that is none of ours."""
    file = path()
    try:
        data = json.loads(file.read_text("utf-8"))
        if data["version"] != VERSION:
            raise ValueError(f"its version is {data['version']!r}, not {VERSION}")
        return Credentials(str(data["url"]), str(data["token"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputError(f"'{file}' cannot be read: {error.strerror}. Correct its rights, or `farm logout`.") from None
    except (ValueError, KeyError, TypeError) as error:
        seen = str(error) if isinstance(error, ValueError) and "version" in str(error) else "it is not what was written"
        raise InputError(f"'{file}' cannot be used: {seen}. Sign in again: `farm login URL`.") from None


def save(credentials: Credentials) -> Path:
    """Keep them, readable by this user alone, whole or not at all. Raises InputError."""
    file = path()
    text = json.dumps({"version": VERSION, "url": credentials.url, "token": credentials.token}, indent=2) + "\n"
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=".credentials-")  # of mode 0600
        part = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"The token cannot be kept in '{file}': {error.strerror}. Make the folder yours, or use FARM_TOKEN."
        ) from None
    return file


def forget() -> bool:
    """Remove them; False where there were none. Raises InputError."""
    try:
        path().unlink()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise InputError(f"'{path()}' cannot be removed: {error.strerror}. Remove it by hand.") from None
    return True


def checked_url(text: str, *, allow_http: bool = False) -> str:
    """A farm's URL without what follows its path. Raises InputError."""
    try:
        url = httpx.URL(text.strip())
    except httpx.InvalidURL as error:
        raise InputError(f"The farm's URL cannot be used: {error}. Write it like https://farm.lab.") from None
    if url.userinfo:
        raise InputError("The farm's URL holds a user name or a password. Remove it; `farm login` takes a token.")
    is_address = url.scheme in ("http", "https") and url.host and (url.port is None or 0 < url.port < 65536)
    if not is_address or url.query or url.fragment:
        raise InputError(f"The farm's URL '{redacted(text)}' is not an address alone. Write it like https://farm.lab.")
    if url.scheme == "http" and not allow_http and not is_loopback(url.host):
        raise InputError(
            f"The farm's URL '{text}' is http:// to another machine: everyone on the way could read the token."
            " Nothing was sent. Use https://; or, where the network is your own, set allow_http (--allow-http true)."
        )
    return str(url).rstrip("/").removesuffix("/api/v1").rstrip("/")


def checked_token(text: str) -> str:
    """A token as it can be sent. Raises NotSignedIn, without showing it."""
    token = text.strip()
    if not re.fullmatch(r"[!-~]{1,500}", token):
        seen = "is empty" if not token else "has characters that no token has, or too many"
        raise NotSignedIn(f"The token {seen}. Copy all of it, as it was shown when it was made, and nothing else.")
    return token


def is_loopback(host: str) -> bool:
    """Whether that host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
