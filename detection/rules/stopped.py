"""A stopped vehicle: seen to drive, then to stand inside the perimeter.

Belongs here: this rule. A car that was parked from the first look is none: it may have stood there for days.
Settings: ``stopped_min_duration``, ``stopped_min_move_m``. Source of the idea that a stop is a stay within a
radius for a time: Li et al., "Mining user similarity based on location history" (stay points), 2008. Not
here: telling its motion from the camera's (``paths.py``).
"""

from __future__ import annotations

from detection.labels import VEHICLE_LABELS
from detection.rules.paths import Path, stays
from detection.rules.scene import Claim, Scene
from detection.sightings import MIN_LOOKS
from outwatch.domain.types import EventKind

STAND_M = 8.0
"""A vehicle that stays within this of where it came to stand has stopped: twice what the box of a parked one
moves, as the camera drifts over half a minute too."""
MIN_PRESENCE = 0.5
"""Share of the time looked at its place that must show it, as for any vehicle."""


def stopped_vehicle(scene: Scene) -> list[Claim]:
    """Return each vehicle that drove up and has stood inside the perimeter for long enough."""
    paths = scene.paths.of(VEHICLE_LABELS, min_duration=scene.thresholds.stopped_min_duration)
    found = (_stop(path, scene) for path in paths)
    return [claim for claim in found if claim is not None]


def _stop(path: Path, scene: Scene) -> Claim | None:
    """Return the first stop of a vehicle that it came to by driving; None where there is none."""
    watch, thresholds = scene.watch, scene.thresholds
    least_s = thresholds.stopped_min_duration.total_seconds()
    for first, last in stays(path.at_s, path.places_m, radius_m=STAND_M):
        stood_s = float(path.at_s[last] - path.at_s[first])
        if first < MIN_LOOKS or stood_s < least_s:
            continue
        standing = [watch.sighting([detection]) for detection in path.detections[first : last + 1]]
        lasts = watch.lasts(standing, min_duration=thresholds.stopped_min_duration, min_presence=MIN_PRESENCE)
        if not lasts or not scene.near([standing[len(standing) // 2]]):
            continue
        drove_m = scene.paths.went_m(path, first=0, last=(first + last) // 2)  # to where it stands
        if drove_m >= thresholds.stopped_min_move_m:
            measures = {"stood_s": stood_s, "drove_m": drove_m}
            return Claim(EventKind.STOPPED_VEHICLE, standing, measures=measures)
    return None
