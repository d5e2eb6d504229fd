"""The agent's words: probe | measure | selftest; and the words its own children are started with.

Written so that a Python too old for the rest (a Jetson Nano has 3.6) still gets as far as the message that says so.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, Optional

# word -> module with main(argv) -> exit status. Each is imported only when asked for: every import is memory.
WORDS = {
    "probe": "probe",
    "measure": "launch",
    "selftest": "selftest",
    "supervise": "measure",
    "subject": "subject",
    "sampler": "sampler",
    "prepare": "prepare",
}
PUBLIC = ("probe", "measure", "selftest")


def main(argv: "Optional[List[str]]" = None) -> int:
    """Run one word; returns its exit status. 2 where the word or this Python cannot be used."""
    argv = sys.argv[1:] if argv is None else argv
    if sys.version_info < (3, 8):
        sys.stderr.write(
            "The agent cannot run under Python %d.%d (%s): it needs 3.8 or newer. "
            "Name a newer interpreter as the board's python.\n"
            % (sys.version_info[0], sys.version_info[1], sys.executable)
        )
        return 2
    if not argv or argv[0] not in WORDS:
        seen = "no word was given" if not argv else "the word %r is not known" % argv[0]
        sys.stderr.write("The agent did not start: %s. Give one of: %s.\n" % (seen, ", ".join(PUBLIC)))
        return 2
    module = __import__("farm_agent." + WORDS[argv[0]], fromlist=["main"])
    return int(module.main(argv[1:]))


if __name__ == "__main__":
    raise SystemExit(main())
