"""A convoy: vehicles that drive in file, near one another, the same way.

Belongs here: this rule. Source of "in file": leader and follower of Andersson et al., "Reporting leaders and
followers among trajectories of moving point objects" (2008): same heading, each in front of the other,
within a distance, for a time. Settings: ``convoy_min_vehicles``, ``convoy_max_spacing_m``,
``convoy_min_move_m``, ``convoy_min_duration``. What it cannot tell is a convoy from dense traffic. Not here:
telling their motion from the camera's (``paths.py``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from detection.labels import VEHICLE_LABELS
from detection.rules.paths import Path
from detection.rules.scene import Claim, Scene
from detection.sightings import FloatArray, by_look
from outwatch.domain.types import EventKind

MOMENTS = 5
"""At so many moments of the time they share, two vehicles must be in file and have driven on."""
MAX_TURN_DEG = 25.0
"""Headings that differ by more are two ways: the jitter of a box over the least way is 10 degrees."""
FILE_WIDTH_M = 6.0
"""A follower is no farther aside than a lane and a half (3.65 m each, AASHTO Green Book)."""
MIN_SPACING_M = 3.0
"""Nearer than this along the road is one vehicle detected twice, or two side by side."""
STEADY_SHARE = 0.5
"""In each part of the time they make at least this share of their mean way: a turning camera starts and
stops."""
MAX_VEHICLES = 500
"""More moving vehicles in one clip are traffic, and pairs of them too many to look at."""


def convoy(scene: Scene) -> list[Claim]:
    """Return each file of moving vehicles that reaches into the perimeter."""
    thresholds = scene.thresholds
    moving = [
        path
        for path in scene.paths.of(VEHICLE_LABELS, min_duration=thresholds.convoy_min_duration)
        if np.hypot(*np.ptp(path.places_m, axis=0)) >= thresholds.convoy_min_move_m
    ]
    if not thresholds.convoy_min_vehicles <= len(moving) <= MAX_VEHICLES:
        return []
    found = (_claim(files, scene) for files in _files(moving, scene))
    return [claim for claim in found if claim is not None]


def _files(moving: Sequence[Path], scene: Scene) -> list[list[Path]]:
    """Return the vehicles that are linked, one in file with the next, as many as make a convoy."""
    ordered = sorted(moving, key=lambda path: (path.at_s[0], path.at_s[-1], path.detections[0].box_xyxy_px))
    group = list(range(len(ordered)))
    for one, path in enumerate(ordered):
        for other in range(one):
            if group[one] != group[other] and in_file(path, ordered[other], scene=scene):
                joined, left = sorted((group[one], group[other]))
                group = [joined if number == left else number for number in group]
    files = [[path for path, of in zip(ordered, group, strict=True) if of == number] for number in set(group)]
    return [file for file in files if len(file) >= scene.thresholds.convoy_min_vehicles]


def in_file(one: Path, other: Path, *, scene: Scene) -> bool:
    """Return whether two vehicles drive one behind the other for long enough."""
    thresholds = scene.thresholds
    start_s, end_s = max(one.at_s[0], other.at_s[0]), min(one.at_s[-1], other.at_s[-1])
    if end_s - start_s < thresholds.convoy_min_duration.total_seconds():
        return False
    moments_s = np.linspace(start_s, end_s, MOMENTS)
    ours_m, theirs_m = _places(one, moments_s), _places(other, moments_s)
    our_way_m, their_way_m = ours_m[-1] - ours_m[0], theirs_m[-1] - theirs_m[0]
    if min(np.hypot(*our_way_m), np.hypot(*their_way_m)) < thresholds.convoy_min_move_m:
        return False
    turn = float(our_way_m @ their_way_m / (np.hypot(*our_way_m) * np.hypot(*their_way_m)))
    if turn < math.cos(math.radians(MAX_TURN_DEG)):
        return False
    ahead = (our_way_m + their_way_m) / np.hypot(*(our_way_m + their_way_m))
    steps_m = np.diff(ours_m, axis=0) @ ahead
    apart_m = theirs_m - ours_m
    along_m, aside_m = abs(apart_m @ ahead), abs(apart_m @ np.array([ahead[1], -ahead[0]]))
    return bool(
        (steps_m >= STEADY_SHARE * steps_m.mean()).all()
        and (aside_m <= FILE_WIDTH_M).all()
        and along_m.min() >= MIN_SPACING_M
        and along_m.max() <= thresholds.convoy_max_spacing_m
    )


def _places(path: Path, moments_s: FloatArray) -> FloatArray:
    return np.column_stack([np.interp(moments_s, path.at_s, path.places_m[:, axis]) for axis in (0, 1)])


def _claim(file: Sequence[Path], scene: Scene) -> Claim | None:
    """Return a file as a claim, if it moves against what is around it and reaches into the perimeter."""
    thresholds = scene.thresholds
    for path in file:
        moves = scene.paths.moves_of(path, without=file)
        doubt_m = 2 * path.error_m if len(moves) == 1 else 0.0
        if min(float(np.hypot(*move[-1])) for move in moves) < thresholds.convoy_min_move_m + doubt_m:
            return None
    sightings = [
        scene.watch.sighting(look) for look in by_look([d for path in file for d in path.detections])
    ]
    near = scene.near(sightings)
    if max((len(sighting.members) for sighting in near), default=0) < thresholds.convoy_min_vehicles:
        return None
    lead = max(file, key=lambda path: path.duration_s)
    way_m = lead.places_m[-1] - lead.places_m[0]
    ends_m = scene.watch.distances_m(
        scene.watch.places_m([lead.detections[index].fix for index in (0, -1)])
    ).tolist()
    measures = {
        "vehicles": float(len(file)),
        "speed_m_s": float(np.hypot(*way_m)) / lead.duration_s,
        "heading_deg": math.degrees(math.atan2(*way_m)) % 360.0,
        "closing_m_s": (ends_m[0] - ends_m[1]) / lead.duration_s,
        "spacing_m": _spacing_m(file),
    }
    return Claim(EventKind.CONVOY, near, measures=measures)


def _spacing_m(file: Sequence[Path]) -> float:
    """Return the mean distance between neighbours in the file, at the middle of the time they share."""
    at_s = np.array([(max(path.at_s[0] for path in file) + min(path.at_s[-1] for path in file)) / 2])
    places_m = np.concatenate([_places(path, at_s) for path in file])
    way_m = file[0].places_m[-1] - file[0].places_m[0]
    along_m = sorted((places_m @ way_m / np.hypot(*way_m)).tolist())
    return math.fsum(after - before for before, after in pairwise(along_m)) / (len(along_m) - 1)
