"""Calm the board, say what was changed, and put it back: each knob an object with show, write and restore.

Old values are saved durably in `<home>/restore.json` before the first write, so that the next agent can put back what a
killed one left. Where the user may not write, that is recorded with its reason and the measurement goes on.
Kernel sources: Documentation/admin-guide/pm/cpufreq.rst, Documentation/admin-guide/mm/transhuge.rst.
"""

from __future__ import annotations

import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Sequence

RESTORE_FILE = "restore.json"


class Knob:
    """One small kernel file. `wanted` None: only shown, never written."""

    def __init__(self, name: str, path: str, wanted: Optional[str]) -> None:
        self.name, self.path, self.wanted = name, path, wanted

    def show(self) -> Optional[str]:
        """The value now; None where it cannot be read."""
        try:
            with open(self.path, encoding="ascii", errors="replace") as file:
                return file.read().strip()
        except OSError:
            return None

    def write(self, value: str) -> str:
        """Set it; returns "" or why it could not be set."""
        try:
            fd = os.open(self.path, os.O_WRONLY | os.O_TRUNC)
            try:
                os.write(fd, value.encode("ascii"))
            finally:
                os.close(fd)
        except OSError as error:
            return error.strerror or str(error)
        now = self.show()
        return "" if now == value else "the kernel kept %r" % now


def knobs(root: str) -> List[Knob]:
    """Every knob of this board, sorted by name."""
    found = []
    base = os.path.join(root, "sys/devices/system/cpu/cpufreq")
    for policy in sorted(os.listdir(base)) if os.path.isdir(base) else []:
        path = os.path.join(base, policy, "scaling_governor")
        if policy.startswith("policy") and os.path.exists(path):
            known = Knob("", os.path.join(base, policy, "scaling_available_governors"), None).show()
            wanted = "performance" if known is None or "performance" in known.split() else None
            found.append(Knob("governor." + policy, path, wanted))
    path = os.path.join(root, "sys/kernel/mm/transparent_hugepage/enabled")
    if os.path.exists(path):
        found.append(Knob("transparent_hugepage", path, None))
    return found


class Quiet:
    """The knobs of one board, in the hands of one agent that holds its lock."""

    def __init__(self, root: str, home: str) -> None:
        self._knobs = knobs(root)
        self._path = os.path.join(home, RESTORE_FILE)
        self._boot = Knob("", os.path.join(root, "proc/sys/kernel/random/boot_id"), None).show() or ""
        self._home = home
        self._written: Dict[str, Dict[str, str]] = {}  # knob -> was, wrote
        self.facts: List[Dict[str, Any]] = []

    def restore_leftovers(self) -> List[str]:
        """Put back what a killed agent left; returns a line for a person for each knob, [] where there is nothing."""
        try:
            with open(self._path, encoding="utf-8") as file:
                saved = json.load(file)
            same_boot = saved["boot"] == self._boot
            self._written = {
                str(name): {"was": str(v["was"]), "wrote": str(v["wrote"])} for name, v in saved["knobs"].items()
            }
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            self._forget()
            return ["%s could not be read (%s); check the governor by hand." % (self._path, error)]
        if not same_boot:  # the reboot has put everything back
            self._forget()
            return []
        return ["An agent was killed before it could tidy up. " + line for line in self.restore()]

    def write(self) -> None:
        """Set every knob that has a wanted value, the old ones saved first; fills `facts`."""
        changing = {k.name: k for k in self._knobs if k.wanted is not None and k.show() not in (None, k.wanted)}
        problem = self._save(
            {name: {"was": knob.show() or "", "wrote": knob.wanted or ""} for name, knob in changing.items()}
        )
        for knob in self._knobs:
            was, reason = knob.show(), ""
            if knob.wanted is None:
                reason = "only shown"
            elif knob.name in changing:
                reason = problem or knob.write(knob.wanted)
                if reason and knob.show() == was:
                    self._written.pop(knob.name, None)
            self.facts.append(
                {
                    "name": knob.name,
                    "was": was,
                    "now": knob.show(),
                    "written": knob.name in self._written,
                    "reason": reason,
                }
            )
        if not self._written:
            self._forget()

    def restore(self) -> List[str]:
        """Put every written knob back; returns a line for a person for each. May be called again."""
        lines: List[str] = []
        failed: Dict[str, Dict[str, str]] = {}
        by_name = {knob.name: knob for knob in self._knobs}
        for name, values in sorted(self._written.items()):
            knob = by_name.get(name)
            now = knob.show() if knob else None
            if knob is None or now != values["wrote"]:
                lines.append("%s is %s, not the %s we wrote: left alone." % (name, now, values["wrote"]))
                continue
            problem = knob.write(values["was"])
            lines.append("%s: %s" % (name, problem or "%s -> %s" % (now, values["was"])))
            if problem:
                failed[name] = values
        self._written = failed
        if not failed:  # else the next agent tries again
            self._forget()
        return lines

    def _save(self, written: Dict[str, Dict[str, str]]) -> str:
        if not written:
            return ""
        aside = self._path + ".new"
        try:
            with open(aside, "w", encoding="utf-8") as file:
                json.dump({"boot": self._boot, "knobs": written}, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, self._path)
            folder = os.open(self._home, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            return "the old value could not be saved: %s" % error
        self._written = written
        return ""

    def _forget(self) -> None:
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass


def share_cpus(available: Sequence[int], threads: int) -> Dict[str, Any]:
    """Who runs where: {"subject": [cpu], "sampler": [cpu], "supervisor": [cpu], "is_shared": bool}.

    The subject gets the last CPUs, which on big.LITTLE parts are the big ones; the others the first of the rest.
    """
    cpus = sorted(available)
    is_shared = threads >= len(cpus)
    subject = cpus if is_shared else cpus[-threads:]
    return {"subject": subject, "sampler": cpus[:1], "supervisor": cpus[:1], "is_shared": is_shared}
