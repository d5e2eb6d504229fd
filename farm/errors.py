"""One tree of errors, sorted by who must act. The docstring is the default message; doors map classes to exit codes.

Every message has four parts: what, which thing, what was seen, what to do.
"""

from __future__ import annotations

from typing import ClassVar


class FarmError(Exception):
    """Something went wrong in benchfarm."""

    outcome: ClassVar[str] = "BROKEN"  # the Outcome of a Run that ends with this
    blame: ClassVar[str | None] = None  # "board" or "farm" where the outcome is BROKEN
    retry: ClassVar[bool] = False  # would the same again, elsewhere or later, make sense

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or " ".join((self.__doc__ or "").split()))


class InputError(FarmError):
    """What you gave cannot be used."""

    outcome = "FAILED"


class NotFound(InputError):
    """What you named is not there."""


class KeyReused(InputError):
    """An idempotency key was used for another request."""


class Conflict(InputError):
    """It cannot be done in the state in which the thing is."""


class NotSignedIn(InputError):
    """No valid token was given."""


class Forbidden(InputError):
    """Your token does not allow this."""


class TooLarge(InputError):
    """What you gave is larger than this farm takes."""


class NoBoardFits(InputError):
    """No board can ever satisfy the job."""


class InventoryError(InputError):
    """inventory.yaml has mistakes."""


class PlanError(InputError):
    """The Plan cannot be used."""


class GateError(InputError):
    """The gate cannot be used."""


class HostKeyUnknown(InputError):
    """The board's host key is not pinned yet. Compare its fingerprint, then pin it."""


class ArtifactError(FarmError):
    """The model failed."""

    outcome = "FAILED"


class LabError(FarmError):
    """The lab failed."""

    blame = "farm"
    retry = True


class FarmUnreachable(LabError):
    """The farm does not answer, or not as a farm does."""


class BoardUnreachable(LabError):
    """The board cannot be reached."""

    blame = "board"


class BoardRefused(LabError):
    """The board answers, but cannot be used as it is."""

    blame = "board"


class HostKeyChanged(LabError):
    """The board's host key is not the one that was pinned. Nothing was sent."""

    blame = "board"
    retry = False


class BoardBusy(LabError):
    """Someone else holds the board."""


class DiskFull(LabError):
    """A disk is full."""

    blame = "board"


class StoreFull(DiskFull):
    """A disk of the coordinator is full."""

    blame = "farm"


class TookTooLong(LabError):
    """A part of the job took longer than it may."""

    blame = "board"


class BrokerUnreachable(LabError):
    """The message broker does not answer."""


class AgentCrashed(LabError):
    """The agent ended before its work was done."""

    blame = "board"


class AgentMismatch(LabError):
    """The agent on the board speaks another version than this coordinator."""

    retry = False


class ConnectionLost(LabError):
    """The connection to the board was lost."""


class LeaseLost(LabError):
    """The lease on the board is no longer ours. Nothing was written."""


class StoreError(LabError):
    """The database or the blob store failed."""


class DeliveryFailed(LabError):
    """A notice could not be delivered. It is tried again."""

    def __init__(self, message: str | None = None, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s  # how long the receiver asks to be left alone


class DeliveryRefused(LabError):
    """A notice's receiver will not have it, however often it is sent."""

    retry = False


class Cancelled(FarmError):
    """A person ended it."""

    outcome = "CANCELLED"


class FarmBug(FarmError):
    """benchfarm itself is wrong. Please report this with the traceback."""

    blame = "farm"
