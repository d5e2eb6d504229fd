"""Errors as problem+json (RFC 9457): which class of error is which HTTP status, in one table.

What is the client's doing is told in full. What is the farm's is logged in full, and told with the id of that entry.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping, Sequence

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import Request

from farm import errors
from farm.schemas import Problem

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5
_LONGEST = 2000  # characters of a detail
_SHOWN = 5  # mistakes of one request

log = logging.getLogger(__name__)


class MissingFiles(errors.Conflict):
    """Files of the folder were not sent yet."""

    def __init__(self, message: str, missing: Sequence[str]) -> None:
        super().__init__(message)
        self.missing = list(missing)


class TooSlow(errors.InputError):
    """What you send comes too slowly."""


class TooMany(errors.LabError):
    """The farm serves as many at once as it can."""


STATUSES: dict[type[BaseException], int] = {
    errors.InputError: 422,
    errors.NotSignedIn: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.KeyReused: 409,
    errors.Conflict: 409,
    errors.TooLarge: 413,
    TooSlow: 408,
    errors.BoardBusy: 409,
    errors.LabError: 503,
    errors.DiskFull: 507,
    Exception: 500,
}
"""The nearest class upwards counts."""

EXIT_CODES: dict[type[BaseException], int] = {
    errors.InputError: 2,
    errors.ArtifactError: 1,
    errors.LabError: 4,
    errors.Cancelled: 5,
    errors.FarmBug: 70,
    errors.FarmError: 4,
    Exception: 70,
}
"""What `farm` ends with after this problem: what it would have ended with, had the error been its own."""

_TOLD = (errors.InputError, errors.BoardBusy, TooMany)
_OF_HTTP: dict[int, type[errors.FarmError]] = {
    401: errors.NotSignedIn,
    403: errors.Forbidden,
    404: errors.NotFound,
    413: errors.TooLarge,
}


def answer(error: Exception, path: str = "") -> JSONResponse:
    """The response that tells of an error; `path` is what was asked for."""
    if isinstance(error, RequestValidationError):
        return _problem(422, errors.InputError, _mistakes(error))
    if isinstance(error, HTTPException):
        return _of_http(error, path)
    status = _nearest(STATUSES, error)
    if isinstance(error, _TOLD):
        return _problem(status, type(error), str(error), missing=getattr(error, "missing", ()))
    entry = uuid.uuid4().hex[:12]
    if isinstance(error, errors.LabError):
        log.warning("problem %s: %s: %s", entry, type(error).__name__, error)
        what = "Disk of the farm is full" if status == 507 else "Database or blob store of the farm does not answer"
        advice = "Try again; if it stays so, tell who runs the farm: its log has more under that id."
        return _problem(status, type(error), f"{what} (problem {entry}). {advice}")
    log.error("problem %s: %s", entry, error, exc_info=error)
    text = f"The farm itself is wrong (problem {entry}). Please report this; its log has more under that id."
    return _problem(500, errors.FarmBug, text)


async def answered(request: Request, error: Exception) -> JSONResponse:
    """The same, as FastAPI calls it."""
    return answer(error, request.url.path)


def _problem(
    status: int,
    kind: type[BaseException],
    detail: str,
    *,
    missing: Sequence[str] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    clean = detail[:_LONGEST].encode(errors="replace").decode()  # JSON of a client may hold halves of characters
    problem = Problem(
        title=next(one.__name__ for one in kind.__mro__ if one.__module__ == errors.__name__),
        status=status,
        detail=clean,
        exit_code=next(EXIT_CODES[one] for one in kind.__mro__ if one in EXIT_CODES),
        missing=list(missing),
    )
    more = dict(headers or {})
    if status == 401:
        more["WWW-Authenticate"] = 'Bearer realm="benchfarm"'
    if status == 503:
        more["Retry-After"] = str(RETRY_AFTER_S)
    return JSONResponse(problem.model_dump(), status, more, MEDIA_TYPE)


def _nearest(table: Mapping[type[BaseException], int], error: Exception) -> int:
    return next(table[kind] for kind in type(error).__mro__ if kind in table)


def _of_http(error: HTTPException, path: str) -> JSONResponse:
    """What the web framework found by itself."""
    seen = {
        404: f"Nothing is here: there is no path {path[:100]!r}. /api/v1/openapi.json lists every one.",
        405: "This path is not for that method. /api/v1/openapi.json lists what it is for.",
        400: "The request's body cannot be read: it is no JSON, or is nested too deeply. Send JSON in UTF-8.",
    }
    kind = _OF_HTTP.get(error.status_code, errors.InputError if error.status_code < 500 else errors.FarmBug)
    detail = seen.get(error.status_code, f"The request cannot be served: {error.detail}. Check it.")
    return _problem(error.status_code, kind, detail, headers=error.headers)


def _mistakes(error: RequestValidationError) -> str:
    """Every field that is wrong and why; what was given is not repeated, as it may be a secret."""
    found = [f"{'.'.join(map(str, one['loc']))[:200]}: {one['msg']}" for one in error.errors()]
    more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"The request cannot be used: {'; '.join(found[:_SHOWN])}{more}. Correct that; docs/api.md has every field."
