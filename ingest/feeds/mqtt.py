"""Readings from an MQTT broker, acknowledged only once they are stored.

Belongs here: the session with the broker, batches and their acknowledgement. Not here: what a message says
(``payloads.py``), and the MQTT client (``mqtt_connection.py``).

One MQTT 5 session per ``client_id`` lives on in the broker between runs, so that it keeps what arrives
meanwhile. Messages come with QoS 1 and are acknowledged (PUBACK) by ``FeedBatch.acknowledge``, in the order
in which they came: what a killed process had not stored comes again, and the cursor tells what it had stored
but not acknowledged. Everything runs in the caller's thread: while it stores, nothing is read, and the broker
holds back. The broker must be told to keep enough: Mosquitto drops all but 1,000 messages of an absent client
unless ``max_queued_messages 0`` is set, and keeps none over its own restart without ``persistence true``.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

import structlog

from ingest.feeds.mapping import Router, TopicMapping
from ingest.feeds.mqtt_connection import QUIET_S, Away, Connection, Message, Session, Stored
from outwatch.domain.errors import ConfigInvalid, FeedTimeout
from outwatch.domain.ports import FeedBatch

_MAX_RECEIVE = 65_535
"""MQTT 5, section 3.1.2.11.3."""
_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 30.0

log = structlog.get_logger(__name__)


class MqttFeed:
    """A ``SensorFeed`` from one MQTT 5 broker."""

    def __init__(
        self,
        name: str,
        *,
        host: str,
        port: int = 1883,
        client_id: str,
        topics: Sequence[TopicMapping],
        username: str = "",
        password: str = "",
        tls: bool = False,
        ca_file: Path | None = None,
        keepalive_s: int = 60,
        batch_max: int = 1000,
        batch_wait_s: float = 0.25,
        session_expiry_s: int = 7 * 24 * 3600,
        timeout_s: float = 10.0,
    ) -> None:
        """Prepare a feed; nothing is connected.

        Args:
            name: the feed's name in settings and in the ledger.
            host: the broker's name or address.
            port: its port: 1883, or 8883 with TLS by custom.
            client_id: names the session in the broker; one running feed each, the same for ever.
            topics: what to subscribe to and what it means; the first that matches a topic stands.
            username: empty for a broker that asks for none.
            password: of that user.
            tls: encrypt, and check the broker's certificate.
            ca_file: whom to trust instead of the system's authorities; sets ``tls``.
            keepalive_s: after half as much again without a sign of life the broker gives us up.
            batch_max: messages handed on at once; twice as many may be under way unacknowledged.
            batch_wait_s: a batch is handed on so long after its first message at the latest.
            session_expiry_s: how long the broker keeps messages for us while we are away.
            timeout_s: how long to wait for each answer of the broker.

        Raises:
            ConfigInvalid: no host, client id or topic, or a CA file that cannot be read.
        """
        if not (host and client_id and topics):
            raise ConfigInvalid(f"MQTT feed {name!r} needs a host, a client_id and at least one topic")
        self._name = name
        self._session = Session(
            host=host,
            port=port,
            client_id=client_id,
            username=username,
            password=password,
            context=_tls_context(ca_file) if tls or ca_file else None,
            keepalive_s=keepalive_s,
            receive_max=min(2 * batch_max, _MAX_RECEIVE),
            expiry_s=session_expiry_s,
            router=Router(topics),
        )
        self._batch_max = batch_max
        self._batch_wait_s = batch_wait_s
        self._timeout_s = timeout_s

    def __repr__(self) -> str:
        return f"MqttFeed({self._name!r}, {self._session.address!r})"

    @property
    def name(self) -> str:
        """Return the feed's name in settings and in the ledger."""
        return self._name

    def batches(self, cursor: Mapping[str, Any] | None, *, for_s: float) -> Iterator[FeedBatch]:
        """Yield what the broker has kept and what it sends within ``for_s``, in order of each topic.

        A lost connection is made again with growing waits; what was under way comes again.

        Raises:
            FeedTimeout: the broker did not answer, or was lost and not reached again within ``for_s``.
            AccessDenied: it refused our name, our subscription, or has not the certificate it should have.
        """
        deadline = time.monotonic() + for_s
        stored = Stored.from_cursor(cursor, client_id=self._session.client_id, size=self._session.receive_max)
        for losses in count():
            connection = self._connect(stored, deadline=deadline, known=cursor is not None)
            try:
                yield from self._receive(connection, deadline=deadline)
                lost = connection.lost
            finally:
                connection.close(timeout_s=self._timeout_s)
            if not lost:
                return
            # Two programs with one client id throw each other out: without a wait they would do nothing else.
            wait_s = min(_FIRST_WAIT_S * 2**losses, _LONGEST_WAIT_S, max(0.0, deadline - time.monotonic()))
            log.warning("mqtt_connection_lost", feed=self._name, reason=connection.reason, wait_s=wait_s)
            time.sleep(wait_s)

    def _connect(self, stored: Stored, *, deadline: float, known: bool) -> Connection:
        """Return an open connection; at least one try is made."""
        wait_s = _FIRST_WAIT_S
        while True:
            connection = Connection(self._session, stored)
            try:
                resumed = connection.open(timeout_s=self._timeout_s)
            except Away as reason:
                if time.monotonic() + wait_s >= deadline:
                    raise FeedTimeout(
                        f"MQTT broker {self._session.address} of feed {self._name!r} did not answer: {reason}"
                    ) from reason
                log.warning("mqtt_broker_away", feed=self._name, reason=str(reason), wait_s=wait_s)
                time.sleep(wait_s)
                wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
            else:
                if known and not resumed:
                    # The broker was reset or our session ran out: what came meanwhile is lost there.
                    log.warning("mqtt_session_lost", feed=self._name, client_id=self._session.client_id)
                return connection

    def _receive(self, connection: Connection, *, deadline: float) -> Iterator[FeedBatch]:
        while True:
            self._gather(connection, deadline=deadline)
            messages = connection.take(self._batch_max)
            if messages:
                yield self._batch(messages, connection)
            elif connection.lost or time.monotonic() >= deadline:
                return

    def _gather(self, connection: Connection, *, deadline: float) -> None:
        """Wait for messages until a batch is full, old or followed by silence."""
        ready_at: float | None = None
        while not connection.lost and connection.waiting < self._batch_max:
            now, before = time.monotonic(), connection.waiting
            if before and ready_at is None:
                ready_at = now + self._batch_wait_s
            left_s = (deadline if ready_at is None else min(deadline, ready_at)) - now
            if left_s <= 0:
                return
            connection.loop(min(left_s, QUIET_S if before else 1.0))
            if before and connection.waiting == before:
                return

    def _batch(self, messages: list[Message], connection: Connection) -> FeedBatch:
        entries = [(message.mid, message.digest) for message in messages if message.qos]

        def acknowledge() -> None:
            # Emptied: a packet id acknowledged twice might be another message's by then.
            done, entries[:] = list(entries), []
            connection.acknowledge(done)

        return FeedBatch(
            items=tuple(chain.from_iterable(message.items for message in messages)),
            cursor={"client_id": self._session.client_id, "stored": connection.stored.encoded(entries)},
            acknowledge=acknowledge,
            behind=not connection.caught_up or len(messages) == self._batch_max,
        )


def _tls_context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigInvalid(f"CA file {ca_file} cannot be read: {error}; give a PEM file") from error
