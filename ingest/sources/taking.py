"""Which of a source's files may be taken now, which must wait, and which never: pure decisions.

Belongs here: names that are safe, files that are finished, and files that go together. Not here: listing
and fetching (``tree.py``, ``store_source.py``) and remembering (``storage/pulled.py``).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from ingest.register import SIDECAR_SUFFIXES, VIDEO_SUFFIXES
from ingest.video import PHOTO_SUFFIXES
from outwatch.domain.ports import RemoteFile

MANIFEST_SUFFIX = ".outwatch.json"
DEFAULT_INCLUDE = tuple(
    sorted(f"*{suffix}" for suffix in VIDEO_SUFFIXES | PHOTO_SUFFIXES | SIDECAR_SUFFIXES | {MANIFEST_SUFFIX})
)
"""What is taken where a source does not say: footage, telemetry, and what declares them."""
UNFINISHED_SUFFIXES = (".part", ".partial", ".filepart", ".tmp", ".crdownload", ".download")
"""What browsers, WinSCP, rclone and others add to the name of a file that they are still writing."""
MAX_PATH_BYTES = 1024
MAX_NAME_BYTES = 240
"""Common file systems take 255, and what lies beside a file has a longer ending: ``.outwatch.json``."""
_REFUSED_CATEGORIES = frozenset({"Cc", "Cs", "Co", "Cn", "Zl", "Zp"})
_TURNS_TEXT = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Marks that make a name look like another one; Urdu needs none of them in a file name."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A file of a listing, with what is remembered of it."""

    file: RemoteFile
    unchanged_since: datetime
    """When a listing first showed it as it is now, by our clock."""
    is_settled: bool
    """Whether it was taken or refused as it is now."""


@dataclass(slots=True)
class Plan:
    """What to do about a listing."""

    sets: list[tuple[RemoteFile, ...]] = field(default_factory=list)
    """Files of one name that are fetched together, the longest unchanged set first."""
    waiting: dict[str, str] = field(default_factory=dict)
    """Path to the reason."""
    refused: dict[str, str] = field(default_factory=dict)


def is_wanted(name: str, include: Collection[str]) -> bool:
    """Tell by its name whether a file is to be listed: asked for, or the sign that one is being written."""
    folded = name.casefold()
    if folded.startswith("."):
        return False
    return is_unfinished(name) or any(fnmatchcase(folded, pattern.casefold()) for pattern in include)


def is_unfinished(name: str) -> bool:
    """Tell whether a name says that its file is still being written."""
    return name.casefold().endswith(UNFINISHED_SUFFIXES)


def why_unsafe(path: str) -> str | None:
    """Return why a remote path must not be used, or None where nothing speaks against it."""
    parts = path.split("/")
    if any(part in {"", ".", ".."} for part in parts):
        return "its path is absolute or climbs out of the source"
    if "\\" in path or any(unicodedata.category(character) in _REFUSED_CATEGORIES for character in path):
        return "its name has a backslash, a control character or broken Unicode: rename it at the source"
    if not _TURNS_TEXT.isdisjoint(path):
        return "its name has marks that turn the text's direction: rename it at the source"
    if len(path.encode()) > MAX_PATH_BYTES or any(len(part.encode()) > MAX_NAME_BYTES for part in parts):
        return f"its path is longer than {MAX_PATH_BYTES} bytes, or a name in it than {MAX_NAME_BYTES}"
    return None


def plan(
    listed: Sequence[Listed],
    *,
    now: datetime,
    source_now: datetime | None,
    settle: timedelta,
    max_file_bytes: int,
) -> Plan:
    """Decide about each file of a listing.

    A file is finished when it has not changed for ``settle``: between two of our listings by our clock, or
    since its modification by the source's own. Files of one name in one folder go together once all of
    them are finished; a video without telemetry, or telemetry without a video, gives the other one more
    ``settle`` to come. A set that is not settled is fetched whole, so that telemetry that comes late finds
    its video.

    Args:
        listed: what the source shows, unfinished companions too.
        now: our time.
        source_now: what the source's clock says, where it says so.
        settle: how long a file must not have changed.
        max_file_bytes: a larger file is refused, and one without a size.
    """
    made = Plan()
    unfinished = {one.file.path.casefold() for one in listed if is_unfinished(one.file.path)}
    sets: dict[str, list[_Member]] = {}
    for one in listed:
        if is_unfinished(one.file.path):
            continue
        if reason := why_unsafe(one.file.path) or _why_not_its_size(one.file, max_file_bytes):
            made.refused[one.file.path] = reason
        else:
            member = _Member(one.file, one.is_settled, _quiet(one, now=now, source_now=source_now))
            sets.setdefault(_set_name(one.file.path), []).append(member)
    ready = []
    for members in sets.values():
        fresh = [member for member in members if not member.is_settled]
        if not fresh:
            continue
        if reasons := _why_wait(members, unfinished, settle=settle):
            first = next(iter(reasons))
            for member in fresh:
                made.waiting[member.file.path] = reasons.get(member.file.path, f"waits for {first}")
        else:
            files = tuple(member.file for member in members)
            ready.append((min(member.quiet for member in fresh), files))
    made.sets = [files for _, files in sorted(ready, key=lambda item: (-item[0], item[1][0].path))]
    return made


@dataclass(frozen=True, slots=True)
class _Member:
    """A file of a set, with how long it is known not to have changed."""

    file: RemoteFile
    is_settled: bool
    quiet: timedelta


def _quiet(one: Listed, *, now: datetime, source_now: datetime | None) -> timedelta:
    ours = now - one.unchanged_since
    if source_now is None or one.file.modified_at is None:
        return ours
    return max(ours, source_now - one.file.modified_at)


def _why_not_its_size(file: RemoteFile, max_file_bytes: int) -> str | None:
    if file.size_bytes is None:
        return "the source does not tell its size, without which nobody knows whether it came whole"
    if file.size_bytes <= max_file_bytes:
        return None
    return (
        f"has {file.size_bytes / 1e6:.0f} MB, more than max_file_bytes ({max_file_bytes / 1e6:.0f} MB): "
        "raise it for this source, or cut the file"
    )


def _why_wait(
    members: Sequence[_Member], unfinished: Collection[str], *, settle: timedelta
) -> dict[str, str]:
    """Return by path why a set cannot be taken yet, nothing where it can."""
    fresh = [member for member in members if not member.is_settled]
    reasons = {}
    for member in fresh:
        companions = {member.file.path.casefold() + suffix for suffix in UNFINISHED_SUFFIXES}
        if not companions.isdisjoint(unfinished):
            reasons[member.file.path] = "is still being written: a part file lies beside it"
        elif member.quiet < settle:
            reasons[member.file.path] = f"must be seen unchanged for {settle}: may still be being written"
    if not reasons and min(member.quiet for member in fresh) < 2 * settle and (lack := _lacks(members)):
        reasons[fresh[0].file.path] = f"waits up to {settle} more for {lack} of its name"
    return reasons


def _lacks(members: Iterable[_Member]) -> str | None:
    """Return what a clip and its telemetry still lack; photos and manifests ask for nothing."""
    suffixes = {PurePosixPath(member.file.path).suffix.casefold() for member in members}
    has_video, has_telemetry = (
        not suffixes.isdisjoint(VIDEO_SUFFIXES),
        not suffixes.isdisjoint(SIDECAR_SUFFIXES),
    )
    if has_video == has_telemetry:
        return None
    return "telemetry" if has_video else "a video"


def _set_name(path: str) -> str:
    """Return what files that belong together share: folder, and name without its ending or its case."""
    folder, slash, name = path.rpartition("/")
    folded = name.casefold()
    if folded.endswith(MANIFEST_SUFFIX):
        return folder + slash + folded.removesuffix(MANIFEST_SUFFIX)
    return folder + slash + PurePosixPath(folded).stem
