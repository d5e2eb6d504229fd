"""The door of the command line: what a person typed goes in, one exit code comes out. Nothing else ends the process."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

from farm import errors

if TYPE_CHECKING:
    from types import FrameType

EXIT_CODES: dict[object, int] = {
    "PASS": 0,
    "FAIL": 1,
    "UNDECIDED": 3,
    "OK": 0,
    "NOISY": 3,
    "FAILED": 1,
    "BROKEN": 4,
    "CANCELLED": 5,
    errors.InputError: 2,
    errors.ArtifactError: 1,
    errors.LabError: 4,
    errors.Cancelled: 5,
    errors.FarmBug: 70,
    errors.FarmError: 4,
    KeyboardInterrupt: 5,
    BrokenPipeError: 141,
    Exception: 70,
}
"""Every way a command ends: by its Job's Verdict, its Run's Outcome, or the nearest class of what was raised."""

EXTRAS = {
    "alembic": "farm",
    "anyio": "farm",
    "asyncssh": "farm",
    "boto3": "s3",
    "celery": "farm",
    "fastapi": "farm",
    "matplotlib": "farm",
    "numpy": "farm",
    "pandas": "farm",
    "prometheus_client": "farm",
    "psycopg": "farm",
    "pyarrow": "farm",
    "scipy": "farm",
    "sqlalchemy": "farm",
    "uvicorn": "farm",
    "zstandard": "farm",
}
"""Third-party package -> the extra of benchfarm that brings it; the base install is the thin client."""


def main() -> None:
    """Run the command that was typed and end the process."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it, and all below
    signal.signal(signal.SIGTERM, _as_interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
        signal.signal(signal.SIGHUP, _as_interrupt)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # a stream that somebody replaced
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # before the first word was understood, or while the last one was told
        code = EXIT_CODES[KeyboardInterrupt]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # all is done: a late Ctrl-C must not change the exit code
    sys.exit(code)


def run(words: Sequence[str]) -> int:
    """The exit code of the command; its errors are told on stderr, and on stdout as JSON where that was asked for."""
    import typer

    from farm.cli import app, output

    click_error = typer.BadParameter.__mro__[2]  # ClickException; typer 0.16 has it from click, later ones their own
    try:
        command = typer.main.get_command(app.app)
        with command.make_context("farm", app.settings_first(list(words))) as context:
            outcome = command.invoke(context)
        sys.stdout.flush()
        return EXIT_CODES[outcome] if outcome is not None else 0
    except typer.Exit as ended:
        return ended.exit_code
    except (KeyboardInterrupt, typer.Abort):
        output.say("Cancelled.")
        return EXIT_CODES[KeyboardInterrupt]
    except BrokenPipeError as error:
        _drop_stdout()
        return _code(error)
    except errors.FarmBug as error:
        return _bug(error)
    except errors.FarmError as error:
        return _told(error, words)
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        return _bug(error) if extra is None else _told(_absent(error, extra), words)
    except Exception as error:  # noqa: BLE001 - the door
        if isinstance(error, click_error):
            return _misused(error, words)
        return _bug(error)


def _code(error: BaseException) -> int:
    return next(EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES)


def _told(error: errors.FarmError, words: Sequence[str]) -> int:
    from farm.cli import output

    output.say(f"Error: {error}")
    return _ended(type(error).__name__, str(error), _code(error), words)


def _misused(error: Exception, words: Sequence[str]) -> int:
    """A word that no command knows, or one that is missing."""
    from farm.cli import output

    context = getattr(error, "ctx", None)
    message = str(error.format_message())  # type: ignore[attr-defined]
    if not message:  # `farm` alone: its help has been printed
        return EXIT_CODES[errors.InputError]
    output.say(f"Error: {message}")
    output.say(f"`{context.command_path if context else 'farm'} --help` lists what can be given.")
    return _ended("InputError", message, EXIT_CODES[errors.InputError], words)


def _ended(kind: str, message: str, code: int, words: Sequence[str]) -> int:
    from farm.cli import output

    if "--json" in words:
        with contextlib.suppress(BrokenPipeError):
            output.result_json({"error": {"kind": kind, "message": message, "exit_code": code}})
            sys.stdout.flush()
    return code


def _absent(error: ModuleNotFoundError, extra: str) -> errors.InputError:
    return errors.InputError(
        f"This command needs the package '{error.name}', which is not installed beside benchfarm."
        f" Install it: pip install 'benchfarm[{extra}]'."
    )


def _bug(error: BaseException) -> int:
    from farm.cli import output

    output.say("".join(traceback.format_exception(error)).rstrip())
    output.say(
        "This is a bug of benchfarm, not a mistake of yours."
        " Please report it with the text above and the output of `farm version`."
    )
    return _code(error)


def _drop_stdout() -> None:
    """Whoever read us has gone: the interpreter must not complain about it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    """SIGTERM and a closed terminal end a Run as cleanly as Ctrl-C does."""
    signal.raise_signal(signal.SIGINT)


if __name__ == "__main__":
    main()
