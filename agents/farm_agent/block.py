"""The story of one Block on the board: prepare, sampler, subject, its end, its columns; and nothing left behind."""

from __future__ import annotations

import os
import time

from farm_agent import columns, failure, limits, messages, wire
from farm_agent.cgroup import Cgroup
from farm_agent.child import MARKER, Child, Tail, kill_marked
from farm_agent.failure import BlockEnd
from farm_agent.messages import Messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional

    from farm_agent.loop import Loop

PREPARE_S = 900.0  # hashing gigabytes from a slow card
EXIT_S = 10.0  # for the subject after its last message, and for the sampler to write its columns
SAMPLER_CAPACITY = 2_000_000


class Session:
    """What a Block needs to know of the session it is measured in."""

    def __init__(self, home: str, root: str, zip_path: str, agent_python: str, python: str, marker: str) -> None:
        self.home, self.root, self.zip_path = home, root, zip_path
        self.agent_python, self.python, self.marker = agent_python, python, marker
        self.work = os.path.join(home, "w")


class Story:
    """One Block from request to `done`."""

    def __init__(self, loop: Loop, session: Session, block: wire.Block, cpus: Dict[str, Any]) -> None:
        self._loop, self._session, self._block, self._cpus = loop, session, block, cpus
        self._limits = wire.limits_from(block.plan.limits)
        self._name = session.marker + os.urandom(4).hex()
        self.facts: Dict[str, Any] = {"cpus": cpus}
        self._messages = Messages(self._tell_stage)
        self._tail, self._out = Tail(), Tail()
        self._cgroup: Optional[Cgroup] = None
        self._subject: Optional[Child] = None
        self._sampler: Optional[Child] = None
        self._sampler_tail = Tail()
        self.is_told = False  # the `block` event is out: a cancel comes too late

    def tell(self) -> None:
        """Measure the Block and emit its events. Raises Stop only; nothing of the Block is left then either."""
        ready: List[columns.Column] = []
        reasons: List[Dict[str, Any]] = []
        outcome = "OK"
        try:
            try:
                self._measure()
                ready = columns.find("c", self._messages.columns) + self._sampled()
            except BlockEnd as end:
                outcome, reasons = end.outcome, [end.reason()]
            except OSError as error:
                outcome, reasons = "BROKEN", [failure.board_io(error, self._block).reason()]
            finally:
                self._clean_processes()
            self.is_told = True
            self._loop.emit(
                "block",
                block=self._block.index,
                outcome=outcome,
                reasons=reasons,
                stages=self._messages.stages,
                facts=dict(self._messages.facts, **self.facts),
                columns=len(ready),
            )
            for column in ready:
                for part in column.parts():
                    self._loop.drain(64 << 10)
                    self._loop.emit("column", block=self._block.index, **part)
            self._loop.emit("done", block=self._block.index)
        finally:
            for column in ready:
                column.close()
            os.chdir(self._session.home)
            remove_tree(self._session.work)

    def cancel(self) -> None:
        """End the Block in hand. Raises BlockEnd into `tell` through the loop."""
        raise BlockEnd("CANCELLED", "cancelled", "A person cancelled the Block.", None)

    def _measure(self) -> None:
        self._prepare()
        self._set_table()
        if self._block.plan.sensor_hz:
            self._start_sampler()
        before = limits.oom_kills_of_board()
        self._start_subject()
        hurry = self._attend()
        self._finish(hurry, before)

    def _prepare(self) -> None:
        block, artifacts = self._block, os.path.join(self._session.home, "artifacts")
        request = {
            "folder": os.path.join(artifacts, block.artifact),
            "files": dict(block.files),
            "feed": os.path.join(artifacts, block.feed_file) if block.feed_file else "",
            "feed_sha256": block.feed_file.split("/")[0],
            "cache": block.plan.cache,
        }
        answer, status, tail = short_child(
            self._loop, self._session, ["prepare"], wire.dumps(request), PREPARE_S, self._session.marker + "prepare"
        )
        if not isinstance(answer, dict):
            raise failure.prepare_failed(block, status, tail)
        if "failed" in answer:
            why = answer["failed"]
            raise BlockEnd("BROKEN", why["code"], why["text"], why["blame"])
        for note in answer.pop("notes"):
            self._loop.emit("note", block=block.index, text=note)
        self.facts["cache"] = answer.pop("cache")
        self.facts["resident_bytes"] = answer["resident_bytes"]
        self.facts["prepared"] = answer

    def _set_table(self) -> None:
        """A fresh work folder with short fixed names: path lengths move a process's memory."""
        session, block = self._session, self._block
        remove_tree(session.work)
        os.makedirs(os.path.join(session.work, "c"))
        os.chdir(session.work)
        os.mkdir("s")
        os.symlink(session.zip_path, "a")
        bytes_of = os.path.join(session.home, "artifacts", block.artifact)
        if len(block.files) == 1:  # by whatever name it came: two Arms are to be alike in all but their bytes
            os.mkdir("m")
            os.symlink(os.path.join(bytes_of, block.entry), os.path.join("m", _as_loaded(block).entry))
        else:
            os.symlink(bytes_of, "m")
        if block.feed_file:
            os.symlink(os.path.join(session.home, "artifacts", block.feed_file), "f.npz")

    def _start_sampler(self) -> None:
        plan = self._block.plan
        capacity = min(SAMPLER_CAPACITY, int((self._limits.run_s + EXIT_S) * plan.sensor_hz) + 100)
        request = {
            "root": self._session.root,
            "sensors": list(plan.sensors),
            "hz": plan.sensor_hz,
            "capacity": capacity,
            "cpus": self._cpus["sampler"],
        }
        env = dict(plain_environment(), **{MARKER: self._session.marker + "sampler"})
        argv = [self._session.agent_python, "-I", "-S", "./a", "sampler"]
        self._sampler = Child(self._loop, argv, env, {1: Tail(0), 2: self._sampler_tail})
        self._sampler.send(wire.dumps(request), close=False)

    def _start_subject(self) -> None:
        session, plan = self._session, self._block.plan
        env = subject_environment(plan.options.get("threads", 1))
        self.facts["environment"] = dict(env)
        argv = [session.python, "-I", "./a", "subject"]
        sinks: Dict[int, Callable[[bytes], None]] = {1: self._out, 2: self._tail, 3: self._messages}
        self._cgroup = Cgroup(
            session.root, "benchfarm-" + self._name, self._limits.memory_bytes, self._limits.processes
        )
        self._spawned_ns = time.monotonic_ns()
        try:
            self._subject = Child(self._loop, argv, dict(env, **{MARKER: self._name}), sinks)
        except OSError as error:
            raise failure.no_python(session.python, error) from None
        facts, backstop = limits.enforce(self._limits, self._subject.pid, self._cgroup)
        self.facts["limits"] = facts
        try:
            os.sched_setaffinity(self._subject.pid, self._cpus["subject"])
        except ProcessLookupError:
            pass  # it has ended already; its exit will tell
        job = {
            "block": wire.as_dict(_as_loaded(self._block)),
            "spawned_ns": self._spawned_ns,
            "cpus": self._cpus["subject"],
            "limits": wire.as_dict(self._limits),
            "backstop": backstop,
        }
        self._subject.send(wire.dumps(job), close=True)

    def _attend(self) -> str:
        """Turn the loop until the subject is over. Returns why it had to be hurried: "" or a reason code."""
        assert self._subject is not None
        begin = self._spawned_ns / 1e9
        while True:
            due, code = begin + self._limits.run_s, "timeout_run"
            if not self._messages.is_past("first") and begin + self._limits.load_s < due:
                due, code = begin + self._limits.load_s, "timeout_load"
            if self._messages.is_over:
                last = self._messages.over_ns / 1e9 + EXIT_S
                due, code = min((due, code), (last, "slow_exit"))
            now = time.monotonic()
            if self._subject.has_ended():
                return ""
            if now >= due:
                return code
            self._loop.turn(due - now)
            if self._messages.fault:
                return "garbage"
            if self._tail.seen_bytes + self._out.seen_bytes > self._limits.output_bytes:
                return "flood"

    def _finish(self, hurry: str, oom_before: Optional[int]) -> None:
        """End the subject and decide what became of it. Raises BlockEnd unless it gave a result."""
        assert self._subject is not None
        assert self._cgroup is not None
        strays = kill_marked(self._name, self._cgroup.pids())  # first: of a killed group none may be left to count
        self._subject.kill()
        status = self._subject.end()
        self.facts["exit"] = {"status": status, "ended_ns": time.monotonic_ns(), "spawned_ns": self._spawned_ns}
        others = [pid for pid in strays if pid != self._subject.pid]
        if others:
            self._note("The subject left %d processes; they were killed." % len(others))
        peak = self._cgroup.peak_bytes()
        if peak is not None:
            self.facts["cgroup_peak_bytes"] = peak
        oom_after, oom = limits.oom_kills_of_board(), self._cgroup.oom_kills()
        if oom is None and status == -9 and not hurry and None not in (oom_before, oom_after):
            oom = int(oom_after or 0) - int(oom_before or 0)
        seen = failure.Seen(self._block, self._limits, self._messages, status, self._tail.text(), hurry, oom or 0)
        end = failure.classify(seen)
        if end is not None:
            raise end
        if status != 0:
            self._note("The subject had given its result, then ended with %s." % failure.describe(status))

    def _sampled(self) -> List[columns.Column]:
        """End the sampler; its columns. A sampler that fails costs its columns, not the Block."""
        if self._sampler is None:
            return []
        is_early = self._sampler.has_ended()
        self._sampler.close_stdin()
        deadline = time.monotonic() + EXIT_S
        while not self._sampler.has_ended() and time.monotonic() < deadline:
            self._loop.turn(deadline - time.monotonic())
        status = self._sampler.end()
        try:
            index = messages.parse(columns.read_small("s/index.json", 1 << 20))
            found = columns.find("s", index.pop("columns"))
            self.facts["sampler"] = index
        except (OSError, ValueError, KeyError, TypeError, RecursionError, BlockEnd) as error:
            seen = self._sampler_tail.text(300)
            self._note("The sampler (%s) left no columns: %s. %s" % (failure.describe(status), error, seen))
            self.facts["sampler"] = {"failed": True, "status": status, "text": seen}
            return []
        if is_early:
            self._note("The sampler (%s) ended before the Block did." % failure.describe(status))
            self.facts["sampler"].update(failed=True, status=status)
        return found

    def _clean_processes(self) -> None:
        """Whatever happened: no process of the Block lives on. Calls nothing that turns the loop."""
        for child in (self._subject, self._sampler):
            if child is not None:
                child.kill()
        kill_marked(self._name, self._cgroup.pids() if self._cgroup else ())
        for child in (self._subject, self._sampler):
            if child is not None:
                child.end()
        if self._cgroup is not None:
            self._cgroup.remove()

    def _tell_stage(self, stage: str, t_ns: int) -> None:
        self._loop.emit("stage", block=self._block.index, stage=stage, t_ns=t_ns)
        if stage == "interpreter" and self._subject is not None:
            self.facts["limits"]["in_force"] = limits.in_force(self._subject.pid)

    def _note(self, text: str) -> None:
        self._loop.emit("note", block=self._block.index, text=text)


def _as_loaded(block: wire.Block) -> wire.Block:
    """The Block as the subject sees it: a single file has a name that depends on nothing but its suffix."""
    if len(block.files) != 1:
        return block
    entry = "e" + os.path.splitext(block.entry)[1]
    return wire.replace(block, entry=entry, files={entry: block.files[block.entry]})


def short_child(loop: Loop, session: Session, words: List[str], line: str, limit_s: float, marker: str) -> Any:
    """Run one word of the agent to its end: (its JSON answer or None, exit status, tail of stderr)."""
    tail, answer = Tail(), Tail(1 << 20)
    env = dict(plain_environment(), **{MARKER: marker})
    child = Child(loop, [session.agent_python, "-I", "-S", session.zip_path, *words], env, {1: answer, 2: tail})
    try:
        child.send(line, close=True)
        deadline = time.monotonic() + limit_s
        while not child.has_ended() and time.monotonic() < deadline:
            loop.turn(deadline - time.monotonic())
    finally:
        status = child.end()
    try:
        return messages.parse(answer.data()), status, tail.text()
    except (ValueError, RecursionError):
        return None, status, tail.text()


def plain_environment() -> Dict[str, str]:
    """The environment of every child, made new: nothing of the agent's own is handed on.

    HOME is the work folder they all start in, by its shortest name: the length of an environment moves memory.
    """
    return {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": ".", "LANG": "C.UTF-8"}


def subject_environment(threads: Any) -> Dict[str, str]:
    """What the subject's environment holds, beside its marker; measurement.md section 1 says why."""
    return dict(
        plain_environment(),
        ORT_DISABLE_TELEMETRY="1",
        ORT_TELEMETRY_DISABLED="1",
        OPENBLAS_NUM_THREADS="1",
        OMP_NUM_THREADS=str(threads if type(threads) is int else 1),
        MALLOC_TRIM_THRESHOLD_="131072",
        PYTHONHASHSEED="0",
    )


def remove_tree(path: str) -> None:
    """Remove a folder and all in it, following no symbolic link; nothing happens where there is none."""
    try:
        os.chmod(path, 0o700)
        entries = list(os.scandir(path))
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            remove_tree(entry.path)
        else:
            os.unlink(entry.path)
    os.rmdir(path)
