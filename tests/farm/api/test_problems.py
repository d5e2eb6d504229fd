"""Which error is which problem: one table each, and none is forgotten."""

from __future__ import annotations

import json

import pytest

from farm import errors
from farm.__main__ import EXIT_CODES
from farm.api import problems

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.FarmError)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_problem_says_the_exit_code_that_the_same_error_has_on_the_command_line(
    kind: type[errors.FarmError],
) -> None:
    told = json.loads(bytes(problems.answer(kind("What, which, seen, do.")).body))
    expected = next(EXIT_CODES[one] for one in kind.__mro__ if one in EXIT_CODES)
    if told["title"] == kind.__name__:
        assert told["exit_code"] == expected
    else:  # of what cannot be the client's to know, only that we are wrong is told
        assert (told["title"], told["status"]) == ("FarmBug", 500)
        assert not issubclass(kind, errors.InputError | errors.LabError)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (errors.InputError, 422),
        (errors.PlanError, 422),
        (errors.NoBoardFits, 422),
        (errors.InventoryError, 422),
        (errors.NotSignedIn, 401),
        (errors.Forbidden, 403),
        (errors.NotFound, 404),
        (errors.KeyReused, 409),
        (errors.Conflict, 409),
        (errors.BoardBusy, 409),
        (errors.TooLarge, 413),
        (problems.TooSlow, 408),
        (errors.StoreError, 503),
        (errors.DiskFull, 507),
        (errors.StoreFull, 507),
        (errors.FarmBug, 500),
        (RuntimeError, 500),
    ],
)
def test_each_class_has_its_status(kind: type[Exception], status: int) -> None:
    answer = problems.answer(kind("x"))
    assert answer.status_code == json.loads(bytes(answer.body))["status"] == status
    assert ("www-authenticate" in answer.headers) == (status == 401)
    assert ("retry-after" in answer.headers) == (status == 503)


def test_what_a_client_made_up_is_cut_and_cleaned() -> None:
    told = json.loads(bytes(problems.answer(errors.InputError("\ud800" + "x" * 10_000)).body))
    assert told["detail"] == "?" + "x" * 1999
