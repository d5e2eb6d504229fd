"""What a Notifier is: how a Notice leaves the farm.

One file a kind in `notifiers/`: `webhook.py`, `github.py`; see Notifier for what each has. `channels.py` reads which
Notices go where, `send` picks the kind. Who sends keeps what is still to be sent, and asks `again_s` when to try again.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, cast

import httpx
from farm_agent import plugins

from farm.domain import Notice
from farm.errors import DeliveryFailed, FarmError, InputError

KINDS: Mapping[str, str] = {
    "job.done": "a Job has ended, with its Outcome and Verdict",
    "board.quarantined": "a Board is given out no more, because its last Runs broke",
}
WAITS_S = (10.0, 30.0, 120.0, 600.0, *([3600.0] * 23))  # a day in all
JITTER_RATIO = 0.2


@dataclass(frozen=True, slots=True)
class Channel:
    """One entry of notifiers.yaml: which Notices go where."""

    name: str
    kind: str  # a file of notifiers/
    on: tuple[str, ...] = ()  # kinds of Notices; () = all
    projects: tuple[str, ...] = ()  # () = all
    options: Mapping[str, Any] = field(default_factory=dict)
    secret: str | None = field(default=None, repr=False)


class Notifier(Protocol):
    """What each file of notifiers/ has."""

    @property
    def OPTIONS(self) -> Mapping[str, str]:
        """Each option with one line of help."""

    def check(self, options: Mapping[str, Any]) -> None:
        """Raises OptionsWrong (see `refuse`) where these options cannot be used."""

    def check_secret(self, options: Mapping[str, Any], secret: str | None) -> None:
        """Raises OptionsWrong, which never shows it, where this secret, or none, cannot be used."""

    def deliver(
        self,
        notice: Notice,
        options: Mapping[str, Any],
        *,
        client: httpx.Client,
        secret: str | None,
        now: datetime,
    ) -> None:
        """Deliver once; again with the same Notice is told as the same. Raises DeliveryFailed, DeliveryRefused."""


class OptionsWrong(InputError):
    """Options of a notifier cannot be used; `mistakes` says of each what was seen and what is needed."""

    def __init__(self, mistakes: Mapping[str, str]) -> None:
        super().__init__(" ".join(f"{option} {text}" for option, text in mistakes.items()))
        self.mistakes = mistakes


def wanted(channels: Sequence[Channel], notice: Notice) -> list[Channel]:
    """The Channels that a Notice goes to. One of no Project is for each that wants its kind."""
    return [
        channel
        for channel in channels
        if (not channel.on or notice.kind in channel.on)
        and (not channel.projects or notice.project is None or notice.project in channel.projects)
    ]


def send(channel: Channel, notice: Notice, *, client: httpx.Client, now: datetime) -> None:
    """Deliver a Notice once through a Channel. Raises DeliveryFailed, DeliveryRefused."""
    kind_of(channel.kind).deliver(notice, channel.options, client=client, secret=channel.secret, now=now)


def again_s(attempts: int, error: FarmError, *, rng: random.Random) -> float | None:
    """How long to wait after so many failed attempts, the last of which ended in `error`; None: give up.

    Never shorter than the receiver asked for; up to JITTER_RATIO longer, so that many do not come back at once.
    """
    if not error.retry or attempts > len(WAITS_S):
        return None
    asked_s = error.retry_after_s if isinstance(error, DeliveryFailed) else None
    return max(WAITS_S[attempts - 1], asked_s or 0.0) * rng.uniform(1.0, 1.0 + JITTER_RATIO)


def refuse(found: Mapping[str, str | None]) -> None:
    """Raises OptionsWrong with what was found wrong of each option; nothing where all are None."""
    mistakes = {option: text for option, text in found.items() if text is not None}
    if mistakes:
        raise OptionsWrong(mistakes)


def wrong_url(value: Any, *, insecure: Any) -> str | None:
    """What is wrong with the URL of a receiver; None where it can be used. Never shows it: it may hold a secret."""
    if value is None:
        return "is missing. Add the https:// URL of the receiver."
    try:
        url = httpx.URL(value)
    except (httpx.InvalidURL, TypeError):
        return "is no URL. Write it as https://host/path."
    if url.scheme not in ("http", "https") or not url.host or url.fragment:
        return "is no URL of a web server. Write it as https://host/path."
    if url.userinfo:
        return "holds a password. Remove it: secrets are in the variable that secret_env names."
    if url.scheme == "http" and insecure is not True and not _is_loopback(url.host):
        return "is http:// to another machine. Use https://, or add `insecure: true` where the network is your own."
    return None


def wrong_flag(value: Any) -> str | None:
    """What is wrong with an option that is true, false or left out."""
    return None if value is None or isinstance(value, bool) else f"is {value!r:.60}. Write true or false."


def kind_of(name: str) -> Notifier:
    """The file of notifiers/ of that name. Raises KeyError, with the known names, or ImportError."""
    return cast(Notifier, plugins.load("farm.notifiers", name))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
