"""Webhooks are signed, never redirected, and name what a receiver's answer means."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.webhook import WebhookChannel, sign, verify_signature
from outwatch.domain.errors import ConfigInvalid, DeliveryFailed, DeliveryRefused
from outwatch.domain.ports import Message

SECRET = "only-the-two-of-us"
MESSAGE = Message("a1", "P1", "room", "subject", "text", "متن", {"n": 1}, b"jpeg")


@dataclass
class Server:
    """A receiver with one answer for everything."""

    url: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    answer: bytes = b"thanks"
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    """Return a running receiver."""
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            state.requests.append((self.path, dict(self.headers), body))
            self.send_response(state.status)
            for name, value in state.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(state.answer)))
            self.end_headers()
            with suppress(ConnectionError):  # a sender that has read enough hangs up
                self.wfile.write(state.answer)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Stay quiet."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{http.server_port}/hook/token-in-path"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def channel(url: str, *, timeout_s: float = 5.0) -> WebhookChannel:
    """Return a channel with the tests' secret."""
    return WebhookChannel(url, secret=SECRET, timeout_s=timeout_s)


def test_a_receiver_can_check_and_deduplicate(server: Server) -> None:
    """Signature, timestamp and idempotency key hold for the body as received, with the still in it."""
    answer = channel(server.url).send(MESSAGE)
    ((path, headers, body),) = server.requests
    assert answer == "200 OK thanks"
    assert path == "/hook/token-in-path"
    assert headers["Idempotency-Key"] == "a1"
    assert verify_signature(
        SECRET,
        timestamp=headers["X-Outwatch-Timestamp"],
        body=body,
        signature=headers["X-Outwatch-Signature"],
        now=time.time(),
    )
    assert base64.b64decode(json.loads(body)["still_jpeg_base64"]) == b"jpeg"


def test_the_signature_is_the_documented_one() -> None:
    """HMAC-SHA256 of timestamp, full stop and body, as `openssl dgst -sha256 -hmac key` computes it."""
    digest = "9d713ed406bb7076d4123f0dc2c39d2df5c654ed4b0cd56b52c8b4c940bd63ae"
    assert sign("key", timestamp="1700000000", body=b"{}") == f"sha256={digest}"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_refused_and_not_followed(server: Server, status: int) -> None:
    """An alert must not wander to an address nobody configured."""
    server.status, server.headers = status, {"Location": server.url.replace("/hook", "/elsewhere")}
    with pytest.raises(DeliveryRefused, match="never followed"):
        channel(server.url).send(MESSAGE)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_not_now_is_a_failure_that_repeats_what_the_receiver_asks(server: Server, status: int) -> None:
    """The wait it asks for is on record."""
    server.status, server.headers = status, {"Retry-After": "120"}
    with pytest.raises(DeliveryFailed, match=rf"{status}.*asks to wait: 120"):
        channel(server.url).send(MESSAGE)


@pytest.mark.parametrize("status", [304, 400, 401, 403, 404, 410, 413, 422])
def test_not_this_is_a_refusal(server: Server, status: int) -> None:
    """The same request would be refused again."""
    server.status, server.answer = status, b"" if status == 304 else b"no\r\n\x1b[31m such"
    with pytest.raises(DeliveryRefused, match=str(status)) as caught:
        channel(server.url).send(MESSAGE)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("status", [201, 202, 204])
def test_any_success_is_a_delivery(server: Server, status: int) -> None:
    """Receivers differ in what they call it."""
    server.status, server.answer = status, b""
    assert channel(server.url).send(MESSAGE).startswith(str(status))


def test_a_long_answer_is_cut(server: Server) -> None:
    """A receiver cannot fill our memory or our record."""
    server.answer = b"x" * 5_000_000
    assert len(channel(server.url).send(MESSAGE)) < 300


def test_nobody_there_is_a_failure() -> None:
    """A refused connection may be a restart."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(DeliveryFailed, match="ConnectError"):
        channel(f"http://127.0.0.1:{port}/").send(MESSAGE)


def test_silence_is_a_failure() -> None:
    """A receiver that takes the connection and says nothing does not hold up the others."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(DeliveryFailed, match="Timeout"):
            channel(f"http://127.0.0.1:{silent.getsockname()[1]}/", timeout_s=0.2).send(MESSAGE)
    assert time.monotonic() - started < 3


def test_the_environment_does_not_reroute(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy variable of the account does not see the alert."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert channel(server.url).send(MESSAGE).startswith("200")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://host/",
        "file:///etc/passwd",
        "https://",
        "host/path",
        "http://user:pw@host/",
        "http://host:port/",
        "http://xn--a/",
        "http://host:99999999/",
    ],
)
def test_other_addresses_are_refused_at_start(url: str) -> None:
    """Not at the first alert."""
    with pytest.raises(ConfigInvalid, match="webhook URL"):
        channel(url)


@pytest.mark.parametrize("secret", ["", "  "])
def test_an_empty_secret_is_refused_at_start(secret: str) -> None:
    """An unsigned alert could be anyone's."""
    with pytest.raises(ConfigInvalid, match="WEBHOOK_SECRET"):
        WebhookChannel("https://room.example/", secret=secret, timeout_s=1)


def test_errors_and_repr_give_no_secret_away(server: Server) -> None:
    """Neither the key nor the path, which for many receivers is a key too."""
    server.status = 500
    with pytest.raises(DeliveryFailed) as caught:
        channel(server.url).send(MESSAGE)
    for text in (str(caught.value), repr(channel(server.url))):
        assert SECRET not in text
        assert "token-in-path" not in text


@given(body=st.binary(max_size=50), other=st.binary(max_size=50), now=st.integers(10**9, 2 * 10**9))
def test_only_what_was_signed_passes(body: bytes, other: bytes, now: int) -> None:
    """Another body, time or secret fails; the same passes within five minutes only."""
    timestamp = str(now)
    signature = sign(SECRET, timestamp=timestamp, body=body)

    def passes(
        *, secret: str = SECRET, sent: str = timestamp, content: bytes = body, late: timedelta = timedelta(0)
    ) -> bool:
        return verify_signature(
            secret, timestamp=sent, body=content, signature=signature, now=now + late.total_seconds()
        )

    assert passes()
    assert passes(late=timedelta(minutes=5))
    assert not passes(late=timedelta(minutes=5, seconds=1))
    assert not passes(late=-timedelta(minutes=6))
    assert not passes(secret="another")
    assert not passes(sent=str(now + 1))
    assert passes(content=other) == (other == body)


@given(timestamp=st.text(), signature=st.text())
def test_any_header_is_judged_without_an_error(timestamp: str, signature: str) -> None:
    """Headers come from anyone."""
    assert not verify_signature(SECRET, timestamp=timestamp, body=b"", signature=signature, now=time.time())
