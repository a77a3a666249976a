"""Alerts as signed HTTP requests, and the check of the signature for whoever receives them.

Belongs here: one POST, its signature and the reading of the answer. Not here: retries
(``delivery.py``) and what a receiver does with the alert.

The signature is ``sha256=`` and the hex HMAC-SHA256 (RFC 2104) of the timestamp, a full stop and the
body, keyed with the shared secret. The timestamp is in the signed text, so that an old request cannot be
sent again later; ``Idempotency-Key`` is the alert's id, so that a receiver can drop doubles.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import Callable
from datetime import timedelta
from http import HTTPStatus

import httpx

from outwatch.domain.errors import ConfigInvalid, DeliveryFailed, DeliveryRefused
from outwatch.domain.ports import Message

SIGNATURE_HEADER = "X-Outwatch-Signature"
TIMESTAMP_HEADER = "X-Outwatch-Timestamp"
TOLERANCE = timedelta(minutes=5)
"""How far a request's timestamp may lie from the receiver's clock: room for drift, not for replay."""
_UNIX_SECONDS = re.compile(r"[0-9]{1,12}")
_TRY_AGAIN = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_EARLY,
        HTTPStatus.TOO_MANY_REQUESTS,
    }
)
"""Client errors that say "not now" (RFC 9110, 8470, 6585); all others say "not this"."""
_MAX_PORT = 65535
_ANSWER_BYTES = 200
"""Of a receiver's answer, kept for the record; more is not even read."""


def sign(secret: str, *, timestamp: str, body: bytes) -> str:
    """Return the signature header of a request."""
    digest = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256)
    return f"sha256={digest.hexdigest()}"


def verify_signature(
    secret: str,
    *,
    timestamp: str,
    body: bytes,
    signature: str,
    now: float,
    tolerance: timedelta = TOLERANCE,
) -> bool:
    """Return whether a request was signed with ``secret`` and is not older or newer than ``tolerance``.

    Args:
        secret: the shared secret.
        timestamp: the header ``X-Outwatch-Timestamp``: Unix seconds.
        body: the request's body, byte for byte as received.
        signature: the header ``X-Outwatch-Signature``.
        now: the receiver's time in Unix seconds, as ``time.time()`` gives it.
        tolerance: how far the timestamp may lie from ``now``.
    """
    if not _UNIX_SECONDS.fullmatch(timestamp):
        return False
    expected = sign(secret, timestamp=timestamp, body=body)
    # Compared as bytes: compare_digest refuses text beyond ASCII, which anyone may send.
    authentic = hmac.compare_digest(expected.encode(), signature.encode(errors="replace"))
    return authentic and abs(now - int(timestamp)) <= tolerance.total_seconds()


class WebhookChannel:
    """Posts alerts to one URL."""

    name = "webhook"

    def __init__(
        self,
        url: str,
        *,
        secret: str,
        timeout_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare a channel; nothing is sent.

        Raises:
            ConfigInvalid: the URL is not http(s) with a host, holds credentials, or the secret is empty.
        """
        self._url = _checked_url(url)
        if not secret.strip():
            raise ConfigInvalid("webhook secret is empty: set OUTWATCH_ALERTS__WEBHOOK_SECRET")
        self._secret = secret
        self._timeout_s = timeout_s
        self._clock = clock

    def __repr__(self) -> str:
        # Path and query of many receivers are secrets themselves, so only the host is shown.
        return f"WebhookChannel(host={self._url.host!r})"

    def send(self, message: Message) -> str:
        """Post one signed request and return the receiver's status and the start of its answer.

        Raises:
            DeliveryFailed: no connection, no answer in time, 408, 425, 429 or 5xx.
            DeliveryRefused: a redirect or any other 4xx.
        """
        body = _body(message)
        timestamp = str(int(self._clock()))
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "outwatch",
            "Idempotency-Key": message.alert_id,
            TIMESTAMP_HEADER: timestamp,
            SIGNATURE_HEADER: sign(self._secret, timestamp=timestamp, body=body),
        }
        try:
            # trust_env is off: proxies and .netrc passwords of the account must not leak into requests.
            with (
                httpx.Client(timeout=self._timeout_s, follow_redirects=False, trust_env=False) as client,
                client.stream("POST", self._url, content=body, headers=headers) as response,
            ):
                return self._judge(response, answer=_start_of(response))
        except httpx.TransportError as error:
            reason = f"webhook {self._url.host} did not answer: {type(error).__name__}: {error}"
            raise DeliveryFailed(reason) from error

    def _judge(self, response: httpx.Response, *, answer: str) -> str:
        status = response.status_code
        said = f"{status} {response.reason_phrase} {answer}".strip()
        if response.is_success:
            return said
        if status in _TRY_AGAIN or response.is_server_error:
            wait = response.headers.get("Retry-After")
            asks = f"; it asks to wait: {wait[:_ANSWER_BYTES]}" if wait else ""
            raise DeliveryFailed(f"webhook {self._url.host} answered {said}{asks}")
        if response.is_redirect or response.has_redirect_location:
            raise DeliveryRefused(
                f"webhook {self._url.host} answered {status} with a redirect, which is never followed: "
                "set OUTWATCH_ALERTS__WEBHOOK_URL to the final address"
            )
        raise DeliveryRefused(f"webhook {self._url.host} answered {said}: check its address and secret")


def _checked_url(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
        host = url.host
    except (httpx.InvalidURL, UnicodeError) as error:  # UnicodeError: a name that IDNA does not allow
        raise ConfigInvalid(f"webhook URL cannot be read: {error}") from error
    if url.scheme not in {"http", "https"} or not host or (url.port or 0) > _MAX_PORT:
        found = f"scheme {url.scheme!r}, host {host!r}, port {url.port}"
        raise ConfigInvalid(f"webhook URL must be http(s)://host[:port]/..., found {found}")
    if url.userinfo:
        raise ConfigInvalid(f"webhook URL for {host} must not hold a user or password")
    return url


def _body(message: Message) -> bytes:
    still = base64.b64encode(message.still_jpeg).decode() if message.still_jpeg else None
    fields = {
        "alert_id": message.alert_id,
        "priority": message.priority,
        "control_room": message.control_room,
        "subject": message.subject,
        "text_en": message.text_en,
        "text_ur": message.text_ur,
        "payload": dict(message.payload),
        "still_jpeg_base64": still,
    }
    return json.dumps(fields, ensure_ascii=False, sort_keys=True).encode()


def _start_of(response: httpx.Response) -> str:
    """Return the start of the answer, printable, without reading or inflating the rest."""
    start = next(response.iter_raw(chunk_size=_ANSWER_BYTES), b"")
    text = start.decode(errors="replace")
    return "".join(character if character.isprintable() else " " for character in text).strip()
