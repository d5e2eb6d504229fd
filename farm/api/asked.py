"""What stands in paths, queries, headers and Plans, checked; and cursors, which are opaque to who gets them."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Annotated, Any

from farm_agent import wire
from fastapi import Header, Path, Query

from farm import intake, schemas
from farm.domain import Artifact
from farm.errors import InputError, PlanError

LONGEST_S = 7 * 86_400.0  # that a Job may measure
_ID = r"^[0-9a-fA-F-]{1,36}$"
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NUMBER = re.compile(r"[0-9]{1,18}")

JobId = Annotated[str, Path(pattern=_ID, description="The Job's id, or how that begins")]
RunId = Annotated[str, Path(pattern=_ID, description="The Run's id, or how that begins")]
Hash = Annotated[schemas.Sha256, Path(description="sha256 of the file, or of the folder's manifest")]
BoardName = Annotated[schemas.Name, Path()]
WorkerId = Annotated[schemas.Name, Path()]
TokenId = Annotated[str, Path(pattern=r"^[a-z2-7]{8}$")]
ProjectName = Annotated[schemas.Name | None, Query()]
Model = Annotated[schemas.Name | None, Query()]
OnBoard = Annotated[schemas.Name | None, Query()]
Limit = Annotated[int, Query(ge=1, le=200)]
Cursor = Annotated[str | None, Query(max_length=200, description="`next` of the page before")]
IdempotencyKey = Annotated[str | None, Header(pattern=r"^[\x21-\x7e]{1,200}$")]
LastEventId = Annotated[int | None, Header(ge=0, le=2**62, description="The last event that was seen")]


def cursor(last: str | int) -> str:
    """The cursor of the page after `last`."""
    return base64.urlsafe_b64encode(str(last).encode()).decode().rstrip("=")


def before_id(given: str | None) -> str | None:
    """The id in a cursor. Raises InputError."""
    return None if given is None else _within(given, _UUID)


def before_number(given: str | None) -> int | None:
    """The number in a cursor. Raises InputError."""
    return None if given is None else int(_within(given, _NUMBER))


def plan(data: Mapping[str, Any], artifact: Artifact) -> wire.Plan:
    """A checked Plan for an Artifact. It can name no file of the farm. Raises PlanError."""
    if data.get("feed"):
        raise PlanError(
            "plan.feed is given in the plan, where no file can be named. Send the .npz, and give `feed` beside it."
        )
    found = intake.plan_from(data, artifact=artifact)
    longest_s = found.duration_s + found.processes * found.warmup_s
    if longest_s > LONGEST_S:
        raise PlanError(
            f"The plan measures for too long: {longest_s:.0f} s in {found.processes} processes; the limit is "
            f"{LONGEST_S:.0f} s. Lower duration_s, warmup_s or processes."
        )
    return found


def _within(given: str, shape: re.Pattern[str]) -> str:
    try:
        text = base64.b64decode(given + "=" * (-len(given) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        text = ""
    if not shape.fullmatch(text):
        raise InputError(f"Cursor {given!r} is none of this list. Give `next` of the page before, or leave it out.")
    return text
