"""Who may come in, and what a token may do. Nothing of a request is read before its token was found."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from farm.api.services import Services
from farm.domain import Role, Token
from farm.errors import Forbidden, NotFound, NotSignedIn
from farm.store import tokens

PREFIX = "/api/v1"
OPENAPI = f"{PREFIX}/openapi.json"
METRICS = "/metrics"
_KEY = "farm.token"


class Gate:
    """Finds the token of each request for what is not open to all. Raises NotSignedIn."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self.app, self.services = app, services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_open(scope["path"]):
            secret = _secret(Headers(scope=scope))
            scope[_KEY] = await run_in_threadpool(tokens.find, self.services.store, secret, self.services.clock())
        await self.app(scope, receive, send)


def acts_in(token: Token, services: Services) -> str:
    """The Project in which a token submits."""
    return token.project or services.settings.project


def sees(token: Token, asked: str | None = None) -> str | None:
    """The Project to which an answer is limited; None: no limit. Raises NotFound where another's is asked for."""
    if token.role is Role.ADMIN:
        return asked
    if asked not in (None, token.project):
        raise NotFound(f"Project {asked!r} is not known to token {token.id}: it is of another one. Leave it out.")
    return token.project


def _is_open(path: str) -> bool:
    return path == OPENAPI or not (path == METRICS or path.startswith(PREFIX))


def _secret(headers: Headers) -> str:
    given = headers.getlist("authorization")
    scheme, _, secret = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    if scheme.lower() != "bearer" or not secret.strip():
        seen = "no Authorization header" if not given else "an Authorization header that is no single Bearer token"
        raise NotSignedIn(f"The request shows no token: it has {seen}. Send 'Authorization: Bearer bf_…'.")
    return secret.strip()


_SHOWN = HTTPBearer(auto_error=False, description="A token: bf_<role>_<id>_<secret>")


async def _anyone(request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Security(_SHOWN)]) -> Token:
    token: Token = request.scope[_KEY]
    return token


async def _engineer(token: Annotated[Token, Depends(_anyone)]) -> Token:
    return _may(token, Role.ENGINEER, Role.ADMIN)


async def _admin(token: Annotated[Token, Depends(_anyone)]) -> Token:
    return _may(token, Role.ADMIN)


def _may(token: Token, *roles: Role) -> Token:
    if token.role not in roles:
        needed = " or ".join(roles)
        raise Forbidden(f"Token {token.id} may not do this: its role is {token.role}, {needed} is needed. Use one.")
    return token


Anyone = Annotated[Token, Depends(_anyone)]
Engineer = Annotated[Token, Depends(_engineer)]
Admin = Annotated[Token, Depends(_admin)]
