"""`farm probe`: what a board says it is and can do, over the same path as a Run."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from farm.cli import output
from farm.cli.session import session


def probe(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="[BOARD]", help="a board of the inventory (default: local, or the only one)")
    ] = None,
    self_cost: Annotated[bool, typer.Option("--self-cost", help="Measure what the sampler itself costs, too.")] = False,
    accept_fingerprint: Annotated[
        str | None,
        typer.Option(help="pin the host key of this fingerprint on first contact, without asking", metavar="SHA256:…"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Ask a board what it is and can do: runtimes, sensors, and why some are absent.

    First contact with an SSH board shows the fingerprint of its host key, asks, and pins it.
    """
    import asyncio

    from farm import boarding
    from farm.connections import Connections

    here = session(context)
    board = here.board(name)

    def ask(host: str, fingerprint: str) -> bool:
        return _accepts(host, fingerprint, accept_fingerprint)

    output.say(f"asking board {board.name} …")
    found = asyncio.run(boarding.probe(board, connections=Connections(here.settings), ask=ask, self_cost=self_cost))
    with here.store() as store:
        from farm.store import boards

        boards.save_board(store, replace(board, facts=found), datetime.now(UTC))
    if as_json:
        output.result_json(found)
    else:
        _print(found)


def _accepts(host: str, fingerprint: str, accepted: str | None) -> bool:
    """Whether the person takes this host key for the board's own."""
    if accepted is not None:
        if accepted == fingerprint.rpartition(" ")[2]:
            return True
        output.say(f"The host key of {host} is {fingerprint}, not {accepted} as was given.")
        return False
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        output.say(
            f"First contact with {host}, and nobody can be asked here. Once its fingerprint was compared, pin it with"
            f" `farm probe` and --accept-fingerprint {fingerprint.rpartition(' ')[2]}"
        )
        return False
    output.say(
        f"First contact with {host}. Its host key has the fingerprint\n  {fingerprint}\n"
        "On the board, `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` prints the same."
    )
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)  # asyncio's waits for the loop, which waits for us
    try:
        return typer.confirm("Is it the same? Pin it", default=False, err=True)
    finally:
        signal.signal(signal.SIGINT, heard)


def _print(found: Mapping[str, Any]) -> None:
    """What it is, what it can do, and why it cannot do the rest."""
    if found.get("is_virtual"):
        output.result("virtual: a recorded tree, whose figures are never a board's\n")
    reached = {name: found.get(name) for name in ("transport", "home", "interpreter")}
    facts = _flat({**reached, **found.get("identity", {}), **found.get("context", {})})
    output.table(("fact", "value"), facts)
    output.result("")
    output.table(("runtime", "version", ""), [_runtime(*item) for item in found.get("runtimes", {}).items()])
    output.result("")
    costs = found.get("self_cost", {}).get("sensors", {})
    rows = [_sensor(name, sensor, costs.get(name, {})) for name, sensor in found.get("sensors", {}).items()]
    output.table(("sensor", *(["cost"] if costs else []), "metrics"), [row if costs else row[::2] for row in rows])
    if found.get("knobs"):
        output.result("")
        output.table(
            ("knob", "now", "while measuring"),
            [(name, _text(name, knob["now"]), _text(name, knob["wanted"])) for name, knob in found["knobs"].items()],
        )
    if "self_cost" in found:
        output.result(f"\nThe sampler takes {found['self_cost']['cpu_percent']:.2g} % of one core while it samples.")


def _runtime(name: str, runtime: Mapping[str, Any]) -> tuple[str, str, str]:
    if not runtime.get("present"):
        return name, "absent", str(runtime.get("reason") or "")
    return name, str(runtime.get("version") or "–"), ", ".join(runtime.get("providers") or ())


def _sensor(name: str, sensor: Mapping[str, Any], cost: Mapping[str, Any]) -> tuple[str, str, str]:
    metrics = ", ".join(sensor.get("metrics") or ())
    notes = "".join(f" ({note})" for note in sensor.get("notes") or ())
    text = metrics + notes if sensor.get("present") else f"absent: {sensor.get('reason')}"
    return name, output.figure(cost.get("cost_ns"), "cost_ns"), text


def _flat(data: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested facts as dotted names and values."""
    rows = []
    for name, value in data.items():
        if isinstance(value, Mapping) and value:
            rows += _flat(value, f"{prefix}{name}.")
        else:
            rows.append((prefix + name, _text(prefix + name, value)))
    return rows


def _text(name: str, value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "–"
    if value is None or value == "" or value == {}:
        return "–"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return output.figure(value, name)
    return str(value)
