"""Columns on the board's disk to `column` events: checked, compressed and sent in parts of bounded size."""

from __future__ import annotations

import binascii
import os
import stat
import zlib

from farm_agent.failure import BlockEnd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterator, List

PART_SAMPLES = 8192  # below wire.COLUMN_PART_SAMPLES: a part is held in memory four times over
NAME = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_.")
# Whatever stands there may have been made by the subject: no link, no pipe that blocks us.
FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Column:
    """One metric: two open files, and what they hold."""

    def __init__(self, metric: str, n: int, t_type: str, v_type: str, t_fd: int, v_fd: int) -> None:
        self.metric, self.n, self._types, self._fds = metric, n, (t_type, v_type), (t_fd, v_fd)

    def parts(self) -> Iterator[Dict[str, Any]]:
        """The fields of each `column` event; one part at least, so that an empty column is seen too."""
        count = max(1, -(-self.n // PART_SAMPLES))
        for part in range(count):
            first = part * PART_SAMPLES
            n = min(PART_SAMPLES, self.n - first)
            t, v = (_packed(fd, 8 * first, 8 * n) for fd in self._fds)
            yield {
                "metric": self.metric,
                "part": part,
                "parts": count,
                "n": n,
                "t": t,
                "v": v,
                "t_type": self._types[0],
                "v_type": self._types[1],
            }

    def close(self) -> None:
        """Close its files."""
        for fd in self._fds:
            os.close(fd)


def read_small(path: str, limit_bytes: int) -> bytes:
    """A small file that anybody may have written. Raises OSError; ValueError where it is no plain file or too large."""
    fd = os.open(path, FLAGS)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_size > limit_bytes:
            raise ValueError("%s is not a file of at most %d bytes" % (path, limit_bytes))
        return os.read(fd, limit_bytes)
    finally:
        os.close(fd)


def find(folder: str, described: List[Dict[str, Any]]) -> List[Column]:
    """Open every column that was described. Raises BlockEnd (garbage) where the files are not as described."""
    found: List[Column] = []
    try:
        for description in described:
            if not isinstance(description, dict):
                raise ValueError("%.60r describes no column" % (description,))
            if any(column.metric == description.get("metric") for column in found):
                raise ValueError("%.60r is described twice" % description.get("metric"))
            found.append(_open(folder, description))
    except (ValueError, OSError) as error:
        for column in found:
            column.close()
        text = "The columns in %s/ are not as described: %s. Look for what else writes there." % (folder, error)
        raise BlockEnd("FAILED", "garbage", text, "artifact") from None
    return found


def _open(folder: str, description: Dict[str, Any]) -> Column:
    metric, n = description.get("metric"), description.get("n")
    types = description.get("t_type"), description.get("v_type")
    if not isinstance(metric, str) or not metric or len(metric) > 120 or set(metric) - NAME or metric.startswith("."):
        raise ValueError("the name %.60r is not a metric's" % (metric,))
    if type(n) is not int or n < 0 or types[0] != "q" or types[1] not in ("q", "d"):
        raise ValueError("%s has n %.40r and types %.40r" % (metric, n, types))
    fds: List[int] = []
    try:
        for suffix in ("t", "v"):
            path = "%s/%s.%s" % (folder, metric, suffix)
            fds.append(os.open(path, FLAGS))
            found = os.fstat(fds[-1])
            if not stat.S_ISREG(found.st_mode) or found.st_size != 8 * n:
                raise ValueError("%s is not a file of %d bytes" % (path, 8 * n))
    except (ValueError, OSError):
        for fd in fds:
            os.close(fd)
        raise
    return Column(metric, n, str(types[0]), str(types[1]), fds[0], fds[1])


def _packed(fd: int, offset: int, size: int) -> str:
    data = os.pread(fd, size, offset)
    return binascii.b2a_base64(zlib.compress(data), newline=False).decode("ascii")
