"""Every object key Outwatch writes, built and parsed here and nowhere else.

Belongs here: the layout of the store (DESIGN, section 3), the identifiers that keys are made of
and the check of untrusted names. Not here: reading or writing objects.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path, PurePosixPath

from outwatch.domain.errors import KeyInvalid

MAX_KEY_BYTES = 1024
"""Longest key S3 takes (Amazon S3 User Guide, "Object key naming")."""
MAX_PART_BYTES = 255
"""Longest file name common file systems take."""
PARTIAL_FOLDER = ".partial"
"""Where a local store keeps unfinished writes; no store takes keys in it, so that all agree."""
TABLES = (
    "detections",
    "tracks",
    "coverage",
    "readings",
    "refused_readings",
    "events",
    "incidents",
    "alerts",
    "reviews",
)
STILL, EXCERPT, MAP, RECORD = "still.jpg", "clip.mp4", "map.png", "evidence.json"
"""Names of an event's pieces of evidence; the record names and seals the others."""
_PART = re.compile(r"(?P<clip>[0-9a-f]{16})\+(?P<number>\d{1,4})of(?P<count>\d{1,4})")
_PART_KEY = re.compile(
    r"footage/dt=\d{4}-\d{2}-\d{2}/(?P<clip>[^/]+)/parts/(?P<part>[^/.]+)\.[a-z]+\.parquet"
)
_WINDOW = re.compile(r"\d{8}T\d{4}Z")
_WINDOW_FORM = "%Y%m%dT%H%MZ"
_EVENT_NAMESPACE = uuid.UUID("6d2d3ef5-2cf5-5d0a-8a4b-0d6a6a2f7f10")
_MODEL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}-[0-9a-f]{12}")
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\]")
_LANDING = re.compile(r"landing/(?P<upload>[^/]+)/(?P<name>[^/]+)")
_PARTITION = re.compile(r"lake/(?P<table>[a-z_]+)/dt=(?P<dt>\d{4}-\d{2}-\d{2})/(?P<name>[^/]+)\.parquet")


def check_key(key: str) -> str:
    """Return ``key`` if a store may use it.

    Raises:
        KeyInvalid: it is empty, absolute, too long, climbs with ``..``, has empty parts,
            control characters or backslashes, or lies in ``.partial``.
    """
    if not key:
        raise KeyInvalid("object key is empty")
    try:
        size = len(key.encode())
    except UnicodeEncodeError as error:
        raise KeyInvalid(f"object key {key!r} is not valid Unicode") from error
    if size > MAX_KEY_BYTES:
        raise KeyInvalid(f"object key of {size} bytes exceeds {MAX_KEY_BYTES}: {key[:60]!r}...")
    parts = key.split("/")
    if any(part in {"", ".", ".."} for part in parts):
        raise KeyInvalid(f"object key {key!r} has an empty, '.' or '..' part")
    if _FORBIDDEN.search(key):
        raise KeyInvalid(f"object key {key!r} has a backslash or a control character")
    if any(len(part.encode()) > MAX_PART_BYTES for part in parts):
        raise KeyInvalid(f"object key {key[:60]!r}... has a part longer than {MAX_PART_BYTES} bytes")
    if parts[0] == PARTIAL_FOLDER:
        raise KeyInvalid(f"object key {key!r} lies in {PARTIAL_FOLDER}, kept for unfinished writes")
    return key


def check_prefix(prefix: str) -> str:
    """Return ``prefix`` if keys may start with it; the empty prefix stands for all keys.

    Raises:
        KeyInvalid: as ``check_key`` does, but for one slash at the end.
    """
    if prefix:
        check_key(prefix.removesuffix("/"))
    return prefix


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def clip_id(sha256: str) -> str:
    """Return a clip's id: the first 16 hex digits of its content's SHA-256."""
    return sha256[:16]


def upload_id(files: Iterable[tuple[str, str]]) -> str:
    """Return the id of a set of files given as (name, SHA-256): the same set gives the same id."""
    text = "\n".join(f"{sha256}  {name}" for name, sha256 in sorted(files))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def event_id(*, source: str, rule: str, place: str, started_at: datetime) -> str:
    """Return an event's id: UUIDv5 of clip or window, rule, place and start."""
    start = started_at.astimezone(UTC).isoformat(timespec="milliseconds")
    return str(uuid.uuid5(_EVENT_NAMESPACE, f"{source}/{rule}/{place}/{start}"))


def alert_id(first_event_id: str, *, agreed: bool = False) -> str:
    """Return an alert's id: UUIDv5 of the event that raised it.

    Args:
        first_event_id: the event.
        agreed: whether several sensors report it: it may have been told of one before, as less urgent.
    """
    suffix = "/agreed" if agreed else ""
    return str(uuid.uuid5(_EVENT_NAMESPACE, f"alert/{first_event_id}{suffix}"))


def incident_id(first_event_id: str) -> str:
    """Return an incident's id: UUIDv5 of its earliest event."""
    return str(uuid.uuid5(_EVENT_NAMESPACE, f"incident/{first_event_id}"))


def revision(incident: str, *, revised_at: datetime) -> str:
    """Return the name of the lake file that holds an incident as it stood after a change."""
    return f"{incident}-{revised_at.astimezone(UTC):%Y%m%dT%H%M%S%fZ}"


def place_id(first_event_id: str) -> str:
    """Return the id of a place of the baseline: UUIDv5 of the event that first showed what stands there."""
    return str(uuid.uuid5(_EVENT_NAMESPACE, f"baseline/{first_event_id}"))


def dt_of(at: datetime) -> date:
    """Return the UTC date of capture that partitions carry."""
    return at.astimezone(UTC).date()


def window_of(at: datetime, *, length: timedelta) -> str:
    """Return the id of the window of readings that a time lies in: its start, as ``20260314T1640Z``.

    Args:
        at: UTC-aware, from the year 1000 on.
        length: whole minutes that divide a day, so that every day has the same windows.
    """
    midnight = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return (midnight + (at - midnight) // length * length).strftime(_WINDOW_FORM)


def window_start(window: str) -> datetime:
    """Return when a window of readings starts.

    Raises:
        KeyInvalid: it is no window's id.
    """
    try:
        return datetime.strptime(window, _WINDOW_FORM).replace(tzinfo=UTC)
    except ValueError as error:
        raise KeyInvalid(f"{window!r} is no window of readings such as 20260314T1640Z") from error


def is_window(subject: str) -> bool:
    """Return whether a subject of work is a window of readings; a clip's or an upload's id never is one."""
    return _WINDOW.fullmatch(subject) is not None


def landing(upload: str, file_name: str) -> str:
    """Return the key of an untrusted file as it came."""
    return check_key(f"landing/{upload}/{PurePosixPath(file_name).name}")


def landing_prefix(upload: str | None = None) -> str:
    """Return the prefix of one upload's files, or of all of landing."""
    return f"landing/{upload}/" if upload else "landing/"


def quarantine(sha256: str, file_name: str) -> str:
    """Return the key of a refused file; its reason is ``quarantine_reason`` beside it."""
    return check_key(f"quarantine/{sha256}/{PurePosixPath(file_name).name}")


def quarantine_reason(sha256: str) -> str:
    """Return the key of the reason for which a file was refused."""
    return f"quarantine/{sha256}/reason.json"


def footage(clip: str, *, dt: date, name: str) -> str:
    """Return the key of one of a clip's objects: source.<ext>, telemetry.parquet, manifest.json."""
    return check_key(f"footage/dt={dt.isoformat()}/{clip}/{name}")


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """A part of a long clip: the ``number``-th, from 1, of ``count``."""

    clip_id: str
    number: int
    count: int

    @property
    def subject(self) -> str:
        """Return the part as a subject of work."""
        return f"{self.clip_id}+{self.number}of{self.count}"


def parse_part(subject: str) -> Part:
    """Return the part that a subject of work names.

    Raises:
        KeyInvalid: it names none.
    """
    match = _PART.fullmatch(subject)
    if match is None or not 1 <= int(match["number"]) <= int(match["count"]):
        raise KeyInvalid(f"{subject!r} is no part of a clip such as 0123456789abcdef+1of3")
    return Part(match["clip"], int(match["number"]), int(match["count"]))


def parts_prefix(clip: str, *, dt: date) -> str:
    """Return the prefix of what the parts of a clip keep until all of them are there."""
    return f"footage/dt={dt.isoformat()}/{clip}/parts/"


def part(part: Part, *, dt: date, table: str) -> str:
    """Return the key of one of a part's tables."""
    return check_key(f"{parts_prefix(part.clip_id, dt=dt)}{part.number}of{part.count}.{table}.parquet")


def parse_part_key(key: str) -> Part:
    """Return the part to which a key belongs.

    Raises:
        KeyInvalid: it is no part's.
    """
    match = _PART_KEY.fullmatch(key)
    if match is None:
        raise KeyInvalid(f"{key!r} is not footage/dt=YYYY-MM-DD/<clip_id>/parts/<k>of<n>.<table>.parquet")
    return parse_part(f"{match['clip']}+{match['part']}")


def lake(table: str, *, dt: date, name: str) -> str:
    """Return the key of a table's file for one clip or window."""
    if table not in TABLES:
        raise KeyInvalid(f"lake table {table!r} is none of {', '.join(TABLES)}")
    return check_key(f"lake/{table}/dt={dt.isoformat()}/{name}.parquet")


def lake_prefix(table: str) -> str:
    """Return the prefix of a table's files."""
    if table not in TABLES:
        raise KeyInvalid(f"lake table {table!r} is none of {', '.join(TABLES)}")
    return f"lake/{table}/"


def evidence(event: str, *, dt: date, name: str) -> str:
    """Return the key of one of an event's pieces of evidence, by one of the names above."""
    return check_key(f"evidence/dt={dt.isoformat()}/{event}/{name}")


def model(model_id: str, name: str) -> str:
    """Return the key of one of a model's files: model.xml, model.bin, model.json, card.md, manifest.json.

    Raises:
        KeyInvalid: the id is not a name with the first 12 digits of its weights' hash.
    """
    if not _MODEL_ID.fullmatch(model_id):
        raise KeyInvalid(f"{model_id!r} is no model's id such as thermal_yolo11n-bf62e1d4a14b")
    return check_key(f"models/{model_id}/{PurePosixPath(name).name}")


def models_prefix() -> str:
    """Return the prefix of all models' files and of all promotions."""
    return "models/"


def promotion(modality: str, number: int) -> str:
    """Return the key of a promotion; the one with the highest number stands."""
    return check_key(f"{promotions_prefix(modality)}{number:08d}.json")


def promotions_prefix(modality: str) -> str:
    """Return the prefix of the promotions for what a camera sees."""
    return f"models/promoted/{modality}/"


def trial(model_id: str, name: str) -> str:
    """Return the key of what came of trying a model."""
    return check_key(f"trials/{model_id}/{PurePosixPath(name).name}")


def evidence_prefix() -> str:
    """Return the prefix of all evidence."""
    return "evidence/"


@dataclass(frozen=True, slots=True)
class Partition:
    """A parsed lake key."""

    table: str
    dt: date
    name: str


def parse_lake(key: str) -> Partition:
    """Return the parts of a lake key.

    Raises:
        KeyInvalid: it is not one.
    """
    match = _PARTITION.fullmatch(key)
    if match is None or match["table"] not in TABLES:
        raise KeyInvalid(f"{key!r} is not lake/<table>/dt=YYYY-MM-DD/<name>.parquet")
    try:
        return Partition(match["table"], date.fromisoformat(match["dt"]), match["name"])
    except ValueError as error:
        raise KeyInvalid(f"{key!r} has no such date") from error


def parse_landing(key: str) -> tuple[str, str]:
    """Return the upload id and the file name of a landing key.

    Raises:
        KeyInvalid: it is not one.
    """
    match = _LANDING.fullmatch(key)
    if match is None:
        raise KeyInvalid(f"{key!r} is not landing/<upload_id>/<file name>")
    return match["upload"], match["name"]
