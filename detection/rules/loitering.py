"""Loitering: one person or a few who stay near an outpost, or pass it again and again.

Belongs here: this rule. Source: the scenario of the PETS 2007 benchmark, a person who stays in the scene for
more than 60 seconds; ours is longer, as guards and visitors stand there too. Settings:
``loitering_min_duration``, ``loitering_radius_m``, ``loitering_min_passes``, ``loitering_beyond_m``. People
who walk past are none, nor are those who stand at the outpost's own door, nor as many as make a gathering.
Whether it is one person all the time is not known: people are never told apart beyond a track. Not here:
chaining (``paths.py``, ``detection/sightings.py``).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detection.rules.gathering import find_groups
from detection.rules.happenings import WALKING_M_S
from detection.rules.paths import LEAST_NEIGHBOURS, Path, stays
from detection.rules.scene import PEOPLE, Claim, Scene
from detection.sightings import FloatArray, Sighting, link
from outwatch.domain.types import EventKind

MIN_PRESENCE = 0.5
"""Share of the time looked at their place that must show somebody: one person is found less often than not
in hardly any look."""


def loitering(scene: Scene, *, gatherings: Sequence[Claim]) -> list[Claim]:
    """Return where a few people dwell, or somebody goes to and fro; never what is already a gathering."""
    thresholds = scene.thresholds
    at_s = [look.at.timestamp() for look in scene.looks]
    if not at_s or max(at_s) - min(at_s) < thresholds.loitering_min_duration.total_seconds():
        return []
    claims = [*_dwelling(scene), *_passing(scene)]
    return [claim for claim in claims if not claim.beside(gatherings, within_m=thresholds.merge_distance_m)]


def _dwelling(scene: Scene) -> list[Claim]:
    """Return the stretches in which fewer than a gathering stay within a small circle."""
    watch, thresholds = scene.watch, scene.thresholds
    clusters = find_groups(scene.people, thresholds.gathering_link_m, core=1)
    few = [watch.sighting(cluster) for cluster in clusters if len(cluster) < thresholds.gathering_min_people]
    near = [sighting for sighting in scene.near(few) if _is_outside(sighting, scene)]
    chains = link(near, gap=thresholds.max_gap, reach_m=thresholds.gathering_link_m, speed_m_s=WALKING_M_S)
    claims = []
    for chain in chains:
        at_s = np.array([sighting.at.timestamp() for sighting in chain])
        places_m = np.array([sighting.place_m for sighting in chain])
        for first, last in stays(at_s, places_m, radius_m=thresholds.loitering_radius_m):
            part = chain[first : last + 1]
            if watch.lasts(part, min_duration=thresholds.loitering_min_duration, min_presence=MIN_PRESENCE):
                measures = {"dwell_s": (part[-1].at - part[0].at).total_seconds()}
                claims.append(Claim(EventKind.LOITERING, part, measures=measures))
    return claims


def _passing(scene: Scene) -> list[Claim]:
    """Return who goes to and fro in front of the outpost, where what is around tells the camera's motion."""
    thresholds = scene.thresholds
    claims = []
    for path in scene.paths.of(PEOPLE, min_duration=thresholds.loitering_min_duration):
        sightings = scene.near([scene.watch.sighting([detection]) for detection in path.detections])
        if len(sightings) < len(path.detections) or not _is_outside(sightings[0], scene):
            continue
        passes = passes_of(path, scene)
        if passes >= thresholds.loitering_min_passes:
            measures = {"passes": float(passes), "dwell_s": path.duration_s}
            claims.append(Claim(EventKind.LOITERING, sightings, measures=measures))
    return claims


def passes_of(path: Path, scene: Scene) -> int:
    """Return how often somebody goes the same way to or fro; 0 where the camera's motion is not known."""
    moves = scene.paths.moves_of(path)
    if len(moves) < LEAST_NEIGHBOURS:
        return 0
    return min(legs(move, least_m=scene.thresholds.loitering_radius_m) for move in moves)


def legs(places_m: FloatArray, *, least_m: float) -> int:
    """Return how many legs of at least a length a path makes to and fro along its longest direction.

    Args:
        places_m: metres east and north, shape (n, 2).
        least_m: a turn back by less is no turn.
    """
    centred = places_m - places_m.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    count, forward = 0, 0
    low = high = float(centred[0] @ axes[0])
    for along in (centred @ axes[0]).tolist():
        low, high = min(low, along), max(high, along)
        if forward <= 0 and along - low >= least_m:
            count, forward, high = count + 1, 1, along
        elif forward >= 0 and high - along >= least_m:
            count, forward, low = count + 1, -1, along
    return count


def _is_outside(sighting: Sighting, scene: Scene) -> bool:
    """Return whether people stand off from the outpost itself: who is at its door belongs to it."""
    gap_m = float(scene.watch.distances_m(np.array([sighting.place_m]))[0])
    return gap_m >= scene.thresholds.loitering_beyond_m
