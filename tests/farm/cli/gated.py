"""A Job with a gate as a farm tells it, and a farm that has it."""

from __future__ import annotations

import hashlib
from typing import Any

from tests.farm.standin import JOB, RUN, Reply, StandIn, artifact, ended, event, job, sse, stream

DATA = b'{"latency_us": 200}'
SHA256 = hashlib.sha256(DATA).hexdigest()
P50 = "version: 1\nmetrics: {p50_latency_ns: {max_change: 3 %}}\n"
TEXT = {"pass": "it holds", "fail": "+5 % against main", "open": "not bounded yet", "lost": "no figure"}


def finding(status: str = "pass", **more: Any) -> dict[str, Any]:
    """One rule as the evidence stands."""
    plain = {
        "metric": "p50_latency_ns", "reference": "last-passing", "status": status, "n": 9, "bound": 0.03,
        "effect": 0.051, "low": 0.048, "high": None, "fail_ratio": 1.2, "pass_ratio": -0.3, "text": TEXT[status],
    }  # fmt: skip
    return plain | more


MEMORY = {"metric": "cold_load_rss_bytes", "reference": None, "bound": 2e8, "effect": 1.5e8, "low": None, "high": 1.6e8}


def gate(*findings: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What a Job is judged by."""
    arms: list[dict[str, Any]] = [
        {"letter": letter, "reference": name, "artifact": letter * 64, "artifact_name": f"{letter}.fake", "plan": {}}
        for letter, name in (("a", None), ("b", "last-passing"))
    ]
    plain = {
        "alpha": 0.01, "beta": 0.05, "pairs_limit": 80, "budget_s": 900.0, "on_undecided": "undecided", "arms": arms,
        "absent": {}, "board": "pi5-a", "pairs": 9, "kept": 8, "dropped": 1, "board_s": 24.4, "saved_s": 180.2,
        "queries": 40, "findings": list(findings),
    }  # fmt: skip
    return plain | more


def judged(verdict: str | None, outcome: str = "OK", *reasons: str, told: dict[str, Any] | None = None) -> Any:
    """The Job once it is over."""
    why = [{"code": code, "text": f"because {code}", "blame": None} for code in reasons]
    return ended(verdict, outcome, reasons=why, gate=told or gate())


def ends(farm: StandIn, over: dict[str, Any]) -> None:
    """Have a farm take the model, and its Job end so."""
    farm.on("PUT", f"/artifacts/{SHA256}", Reply(201, artifact("m.fake", DATA, SHA256)))
    farm.on("POST", "/jobs", Reply(201, job(gate=gate())))
    farm.on("GET", f"/jobs/{JOB}", Reply(data=job()), Reply(data=over))
    farm.on("GET", f"/jobs/{JOB}/events", stream(sse(event(1, "submitted"), event(2, over["state"]))))
    farm.on("GET", f"/runs/{RUN}", Reply(404, {"title": "NotFound", "status": 404, "detail": "gone", "exit_code": 2}))
