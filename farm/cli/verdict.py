"""What a submit came to: one word, and what there is to show for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from farm.cli import gate, output, report

if TYPE_CHECKING:
    from farm.client import Client
    from farm.schemas import JobTold


HOLDS = "holds"  # a rule of the gate that is kept: the table of rules shows it


@dataclass(frozen=True)
class Ended:
    """How it ended. Without a Job nothing was submitted; without a Run nothing was measured, or it is not known."""

    word: str  # PASS, FAIL, UNDECIDED, BROKEN or CANCELLED
    model: str
    on: str
    url: str | None = None  # of the farm
    job: JobTold | None = None
    run: Mapping[str, Any] | None = None  # as `farm show --json` gives it
    error: str | None = None  # why there is no Job that has ended
    error_kind: str | None = None  # its class

    @property
    def counts_as(self) -> str:
        """The word whose exit code it ends with: a gate's on_undecided may let UNDECIDED pass, or fail."""
        gate = self.job.gate if self.job is not None else None
        if self.word != "UNDECIDED" or gate is None or self.job is None or self.job.verdict is None:
            return self.word  # a wait that was given up has no verdict to accept
        return {"fail": "FAIL", "accept": "PASS"}.get(gate.on_undecided, self.word)

    @property
    def board(self) -> str | None:
        """The Board that measured last."""
        if self.run is not None:
            return str(self.run["board"])
        return self.job.runs[-1].board if self.job is not None and self.job.runs else None

    @property
    def is_virtual(self) -> bool:
        """Whether its figures are not a real board's."""
        return bool((self.run or {}).get("virtual") or (self.job is not None and self.job.virtual))

    @property
    def reasons(self) -> Sequence[str]:
        """Why it is no PASS, in words; each once."""
        found = [self.error] if self.error else []
        if self.job is not None:
            found += [f"{one.code}: {one.text}" for one in self.job.reasons if one.code != HOLDS]
        found += [f"{reason['code']}: {reason['text']}" for reason in (self.run or {}).get("reasons") or ()]
        return list(dict.fromkeys(found))

    @property
    def plan(self) -> str:
        """The Plan in one line; "" where there is no Job."""
        return "" if self.job is None else report.plan_line(self.job.plan, {})

    @property
    def measured_s(self) -> float:
        """How long its last Run took; time in the queue never counts."""
        last = self.job.runs[-1] if self.job is not None and self.job.runs else None
        if last is None or last.ended_at is None:
            return 0.0
        return max(0.0, (last.ended_at - (last.begun_at or last.started_at)).total_seconds())

    def as_json(self) -> dict[str, Any]:
        """The object of `--json`."""
        return {
            "verdict": self.word,
            "job": None if self.job is None else self.job.model_dump(mode="json"),
            "run": self.run,
        }


def of(job: JobTold, farm: Client) -> Ended:
    """What a Job that is over came to, with its last Run. Losing that Run does not lose the verdict."""
    from farm.client import word
    from farm.errors import FarmError

    run, error = None, None
    if job.runs:
        try:
            run = farm.run(job.runs[-1].id)
        except FarmError as failed:
            error = f"Its run could not be read: {failed}"
            output.say(error)
    return Ended(word(job), job.model, job.on, farm.url, job, run, error, error and "FarmUnreachable")


def broken(error: BaseException, model: str, on: str, url: str | None, job: JobTold | None) -> Ended:
    """What is told where it is not known how it ended, or nothing was submitted."""
    if isinstance(error, KeyboardInterrupt):
        text = "A person, or the CI system, ended the wait."
        return Ended("CANCELLED", model, on, url, job, None, text, "Cancelled")
    return Ended("BROKEN", model, on, url, job, None, str(error) or type(error).__name__, type(error).__name__)


def show(ended: Ended, *, as_json: bool) -> None:
    """Print it: the word first, alone on its line."""
    if as_json:
        output.result_json(ended.as_json())
        return
    output.result(ended.word)
    if ended.run is None:
        for reason in ended.reasons:
            output.result(f"  {reason}")
    else:
        report.run(ended.run, is_here=False)
    if ended.job is not None and ended.job.gate is not None:
        gate.show(ended.job.gate)
    if ended.job is not None:
        output.say(f"job {ended.job.id}   more: farm job show {output.short(ended.job.id)}")
