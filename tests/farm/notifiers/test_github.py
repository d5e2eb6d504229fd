"""GitHub, by a stand-in: a local HTTP server that answers as GitHub's documentation says."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Mapping
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from farm.domain import Notice
from farm.errors import DeliveryFailed, DeliveryRefused
from farm.notifier import OptionsWrong
from farm.notifiers import github
from tests.farm.notifiers.receiver import (
    COMMIT,
    NOW,
    SECRET,
    TOKEN,
    Answer,
    Handler,
    Receiver,
    client,
    notice,
    running,
    says,
)

INSTALLATION_TOKEN = "ghs_16C7e42F292c6912E7710c838347Ae178B4a"
APP: dict[str, Any] = {"app_id": 12345, "installation_id": 678}


@pytest.fixture(scope="module")
def app_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def pem_of(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()


def gives_a_token(handler: Handler) -> None:
    says(201, json.dumps({"token": INSTALLATION_TOKEN, "expires_at": "2026-05-04T04:02:01Z"}).encode())(handler)


def deliver(
    receiver: Receiver, told: Notice | None = None, secret: str | None = TOKEN, **options: object
) -> list[tuple[str, Any]]:
    """One attempt; what was POSTed: (path, JSON)."""
    with client() as found:
        whole: Mapping[str, Any] = {"repositories": ["Acme/Vision"], "api_url": receiver.url + "/api/v3/", **options}
        github.deliver(told or notice(), whole, client=found, secret=secret, now=NOW)
    return [(request.path, json.loads(request.body)) for request in receiver.requests]


@pytest.mark.parametrize(
    "changes",
    [
        {"commit": None},
        {"commit": ""},
        {"repository": None},
        {"repository": "acme/other"},
        {"repository": "acme/vision/../other"},
        {"kind": "board.quarantined", "project": None},
    ],
)
def test_what_is_not_about_a_commit_of_a_named_repository_is_not_told(changes: dict[str, object]) -> None:
    with running() as receiver:
        assert deliver(receiver, notice(**changes)) == []


@pytest.mark.parametrize("commit", ["main", "4b1d0c9", "../../issues", COMMIT + "/x", COMMIT + "\n", 17])
def test_a_commit_that_is_no_whole_hash_is_refused_and_nothing_is_sent(commit: object) -> None:
    with running() as receiver:
        with pytest.raises(DeliveryRefused, match="this is no whole hash of 40 digits"):
            deliver(receiver, notice(commit=commit))
    assert receiver.requests == []


@pytest.mark.parametrize(
    ("answer", "wait_s"),
    [
        (says(403, Retry_After="30"), 30.0),
        (says(429, Retry_After="30"), 30.0),
        (says(403, x_ratelimit_remaining="0", x_ratelimit_reset="1777863821"), 100.0),
        (says(429, x_ratelimit_remaining="0", x_ratelimit_reset="1777999999"), 3600.0),
        (says(403, x_ratelimit_remaining="0"), 60.0),
        (says(403, b'{"message": "You have exceeded a secondary rate limit."}', x_ratelimit_remaining="4000"), 60.0),
        (says(429), 60.0),
        (says(502), None),
    ],
)
def test_a_rate_limit_and_a_broken_github_are_waited_for(answer: Answer, wait_s: float | None) -> None:
    with running(answer) as receiver:
        with pytest.raises(DeliveryFailed, match="It is tried again") as caught:
            deliver(receiver)
    assert caught.value.retry_after_s == wait_s
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "Bad credentials"),
        (403, "Resource not accessible by personal access token"),
        (404, "Not Found"),
        (422, "No commit found for SHA"),
    ],
)
def test_what_github_refuses_is_told_in_its_words(status: int, message: str) -> None:
    with running(says(status, json.dumps({"message": message}).encode(), x_ratelimit_remaining="4999")) as receiver:
        with pytest.raises(DeliveryRefused, match=f"answered {status}: .*{message}.*See that the token may write to"):
            deliver(receiver)


def test_a_token_is_in_the_header_and_nowhere_else(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    def echo(handler: Handler) -> None:
        says(422, str(handler.headers).encode())(handler)

    with running(echo) as receiver:
        with pytest.raises(DeliveryRefused) as caught:
            deliver(receiver)
    (request,) = receiver.requests
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert request.headers["x-github-api-version"] == "2022-11-28"
    assert request.headers["user-agent"] == "benchfarm"
    assert request.headers["accept"] == "application/vnd.github+json"
    assert TOKEN not in str(caught.value)
    assert TOKEN not in caplog.text
    assert TOKEN not in request.body.decode()


@pytest.mark.parametrize("secret", [None, "hunter2", "two words of a secret", TOKEN + "\n"])
def test_a_token_that_cannot_be_one_is_refused_before_anything_is_sent(secret: str | None) -> None:
    with running() as receiver:
        with pytest.raises(DeliveryRefused, match="Nothing was sent to GitHub: secret_env") as caught:
            deliver(receiver, secret=secret)
    assert receiver.requests == []
    assert secret is None or secret not in str(caught.value)


def test_a_verdict_is_a_status_of_its_commit() -> None:
    with running(says(201)) as receiver:
        assert deliver(receiver) == [
            (
                f"/api/v3/repos/Acme/Vision/statuses/{COMMIT}",
                {
                    "state": "success",
                    "context": "benchfarm/mobilenet_v2",
                    "description": "PASS: mobilenet_v2 on pi5-a",
                    "target_url": "https://farm.lab/jobs/1",
                },
            )
        ]


@pytest.mark.parametrize(
    ("outcome", "verdict", "state", "conclusion"),
    [
        ("OK", "PASS", "success", "success"),
        ("OK", "FAIL", "failure", "failure"),
        ("FAILED", "FAIL", "failure", "failure"),
        ("FAILED", None, "failure", "failure"),
        ("OK", None, "success", "neutral"),
        ("OK", "UNDECIDED", "error", "neutral"),
        ("NOISY", "UNDECIDED", "error", "neutral"),
        ("NOISY", None, "error", "neutral"),
        ("BROKEN", None, "error", "neutral"),
        ("CANCELLED", None, "error", "cancelled"),
        (None, None, "error", "neutral"),
    ],
)
def test_only_what_was_found_good_is_a_success(
    outcome: str | None, verdict: str | None, state: str, conclusion: str
) -> None:
    assert github.ruling({"outcome": outcome, "verdict": verdict}) == (state, conclusion)


@pytest.mark.parametrize(
    ("title", "description"),
    [
        ("x" * 140, "x" * 140),
        ("x" * 141, "x" * 139 + "…"),
        ("two\nlines \t of it", "two lines of it"),
        ("a bug 🐛 — ü", "a bug ? — ü"),
    ],
)
def test_a_description_is_what_github_takes(title: str, description: str) -> None:
    with running(says(201)) as receiver:
        ((_, status),) = deliver(receiver, notice(title=title, url="javascript:alert(1)", model="m" * 300))
    assert status["description"] == description
    assert status["target_url"] is None
    assert len(status["context"]) == 255


def test_an_app_makes_a_status_and_a_check_run_with_a_token_for_that_alone(app_key: rsa.RSAPrivateKey) -> None:
    with running(gives_a_token, says(201), says(201)) as receiver:
        asked, status, run = deliver(receiver, secret=pem_of(app_key), checks=True, **APP)
    assert asked == (
        "/api/v3/app/installations/678/access_tokens",
        {"repositories": ["Vision"], "permissions": {"statuses": "write", "checks": "write"}},
    )
    assert status[0] == f"/api/v3/repos/Acme/Vision/statuses/{COMMIT}"
    assert run == (
        "/api/v3/repos/Acme/Vision/check-runs",
        {
            "name": "benchfarm/mobilenet_v2",
            "head_sha": COMMIT,
            "status": "completed",
            "conclusion": "success",
            "completed_at": "2026-05-04T03:02:01Z",
            "external_id": "0197a000-0000-7000-8000-00000000000a",
            "details_url": "https://farm.lab/jobs/1",
            "output": {"title": "PASS: mobilenet_v2 on pi5-a", "summary": github.summary(notice())},
        },
    )
    bearers = [request.headers["authorization"] for request in receiver.requests]
    assert bearers[1:] == [f"Bearer {INSTALLATION_TOKEN}"] * 2
    check_jwt(bearers[0].removeprefix("Bearer "), app_key)


def check_jwt(token: str, key: rsa.RSAPrivateKey) -> None:
    """A JSON Web Token as GitHub asks for: RS256, issued by the App, for at most 10 minutes."""
    head, claims, signature = (base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in token.split("."))
    signed = token.rpartition(".")[0].encode()
    key.public_key().verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
    assert json.loads(head) == {"alg": "RS256", "typ": "JWT"}
    assert json.loads(claims) == {"iat": 1777863661, "exp": 1777864261, "iss": "12345"}


def test_an_app_without_check_runs_asks_for_no_right_to_make_them(app_key: rsa.RSAPrivateKey) -> None:
    with running(gives_a_token, says(201)) as receiver:
        asked, _ = deliver(receiver, secret=pem_of(app_key), **APP)
    assert asked[1]["permissions"] == {"statuses": "write"}


@pytest.mark.parametrize("text", [b"", b"[]", b'{"token": 1}', b'{"token": "bad token\\n"}', b"\xff"])
def test_an_answer_without_a_token_has_failed(text: bytes, app_key: rsa.RSAPrivateKey) -> None:
    with running(says(201, text)) as receiver:
        with pytest.raises(DeliveryFailed, match="gave no token for installation 678"):
            deliver(receiver, secret=pem_of(app_key), **APP)
    assert len(receiver.requests) == 1


def test_a_key_that_is_no_rsa_key_is_told_without_being_shown() -> None:
    for secret in (SECRET, pem_of(ec.generate_private_key(ec.SECP256R1())), "-----BEGIN PRIVATE KEY-----\nx\n"):
        with pytest.raises(OptionsWrong, match="secret_env names no private key of an App") as caught:
            github.check_secret(APP, secret)
        assert secret not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "repositories is None"),
        ({"repositories": []}, "repositories is \\[\\]"),
        ({"repositories": ["acme"]}, "repositories is"),
        ({"repositories": ["acme/.."]}, "repositories is"),
        ({"repositories": ["https://github.com/acme/vision"]}, "repositories is"),
        ({"repositories": ["acme/vision/x"]}, "repositories is"),
        ({"repositories": ["a/b"], "checks": True}, "checks is true, but only a GitHub App may"),
        ({"repositories": ["a/b"], "checks": "yes"}, "checks is 'yes'. Write true or false"),
        ({"repositories": ["a/b"], "app_id": 1}, "installation_id is missing beside app_id"),
        ({"repositories": ["a/b"], "app_id": True, "installation_id": 1}, "app_id is True"),
        ({"repositories": ["a/b"], "app_id": 1, "installation_id": "../x"}, "installation_id is '../x'"),
        ({"repositories": ["a/b"], "api_url": "http://ghe.example/api/v3"}, "api_url is http:// to another machine"),
    ],
)
def test_options_that_cannot_be_used_are_told(options: dict[str, object], words: str) -> None:
    with pytest.raises(OptionsWrong, match=words):
        github.check(options)


def test_a_summary_is_a_table_in_readable_units() -> None:
    told = notice(
        outcome="NOISY",
        verdict="UNDECIDED",
        reasons=[{"code": "throttled", "text": "CPU at 1.5 GHz, locked to 2.4 GHz"}, "and *hot*"],
        metrics=[
            {"metric": "p50_latency_ns", "value": 1637000.0, "low": 1.6e6, "high": None, "n": 500},
            {"metric": "score", "value": 0.75},
        ],
    )
    assert github.summary(told) == (
        "p50 latency 1.637 ms\n\n"
        "board: pi5-a · outcome: NOISY · verdict: UNDECIDED · branch: main · "
        "job: 0197a000-0000-7000-8000-000000000001\n\n"
        "- CPU at 1.5 GHz, locked to 2.4 GHz\n- and \\*hot\\*\n\n"
        "| metric | value | low | high | n |\n|---|---|---|---|---|\n"
        "| p50\\_latency\\_ns | 1.637 ms | 1.6 ms | – | 500 |\n"
        "| score | 0.75 | – | – | – |"
    )


def test_a_summary_cannot_be_broken_out_of_and_stays_below_githubs_limit() -> None:
    evil = "| a |\n# <img src=x> [x](http://evil) `" + "y" * 5000
    told = notice(
        text=evil, branch=evil, reasons=[evil] * 500, metrics=[{"metric": evil, "value": "x", "n": evil}] * 500
    )
    found = github.summary(told)
    assert len(found.encode()) <= 60_000
    assert len(github.summary(notice(reasons=["ü*" * 500] * 500)).encode()) <= 60_000
    assert "\n#" not in found
    assert "<img" not in found.replace("\\<", "")
    assert github.summary(notice(text="", metrics=None, reasons=7, board=None, job=None, branch=None)) == (
        "outcome: OK · verdict: PASS"
    )
