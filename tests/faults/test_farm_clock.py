"""The coordinator's clock is stepped by a day, either way: no lease ends by it, and no Job is lost."""

from __future__ import annotations

import pytest

from tests.faults.farmhouse import Farmhouse, farm_template, house

__all__ = ["farm_template", "house"]


@pytest.mark.parametrize("step_s", [86_400.0, -86_400.0], ids=["a day ahead", "a day back"])
def test_a_clock_that_is_stepped_ends_no_lease_and_delays_no_job(house: Farmhouse, step_s: float) -> None:
    house.add_board("pi-1")
    dispatcher = house.dispatcher()
    house.worker()
    first = house.submit(duration_s=2.0)
    house.until_told(first, "timed")
    second = house.submit()
    house.step(step_s)
    assert house.until_over(first, second) == ["OK", "OK"]
    third = house.submit()
    house.step(0.0)
    assert house.until_over(third) == ["OK"]
    assert [len(house.runs(job)) for job in (first, second, third)] == [1, 1, 1]
    assert dispatcher.is_alive()
    house.check()
