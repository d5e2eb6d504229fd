"""Stages of a process's memory as /proc tells them: what is resident, its peak since the last reset, faults so far.

`proc` is the process's folder: "/proc/self", "/proc/123", or a recording. What the kernel does not tell is None.
Only `os` is needed, so that the first snapshot finds an interpreter that has imported next to nothing.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, Optional, Tuple

_STATUS = {
    b"VmRSS": "rss_bytes",
    b"RssAnon": "anon_bytes",
    b"RssFile": "file_bytes",
    b"VmSwap": "swap_bytes",
    b"VmHWM": "peak_bytes",
    b"VmPeak": "virtual_peak_bytes",
}
_CHUNK_BYTES = 1 << 16


def snapshot(proc: str = "/proc/self") -> Dict[str, Optional[int]]:
    """Memory now, in bytes: rss = anon + file + shared memory; `peak_bytes` (VmHWM) since `reset_peak` or the start."""
    found: Dict[str, Optional[int]] = dict.fromkeys(_STATUS.values())
    # status before smaps_rollup: what reading the latter costs must not be in the peak
    for line in _read(proc + "/status").splitlines():
        key, _, value = line.partition(b":")
        if key in _STATUS:
            found[_STATUS[key]] = int(value.split()[0]) * 1024
    found["pss_bytes"] = pss_bytes(proc)
    return found


def pss_bytes(proc: str = "/proc/self") -> Optional[int]:
    """Proportional set size. Costs milliseconds in a large process, so never read it inside a timed window."""
    for name in ("/smaps_rollup", "/smaps"):  # kernels before 4.14 have only the latter; both have lines `Pss: n kB`
        text = _read(proc + name)
        if text:
            return sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith(b"Pss:"))
    return None


def rss_bytes(proc: str = "/proc/self") -> Optional[int]:
    """Resident set now."""
    for line in _read(proc + "/status").splitlines():
        if line.startswith(b"VmRSS:"):
            return int(line.split()[1]) * 1024
    return None


def faults(proc: str = "/proc/self") -> Tuple[Optional[int], Optional[int]]:
    """(minor, major) page faults of the whole process since its start."""
    # the second field is the program's name in brackets and may itself hold spaces and brackets
    fields = _read(proc + "/stat").rpartition(b")")[2].split()
    if len(fields) < 10:
        return None, None
    return int(fields[7]), int(fields[9])


def reset_peak(proc: str = "/proc/self") -> bool:
    """Make VmHWM start again from what is resident now; False where the kernel does not allow it."""
    try:
        handle = os.open(proc + "/clear_refs", os.O_WRONLY)
    except OSError:
        return False
    try:
        return os.write(handle, b"5") == 1  # "5" resets the peak (proc(5)); other values touch page flags
    except OSError:
        return False
    finally:
        os.close(handle)


def _read(path: str) -> bytes:
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return b""
    parts: List[bytes] = []
    try:
        while True:
            part = os.read(handle, _CHUNK_BYTES)
            if not part:
                return b"".join(parts)
            parts.append(part)
    except OSError:
        return b""
    finally:
        os.close(handle)
