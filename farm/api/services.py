"""What the API works with. There is one of these for each app, and nothing global."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Request

from farm.settings import Settings
from farm.store.db import Store


def _nothing() -> None:
    """Nobody is to be woken."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Services:
    """Store, settings, who is woken after a change that may free or want a Board, and what time it is."""

    store: Store
    settings: Settings
    kick: Callable[[], None] = _nothing
    clock: Callable[[], datetime] = _utc_now


async def _of(request: Request) -> Services:  # async: a thread each would cost more than it does
    services: Services = request.app.state.services
    return services


Farm = Annotated[Services, Depends(_of)]
