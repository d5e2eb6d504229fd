"""Boards by SSH: logins that must not work, host keys, and paths that break."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import asyncssh
import pytest

from farm import domain, errors, hostkeys, login, transport
from farm.settings import Settings
from tests import sshd

T = TypeVar("T")
HEEDS_EOF = "import os, sys; print(os.getpid(), flush=True); sys.stdin.read()"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[sshd.Server]:
    with sshd.asyncssh_server(tmp_path) as found:
        yield found


@pytest.fixture(params=[sshd.asyncssh_server, pytest.param(sshd.openssh_server, marks=pytest.mark.system)])
def any_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sshd.Server]:
    with request.param(tmp_path) as found:
        yield found


def _go(
    board: domain.Board,
    settings: Settings,
    story: Callable[[transport.Transport], Awaitable[T]],
    ask: transport.Ask | None = None,
) -> T:
    async def trip() -> T:
        async with transport.reach(board, settings, ask=ask) as open_now:
            return await story(open_now)

    return asyncio.run(trip())


async def _nothing(board: transport.Transport) -> str:
    return board.name


def _lines(server: sshd.Server) -> list[str]:
    return server.known_hosts.read_text().splitlines() if server.known_hosts.exists() else []


def _ends(pid: int) -> bool:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


# --- host keys


def test_an_unknown_host_key_is_shown_and_not_accepted(tmp_path: Path) -> None:
    with sshd.asyncssh_server(tmp_path, pin=False) as server:
        with pytest.raises(errors.HostKeyUnknown) as caught:
            _go(server.board(), server.settings(), _nothing)
        assert f"ssh-ed25519 {server.host_key.get_fingerprint()}" in str(caught.value)
        assert str(caught.value).endswith("farm probe pi")
        assert _lines(server) == []


def test_first_contact_asks_and_no_means_no(tmp_path: Path) -> None:
    asked: list[tuple[str, str]] = []
    with sshd.asyncssh_server(tmp_path, pin=False) as server:
        with pytest.raises(errors.HostKeyUnknown):
            _go(server.board(), server.settings(), _nothing, lambda *what: bool(asked.append(what)))
        assert asked == [(f"[127.0.0.1]:{server.port}", f"ssh-ed25519 {server.host_key.get_fingerprint()}")]
        assert _lines(server) == []


def test_first_contact_asks_once_and_pins_for_the_owner_only(tmp_path: Path) -> None:
    asked: list[str] = []
    with sshd.asyncssh_server(tmp_path, pin=False) as server:

        def yes(_: str, fingerprint: str) -> bool:
            asked.append(fingerprint)
            return True

        for _ in range(2):
            assert _go(server.board(), server.settings(), _nothing, yes) == "ssh"
        assert len(asked) == 1
        assert [line.split()[:2] for line in _lines(server)] == [[f"[127.0.0.1]:{server.port}", "ssh-ed25519"]]
        assert stat.S_IMODE(server.known_hosts.stat().st_mode) == 0o600


@pytest.mark.parametrize("kind", ["ssh-ed25519", "ecdsa-sha2-nistp256"])
def test_a_changed_host_key_is_refused_with_both_fingerprints(tmp_path: Path, kind: str) -> None:
    pinned = asyncssh.generate_private_key(kind)
    with sshd.asyncssh_server(tmp_path, pin=False) as server:
        hostkeys.pin(server.known_hosts, "127.0.0.1", server.port, pinned)
        with pytest.raises(errors.HostKeyChanged) as caught:
            _go(server.board(), server.settings(), _nothing, lambda *_: True)
        assert f"is ssh-ed25519 {server.host_key.get_fingerprint()}, but" in str(caught.value)
        assert f"{kind} {pinned.get_fingerprint()} was pinned" in str(caught.value)
        assert len(_lines(server)) == 1


def test_a_revoked_host_key_is_refused(server: sshd.Server) -> None:
    server.known_hosts.write_text(f"{_lines(server)[0]}\n@revoked {_lines(server)[0]}\n")
    with pytest.raises(errors.HostKeyChanged):
        _go(server.board(), server.settings(), _nothing, lambda *_: True)


def test_a_key_that_is_pinned_for_another_port_of_the_host_counts_for_nothing(server: sshd.Server) -> None:
    server.known_hosts.write_text(_lines(server)[0].replace(f"[127.0.0.1]:{server.port}", "127.0.0.1") + "\n")
    with pytest.raises(errors.HostKeyUnknown):
        _go(server.board(), server.settings(), _nothing)


def test_pinning_keeps_what_was_there_even_without_a_last_newline(tmp_path: Path) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    file = tmp_path / "deep" / "known_hosts"
    hostkeys.pin(file, "a", 22, key)
    file.write_text(file.read_text().rstrip("\n"))
    hostkeys.pin(file, "B", 2222, key)
    assert [line.split()[0] for line in file.read_text().splitlines()] == ["a", "[b]:2222"]
    assert hostkeys.pinned(file, "b", 2222)[0] == [key.convert_to_public()]


def test_a_broken_known_hosts_file_is_your_input(server: sshd.Server) -> None:
    server.known_hosts.write_text("@nonsense a b c\n")
    with pytest.raises(errors.InputError, match="cannot be used"):
        _go(server.board(), server.settings(), _nothing)


# --- logins


def test_a_wrong_user_key_is_told_from_an_unreachable_board(server: sshd.Server, tmp_path: Path) -> None:
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(tmp_path / "other")
    board = server.board(options={"keys": [str(tmp_path / "other")]})
    with pytest.raises(errors.BoardUnreachable, match=r"does not let .* in with any of our keys.*authorized_keys"):
        _go(board, server.settings(), _nothing)


@pytest.mark.parametrize("content", [None, "no key", "encrypted"])
def test_a_key_file_that_cannot_be_used_is_your_input(server: sshd.Server, tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "key"
    if content == "encrypted":
        asyncssh.generate_private_key("ecdsa-sha2-nistp256").write_private_key(file, "pkcs8-pem", "secret")
    elif content:
        file.write_text(content)
    with pytest.raises(errors.InputError, match="cannot be used"):
        _go(server.board(options={"keys": [str(file)]}), server.settings(), _nothing)


def test_keys_of_the_settings_are_used_where_the_board_names_none(server: sshd.Server) -> None:
    board = server.board(options={})
    assert _go(board, server.settings(ssh_keys=[str(server.client_key)]), _nothing) == "ssh"


def test_keys_that_are_no_list_are_your_input(server: sshd.Server) -> None:
    with pytest.raises(errors.InputError, match="a list of files is needed"):
        _go(server.board(options={"keys": "id_ed25519"}), server.settings(), _nothing)


def test_an_option_that_ssh_does_not_know_is_your_input(server: sshd.Server) -> None:
    with pytest.raises(errors.InputError, match=r"'kyes'.*known: keys"):
        _go(server.board(options={"kyes": []}), server.settings(), _nothing)


def test_a_dead_port_is_an_unreachable_board(server: sshd.Server) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        server.pin(port)
        with pytest.raises(errors.BoardUnreachable, match=r"refused.*Check that it is on"):
            _go(server.board(port=port), server.settings(), _nothing)


def test_a_port_that_never_answers_is_an_unreachable_board(server: sshd.Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        server.pin(port)
        with pytest.raises(errors.BoardUnreachable, match=r"no answer within 0\.3 s"):
            _go(server.board(port=port), server.settings(connect_timeout_s=0.3), _nothing)


def test_a_host_that_is_no_ssh_server_is_an_unreachable_board(server: sshd.Server) -> None:
    with sshd.proxy(server.port) as proxy:
        server.pin(proxy.port)
        proxy.cut_after_upload(1)
        with pytest.raises(errors.BoardUnreachable):
            _go(server.board(port=proxy.port), server.settings(), _nothing)


def test_a_host_without_an_address_is_an_unreachable_board(server: sshd.Server) -> None:
    board = replace(server.board(), address="bench@no-such-host.invalid")
    with pytest.raises(errors.BoardUnreachable, match="no such host"):
        _go(board, server.settings(), _nothing)


def test_a_board_without_sftp_is_refused(tmp_path: Path) -> None:
    with sshd.asyncssh_server(tmp_path, sftp=False) as server:
        with pytest.raises(errors.BoardRefused, match=r"has no SFTP.*openssh-sftp-server"):
            _go(server.board(), server.settings(), _nothing)


@pytest.mark.parametrize(
    ("address", "user", "host", "port"),
    [
        ("pi", "", "pi", 22),
        ("bench@pi:2222", "bench", "pi", 2222),
        ("bench@[::1]:2222", "bench", "::1", 2222),
        ("[::1]", "", "::1", 22),
    ],
)
def test_an_address_is_user_host_and_port(address: str, user: str, host: str, port: int) -> None:
    assert login.address_of(domain.Board("pi", "ssh", address)) == login.Address(user, host, port)


@pytest.mark.parametrize(
    "address", ["", "bench@", "pi:x", "pi:0", "pi:70000", "::1", "[::1", "[::1]22", "-oProxy", "pi:٣"]
)
def test_an_address_that_is_none_is_your_input(address: str) -> None:
    with pytest.raises(errors.InputError, match="is not"):
        login.address_of(domain.Board("pi", "ssh", address))


# --- paths that break


def test_a_frozen_path_is_lost_within_a_few_keepalives(any_server: sshd.Server) -> None:
    with sshd.proxy(any_server.port) as proxy:
        any_server.pin(proxy.port)

        async def story(board: transport.Transport) -> int:
            channel = await board.start([sys.executable, "-c", HEEDS_EOF])
            lines = channel.lines()
            pid = int(await anext(lines))
            proxy.freeze()
            for waiting in (anext(lines), channel.wait(60), board.run(["true"], timeout_s=60), board.free_bytes()):
                with pytest.raises(errors.ConnectionLost, match="not responding to keepalive"):
                    await waiting
            return pid

        pid = _go(any_server.board(port=proxy.port), any_server.settings(keepalive_s=0.5), story)
    assert _ends(pid)


def test_a_frozen_path_ends_a_push(server: sshd.Server, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"x" * (8 << 20))
    with sshd.proxy(server.port) as proxy:
        server.pin(proxy.port)
        with pytest.raises(errors.ConnectionLost):
            _go(
                server.board(port=proxy.port),
                server.settings(keepalive_s=0.5),
                lambda board: board.push(tmp_path / "m", "agents/m", progress=lambda *_: proxy.freeze()),
            )
    assert not (server.home / ".benchfarm/agents/m").exists()


def test_a_path_cut_in_the_middle_of_a_run_is_lost_and_the_program_ends(any_server: sshd.Server) -> None:
    with sshd.proxy(any_server.port) as proxy:
        any_server.pin(proxy.port)

        async def story(board: transport.Transport) -> int:
            channel = await board.start([sys.executable, "-c", HEEDS_EOF])
            lines = channel.lines()
            pid = int(await anext(lines))
            proxy.cut()
            with pytest.raises(errors.ConnectionLost):
                await anext(lines)
            with pytest.raises(errors.ConnectionLost):
                await channel.send("hello?")
            await channel.kill()
            return pid

        assert _ends(_go(any_server.board(port=proxy.port), any_server.settings(), story))


def test_an_upload_cut_in_the_middle_is_never_visible_and_the_next_one_works(
    any_server: sshd.Server, tmp_path: Path
) -> None:
    source = tmp_path / "m"
    source.write_bytes(b"x" * (8 << 20))
    folder = any_server.home / ".benchfarm/artifacts/a"
    with sshd.proxy(any_server.port) as proxy:
        any_server.pin(proxy.port)

        async def push(board: transport.Transport) -> None:
            proxy.cut_after_upload(3 << 20)
            await board.push(source, "artifacts/a/m")

        with pytest.raises(errors.ConnectionLost, match="artifacts/a/m"):
            _go(any_server.board(port=proxy.port), any_server.settings(), push)
    assert [path.name.split(".part-")[0] for path in folder.iterdir()] == ["m"]
    assert not (folder / "m").exists()
    _go(any_server.board(), any_server.settings(), lambda board: board.push(source, "artifacts/a/m"))
    assert (folder / "m").read_bytes() == source.read_bytes()


def test_a_slow_path_is_not_a_lost_one(server: sshd.Server) -> None:
    with sshd.proxy(server.port) as proxy:
        server.pin(proxy.port)
        proxy.delay(0.01)

        async def story(board: transport.Transport) -> tuple[int, bytes, bytes]:
            return await board.run(["echo", "hi"], timeout_s=30)

        settings = server.settings(keepalive_s=0.5)
        assert _go(server.board(port=proxy.port), settings, story) == (0, b"hi\n", b"")


def test_channels_of_one_connection_do_not_mix(server: sshd.Server, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"x" * 3_000_000)

    async def story(board: transport.Transport) -> list[bytes]:
        async def speak(number: int) -> bytes:
            channel = await board.start(["cat"])
            await channel.send(str(number) * 100_000)
            return await anext(channel.lines())

        answers = await asyncio.gather(*map(speak, range(5)), board.push(tmp_path / "m", "agents/m"))
        return [answer[:1] for answer in answers[:5] if answer]

    assert _go(server.board(), server.settings(), story) == [b"0", b"1", b"2", b"3", b"4"]


# --- disks


def test_a_disk_that_fills_up_in_the_middle_is_disk_full_and_the_part_goes(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"x" * (4 << 20))
    with sshd.asyncssh_server(tmp_path, disk_bytes=1 << 20) as server:  # a stand-in; the real one is marked `system`
        with pytest.raises(errors.DiskFull, match="is full"):
            _go(server.board(), server.settings(), lambda board: board.push(tmp_path / "m", "agents/m"))
        assert list((server.home / ".benchfarm/agents").iterdir()) == []


def test_free_space_comes_from_df_where_sftp_cannot_say(tmp_path: Path) -> None:
    with sshd.asyncssh_server(tmp_path, statvfs=False) as server:
        free_bytes = _go(server.board(), server.settings(), lambda board: board.free_bytes())
    assert free_bytes > 0
    assert free_bytes % 1024 == 0


def test_a_board_that_cannot_say_what_is_free_is_refused(tmp_path: Path) -> None:
    with sshd.asyncssh_server(tmp_path, statvfs=False, path="/nowhere") as server:
        with pytest.raises(errors.BoardRefused, match="does not say how much disk is free"):
            _go(server.board(), server.settings(), lambda board: board.free_bytes())


def test_the_default_home_is_below_the_users_own(server: sshd.Server) -> None:
    async def story(board: transport.Transport) -> str:
        return board.home

    assert _go(server.board(home=""), server.settings(), story) == str(server.home / ".benchfarm")
    assert _go(server.board(home="~/deep/bench"), server.settings(), story) == str(server.home / "deep/bench")
