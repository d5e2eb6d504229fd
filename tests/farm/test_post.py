"""One POST: whatever a receiver does, it ends in time, in bounded memory, and in one of three ways."""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from farm import post
from farm.errors import DeliveryFailed, DeliveryRefused
from tests.farm.notifiers.receiver import NOW, SECRET, Answer, client, drips, hangs_up, running, says


def tls_contexts(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A client that trusts 127.0.0.1 by its own certificate, and that server."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    today = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(Encoding.PEM)
    file = folder / "server.pem"
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + pem)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    return ssl.create_default_context(cadata=pem.decode()), server


def sent_to(answer: Answer, timeout_s: float = 10.0) -> post.Answer:
    """What a receiver with this answer is heard to say, once it was checked."""
    with running(answer) as receiver, client(timeout_s) as found:
        heard = post.post(found, receiver.url + "/hook", b"{}", {})
        post.check(heard, now=NOW)
        return heard


def test_a_receiver_that_sleeps_is_given_up_at_the_timeout() -> None:
    with pytest.raises(DeliveryFailed, match=r"127\.0\.0\.1:\d+ gave no answer within 0\.2 s\. It is tried"):
        sent_to(lambda handler: time.sleep(0.5), timeout_s=0.2)


@pytest.mark.parametrize(
    "answer",
    [drips(b"HTTP/1.1 200 OK\r\nX-A: ", b"a"), drips(b"", b"HTTP/1.1 100 Continue\r\n\r\n")],
    ids=["headers", "continues"],
)
def test_a_receiver_that_drips_for_ever_is_cut_off(answer: Answer) -> None:
    with pytest.raises(DeliveryFailed, match=r"gave no answer within 0\.3 s"):
        sent_to(answer, timeout_s=0.3)


def test_one_that_drips_over_tls_is_cut_off_too(tmp_path: Path) -> None:
    ours, theirs = tls_contexts(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip() -> None:
            with contextlib.suppress(OSError), theirs.wrap_socket(listening.accept()[0], server_side=True) as stream:
                stream.sendall(b"HTTP/1.1 200 OK\r\nX-A: ")
                while True:
                    stream.sendall(b"a")
                    time.sleep(0.05)

        thread = threading.Thread(target=drip)
        thread.start()
        with httpx.Client(verify=ours, timeout=0.5, trust_env=False) as found:
            with pytest.raises(DeliveryFailed, match=r"gave no answer within 0\.5 s"):
                post.post(found, f"https://127.0.0.1:{listening.getsockname()[1]}", b"", {})
        thread.join()


def test_a_certificate_that_nobody_vouches_for_is_told_nothing(tmp_path: Path) -> None:
    _, theirs = tls_contexts(tmp_path)
    with running() as receiver, client() as found:
        receiver.server.socket = theirs.wrap_socket(receiver.server.socket, server_side=True)
        with pytest.raises(DeliveryFailed, match="CERTIFICATE_VERIFY_FAILED"):
            post.post(found, receiver.url.replace("http:", "https:"), b"", {})
    assert receiver.requests == []


def test_a_good_status_counts_though_its_body_drips_for_ever() -> None:
    assert sent_to(drips(b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n", b"a"), timeout_s=1.0).status == 200


def test_of_a_flood_the_first_64_kilobytes_are_read() -> None:
    flood = drips(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", b"a" * 50_000, every_s=0)
    assert len(sent_to(flood).text) == 65536


def test_a_flood_of_headers_is_no_answer() -> None:
    with pytest.raises(DeliveryFailed, match="RemoteProtocolError"):
        sent_to(drips(b"HTTP/1.1 200 OK\r\n", b"X-A: " + b"a" * 50_000 + b"\r\n", every_s=0))


def test_what_is_small_on_the_wire_does_not_grow() -> None:
    heard = sent_to(says(200, b"\x1f\x8b not decompressed", Content_Encoding="gzip"))
    assert heard.text == "\x1f\ufffd not decompressed"


@pytest.mark.parametrize(
    "answer",
    [hangs_up, lambda handler: handler.wfile.write(b"SSH-2.0-OpenSSH\r\n\r\n")],
    ids=["closed", "another protocol"],
)
def test_a_receiver_that_speaks_no_http_is_no_answer(answer: Answer) -> None:
    with pytest.raises(DeliveryFailed, match="RemoteProtocolError"):
        sent_to(answer)


def test_nobody_there_is_no_answer() -> None:
    with socket.socket() as taken, client() as found:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(DeliveryFailed, match=r"ConnectError.*It is tried again; see that it runs"):
            post.post(found, f"http://127.0.0.1:{taken.getsockname()[1]}", b"", {})


def test_a_redirect_is_not_followed() -> None:
    with running() as other, running(says(307, Location=other.url)) as receiver:
        with httpx.Client(follow_redirects=True, trust_env=False) as found:
            heard = post.post(found, receiver.url, b"{}", {})
            with pytest.raises(DeliveryRefused, match=r"answered 307: nothing more.*write the URL that it leads to"):
                post.check(heard, now=NOW)
    assert other.requests == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 413, 422, 300])
def test_what_the_receiver_will_not_have_is_refused(status: int) -> None:
    with pytest.raises(DeliveryRefused, match=rf"answered {status}: no, never\. It is not tried again\."):
        sent_to(says(status, b"no,\n never."))


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_may_pass_later_has_failed_for_now(status: int) -> None:
    with pytest.raises(DeliveryFailed, match=rf"answered {status}: later\. It is tried again\.") as caught:
        sent_to(says(status, b"later", Retry_After="7"))
    assert caught.value.retry_after_s == 7.0


@pytest.mark.parametrize(
    ("text", "wait_s"),
    [
        ("0", 0.0),
        ("120", 120.0),
        ("86400", 3600.0),
        ("9" * 5000, 3600.0),
        ("Mon, 04 May 2026 03:03:01 GMT", 60.0),
        ("Mon, 04 May 2026 03:03:01 -0000", 60.0),
        ("Mon, 04 May 2026 03:00:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600.0),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("²", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_bounded(text: str, wait_s: float | None) -> None:
    assert post.retry_after_s({"retry-after": text}, datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)) == wait_s


@given(st.text())
def test_no_retry_after_is_an_error(text: str) -> None:
    wait_s = post.retry_after_s({"retry-after": text}, NOW)
    assert wait_s is None or 0.0 <= wait_s <= 3600.0


def test_a_secret_that_the_receiver_echoes_is_struck_out(caplog: pytest.LogCaptureFixture) -> None:
    def echo(handler: object) -> None:
        says(400, f"you sent {SECRET}".encode())(handler)  # type: ignore[arg-type]

    caplog.set_level(logging.DEBUG)
    with running(echo) as receiver, client() as found:
        heard = post.post(found, receiver.url, b"", {"authorization": f"Bearer {SECRET}"}, hide=SECRET)
    with pytest.raises(DeliveryRefused, match=r"you sent \*\*\*\."):
        post.check(heard, now=NOW)
    assert receiver.requests[0].headers["authorization"] == f"Bearer {SECRET}"
    assert SECRET not in repr(heard)
    assert "httpcore" in caplog.text
    assert SECRET not in caplog.text


def test_a_secret_that_no_header_can_hold_is_refused_without_being_shown() -> None:
    with running() as receiver, client() as found:
        with pytest.raises(DeliveryRefused, match="a header has characters that HTTP does not know") as caught:
            post.post(found, receiver.url, b"", {"authorization": f"Bearer {SECRET}\n"})
    assert SECRET not in str(caught.value)
    assert receiver.requests == []


def test_control_characters_of_an_answer_are_not_shown() -> None:
    with pytest.raises(DeliveryRefused, match=r"answered 400: \[31mred now\."):
        sent_to(says(400, b"\x1b[31mred\r\n\x00now"))


def test_only_scheme_host_and_port_of_a_url_are_told() -> None:
    assert post.receiver_of("https://user:pass@hooks.example:8443/T0/B0/xyz?token=a") == "https://hooks.example:8443"


def test_the_farms_own_client_carries_nothing_from_one_receiver_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with running(says(200, Set_Cookie="id=1")) as receiver, post.client() as found:
        for _ in range(2):
            post.check(post.post(found, receiver.url, b"", {}), now=NOW)
        assert (found.timeout.read, found.follow_redirects) == (10.0, False)
    assert ["cookie" in request.headers for request in receiver.requests] == [False, False]
