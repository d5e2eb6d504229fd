"""The Verdict of a Job as a commit status on GitHub, and as a check run where one asks for it.

    - name: github
      kind: github
      on: [job.done]
      secret_env: BENCHFARM_GITHUB_TOKEN
      options: {repositories: [acme/vision]}

The secret is a token that may write commit statuses or, with `app_id` and `installation_id`, the private key (PEM) of a
GitHub App: GitHub lets only Apps make check runs, and their tokens live one hour, so each delivery asks for its own.
A Job without a commit, without a repository or of another one than `repositories` names is not told: whoever may submit
Jobs must not thereby write to each repository that the token reaches.
Source: docs.github.com/rest, version 2022-11-28: commits/statuses, checks/runs, apps/apps, rate limits.
Verified on a stand-in: a local HTTP server that follows GitHub's documented API.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import httpx
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from farm import post, units
from farm.domain import Notice, Outcome, Verdict
from farm.errors import DeliveryFailed, DeliveryRefused
from farm.notifier import OptionsWrong, refuse, wrong_flag, wrong_url

OPTIONS: Mapping[str, str] = {
    "repositories": "owner/name of each repository that may be told",
    "checks": "true also makes a check run; needs app_id and installation_id",
    "app_id": "number of the GitHub App whose private key the secret is",
    "installation_id": "number of the App's installation",
    "api_url": "of GitHub Enterprise: https://HOST/api/v3",
    "insecure": "true allows an http:// api_url to another machine",
}
API_URL = "https://api.github.com"
API_VERSION = "2022-11-28"
LIMITED_S = 60.0  # GitHub: wait at least a minute where a limit does not say how long
MAX_DESCRIPTION_CHARACTERS = 140
MAX_CONTEXT_CHARACTERS = 255
MAX_ROWS = 60
MAX_SUMMARY_BYTES = 60_000  # GitHub takes 65,535
_REPOSITORY = re.compile(r"[A-Za-z0-9-]{1,100}/(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,100}\Z")
_COMMIT = re.compile(r"[0-9a-fA-F]{40}([0-9a-fA-F]{24})?\Z")
_TOKEN = re.compile(r"[!-~]{16,4096}\Z")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>()#|~!@&])")


def check(options: Mapping[str, Any]) -> None:
    """See Notifier."""
    insecure, repositories = options.get("insecure"), options.get("repositories")
    is_list = isinstance(repositories, list) and repositories
    is_good = is_list and all(isinstance(one, str) and _REPOSITORY.match(one) for one in repositories or ())
    refuse(
        {
            "repositories": None if is_good else f"is {repositories!r:.60}. Make it a list, such as [owner/name].",
            "api_url": wrong_url(options.get("api_url", API_URL), insecure=insecure),
            "insecure": wrong_flag(insecure),
            "checks": _wrong_checks(options),
            "app_id": _wrong_id(options, "app_id", "installation_id"),
            "installation_id": _wrong_id(options, "installation_id", "app_id"),
        }
    )


def check_secret(options: Mapping[str, Any], secret: str | None) -> None:
    """See Notifier."""
    if secret is None:
        raise OptionsWrong({"secret_env": "is missing. Add the variable that holds the token, or the App's key."})
    if "app_id" in options:
        _key(secret)
    elif not _TOKEN.match(secret):
        raise OptionsWrong({"secret_env": "names no token of GitHub: it is too short, or has spaces or line ends."})


def deliver(
    notice: Notice, options: Mapping[str, Any], *, client: httpx.Client, secret: str | None, now: datetime
) -> None:
    """See Notifier. A status or check run of the same name takes the place of an earlier one of the commit."""
    commit = notice.data.get("commit")
    repository = _repository(notice, options)
    if notice.kind != "job.done" or not commit or repository is None:
        return
    try:
        check_secret(options, secret)
    except OptionsWrong as wrong:
        raise DeliveryRefused(f"Nothing was sent to GitHub: {wrong}") from None
    if not _COMMIT.match(str(commit)):
        raise DeliveryRefused(
            f"GitHub cannot be told of commit {str(commit)!r:.60} of {repository}: this is no whole hash of 40 digits. "
            "Submit the Job with all of it."
        )
    github = _GitHub(client, options.get("api_url", API_URL).rstrip("/"), now, secret or "")
    if "app_id" in options:
        github = _installation(github, options, repository)
    state, conclusion = ruling(notice.data)
    name = f"benchfarm/{notice.data.get('model', '')}"[:MAX_CONTEXT_CHARACTERS]
    url = str(notice.data.get("url") or "")
    link = url if url.startswith(("https://", "http://")) else None
    status = {"state": state, "context": name, "description": _description(notice.title), "target_url": link}
    github.post(f"/repos/{repository}/statuses/{commit}", status)
    if options.get("checks"):
        run = {
            "name": name,
            "head_sha": commit,
            "status": "completed",
            "conclusion": conclusion,
            "completed_at": notice.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "external_id": notice.id,
            "details_url": link,
            "output": {"title": _description(notice.title), "summary": summary(notice)},
        }
        github.post(f"/repos/{repository}/check-runs", {key: value for key, value in run.items() if value is not None})


def ruling(data: Mapping[str, Any]) -> tuple[str, str]:
    """A Job's end as (state of the status, conclusion of the check run).

    What could not be decided must not let a merge through: GitHub's statuses know no neutral, so it is an error there.
    """
    verdict, outcome = data.get("verdict"), data.get("outcome")
    if outcome == Outcome.CANCELLED:
        return "error", "cancelled"
    if verdict == Verdict.FAIL or outcome == Outcome.FAILED:
        return "failure", "failure"
    if verdict == Verdict.PASS:
        return "success", "success"
    if verdict is None and outcome == Outcome.OK:
        return "success", "neutral"  # measured, and nothing was to be judged
    return "error", "neutral"


def summary(notice: Notice) -> str:
    """What a check run shows, as Markdown: the text, the reasons, and a table of the metrics."""
    data = notice.data
    named = ("board", "outcome", "verdict", "branch", "job")
    facts = [f"{key}: {_escaped(data[key])}" for key in named if data.get(key)]
    reasons = [
        f"- {_escaped(reason.get('text') if isinstance(reason, Mapping) else reason)}"
        for reason in _listed(data.get("reasons"))
    ]
    rows = [_row(one) for one in _listed(data.get("metrics")) if isinstance(one, Mapping)]
    table = ["| metric | value | low | high | n |", "|---|---|---|---|---|", *rows] if rows else []
    parts = [_escaped(notice.text, 2000), " · ".join(facts), "\n".join(reasons), "\n".join(table)]
    whole = "\n\n".join(part for part in parts if part).encode()
    if len(whole) <= MAX_SUMMARY_BYTES:
        return whole.decode()
    return whole[:MAX_SUMMARY_BYTES].decode(errors="ignore").rpartition("\n")[0] + "\n\n…"


@dataclass(frozen=True)
class _GitHub:
    """GitHub's API, as whoever holds this token."""

    client: httpx.Client
    api_url: str
    now: datetime
    token: str = field(repr=False)

    def post(self, path: str, data: Mapping[str, Any]) -> str:
        """The text of a good answer. Raises DeliveryFailed, DeliveryRefused."""
        headers = {
            "authorization": f"Bearer {self.token}",
            "accept": "application/vnd.github+json",
            "x-github-api-version": API_VERSION,
        }
        answer = post.post(self.client, self.api_url + path, json.dumps(data).encode(), headers, hide=self.token)
        wait_s = _limited_s(answer, self.now)
        if wait_s is not None:
            raise DeliveryFailed(
                f"{answer.receiver} answered {answer.status}: its rate limit is used up. It is tried again.",
                retry_after_s=wait_s,
            )
        post.check(answer, now=self.now, advice=f"See that the token may write to {path}.")
        return answer.text


def _installation(app: _GitHub, options: Mapping[str, Any], repository: str) -> _GitHub:
    """GitHub as an installation of the App: with a token for this repository and nothing but what is written."""
    permissions = {"statuses": "write", **({"checks": "write"} if options.get("checks") else {})}
    bearer = replace(app, token=_app_token(app.token, options["app_id"], app.now))
    asked = {"repositories": [repository.partition("/")[2]], "permissions": permissions}
    text = bearer.post(f"/app/installations/{options['installation_id']}/access_tokens", asked)
    try:
        token = json.loads(text)["token"]
    except (ValueError, KeyError, TypeError):
        token = None
    if not isinstance(token, str) or not _TOKEN.match(token):
        raise DeliveryFailed(
            f"{post.receiver_of(app.api_url)} gave no token for installation {options['installation_id']} of the App. "
            "It is tried again; see that `api_url` is GitHub's."
        )
    return replace(app, token=token)


def _app_token(pem: str, app_id: int, now: datetime) -> str:
    """The JSON Web Token (RFC 7519, RS256) that shows who the App is; good for 9 minutes, of 10 allowed."""
    at = int(now.timestamp())
    claims = {"iat": at - 60, "exp": at + 540, "iss": str(app_id)}  # a minute for clocks that differ
    parts = b".".join(_base64(json.dumps(part).encode()) for part in ({"alg": "RS256", "typ": "JWT"}, claims))
    return (parts + b"." + _base64(_key(pem).sign(parts, padding.PKCS1v15(), hashes.SHA256()))).decode()


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _key(pem: str) -> rsa.RSAPrivateKey:
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise OptionsWrong({"secret_env": "names no private key of an App. Give the whole PEM, with its line ends."})
    return key


def _limited_s(answer: post.Answer, now: datetime) -> float | None:
    """How long GitHub asks to be left alone; None where no limit was hit."""
    if answer.status not in (403, 429):
        return None
    asked_s = post.retry_after_s(answer.headers, now)
    if asked_s is not None:
        return asked_s
    if answer.headers.get("x-ratelimit-remaining") == "0":
        reset = answer.headers.get("x-ratelimit-reset", "")
        return post.bounded(float(reset) - now.timestamp()) if reset.isascii() and reset.isdigit() else LIMITED_S
    return LIMITED_S if answer.status == 429 or "rate limit" in answer.text.lower() else None


def _repository(notice: Notice, options: Mapping[str, Any]) -> str | None:
    """The Job's repository as the options write it; None where they do not name it."""
    named = str(notice.data.get("repository") or "").lower()
    return next((str(one) for one in options["repositories"] if str(one).lower() == named), None)


def _wrong_checks(options: Mapping[str, Any]) -> str | None:
    if options.get("checks") is True and "app_id" not in options:
        return "is true, but only a GitHub App may make check runs. Add its `app_id` and `installation_id`."
    return wrong_flag(options.get("checks"))


def _wrong_id(options: Mapping[str, Any], key: str, other: str) -> str | None:
    value = options.get(key)
    if value is None:
        return f"is missing beside {other}. Add the number that GitHub shows." if other in options else None
    is_number = isinstance(value, int) and not isinstance(value, bool) and value > 0
    return None if is_number else f"is {value!r:.60}. Write the number that GitHub shows."


def _description(text: str) -> str:
    """One line of at most 140 characters, none above U+FFFF: GitHub answers 422 to others."""
    line = "".join(one if ord(one) <= 0xFFFF else "?" for one in " ".join(text.split()))
    return line if len(line) <= MAX_DESCRIPTION_CHARACTERS else line[: MAX_DESCRIPTION_CHARACTERS - 1] + "…"


def _row(metric: Mapping[str, Any]) -> str:
    name = str(metric.get("metric", ""))
    figures = (_figure(metric.get(key), name) for key in ("value", "low", "high"))
    return f"| {' | '.join((_escaped(name), *figures, _escaped(metric.get('n', '–'))))} |"


def _figure(value: Any, metric: str) -> str:
    if value is None or isinstance(value, bool) or not isinstance(value, int | float):
        return "–"
    try:
        return units.format(value, metric)
    except ValueError:
        return f"{value:g}"


def _listed(value: Any) -> Sequence[Any]:
    return value[:MAX_ROWS] if isinstance(value, list | tuple) else ()


def _escaped(value: Any, limit: int = 300) -> str:
    """Text that somebody else chose, as one line of Markdown that means nothing else."""
    return _MARKDOWN.sub(r"\\\1", " ".join(str(value).split())[:limit])
