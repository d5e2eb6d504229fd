"""The coordinator's clock is stepped by a day, either way: no lease ends by it, and no Job is given up or held back."""

from __future__ import annotations

from tests.faults.farmhouse import Farmhouse, farm_template, house

__all__ = ["farm_template", "house"]

DAY_S = 86_400.0


def test_a_clock_that_is_stepped_ends_no_lease_and_no_job_that_waits(house: Farmhouse) -> None:
    house.add_board("pi-1")
    dispatcher = house.dispatcher()
    first = house.submit(duration_s=6.0)
    house.worker()
    house.until_told(first, "timed")
    second = house.submit(duration_s=2.0)  # it waits for longer than between two looks at who waits for too long
    house.step(DAY_S)
    house.until_told(second, "timed")
    third = house.submit()
    house.step(-DAY_S)
    assert house.until_over(first, second, third) == ["OK"] * 3
    assert [len(house.runs(job)) for job in (first, second, third)] == [1, 1, 1]
    assert dispatcher.is_alive()
    house.check()
