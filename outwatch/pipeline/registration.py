"""From files as they came to registered clips: landing on one side, footage and quarantine on the other.

Belongs here: joining ``ingest`` (what a file is) with ``storage`` (where it goes) for one upload.
Not here: claiming work and the order of steps (``steps.py``).
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from zoneinfo import ZoneInfo

from ingest.register import (
    MANIFEST_SUFFIX,
    Group,
    build_clip,
    left_over,
    settle_clock,
    sort_upload,
    stem,
)
from ingest.telemetry.mount import change_mount
from ingest.telemetry.track import change_zone
from ingest.video import ProbedVideo, is_photo, probe_video
from outwatch.domain.cameras import resolve_camera
from outwatch.domain.errors import (
    ConfigInvalid,
    CorruptClip,
    FeedTimeout,
    ObjectMissing,
    OutwatchError,
    PermanentError,
    TelemetryInvalid,
    UnsupportedFormat,
)
from outwatch.domain.ports import ObjectInfo
from outwatch.domain.types import Camera, Clip, Event, Telemetry
from outwatch.pipeline.clip_telemetry import FIT_FLAGS, Fitted, Found, Search, worth
from outwatch.pipeline.flights import Joined, doubts_beside_neighbours, join_flight
from outwatch.pipeline.landing import (
    PREVIEW_SUFFIX,
    clock_uncertainty_s,
    manifest_name,
    mount_angles,
    parse_declared,
    preview_name,
)
from outwatch.pipeline.quarantine import quarantine
from outwatch.pipeline.wiring import SOFTWARE, Pipeline
from storage import keys, schemas
from storage.lake import parquet_bytes, read_parquet
from storage.ledger import FileOutcome, LandedFile
from storage.tables import FileState

MAX_SIDECAR_BYTES = 256_000_000
"""Telemetry is read whole: an autopilot's log of an hour has some 100 MB, subtitles at 60 Hz 40 MB."""


FOOTAGE_FILES = ("telemetry.parquet", "manifest.json", "preview.jpg")
"""What lies beside a registered clip, as far as there is any."""
BEST_FIRST = (FileState.ACCEPTED, FileState.DUPLICATE, FileState.SET_ASIDE, FileState.REFUSED)


@dataclass(slots=True)
class Registered:
    """What became of an upload."""

    clips: list[Clip] = field(default_factory=list)
    replaced: list[Clip] = field(default_factory=list)
    """What stood before for those of ``clips`` that were known."""
    outputs: list[str] = field(default_factory=list)
    moved: list[tuple[Clip, Clip]] = field(default_factory=list)
    """Clips that stand and come under another flight: as they stood, as they shall."""
    landing: dict[str, ObjectInfo] = field(default_factory=dict)
    """The landing objects that were read, by key, as they were then."""
    files: dict[str, FileOutcome] = field(default_factory=dict)
    """By name. A file that serves two clips is accepted where one of them took it."""

    @property
    def counts(self) -> dict[str, int]:
        """Return how many files had which outcome."""
        return {"clips": len(self.clips), **Counter(str(file.outcome) for file in self.files.values())}

    @property
    def notes(self) -> tuple[str, ...]:
        """Return the reason of each file that has one."""
        return tuple(f"{file.name}: {file.reason}" for file in self.files.values() if file.reason)

    def settle(self, found: FileOutcome) -> None:
        """Keep the best outcome: what one clip has no use for another one may have taken."""
        standing = self.files.get(found.name)
        if standing is None or BEST_FIRST.index(found.outcome) < BEST_FIRST.index(standing.outcome):
            self.files[found.name] = found


def register_upload(
    pipeline: Pipeline,
    upload_id: str,
    *,
    folder: Path,
    last_try: bool,
    confirm: Callable[[], None],
) -> Registered:
    """Register every clip of an upload and account for every file in it.

    Args:
        pipeline: the stores and limits to use.
        upload_id: as the ledger knows it.
        folder: empty, for the local copies that the confined decoder reads.
        last_try: refuse a clip on which the decoder went silent, instead of asking for another try.
        confirm: called before anything is written that another registration may have written.

    Raises:
        ObjectMissing: the ledger knows no such upload, or its files are gone from ``landing/``.
        CorruptClip: a file in ``landing/`` is no longer the one that was recorded.
        FeedTimeout: the decoder went silent, and it was not the last try.
    """
    upload = pipeline.ledger.upload(upload_id)
    if upload is None:
        raise ObjectMissing(f"upload {upload_id} is not in the ledger: land its files again")
    registered = Registered(landing={file.key: pipeline.store.head(file.key) for file in upload.files})
    rows = {file.name: file for file in upload.files}
    local = {}
    for number, file in enumerate(upload.files):
        # A name of its own, so that it can be told from the file's own name in a decoder's words.
        local[file.name] = folder / f"outwatch-{upload_id}-{number}{PurePosixPath(file.name).suffix}"
        pipeline.store.download(file.key, local[file.name])
        if keys.sha256_file(local[file.name]) != file.sha256:
            raise CorruptClip(
                f"{file.key} is not what was recorded there ({file.sha256[:12]}): something wrote over it; "
                "put the new file under a name of its own"
            )
    one = _Registration(pipeline, rows, local, registered, last_try, confirm)
    companions = [name for name in rows if name.endswith((MANIFEST_SUFFIX, PREVIEW_SUFFIX))]
    sorted_names = sort_upload([name for name in rows if name not in companions])
    for group, copies in _by_content(sorted_names.groups, rows):
        one.run(group)
        one.settle_copies(group.video, copies)
    stems = {PurePosixPath(group.video).stem.casefold() for group in sorted_names.groups}
    for name in (*sorted_names.others, *one.unfit, *companions):
        if name not in registered.files:
            # A log of a whole flight is tried on every clip: to be of none is no fault of it.
            shared = name in one.unfit and PurePosixPath(name).stem.casefold() not in stems
            outcome = FileState.SET_ASIDE if shared and name not in companions else FileState.REFUSED
            one.refuse(name, one.unfit.get(name, left_over(name)), outcome=outcome)
    return registered


@dataclass(frozen=True, slots=True)
class _Registration:
    """The clips of one upload on their way in."""

    pipeline: Pipeline
    rows: Mapping[str, LandedFile]
    local: Mapping[str, Path]
    registered: Registered
    last_try: bool
    confirm: Callable[[], None]
    unfit: dict[str, OutwatchError] = field(default_factory=dict)
    """Telemetry that a clip could not use, and why; another clip of the upload may yet take it."""

    def run(self, group: Group) -> None:
        """Register the clip, or refuse it; either way every file of the group has its outcome."""
        manifest, told = self._manifest(group.video)
        preview = preview_name(group.video)
        try:
            video = probe_video(
                self.local[group.video],
                limits=self.pipeline.limits,
                full_mpx=self.pipeline.settings.ingest.full_probe_mpx,
                keyframe_fps=self.pipeline.settings.ingest.probe_keyframe_fps,
            )
        except (PermanentError, FeedTimeout) as error:
            if isinstance(error, FeedTimeout) and not self.last_try:
                raise
            self.refuse(group.video, error)
            companions = (*group.sidecars, manifest_name(group.video), preview)
            self._explain(companions, f"{group.video} was refused")
            return
        known = self.pipeline.ledger.clip(keys.clip_id(self.rows[group.video].sha256))
        before = _known_declaration(self.pipeline, known)
        declared = {**before, **told}
        found = self._telemetry(group, video, declared)
        if known is not None and known.telemetry_format is not None:
            standing = self._standing(known, before=before, declared=declared)
            if found.best is None or not _replaces(found.best, standing.telemetry, video=group.video):
                found = replace(found, best=standing, flags=standing.flags)
        telemetry = found.best.telemetry if found.best else None
        source = found.best.source if found.best else None
        joined = join_flight(
            self.pipeline, self._clip(group.video, video, telemetry, declared, flags=found.flags)
        )
        clip = joined.clip
        taken = [name for name in (group.video, source, manifest, preview) if name and name in self.rows]
        self.confirm()
        if known is not None and declared == before and not self._brings_telemetry(known, telemetry, source):
            # An attempt that another registration overtook may have left objects of its own.
            remove_superseded(self.pipeline, clip, by=known)
            outcome, reason = FileState.DUPLICATE, f"already handed in as clip {clip.id}"
        else:
            self._write(clip, group.video, telemetry, declared)
            self._move(joined)
            self.registered.clips.append(clip)
            if known is not None:
                self.registered.replaced.append(known)
                remove_superseded(self.pipeline, known, by=clip)
            outcome, reason = FileState.ACCEPTED, None
        for name in taken:
            self._settle(name, outcome, clip.id, reason)
        self.unfit.update(found.refused)
        better = source or (f"clip {clip.id}" if known else "the clip itself")
        for name in group.sidecars:
            if name not in found.refused and name != source:
                self._settle(name, FileState.DUPLICATE, clip.id, f"{better} already gives the telemetry")

    def settle_copies(self, video: str, copies: Sequence[str]) -> None:
        """Account for files of the same content as a clip, and for what was said of them."""
        settled = self.registered.files[video]
        for copy in copies:
            why = f"has the same content as {video}"
            if settled.outcome is FileState.REFUSED:
                self.refuse(copy, UnsupportedFormat(f"{copy} {why}, which was refused"))
            else:
                self._settle(copy, FileState.DUPLICATE, settled.clip_id, why)
            self._explain((manifest_name(copy), preview_name(copy)), f"{copy} {why}")

    def _explain(self, names: Iterable[str], why: str) -> None:
        """Keep why the companions of a clip are of no use, where nothing more telling is known."""
        for name in names:
            if name in self.rows:
                self.unfit.setdefault(name, UnsupportedFormat(f"{name}: its clip {why}"))

    def _standing(self, known: Clip, *, before: Mapping[str, str], declared: Mapping[str, str]) -> Fitted:
        """Return the telemetry that stands, under the zone and the mount that are declared now."""
        telemetry = change_zone(stored_telemetry(self.pipeline, known), self._zone(declared))
        telemetry = change_mount(telemetry, mount_angles(before), mount_angles(declared))
        return Fitted(telemetry, None, tuple(flag for flag in known.flags if flag in FIT_FLAGS))

    def _zone(self, declared: Mapping[str, str]) -> ZoneInfo:
        return ZoneInfo(declared["time_zone"]) if "time_zone" in declared else self.pipeline.zone

    def _manifest(self, video: str) -> tuple[str | None, dict[str, str]]:
        """Return the name and the content of a clip's manifest; a wrong one is refused and left out."""
        name = next((name for name in self.rows if name == manifest_name(video)), None)
        if name is None:
            return None, {}
        try:
            self._check_size(name)
            return name, parse_declared(self.local[name].read_bytes(), source=name)
        except PermanentError as error:
            self.refuse(name, error)
            return None, {}

    def _brings_telemetry(self, known: Clip, telemetry: Telemetry | None, source: str | None) -> bool:
        """Tell whether a clip that came again has telemetry beside it that does not stand yet."""
        if telemetry is None or known.telemetry_format is None:
            return telemetry is not None
        return source is not None and telemetry != stored_telemetry(self.pipeline, known)

    def _check_size(self, name: str) -> None:
        if self.rows[name].size_bytes > MAX_SIDECAR_BYTES:
            raise TelemetryInvalid(
                f"{name} has {self.rows[name].size_bytes / 1e6:.0f} MB, more than any telemetry "
                f"({MAX_SIDECAR_BYTES / 1e6:.0f} MB): hand the clip in with its own"
            )

    def refuse(self, name: str, error: OutwatchError, *, outcome: FileState = FileState.REFUSED) -> None:
        """Keep a file in quarantine with the reason a person can act on."""
        row = self.rows[name]
        why = str(error).replace(self.local[name].name, name)
        key = quarantine(self.pipeline, self.local[name], name=name, sha256=row.sha256, error=error, why=why)
        self.registered.outputs.append(key)
        self._settle(name, outcome, None, why)

    def _settle(self, name: str, outcome: FileState, clip_id: str | None, reason: str | None) -> None:
        upload_id = self.rows[name].upload_id
        self.registered.settle(
            FileOutcome(upload_id=upload_id, name=name, outcome=outcome, reason=reason, clip_id=clip_id)
        )

    def _telemetry(self, group: Group, video: ProbedVideo, declared: Mapping[str, str]) -> Found:
        """Return the best telemetry that came with a clip, and why the rest is of no use to it."""
        too_large: dict[str, OutwatchError] = {}
        for name in group.sidecars:
            try:
                self._check_size(name)
            except TelemetryInvalid as error:
                too_large[name] = error
        search = Search(
            path=self.local[group.video],
            video=video,
            is_photo=is_photo(self.local[group.video]),
            file_time=self.rows[group.video].modified_at,
            zone=self._zone(declared),
            mount=mount_angles(declared),
            limits=self.pipeline.limits,
        )
        found = search.run({name: self.local[name] for name in group.sidecars if name not in too_large})
        return replace(found, refused=too_large | found.refused)

    def _clip(
        self,
        name: str,
        video: ProbedVideo,
        telemetry: Telemetry | None,
        declared: Mapping[str, str],
        *,
        flags: tuple[str, ...],
    ) -> Clip:
        row = self.rows[name]
        camera, doubts = _camera(video, telemetry, declared)
        clock = settle_clock(
            video,
            telemetry,
            file_time=row.modified_at or row.received_at,
            received_at=row.received_at,
            container_uncertainty_s=clock_uncertainty_s(declared),
        )
        clip_id = keys.clip_id(row.sha256)
        suffix = PurePosixPath(name).suffix.lower()
        clip = build_clip(
            video,
            telemetry,
            clock=clock,
            clip_id=clip_id,
            sha256=row.sha256,
            object_key=keys.footage(clip_id, dt=keys.dt_of(clock.started_at), name=f"source{suffix}"),
            file_name=name,
            size_bytes=row.size_bytes,
            platform=declared.get("platform", camera.name if camera else "unknown"),
            camera=camera,
            flags=(*flags, *doubts),
        )
        if "platform" in declared:
            clip = replace(clip, flags=(*clip.flags, *doubts_beside_neighbours(self.pipeline, clip)))
        return replace(clip, flight_id=declared["flight_id"]) if "flight_id" in declared else clip

    def _write(self, clip: Clip, name: str, telemetry: Telemetry | None, declared: Mapping[str, str]) -> None:
        store, dt = self.pipeline.store, keys.dt_of(clip.started_at)
        store.upload(clip.object_key, self.local[name])
        outputs = [clip.object_key]
        if telemetry is not None:
            table = schemas.telemetry_table(telemetry)
            outputs.append(keys.footage(clip.id, dt=dt, name="telemetry.parquet"))
            store.put(outputs[-1], parquet_bytes(table, software=SOFTWARE, metadata={"clip_id": clip.id}))
        preview = preview_name(name)
        if preview in self.rows:
            outputs.append(keys.footage(clip.id, dt=dt, name="preview.jpg"))
            store.upload(outputs[-1], self.local[preview])
        outputs.append(_write_manifest(self.pipeline, clip, declared))
        self.registered.outputs += outputs

    def _move(self, joined: Joined) -> None:
        """Bring the other files of a recording under the flight that this one names."""
        for old, new in joined.moved:
            _write_manifest(self.pipeline, new, _known_declaration(self.pipeline, old))
            self.registered.moved.append((old, new))


def _by_content(
    groups: Sequence[Group], rows: Mapping[str, LandedFile]
) -> Iterator[tuple[Group, tuple[str, ...]]]:
    """Yield each clip once, with what lies beside any file of its content, and the names of its copies."""
    alike: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        alike[rows[group.video].sha256].append(group)
    for same in alike.values():
        first, *copies = sorted(same, key=lambda group: manifest_name(group.video) not in rows)
        sidecars = dict.fromkeys(name for group in (first, *copies) for name in group.sidecars)
        yield Group(first.video, tuple(sidecars)), tuple(copy.video for copy in copies)


def _replaces(fitted: Fitted, standing: Telemetry, *, video: str) -> bool:
    """Tell whether telemetry takes the place of what stands.

    What is named after the clip is an operator's correction; a log that is only tried must not place it
    worse.
    """
    named = fitted.source is not None and stem(fitted.source) == stem(video)
    return named or worth(fitted.telemetry) >= worth(standing)


def _write_manifest(pipeline: Pipeline, clip: Clip, declared: Mapping[str, str]) -> str:
    manifest = {"clip": schemas.clip_json(clip), "declared": dict(declared), "software": SOFTWARE}
    key = keys.footage(clip.id, dt=keys.dt_of(clip.started_at), name="manifest.json")
    pipeline.store.put(key, json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False).encode())
    return key


def remove_superseded(pipeline: Pipeline, old: Clip, *, by: Clip) -> None:
    """Remove what a registration of a clip left under keys that the one that stands does not use."""
    if keys.dt_of(old.started_at) != keys.dt_of(by.started_at):
        for event in standing_events(pipeline, old):
            for key in event.evidence_keys:
                pipeline.store.delete(key)
    for key in sorted(_keys_of(old) - _keys_of(by)):
        pipeline.store.delete(key)


def stored_telemetry(pipeline: Pipeline, clip: Clip) -> Telemetry:
    """Return the telemetry with which a clip is registered; none where it came without."""
    if clip.telemetry_format is None:
        return Telemetry(format="none", samples=())
    key = keys.footage(clip.id, dt=keys.dt_of(clip.started_at), name="telemetry.parquet")
    return schemas.telemetry_from(read_parquet(pipeline.store.get(key), name=key))


def standing_events(pipeline: Pipeline, clip: Clip) -> list[Event]:
    """Return the events that stand for a clip; none before they are published."""
    try:
        table = pipeline.lake.read("events", dt=keys.dt_of(clip.started_at), name=clip.id)
    except ObjectMissing:
        return []
    return schemas.events_from(table)


def _keys_of(clip: Clip) -> set[str]:
    """Return every key that a registration of a clip, and the steps after it, write under its date."""
    dt = keys.dt_of(clip.started_at)
    footage = {keys.footage(clip.id, dt=dt, name=name) for name in FOOTAGE_FILES}
    tables = ("detections", "tracks", "coverage", "events")
    return {clip.object_key} | footage | {keys.lake(table, dt=dt, name=clip.id) for table in tables}


def _known_declaration(pipeline: Pipeline, known: Clip | None) -> dict[str, str]:
    """Return what was declared of a registered clip."""
    if known is None:
        return {}
    key = keys.footage(known.id, dt=keys.dt_of(known.started_at), name="manifest.json")
    declared: dict[str, str] = json.loads(pipeline.store.get(key))["declared"]
    return declared


def _camera(
    video: ProbedVideo, telemetry: Telemetry | None, declared: Mapping[str, str]
) -> tuple[Camera | None, tuple[str, ...]]:
    """Return the camera, None where its field of view cannot be trusted, and the doubts about it."""
    if telemetry is not None and "zoom_changes" in telemetry.warnings:
        return None, ("zoom_changes",)
    focal_lengths = (sample.focal_length_mm for sample in telemetry.samples) if telemetry else ()
    try:
        camera = resolve_camera(
            name=declared.get("camera"),
            modality=video.modality,
            width_px=video.width_px,
            height_px=video.height_px,
            focal_length_mm=next((length for length in focal_lengths if length is not None), None),
        )
    except ConfigInvalid:
        return None, ("declared_camera_differs",)
    return camera, ()
