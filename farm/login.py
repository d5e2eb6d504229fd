"""How one logs in to a board by SSH: its address, our keys, and its host key, which has to be pinned."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import asyncssh

from farm import hostkeys
from farm.domain import Board
from farm.errors import (
    BoardRefused,
    BoardUnreachable,
    ConnectionLost,
    DiskFull,
    FarmError,
    HostKeyChanged,
    HostKeyUnknown,
    InputError,
)
from farm.settings import Settings
from farm.transport import Ask, check_options, end_tasks

OPTIONS: Mapping[str, str] = {"keys": "private key files that may log in there; then no others are tried"}
# The fastest first: by SFTP on loopback 275 MB/s with aes128-gcm, 225 with aes256-gcm, 216 with chacha20.
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes128-ctr")
LOST_KEEPALIVES = 3
CLOSE_S = 2.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Address:
    """Where and as whom to log in."""

    user: str  # "" = as here
    host: str
    port: int = 22


def address_of(board: Board) -> Address:
    """The board's `address`: [user@]host[:port], an IPv6 host in brackets. Raises InputError."""
    user, _, place = board.address.rpartition("@")
    if place.startswith("["):
        host, bracket, port = place[1:].partition("]")
        port = port.removeprefix(":") if bracket and port[:1] in ("", ":") else "?"
    elif place.count(":") > 1:
        host, port = place, "?"
    else:
        host, _, port = place.partition(":")
    port = port or "22"
    if not host or host.startswith("-") or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise InputError(
            f"Board {board.name!r} has the address {board.address!r}, which is not [user@]host[:port]. "
            "Correct it in inventory.yaml; an IPv6 address goes in brackets."
        )
    return Address(user, host, int(port))


class Link:
    """An open connection to a board, that knows when it is lost."""

    def __init__(self, board: str, connection: asyncssh.SSHClientConnection, lost: asyncio.Future[str]) -> None:
        self.board = board
        self.connection = connection
        self._lost = lost

    async def do(self, what: str, action: Awaitable[T]) -> T:
        """Run one remote operation; it never outlives the connection, and its errors become ours."""
        task: asyncio.Future[T] = asyncio.ensure_future(action)
        try:
            await asyncio.wait((task, self._lost), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await end_tasks(task)
            raise
        if not task.done():
            await end_tasks(task)
            raise self.lost(what)
        try:
            return task.result()
        except (asyncssh.SFTPNoSpaceOnFilesystem, asyncssh.SFTPQuotaExceeded) as error:
            raise DiskFull(
                f"The disk of board {self.board!r} is full: cannot {what}: {error}. Free some space there."
            ) from error
        except (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection, asyncssh.DisconnectError, OSError) as error:
            raise self.lost(what) from error
        except asyncssh.Error as error:
            if self._lost.done():
                raise self.lost(what) from error
            raise BoardRefused(
                f"Board {self.board!r} cannot {what}: {error}. Check the mode, owner and disk of its folder there."
            ) from error

    def is_lost(self) -> bool:
        """True once the path is broken."""
        return self._lost.done()

    def lost(self, what: str) -> ConnectionLost:
        """The error that says that the path broke, and why."""
        why = self._lost.result() if self._lost.done() else "the channel was closed"
        return ConnectionLost(
            f"The connection to board {self.board!r} was lost (to {what}): {why}. Check its network and power; "
            "work in hand is tried again."
        )


@contextlib.asynccontextmanager
async def logged_in(board: Board, settings: Settings, ask: Ask | None) -> AsyncIterator[Link]:
    """An open connection to the board.

    Raises BoardUnreachable, HostKeyUnknown (`ask` is None or said no), HostKeyChanged, InputError for a key file.
    """
    address = address_of(board)
    options = check_options(board, OPTIONS)
    keys = _private_keys(board, options.get("keys", settings.ssh_keys))
    trusted = hostkeys.pinned(settings.known_hosts, address.host, address.port)
    with _unreachable(board, address, settings.connect_timeout_s):
        if not any(trusted):
            trusted = await _first_contact(board, address, settings, ask)
        lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        login: dict[str, Any] = {"username": address.user} if address.user else {}
        login |= {"client_keys": keys} if keys else {}
        login |= {"agent_path": None} if "keys" in options else {}
        try:
            async with asyncio.timeout(settings.connect_timeout_s):
                connection, _ = await asyncssh.create_connection(
                    lambda: _Client(lost),
                    address.host,
                    address.port,
                    known_hosts=trusted,
                    config=None,
                    encryption_algs=CIPHERS,
                    preferred_auth=["publickey"],
                    keepalive_interval=settings.keepalive_s,
                    keepalive_count_max=LOST_KEEPALIVES,
                    **login,
                )
        except asyncssh.PermissionDenied:
            raise
        except asyncssh.DisconnectError as error:  # not only HostKeyNotVerifiable: a key of another kind ends it sooner
            await _compare_host_key(board, address, settings, trusted, error)
            raise
    try:
        yield Link(board.name, connection, lost)
    finally:
        connection.close()
        try:
            async with asyncio.timeout(CLOSE_S):
                await connection.wait_closed()
        except TimeoutError:
            connection.abort()
            await connection.wait_closed()


class _Client(asyncssh.SSHClient):
    def __init__(self, lost: asyncio.Future[str]) -> None:
        self._lost = lost

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._lost.done():
            self._lost.set_result(str(exc) if exc else "the other side closed it")


def _private_keys(board: Board, paths: Any) -> list[asyncssh.SSHKey]:
    if isinstance(paths, str) or not all(isinstance(path, str | Path) for path in paths):
        raise InputError(f"Board {board.name!r} has keys {paths!r}; a list of files is needed. Correct inventory.yaml.")
    keys = []
    for path in paths:
        file = Path(path).expanduser()
        try:
            keys.append(asyncssh.read_private_key(file))
        except (OSError, asyncssh.KeyImportError) as error:
            seen = error.strerror if isinstance(error, OSError) else error
            raise InputError(
                f"The key {file} for board {board.name!r} cannot be used: {seen}. Name a private key without "
                "passphrase, or add it to the SSH agent (ssh-add) and name no keys."
            ) from None
    return keys


async def _host_key(address: Address, settings: Settings) -> asyncssh.SSHKey:
    async with asyncio.timeout(settings.connect_timeout_s):
        key = await asyncssh.get_server_host_key(address.host, address.port, config=None)
    assert key is not None  # only GSS key exchange has none, and it is off
    return key


async def _first_contact(board: Board, address: Address, settings: Settings, ask: Ask | None) -> hostkeys.Trusted:
    key = await _host_key(address, settings)
    host, seen = hostkeys.host_name(address.host, address.port), hostkeys.fingerprint(key)
    if ask is None or not ask(host, seen):
        raise HostKeyUnknown(
            f"The host key of board {board.name!r} ({host}) is not pinned; it shows {seen}. Nothing was sent. Compare "
            "it with `ssh-keygen -lf` of the board's own /etc/ssh/ssh_host_*_key.pub, then pin it: "
            f"farm probe {board.name}"
        )
    hostkeys.pin(settings.known_hosts, address.host, address.port, key)
    return hostkeys.pinned(settings.known_hosts, address.host, address.port)


async def _compare_host_key(
    board: Board, address: Address, settings: Settings, trusted: hostkeys.Trusted, error: Exception
) -> None:
    key = await _host_key(address, settings)
    if key in trusted[0] and key not in trusted[2]:
        return
    host, expected = hostkeys.host_name(address.host, address.port), map(hostkeys.fingerprint, trusted[0])
    raise HostKeyChanged(
        f"The host key of board {board.name!r} ({host}) is {hostkeys.fingerprint(key)}, but "
        f"{' or '.join(expected) or 'another'} was pinned. Nothing was sent. Another machine may answer in its place. "
        f"If the board was set up anew: ssh-keygen -R '{host}' -f {settings.known_hosts}, then farm probe {board.name}"
    ) from error


@contextlib.contextmanager
def _unreachable(board: Board, address: Address, timeout_s: float) -> Iterator[None]:
    where = f"Board {board.name!r} cannot be reached at {hostkeys.host_name(address.host, address.port)}"
    try:
        yield
    except FarmError:
        raise
    except socket.gaierror as error:
        raise BoardUnreachable(f"{where}: no such host ({error.strerror}). Correct its `address`.") from error
    except ConnectionRefusedError as error:
        raise BoardUnreachable(
            f"{where}: the connection was refused. Check that it is on and that its sshd listens there."
        ) from error
    except TimeoutError as error:
        raise BoardUnreachable(
            f"{where}: no answer within {timeout_s:g} s. Check its power and network, and any firewall."
        ) from error
    except asyncssh.PermissionDenied as error:
        raise BoardUnreachable(
            f"{where}: it answers, but does not let {address.user or 'this user'} in with any of our keys. Put the "
            "public key into ~/.ssh/authorized_keys there (ssh-copy-id), or name the right `keys`."
        ) from error
    except (OSError, asyncssh.Error) as error:
        raise BoardUnreachable(f"{where}: {error}. Check that it is on and that its sshd listens there.") from error
