"""Make a package of a folder: sort it, read every file once, look at each clip.

Belongs here: what a package holds and in which order it goes. Not here: what a file on a card is
(``ingest/card.py``), the manifest (``package.py``) and the way it travels (``send.py``, ``usb.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import structlog

from ingest.card import CardFile, FileKind, sort_card
from ingest.confinement import Limits
from ingest.courier.package import LeftOut, Package, PackedFile, Role, check_path
from ingest.courier.preview import contact_sheet
from ingest.courier.queue import Queue
from outwatch.domain.errors import OutwatchError, PackageRefused, UploadInterrupted

log = structlog.get_logger(__name__)

PREVIEW_SUFFIX = ".preview.jpg"
"""As ``landing`` knows it: the preview of a clip bears its name."""
HEAD_BYTES = 64 << 10
"""As much of a file as the telemetry formats need to know their own."""
MAX_DEPTH = 12
"""Folders in folders on a card; more is a loop or a mistake."""
ROLES = {
    FileKind.VIDEO: Role.VIDEO,
    FileKind.PHOTO: Role.PHOTO,
    FileKind.TELEMETRY: Role.TELEMETRY,
    # What an operator wrote of a clip goes where its telemetry goes: first, and with the clip.
    FileKind.SIDECAR: Role.TELEMETRY,
}
"""What goes along; every other kind stays behind and is named with its reason."""
ORDER = {Role.TELEMETRY: 0, Role.PREVIEW: 1, Role.PHOTO: 2, Role.VIDEO: 3}
"""What is small and says most goes first."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A package and where each of its files lies, by path in the package."""

    package: Package
    sources: Mapping[str, Path]

    def in_order(self) -> list[PackedFile]:
        """Return the files as they are to go: telemetry, previews, photos, videos, small ones first."""
        return sorted(self.package.files, key=lambda file: (ORDER[file.role], file.size_bytes, file.path))


Watcher = Callable[[str, int, int], None]
"""Told what is being read, how many bytes are done and how many there are."""


def pack_folder(
    folder: Path,
    *,
    queue: Queue,
    declared: Mapping[str, str],
    created_at: datetime,
    is_telemetry: Callable[[bytes], bool],
    preview_limits: Limits | None,
    watch: Watcher = lambda *_: None,
) -> Packed:
    """Return the package of a folder; the same files with the same declaration give the same id.

    Args:
        folder: a card, or a copy of one; links in it are not followed.
        queue: remembers the hashes and keeps the previews.
        declared: what the operator says, by the names that ``landing`` takes.
        created_at: when the package was first made.
        is_telemetry: tells by a file's first bytes whether a telemetry format knows it.
        preview_limits: what looking at one clip may cost; None makes no previews.
        watch: told of progress.

    Raises:
        PackageRefused: there is nothing in the folder to send.
        UploadInterrupted: a file cannot be read, or changes while it is.
    """
    if not folder.is_dir():
        raise PackageRefused(f"{folder} is no folder: name the card, or a folder with its files")
    found, left_out = _sorted(folder, is_telemetry)
    if not found:
        raise PackageRefused(f"{folder} holds no footage and no telemetry: is it the right folder?")
    sources = {path: folder / path for path in found}
    total = sum(source.stat().st_size for source in sources.values())
    files: list[PackedFile] = []
    done = 0
    for path, role in found.items():
        watch(path, done, total)
        files.append(_packed(path, sources[path], role=role, queue=queue))
        done += files[-1].size_bytes
    watch("", done, total)
    if preview_limits is not None:
        for clip in [file for file in files if file.role is Role.VIDEO]:
            watch(f"preview of {clip.path}", done, total)
            preview = _preview(clip, sources[clip.path], queue=queue, limits=preview_limits)
            path = str(PurePosixPath(clip.path).with_suffix(PREVIEW_SUFFIX))
            if preview is not None and path not in sources:
                sources[path] = preview
                # Dated like the clip, so that making it again makes the same package.
                made = _packed(path, preview, role=Role.PREVIEW, queue=queue)
                files.append(replace(made, modified_at=clip.modified_at))
    return Packed(Package(tuple(files), tuple(left_out), dict(declared), created_at), sources)


def _sorted(folder: Path, is_telemetry: Callable[[bytes], bool]) -> tuple[dict[str, Role], list[LeftOut]]:
    """Return the files that go along with their roles, and those that stay behind with the reason."""
    left_out, on_card = [], {}
    for path in _walk(folder, depth=0):
        name = path.relative_to(folder).as_posix()
        try:
            check_path(name)
        except PackageRefused as error:
            readable = name.encode(errors="replace").decode().replace("\\", "/")
            name = "".join(character if character.isprintable() else "?" for character in readable)
            left_out.append(LeftOut(name, path.lstat().st_size, str(error)))
            continue
        if path.is_symlink() or not path.is_file():
            left_out.append(LeftOut(name, 0, "a link, a device or folders too deep: not read"))
        else:
            on_card[name] = _card_file(path, name)
    card = sort_card(on_card.values(), is_telemetry=is_telemetry)
    chosen = {file.path: ROLES[file.kind] for file in card.files if file.kind in ROLES}
    left_out += [
        LeftOut(file.path, on_card[file.path].size_bytes, file.reason)
        for file in card.files
        if file.kind not in ROLES
    ]
    return chosen, left_out


def _walk(folder: Path, *, depth: int) -> Iterator[Path]:
    """Yield what lies in a folder, files and what is neither file nor folder, in order of name."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise UploadInterrupted(
            f"{folder} cannot be read ({error.strerror}): is the card in place?"
        ) from error
    for entry in entries:
        if entry.is_dir() and not entry.is_symlink() and depth < MAX_DEPTH:
            yield from _walk(entry, depth=depth + 1)
        else:
            yield entry


def _card_file(path: Path, name: str) -> CardFile:
    try:
        with path.open("rb") as file:
            return CardFile(name, path.stat().st_size, file.read(HEAD_BYTES))
    except OSError as error:
        raise UploadInterrupted(f"{path} cannot be read ({error.strerror}): is the card in place?") from error


def _packed(path: str, source: Path, *, role: Role, queue: Queue) -> PackedFile:
    sha256 = queue.sha256(source)
    status = source.stat()
    modified_at = datetime.fromtimestamp(int(status.st_mtime), UTC)
    return PackedFile(path, sha256, status.st_size, modified_at, role)


def _preview(clip: PackedFile, source: Path, *, queue: Queue, limits: Limits) -> Path | None:
    """Return the clip's preview, made once; None where none can be made, which stops nothing."""
    path = queue.previews / f"{clip.sha256}.jpg"
    if not path.is_file():
        try:
            data = contact_sheet(source, limits=limits)
        except OutwatchError as error:
            log.warning("no_preview", file=clip.path, error=str(error))
            return None
        partial = path.with_suffix(".part")
        partial.write_bytes(data)
        partial.replace(path)
    return path
