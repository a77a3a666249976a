"""Say of every file on a memory card what it is, and which files belong together.

Belongs here: what names, folders and first bytes tell. Not here: whether a file is whole (``video.py``,
``telemetry/``), and which clips are one recording (``segments.py``).

Nothing is left out: a file that is of no use is named with the reason, so that whoever handed the card
in can see that all of it was looked at.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from pathlib import PurePosixPath

from ingest.register import MANIFEST_SUFFIX, RAW_PHOTO_SUFFIXES, SIDECAR_SUFFIXES, VIDEO_SUFFIXES
from ingest.video import PHOTO_SUFFIXES

UNREAD_PHOTO_SUFFIXES = RAW_PHOTO_SUFFIXES | {".heic", ".gpr"}
PROXY_SUFFIXES = frozenset((".lrf", ".lrv"))
"""Low-resolution copies of a video, for a phone's preview: DJI's LRF, GoPro's and older DJI's LRV."""
THUMBNAIL_SUFFIXES = frozenset((".thm", ".scr"))
SYSTEM_FOLDERS = frozenset(
    (
        ".trashes", ".spotlight-v100", ".fseventsd", ".temporaryitems", ".appledouble", "._appledouble",
        ".documentrevisions-v100", "__macosx", "system volume information", "$recycle.bin", "recycler",
        "lost.dir", "lost+found", ".android_secure",
    )
)  # fmt: skip
SYSTEM_NAMES = frozenset(
    (".ds_store", "thumbs.db", "desktop.ini", "autorun.inf", "indexervolumeguid", "wpsettings.dat")
)
_BIN_FOLDER = re.compile(r"\.trash-\d{1,9}|found\.\d{3}", re.ASCII)
_APPLE_DOUBLE = b"\x00\x05\x16\x07"
"""First bytes of the files in which macOS keeps what a card's file system cannot (AppleDouble, RFC 1740)."""
_GOPRO_PROXY = re.compile(r"gl(\d{6})", re.ASCII)


class FileKind(StrEnum):
    """What a file on a card is."""

    VIDEO = "video"
    PHOTO = "photo"
    TELEMETRY = "telemetry"
    SIDECAR = "sidecar"
    PROXY = "proxy"
    THUMBNAIL = "thumbnail"
    FLIGHT_RECORD = "flight_record"
    SYSTEM = "system"
    UNKNOWN = "unknown"


_THUMBNAIL_FOLDER = ("misc", "thm")
"""Where DJI aircraft keep thumbnails, in folders named like those of the footage (MISC/THM/100)."""
_THUMBNAIL = (FileKind.THUMBNAIL, "a small preview picture that the aircraft made")
_BY_ENDING: dict[str, tuple[FileKind, str]] = {
    **dict.fromkeys(THUMBNAIL_SUFFIXES, _THUMBNAIL),
    **dict.fromkeys(
        PROXY_SUFFIXES,
        (FileKind.PROXY, "a low-resolution copy for previews: the original is what counts"),
    ),
    **dict.fromkeys(VIDEO_SUFFIXES, (FileKind.VIDEO, "a video by the ending of its name")),
    **dict.fromkeys(PHOTO_SUFFIXES, (FileKind.PHOTO, "a photo by the ending of its name")),
    **dict.fromkeys(UNREAD_PHOTO_SUFFIXES, (FileKind.PHOTO, "a photo, of a kind that is not read")),
}


@dataclass(frozen=True, slots=True)
class CardFile:
    """A file as it lies on a card."""

    path: str
    """Relative to the card's root, with ``/`` between folders."""
    size_bytes: int
    head: bytes
    """Its first bytes, as many as the telemetry formats need (64 KiB); fewer only where it is shorter."""


@dataclass(frozen=True, slots=True)
class SortedFile:
    """What a file is, and why it is thought to be."""

    path: str
    kind: FileKind
    reason: str
    belongs_to: str | None = None
    """The video that a telemetry file, sidecar, proxy or thumbnail of the same name lies beside."""


@dataclass(frozen=True, slots=True)
class CardGroup:
    """A video, and what lies beside it under its name."""

    video: str
    telemetry: tuple[str, ...] = ()
    manifest: str | None = None


@dataclass(frozen=True, slots=True)
class Card:
    """All files of a card, in order of path, each exactly once."""

    files: tuple[SortedFile, ...]
    groups: tuple[CardGroup, ...]
    shared_logs: tuple[str, ...]
    """Telemetry beside no video of its name: a log of a whole flight, to be tried on all videos."""

    def of(self, kind: FileKind) -> tuple[SortedFile, ...]:
        """Return the files of one kind."""
        return tuple(file for file in self.files if file.kind is kind)


def sort_card(files: Iterable[CardFile], *, is_telemetry: Callable[[bytes], bool]) -> Card:
    """Return what every file of a card is, and the videos with what belongs to them.

    Two videos of one name in one folder share what lies beside them, and each file names the first.

    Args:
        files: each path once.
        is_telemetry: tells by a file's first bytes whether any telemetry format recognises it.
    """
    kinds = {file.path: _kind(file, is_telemetry) for file in sorted(files, key=lambda file: file.path)}
    videos: dict[str, list[str]] = defaultdict(list)
    for path, (kind, _) in kinds.items():
        if kind is FileKind.VIDEO:
            videos[_stem(path, kind)].append(path)
    sorted_files = tuple(
        SortedFile(path, kind, reason, belongs_to=_owner(path, kind, videos))
        for path, (kind, reason) in kinds.items()
    )
    return Card(
        files=sorted_files,
        groups=_groups(sorted_files, videos),
        shared_logs=tuple(
            file.path for file in sorted_files if file.kind is FileKind.TELEMETRY and file.belongs_to is None
        ),
    )


def _groups(files: Iterable[SortedFile], videos: Mapping[str, list[str]]) -> tuple[CardGroup, ...]:
    beside: dict[tuple[str, FileKind], list[str]] = defaultdict(list)
    for file in files:
        beside[_stem(file.path, file.kind), file.kind].append(file.path)
    groups = (
        CardGroup(
            video,
            telemetry=tuple(beside.get((stem, FileKind.TELEMETRY), ())),
            manifest=next(iter(beside.get((stem, FileKind.SIDECAR), ())), None),
        )
        for stem, names in videos.items()
        for video in names
    )
    return tuple(sorted(groups, key=lambda group: group.video))


def _owner(path: str, kind: FileKind, videos: Mapping[str, list[str]]) -> str | None:
    if kind not in {FileKind.TELEMETRY, FileKind.SIDECAR, FileKind.PROXY, FileKind.THUMBNAIL}:
        return None
    stem = _stem(path, kind)
    folder, _, name = stem.rpartition("/")
    found = _GOPRO_PROXY.fullmatch(name) if kind is FileKind.PROXY else None
    # GoPro calls the copy of GH010042.MP4 or GX010042.MP4 GL010042.LRV.
    names = [f"{folder}/{letters}{found[1]}" for letters in ("gh", "gx")] if found else [stem]
    return next((videos[candidate][0] for candidate in names if candidate in videos), None)


def _stem(path: str, kind: FileKind) -> str:
    """Return folder and name without ending, without regard to case."""
    folded = f"/{path}".casefold()
    ending = MANIFEST_SUFFIX if kind is FileKind.SIDECAR else PurePosixPath(folded).suffix
    return folded.removesuffix(ending)


def _kind(file: CardFile, is_telemetry: Callable[[bytes], bool]) -> tuple[FileKind, str]:
    """Return what a file is and why; what must not be mistaken for footage is asked first."""
    path = PurePosixPath(file.path.casefold())
    if reason := _system_reason(path, file.head):
        return FileKind.SYSTEM, reason
    if path.name.endswith(MANIFEST_SUFFIX):
        return FileKind.SIDECAR, "declares what the operator knows of the clip of its name"
    if _THUMBNAIL_FOLDER in pairwise(path.parts[:-1]):
        return _THUMBNAIL
    return _BY_ENDING.get(path.suffix) or _by_content(file, path, is_telemetry)


def _by_content(
    file: CardFile, path: PurePosixPath, is_telemetry: Callable[[bytes], bool]
) -> tuple[FileKind, str]:
    if is_telemetry(file.head):
        return FileKind.TELEMETRY, "telemetry by its content"
    if path.suffix == ".dat" or path.name.startswith("djiflightrecord"):
        return FileKind.FLIGHT_RECORD, "the aircraft's own log, encrypted by its maker: kept apart, not read"
    if path.suffix in SIDECAR_SUFFIXES:  # damaged, or empty
        return FileKind.TELEMETRY, "telemetry by the ending of its name, though no format knows its content"
    if file.size_bytes == 0:
        return FileKind.UNKNOWN, "empty"
    return FileKind.UNKNOWN, "neither footage nor telemetry that is known"


def _system_reason(path: PurePosixPath, head: bytes) -> str | None:
    """Return why a file is a computer's and not the camera's, None where it is not."""
    if any(part in SYSTEM_FOLDERS or _BIN_FOLDER.fullmatch(part) for part in path.parts[:-1]):
        return "in a folder that a computer keeps for itself (deleted files, indexes, repairs)"
    if path.name.startswith("._") or head.startswith(_APPLE_DOUBLE):
        return "macOS wrote it beside another file: it has that file's name but none of its content"
    if path.name in SYSTEM_NAMES:
        return "written by a computer's file browser"
    return None
