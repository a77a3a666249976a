"""The Protocols through which stages and adapters meet. Each has at least two real adapters.

Belongs here: interfaces and the small values they exchange. Not here: adapters, which live in the
stage that owns them and are built only in ``outwatch/pipeline/wiring.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, Protocol
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
from pyarrow.fs import FileSystem

from outwatch.domain.types import Box, Image, Observation, Recall, Telemetry


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object as a store lists it."""

    key: str
    size_bytes: int
    modified_at: datetime
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class Promises:
    """What a store was seen to keep, probed at start-up; the words are those of ``doctor``."""

    conditional_create: bool
    """A second create of the same key is refused."""
    rejects_wrong_secret: bool
    ranged_get: bool
    read_after_write: bool
    notes: tuple[str, ...] = ()


class ObjectStore(Protocol):
    """A flat space of keys and bytes. Every write is whole or not there at all.

    Keys are checked by ``storage.keys.check_key``; methods raise ``KeyInvalid`` for bad ones,
    ``ObjectMissing`` for absent ones, ``AccessDenied`` and ``StoreUnavailable`` as named.
    """

    @property
    def url(self) -> str:
        """Return where the store is, without secrets."""
        ...

    @property
    def atomic_create(self) -> bool:
        """Return whether ``put(if_absent=True)`` was seen to be atomic; else it looks, then writes."""
        ...

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """Write an object; with ``if_absent`` raise ``ObjectExists`` where the key is taken."""
        ...

    def upload(self, key: str, path: Path) -> None:
        """Write a local file as an object, in parts where it is large."""
        ...

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Return an object's bytes, or ``length`` of them from ``start``."""
        ...

    def download(self, key: str, path: Path) -> None:
        """Write an object to a local file, whole or not at all."""
        ...

    def head(self, key: str) -> ObjectInfo:
        """Return size and time of an object."""
        ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects whose key starts with ``prefix``, in order of key."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; a missing one is no error."""
        ...

    def sweep_partial(self, older_than: timedelta) -> int:
        """Remove what killed writers left behind before that, and return how many."""
        ...

    def arrow_filesystem(self) -> tuple[FileSystem, str]:
        """Return a pyarrow file system and the path in it under which this store's keys lie."""
        ...


class Detector(Protocol):
    """Finds things in frames. Two adapters: OpenVINO and Ultralytics."""

    @property
    def model_id(self) -> str:
        """Return name and hash of the weights."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the labels the model knows, in order of class id."""
        ...

    @property
    def recall(self) -> Recall:
        """Return the measured recall per label at the working confidence; empty where unmeasured."""
        ...

    @property
    def input_px(self) -> int:
        """Return the longest side of the frames the model was trained for."""
        ...

    def detect(self, images: Sequence[Image], *, input_px: int | None = None) -> list[list[Box]]:
        """Return the boxes of each image, in pixels of that image, most confident first.

        Args:
            images: arrays of shape (height, width, 3), BGR, uint8, all of one size.
            input_px: longest side to which they are scaled; None is what the model was trained for.
        """
        ...


class Terrain(Protocol):
    """The height of the ground. Two adapters: flat ground and a digital elevation model."""

    @property
    def method(self) -> Literal["flat_ground", "dem"]:
        """Return how the heights are known."""
        ...

    @property
    def spacing_m(self) -> float:
        """Return the distance between neighbouring heights in metres, infinite for flat ground."""
        ...

    def heights_m(self, lat_deg: npt.ArrayLike, lon_deg: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return heights above mean sea level in metres, NaN where unknown.

        Args:
            lat_deg: latitudes on WGS 84, any shape.
            lon_deg: longitudes of the same shape.
        """
        ...


@dataclass(frozen=True, slots=True)
class Message:
    """What a channel sends: the words for people and the fields for programs."""

    alert_id: str
    priority: str
    control_room: str
    subject: str
    text_en: str
    text_ur: str
    payload: Mapping[str, object]
    still_jpeg: bytes | None = None


class Channel(Protocol):
    """A way to a control room. Adapters: log, webhook, email."""

    @property
    def name(self) -> str:
        """Return the channel's name in settings and in the alert book."""
        ...

    def send(self, message: Message) -> str:
        """Hand a message over and return the receiver's answer, for the record.

        Raises:
            DeliveryFailed: it may be tried again.
            DeliveryRefused: it must not be.
        """
        ...


class TelemetrySource(Protocol):
    """One telemetry format. Adapters: one module each in ``ingest/telemetry``."""

    @property
    def format(self) -> str:
        """Return the format's name, as it stands in ``Telemetry.format``."""
        ...

    def recognises(self, head: bytes) -> bool:
        """Tell by a file's first 64 KiB whether it is of this format; never raises."""
        ...

    def read(self, data: bytes, *, zone: ZoneInfo) -> Telemetry:
        """Return the telemetry in a whole file; damaged records are skipped and counted.

        Args:
            data: the file as it is, untrusted.
            zone: of wall times that the format writes without one.

        Raises:
            TelemetryInvalid: nothing in it can be read as telemetry. Nothing else is ever raised.
        """
        ...


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file as a remote source lists it."""

    path: str
    """As the source names it, relative to the source's root, with ``/`` between folders."""
    size_bytes: int | None
    modified_at: datetime | None
    etag: str | None = None


class FootageSource(Protocol):
    """A place that files are pulled from. Adapters: a tree (SFTP, FTP, HTTP, folder), an ObjectStore (S3)."""

    @property
    def name(self) -> str:
        """Return the source's name in settings and in the ledger."""
        ...

    @property
    def clock(self) -> datetime | None:
        """Return what the source's own clock said last; None where it does not say."""
        ...

    @property
    def skipped(self) -> Mapping[str, str]:
        """Return by path why the last listing left folders and files out."""
        ...

    def list(self) -> Iterator[RemoteFile]:
        """Yield the files that are there now.

        Raises:
            FeedTimeout: the source did not answer.
            AccessDenied: it refused our credentials, or its host key is not the one declared.
        """
        ...

    def stat(self, path: str) -> RemoteFile:
        """Return a file as it is now.

        Raises:
            ObjectMissing: it is gone.
            FeedTimeout: the source did not answer.
        """
        ...

    def fetch(self, file: RemoteFile, path: Path) -> None:
        """Write a remote file to a local one, whole or not at all.

        Raises:
            ObjectMissing: it is gone.
            FeedTimeout: the source did not answer, or sent less or more than it had said.
        """
        ...

    def close(self) -> None:
        """End the connection."""
        ...


@dataclass(frozen=True, slots=True)
class FeedItem:
    """One thing a feed delivered: an observation, or why its payload gives none."""

    payload: str
    """As it came, for those who must see what was refused."""
    received_at: datetime
    observation: Observation | None = None
    problem: str | None = None
    waited: bool = False
    """The feed had kept it for us: it may be older than its receipt by as long as nobody listened."""


@dataclass(frozen=True, slots=True)
class FeedBatch:
    """Items that are stored together; only then is the feed told to forget them."""

    items: tuple[FeedItem, ...]
    cursor: Mapping[str, Any] | None
    """Where the feed stands after them, JSON values, stored with them in one transaction."""
    acknowledge: Callable[[], None]
    """To be called once the items are safe; may be called never, in which case they come again."""
    behind: bool = False
    """More was waiting: who has not been heard yet may still be among it."""


class SensorFeed(Protocol):
    """A stream of readings. Adapters: MQTT, HTTP poll, file drop."""

    @property
    def name(self) -> str:
        """Return the feed's name in settings and in the ledger."""
        ...

    def batches(self, cursor: Mapping[str, Any] | None, *, for_s: float) -> Iterator[FeedBatch]:
        """Yield what has come since ``cursor``, oldest first, and what comes while waiting for it.

        Args:
            cursor: what the last stored batch said, None at first.
            for_s: how long to go on listening; a feed that is polled ends as soon as it has all.

        Raises:
            FeedTimeout: the feed's server did not answer.
            AccessDenied: it refused our credentials.
        """
        ...
