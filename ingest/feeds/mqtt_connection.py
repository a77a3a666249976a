"""One connection to an MQTT broker, its acknowledgements, and the memory of what was stored.

Belongs here: all that touches the MQTT client. Not here: batches and when to connect again (``mqtt.py``).
"""

from __future__ import annotations

import base64
import ssl
import struct
import time
import zlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import structlog
from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from ingest.feeds.mapping import Router
from ingest.feeds.payloads import feed_items
from outwatch.domain.errors import AccessDenied
from outwatch.domain.ports import FeedItem

QUIET_S = 0.01
"""Nothing has come for so long: the broker has sent all it may, or all it has."""
_MAX_PACKET_BYTES = 16 * 1024 * 1024
"""A larger message is not even sent to us: it must fit into a small machine's memory."""
_DENIED = frozenset({0x84, 0x85, 0x86, 0x87, 0x8A, 0x8C})
"""Reason codes that no further try changes: version, client id, password, not authorised, banned, method."""
_FAILED_FROM = 0x80
_ENTRY = struct.Struct(">HI")
_RETAINED_NEEDS_TIME = (
    "retained message without a time: it may be hours old; let the device send its time, or not retain"
)

log = structlog.get_logger(__name__)


class Away(Exception):
    """The broker cannot be used now; another try may work. Told as ``FeedTimeout`` in the end."""


@dataclass(frozen=True, slots=True, repr=False)
class Session:
    """What all connections of one feed have in common."""

    host: str
    port: int
    client_id: str
    username: str
    password: str
    context: ssl.SSLContext | None
    keepalive_s: int
    receive_max: int
    expiry_s: int
    router: Router

    @property
    def address(self) -> str:
        """Return where the broker is."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Message:
    """A message that came: its packet id, quality of service, the CRC of topic and payload, its items."""

    mid: int
    qos: int
    digest: int
    items: list[FeedItem]


class Stored:
    """The last messages that were stored, by packet id and CRC: their PUBACK may not have arrived.

    The broker has at most ``size`` unacknowledged at a time, so the last ``size`` are enough. Half of this
    goes into each cursor; a killed process's successor then knows a re-delivery without asking the lake.
    """

    def __init__(self, size: int, entries: Sequence[tuple[int, int]] = ()) -> None:
        self._size = size
        self._digests = dict(entries)

    @classmethod
    def from_cursor(cls, cursor: Mapping[str, Any] | None, *, client_id: str, size: int) -> Stored:
        """Return what the cursor remembers, nothing where it is of another session."""
        if cursor is None or cursor.get("client_id") != client_id:
            return cls(size)
        return cls(size, list(_ENTRY.iter_unpack(base64.b64decode(cursor["stored"]))))

    def encoded(self, entries: Sequence[tuple[int, int]]) -> str:
        """Return this memory with ``entries`` added, as text for a cursor."""
        last = [*self._digests.items(), *entries][-self._size :]
        return base64.b64encode(b"".join(_ENTRY.pack(*entry) for entry in last)).decode()

    def add(self, entries: Sequence[tuple[int, int]]) -> None:
        """Remember messages as stored, and forget the oldest."""
        for mid, digest in entries:
            self._digests.pop(mid, None)
            self._digests[mid] = digest
        for mid in list(self._digests)[: -self._size]:
            del self._digests[mid]

    def clear(self) -> None:
        """Forget all: the broker began a new session."""
        self._digests.clear()

    def holds(self, message: MQTTMessage, digest: int) -> bool:
        """Return whether a message is the re-delivery of a stored one; a reused packet id is forgotten."""
        if message.dup:
            return self._digests.get(message.mid) == digest
        self._digests.pop(message.mid, None)
        return False


class Connection:
    """One connection: acknowledgements belong to it and end with it."""

    def __init__(self, session: Session, stored: Stored) -> None:
        self.stored = stored
        self.lost = False
        self.caught_up = False
        """Nothing came for a moment: what comes from now on was not kept for us."""
        self._came = 0
        self._session = session
        self._received: deque[Message] = deque()
        self._refusal: Away | AccessDenied | None = None
        self._greeted = False
        self._resumed = False
        self._subscribed = False
        self.reason = "connection lost"
        self._client = Client(
            CallbackAPIVersion.VERSION2, client_id=session.client_id, protocol=MQTTv5, manual_ack=True
        )
        if session.username:
            self._client.username_pw_set(session.username, session.password)
        if session.context:
            self._client.tls_set_context(session.context)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message

    @property
    def waiting(self) -> int:
        """Return how many messages have come and were not taken."""
        return len(self._received)

    def open(self, *, timeout_s: float) -> bool:
        """Connect and subscribe; return whether the broker had kept our session.

        Raises:
            Away: the broker did not answer, or not now.
            AccessDenied: it refused us.
        """
        try:
            self._greet(timeout_s=timeout_s)
            if not self._resumed:
                self.stored.clear()
            self._subscribe(timeout_s=timeout_s)
        except (Away, AccessDenied):
            self.lost = True
            self._client.disconnect()
            raise
        return self._resumed

    def loop(self, timeout_s: float) -> None:
        """Read what has come, or wait for it; write what could not be written before."""
        began, came = time.monotonic(), self._came
        if not self.lost and self._client.loop(timeout_s) != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self.lost = True
        # A loop that ends at once wrote something, or read no message: that is no quiet.
        idle = self._subscribed and self._came == came and time.monotonic() - began >= QUIET_S
        self.caught_up = self.caught_up or idle

    def take(self, most: int) -> list[Message]:
        """Return the oldest messages that have come, at most so many."""
        return [self._received.popleft() for _ in range(min(most, len(self._received)))]

    def acknowledge(self, entries: Sequence[tuple[int, int]]) -> None:
        """Let the broker forget stored messages; where the connection is gone they come again, known."""
        self.stored.add(entries)
        if self.lost:
            log.info("mqtt_acknowledged_too_late", messages=len(entries))
            return
        for mid, _ in entries:
            self._client.ack(mid, 1)

    def close(self, *, timeout_s: float) -> None:
        """Write what is still to be written and end the connection; the session stays in the broker."""
        deadline = time.monotonic() + timeout_s
        if not self.lost:
            self._await_acknowledged(timeout_s=timeout_s)
        self._client.disconnect()
        while self._client.want_write() and not self.lost and time.monotonic() < deadline:
            self.loop(0.1)
        self.lost = True

    def _greet(self, *, timeout_s: float) -> None:
        """Connect to the session and wait for the broker's answer."""
        self._client.connect_timeout = timeout_s
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = self._session.expiry_s
        properties.ReceiveMaximum = self._session.receive_max
        properties.MaximumPacketSize = _MAX_PACKET_BYTES
        try:
            self._client.connect(
                self._session.host,
                self._session.port,
                self._session.keepalive_s,
                clean_start=False,
                properties=properties,
            )
        except ssl.SSLCertVerificationError as error:
            raise AccessDenied(
                f"MQTT broker {self._session.address} is not the one expected: {error}; check ca_file, host"
            ) from error
        except OSError as error:
            raise Away(f"{type(error).__name__}: {error}") from error
        self._wait(lambda: self._greeted, timeout_s=timeout_s)

    def _await_acknowledged(self, *, timeout_s: float) -> None:
        """Wait until the broker has read our acknowledgements: it answers in order, so any answer will do.

        Without, a next connection may be served first, and what was acknowledged be sent again.
        """
        try:
            self._subscribe(timeout_s=timeout_s)
        except (Away, AccessDenied) as reason:
            log.info("mqtt_closed_without_answer", client_id=self._session.client_id, reason=str(reason))

    def _subscribe(self, *, timeout_s: float) -> None:
        # Retained messages come with a new subscription only, not with every run.
        self._subscribed = False
        options = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)
        self._client.subscribe([(filter_, options) for filter_ in self._session.router.subscriptions()])
        self._wait(lambda: self._subscribed, timeout_s=timeout_s)

    def _wait(self, done: Callable[[], bool], *, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not done() and self._refusal is None:
            if self.lost:
                raise Away(self.reason)
            if time.monotonic() >= deadline:
                raise Away(f"no answer in {timeout_s:g} s")
            self.loop(min(0.1, timeout_s))
        if self._refusal is not None:
            raise self._refusal

    def _on_connect(
        self, _client: Client, _data: object, flags: ConnectFlags, code: ReasonCode, _more: Properties | None
    ) -> None:
        if code.value in _DENIED:
            self._refusal = AccessDenied(
                f"MQTT broker {self._session.address} refused client {self._session.client_id!r} "
                f"as user {self._session.username!r}: {code}; check username, password and rights"
            )
        elif code.value >= _FAILED_FROM:
            self._refusal = Away(str(code))
        else:
            self._resumed = flags.session_present
            self._greeted = True

    def _on_subscribe(
        self, _client: Client, _data: object, _mid: int, codes: list[ReasonCode], _more: Properties | None
    ) -> None:
        filters = self._session.router.subscriptions()
        refused = [
            f"{filter_} ({code})"
            for filter_, code in zip(filters, codes, strict=False)
            if code.value >= _FAILED_FROM
        ]
        if refused:
            self._refusal = AccessDenied(
                f"MQTT broker {self._session.address} refused user {self._session.username!r} the topics "
                f"{', '.join(refused)}: let the broker's access list allow reading them"
            )
        self._subscribed = True

    def _on_disconnect(
        self,
        _client: Client,
        _data: object,
        _flags: DisconnectFlags,
        code: ReasonCode,
        _more: Properties | None,
    ) -> None:
        self.reason = str(code)
        self.lost = True

    def _on_message(self, client: Client, _data: object, message: MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:  # the standard forbids it, a broker may pass it on
            topic = "(not UTF-8)"
        self._came += 1
        digest = zlib.crc32(message.payload, zlib.crc32(topic.encode()))
        if message.qos and self.stored.holds(message, digest):
            client.ack(message.mid, message.qos)
            return
        items = feed_items(
            bytes(message.payload),
            topic=topic,
            mapping=self._session.router.mapping(topic),
            received_at=datetime.now(UTC),
            details={"retained": "true"} if message.retain else {},
            needs_time=_RETAINED_NEEDS_TIME if message.retain else None,
        )
        if self._resumed and not self.caught_up:
            items = [replace(item, waited=True) for item in items]
        self._received.append(Message(message.mid, message.qos, digest, items))
