"""Boards over HTTP: everybody sees what there is to ask for; only an admin registers or changes one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fastapi import APIRouter

from farm import inventory, schemas
from farm.api import asked
from farm.api.auth import Admin, Anyone
from farm.api.services import Farm, Services
from farm.domain import Board, BoardState, BoardStatus, Health, Role, Token
from farm.errors import Conflict, NotFound
from farm.store import boards

router = APIRouter(tags=["boards"])

_REACHED_BY = ("address", "python", "home")  # with another of these it may be another machine


@router.get("/boards")
def list_boards(token: Anyone, farm: Farm) -> schemas.BoardsTold:
    """Every Board."""
    return schemas.BoardsTold(boards=[_told(status, token) for status in boards.statuses(farm.store)])


@router.get("/boards/{name}")
def show_board(name: asked.BoardName, token: Anyone, farm: Farm) -> schemas.BoardTold:
    """One Board."""
    return _told(boards.status(farm.store, name), token)


@router.put("/boards/{name}")
def put_board(name: asked.BoardName, body: schemas.BoardAsked, token: Admin, farm: Farm) -> schemas.BoardTold:
    """Register a Board, or change the entry of one that is reached by SSH. Its health is looked at first."""
    given = body.model_dump(exclude_defaults=True) | {"name": name, "transport": "ssh"}
    # JSON is YAML: the entry is checked as one of inventory.yaml is.
    entry = json.dumps({"version": inventory.VERSION, "boards": [given]})
    (board,) = inventory.parse(entry, "of the request")
    before = _known(farm, name)
    if before is not None:
        if before.transport != "ssh" or before.is_virtual:
            raise Conflict(f"Board {name!r} is {_kind(before)}, which only inventory.yaml says. Change it there.")
        board = replace(board, sensors=before.sensors, options=before.options)
    boards.save_board(farm.store, board, farm.clock(), by=token.name)
    if before is not None and any(getattr(before, key) != getattr(board, key) for key in _REACHED_BY):
        note = "its entry was changed"
        boards.set_health(farm.store, name, Health.UNKNOWN, note=note, by=token.name, now=farm.clock())
    farm.kick()
    return _told(boards.status(farm.store, name), token)


@router.post("/boards/{name}/state")
def set_state(name: asked.BoardName, body: schemas.StateAsked, token: Admin, farm: Farm) -> schemas.BoardTold:
    """Say what the lab wants of a Board."""
    boards.set_state(farm.store, name, body.state, note=body.note, by=token.name, now=farm.clock())
    farm.kick()
    return _told(boards.status(farm.store, name), token)


@router.post("/boards/{name}/health")
def set_health(name: asked.BoardName, body: schemas.HealthAsked, token: Admin, farm: Farm) -> schemas.BoardTold:
    """Quarantine a Board, or have its health looked at."""
    health = Health(body.health)
    boards.set_health(farm.store, name, health, note=body.note, by=token.name, now=farm.clock())
    farm.kick()
    return _told(boards.status(farm.store, name), token)


def _known(farm: Services, name: str) -> Board | None:
    try:
        return boards.get_board(farm.store, name)
    except NotFound:
        return None


def _kind(board: Board) -> str:
    return "a virtual board" if board.is_virtual else f"reached by transport {board.transport}"


def _told(status: BoardStatus, token: Token) -> schemas.BoardTold:
    """A Board as this token may see it: a fork's need not know where it is, nor what other Projects did to it."""
    board, lease = status.board, status.lease
    identity, context = _mapping(board.facts, "identity"), _mapping(board.facts, "context")
    state = str(status.state)
    if status.state is BoardState.READY:
        state = "idle" if lease is None else "leased"
    memory_bytes = context.get("memory_total_bytes")
    accelerators = identity.get("accelerators")
    is_trusted = token.role is not Role.CI
    return schemas.BoardTold(
        name=board.name,
        site=board.site,
        transport=board.transport,
        address=board.address if token.role is Role.ADMIN else None,
        tags=list(board.tags),
        virtual=board.is_virtual or board.facts.get("is_virtual") is True,
        state=state,
        health=status.health,
        failures=status.failures,
        note=status.note if is_trusted else "",
        next_check_at=status.next_check_at,
        leased_since=None if lease is None else lease.granted_at,
        holder=lease.holder if lease is not None and is_trusted else None,
        family=_text(identity.get("family")),
        model=_text(identity.get("model")),
        accelerators=[str(one) for one in accelerators] if isinstance(accelerators, list) else [],
        memory_bytes=memory_bytes if isinstance(memory_bytes, int) else None,
        runtimes=sorted(
            name
            for name, said in _mapping(board.facts, "runtimes").items()
            if isinstance(said, dict) and said.get("present") is True
        ),
    )


def _mapping(facts: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """A part of what a board said of itself, which is not trusted to have any shape."""
    found = facts.get(key)
    return found if isinstance(found, dict) else {}


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
