"""The app of the REST API: its routes under /api/v1, health and metrics beside them, one way for errors to be told."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator
from importlib import metadata as package
from typing import Any

import uvicorn
from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException

from farm.api import (
    artifacts,
    baselines,
    boards,
    changes,
    events,
    health,
    jobs,
    metrics,
    problems,
    runs,
    tokens,
    workers,
)
from farm.api.auth import OPENAPI, PREFIX, Gate
from farm.api.door import Bodies, Door
from farm.api.services import Services as Services
from farm.errors import FarmError
from farm.schemas import Problem

_NOUNS = (artifacts, jobs, events, runs, baselines, boards, workers, tokens, changes)


def create_app(services: Services, *, listeners: int = events.PLACES) -> FastAPI:
    """The ASGI app that serves one farm. Run it by `Server`; so many may listen to events at once."""
    hub = events.Hub(services.store, places=listeners)
    meters = metrics.Meters(services)
    app = FastAPI(
        title="benchfarm",
        version=package.version("benchfarm"),
        openapi_url=OPENAPI,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan,
        exception_handlers=dict.fromkeys((FarmError, HTTPException, RequestValidationError), problems.answered),
    )
    app.state.services, app.state.hub, app.state.meters = services, hub, meters
    app.state.uploads = artifacts.places()
    api = APIRouter(prefix=PREFIX)
    for noun in _NOUNS:
        api.include_router(noun.router)
    app.include_router(api)
    app.include_router(health.router)
    app.include_router(metrics.router)
    app.add_middleware(Bodies, settings=services.settings)
    app.add_middleware(Gate, services=services)
    app.add_middleware(Door, settings=services.settings, count=meters.count)  # the last is the outermost
    app.openapi = lambda: _described(app)  # type: ignore[method-assign]
    return app


class Server(uvicorn.Server):
    """uvicorn, but that the event streams end when it is told to: it would wait for them for ever."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End gracefully."""
        hub: events.Hub = self.config.app.state.hub  # type: ignore[union-attr]
        hub.close()
        await super().shutdown(sockets)


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    hub: events.Hub = app.state.hub
    hub.close()
    await hub.ended()


def _described(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document: every operation may answer with a Problem."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, routes=app.routes)
        schemas = document["components"]["schemas"]
        schemas["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        problem = {"content": {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
        for operations in document["paths"].values():
            for operation in operations.values():
                operation["responses"].pop("422", None)
                operation["responses"]["4XX"] = {"description": "What was asked cannot be done", **problem}
                operation["responses"]["5XX"] = {"description": "The farm cannot do it now", **problem}
        app.openapi_schema = document
    return app.openapi_schema
