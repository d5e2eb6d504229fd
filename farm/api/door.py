"""What every request passes: limits of size and time on its body, safe headers on its answer, and it is counted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from farm.api import problems
from farm.api.auth import PREFIX
from farm.api.problems import TooSlow
from farm.errors import TooLarge
from farm.settings import Settings

JSON_LIMIT_BYTES = 4_000_000  # a folder of 10,000 files is about 1.5 MB

Count = Callable[[Scope, int, float], None]


class Door:
    """The outermost: whatever goes wrong further in becomes a problem, and a client that takes nothing is given up."""

    def __init__(self, app: ASGIApp, settings: Settings, count: Count) -> None:
        self.app, self.settings, self.count = app, settings, count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        visit = _Visit(scope, receive, send, self.settings.upload_idle_s, self.count)
        try:
            await self.app(scope, visit.receive, visit.send)
        except ClientDisconnect:
            return  # nobody is there to be told
        except Exception as error:
            if visit.is_answered:
                raise
            await problems.answer(error)(scope, visit.receive, visit.send)


class _Visit:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, idle_s: float, count: Count) -> None:
        self._scope, self._receive, self._send, self._idle_s, self._count = scope, receive, send, idle_s, count
        self._began_s = time.monotonic()
        headers = Headers(scope=scope)
        self._is_body_left = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        self.is_answered = False

    async def receive(self) -> Message:
        message = await self._receive()
        if not message.get("more_body", False):
            self._is_body_left = False
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.is_answered = True
            headers = MutableHeaders(scope=message)
            headers["X-Content-Type-Options"] = "nosniff"
            headers.setdefault("Cache-Control", "no-store")
            if self._is_body_left:
                headers["Connection"] = "close"  # rather than read on what nobody wants
            self._count(self._scope, message["status"], time.monotonic() - self._began_s)
        try:
            async with asyncio.timeout(self._idle_s):
                await self._send(message)
        except TimeoutError:
            raise ClientDisconnect from None  # it is there, but takes nothing


class Bodies:
    """Reads what is not an upload before anybody waits for it. Raises TooLarge, TooSlow."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app, self.settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        is_upload = scope["method"] == "PUT" and scope["path"].startswith(f"{PREFIX}/artifacts/")
        limit_bytes = self.settings.upload_limit_bytes if is_upload else JSON_LIMIT_BYTES
        said = Headers(scope=scope).get("content-length", "0")
        if said.isdigit() and int(said) > limit_bytes:
            raise _too_large(f"it has {said} bytes", limit_bytes)
        if is_upload:
            await self.app(scope, receive, send)
            return
        whole: list[Message] = [await self._whole(receive, limit_bytes)]

        async def replay() -> Message:
            return whole.pop() if whole else await receive()

        await self.app(scope, replay, send)

    async def _whole(self, receive: Receive, limit_bytes: int) -> Message:
        body = bytearray()
        try:
            async with asyncio.timeout(self.settings.upload_idle_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnect
                    body += message.get("body", b"")
                    if len(body) > limit_bytes:
                        raise _too_large(f"over {limit_bytes} bytes came", limit_bytes)
                    if not message.get("more_body", False):
                        return {"type": "http.request", "body": bytes(body), "more_body": False}
        except TimeoutError:
            raise TooSlow(
                f"The request's body did not come: {len(body)} bytes in {self.settings.upload_idle_s:g} s. Send it all."
            ) from None


def _too_large(seen: str, limit_bytes: int) -> TooLarge:
    return TooLarge(f"The request's body is too large: {seen}, {limit_bytes} is the limit. Send less.")
