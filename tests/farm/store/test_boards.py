"""Boards come back as the inventory named them, with what they last answered."""

from __future__ import annotations

from dataclasses import replace

import pytest

from farm.domain import Board
from farm.errors import NotFound
from farm.store import boards
from farm.store.db import Store
from tests.farm.store.nouns import BOARD, LATER, NOW


def test_an_unknown_board_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound, match=r"Board 'orin-9' is not known to this farm. See `farm boards`"):
        boards.get_board(store, "orin-9")


def test_a_board_comes_back_as_it_was_saved(store: Store) -> None:
    boards.save_board(store, BOARD, NOW)
    assert boards.get_board(store, "orin-3") == BOARD


def test_a_board_saved_without_facts_keeps_what_it_last_answered(store: Store) -> None:
    boards.save_board(store, BOARD, NOW)
    boards.save_board(store, replace(BOARD, address="bench@10.0.0.8:22", facts={}), LATER)
    assert boards.get_board(store, "orin-3") == replace(BOARD, address="bench@10.0.0.8:22")


def test_new_facts_replace_the_old_ones(store: Store) -> None:
    boards.save_board(store, BOARD, NOW)
    boards.save_board(store, replace(BOARD, facts={"kernel": "6.6"}), LATER)
    assert boards.get_board(store, "orin-3").facts == {"kernel": "6.6"}


def test_boards_are_listed_by_name(store: Store) -> None:
    for name in ("pi-1", "orin-3", "coral-2"):
        boards.save_board(store, Board(name=name), NOW)
    assert [board.name for board in boards.list_boards(store)] == ["coral-2", "orin-3", "pi-1"]
