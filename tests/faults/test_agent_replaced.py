"""The agent on a board is replaced while a Run uses it: the Run goes on with what it began with."""

from __future__ import annotations

from pathlib import Path

from farm import bundle, domain, execute
from tests.trip.conftest import Trip


def test_an_agent_that_is_replaced_on_its_board_changes_no_run_under_way(trip: Trip, board: domain.Board) -> None:
    replaced: list[Path] = []

    def replace(event: execute.Event) -> None:
        if event.text == "timed" and not replaced:
            for path in Path(board.home).glob("agents/*.zip"):
                path.unlink()
                path.write_text("raise SystemExit('another agent')")
                replaced.append(path)

    run = trip.bench(trip.fake(), board, replace)
    assert len(replaced) == 1
    assert run.outcome is domain.Outcome.OK
    assert run.context["agent"] == bundle.agent_hash()
    assert trip.bench(trip.fake(), board).outcome is domain.Outcome.OK  # it was seen, and pushed again
