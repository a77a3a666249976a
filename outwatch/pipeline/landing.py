"""Hand files over: from wherever they lie to ``landing/`` and the ledger, one upload a clip.

Every door ends here: the command line, the upload server, a courier's stick, a remote pull. Belongs here:
which files go together, what was declared of them, and their rows in the ledger. Not here: looking into
files (``registration.py``) and the doors themselves (``courier.py``, ``incoming.py``, ``pull.py``).
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ingest.card import CardFile, FileKind, sort_card
from ingest.register import LOG_SUFFIXES, MANIFEST_SUFFIX, SIDECAR_SUFFIXES, VIDEO_SUFFIXES, sort_upload
from ingest.telemetry.sources import HEAD_BYTES, recognise
from ingest.video import PHOTO_SUFFIXES
from outwatch.domain.cameras import camera_named
from outwatch.domain.errors import ConfigInvalid, NoRoom, PermanentError
from outwatch.domain.ports import ObjectInfo
from outwatch.domain.types import MountAngles
from outwatch.pipeline.wiring import Pipeline
from outwatch.settings import Settings
from storage import keys
from storage.database import storable
from storage.ledger import LandedFile
from storage.tables import FileState, WorkState

WHOLE_TURN_DEG = 360.0
PREVIEW_SUFFIX = ".preview.jpg"
"""``<clip name without ending>.preview.jpg``: the contact sheet that a courier sends ahead of a clip."""
MOUNT_FIELDS = ("mount_pitch_deg", "mount_heading_deg", "mount_roll_deg")
"""How a camera without a gimbal is fixed to its airframe; the pitch makes the declaration."""
DECLARABLE = (
    "camera",
    "platform",
    "flight_id",
    "time_zone",
    "clock_uncertainty_s",
    "operator",
    "purpose",
    *MOUNT_FIELDS,
)
"""What an operator may declare, by manifest or by option of the command line, which wins."""

CLIPS = frozenset({FileKind.VIDEO, FileKind.PHOTO})
LEFT_ON_CARD = frozenset({FileKind.PROXY, FileKind.THUMBNAIL, FileKind.FLIGHT_RECORD, FileKind.SYSTEM})
"""What is accounted for and not taken."""


@dataclass(frozen=True, slots=True)
class Landed:
    """One set of files that went to ``landing/`` together: a clip and what lies beside it."""

    names: tuple[str, ...]
    upload_id: str | None
    is_new: bool
    error: str | None = None
    """Why the files could not be handed over; they are where they were."""


@dataclass(frozen=True, slots=True)
class MissingFile:
    """A file that did not land and is accounted for: left out at the station, refused, never whole."""

    name: str
    sha256: str
    """Empty where it is not known."""
    size_bytes: int
    outcome: Literal[FileState.SET_ASIDE, FileState.REFUSED, FileState.ABANDONED]
    reason: str


def land(pipeline: Pipeline, paths: Sequence[Path], *, declared: Mapping[str, str]) -> list[Landed]:
    """Copy local files to ``landing/``, one upload a clip, and open their registration.

    Telemetry and manifest are found beside a clip by name; a folder is sorted as a memory card. The same
    files with the same declaration are the same upload, and land once.

    A set that cannot be handed over says why in its result; the others go on.

    Raises:
        NoRoom: the disk is too full for more; what was landed before stays, the rest is where it was.
    """
    folders: dict[Path, dict[str, None]] = {}
    landed = []
    for path in paths:
        if path.is_dir():
            landed += _land_card(pipeline, path, declared=declared)
        elif path.is_file():
            names = folders.setdefault(path.parent, {})
            names.update(dict.fromkeys([path.name, *_beside(path)]))
        else:
            reason = f"{path} is not a file or folder: name footage, or the card it is on"
            landed.append(Landed((path.name,), None, is_new=False, error=reason))
    clips: list[tuple[Path, ...]] = []
    others: list[Path] = []
    for folder, names in folders.items():
        companions = {manifest_name(name) for name in names} | {preview_name(name) for name in names}
        sorted_names = sort_upload(names.keys() - companions)
        clips += [
            tuple(folder / name for name in (group.video, *group.sidecars)) for group in sorted_names.groups
        ]
        others += [folder / name for name in sorted_names.others]
    logs = [path for path in others if clips and path.suffix.lower() in LOG_SUFFIXES]
    sets = [
        (*members, *logs) if members[0].suffix.lower() in VIDEO_SUFFIXES else members for members in clips
    ]
    taken = {path for members in sets for path in members}
    sets += [(path,) for path in others if path not in taken]
    return landed + [_land_set(pipeline, members, declared) for members in sets]


def _land_card(pipeline: Pipeline, folder: Path, *, declared: Mapping[str, str]) -> list[Landed]:
    """Land what is of use on a card, and account for what is not, which stays where it is."""
    files = _card_files(folder, apart_from=pipeline.settings.home_dir)
    card = sort_card(files, is_telemetry=lambda head: recognise(head) is not None)
    logs = [path for path in card.shared_logs if PurePosixPath(path).suffix.lower() in LOG_SUFFIXES]
    of_groups = [(group.video, *group.telemetry, *logs) for group in card.groups]
    taken = {path.casefold() for group in of_groups for path in group}
    for clip in (PurePosixPath(file.path) for file in card.files if file.kind in CLIPS):
        taken |= {str(clip.with_name(name(clip.name))).casefold() for name in (manifest_name, preview_name)}
    alone = [
        (file.path,)
        for file in card.files
        if file.kind not in LEFT_ON_CARD and file.path.casefold() not in taken
    ]
    landed = [
        _land_set(pipeline, [folder / path for path in members], declared) for members in of_groups + alone
    ]
    left = [
        MissingFile(
            name=file.path,
            sha256=keys.sha256_file(folder / file.path),
            size_bytes=(folder / file.path).stat().st_size,
            outcome=FileState.SET_ASIDE,
            reason=file.reason,
        )
        for file in card.files
        if file.kind in LEFT_ON_CARD
    ]
    set_aside = record_without_content(pipeline, left, source=str(folder))
    return [*landed, set_aside] if set_aside else landed


def require_room(settings: Settings, size_bytes: int) -> None:
    """Refuse new work that would leave too little room for the work on what is here.

    Raises:
        NoRoom: it would, on the disk of ``OUTWATCH_HOME``; nothing was taken.
    """
    home, least = settings.home_dir, settings.ingest.min_free_bytes
    free = shutil.disk_usage(home).free
    if free - size_bytes < least:
        raise NoRoom(
            f"no room for {size_bytes / 1e6:,.1f} MB: the disk of {home} has {free / 1e6:,.1f} MB free and"
            f" keeps {least / 1e6:,.0f} MB for its work (ingest.min_free_bytes); make room and hand it in"
            " again, nothing was lost"
        )


def _card_files(folder: Path, *, apart_from: Path) -> Iterator[CardFile]:
    """Yield what lies on a card; neither links, which lead elsewhere, nor our own state."""
    for path in sorted(folder.absolute().rglob("*")):
        if path.is_symlink() or not path.is_file() or path.is_relative_to(apart_from):
            continue
        with path.open("rb") as file:
            yield CardFile(
                path.relative_to(folder.absolute()).as_posix(), path.stat().st_size, file.read(HEAD_BYTES)
            )


def _land_set(pipeline: Pipeline, paths: Sequence[Path], declared: Mapping[str, str]) -> Landed:
    """Land one clip's files, or say why they could not be handed over."""
    try:
        return _land(pipeline, paths, declared)
    except (PermanentError, OSError) as error:
        return Landed(tuple(path.name for path in paths), None, is_new=False, error=str(error))


def adopt_upload(pipeline: Pipeline, upload_id: str, infos: Sequence[ObjectInfo]) -> bool:
    """Record files that something else put into ``landing/``; one without a video is left to settle.

    Our own clients put the video last, so that an upload with a video is whole.
    """
    names = {info.key: keys.parse_landing(info.key)[1] for info in infos}
    if not sort_upload(names.values()).groups:
        return False
    with tempfile.TemporaryDirectory(dir=pipeline.scratch) as folder:
        local = Path(folder) / "object"
        rows = []
        for info in infos:
            pipeline.store.download(info.key, local)
            rows.append(
                LandedFile(
                    upload_id=upload_id,
                    name=names[info.key],
                    sha256=keys.sha256_file(local),
                    size_bytes=info.size_bytes,
                    received_at=pipeline.now(),
                    modified_at=None,  # when it arrived, not when it was taken
                    key=info.key,
                )
            )
    return pipeline.ledger.record_upload(rows, declared={}, opens=[("ingest_footage", upload_id)])


def _beside(path: Path) -> list[str]:
    """Return the names of telemetry and of the preview that lie beside a clip under its name."""
    stem = path.stem.casefold()
    wanted = {f"{stem}{suffix}" for suffix in SIDECAR_SUFFIXES}
    return sorted(
        other.name for other in path.parent.iterdir() if other.name.casefold() in wanted and other.is_file()
    )


def record_without_content(pipeline: Pipeline, files: Sequence[MissingFile], *, source: str) -> Landed | None:
    """Give files whose content is not here their row in the ledger; the same files are recorded once.

    Args:
        pipeline: whose ledger.
        files: with the outcome and the reason of each; None is returned where there are none.
        source: the package, card or upload they belonged to, for those who ask later.
    """
    if not files:
        return None
    upload_id = keys.upload_id((f"{source}/{file.name}", file.sha256) for file in files)
    rows = [
        LandedFile(
            upload_id=upload_id,
            name=file.name,
            sha256=file.sha256,
            size_bytes=file.size_bytes,
            received_at=pipeline.now(),
            modified_at=None,
            key="",
            outcome=file.outcome,
            reason=file.reason,
        )
        for file in files
    ]
    is_new = pipeline.ledger.record_upload(rows, declared={"source": source}, opens=[])
    return Landed(tuple(file.name for file in files), upload_id, is_new=is_new)


def manifest_name(video: str) -> str:
    """Return the name of the manifest that declares what is known of a clip."""
    return f"{PurePosixPath(video).stem}{MANIFEST_SUFFIX}"


def preview_name(video: str) -> str:
    """Return the name of the contact sheet that may have come ahead of a clip."""
    return f"{PurePosixPath(video).stem}{PREVIEW_SUFFIX}"


def parse_declared(data: bytes, *, source: str) -> dict[str, str]:
    """Return what a manifest declares.

    Raises:
        ConfigInvalid: it is not a JSON object of known fields, or one of them is none of its kind.
    """
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ConfigInvalid(f"{source} is not JSON: {error}") from error
    if not isinstance(values, dict) or not all(map(_is_text, values.values())):
        raise ConfigInvalid(f"{source}: expected a JSON object of texts, of {', '.join(DECLARABLE)}")
    unknown = sorted(set(values) - set(DECLARABLE))
    if unknown:
        raise ConfigInvalid(f"{source}: unknown field {unknown[0]!r}, expected {', '.join(DECLARABLE)}")
    if "camera" in values:
        camera_named(values["camera"])
    if "time_zone" in values:
        try:
            ZoneInfo(values["time_zone"])
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ConfigInvalid(f"{source}: time_zone {values['time_zone']!r} is no IANA zone") from error
    clock_uncertainty_s(values, source=source)
    mount_angles(values, source=source)
    return values


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value == storable(value)


def clock_uncertainty_s(declared: Mapping[str, str], *, source: str = "declaration") -> float | None:
    """Return within how many seconds of UTC a clip's container is declared to be, None where it is not.

    Raises:
        ConfigInvalid: it is no number of seconds up to a day.
    """
    text = declared.get("clock_uncertainty_s")
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= timedelta(days=1).total_seconds():
        raise ConfigInvalid(f"{source}: clock_uncertainty_s {text[:40]!r}, expected seconds such as 2")
    return seconds


def mount_angles(declared: Mapping[str, str], *, source: str = "declaration") -> MountAngles | None:
    """Return the fixed mount angles that are declared, None where no pitch is.

    Raises:
        ConfigInvalid: one is no angle in degrees, or the pitch, which the others hang on, is missing.
    """
    told = {name: declared[name] for name in MOUNT_FIELDS if name in declared}
    try:
        angles = {name: float(text) for name, text in told.items()}
    except ValueError as error:
        raise ConfigInvalid(f"{source}: mount angles are degrees such as -90, found {told}") from error
    if any(not abs(angle) <= WHOLE_TURN_DEG for angle in angles.values()):
        raise ConfigInvalid(f"{source}: mount angles lie within 360 degrees, found {told}")
    if angles and "mount_pitch_deg" not in angles:
        raise ConfigInvalid(f"{source}: {', '.join(told)} without mount_pitch_deg: declare it too")
    if not angles:
        return None
    return MountAngles(
        pitch_deg=angles["mount_pitch_deg"],
        heading_deg=angles.get("mount_heading_deg", 0.0),
        roll_deg=angles.get("mount_roll_deg", 0.0),
    )


def _land(pipeline: Pipeline, paths: Sequence[Path], declared: Mapping[str, str]) -> Landed:
    """Land one clip's files, the video last: an upload with a video is then always whole."""
    video = paths[0]
    is_clip = video.suffix.lower() in VIDEO_SUFFIXES | PHOTO_SUFFIXES
    preview, manifest_path = (_companion(video, name(video.name)) for name in (preview_name, manifest_name))
    files = _named([*paths[1:], *([preview] if preview else []), video])
    hashes = {name: keys.sha256_file(path) for name, path in files.items()}
    written = {}
    if manifest_path is not None:
        written = parse_declared(manifest_path.read_bytes(), source=str(manifest_path))
    told = {**written, **declared}
    manifest = json.dumps(told, sort_keys=True, ensure_ascii=False).encode()
    parse_declared(manifest, source="options")
    needed = bool(written) or (is_clip and bool(told))
    if needed:
        hashes[manifest_name(video.name)] = hashlib.sha256(manifest).hexdigest()
    upload_id = keys.upload_id(hashes.items())
    names = tuple(sorted(hashes, key=lambda name: name != video.name))
    if pipeline.ledger.upload(upload_id) is not None and not _worth_another_try(pipeline, upload_id):
        return Landed(names, upload_id, is_new=False)

    def row(name: str, *, size_bytes: int, modified_at: datetime | None) -> LandedFile:
        return LandedFile(
            upload_id=upload_id,
            name=name,
            sha256=hashes[name],
            size_bytes=size_bytes,
            received_at=received_at,
            modified_at=modified_at,
            key=keys.landing(upload_id, name),
        )

    require_room(pipeline.settings, sum(path.stat().st_size for path in files.values()))
    received_at = pipeline.now()
    rows = []
    if needed:
        rows.append(row(manifest_name(video.name), size_bytes=len(manifest), modified_at=None))
        pipeline.store.put(rows[-1].key, manifest)
    for name, path in files.items():
        status = path.stat()
        modified_at = datetime.fromtimestamp(status.st_mtime, UTC)
        rows.append(row(name, size_bytes=status.st_size, modified_at=modified_at))
        pipeline.store.upload(rows[-1].key, path)
    is_new = pipeline.ledger.record_upload(rows, declared=told, opens=[("ingest_footage", upload_id)])
    if not is_new:
        pipeline.ledger.reopen("ingest_footage", upload_id)
    return Landed(names, upload_id, is_new=is_new)


def _named(paths: Sequence[Path]) -> dict[str, Path]:
    """Return files by a name each, the last its own: ``landing/`` has no folders within an upload."""
    named: dict[str, Path] = {}
    for path in reversed(paths):
        name = path.name
        for folder in path.parents:
            if name.casefold() not in {other.casefold() for other in named}:
                break
            name = f"{folder.name}_{name}"
        named[name] = path
    return dict(reversed(named.items()))


def _companion(clip: Path, name: str) -> Path | None:
    """Return the file of a name beside a clip, in whatever case it is written there."""
    beside = (path for path in clip.parent.iterdir() if path.name.casefold() == name.casefold())
    return next((path for path in sorted(beside) if path.is_file()), None)


def _worth_another_try(pipeline: Pipeline, upload_id: str) -> bool:
    """Tell whether a known upload failed or was refused, so that handing it in again tries it again."""
    work = pipeline.ledger.work_on("ingest_footage", upload_id)
    upload = pipeline.ledger.upload(upload_id)
    if work is None or upload is None:
        return False
    refused = any(file.outcome is FileState.REFUSED for file in upload.files)
    return work.state is WorkState.FAILED or (work.state is WorkState.DONE and refused)
