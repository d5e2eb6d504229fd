"""One farm over HTTP: calls that outlive its restart, and what it refuses as our errors. It knows no verb.

A farm that does not answer is asked again, more and more rarely, for as long as the caller has patience; what cannot
be said twice without harm is said again only where it cannot have been heard.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib import metadata
from typing import Any, TypeVar

import httpx
from httpx_sse import EventSource, ServerSentEvent, SSEError
from pydantic import TypeAdapter, ValidationError

from farm import errors, schemas
from farm.client.credentials import checked_token, checked_url, is_loopback
from farm.client.patience import Patience, Time, Unanswered
from farm.errors import FarmError, FarmUnreachable, InputError

API = "/api/v1"
PROBLEM = "application/problem+json"
AGAIN = frozenset({408, 429, 502, 503, 504})  # a farm that restarts or has too much to do, and its proxies
ANSWER_LIMIT_BYTES = 64 << 20
EVENT_LIMIT = 16 << 20  # characters without the end of an event
SAID_LIMIT = 4000  # characters of what a farm says of an error
UPLOAD_READ_S = 300.0  # a farm may have to copy what it got into its bucket before it answers

M = TypeVar("M")


class NoStream(Exception):
    """Something between the farm and us lets no events through."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the farm answered."""

    what: str  # method and path
    status: int
    kind: str  # content type
    data: bytes


class Link:
    """The way to one farm."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout_s: float,
        allow_http: bool,
        told: Callable[[str], None],
        time: Time,
    ) -> None:
        self.url, self.told, self.time = checked_url(url, allow_http=allow_http), told, time
        self._token, self._timeout_s = checked_token(token), timeout_s
        self._http = httpx.Client(
            headers={
                "Authorization": f"Bearer {self._token}",
                "Accept": "application/json",
                "User-Agent": f"benchfarm/{metadata.version('benchfarm')}",
            },
            timeout=timeout_s,
            trust_env=not is_loopback(httpx.URL(self.url).host),  # a proxy's loopback is another machine's
        )

    def __repr__(self) -> str:
        return f"Link({self.url!r})"

    def close(self) -> None:
        """Close every connection."""
        self._http.close()

    def patience(self, what: str, limit_s: float | None, until: float | None = None) -> Patience:
        """Patience with this farm."""
        return Patience(self.url, what, limit_s=limit_s, until=until, told=self.told, time=self.time)

    def call(
        self,
        method: str,
        path: str,
        *,
        patience: Patience,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        content: Callable[[], Iterator[bytes]] | None = None,
        is_repeatable: bool = True,
        wanted: Collection[int] = (),
    ) -> Answer:
        """What the farm answers: 2xx, or a status among `wanted`. Raises the error that another one stands for.

        `content` gives the body anew for each try.
        """
        while True:
            given = {
                "params": {name: value for name, value in (params or {}).items() if value is not None},
                "headers": headers,
                **({"json": json} if json is not None else {}),
                **({"content": content(), "timeout": self._upload_timeout()} if content is not None else {}),
            }
            try:
                answer = self._once(method, path, given)
            except Unanswered as failed:
                if not (is_repeatable or failed.is_unheard):
                    raise self._unknown(f"{method} {path}", failed) from None
                patience.wait(failed)
                continue
            patience.heard()
            if 200 <= answer.status < 300 or answer.status in wanted:
                return answer
            raise self.refusal(answer)

    def stream(
        self, path: str, *, last_id: int, heard: Callable[[], None], timeout_s: float
    ) -> Iterator[ServerSentEvent]:
        """Server-sent events until the stream ends. `heard` is called whenever anything comes, keepalives included.

        Raises Unanswered where it is cut, NoStream where something in between lets none through.
        """
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store", "Last-Event-ID": str(last_id)}
        timeout = httpx.Timeout(self._timeout_s, read=timeout_s)
        try:
            with self._http.stream("GET", self.url + API + path, headers=headers, timeout=timeout) as response:
                if response.status_code != 200 or not response.headers.get("content-type", "").startswith(
                    "text/event-stream"
                ):
                    answer = self._answer("GET", path, response)
                    self._check_answered(answer, response)
                    raise self.refusal(answer) if answer.kind == PROBLEM else NoStream
                heard()
                source: Any = _Heard(response, heard)  # all that httpx-sse asks of a response
                yield from EventSource(source).iter_sse()
        except SSEError:
            raise NoStream from None
        except httpx.RequestError as error:
            raise self._failed(error) from None

    def refusal(self, answer: Answer) -> FarmError:
        """The error that an answer stands for: the class that it names, else the one of its status."""
        try:
            problem = schemas.Problem.model_validate_json(answer.data)
        except ValidationError:
            return self._strange(answer)
        kind = getattr(errors, problem.title, None)
        if not (isinstance(kind, type) and issubclass(kind, FarmError)):
            kind = InputError if answer.status < 500 else FarmUnreachable
        return kind(self._clean(problem.detail))

    def read(self, answer: Answer, model: type[M]) -> M:
        """The answer as what it should be. Raises FarmUnreachable where it is something else."""
        return self.parsed(answer.what, answer.data, model)

    def parsed(self, what: str, data: bytes | str, model: type[M]) -> M:
        """The same of JSON that came otherwise."""
        try:
            return TypeAdapter(model).validate_json(data)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise self._garbled(what, f"{where + ': ' if where else ''}{first['msg']}") from None

    def _garbled(self, what: str, seen: str) -> FarmUnreachable:
        return FarmUnreachable(
            f"The answer of '{self.url}' to {what} cannot be understood: {seen}."
            " See that this is the URL of a benchfarm, and that its version is not another one (`farm version`)."
        )

    def _once(self, method: str, path: str, given: Mapping[str, Any]) -> Answer:
        try:
            with self._http.stream(method, self.url + API + path, **given) as response:
                answer = self._answer(method, path, response)
        except httpx.RequestError as error:
            raise self._failed(error) from None
        self._check_answered(answer, response)
        return answer

    def _check_answered(self, answer: Answer, response: httpx.Response) -> None:
        """Raises Unanswered for the answer of a farm that has no time now, and of a proxy without a farm behind it."""
        if answer.status in AGAIN:
            after_s = _retry_after_s(response.headers.get("retry-after"), datetime.now(UTC))
            seen = f"{answer.status} {self._told_by(answer)}".strip()
            raise Unanswered(seen, after_s=after_s, is_unheard=answer.status == 429)

    def _answer(self, method: str, path: str, response: httpx.Response) -> Answer:
        """All of a response, read within a limit of size and time."""
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        give_up = self.time.clock() + 2 * self._timeout_s
        parts: list[bytes] = []
        size = 0
        for part in response.iter_bytes():
            parts.append(part)
            size += len(part)
            if size > ANSWER_LIMIT_BYTES:
                seen = f"it is longer than {ANSWER_LIMIT_BYTES >> 20} MiB"
                raise self._garbled(f"{method} {path}", seen)
            if self.time.clock() > give_up:
                raise Unanswered("the answer came too slowly")
        return Answer(f"{method} {path}", response.status_code, kind, b"".join(parts))

    def _failed(self, error: httpx.RequestError) -> Unanswered:
        seen = self._clean(str(error)).rstrip(". ") or type(error).__name__
        if isinstance(error, (httpx.RemoteProtocolError, httpx.ReadError)):
            seen = f"the connection was cut: {seen}"
        causes = list(_causes(error))
        tls = next((cause for cause in causes if isinstance(cause, ssl.SSLError)), None)
        if isinstance(tls, ssl.SSLCertVerificationError) or getattr(tls, "reason", "") == "WRONG_VERSION_NUMBER":
            raise FarmUnreachable(
                f"The farm at '{self.url}' cannot be trusted: {seen}. Nothing was sent."
                " Correct the URL; or name the file of your own authority's certificates with SSL_CERT_FILE."
            )
        if isinstance(error, httpx.UnsupportedProtocol):
            raise FarmUnreachable(f"The farm at '{self.url}' cannot be reached: {seen}. Correct the URL.")
        is_unheard = isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError))
        return Unanswered(seen, is_unheard=is_unheard)

    def _strange(self, answer: Answer) -> FarmError:
        """An answer that no farm gives: it comes from a proxy, or from another server."""
        seen = f"{answer.status} ({answer.kind or 'no content type'}) came instead of a farm's answer to {answer.what}"
        advice = "See that it is the URL of a benchfarm (--url, FARM_URL), and what stands before it."
        if 300 <= answer.status < 400:
            seen = f"{answer.status}, a redirect, came as answer to {answer.what}, and is not followed"
            advice = "Give the URL to which it leads, such as https:// instead of http://."
        kind = FarmUnreachable if answer.status >= 500 else InputError
        return kind(f"'{self.url}' cannot be used: {seen}. {advice}")

    def _unknown(self, what: str, failed: Unanswered) -> FarmUnreachable:
        return FarmUnreachable(
            f"The farm at '{self.url}' did not answer {what}: {failed.seen}. It may have been done all the same:"
            " look before you try again."
        )

    def _told_by(self, answer: Answer) -> str:
        try:
            return self._clean(schemas.Problem.model_validate_json(answer.data).detail).rstrip(". ")
        except ValidationError:
            return ""

    def _clean(self, text: str) -> str:
        """What a stranger says: not endless, and never with our token in it."""
        return text.replace(self._token, "***")[:SAID_LIMIT]

    def _upload_timeout(self) -> httpx.Timeout:
        return httpx.Timeout(self._timeout_s, read=max(self._timeout_s, UPLOAD_READ_S))


class _Heard:
    """A response as httpx-sse reads it: whatever comes is told, and no event may be endless."""

    def __init__(self, response: httpx.Response, heard: Callable[[], None]) -> None:
        self._response, self._heard = response, heard
        self.headers = response.headers

    def iter_text(self) -> Iterator[str]:
        """The text as it comes."""
        size = 0
        for text in self._response.iter_text():
            self._heard()
            size = 0 if "\n\n" in text or "\r\n\r\n" in text else size + len(text)
            if size > EVENT_LIMIT:
                raise Unanswered(f"an event of more than {EVENT_LIMIT >> 20} MiB came")
            yield text


def _retry_after_s(value: str | None, now: datetime) -> float | None:
    """How long a farm wants to be left alone: seconds, or until a date (RFC 9110, 10.2.3)."""
    if not value:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (at.astimezone(UTC) - now).total_seconds())


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
