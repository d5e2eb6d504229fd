"""A signed POST of the Notice as JSON, to any receiver that can check an HMAC.

    - name: ci-hook
      kind: webhook
      secret_env: BENCHFARM_HOOK_SECRET
      options: {url: "https://ci.example/hooks/benchfarm"}

Each attempt bears `X-Benchfarm-Event` (the Notice's kind), `X-Benchfarm-Delivery` (its id, the same each time),
`X-Benchfarm-Timestamp` (seconds since 1970, of this attempt) and `X-Benchfarm-Signature-256`: `sha256=` and the hex
HMAC-SHA256, keyed with the secret, of the timestamp, a dot and the body. Without a secret nothing is signed.
Source: RFC 2104 (HMAC), RFC 9110 15 (what a status means) and 10.2.3 (Retry-After).
Verified on a stand-in: a local HTTP server, with the receiver's snippet of docs/notifiers.md.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import httpx
import pydantic_core

from farm import post
from farm.domain import Notice
from farm.notifier import OptionsWrong, refuse, wrong_flag, wrong_url

OPTIONS: Mapping[str, str] = {
    "url": "where to POST to: https://, or http:// on this machine",
    "insecure": "true allows http:// to another machine",
}
VERSION = 1  # of the body. 1: version, id, kind, project, title, text, at, data, is_cut
MAX_BODY_BYTES = 64 << 10
MIN_SECRET_CHARACTERS = 16
_CUT_CHARACTERS = 1000


def check(options: Mapping[str, Any]) -> None:
    """See Notifier."""
    insecure = options.get("insecure")
    refuse({"url": wrong_url(options.get("url"), insecure=insecure), "insecure": wrong_flag(insecure)})


def check_secret(options: Mapping[str, Any], secret: str | None) -> None:
    """See Notifier."""
    if secret is not None and len(secret) < MIN_SECRET_CHARACTERS:
        raise OptionsWrong(
            {"secret_env": f"names one of under {MIN_SECRET_CHARACTERS} characters. Try `openssl rand -hex 32`."}
        )


def deliver(
    notice: Notice, options: Mapping[str, Any], *, client: httpx.Client, secret: str | None, now: datetime
) -> None:
    """See Notifier."""
    content = body(notice)
    timestamp = str(int(now.timestamp()))
    headers = {
        "X-Benchfarm-Event": notice.kind,
        "X-Benchfarm-Delivery": notice.id,
        "X-Benchfarm-Timestamp": timestamp,
    }
    if secret is not None:
        headers["X-Benchfarm-Signature-256"] = signature(secret, timestamp, content)
    answer = post.post(client, options["url"], content, headers, hide=secret or "")
    post.check(answer, now=now, advice="Correct the notifier's `url` or secret, or its receiver.")


def signature(secret: str, timestamp: str, content: bytes) -> str:
    """What proves that a body is ours, and of that time."""
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + content, hashlib.sha256).hexdigest()


def body(notice: Notice) -> bytes:
    """The Notice as JSON, NaN as null. Where it is over MAX_BODY_BYTES, only what is short is left."""
    whole = {
        "version": VERSION,
        "id": notice.id,
        "kind": notice.kind,
        "project": notice.project,
        "title": notice.title,
        "text": notice.text,
        "at": notice.at,
        "data": notice.data,
        "is_cut": False,
    }
    content = _json(whole)
    if len(content) <= MAX_BODY_BYTES:
        return content
    short = {key: value for key, value in notice.data.items() if len(_json(value)) <= _CUT_CHARACTERS}
    data = dict(list(short.items())[:30])
    cut = {"title": notice.title[:_CUT_CHARACTERS], "text": notice.text[:_CUT_CHARACTERS], "data": data}
    return _json({**whole, **cut, "is_cut": True})


def _json(value: object) -> bytes:
    return pydantic_core.to_json(value, inf_nan_mode="null")
