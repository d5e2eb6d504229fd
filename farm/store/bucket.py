"""Objects of one bucket on an S3-compatible server, through boto3; its errors in our words, with no secret in them.

Verified on a stand-in: moto's server.

Each request signs its payload's sha256 (Signature Version 4), which every such server checks; the newer checksums are
not known to all of them. What is read back is hashed by the caller.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import boto3
from boto3.s3.transfer import TransferConfig, create_transfer_manager
from botocore import exceptions
from botocore.config import Config
from botocore.response import StreamingBody

from farm.errors import FarmError, InputError, StoreError, StoreFull

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 30
ATTEMPTS = 3
PART_BYTES = 16 << 20
_CHUNK_BYTES = 1 << 20

_ABSENT = ("404", "NoSuchKey", "NotFound")
_NO_CREDENTIALS = (
    exceptions.NoCredentialsError,
    exceptions.PartialCredentialsError,
    exceptions.CredentialRetrievalError,
    exceptions.ProfileNotFound,
    exceptions.ConfigParseError,
    exceptions.SSOError,
    exceptions.TokenRetrievalError,
    exceptions.MetadataRetrievalError,
)
_CUT = (exceptions.ResponseStreamingError, exceptions.IncompleteReadError, exceptions.ReadTimeoutError)
_UNREACHABLE = (exceptions.ConnectionError, exceptions.HTTPClientError, exceptions.IncompleteReadError)

_CREATE = "Create the bucket, or name another in blobs_url."
_SIGN_IN = (
    "Check the credentials that boto3 finds: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, "
    "or the role of this machine."
)
_ALLOW = "Allow s3:GetObject, s3:PutObject and s3:DeleteObject on its objects and s3:ListBucket on the bucket."
_REGION = "Name the region of the bucket in blobs_url: ?region=…"
_CLOCK = "Set the clock of this machine."
_ADVICE = {
    "NoSuchBucket": _CREATE,
    "AccessDenied": _ALLOW,
    "AllAccessDisabled": _ALLOW,
    "400": f"{_SIGN_IN} {_REGION}",  # an answer to HEAD has no body, so no better code
    "403": f"{_SIGN_IN} {_ALLOW}",
    "InvalidAccessKeyId": _SIGN_IN,
    "SignatureDoesNotMatch": _SIGN_IN,
    "ExpiredToken": _SIGN_IN,
    "InvalidToken": _SIGN_IN,
    "301": _REGION,
    "PermanentRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "RequestTimeTooSkewed": _CLOCK,
}


class Bucket:
    """One bucket. Safe to be shared by threads; a child process opens its own."""

    def __init__(self, name: str, *, shown: str, endpoint_url: str | None, region: str | None) -> None:
        """`shown` is how errors name it. Raises StoreError where no credentials can be read, InputError."""
        self.name = name
        self._shown = shown
        self._is_there = False
        config = Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
            max_pool_connections=32,
            signature_version="s3v4",
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            # bucket.minio.lab is a name that few labs' DNS knows
            s3={"payload_signing_enabled": True, "addressing_style": "path" if endpoint_url else "auto"},
        )
        with self._edge():
            session = boto3.session.Session()
            try:
                self._client = session.client("s3", region_name=region, endpoint_url=endpoint_url, config=config)
            except ValueError:  # botocore checks these two by itself
                raise InputError(
                    f"Blob store {shown} cannot be used: endpoint_url or region is malformed. Correct blobs_url."
                ) from None

    def check(self) -> None:
        """Raise StoreError where the bucket is not there, not ours or out of reach."""
        with self._edge():
            try:
                self._client.head_bucket(Bucket=self.name)
            except exceptions.ClientError as error:
                if _code(error) in _ABSENT:
                    raise self._failed("the server answered NoSuchBucket", _CREATE) from None
                raise
        self._is_there = True

    def size_bytes(self, key: str) -> int | None:
        """The size of an object; None where there is none."""
        with self._edge():
            try:
                return self._client.head_object(Bucket=self.name, Key=key)["ContentLength"]
            except exceptions.ClientError as error:
                if _code(error) not in _ABSENT:
                    raise
        if not self._is_there:  # an answer to HEAD has no body to say what is absent
            self.check()
        return None

    def read(self, key: str) -> Iterator[bytes] | None:
        """An object's bytes; None where there is none. A connection cut in the midst is made anew, where it was cut."""
        with self._edge():
            try:
                body = self._get(key, 0)
            except exceptions.ClientError as error:
                if _code(error) in _ABSENT:
                    return None
                raise
        return self._bytes(key, body)

    def write(self, key: str, source: Path) -> None:
        """Keep a file as an object, in parts where it is large. There is no object before all of them are there."""
        config = TransferConfig(
            multipart_threshold=PART_BYTES,
            multipart_chunksize=PART_BYTES,
            max_concurrency=4,
            preferred_transfer_client="classic",  # the same on every machine
        )
        with self._edge(), create_transfer_manager(self._client, config) as manager:
            manager.upload(str(source), self.name, key).result()

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens where there is none."""
        with self._edge():
            self._client.delete_object(Bucket=self.name, Key=key)

    def _get(self, key: str, done: int) -> StreamingBody:
        if done:
            return self._client.get_object(Bucket=self.name, Key=key, Range=f"bytes={done}-")["Body"]
        return self._client.get_object(Bucket=self.name, Key=key)["Body"]

    def _bytes(self, key: str, body: StreamingBody) -> Iterator[bytes]:
        done = cuts = 0
        with self._edge():
            while True:
                try:
                    with contextlib.closing(body):
                        for chunk in body.iter_chunks(_CHUNK_BYTES):
                            done += len(chunk)
                            yield chunk
                        return
                except _CUT:
                    cuts += 1
                    if cuts == ATTEMPTS:
                        raise
                    body = self._get(key, done)

    @contextlib.contextmanager
    def _edge(self) -> Iterator[None]:
        """Turn boto3's errors into ours. Their texts may quote a whole URL; only their codes are repeated."""
        try:
            yield
        except exceptions.ClientError as error:
            code = _code(error)
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 507:
                raise StoreFull(
                    f"Blob store {self._shown} is full: the server answered {code}. Nothing was written. "
                    "Free some space there or raise the quota."
                ) from None
            advice = _ADVICE.get(code, "Look into the log of that server, then try again.")
            raise self._failed(f"the server answered {code}", advice) from None
        except _NO_CREDENTIALS as error:
            raise self._failed(f"no credentials to sign with ({type(error).__name__})", _SIGN_IN) from None
        except exceptions.SSLError:
            raise self._failed(
                "TLS was refused (SSLError)",
                "Check https:// in endpoint_url and the server's certificate; AWS_CA_BUNDLE names your own authority.",
            ) from None
        except _UNREACHABLE as error:
            raise self._failed(
                f"no answer ({type(error).__name__}) in {ATTEMPTS} attempts",
                "Check that the server runs, the network to it, and endpoint_url in blobs_url.",
            ) from None
        except exceptions.BotoCoreError as error:
            raise self._failed(type(error).__name__, "Check blobs_url and the configuration of boto3.") from None

    def _failed(self, seen: str, advice: str) -> FarmError:
        return StoreError(f"Blob store {self._shown} failed: {seen}. {advice}")


def _code(error: exceptions.ClientError) -> str:
    return error.response["Error"]["Code"]
