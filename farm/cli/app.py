"""`farm` itself: its verbs, and the settings that every verb takes as flags."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from farm.cli import (
    admin,
    baselines,
    bench,
    boards,
    compare,
    database,
    export,
    gate,
    job,
    jobs,
    login,
    plot,
    probe,
    runs,
    serve,
    show,
    submit,
    tokens,
    version,
    workers,
)
from farm.cli import settings as settings_command
from farm.cli.session import Session

PANEL = "Settings (before or after the verb)"

app = typer.Typer(
    name="farm",
    help="Measure machine-learning models on real boards, and keep what was measured.",
    epilog="Exit codes: 0 good, 1 the model failed, 2 your input, 3 noisy, 4 the lab broke, 5 cancelled, 70 our bug.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("bench")(bench.bench)
app.command("probe")(probe.probe)
app.command("boards")(boards.boards)
app.command("runs")(runs.runs)
app.command("show")(show.show)
app.command("compare")(compare.compare)
app.add_typer(plot.app, name="plot")
app.command("export")(export.export)
app.command("up")(serve.up)
app.command("api")(serve.api)
app.command("worker")(serve.worker)
app.command("login")(login.login)
app.command("logout")(login.logout)
app.command("submit")(submit.submit)
app.command("jobs")(jobs.jobs)
app.add_typer(job.app, name="job")
app.add_typer(admin.board, name="board")
app.add_typer(workers.app, name="workers")
app.add_typer(tokens.app, name="tokens")
app.add_typer(gate.app, name="gate")
app.add_typer(baselines.app, name="baselines")
app.command("changes")(admin.changes)
app.command("settings")(settings_command.settings)
app.add_typer(database.app, name="db")
app.command("version")(version.version)


def _version(asked: bool) -> None:
    if asked:
        version.version(as_json=False)
        raise typer.Exit


def _setting(help_text: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(help=help_text, rich_help_panel=PANEL, show_default=False)
    return option


@app.callback()
def root(
    context: typer.Context,
    config: Annotated[Path | None, _setting("settings file (default ~/.config/benchfarm/config.toml)")] = None,
    data_dir: Annotated[str | None, _setting("folder of the database and of the blobs")] = None,
    database_url: Annotated[str | None, _setting("sqlite:///… or postgresql+psycopg://…")] = None,
    blobs_dir: Annotated[str | None, _setting("folder of artifacts and raw samples, or their cache")] = None,
    blobs_url: Annotated[str | None, _setting("s3://bucket/prefix?endpoint_url=… or file:///folder")] = None,
    inventory: Annotated[str | None, _setting("inventory.yaml, which names the boards")] = None,
    known_hosts: Annotated[str | None, _setting("file of the pinned SSH host keys")] = None,
    ssh_keys: Annotated[str | None, _setting("private key files for SSH, separated by ':'")] = None,
    connect_timeout_s: Annotated[str | None, _setting("longest wait for an SSH connection")] = None,
    keepalive_s: Annotated[str | None, _setting("seconds between SSH keepalives")] = None,
    lease_ttl_s: Annotated[str | None, _setting("how long a lease on a board lives without renewal")] = None,
    notifiers: Annotated[str | None, _setting("notifiers.yaml, which says who is told what")] = None,
    api_host: Annotated[str | None, _setting("address on which the REST API listens")] = None,
    api_port: Annotated[str | None, _setting("port of the REST API")] = None,
    upload_limit_bytes: Annotated[str | None, _setting("largest file that the REST API takes")] = None,
    upload_idle_s: Annotated[str | None, _setting("how long a client may stall before it is given up")] = None,
    cool_down_s: Annotated[str | None, _setting("pause before a NOISY run is tried again")] = None,
    redis_url: Annotated[str | None, _setting("redis://… of the message broker")] = None,
    site: Annotated[str | None, _setting("where this worker is: it serves the boards of its site")] = None,
    slots: Annotated[str | None, _setting("how many runs a worker carries out at once")] = None,
    main_branch: Annotated[str | None, _setting("the branch whose passing jobs `last-passing` stands for")] = None,
    blobs_cache_bytes: Annotated[str | None, _setting("most that blobs_dir holds as a cache")] = None,
    project: Annotated[str | None, _setting("the Project that owns what is submitted")] = None,
    url: Annotated[str | None, _setting("the farm to submit to (default: that of `farm login`)")] = None,
    allow_http: Annotated[str | None, _setting("true: also to an http:// farm on another machine")] = None,
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Keep what was given as flags; the settings are read when a verb needs them."""
    given = {name: value for name, value in context.params.items() if name != "show_version" and value is not None}
    context.obj = Session(given)


SETTING_FLAGS = frozenset(
    "--" + name.replace("_", "-") for name in root.__annotations__ if name not in ("context", "show_version", "return")
)


def settings_first(words: list[str]) -> list[str]:
    """The same words with the flags of settings moved before the verb, so that they may stand anywhere."""
    first: list[str] = []
    rest: list[str] = []
    left = iter(words)
    for word in left:
        if word == "--":
            return [*first, *rest, word, *left]
        if word.partition("=")[0] in SETTING_FLAGS:
            first += [word] if "=" in word else [word, *([value] if (value := next(left, None)) is not None else [])]
        else:
            rest.append(word)
    return first + rest
