"""A vehicle near an outpost: any that lasts, all of an outpost together.

Belongs here: this rule. Source: the odds of being inside are the mass of the fix's Gaussian within the watch
radius (``outwatch/domain/geometry.py``). Settings: ``vehicle_min_duration``, ``vehicle_min_confidence``,
``min_p_inside``, ``max_gap``, ``merge_gap``. Not here: whose vehicle it is (``context.py``).
"""

from __future__ import annotations

from collections.abc import Sequence

from detection.rules.happenings import Lasting, find_happenings, without_flicker
from detection.rules.paths import SAME_PLACE_M
from detection.rules.scene import VEHICLE, Claim, Scene
from detection.sightings import by_look
from outwatch.domain.types import Detection

MIN_PRESENCE = 0.5
"""A vehicle is one thing, seen or not: more often than not."""


def vehicle_near_outpost(scene: Scene, vehicles: Sequence[Detection]) -> list[Claim]:
    """Return the lasting happenings of some of a scene's vehicles, all vehicles of a look together."""
    watch, thresholds = scene.watch, scene.thresholds
    odds = watch.p_inside([vehicle.fix for vehicle in vehicles]).tolist()
    near = [v for v, p in zip(vehicles, odds, strict=True) if p >= thresholds.min_p_inside]
    frames = sorted(look.frame_index for look in scene.looks)
    lasting = without_flicker(near, watch, frames=frames, same_place_m=SAME_PLACE_M)
    steady = {vehicle.frame_index for vehicle in lasting}
    shown = [watch.sighting(members) for members in by_look(near)]
    # Lasting vehicles make the event; what flickers beside them is likelier a vehicle half missed.
    happenings = find_happenings(
        [sighting for sighting in shown if sighting.members[0].frame_index in steady],
        shown=shown,
        watch=watch,
        lasting=Lasting(
            thresholds.vehicle_min_duration, MIN_PRESENCE, thresholds.max_gap, thresholds.merge_gap
        ),
    )
    return [Claim(VEHICLE, happening.sightings, happening.sizes) for happening in happenings]
