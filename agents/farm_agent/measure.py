"""The supervisor: one session on one board. Holds its lock, answers requests, tells each Block's story, tidies up.

    measure --home DIR --farm ID --token N --ttl-s S --holder WHO [--python PY] [--root /]

Ends with its stdin, a signal, the lease's end or a higher token; whichever it is, no process of a Block lives on, every
knob is as it was and the lock is free. Exit status: 0 ended, 2 wrong options, 3 the board was refused.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time

from farm_agent import cgroup, child, guard, quiet, wire
from farm_agent.block import Session, Story, short_child
from farm_agent.failure import describe
from farm_agent.loop import Loop, Stop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional

ALIVE_S = 5.0
GUARD_S = 1.0
PROBE_S = 60.0
FAREWELL_S = 2.0
OPTIONS = {  # name -> default; "" = required
    "--home": "~/.benchfarm",
    "--farm": "",
    "--token": "",
    "--ttl-s": "",
    "--holder": "",
    "--python": sys.executable,
    "--root": "/",
    "--source": sys.argv[0],
}


def main(argv: List[str]) -> int:
    """Run one session to its end."""
    try:
        options = read_options(argv)
    except ValueError as error:
        sys.stderr.write("The agent did not start: %s. See the agent's words in the documentation.\n" % error)
        return 2
    # From here on a stray print goes to stderr and cannot corrupt the protocol.
    events_fd = fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, child.HIGH_FD)
    os.dup2(2, 1)
    zip_path = os.path.abspath(sys.argv[0])
    try:
        return Supervisor(options, zip_path, events_fd).run()
    except Exception:  # noqa: BLE001 - the door: a traceback never exits 1
        sys.excepthook(*sys.exc_info())
        return 70
    finally:
        if zip_path == os.path.join(options["--home"], "run", "%d.zip" % os.getpid()):
            os.unlink(zip_path)


def read_options(argv: List[str]) -> Dict[str, Any]:
    """The options by name, checked. Raises ValueError naming the option."""
    values: Dict[str, Any] = dict(OPTIONS)
    for name, value in zip(argv[::2], argv[1::2]):
        if name not in OPTIONS:
            raise ValueError("option %s is not known; known: %s" % (name, " ".join(OPTIONS)))
        values[name] = value
    if len(argv) % 2:
        raise ValueError("option %s has no value" % argv[-1])
    missing = [name for name in OPTIONS if values[name] == ""]
    if missing:
        raise ValueError("option %s is missing" % missing[0])
    for name, kind in (("--token", int), ("--ttl-s", float)):
        try:
            values[name] = kind(values[name])
        except ValueError:
            raise ValueError("option %s is %r, not a number" % (name, values[name])) from None
    if not 0 < values["--ttl-s"] < float("inf"):
        raise ValueError("option --ttl-s is %r, not a positive number" % values["--ttl-s"])
    values["--home"] = os.path.abspath(os.path.expanduser(values["--home"]))
    values["--root"] = os.path.abspath(values["--root"])
    return values


class Supervisor:
    """One session."""

    def __init__(self, options: Dict[str, Any], zip_path: str, events_fd: int) -> None:
        self._options = options
        self._loop = Loop(0, events_fd, self._on_line)
        home = options["--home"]
        marker = "%08x" % child.name_hash(home)
        python = find_program(options["--python"])
        self._session = Session(home, options["--root"], zip_path, sys.executable, python, marker)
        self._cpus = sorted(os.sched_getaffinity(0))
        self._guard: Optional[guard.Guard] = None
        self._quiet: Optional[quiet.Quiet] = None
        self._waiting: Optional[wire.Block] = None
        self._story: Optional[Story] = None
        self._is_greeted = False
        self._renew(options["--ttl-s"])

    def run(self) -> int:
        """The session from lock to release; returns the exit status."""
        reason, status = "eof", 0
        try:
            os.makedirs(self._session.home, exist_ok=True)
            os.chdir(self._session.home)
            self._lock()
            self._greet()
            while True:
                self._loop.turn(ALIVE_S)
                if self._waiting is not None:
                    self._measure(self._waiting)
        except guard.Refused as error:
            self._loop.emit("error", code=error.code, message=str(error))
            reason, status = "refused", 3
        except Stop as stop:
            reason = stop.reason
        except Exception as error:  # this session's door: say it, tidy up, and let main tell the rest
            self._loop.emit("error", code="bug", message="The agent failed: %r. Please report this." % error)
            raise
        finally:
            self._tidy_up()
        self._loop.emit("end", reason=reason)
        self._loop.farewell(FAREWELL_S)
        return status

    def _lock(self) -> None:
        options = self._options
        self._guard = guard.Guard(
            options["--root"], options["--home"], options["--farm"], options["--token"], options["--holder"]
        )
        self._loop.every(GUARD_S, self._check_lease)
        self._guard.acquire(self._loop.turn)
        self._loop.on_signal = lambda: "superseded" if self._guard and self._guard.is_superseded() else "signal"

    def _greet(self) -> None:
        """Clean up after a predecessor, calm the board, then say hello: the probe sees the board as it is measured."""
        assert self._guard is not None
        notes = list(self._guard.notes)
        self._quiet = quiet.Quiet(self._options["--root"], self._session.home)
        notes += self._quiet.restore_leftovers()
        strays = child.kill_marked(self._session.marker)
        if strays:
            notes.append("%d processes of an earlier Block were still there; they were killed." % len(strays))
        cgroup.remove_leftovers(self._options["--root"], "benchfarm-" + self._session.marker)
        remove_old_zips(os.path.join(self._session.home, "run"))
        self._quiet.write()
        found = self._probe(notes)
        self._loop.emit(
            "hello",
            wire=wire.VERSION,
            measure=wire.MEASURE_VERSION,
            agent=os.path.basename(self._options["--source"]).rpartition(".")[0],
            token=self._options["--token"],
            pid=os.getpid(),
            python="%d.%d.%d" % sys.version_info[:3],
            t_ns=time.monotonic_ns(),
            unix_ns=time.time_ns(),
            probe=found,
        )
        self._is_greeted = True
        for note in notes:
            self._loop.emit("note", block=None, text=note)
        self._loop.every(ALIVE_S, self._say_alive)

    def _probe(self, notes: List[str]) -> Optional[Dict[str, Any]]:
        words = ["probe", "--json", "--root", self._options["--root"], "--python", self._session.python]
        words += ["--home", self._session.home]
        found, status, tail = short_child(self._loop, self._session, words, "", PROBE_S, self._session.marker + "probe")
        if not isinstance(found, dict):
            notes.append("The board's probe gave no answer: %s. %s" % (describe(status), tail))
            return None
        return found

    def _measure(self, block: wire.Block) -> None:
        threads = block.plan.options.get("threads", 1)
        cpus = self._cpus_of(threads if type(threads) is int and threads > 0 else 1)
        self._story = Story(self._loop, self._session, block, cpus)
        self._story.facts["knobs"] = self._quiet.facts if self._quiet else []
        self._waiting = None
        try:
            self._story.tell()
        finally:
            self._story = None

    def _cpus_of(self, threads: int) -> Dict[str, Any]:
        cpus = quiet.share_cpus(self._cpus, threads)
        os.sched_setaffinity(0, cpus["supervisor"])
        return cpus

    def _on_line(self, line: bytes) -> None:
        if not line.strip():
            return
        try:
            request = wire.loads(line, "do")
            answer = getattr(self, "_do_" + request["do"], None)
            if answer is None:
                raise wire.WireError("the request %.40r is not known" % request["do"])
            answer(request)
        except wire.WireError as error:
            self._refuse("bad_request", str(error))

    def _do_measure(self, request: Dict[str, Any]) -> None:
        block = wire.block_from(request.get("block"))
        if self._story is not None or self._waiting is not None:
            self._refuse("busy", "Block %d was not taken: another one is in hand. Wait for its `done`." % block.index)
        else:
            self._waiting = block

    def _do_ping(self, request: Dict[str, Any]) -> None:
        self._loop.emit("pong", n=request.get("n"), t_ns=time.monotonic_ns(), unix_ns=time.time_ns())

    def _do_renew(self, request: Dict[str, Any]) -> None:
        ttl_s = request.get("ttl_s")
        if isinstance(ttl_s, bool) or not isinstance(ttl_s, (int, float)) or not 0 < ttl_s < float("inf"):
            raise wire.WireError("renew.ttl_s is %.40r; a positive number is needed" % (ttl_s,))
        self._renew(ttl_s)

    def _do_cancel(self, request: Dict[str, Any]) -> None:
        self._waiting = None
        if self._story is not None and not self._story.is_told:
            self._story.cancel()

    def _do_bye(self, request: Dict[str, Any]) -> None:
        raise Stop("bye")

    def _refuse(self, code: str, message: str) -> None:
        self._loop.emit("error", code=code, message=message)

    def _renew(self, ttl_s: float) -> None:
        self._lease_end = time.monotonic() + ttl_s

    def _check_lease(self) -> None:
        if time.monotonic() >= self._lease_end:
            raise Stop("ttl")
        if self._guard is not None and self._guard.is_superseded():
            raise Stop("superseded")

    def _say_alive(self) -> None:
        self._loop.emit("alive", t_ns=time.monotonic_ns())

    def _tidy_up(self) -> None:
        if self._quiet is not None:
            self._quiet.restore()
        if self._guard is not None:
            self._guard.release()


def find_program(name: str) -> str:
    """The path of a program given by path or, without a slash, by name; the name itself where it is not found."""
    if "/" in name:
        return os.path.expanduser(name)
    paths = (os.path.join(folder, name) for folder in os.get_exec_path())
    return next((path for path in paths if os.access(path, os.X_OK)), name)


def remove_old_zips(folder: str) -> None:
    """Remove the compiled agents of sessions that are over."""
    for name in os.listdir(folder) if os.path.isdir(folder) else []:
        pid = name.partition(".")[0]
        if pid.isdigit() and not os.path.exists("/proc/" + pid):
            os.unlink(os.path.join(folder, name))
