"""Night activity: people, or vehicles that move, close to a place that is closed at night.

Belongs here: this rule. Source of night: the end of civil twilight, sun 6 degrees below the horizon
(``detection/sun.py``). Settings: ``night_kinds``, ``night_radius_m``, ``night_min_duration``,
``night_sun_below_deg``. Police outposts and checkpoints are manned, so there night is only told of. A car
that stands there all along is no activity. Not here: where the sun stands (``detection/sun.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from detection.labels import VEHICLE_LABELS
from detection.rules.happenings import Lasting, find_happenings, without_flicker
from detection.rules.paths import SAME_PLACE_M
from detection.rules.scene import Claim, Scene
from detection.sightings import Watch, by_look
from detection.sun import sun_elevation_deg
from outwatch.domain.types import Detection, EventKind

EVEN = 0.5
"""More likely within the closer radius than not."""
MAX_UNCERTAINTY = timedelta(hours=2)
"""With a clock that may be further off, a day may lie between two moments of darkness."""
MIN_PRESENCE = 0.5
"""Share of the time looked at the place that must show somebody."""


def night_activity(scene: Scene, *, gatherings: Sequence[Claim], clock_uncertainty: timedelta) -> list[Claim]:
    """Return the activity close to a place that is closed, if it is surely night; never a gathering again."""
    watch, thresholds = scene.watch, scene.thresholds
    if watch.outpost.kind not in thresholds.night_kinds or not scene.looks:
        return []
    if not _is_night(scene, clock_uncertainty):
        return []
    radius_m = min(thresholds.night_radius_m, watch.outpost.watch_radius_m)
    close = Watch(replace(watch.outpost, watch_radius_m=radius_m), scene.looks)
    active = [*scene.people, *_moving(scene)]
    odds = close.p_inside([thing.fix for thing in active]).tolist()
    near = [thing for thing, p in zip(active, odds, strict=True) if p >= max(EVEN, thresholds.min_p_inside)]
    frames = sorted(look.frame_index for look in scene.looks)
    steady = without_flicker(near, watch, frames=frames, same_place_m=SAME_PLACE_M)
    sightings = [watch.sighting(look) for look in by_look(steady)]
    happenings = find_happenings(
        sightings,
        shown=sightings,
        watch=watch,
        lasting=Lasting(
            thresholds.night_min_duration, MIN_PRESENCE, thresholds.max_gap, thresholds.merge_gap
        ),
    )
    claims = [
        Claim(EventKind.NIGHT_ACTIVITY, happening.sightings, happening.sizes) for happening in happenings
    ]
    return [claim for claim in claims if not claim.beside(gatherings, within_m=thresholds.merge_distance_m)]


def _is_night(scene: Scene, uncertainty: timedelta) -> bool:
    """Return whether the sun is down at both ends of the clip, whichever way its clock is wrong."""
    if uncertainty > MAX_UNCERTAINTY:
        return False
    times = [look.at for look in scene.looks]
    moments = [min(times) - uncertainty, min(times), max(times), max(times) + uncertainty]
    highest_deg = max(sun_elevation_deg(moment, scene.watch.centre) for moment in moments)
    return highest_deg < scene.thresholds.night_sun_below_deg


def _moving(scene: Scene) -> list[Detection]:
    """Return the detections of vehicles that are surely seen to move."""
    least_m = scene.thresholds.stopped_min_move_m
    return [
        detection
        for path in scene.paths.of(VEHICLE_LABELS, min_duration=timedelta(0))
        if scene.paths.went_m(path, first=0, last=len(path.detections) - 1) >= least_m
        for detection in path.detections
    ]
