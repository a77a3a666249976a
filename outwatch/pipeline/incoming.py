"""Packages on their way in over the network: announced, checked when whole, handed over, given up.

Belongs here: which file a client means, what one that has come whole is, and when waiting ends. Not here:
bytes and limits (``spool.py``), the protocol (``outwatch/console/uploads.py``), and what lands with what
(``handover.py``).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import structlog

from ingest.courier.package import (
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    Package,
    PackedFile,
    Role,
    check_path,
    parse_package,
)
from ingest.register import MANIFEST_SUFFIX
from outwatch.domain.errors import (
    ConfigInvalid,
    NoRoom,
    ObjectMissing,
    PackageRefused,
    PackageTooLarge,
)
from outwatch.pipeline.handover import close, content_of, hand_over
from outwatch.pipeline.landing import MissingFile, parse_declared, record_without_content
from outwatch.pipeline.quarantine import quarantine
from outwatch.pipeline.spool import MANIFEST_ROLE, Arrival, ArrivalState, Parcel, Spool
from outwatch.pipeline.wiring import Pipeline
from outwatch.settings import Settings
from storage import keys
from storage.tables import FileState

log = structlog.get_logger(__name__)

_PACKAGE_ID = re.compile(r"[0-9a-f]{16}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a package that lay at hand."""

    counts: Mapping[str, int]
    refused: tuple[tuple[str, str], ...]
    """Path and reason of each file that could not be taken in."""


def open_spool(settings: Settings) -> Spool:
    """Return the place where files on their way in are kept."""
    return Spool(settings)


def announce(
    spool: Spool, metadata: Mapping[str, str], *, size_bytes: int, client: str, now: datetime
) -> Arrival:
    """Return the file that a client is about to send, or goes on sending.

    With ``package`` in its metadata it is the package's manifest or a file that the manifest names; to
    announce it again is to ask how much of it has come. Without, it is a package of its own, or with
    ``group`` one of several files that belong together.

    Raises:
        ObjectMissing: the package's manifest has not come yet.
        PackageRefused: the metadata lacks the file's name, or contradicts the manifest.
        PackageTooLarge: it is more than is ever taken.
        NoRoom: too much is on its way, or the disk is too full.
    """
    package = metadata.get("package")
    if package is None:
        return _announce_alone(spool, metadata, size_bytes=size_bytes, client=client, now=now)
    if not _PACKAGE_ID.fullmatch(package):
        raise PackageRefused(f"package {package[:80]!r}: expected 16 hex digits")
    if "path" not in metadata and metadata.get("filename") == MANIFEST_NAME:
        return _announce_manifest(spool, package, size_bytes=size_bytes, client=client, now=now)
    parcel = spool.parcel(package)
    if parcel is None or parcel.files[0].state is not ArrivalState.CONFIRMED:
        raise ObjectMissing(f"package {package} is unknown here: send its {MANIFEST_NAME} first")
    path = metadata.get("path", "")
    file = next((file for file in parcel.files[1:] if file.path == path), None)
    if file is None or file.size_bytes != size_bytes or metadata.get("sha256", file.sha256) != file.sha256:
        raise PackageRefused(
            f"{path[:100]!r} is not in package {package} with this size and hash: pack again"
        )
    if file.state is ArrivalState.REFUSED:
        spool.settle(file, ArrivalState.WAITING)
        return replace(file, state=ArrivalState.WAITING, reason="")
    return file


def take_in(pipeline: Pipeline, spool: Spool, file_id: str) -> Arrival:
    """Read a file through that has come whole, and return it as it then stands: confirmed or refused.

    Raises:
        ObjectMissing: it is unknown, or was given up.
        PackageRefused: it is a manifest that cannot be used; the package is forgotten.
        NoRoom: it is a manifest for whose files there is no room now.
    """
    with _locked(spool.part(spool.file(file_id))):
        file = spool.file(file_id)
        if file.state is not ArrivalState.WAITING or spool.offset(file) != file.size_bytes:
            return file
        if file.role == MANIFEST_ROLE:
            _open_package(pipeline, spool, file)
            return spool.file(file_id)
        sha256 = keys.sha256_file(spool.part(file))
        reason = _unfit(file, spool.part(file), sha256=sha256)
        if reason is None:
            spool.settle(file, ArrivalState.CONFIRMED)
        else:
            quarantine(
                pipeline, spool.part(file), name=file.path, sha256=sha256, error=PackageRefused(reason)
            )
            spool.drop_part(file)
            spool.settle(file, ArrivalState.REFUSED, reason=reason)
            log.warning("upload_refused", package=file.package, file=file.path, sha256=sha256, reason=reason)
        return spool.file(file_id)


def _unfit(file: Arrival, part: Path, *, sha256: str) -> str | None:
    """Return why a file that has come whole is not taken, None where it is."""
    if file.sha256 not in {None, sha256}:
        return (
            f"{file.path} came whole ({file.size_bytes} bytes) but changed: its SHA-256 is {sha256[:12]}…, "
            f"{(file.sha256 or '')[:12]}… was announced. It is in quarantine; hand it in again."
        )
    if file.path.endswith(MANIFEST_SUFFIX):
        with part.open("rb") as manifest:
            data = manifest.read(MAX_MANIFEST_BYTES)
        try:  # now, while somebody listens: its clip lands without it
            parse_declared(data, source=file.path)
        except ConfigInvalid as error:
            return f"{error}; its clip is taken without it: correct it and hand it in again"
    return None


def take_package(
    pipeline: Pipeline, package: Package, *, blocks: Callable[[PackedFile], Iterator[bytes]]
) -> Taken:
    """Take in a package that lies at hand whole, and return what became of its files.

    Args:
        pipeline: where they land.
        package: what there should be.
        blocks: gives a file's bytes, or raises ``PackageRefused``.

    Raises:
        PackageRefused: the declaration is none that is taken.
        NoRoom: there is no room for it now; what was taken in stays.
        UploadInterrupted: a file cannot be read; what was taken in stays.
    """
    spool = open_spool(pipeline.settings)
    data = package.to_json()
    if (standing := spool.parcel(package.id)) is not None and _is_landed(standing):
        spool.remove(package.id)  # it came before: what lies at hand is read through all the same
    announced = _announce_manifest(
        spool, package.id, size_bytes=len(data), client="stick", now=pipeline.now()
    )
    if announced.state is ArrivalState.WAITING:
        _fill(spool, announced, iter([data]))
        take_in(pipeline, spool, announced.id)
    counts: Counter[str] = Counter()
    refused: list[tuple[str, str]] = []
    with spool.settling(wait=True):
        known = {file.path: file for file in content_of(_required(spool, package.id))}
        # Clips last, each landed as soon as it is whole: no more than one waits on our disk.
        for item in sorted(package.files, key=lambda file: file.role is Role.VIDEO):
            coming = known[item.path].state in {ArrivalState.WAITING, ArrivalState.REFUSED}
            if coming and (reason := _copy_in(pipeline, spool, known[item.path], blocks(item))):
                refused.append((item.path, reason))
            if item.role is Role.VIDEO:
                counts += hand_over(pipeline, spool, _required(spool, package.id), partial=False)
        counts += hand_over(pipeline, spool, _required(spool, package.id), partial=True)
        # One that is whole is kept for as long as any, to be told to a station that is sending it too.
        if not _is_landed(_required(spool, package.id)):
            counts += close(pipeline, spool, package.id)
        return Taken(counts, tuple(refused))


def withdraw(spool: Spool, file_id: str) -> None:
    """Forget a file that came without a package, as its client asks.

    Raises:
        ObjectMissing: it is unknown.
        PackageRefused: it belongs together with others.
    """
    parcel = spool.parcel(spool.file(file_id).package)
    if parcel is None or len(parcel.files) > 1 or parcel.files[0].role == MANIFEST_ROLE:
        raise PackageRefused("a file of a package is not withdrawn alone: the package is given up by itself")
    spool.remove(parcel.id)


def settle_incoming(pipeline: Pipeline) -> dict[str, int]:
    """Hand over what is complete, and give up what has made no progress for too long; return counts.

    Safe to call from several processes: one does the work, the others find it being done.
    """
    if not (pipeline.settings.home_dir / "incoming").is_dir():
        return {}
    spool = open_spool(pipeline.settings)
    counts: Counter[str] = Counter()
    with spool.settling() as ours:
        for parcel in spool.parcels() if ours else []:
            try:
                counts.update(_settle(pipeline, spool, parcel))
            except Exception:
                # One package stops no other, whatever is wrong with it; the next turn tries again.
                log.exception("incoming_not_settled", package=parcel.id)
                counts["incoming_waiting"] += 1
    return dict(counts)


def arrivals(pipeline: Pipeline) -> list[dict[str, Any]]:
    """Return what is on its way in, one row a package, the oldest first; what has landed whole is not."""
    spool = open_spool(pipeline.settings)
    return [_row(spool, parcel) for parcel in spool.parcels() if not _is_landed(parcel)]


def arrival(spool: Spool, package: str) -> dict[str, Any]:
    """Return how a package stands, with its files.

    Raises:
        ObjectMissing: it is unknown, or its manifest has not come.
    """
    return _row(spool, _required(spool, package))


def _is_landed(parcel: Parcel) -> bool:
    """Tell whether all of a package is there; its previews have no use any more then."""
    wanted = [file for file in content_of(parcel) if file.role != Role.PREVIEW]
    return all(file.state is ArrivalState.LANDED for file in wanted)


def _required(spool: Spool, package: str) -> Parcel:
    parcel = spool.parcel(package)
    if parcel is None or parcel.files[0].role != MANIFEST_ROLE or not content_of(parcel):
        raise ObjectMissing(f"package {package[:80]!r} is unknown here: send its {MANIFEST_NAME} first")
    return parcel


def _copy_in(pipeline: Pipeline, spool: Spool, file: Arrival, blocks: Iterator[bytes]) -> str:
    """Take in one file that lies at hand; return why it is refused, empty where it is not."""
    spool.settle(file, ArrivalState.WAITING)
    try:
        _fill(spool, file, blocks)
        standing = take_in(pipeline, spool, file.id)
        if standing.state is not ArrivalState.WAITING:
            return standing.reason
        came = f"{spool.offset(file)} of {file.size_bytes} bytes"
        reason = f"{file.path} is cut short, {came} are there: hand it in again"
    except PackageRefused as error:
        reason = str(error)
    spool.settle(spool.file(file.id), ArrivalState.REFUSED, reason=reason)
    return reason


def _fill(spool: Spool, file: Arrival, blocks: Iterator[bytes]) -> None:
    """Write a file's part anew."""
    spool.drop_part(file)
    writer = spool.open_part(file)
    try:
        for block in blocks:
            writer.write(block)
    finally:
        writer.close()


def _announce_manifest(spool: Spool, package: str, *, size_bytes: int, client: str, now: datetime) -> Arrival:
    if size_bytes > MAX_MANIFEST_BYTES:
        raise PackageTooLarge(f"a manifest has at most {MAX_MANIFEST_BYTES} bytes: pack fewer files")
    manifest = Arrival(
        package=package, number=0, path=MANIFEST_NAME, role=MANIFEST_ROLE, size_bytes=size_bytes
    )
    parcel = Parcel(package, client, {}, now, (manifest,))
    file = spool.add(parcel).files[0]
    if file.state is ArrivalState.WAITING and file.size_bytes != size_bytes:
        # The same content, packed at another time: begin with the manifest anew.
        spool.remove(package)
        file = spool.add(parcel).files[0]
    return file


def _announce_alone(
    spool: Spool, metadata: Mapping[str, str], *, size_bytes: int, client: str, now: datetime
) -> Arrival:
    name = _alone_name(metadata.get("filename") or metadata.get("name") or "")
    sha256 = metadata.get("sha256")
    if sha256 is not None and not _SHA256.fullmatch(sha256):
        raise PackageRefused(f"{name}: sha256 must be 64 lower-case hex digits")
    group = metadata.get("group")
    # 32 digits, so that neither can be mistaken for a package with a manifest.
    package = hashlib.sha256(f"group {group}".encode()).hexdigest()[:32] if group else uuid.uuid4().hex
    standing = spool.parcel(package)
    for file in standing.files if standing else ():
        if (file.path, file.size_bytes, file.state) == (name, size_bytes, ArrivalState.WAITING):
            return file
    file = Arrival(
        package=package,
        number=1,
        path=name,
        role="",
        size_bytes=size_bytes,
        sha256=sha256,
        modified_at=_modified_at(metadata.get("modified_at"), name=name),
    )
    open_until = now + spool.limits.join_within if group else None
    return spool.add(Parcel(package, client, {}, now, (file,), open_until), join=True).files[-1]


def _alone_name(text: str) -> str:
    """Return the file's own name of what a client calls it; folders of its machine are none of ours.

    Raises:
        PackageRefused: there is none, or it is none for a file.
    """
    name = PurePosixPath(text.replace("\\", "/")).name
    if name in {"", ".."}:
        raise PackageRefused("Upload-Metadata must name the file: filename <base64>")
    return check_path(name)


def _modified_at(text: str | None, *, name: str) -> datetime | None:
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise PackageRefused(f"{name}: modified_at {text[:60]!r} is no ISO 8601 time") from error
    if at.tzinfo is None:
        raise PackageRefused(f"{name}: modified_at {text[:60]!r} lacks its zone, as in 2026-03-14T16:40:00Z")
    try:
        return at.astimezone(UTC)
    except OverflowError as error:
        raise PackageRefused(f"{name}: modified_at {text[:60]!r} is no time that files have") from error


def _open_package(pipeline: Pipeline, spool: Spool, manifest: Arrival) -> None:
    """Announce the files that a manifest names, and account for those left out."""
    try:
        package = parse_package(spool.part(manifest).read_bytes())
        _check_package(package, manifest)
        spool.extend(package.id, _announced(package), declared=package.declared)
    except PackageRefused as error:
        log.warning("package_refused", package=manifest.package, error=str(error))
        missing = MissingFile(MANIFEST_NAME, "", manifest.size_bytes, FileState.ABANDONED, str(error))
        record_without_content(pipeline, [missing], source=f"package {manifest.package}")
        spool.remove(manifest.package)
        raise
    _account_for_left_out(pipeline, package)
    spool.settle(manifest, ArrivalState.CONFIRMED)


def _announced(package: Package) -> list[Arrival]:
    return [
        Arrival(
            package=package.id,
            number=number,
            path=file.path,
            role=file.role.value,
            size_bytes=file.size_bytes,
            sha256=file.sha256,
            modified_at=file.modified_at,
        )
        for number, file in enumerate(package.files, start=1)
    ]


def _check_package(package: Package, manifest: Arrival) -> None:
    """Raise ``PackageRefused`` where it is another one, or ``landing`` would not take what is declared."""
    if not package.files:
        raise PackageRefused(f"{MANIFEST_NAME} names no files: pack the card again")
    if package.id != manifest.package:
        raise PackageRefused(f"package {manifest.package} brought the manifest of {package.id}: pack again")
    try:
        parse_declared(json.dumps(dict(package.declared)).encode(), source=MANIFEST_NAME)
    except ConfigInvalid as error:
        raise PackageRefused(f"{error}: correct the option and run the upload again") from error


def _account_for_left_out(pipeline: Pipeline, package: Package) -> None:
    """Give each file that was left out at the station its row, with the station's reason."""
    missing = [
        MissingFile(
            file.path, "", file.size_bytes, FileState.SET_ASIDE, f"left out at the station: {file.reason}"
        )
        for file in package.left_out
    ]
    record_without_content(pipeline, missing, source=f"package {package.id}")


def _settle(pipeline: Pipeline, spool: Spool, parcel: Parcel) -> Counter[str]:
    for file in parcel.files:
        if file.state is ArrivalState.WAITING and spool.offset(file) == file.size_bytes:
            try:
                take_in(pipeline, spool, file.id)
            except (PackageRefused, ObjectMissing, NoRoom) as error:
                log.info("not_taken_in", package=parcel.id, file=file.path, error=str(error))
    parcel = spool.parcel(parcel.id) or replace(parcel, files=())
    counts = hand_over(pipeline, spool, parcel, partial=False)
    if pipeline.now() - spool.moved_at(parcel) > spool.limits.keep_partial:
        counts.update(close(pipeline, spool, parcel.id))
    return counts


def _row(spool: Spool, parcel: Parcel) -> dict[str, Any]:
    files = [
        {
            "path": file.path,
            "role": file.role,
            "size_bytes": file.size_bytes,
            "received_bytes": spool.offset(file),
            "state": file.state.value,
            "reason": file.reason,
        }
        for file in content_of(parcel)
    ]
    return {
        "id": parcel.id,
        "client": parcel.client,
        "declared": dict(parcel.declared),
        "created_at": parcel.created_at.isoformat(),
        "moved_at": spool.moved_at(parcel).isoformat(),
        "size_bytes": sum(int(file["size_bytes"]) for file in files),
        "received_bytes": sum(int(file["received_bytes"]) for file in files),
        "files": files,
    }


@contextmanager
def _locked(part: Path) -> Iterator[None]:
    """Keep others from reading a part through, or writing to it, meanwhile."""
    try:
        descriptor = os.open(part, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except FileNotFoundError as error:
        raise ObjectMissing(f"package {part.parent.name} was given up meanwhile: begin it again") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
