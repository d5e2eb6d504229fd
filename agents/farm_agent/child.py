"""A child of the supervisor: its own session and process group, pipes that are drained, an end that leaves nothing.

The lifeline: every child holds the read end of a pipe of which only the supervisor holds the write end, armed
(fcntl(2), F_SETSIG and O_ASYNC) so that the kernel kills the child's whole group the moment the supervisor is gone,
however it went.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import time
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Dict, Iterable, List, Mapping, Optional, Sequence

    from farm_agent.loop import Loop

F_SETSIG = 10  # linux/fcntl.h; the fcntl module does not name it
LIFELINE_FD = 4
HIGH_FD = 10  # our ends live above the fds a child is given, so that no dup2 runs over another
READ_BYTES = 64 << 10
MARKER = "BENCHFARM_BLOCK"  # in the environment of every child: how strays are found


class Child:
    """One running program. `sinks` says who gets the bytes of its fds, by number; EOF is b""."""

    def __init__(
        self,
        loop: Loop,
        argv: Sequence[str],
        env: Mapping[str, str],
        sinks: Mapping[int, Callable[[bytes], None]],
    ) -> None:
        self._loop = loop
        self._status: Optional[int] = None
        self._pending = bytearray()
        self._closes_stdin = False
        self._reads: Dict[int, Callable[[bytes], None]] = {}
        ours, theirs = {}, {}
        theirs[0], ours[0] = _pipe()
        theirs[LIFELINE_FD], ours[LIFELINE_FD] = _pipe()
        for number in sinks:
            ours[number], theirs[number] = _pipe()
        self._stdin, self._lifeline = ours[0], ours[LIFELINE_FD]
        try:
            self.pid = _spawn(argv, env, [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in theirs.items()])
            _arm(theirs[LIFELINE_FD], self.pid)
        except OSError:
            for fd in ours.values():
                os.close(fd)
            raise
        finally:
            for fd in theirs.values():
                os.close(fd)
        os.set_blocking(self._stdin, False)
        for number, sink in sinks.items():
            os.set_blocking(ours[number], False)
            self._reads[ours[number]] = sink
            loop.watch(ours[number], _bound(self._read, ours[number]))

    def send(self, line: str, close: bool) -> None:
        """Queue one line for its stdin, and end of file after it where `close`."""
        self._pending += line.encode("utf-8") + b"\n"
        self._closes_stdin = close
        self._loop.watch(self._stdin, self._write, select.POLLOUT)

    def close_stdin(self) -> None:
        """End of file for the child, now."""
        if self._stdin >= 0:
            self._loop.unwatch(self._stdin)
            os.close(self._stdin)
            self._stdin = -1

    def has_ended(self) -> bool:
        """True once it has exited; it is not reaped before `end`, so its pid and group stay its own."""
        return self._status is not None or (
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        )

    def kill(self) -> None:
        """Kill its whole group; its pipes stay to be read."""
        if self._status is None:
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def end(self) -> Optional[int]:
        """Kill its whole group, drain and close its pipes, reap it. Returns its exit status (negative: signal).

        None where the kernel does not let it die. Safe to call again, and never raises Stop.
        """
        if self._status is None:
            self.kill()
            self._reap(10.0)
            for fd in list(self._reads):
                for _ in range(64):  # a stray that still writes must not hold us
                    if not self._read(fd):
                        break
                self._close_read(fd)
            self.close_stdin()
            if self._lifeline >= 0:
                os.close(self._lifeline)
                self._lifeline = -1
        return self._status

    def _reap(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
                return
            time.sleep(0.002)

    def _read(self, fd: int) -> bool:
        try:
            data = os.read(fd, READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        sink = self._reads[fd]
        if not data:
            self._close_read(fd)
        sink(data)
        return bool(data)

    def _close_read(self, fd: int) -> None:
        if self._reads.pop(fd, None) is not None:
            self._loop.unwatch(fd)
            os.close(fd)

    def _write(self) -> None:
        try:
            written = os.write(self._stdin, self._pending)
        except BlockingIOError:
            return
        except OSError:  # it does not read; how it ends will be told by its exit
            self.close_stdin()
            return
        del self._pending[:written]
        if not self._pending:
            self._loop.unwatch(self._stdin)
            if self._closes_stdin:
                self.close_stdin()


class Tail:
    """The last bytes of a stream, and how many there were."""

    def __init__(self, keep_bytes: int = 4096) -> None:
        self.seen_bytes = 0
        self._keep, self._data = keep_bytes, bytearray()

    def __call__(self, data: bytes) -> None:
        self.seen_bytes += len(data)
        self._data += data
        del self._data[: max(0, len(self._data) - self._keep)]

    def data(self) -> bytes:
        """What was kept."""
        return bytes(self._data)

    def text(self, limit: int = 800) -> str:
        """Its last lines for a person, control characters taken out."""
        lines = [printable(line) for line in self._data.decode("utf-8", "replace").splitlines()]
        return " | ".join(line for line in lines if line.strip())[-limit:]


def printable(text: str) -> str:
    """The text without control, format and unassigned characters; a tab becomes a space."""
    return "".join(c if c.isprintable() else " " if c == "\t" else "" for c in text)


def name_hash(name: str) -> int:
    """A short number for a name, to mark processes with."""
    return zlib.crc32(name.encode("utf-8", "surrogateescape"))


def kill_marked(prefix: str, more: Iterable[int] = ()) -> List[int]:
    """Kill every process whose environment has MARKER=<prefix>…, and `more`; returns the pids that were killed.

    Looks again until none is found, as a process may fork while it is looked for.
    """
    wanted = ("%s=%s" % (MARKER, prefix)).encode()
    killed: List[int] = []
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        found = [pid for pid in {*_marked(wanted), *more} if pid != os.getpid() and _kill(pid)]
        if not found:
            break
        killed.extend(pid for pid in found if pid not in killed)
        more = ()
        time.sleep(0.005)
    return killed


def _marked(wanted: bytes) -> List[int]:
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open("/proc/%s/environ" % name, "rb") as file:
                if any(entry.startswith(wanted) for entry in file.read(READ_BYTES).split(b"\0")):
                    found.append(int(name))
        except OSError:
            continue  # gone, or another user's
    return found


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        return False
    return True


def _pipe() -> Sequence[int]:
    """(read end, write end), both above HIGH_FD and closed on exec."""
    low = os.pipe()
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH_FD) for fd in low]
    for fd in low:
        os.close(fd)
    return high


def _spawn(argv: Sequence[str], env: Mapping[str, str], actions: Sequence[object]) -> int:
    # Python ignores these two, and what is ignored stays so across exec.
    defaults = [signal.SIGPIPE, signal.SIGXFSZ]
    try:
        return os.posix_spawn(argv[0], argv, env, file_actions=actions, setsid=True, setsigdef=defaults)  # type: ignore[arg-type]
    except NotImplementedError:  # an old C library: a group of its own without a session of its own
        return os.posix_spawn(argv[0], argv, env, file_actions=actions, setpgroup=0, setsigdef=defaults)  # type: ignore[arg-type]


def _arm(fd: int, pid: int) -> None:
    fcntl.fcntl(fd, fcntl.F_SETOWN, -pid)
    fcntl.fcntl(fd, F_SETSIG, int(signal.SIGKILL))
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)


def _bound(function: Callable[[int], bool], fd: int) -> Callable[[], None]:
    def handle() -> None:
        function(fd)

    return handle
