"""The first moment of `measure`: compile the agent's sources, then become the supervisor.

Compiling these sources would leave the supervisor 4 MB above the 12 it may have, so a first image of the same process
compiles them into `<home>/run/<pid>.zip` and replaces itself by exec. That zip is written anew for every session, so
nothing that an earlier subject may have changed is trusted, and holds the sources too, for subjects of other Pythons.
"""

from __future__ import annotations

import errno
import importlib.util
import json
import marshal
import os
import sys
import zipfile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List

MAIN = b"from farm_agent.__main__ import main\nraise SystemExit(main())\n"
UNCHECKED_HASH = (1).to_bytes(4, "little") + bytes(8)  # PEP 552: take the bytecode without looking at the source


def main(argv: List[str]) -> int:
    """Become `supervise` with the same options; returns only where that is impossible."""
    source = os.path.abspath(sys.argv[0])
    home = os.path.abspath(os.path.expanduser(_option(argv, "--home", "~/.benchfarm")))
    target = os.path.join(home, "run", "%d.zip" % os.getpid())
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with zipfile.ZipFile(source) as sources, zipfile.ZipFile(target, "w") as compiled:
            compile_into(sources, compiled)
    except (OSError, zipfile.BadZipFile) as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        text = (
            "The agent did not start: %s could not be compiled into %s (%s). "
            "Check that the folder is writable and has free space." % (source, target, error)
        )
        for event in (
            {"event": "error", "code": "disk_full" if full else "board_io", "message": text},
            {"event": "end", "reason": "refused"},
        ):
            sys.stdout.write(json.dumps(event) + "\n")
        sys.stderr.write(text + "\n")
        return 3
    sys.stderr.flush()
    command = [sys.executable, "-I", "-S", target, "supervise", *argv, "--source", source]
    return os.execv(sys.executable, command)  # noqa: S606


def compile_into(sources: zipfile.ZipFile, compiled: zipfile.ZipFile) -> None:
    """Every .py of `sources`, and its bytecode for this interpreter, stored without compression."""
    for name in sorted(sources.namelist()):
        data = sources.read(name)
        compiled.writestr(name, data)
        if name.endswith(".py"):
            code = compile(data, name, "exec", dont_inherit=True, optimize=2)  # docstrings are memory
            head = importlib.util.MAGIC_NUMBER + UNCHECKED_HASH
            compiled.writestr(name + "c", head + marshal.dumps(code))


def _option(argv: List[str], name: str, default: str) -> str:
    return argv[argv.index(name) + 1] if name in argv[:-1] else default
