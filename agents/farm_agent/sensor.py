"""What a Sensor is: one chip or kernel interface whose metrics the sampler reads at a fixed rate.

One file a kind in `sensors/`. Each has
    IS_SLOW                              True where one read may take longer than a millisecond
    probe(root) -> Found                 the Channels it has on this board, or why it has none; reads, never writes
    open(root, channels, capacity)       a Reader of those Channels with room for that many samples
Readers keep their file descriptors and read with pread at offset 0, where the kernel makes the text anew. A reading
out of its Channel's range is NaN (dead sensors answer -256, -89.7 or 85000) and counted in `nan`; an error in
reading is NaN and counted in `failed`. Neither ends the run.
"""

from __future__ import annotations

import os
from array import array

from farm_agent import board, plugins

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Dict, List, Optional, Sequence, Tuple

    Parse = Callable[[bytes], Sequence[float]]

NAN = float("nan")
MOST = 1e18  # above any counter or size of a board


class Channel:
    """One metric of a sensor, the board's file that it is read from, and the range of a true reading."""

    def __init__(self, metric: str, path: str, low: float = 0.0, high: float = MOST) -> None:
        self.metric, self.path, self.low, self.high = metric, path, low, high


class Found:
    """What a sensor has on one board: its Channels, or the reason why it has none."""

    def __init__(self, channels: List[Channel], reason: str = "", notes: Sequence[str] = ()) -> None:
        self.channels, self.notes = channels, list(notes)
        self.reason: Optional[str] = None if channels else reason


class Reader:
    """Kept file descriptors and preallocated columns of one sensor; `read(i)` fills place i of every column.

    `sources` are (path, parse, Channels): `parse` makes one number per Channel of that file's text. A file that cannot
    be opened counts as failed at each read, as one that vanished does.
    """

    def __init__(
        self, root: str, sources: Sequence[Tuple[str, Parse, List[Channel]]], capacity: int, size_bytes: int = 256
    ) -> None:
        self.channels = [channel for _, _, channels in sources for channel in channels]
        self.columns = [array("d", [NAN]) * capacity for _ in self.channels]
        self.failed = self.nan = 0
        self._size_bytes = size_bytes
        columns = iter(self.columns)
        self._sources = [
            (_opened(root, path), parse, [(n, next(columns), c.low, c.high) for n, c in enumerate(channels)])
            for path, parse, channels in sources
        ]

    def read(self, i: int) -> None:
        """One reading of every Channel."""
        for descriptor, parse, targets in self._sources:
            try:
                values = parse(os.pread(descriptor, self._size_bytes, 0))
                for place, column, low, high in targets:
                    value = values[place]
                    if low <= value <= high:
                        column[i] = value
                    else:
                        column[i] = NAN
                        self.nan += value == value  # a NaN of the parser's own is no dead sensor
            except (OSError, ValueError, IndexError):
                self.failed += 1
                for _, column, _, _ in targets:
                    column[i] = NAN

    def close(self) -> None:
        """Give the file descriptors back."""
        for descriptor, _, _ in self._sources:
            if descriptor >= 0:
                os.close(descriptor)
        self._sources = []


def one_number_a_file(root: str, channels: List[Channel], capacity: int, scale: float) -> Reader:
    """A Reader of files that hold one whole number each, to be multiplied by `scale`."""

    def parse(text: bytes) -> Tuple[float]:
        return (int(text) * scale,)

    return Reader(root, [(channel.path, parse, [channel]) for channel in channels], capacity)


def by_file(channels: Sequence[Channel]) -> Dict[str, List[Channel]]:
    """The Channels of each file, in order."""
    files: Dict[str, List[Channel]] = {}
    for channel in channels:
        files.setdefault(channel.path, []).append(channel)
    return files


def number_after(text: bytes, key: bytes) -> int:
    """The whole number that follows `key` in a kernel file. Raises ValueError where there is no key or no number."""
    start = text.index(key) + len(key)
    return int(text[start : start + 32].split(None, 1)[0])


def probe_all(root: str) -> Dict[str, Found]:
    """Every known sensor and what it has on this board."""
    return {name: probe(root, name) for name in plugins.names("farm_agent.sensors")}


def probe(root: str, name: str) -> Found:
    """What one sensor has on this board; an unknown or broken one is absent with its reason."""
    try:
        found: Found = plugins.load("farm_agent.sensors", name).probe(root)
    except KeyError as error:
        return Found([], str(error.args[0]))
    except Exception as error:  # noqa: BLE001 - the edge of a plug-in: its failure must not end the run
        return Found([], f"its probe failed with {type(error).__name__}: {error}. This is a bug in sensors/{name}.py")
    return found


def is_readable(root: str, path: str) -> bool:
    """True where the board's file can be opened and read now, an empty answer or `busy` included."""
    descriptor = _opened(root, path)
    if descriptor < 0:
        return False
    try:
        os.pread(descriptor, 64, 0)
    except BlockingIOError:
        return True  # the block is off for now
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _opened(root: str, path: str) -> int:
    try:
        return os.open(board.under(root, path), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1
