"""The subject's messages on its fd 3, checked one by one: a hostile model may have written them."""

from __future__ import annotations

import json
import time

from farm_agent import wire
from farm_agent.child import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional

ORDER = (*wire.STAGES[:4], "timed", wire.STAGES[4])
LINE_BYTES = 256 << 10
ALL_BYTES = 1 << 20
BLAMES = ("artifact", "input", "board")


class Messages:
    """A sink for the bytes of fd 3. `fault` says what was wrong with them, once something was."""

    def __init__(self, on_stage: Callable[[str, int], None]) -> None:
        self._on_stage = on_stage
        self._buffer = bytearray()
        self._seen_bytes = 0
        self._reached = -1
        self.stages: Dict[str, Dict[str, Any]] = {}
        self.facts: Dict[str, Any] = {}
        self.columns: List[Dict[str, Any]] = []
        self.failed: Optional[Dict[str, str]] = None
        self.is_over = False
        self.over_ns = 0
        self.fault = ""

    def __call__(self, data: bytes) -> None:
        self._seen_bytes += len(data)
        if self.fault:
            return
        if self._seen_bytes > ALL_BYTES:
            self.fault = "more than %d bytes" % ALL_BYTES
            return
        self._buffer += data
        *lines, rest = self._buffer.split(b"\n")
        self._buffer = rest
        for line in lines:
            try:
                self._take(bytes(line))
            except (ValueError, RecursionError) as error:
                self.fault = printable(str(error))[:200]
                return
        if len(rest) > LINE_BYTES:
            self.fault = "a line of more than %d bytes" % LINE_BYTES

    def is_past(self, stage: str) -> bool:
        """True once `stage` was reached."""
        return self._reached >= ORDER.index(stage)

    def next_stage(self) -> str:
        """The stage the subject is in: the one it has not reached the end of."""
        return ORDER[min(self._reached + 1, len(ORDER) - 1)]

    def _take(self, line: bytes) -> None:
        if self.is_over:
            raise ValueError("a message after the last: %r" % line[:80])
        message = parse(line)
        if "stage" in message:
            self._take_stage(message)
        elif "result" in message:
            self._take_result(message["result"])
        elif "failed" in message:
            self._take_failed(message["failed"])
        else:
            raise ValueError("neither stage, result nor failed: %r" % line[:80])

    def _take_stage(self, message: Dict[str, Any]) -> None:
        stage, t_ns, memory = message["stage"], message.get("t_ns"), message.get("memory", {})
        place = ORDER.index(stage) if stage in ORDER else -1
        if place <= self._reached or type(t_ns) is not int or not isinstance(memory, dict):
            raise ValueError(
                "stage %.40r after %r" % (stage, ORDER[self._reached] if self._reached >= 0 else "nothing")
            )
        if not all(value is None or isinstance(value, (int, float)) for value in memory.values()):
            raise ValueError("memory of stage %r holds what is no number" % stage)
        self._reached = place
        if stage != "timed":
            self.stages[stage] = {"t_ns": t_ns, "memory": memory}
        self._on_stage(stage, t_ns)

    def _take_result(self, result: Any) -> None:
        if not isinstance(result, dict) or not isinstance(result.get("facts"), dict):
            raise ValueError("a result without facts")
        columns = result.get("columns")
        if not isinstance(columns, list) or not all(isinstance(column, dict) for column in columns):
            raise ValueError("a result without columns")
        if not self.is_past("steady"):
            raise ValueError("a result before stage 'steady'")
        self.facts, self.columns = result["facts"], columns
        self._end()

    def _take_failed(self, failed: Any) -> None:
        if not isinstance(failed, dict) or not all(
            isinstance(failed.get(n), str) for n in ("stage", "kind", "text", "blame")
        ):
            raise ValueError("a failure without stage, kind, text and blame")
        if failed["blame"] not in BLAMES or not failed["kind"].replace("_", "").isalnum() or len(failed["kind"]) > 40:
            raise ValueError("a failure of unknown kind or blame: %.40r, %.40r" % (failed["kind"], failed["blame"]))
        self.failed = {name: printable(failed[name]) for name in ("stage", "kind", "text", "blame")}
        self._end()

    def _end(self) -> None:
        self.is_over, self.over_ns = True, time.monotonic_ns()


def parse(data: bytes) -> Dict[str, Any]:
    """JSON that others wrote, as an object that can go over the wire. Raises ValueError, RecursionError."""
    message = json.loads(data, parse_constant=_refuse)
    if not isinstance(message, dict):
        raise ValueError("not an object: %r" % data[:80])
    wire.dumps(message)  # refuses 1e999, which json reads as infinity
    return message


def _refuse(constant: str) -> None:
    raise ValueError("%s is no number" % constant)
