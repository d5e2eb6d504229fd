"""One POST: bounded in time and size, no redirect followed, and what its answer means for a Notice."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx

from farm.errors import DeliveryFailed, DeliveryRefused

TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 64 << 10
MAX_RETRY_AFTER_S = 3600.0
SHOWN_CHARACTERS = 200
_TRY_AGAIN = (408, 425, 429)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver answered."""

    receiver: str  # scheme, host and port: a path may hold a secret
    status: int
    headers: httpx.Headers
    text: str  # the first MAX_ANSWER_BYTES of its body


def client() -> httpx.Client:
    """What POSTs go through: TLS is checked, nothing is carried over from one receiver to the next."""
    forgetful = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
    return httpx.Client(timeout=TIMEOUT_S, cookies=forgetful, follow_redirects=False)


def post(client: httpx.Client, url: str, content: bytes, headers: Mapping[str, str], *, hide: str = "") -> Answer:
    """What the receiver answers within the client's time for a read, TIMEOUT_S at most, over a connection of its own.

    `hide` is struck out of what it says. Raises DeliveryFailed where there is no answer.
    """
    receiver = receiver_of(url)
    allowed_s = min(TIMEOUT_S, client.timeout.read or TIMEOUT_S)
    ours = {
        "user-agent": "benchfarm",  # GitHub refuses who names none
        "content-type": "application/json",
        "accept-encoding": "identity",  # what is small on the wire must not grow in memory
        "connection": "close",  # so that each has a connection of its own, which `_deadline` may cut
    }
    request = client.build_request("POST", url, content=content, headers={**ours, **headers}, timeout=allowed_s)
    is_over = threading.Event()
    try:
        with _deadline(allowed_s, is_over) as trace:
            request.extensions["trace"] = trace
            response = client.send(request, stream=True, follow_redirects=False)
            with contextlib.closing(response):
                text = _start(response)
    except httpx.LocalProtocolError:  # its text would show the header, which may be the secret
        raise DeliveryRefused(
            f"Nothing was sent to {receiver}: a header has characters that HTTP does not know. Correct the secret."
        ) from None
    except httpx.TransportError as error:
        is_late = is_over.is_set() or isinstance(error, httpx.TimeoutException)
        seen = f"within {allowed_s:g} s" if is_late else struck(f"({type(error).__name__}: {error})", hide)
        raise DeliveryFailed(f"{receiver} gave no answer {seen}. It is tried again; see that it runs.") from None
    return Answer(receiver, response.status_code, response.headers, text.replace(hide, "***") if hide else text)


def check(answer: Answer, *, now: datetime, advice: str = "Correct the notifier's options.") -> None:
    """Nothing for a 2xx. Raises DeliveryFailed where the same may succeed later, else DeliveryRefused."""
    if 200 <= answer.status < 300:
        return
    seen = f"{answer.receiver} answered {answer.status}: {struck(answer.text, '') or 'nothing more'}"
    if answer.status in _TRY_AGAIN or answer.status >= 500:
        raise DeliveryFailed(f"{seen}. It is tried again.", retry_after_s=retry_after_s(answer.headers, now))
    if answer.status < 400:
        advice = "Redirects are not followed: write the URL that it leads to."
    raise DeliveryRefused(f"{seen}. It is not tried again. {advice}")


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """How long `Retry-After` asks to wait, in seconds or as a date, bounded; None where it says nothing of use."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return bounded(float(text))
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return bounded(((at if at.tzinfo else at.replace(tzinfo=UTC)) - now).total_seconds())


def bounded(wait_s: float) -> float:
    """A wait that somebody else asked for, within 0 and MAX_RETRY_AFTER_S."""
    return min(max(wait_s, 0.0), MAX_RETRY_AFTER_S)


def receiver_of(url: str) -> str:
    """The part of a URL that may be told: scheme, host and port."""
    found = httpx.URL(url)
    return f"{found.scheme}://{found.netloc.decode('ascii')}"


def struck(text: str, hide: str) -> str:
    """The start of what somebody else wrote, on one line, printable, without what is to be hidden."""
    line = " ".join((text.replace(hide, "***") if hide else text).split())
    return "".join(one for one in line if one.isprintable())[:SHOWN_CHARACTERS].rstrip(". ")


def _start(response: httpx.Response) -> str:
    kept = bytearray()
    with contextlib.suppress(httpx.TransportError):  # the status is known, which is what counts
        for block in response.iter_raw():
            kept += block
            if len(kept) >= MAX_ANSWER_BYTES:
                break
    return bytes(kept[:MAX_ANSWER_BYTES]).decode(errors="replace")


@contextlib.contextmanager
def _deadline(after_s: float, is_over: threading.Event) -> Iterator[Callable[[str, Mapping[str, Any]], None]]:
    """Cut the connection when the time is over, and say so: httpx bounds each read, but a receiver may drip for ever.

    The value is the `trace` extension of the request, by which the connection's sockets become known.
    """
    sockets: list[socket.socket] = []

    def cut() -> None:
        is_over.set()
        for one in sockets:
            with contextlib.suppress(OSError):  # closed by now, or handed on to TLS
                one.shutdown(socket.SHUT_RDWR)

    def trace(event: str, info: Mapping[str, Any]) -> None:
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            sockets.append(info["return_value"].get_extra_info("socket"))
            if is_over.is_set():
                cut()

    timer = threading.Timer(after_s, cut)
    timer.daemon = True
    timer.start()
    try:
        yield trace
    finally:
        timer.cancel()
