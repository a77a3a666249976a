"""A gathering near an outpost: people who stand together, enough of them, for long enough.

Belongs here: who stands together, and this rule. Sources: density-based clustering (DBSCAN, Ester et al.
1996); the link is the far edge of social distance (Hall 1966) plus the error of a box. Settings:
``gathering_min_people``, ``gathering_link_m``, ``gathering_min_duration``, ``gathering_min_confidence``,
``merge_gap``, ``merge_distance_m``. Not here: whether it grows (``trend.py``).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.cluster import DBSCAN

from detection.rules.happenings import Happening, Lasting, find_happenings
from detection.rules.scene import GATHERING, Claim, Scene
from detection.sightings import by_look
from outwatch.domain.types import Detection

CORE_NEIGHBOURS = 3
"""People within reach, oneself included, who make a place dense (DBSCAN ``min_samples``): with two, a chain
of single passers-by is a group; with four, one person whom the detector misses breaks a real one."""
CENTRE_JITTER_M = 15.0
"""How far the middle member of a group moves between looks, beyond the link between neighbours, though
all stand still: where a group joins another, its middle jumps by half of its new width. On the sample
flight, where 13 people are at times linked to 21, 12 m would part the largest looks from the others."""
MIN_PRESENCE = 0.3
"""A group must reach its size in one look: where 70 % of people are found, a group of ten shows 8 in 38 % of
looks (binomial), and people passing by show it in far fewer."""


def find_groups(
    people: Sequence[Detection], link_m: float, *, core: int = CORE_NEIGHBOURS
) -> list[list[Detection]]:
    """Return every group of people who stand together, of any size from ``core``, look by look.

    People are linked in metres from the camera's ground point, which are free of the pose error that
    all boxes of a frame share.
    """
    found: list[list[Detection]] = []
    for look in by_look([person for person in people if person.east_m is not None]):
        if len(look) < core:
            continue
        places_m = np.array([[person.east_m, person.north_m] for person in look], float)
        linked = DBSCAN(
            eps=link_m,
            min_samples=core,
            algorithm="kd_tree",  # the default starts a thread pool for few people and takes 40 times as long
        ).fit_predict(places_m)
        found += [
            [person for person, label in zip(look, linked, strict=True) if label == number]
            for number in range(linked.max() + 1)
        ]
    return found


def gathering_happenings(scene: Scene) -> list[Happening]:
    """Return the lasting happenings of large enough groups whose middle is near the outpost."""
    watch, thresholds = scene.watch, scene.thresholds
    shown = [watch.sighting(group) for group in scene.groups]
    large = [sighting for sighting in shown if len(sighting.members) >= thresholds.gathering_min_people]
    return find_happenings(
        scene.near(large),
        shown=shown,
        watch=watch,
        lasting=Lasting(
            thresholds.gathering_min_duration,
            MIN_PRESENCE,
            thresholds.max_gap,
            thresholds.merge_gap,
            reach_m=thresholds.gathering_link_m + CENTRE_JITTER_M,
            merge_m=thresholds.merge_distance_m,
        ),
    )


def gathering_near_outpost(happenings: Sequence[Happening]) -> list[Claim]:
    """Return each happening of a large group as a claim."""
    return [Claim(GATHERING, happening.sightings, happening.sizes) for happening in happenings]
