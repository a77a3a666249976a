"""An approach: a vehicle, or a crowd, whose distance to an outpost closes steadily.

Belongs here: this rule. Source: the slope of distance against time by Theil (1950) and Sen (1968), which a
third of wrong looks cannot turn, with its confidence bound. The error of the pose is common to a clip's
looks and cancels in the slope; what does not cancel, an unlogged turn of the camera, shows in the things
around (``paths.py``). Settings: ``approach_min_closing_m``, ``approach_min_speed_m_s``,
``approach_min_duration``, ``approach_within_m``, for a crowd ``gathering_min_people``. What drives by and off
again is none. Not here: several vehicles in file (``convoy.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import theilslopes

from detection.labels import VEHICLE_LABELS
from detection.rules.paths import Path
from detection.rules.scene import PEOPLE, Claim, Scene
from detection.sightings import FloatArray, by_look
from outwatch.domain.types import EventKind

CONFIDENCE = 0.99
"""Of the bound of the slope: one chance in a hundred is less than the other doubts."""
MAX_POINTS = 100
"""The slope is a median over all pairs of looks: more looks than this are thinned out evenly."""
LEAST_STRAIGHT = 0.7
"""Share of the way gone that must come nearer: within 45 degrees of straight at it. What drives by at its
nearest makes good less."""
LEAVES_M = 15.0
"""Going off again by this from the nearest point is driving by; less is parking."""
LEAST_POINTS = 5
"""Fewer looks have no slope whose bound means anything."""


@dataclass(frozen=True, slots=True)
class Closing:
    """How a thing came nearer: between which of its looks, by how much and how fast."""

    first: int
    last: int
    closed_m: float
    speed_m_s: float
    """By the bound of the slope that is nearer to standing still."""


def approach(scene: Scene) -> list[Claim]:
    """Return the approaches: vehicles that come at one time as one claim, and crowds."""
    min_duration = scene.thresholds.approach_min_duration
    vehicles = [
        (path, closing)
        for path in scene.paths.of(VEHICLE_LABELS, min_duration=min_duration)
        if (closing := _approaches(path, scene, alone=True)) is not None
    ]
    return [
        _claim(together, scene)
        for together in [*_at_one_time(vehicles), *_crowds(scene)]
        if scene.near([scene.watch.sighting([together[0][0].detections[together[0][1].last]])])
    ]


def closing_of(at_s: FloatArray, distances_m: FloatArray) -> Closing | None:
    """Return how a thing came nearer until it was nearest; None where it did not, or went off again.

    Args:
        at_s: times in order, shape (n,).
        distances_m: metres to the outpost at each, shape (n,).
    """
    last = int(distances_m.argmin())
    first = int(distances_m[: last + 1].argmax())
    if last - first + 1 < LEAST_POINTS or distances_m[-1] - distances_m[last] > LEAVES_M:
        return None
    every = np.unique(np.linspace(first, last, MAX_POINTS).round().astype(int))
    slope = theilslopes(distances_m[every], at_s[every], alpha=CONFIDENCE)
    closed_m = float(distances_m[first] - distances_m[last])
    return Closing(first, last, closed_m, -float(slope.high_slope))


def _approaches(path: Path, scene: Scene, *, alone: bool, without: Sequence[Path] = ()) -> Closing | None:
    """Return how a thing approaches, in each way in which its motion shows; None where it does not.

    Args:
        path: its path.
        scene: the outpost and thresholds.
        alone: believe it where nothing around tells the camera's motion, if it closes by more than its fixes
            may be wrong by.
        without: paths that are no part of what is around it.
    """
    watch, thresholds = scene.watch, scene.thresholds
    places_m = watch.places_m([detection.fix for detection in path.detections])
    over_map = closing_of(path.at_s, watch.distances_m(places_m))
    if not _is_one(over_map, path, places_m, scene=scene):
        return None
    moves = scene.paths.moves_of(path, without=without)
    if len(moves) == 1:
        doubt_m = 2 * path.error_m
        enough = over_map and over_map.closed_m >= thresholds.approach_min_closing_m + doubt_m
        return over_map if alone and enough else None
    around_m = places_m[0] + moves[1]
    around = closing_of(path.at_s, watch.distances_m(around_m))
    return over_map if _is_one(around, path, around_m, scene=scene) else None


def _is_one(closing: Closing | None, path: Path, places_m: FloatArray, *, scene: Scene) -> bool:
    thresholds = scene.thresholds
    if closing is None:
        return False
    part = slice(closing.first, closing.last + 1)
    gone_m = float(np.hypot(*(places_m[closing.last] - places_m[closing.first])))
    return (
        closing.closed_m >= thresholds.approach_min_closing_m
        and closing.speed_m_s >= thresholds.approach_min_speed_m_s
        and path.at_s[part][-1] - path.at_s[part][0] >= thresholds.approach_min_duration.total_seconds()
        and closing.closed_m >= LEAST_STRAIGHT * gone_m
        and float(scene.watch.distances_m(places_m[part]).min()) <= thresholds.approach_within_m
    )


def _crowds(scene: Scene) -> list[list[tuple[Path, Closing]]]:
    """Return the people who come at one time, as many as make a gathering.

    What is around a crowd must tell the camera's motion: people who stand before a turning camera are many.
    """
    people = scene.paths.of(PEOPLE, min_duration=scene.thresholds.approach_min_duration)
    likely = [
        path for path in people if (closing := _over_map(path, scene)) and _fits(closing, path, scene=scene)
    ]
    found = [
        (path, closing)
        for path in likely
        if (closing := _approaches(path, scene, alone=False, without=likely)) is not None
    ]
    least = scene.thresholds.gathering_min_people
    return [together for together in _at_one_time(found) if len(together) >= least]


def _over_map(path: Path, scene: Scene) -> Closing | None:
    places_m = scene.watch.places_m([detection.fix for detection in path.detections])
    return closing_of(path.at_s, scene.watch.distances_m(places_m))


def _fits(closing: Closing, path: Path, *, scene: Scene) -> bool:
    places_m = scene.watch.places_m([detection.fix for detection in path.detections])
    return _is_one(closing, path, places_m, scene=scene)


def _at_one_time(found: Sequence[tuple[Path, Closing]]) -> list[list[tuple[Path, Closing]]]:
    """Bring together what comes while another comes."""
    together: list[list[tuple[Path, Closing]]] = []
    until_s = -np.inf
    for path, closing in sorted(found, key=lambda one: one[0].at_s[one[1].first]):
        if path.at_s[closing.first] <= until_s:
            together[-1].append((path, closing))
        else:
            together.append([(path, closing)])
        until_s = max(until_s, path.at_s[closing.last])
    return together


def _claim(together: Sequence[tuple[Path, Closing]], scene: Scene) -> Claim:
    members = [d for path, closing in together for d in path.detections[closing.first : closing.last + 1]]
    nearest = max(together, key=lambda one: one[1].closed_m)
    measures = {
        "closed_m": nearest[1].closed_m,
        "speed_m_s": nearest[1].speed_m_s,
        "people": float(sum(path.detections[0].label in PEOPLE for path, _ in together)),
        "vehicles": float(sum(path.detections[0].label in VEHICLE_LABELS for path, _ in together)),
    }
    return Claim(
        EventKind.APPROACH,
        [scene.watch.sighting(look) for look in by_look(members)],
        measures=measures,
        fix=nearest[0].detections[nearest[1].last].fix,
    )
