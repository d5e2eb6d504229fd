"""The board's own lock: one agent at a time, fenced by the token of its lease.

One file for the whole machine, held by flock for as long as the holder lives; its content says who holds it, the
highest token seen of each farm, and what a newcomer asks for:

    {"holder": {"farm", "token", "pid", "started", "who", "since_unix_ns"} or null,
     "marks": {farm: token}, "request": {"farm", "token"} or null}

Of one farm, a higher token stops the holder and waits until it has restored the board; a lower one than the mark is
refused even where nobody holds the lock. Tokens of different farms say nothing to each other: first come, first served.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional

FILE_NAME = "benchfarm.lock"
LOG_BYTES = 256 << 10
MARKS_KEPT = 64
CONTENT_BYTES = 64 << 10


class Refused(Exception):
    """The board is not given. `code` is refused_token or busy; the text names who holds it and what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Guard:
    """The lock of one board, for one agent with one token."""

    def __init__(self, root: str, home: str, farm: str, token: int, who: str) -> None:
        self._me = {"farm": farm, "token": token, "pid": os.getpid(), "started": started(os.getpid()), "who": who}
        self._farm, self._token = farm, token
        self._log_path = os.path.join(home, "guard.log")
        self._path, self._fd = _open(root)
        self.is_held = False
        self.notes: List[str] = []

    def acquire(self, wait: Callable[[float], None], wait_s: float = 30.0) -> None:
        """Take the lock. `wait(seconds)` is called while a holder with a lower token cleans up. Raises Refused."""
        deadline = time.monotonic() + wait_s
        stopped = 0
        while True:
            with _Mutex(self._fd):
                content = self._read()
                self._check_mark(content)
                if self._flock():
                    self._take(content)
                    return
                holder = content["holder"]
                self._check_holder(holder)
                content["marks"][self._farm] = self._token
                content["request"] = {"farm": self._farm, "token": self._token}
                self._write(content)
            if stopped != holder["pid"]:
                stopped = holder["pid"]
                self._log("supersede", "asked token %d, pid %d, to end" % (holder["token"], stopped))
                self._signal(holder)
            if time.monotonic() > deadline:
                self._refuse("busy", holder, "it did not end within %g s of being asked" % wait_s)
            wait(0.05)

    def is_superseded(self) -> bool:
        """True where a higher token of the same farm asks for the board, or the lock's file was replaced."""
        if not self.is_held:
            return False
        request = self._read()["request"]
        asked = bool(request) and request["farm"] == self._farm and request["token"] > self._token
        return asked or not self._is_same_file()

    def release(self) -> None:
        """Give the lock back; the mark stays. Only after every knob is restored."""
        if self.is_held:
            self.is_held = False
            try:
                with _Mutex(self._fd):
                    content = self._read()
                    content["holder"] = None
                    self._write(content)
            except Refused:
                pass  # whoever is stuck there will read that we left from the flock
            self._log("release", "")
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _check_mark(self, content: Dict[str, Any]) -> None:
        mark = content["marks"].get(self._farm, self._token)
        if self._token < mark:
            self._refuse("refused_token", content["holder"], "token %d of the same farm was here before" % mark)

    def _check_holder(self, holder: Optional[Dict[str, Any]]) -> None:
        if holder is None:
            self._refuse("busy", None, "someone holds its file without saying who")
        elif holder["farm"] != self._farm:
            self._refuse("busy", holder, _whose(holder["farm"], self._farm))
        elif holder["token"] >= self._token:
            self._refuse("busy", holder, "another process holds it with token %d" % holder["token"])

    def _take(self, content: Dict[str, Any]) -> None:
        left = content["holder"]
        if left is not None:
            self.notes.append(
                "The agent of %s (token %d, pid %d) ended without giving the board back."
                % (left["who"], left["token"], left["pid"])
            )
        marks = content["marks"]
        marks.pop(self._farm, None)
        marks[self._farm] = self._token
        content["marks"] = {farm: marks[farm] for farm in list(marks)[-MARKS_KEPT:]}
        content["request"] = None
        content["holder"] = dict(self._me, since_unix_ns=time.time_ns())
        self._write(content)
        self.is_held = True
        self._log("acquire", "")

    def _refuse(self, code: str, holder: Optional[Dict[str, Any]], seen: str) -> None:
        by = "nobody" if holder is None else "%s (pid %d, token %d)" % (holder["who"], holder["pid"], holder["token"])
        self._log("refuse", "%s: %s; held by %s" % (code, seen, by))
        advice = "Ask the farm for a new lease." if code == "refused_token" else "Wait until it is released, or end it."
        raise Refused(code, "The board was not given to token %d: %s; held by %s. %s" % (self._token, seen, by, advice))

    def _signal(self, holder: Dict[str, Any]) -> None:
        if started(holder["pid"]) != holder["started"]:
            return  # that pid is somebody else by now, or lives in another container
        try:
            os.kill(holder["pid"], signal.SIGTERM)
        except OSError:
            pass  # another user's: it reads our request within a second

    def _flock(self) -> bool:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def _is_same_file(self) -> bool:
        try:
            there, mine = os.stat(self._path), os.fstat(self._fd)
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)

    def _read(self) -> Dict[str, Any]:
        """The content; anybody can write to that file, so whatever is not as it should be counts as absent."""
        try:
            data = json.loads(os.pread(self._fd, CONTENT_BYTES, 0))
        except (ValueError, RecursionError):
            data = None
        data = data if isinstance(data, dict) else {}
        marks = data.get("marks")
        marks = marks if isinstance(marks, dict) else {}
        return {
            "holder": _shaped(data.get("holder"), {"farm": str, "token": int, "pid": int, "started": int, "who": str}),
            "marks": {farm: token for farm, token in marks.items() if type(token) is int},
            "request": _shaped(data.get("request"), {"farm": str, "token": int}),
        }

    def _write(self, content: Dict[str, Any]) -> None:
        data = (json.dumps(content, sort_keys=True) + "\n").encode()
        os.pwrite(self._fd, data, 0)
        os.ftruncate(self._fd, len(data))

    def _log(self, what: str, why: str) -> None:
        line = dict(self._me, what=what, why=why, unix_ns=time.time_ns())
        try:
            if os.path.exists(self._log_path) and os.path.getsize(self._log_path) > LOG_BYTES:
                os.replace(self._log_path, self._log_path + ".1")
            fd = os.open(self._log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            self.notes.append("guard.log could not be written: %s." % error)
            return
        try:
            os.write(fd, (json.dumps(line, sort_keys=True) + "\n").encode())
        finally:
            os.close(fd)


class _Mutex:
    """A short POSIX record lock around reading and writing the content; apart from the flock that means holding."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __enter__(self) -> None:
        deadline = time.monotonic() + 2
        while True:
            try:
                fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EAGAIN):
                    raise
                if time.monotonic() > deadline:
                    raise Refused(
                        "busy",
                        "The board was not given: another agent is stuck while it writes the lock's file. "
                        "Look for a stopped benchfarm agent on the board and end it.",
                    ) from None
                time.sleep(0.01)

    def __exit__(self, *_: object) -> None:
        fcntl.lockf(self._fd, fcntl.LOCK_UN)


def started(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0 where there is none (with the pid, its true name)."""
    try:
        with open("/proc/%d/stat" % pid, "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, IndexError):
        return 0


def _shaped(data: Any, fields: Dict[str, type]) -> Optional[Dict[str, Any]]:
    if isinstance(data, dict) and all(type(data.get(name)) is kind for name, kind in fields.items()):
        return data
    return None


def _open(root: str) -> Any:
    """(path, fd) of the lock's file. An existing one is opened without O_CREAT: in a sticky folder the kernel
    refuses O_CREAT on another user's file (fs.protected_regular)."""
    problems = []
    for folder in ("run/lock", "tmp"):
        path = os.path.join(root, folder, FILE_NAME)
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        for more in (0, os.O_CREAT | os.O_EXCL, 0):  # the third: someone created it between the first and the second
            try:
                fd = os.open(path, flags | more, 0o666)
            except OSError as error:
                problems.append("%s: %s" % (path, error.strerror))
                continue
            if more:
                os.fchmod(fd, 0o666)  # whatever the umask: every user of the board must see the same lock
            return path, fd
    raise Refused(
        "busy",
        "The board's lock cannot be opened: %s. Give every user the right to write there." % "; ".join(problems[-3:]),
    )


def _whose(theirs: str, ours: str) -> str:
    """Which other farm holds it. A farm's name is "farm/board" where the coordinator gave the Board's name, too."""
    farm, _, board = theirs.partition("/")
    if board and farm == ours.partition("/")[0]:
        return "this farm holds the same machine as board '%s'" % board
    return "another farm holds it"
