"""What became of a subject that gave no result: the Outcome, a reason code, and a text of four parts."""

from __future__ import annotations

import errno
import signal

from farm_agent.child import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Optional, Tuple

    from farm_agent.messages import Messages
    from farm_agent.wire import Block, Limits

TEXT_LIMIT = 1200
MEMORY_SIGNS = ("bad_alloc", "MemoryError", "annot allocate memory", "out of memory", "std::length_error")
ADVICE = {
    "timeout_load": "Check that the model loads at all, or raise limits.load_s.",
    "timeout_run": "Lower duration_s or min_queries, or raise limits.run_s.",
    "out_of_memory": "Use a smaller model or a larger limits.memory_bytes.",
    "crash": "Run it with the same runtime version by hand to see where it crashes.",
    "garbage": "Only the farm's subject may write to descriptor 3; look for what else does.",
    "flood": "Silence the model or runtime, or raise limits.output_bytes.",
    "no_result": "Look at its last output; a model must not end its process.",
}
OWN_ADVICE = "Correct the model, its options or its feed; the same runtime version by hand shows the same."


class BlockEnd(Exception):
    """The Block ends here, without figures."""

    def __init__(self, outcome: str, code: str, text: str, blame: Optional[str]) -> None:
        super().__init__(text)
        self.outcome, self.code, self.text, self.blame = outcome, code, text, blame

    def reason(self) -> Dict[str, Any]:
        """As the `block` event carries it."""
        reason = {"code": self.code, "text": self.text}
        if self.blame:
            reason["blame"] = self.blame
        return reason


class Seen:
    """All that the supervisor saw of one subject."""

    def __init__(
        self, block: Block, limits: Limits, messages: Messages, status: Optional[int], tail: str, hurry: str, oom: int
    ) -> None:
        self.block, self.limits, self.messages = block, limits, messages
        self.status, self.tail, self.hurry, self.oom = status, tail, hurry, oom


def classify(seen: Seen) -> Optional[BlockEnd]:
    """What became of the subject; None where it gave a good result."""
    if seen.status is None:
        text = "The subject of %s cannot be killed: it hangs in the kernel. Reboot the board." % _which(seen)
        return BlockEnd("BROKEN", "unkillable", text, "board")
    if seen.messages.failed is not None and not seen.messages.fault:
        return _own_words(seen, seen.messages.failed)
    if seen.messages.is_over and not seen.messages.fault and seen.hurry in ("", "slow_exit"):
        return None
    code, what = _code(seen)
    return BlockEnd("FAILED", code, _text(seen, what, ADVICE[code]), "artifact")


def _code(seen: Seen) -> Tuple[str, str]:
    limits, status = seen.limits, seen.status or 0
    if seen.oom > 0:
        return "out_of_memory", "the kernel killed it for memory, limit %s bytes" % limits.memory_bytes
    if seen.messages.fault:
        return "garbage", "on descriptor 3 it wrote what is no message: %s" % seen.messages.fault
    if seen.hurry == "timeout_load":
        return "timeout_load", "no first inference after %g s" % limits.load_s
    if seen.hurry == "timeout_run":
        return "timeout_run", "not done after %g s" % limits.run_s
    if seen.hurry == "flood":
        return "flood", "more than %d bytes on stdout and stderr" % limits.output_bytes
    if status != 0 and any(sign in seen.tail for sign in MEMORY_SIGNS):
        return "out_of_memory", "%s; an allocation failed, limit %s bytes" % (describe(status), limits.memory_bytes)
    if status < 0:
        return "crash", describe(status)
    return "no_result", "%s without a result" % describe(status)


def _own_words(seen: Seen, failed: Dict[str, str]) -> BlockEnd:
    blame = failed["blame"]
    outcome = "FAILED" if blame == "artifact" else "BROKEN"
    code = "out_of_memory" if failed["kind"] == "memory" else failed["kind"]
    text = _text(seen, failed["text"], ADVICE.get(code, OWN_ADVICE), failed["stage"])
    return BlockEnd(outcome, code, text, blame)


def _text(seen: Seen, what: str, advice: str, stage: str = "") -> str:
    where = stage or seen.messages.next_stage()
    last = " Last lines of stderr: %s." % seen.tail if seen.tail else " It wrote nothing to stderr."
    text = "The subject of %s ended at stage %r: %s." % (_which(seen), where, what.rstrip("."))
    return " ".join((printable(text[:TEXT_LIMIT] + last) + " " + advice).split())


def _which(seen: Seen) -> str:
    return "Block %d (arm %s, %s)" % (seen.block.index, seen.block.arm, printable(seen.block.entry))


def describe(status: Optional[int]) -> str:
    """An exit status in words, the signal by name."""
    if status is None:
        return "no exit"
    if status >= 0:
        return "exit status %d" % status
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = "unknown"
    return "signal %d (%s)" % (-status, name)


def board_io(error: OSError, block: Block) -> BlockEnd:
    """A file or process of our own failed on the board."""
    code = "disk_full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "board_io"
    advice = "Free space on its disk." if code == "disk_full" else "Check its disk and its process limits."
    return BlockEnd(
        "BROKEN", code, "Block %d met an error of the board: %s. %s" % (block.index, error, advice), "board"
    )


def prepare_failed(block: Block, status: Optional[int], tail: str) -> BlockEnd:
    """The `prepare` child gave no answer."""
    text = "Block %d: the artifact's files could not be checked: %s. %s Check the board's disk." % (
        block.index,
        describe(status),
        tail,
    )
    return BlockEnd("BROKEN", "prepare_failed", text, "board")


def no_python(python: str, error: OSError) -> BlockEnd:
    """The subject's interpreter cannot be started."""
    text = "The subject did not start: its interpreter %r gave %s. Correct the board's python." % (
        python,
        error.strerror,
    )
    return BlockEnd("BROKEN", "no_python", text, "board")
