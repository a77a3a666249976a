"""A package: the files of one card, their hashes, what was left out, what the operator declares.

Belongs here: the value and its manifest, ``outwatch-package.json``, written and read. Not here: making
one (``pack.py``), moving one (``send.py``, ``usb.py``) and taking one in (``outwatch/pipeline``).

The manifest is one JSON object: ``version`` (1), ``id``, ``created_at``, ``declared``, ``files``,
``left_out`` and ``digest``, the SHA-256 of the others as canonical JSON (sorted keys, no white space, UTF-8).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from outwatch.domain.errors import PackageRefused, PackageTooLarge
from outwatch.domain.types import require_utc

VERSION = 1
MANIFEST_NAME = "outwatch-package.json"
MAX_MANIFEST_BYTES = 16 << 20
"""Some thirty thousand files with paths of a card's usual length."""
MAX_PATH_BYTES = 1000
MAX_PART_BYTES = 240
"""Common file systems take 255, and what lies beside a file has a longer ending: ``.outwatch.json``."""
MAX_FILE_BYTES = (1 << 63) - 1
"""Largest number that SQLite and Arrow keep."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\]")


class Role(StrEnum):
    """What a file is for."""

    VIDEO = "video"
    PHOTO = "photo"
    TELEMETRY = "telemetry"
    PREVIEW = "preview"
    """A small picture of a clip, made at the station, to look at before the clip has come."""


@dataclass(frozen=True, slots=True)
class PackedFile:
    """A file that goes along. ``path`` is relative, with ``/`` between folders."""

    path: str
    sha256: str
    size_bytes: int
    modified_at: datetime
    role: Role

    def __post_init__(self) -> None:
        check_path(self.path)
        _check_size(self.path, self.size_bytes)
        require_utc(self.modified_at, name="modified_at")
        if not _SHA256.fullmatch(self.sha256):
            raise PackageRefused(f"{self.path}: sha256 must be 64 lower-case hex digits")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file that stayed behind, and why."""

    path: str
    size_bytes: int
    reason: str

    def __post_init__(self) -> None:
        check_path(self.path)
        _check_size(self.path, self.size_bytes)


@dataclass(frozen=True, slots=True)
class Package:
    """What goes to headquarters together. ``declared`` is what ``landing`` takes: camera, platform, ..."""

    files: tuple[PackedFile, ...]
    left_out: tuple[LeftOut, ...]
    declared: Mapping[str, str]
    created_at: datetime
    id: str = field(init=False)
    """First 16 hex digits of the SHA-256 of what lay on the card and what was declared. Neither the time of
    packing nor previews count, so that a stick completes what the link began."""

    def __post_init__(self) -> None:
        require_utc(self.created_at, name="created_at")
        seen: set[str] = {MANIFEST_NAME.casefold()}
        for path in (*(file.path for file in self.files), *(file.path for file in self.left_out)):
            # Without regard to case, as on the file systems of sticks.
            if path.casefold() in seen:
                raise PackageRefused(f"{path} stands in the package twice, or in the manifest's place")
            seen.add(path.casefold())
        content = self._body()
        del content["created_at"]
        content["files"] = [file for file in content["files"] if file["role"] != Role.PREVIEW]
        object.__setattr__(self, "id", _digest(content)[:16])

    @property
    def size_bytes(self) -> int:
        """Return how much the files are together."""
        return sum(file.size_bytes for file in self.files)

    def file(self, path: str) -> PackedFile | None:
        """Return the file of a path, None where there is none."""
        return next((file for file in self.files if file.path == path), None)

    def to_json(self) -> bytes:
        """Return the manifest."""
        body = {**self._body(), "id": self.id}
        text = json.dumps({**body, "digest": _digest(body)}, indent=1, ensure_ascii=False)
        return text.encode()

    def _body(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "created_at": self.created_at.isoformat(),
            "declared": dict(self.declared),
            "files": [{**asdict(file), "modified_at": file.modified_at.isoformat()} for file in self.files],
            "left_out": [asdict(file) for file in self.left_out],
        }


def parse_package(data: bytes) -> Package:
    """Return the package that a manifest describes.

    Raises:
        PackageTooLarge: the manifest exceeds ``MAX_MANIFEST_BYTES``.
        PackageRefused: it is damaged, changed, of another version, or names what no package may hold.
    """
    if len(data) > MAX_MANIFEST_BYTES:
        raise PackageTooLarge(
            f"{MANIFEST_NAME} has {len(data)} bytes, at most {MAX_MANIFEST_BYTES} are read: pack fewer files"
        )
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise PackageRefused(f"{MANIFEST_NAME} is not JSON ({error}): pack the card again") from error
    body = _object(
        values, "the manifest", {"version", "id", "created_at", "declared", "files", "left_out", "digest"}
    )
    if body["version"] != VERSION:
        raise PackageRefused(
            f"{MANIFEST_NAME} has version {body['version']!r}, expected {VERSION}: "
            "let station and headquarters run the same Outwatch"
        )
    digest = body.pop("digest")
    if digest != _digest(body):
        raise PackageRefused(f"{MANIFEST_NAME} was changed after it was written: pack the card again")
    package = Package(
        files=tuple(_packed_file(item) for item in _list(body["files"], "files")),
        left_out=tuple(_left_out(item) for item in _list(body["left_out"], "left_out")),
        declared=_texts(body["declared"]),
        created_at=_time(body["created_at"], "created_at"),
    )
    if package.id != body["id"]:
        raise PackageRefused(f"{MANIFEST_NAME}: id is {body['id']!r}, its content gives {package.id}")
    return package


def check_path(path: str) -> str:
    """Return ``path`` if a package may hold a file of it.

    Raises:
        PackageRefused: it is absolute, climbs, has empty parts, backslashes or control characters, or is
            too long.
    """
    parts = path.split("/")
    try:
        sizes = [len(part.encode()) for part in parts]
    except UnicodeEncodeError as error:
        raise PackageRefused(f"file name {path!r} is not valid Unicode: rename the file") from error
    if any(part in {"", ".", ".."} for part in parts) or _FORBIDDEN.search(path):
        raise PackageRefused(
            f"file name {path[:100]!r}: expected a relative path without '..', backslashes or control "
            "characters"
        )
    if max(sizes) > MAX_PART_BYTES or sum(sizes) + len(sizes) > MAX_PATH_BYTES:
        raise PackageRefused(f"file name {path[:100]!r}... is too long: rename the file")
    return path


def _check_size(path: str, size_bytes: int) -> None:
    if not 0 <= size_bytes <= MAX_FILE_BYTES:
        raise PackageRefused(f"{path}: size_bytes is {size_bytes}, expected 0 or more")


def _digest(body: Mapping[str, Any]) -> str:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _packed_file(item: object) -> PackedFile:
    values = _object(item, "a file", {"path", "sha256", "size_bytes", "modified_at", "role"})
    path = _text(values["path"], "path")
    try:
        role = Role(_text(values["role"], "role"))
    except ValueError as error:
        raise PackageRefused(f"{path}: role must be one of {', '.join(Role)}") from error
    return PackedFile(
        path=path,
        sha256=_text(values["sha256"], "sha256"),
        size_bytes=_integer(values["size_bytes"], path),
        modified_at=_time(values["modified_at"], f"modified_at of {path}"),
        role=role,
    )


def _left_out(item: object) -> LeftOut:
    values = _object(item, "a file left out", {"path", "size_bytes", "reason"})
    path = _text(values["path"], "path")
    return LeftOut(path, _integer(values["size_bytes"], path), _text(values["reason"], "reason"))


def _object(value: object, name: str, fields: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != fields:
        found = ", ".join(sorted(map(str, value)))[:200] if isinstance(value, dict) else type(value).__name__
        raise PackageRefused(f"{MANIFEST_NAME}: {name} must have {', '.join(sorted(fields))}; found {found}")
    return value


def _list(value: object, name: str) -> list[object]:
    if not isinstance(value, list):
        raise PackageRefused(f"{MANIFEST_NAME}: {name} must be a list, found {type(value).__name__}")
    return value


def _texts(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise PackageRefused(f"{MANIFEST_NAME}: declared must be an object of texts")
    return {name: _text(item, name) for name, item in value.items()}


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise PackageRefused(f"{MANIFEST_NAME}: {name} must be a text, found {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise PackageRefused(f"{MANIFEST_NAME}: {name} {value[:60]!r} is not valid Unicode") from error
    return value


def _integer(value: object, path: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise PackageRefused(f"{path}: size_bytes must be a whole number, found {type(value).__name__}")
    return value


def _time(value: object, name: str) -> datetime:
    try:
        return require_utc(datetime.fromisoformat(_text(value, name)), name=name)
    except ValueError as error:
        raise PackageRefused(f"{MANIFEST_NAME}: {name} must be a time in UTC, found {value!r}") from error
