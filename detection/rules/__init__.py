"""From located detections to events: one module a rule, each a pure function of one clip around one outpost.

Belongs here: when something is an event, how sure its counts are, and what was expected. Not here: where
things stand (``detection/ground.py``), how looks are chained (``detection/sightings.py``), who is told and
how soon (``alerting``).

Each rule turns the looks of a clip (``scene.py``) into *claims*: what it saw, of which kind, with its
figures. ``find.py`` asks all of them and ``claims.py`` makes events of what they say.
"""

from __future__ import annotations

from detection.rules.claims import RULE_VERSION, MakeId
from detection.rules.find import find_events
from detection.rules.gathering import find_groups
from detection.rules.scene import GATHERING, LABELS, VEHICLE
from detection.rules.thresholds import Thresholds

__all__ = [
    "GATHERING",
    "LABELS",
    "RULE_VERSION",
    "VEHICLE",
    "MakeId",
    "Thresholds",
    "find_events",
    "find_groups",
]
