"""What every rule is given, and what it answers.

Belongs here: a clip's detections around one outpost, and claims that are not yet events. Not here: any rule
(the modules beside this one), and how a claim becomes an event (``claims.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from detection.labels import PERSON, VEHICLE_LABELS
from detection.rules.paths import Paths
from detection.rules.thresholds import Thresholds
from detection.sightings import Sighting, Watch
from outwatch.domain.types import Coverage, Detection, EventKind, GroundFix

VEHICLE, GATHERING = EventKind.VEHICLE_NEAR_OUTPOST, EventKind.GATHERING_NEAR_OUTPOST
PEOPLE = frozenset({PERSON})
LABELS: Mapping[EventKind, frozenset[str]] = {
    VEHICLE: VEHICLE_LABELS,
    EventKind.STOPPED_VEHICLE: VEHICLE_LABELS,
    EventKind.CONVOY: VEHICLE_LABELS,
    EventKind.APPROACH: VEHICLE_LABELS | PEOPLE,
    EventKind.NIGHT_ACTIVITY: VEHICLE_LABELS | PEOPLE,
    GATHERING: PEOPLE,
    EventKind.GATHERING_GROWING: PEOPLE,
    EventKind.GATHERING_DISPERSING: PEOPLE,
    EventKind.LOITERING: PEOPLE,
}
"""What each rule counts."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One clip around one outpost. Detections have a place each and are in order of time and box."""

    watch: Watch
    looks: Sequence[Coverage]
    people: Sequence[Detection]
    vehicles: Sequence[Detection]
    groups: Sequence[Sequence[Detection]]
    """Every group of people who stand together, look by look, of any size."""
    paths: Paths
    thresholds: Thresholds

    def near(self, sightings: Sequence[Sighting]) -> list[Sighting]:
        """Return the sightings that are likely enough within the watch radius."""
        odds = self.watch.p_inside([sighting.fix for sighting in sightings]).tolist()
        return [s for s, p in zip(sightings, odds, strict=True) if p >= self.thresholds.min_p_inside]


@dataclass(frozen=True, slots=True)
class Claim:
    """What a rule says happened near an outpost."""

    kind: EventKind
    sightings: Sequence[Sighting]
    """In order of time."""
    sizes: Mapping[int, float] = field(default_factory=dict)
    """How long, in seconds, the looks that cover it showed each number of things; by default what the
    sightings themselves show."""
    measures: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    fix: GroundFix | None = None
    """Where it is said to be; None is the most central sighting's."""

    def beside(self, others: Sequence[Claim], *, within_m: float) -> bool:
        """Return whether another claim stands at the same time so near that it says the same."""
        first, last = self.sightings[0], self.sightings[-1]
        middle = self.sightings[len(self.sightings) // 2].place_m
        return any(
            other.sightings[0].at <= last.at
            and first.at <= other.sightings[-1].at
            and min(_apart_m(middle, sighting) for sighting in other.sightings) <= within_m
            for other in others
        )


def _apart_m(place_m: tuple[float, float], sighting: Sighting) -> float:
    east_m, north_m = sighting.place_m
    return float(((place_m[0] - east_m) ** 2 + (place_m[1] - north_m) ** 2) ** 0.5)
