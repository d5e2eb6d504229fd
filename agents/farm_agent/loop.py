"""The supervisor's one loop: requests in, events out, pipes of its children, signals and timers. No threads.

Whatever ends the session (end of file, a signal, the lease's end) is raised as `Stop` from `turn`, so the story of a
Block can be told in one straight line with a `finally`.
"""

from __future__ import annotations

import os
import select
import signal
import time

from farm_agent import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List

READ_BYTES = 64 << 10
WRITE_BYTES = 4096  # PIPE_BUF: what a pipe that polls writable takes without blocking
BACKLOG_BYTES = 4 << 20  # with so much unread by the coordinator, its requests wait
ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Stop(Exception):
    """The session is over. `reason` is a reason of the wire's `end` event."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Loop:
    """Polls everything; `on_line` gets each request's line, `on_signal` may name another reason to stop."""

    def __init__(self, fd_in: int, fd_out: int, on_line: Callable[[bytes], None]) -> None:
        self._in, self._out, self._on_line = fd_in, fd_out, on_line
        self._poll = select.poll()
        self._writable = select.poll()
        self._writable.register(fd_out, select.POLLOUT)
        self._handlers: Dict[int, Callable[[], None]] = {}
        self._timers: List[List[Any]] = []  # [due, period, function]
        self._inbox, self._outbox = bytearray(), bytearray()
        self._is_skipping = False  # the rest of a line that was too long
        self._is_deaf = False  # nobody reads our events any more
        self.on_signal: Callable[[], str] = lambda: "signal"
        self._wake = self._catch_signals()

    def watch(self, fd: int, handler: Callable[[], None], mask: int = select.POLLIN) -> None:
        """Call `handler` whenever `fd` is ready, until `unwatch`."""
        self._handlers[fd] = handler
        self._poll.register(fd, mask)

    def unwatch(self, fd: int) -> None:
        """Forget `fd`; it stays open."""
        if self._handlers.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def every(self, period_s: float, function: Callable[[], None]) -> None:
        """Call `function` about every `period_s` for as long as the loop turns. It may raise Stop."""
        self._timers.append([time.monotonic() + period_s, period_s, function])

    def emit(self, event: str, **fields: Any) -> None:
        """Queue one event. Never blocks and never raises for a reader that is gone: `turn` tells."""
        self._outbox += wire.dumps(dict(fields, event=event)).encode("ascii") + b"\n"
        self._write_some()

    def turn(self, timeout_s: float) -> None:
        """Wait for at most that long and handle what came. Raises Stop, and what handlers raise."""
        if self._is_deaf:
            raise Stop("eof")
        if b"\n" in self._inbox:  # the request before these ended its turn
            self._hear_lines()
        now = time.monotonic()
        wait_s = max(0.0, min([timeout_s] + [timer[0] - now for timer in self._timers]))
        self._poll.register(self._in, select.POLLIN if len(self._outbox) < BACKLOG_BYTES else 0)
        self._poll.register(self._out, select.POLLOUT if self._outbox else 0)
        for fd, mask in self._poll.poll(wait_s * 1000):
            if fd == self._out:
                if mask & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
                    self._is_deaf = True
                self._write_some()
            if fd == self._in and mask & (select.POLLIN | select.POLLHUP | select.POLLERR | select.POLLNVAL):
                self._read_some()
            elif fd == self._wake:
                self._hear_signals()
            elif fd in self._handlers:
                self._handlers[fd]()
        now = time.monotonic()
        for timer in self._timers:
            if timer[0] <= now:
                timer[0] = now + timer[1]
                timer[2]()

    def drain(self, down_to_bytes: int) -> None:
        """Turn until at most so much is unread by the coordinator. Raises Stop."""
        while len(self._outbox) > down_to_bytes:
            self.turn(1.0)

    def farewell(self, timeout_s: float) -> None:
        """Write what is queued, for at most that long; the last thing done with the coordinator. Never raises."""
        deadline = time.monotonic() + timeout_s
        while self._outbox and not self._is_deaf and time.monotonic() < deadline:
            self._writable.poll(100)
            self._write_some()

    def _write_some(self) -> None:
        while self._outbox and not self._is_deaf and self._writable.poll(0):
            try:
                written = os.write(self._out, self._outbox[:WRITE_BYTES])
            except BlockingIOError:
                return
            except OSError:  # EPIPE, or a terminal that hung up
                self._is_deaf = True
                return
            del self._outbox[:written]

    def _read_some(self) -> None:
        try:
            data = os.read(self._in, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            raise Stop("eof")
        self._inbox += data
        self._hear_lines()

    def _hear_lines(self) -> None:
        while True:
            line, newline, rest = self._inbox.partition(b"\n")
            if not newline:
                break
            self._inbox = rest  # before the request is heard: it may end the turn
            if not self._is_skipping:
                self._on_line(bytes(line))
            self._is_skipping = False
        if len(self._inbox) > wire.MAX_LINE_BYTES:
            if not self._is_skipping:
                self._on_line(bytes(self._inbox))  # refused there for its length
            self._is_skipping, self._inbox = True, bytearray()

    def _catch_signals(self) -> int:
        wake, written_by_python = os.pipe()
        for fd in (wake, written_by_python):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(written_by_python, warn_on_full_buffer=False)
        for number in (*ENDING_SIGNALS, signal.SIGCHLD):
            signal.signal(number, _nothing)  # Python then writes the number to the pipe
        self._poll.register(wake, select.POLLIN)
        return wake

    def _hear_signals(self) -> None:
        numbers = os.read(self._wake, 512)
        if any(number in ENDING_SIGNALS for number in numbers):
            raise Stop(self.on_signal())


def _nothing(number: int, frame: object) -> None:
    """A handler that is there so that the signal neither kills nor is lost."""
