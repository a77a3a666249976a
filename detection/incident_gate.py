"""The gate between two events: may they be of one happening, by their kinds, times and places?

Belongs here: the gate, pure, for many pairs at once. Not here: what becomes of events that pass
(``incidents.py``).

Two events may be one happening where their kinds go together (people with people, vehicles with vehicles,
sensors and what may be either with both), where their times are no further apart than ``max_gap`` and the
doubt in both clocks, and where the squared Mahalanobis distance of their places is below the 0.99 quantile of
chi-square with two degrees of freedom. Its covariance is the sum of both fixes' and of both things' own
extent: what was seen of a crowd has another centre each time, and what trips a sensor is anywhere within its
reach. All places of a clip share the clip's pose error, so within one clip the fixes' covariances say nothing
and the extent alone decides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from outwatch.domain.geometry import CHI2_2DOF_P90
from outwatch.domain.incidents import Account
from outwatch.domain.types import EventKind

RULE_VERSION = "incidents-1"
CHI2_2DOF_P99 = -2.0 * math.log(0.01)
"""9.210: square of the Mahalanobis distance that holds 0.99 of a 2-D Gaussian (its closed form)."""
PEOPLE = frozenset(
    {
        EventKind.GATHERING_NEAR_OUTPOST,
        EventKind.GATHERING_GROWING,
        EventKind.GATHERING_DISPERSING,
        EventKind.LOITERING,
    }
)
VEHICLES = frozenset({EventKind.VEHICLE_NEAR_OUTPOST, EventKind.STOPPED_VEHICLE, EventKind.CONVOY})
_MOVING = frozenset({EventKind.APPROACH, EventKind.CONVOY})
EITHER, PERSON, VEHICLE = 0, 1, 2
"""What an event is of; sensors, approaches and night activity may be of either."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DIGITS = 6
"""Decimals of a squared distance: what is equal must not differ by how an array happened to be cut up."""
_SEMI_MAJOR_M, _FLATTENING = 6_378_137.0, 1 / 298.257223563
"""WGS 84 (NGA.STND.0036)."""

_Floats = npt.NDArray[np.float64]
_Pairs = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinRules:
    """When events are one happening; names and meanings are those of the settings' ``incidents``."""

    max_gap: timedelta
    longest: timedelta
    clock_doubt_at_most: timedelta
    furthest_m: float
    people_extent_m: float
    vehicle_extent_m: float
    moving_extent_m: float
    sensor_reach_m: float

    @property
    def reach(self) -> timedelta:
        """Return how far apart in time two events that are linked can be."""
        return self.max_gap + 2 * self.clock_doubt_at_most

    def extent_m(self, kind: EventKind) -> float:
        """Return the radius around where a thing was seen that holds its true place with probability 0.9."""
        if kind is EventKind.SENSOR_TRIP:
            return self.sensor_reach_m
        if kind in _MOVING:
            return self.moving_extent_m
        return self.vehicle_extent_m if kind in VEHICLES else self.people_extent_m


@dataclass(frozen=True, slots=True)
class Link:
    """Two events, by number, that may be one happening; ``by`` where a person said that they are."""

    one: int
    other: int
    mahalanobis2: float = 0.0
    distance_m: float | None = None
    gap_s: float | None = None
    by: str = RULE_VERSION

    @property
    def by_person(self) -> bool:
        """Return whether a person said so."""
        return self.by != RULE_VERSION

    @property
    def order(self) -> tuple[float, float, int, int]:
        """Return the nearest first; of equals the lower ids."""
        return self.mahalanobis2, self.gap_s or 0.0, self.one, self.other


def find_links(events: Sequence[Account], rules: JoinRules) -> list[Link]:
    """Return every pair of events that passes the gate, events by their number."""
    located = np.array([index for index, item in enumerate(events) if item.point is not None], dtype=np.int64)
    if not len(located):
        return []
    at = _Located([events[index] for index in located], rules)
    near = cKDTree(at.places_m).query_pairs(rules.furthest_m, output_type="ndarray")
    pairs = near[np.lexsort((near[:, 1], near[:, 0]))].astype(np.int64)
    pairs = pairs[at.fit_in_kind_and_time(pairs, rules)]
    mahalanobis2, distance_m = at.distances(pairs)
    passed = mahalanobis2 <= CHI2_2DOF_P99
    gaps_s = at.gaps_s(pairs)
    return [
        Link(int(located[one]), int(located[other]), float(squared), float(metres), float(gap_s))
        for (one, other), squared, metres, gap_s in zip(
            pairs[passed], mahalanobis2[passed], distance_m[passed], gaps_s[passed], strict=True
        )
    ]


class _Located:
    """Events with a place as arrays: shape (n,) each, ``places_m`` (n, 3) from the middle of the Earth."""

    def __init__(self, events: Sequence[Account], rules: JoinRules) -> None:
        points = [item.point for item in events if item.point is not None]
        self._lat = np.radians([point.lat_deg for point in points])
        self._lon = np.radians([point.lon_deg for point in points])
        self.places_m = _earth_centred_m(self._lat, self._lon)
        self._family = np.array([family(item.kind) for item in events])
        clips: dict[str, int] = {}
        self._clip = np.array(
            [-1 - n if e.clip_id is None else clips.setdefault(e.clip_id, n) for n, e in enumerate(events)]
        )
        self._start_s = np.array([(item.started_at - _EPOCH).total_seconds() for item in events])
        self._end_s = np.array([(item.ended_at - _EPOCH).total_seconds() for item in events])
        most_s = rules.clock_doubt_at_most.total_seconds()
        self._doubt_s = np.minimum([item.clock_doubt_s for item in events], most_s)
        extent_m = np.array([rules.extent_m(item.kind) for item in events])
        self._extent_m2 = np.square(extent_m) / CHI2_2DOF_P90
        self._fix_m2 = np.array([item.covariance_m2 for item in events])

    def fit_in_kind_and_time(self, pairs: _Pairs, rules: JoinRules) -> npt.NDArray[np.bool_]:
        """Return which pairs are of kinds that go together, and near enough in time."""
        one, other = pairs.T
        doubt_s = np.where(
            self._clip[one] == self._clip[other], 0.0, self._doubt_s[one] + self._doubt_s[other]
        )
        in_time = self.gaps_s(pairs) <= rules.max_gap.total_seconds() + doubt_s
        fitting: npt.NDArray[np.bool_] = in_time & (
            self._family[one] * self._family[other] != PERSON * VEHICLE
        )
        return fitting

    def _same_clip(self, pairs: _Pairs) -> npt.NDArray[np.bool_]:
        same: npt.NDArray[np.bool_] = self._clip[pairs[:, 0]] == self._clip[pairs[:, 1]]
        return same

    def gaps_s(self, pairs: _Pairs) -> _Floats:
        """Return the seconds between the two of each pair, 0 where they overlap."""
        one, other = pairs.T
        first_end_s = np.minimum(self._end_s[one], self._end_s[other])
        gaps_s: _Floats = np.maximum(0.0, np.maximum(self._start_s[one], self._start_s[other]) - first_end_s)
        return gaps_s

    def distances(self, pairs: _Pairs) -> tuple[_Floats, _Floats]:
        """Return the squared Mahalanobis distance and the distance in metres of each pair."""
        one, other = pairs.T
        lat, lon = (self._lat[one] + self._lat[other]) / 2, (self._lon[one] + self._lon[other]) / 2
        step_m = self.places_m[other] - self.places_m[one]
        east_m = -np.sin(lon) * step_m[:, 0] + np.cos(lon) * step_m[:, 1]
        outward_m = np.cos(lon) * step_m[:, 0] + np.sin(lon) * step_m[:, 1]
        north_m = np.cos(lat) * step_m[:, 2] - np.sin(lat) * outward_m
        # Within a clip the pose error is shared and moves both alike.
        shared = self._same_clip(pairs)[:, None]
        ee, en, nn = np.where(shared, 0.0, self._fix_m2[one] + self._fix_m2[other]).T
        extent_m2 = self._extent_m2[one] + self._extent_m2[other]
        ee, nn = ee + extent_m2, nn + extent_m2
        squared = (nn * east_m**2 - 2 * en * east_m * north_m + ee * north_m**2) / (ee * nn - en**2)
        return np.round(squared, _DIGITS), np.hypot(east_m, north_m)


def family(kind: EventKind) -> int:
    """Return what an event of a kind is of: PERSON, VEHICLE or EITHER."""
    return PERSON if kind in PEOPLE else VEHICLE if kind in VEHICLES else EITHER


def _earth_centred_m(lat: _Floats, lon: _Floats) -> _Floats:
    """Return places on the WGS 84 ellipsoid in metres from its middle, shape (n, 3); angles in radians."""
    eccentricity2 = _FLATTENING * (2 - _FLATTENING)
    normal_m = _SEMI_MAJOR_M / np.sqrt(1 - eccentricity2 * np.sin(lat) ** 2)
    across_m = normal_m * np.cos(lat)
    up_m = normal_m * (1 - eccentricity2) * np.sin(lat)
    return np.column_stack([across_m * np.cos(lon), across_m * np.sin(lon), up_m])


def same_place(one: Account, others: Sequence[Account], *, rules: JoinRules) -> list[bool]:
    """Return which of several events lie where one does, whenever and of whatever kind they are.

    Args:
        one: has a place, as all have.
        others: events to compare.
        rules: the gate.
    """
    if not others:
        return []
    at = _Located([one, *others], rules)
    pairs = np.column_stack([np.zeros(len(others), np.int64), np.arange(1, len(others) + 1)])
    mahalanobis2, distance_m = at.distances(pairs)
    agree: list[bool] = ((mahalanobis2 <= CHI2_2DOF_P99) & (distance_m <= rules.furthest_m)).tolist()
    return agree
