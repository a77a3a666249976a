"""Find a clip's telemetry: inside the file, beside it, or in the log of a whole flight.

Belongs here: trying each, fitting it to the clip, and choosing. Not here: the formats
(``ingest/telemetry``), how clocks are fitted (``ingest/clockfit.py``), and what becomes of the files
(``registration.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from zoneinfo import ZoneInfo

from ingest.align import fit_to_clip
from ingest.clockfit import LogFit, fit_log
from ingest.motion import MotionTrack, read_motion
from ingest.sandbox import Limits
from ingest.telemetry.misb_klv import read_packets
from ingest.telemetry.mount import apply_mount
from ingest.telemetry.sources import read_telemetry
from ingest.video import ProbedVideo
from outwatch.domain.errors import FeedTimeout, OutwatchError, PermanentError, TelemetryInvalid
from outwatch.domain.types import MountAngles, Telemetry, TelemetryClock, TimeBase

UNSURE_FROM_S = 5.0
"""A fit by clocks alone that is less sure than this is worth a look at how the picture moves."""
FIT_FLAGS = frozenset(
    (
        *("telemetry_starts_late", "telemetry_ends_early", "telemetry_longer_than_clip"),
        *("clock_ambiguous", "no_shared_clock", "log_covers_part", "clock_zone_suspect"),
    )
)
"""Doubts that come of a fit, and stay with the telemetry."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """Telemetry on the clip's time line, the file it came from (None: inside the clip), and its doubts."""

    telemetry: Telemetry
    source: str | None
    flags: tuple[str, ...] = ()


@dataclass(slots=True)
class Found:
    """What a search gave: the best, and what could not be used, by name, with the reason."""

    best: Fitted | None = None
    refused: dict[str, OutwatchError] = field(default_factory=dict)
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Search:
    """What is known of a clip while its telemetry is looked for.

    Args:
        path: a local copy of the clip.
        video: the probed clip.
        is_photo: telemetry then lies in the file itself.
        file_time: when the file was last written, None where that is not known.
        zone: of wall times.
        mount: how the camera is fixed, None where it has a gimbal.
        limits: what decoders and parsers may cost.
    """

    path: Path
    video: ProbedVideo
    is_photo: bool
    file_time: datetime | None
    zone: ZoneInfo
    mount: MountAngles | None
    limits: Limits

    def run(self, sidecars: Mapping[str, Path]) -> Found:
        """Return the best telemetry of a clip: what locates it before what does not, its own before a log.

        Args:
            sidecars: what came beside it, by name, those of the clip's own name first.
        """
        found = Found()
        fitted: list[Fitted] = []
        for read in self._inside():
            try:
                fitted.append(self._fit(read(), source=None))
            except TelemetryInvalid:
                found.flags = ("embedded_telemetry_unusable",)
        for name, path in sidecars.items():
            try:
                telemetry = read_telemetry(path, zone=self.zone, limits=self.limits)
                fitted.append(self._fit(telemetry, source=name))
            except PermanentError as error:
                found.refused[name] = error
        found.best = max(fitted, key=lambda each: worth(each.telemetry), default=None)
        if found.best is not None:
            found.flags = found.best.flags
        return found

    def _inside(self) -> Iterator[Callable[[], Telemetry]]:
        if self.video.klv:
            yield lambda: read_packets(self.video.klv)
        subtitles = self.video.subtitles
        if subtitles is not None:
            yield lambda: read_telemetry(subtitles.encode(), zone=self.zone, limits=self.limits)
        if self.is_photo:
            yield lambda: read_telemetry(self.path, zone=self.zone, limits=self.limits)

    def _fit(self, telemetry: Telemetry, *, source: str | None) -> Fitted:
        if self.mount is not None:  # before the fit: where the camera looks tells how the picture moves
            telemetry = apply_mount(telemetry, self.mount)
        if telemetry.time_base is TimeBase.LOG:
            fit = self._fit_log(telemetry)
            telemetry = fit.telemetry
            if fit.method != "motion" and telemetry.clock is TelemetryClock.GPS:
                # The log has satellites' time; what put the clip on it was the clip's own clock.
                telemetry = replace(telemetry, clock=TelemetryClock.UTC)
            return Fitted(telemetry, source, fit.flags)
        flags = fit_to_clip(telemetry, duration_s=self.video.recorded_s, started_hint=self.video.created_at)
        return Fitted(telemetry, source, flags)

    def _fit_log(self, telemetry: Telemetry) -> LogFit:
        """Fit by the clocks, and by the picture's motion where these do not settle it."""
        try:
            fit = self._fit_by(telemetry, motion=None)
        except TelemetryInvalid:  # no clock in common, or none that makes them meet
            return self._fit_by(telemetry, motion=self._motion)
        if fit.uncertainty_s > UNSURE_FROM_S or "clock_ambiguous" in fit.flags:
            return self._fit_by(telemetry, motion=self._motion)
        return fit

    def _fit_by(self, telemetry: Telemetry, *, motion: MotionTrack | None) -> LogFit:
        return fit_log(
            telemetry,
            started_hint=self.video.created_at,
            file_time=self.file_time,
            duration_s=self.video.recorded_s,
            zone=self.zone,
            motion=motion,
        )

    @cached_property
    def _motion(self) -> MotionTrack | None:
        try:
            return read_motion(self.path, limits=self.limits)
        except (PermanentError, FeedTimeout):  # damaged farther on: the clocks alone must do
            return None


def worth(telemetry: Telemetry) -> tuple[bool, bool]:
    """Rank telemetry by what it lets us do; of equals ``max`` takes the first."""
    return telemetry.georeferenced, "position" not in telemetry.missing
