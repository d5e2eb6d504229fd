"""The host keys of boards that we pinned: a file of our own in OpenSSH's known_hosts format.

Nobody's ~/.ssh/known_hosts is read, so that a board is trusted because someone looked at it here, and nothing but this
file has to travel to a second coordinator. Lines may be copied in from elsewhere, hashed names and @revoked included.
"""

from __future__ import annotations

import os
from pathlib import Path

import asyncssh

from farm.errors import InputError

# The order and meaning of what asyncssh calls known hosts: trusted keys, trusted CA keys, revoked keys, then X.509.
Trusted = tuple[
    list[asyncssh.SSHKey], list[asyncssh.SSHKey], list[asyncssh.SSHKey], list[str], list[str], list[str], list[str]
]


def host_name(host: str, port: int) -> str:
    """A host as a known_hosts file spells it."""
    return host.lower() if port == 22 else f"[{host.lower()}]:{port}"


def fingerprint(key: asyncssh.SSHKey) -> str:
    """A key as people compare it: `ssh-ed25519 SHA256:...`."""
    return f"{key.get_algorithm()} {key.get_fingerprint()}"


def pinned(file: Path, host: str, port: int) -> Trusted:
    """What is known of a host; all lists are empty where it was never pinned. Raises InputError for a broken file."""
    try:
        text = file.read_text() if file.exists() else ""
        found = asyncssh.import_known_hosts(text).match(host_name(host, port), "", None)
    except (OSError, ValueError) as error:
        raise InputError(
            f"The file of pinned host keys {file} cannot be used: {error}. Correct or remove that line."
        ) from None
    return tuple(list(part) for part in found)  # type: ignore[return-value]


def pin(file: Path, host: str, port: int, key: asyncssh.SSHKey) -> None:
    """Trust this key for this host from now on. The caller has asked a person."""
    line = f"{host_name(host, port)} {key.export_public_key().decode().strip()}\n"
    try:
        file.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
        with os.fdopen(os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600), "a+") as handle:
            handle.seek(0)
            text = handle.read()
            handle.write(line if not text or text.endswith("\n") else "\n" + line)
    except OSError as error:
        raise InputError(
            f"The host key cannot be pinned: {file}: {error.strerror}. Make it writable, or set `known_hosts`."
        ) from None
