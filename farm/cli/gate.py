"""`farm gate check FILE`, and how what a gate has found is shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from farm.cli import output

if TYPE_CHECKING:
    from farm.rules import Gate, Reference, Rule
    from farm.schemas import FindingTold, GateTold

app = typer.Typer(help="Check a gate file.", no_args_is_help=True)

HEAD = ("rule", "figure", "interval", "allowed", "pairs", "says")
SAYS = {"pass": "holds", "fail": "FAILS", "open": "not decided", "lost": "not measured"}


@app.command("check")
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="a gate file (YAML); docs/gates.md explains it")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Read a gate file and show what it judges, or every mistake with its line."""
    from farm import gatefile

    gate = gatefile.load(file)
    if as_json:
        output.result_json({"hash": gate.hash, "gate": gate.as_json(), "form": gate.form()})
        return
    output.table(("metric", "may get worse by", "limit"), [_rule(gate, rule) for rule in gate.rules])
    is_compared = any(rule.max_change is not None for rule in gate.rules)
    against = ", ".join(one.name for one in gate.references) if is_compared else "nothing; there are limits alone"
    output.result(f"against: {against}")
    output.result(
        f"false FAIL at most {100 * gate.alpha:g} %, false PASS at most {100 * gate.beta:g} %; "
        f"at most {gate.pairs} pairs and {gate.budget_s:g} board-seconds"
    )
    output.result(f"on_no_baseline: {gate.on_no_baseline}   on_undecided: {gate.on_undecided}   hash {gate.hash[:12]}")


def show(gate: GateTold) -> None:
    """Print what the evidence says of each rule, and what it cost."""
    if gate.findings:
        output.table(HEAD, [row(one) for one in gate.findings])
    for name, why in gate.absent.items():
        output.result(f"  not compared with '{name}': {why}")
    output.result(f"  {cost(gate)}")


def row(one: FindingTold) -> tuple[str, ...]:
    """One rule as cells of HEAD."""
    values = (one.effect, one.low, one.high)
    if one.reference is None:
        figures = [None if value is None else output.figure(value, one.metric) for value in values]
        allowed = f"limit {output.figure(one.bound, one.metric)}"
    else:
        figures = [None if value is None else f"{100 * value:+.3g} %" for value in values]
        allowed = f"{100 * one.bound:g} %"
    low, high = figures[1:]
    interval = _range(low, high)
    what = one.metric if one.reference is None else f"{one.metric} against {one.reference}"
    return what, figures[0] or "–", interval, allowed, str(one.n), SAYS[one.status]


def _range(low: str | None, high: str | None) -> str:
    if low is None and high is None:
        return "–"
    return f"above {low}" if high is None else f"below {high}" if low is None else f"{low} to {high}"


def cost(gate: GateTold) -> str:
    """How many pairs it took, and the board's time."""
    dropped = f", {gate.dropped} dropped" if gate.dropped else ""
    saved = f", {gate.saved_s:.0f} s of the budget saved" if gate.saved_s >= 1 else ""
    return f"{gate.kept} pairs kept{dropped}; {gate.board_s:.0f} board-seconds{saved}"


def _rule(gate: Gate, rule: Rule) -> tuple[str, str, str]:
    shares = [_share(gate, one, rule) for one in gate.references] if rule.max_change is not None else []
    limit = "–" if rule.limit is None else output.figure(rule.limit, rule.metric)
    if rule.deadline_ns is not None:
        limit += f" of queries later than {output.figure(rule.deadline_ns, 'latency_ns')}"
    return rule.metric, ", ".join(dict.fromkeys(shares)) or "–", limit


def _share(gate: Gate, reference: Reference, rule: Rule) -> str:
    share = gate.margin(reference, rule)
    own = rule.metric in dict(reference.max_change)
    return f"{100 * (share or 0):g} %" + (f" (against {reference.name})" if own else "")
