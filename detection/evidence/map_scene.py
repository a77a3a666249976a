"""What a map of an event shows, in metres east and north of the outpost.

Belongs here: choosing what belongs to the event's time, and how much ground shows it. Not here: drawing
(``place_map.py``) and words (``map_words.py``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from detection.evidence.sheet import Place
from detection.ground import hfov_of
from detection.rules import LABELS
from outwatch.domain.geometry import LocalFrame
from outwatch.domain.types import (
    Camera,
    Coverage,
    Detection,
    ErrorEllipse,
    Event,
    Outpost,
    Sensor,
    TelemetrySample,
)

LEAST_ACROSS_M = 120.0
"""A map shows at least so much: a gathering fills a tenth of it."""
MOST_CAMERA_M = 2_000.0
"""A camera farther off is told of in words: the map would else shrink to dots."""
ROOM = 1.25
"""Times what must be seen that a map shows."""
ARC_SEGMENTS = 32
"""Chords per quarter of a circle."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What a map shows, in metres east and north of the outpost."""

    outpost: BaseGeometry
    watch: BaseGeometry
    place: Place | None
    error: BaseGeometry | None
    looked: BaseGeometry
    paths: list[tuple[bool, list[Place]]]
    """Of each thing during the event: whether it is of the kind, and its places in order of time."""
    peak: list[tuple[bool, Place]]
    """The same at the peak."""
    camera: Place | None
    view: Place | None
    """Heading and field of view of the camera in degrees."""
    sensors: list[tuple[str, Place]]

    def marks(self) -> list[Place]:
        """Return the places of what the map is about, the outpost's first."""
        middle = self.outpost.centroid
        others = [self.place, self.camera, *(at for _, at in self.sensors), *(at for _, at in self.peak)]
        return [(middle.x, middle.y), *(place for place in others if place is not None)]

    def bounds(self) -> tuple[float, float, float]:
        """Return the middle (east, north) and the side in metres of the square that shows it."""
        seen = [self.outpost, *([self.error] if self.error else [])]
        seen += [shapely.Point(place) for place in [self.place, *(at for _, at in self.sensors)] if place]
        if self.camera and math.hypot(*self.camera) <= MOST_CAMERA_M:
            seen.append(shapely.Point(self.camera))
        west, south, east, north = shapely.union_all(seen).bounds
        side_m = max(LEAST_ACROSS_M, ROOM * max(east - west, north - south))
        return (west + east) / 2, (south + north) / 2, side_m


def scene_of(
    event: Event,
    frame: LocalFrame,
    *,
    outpost: Outpost,
    looks: Sequence[Coverage],
    detections: Sequence[Detection],
    pose: TelemetrySample | None,
    camera: Camera | None,
    sensors: Sequence[Sensor],
) -> Scene:
    """Return all that is drawn in metres, as far as it belongs to the time of the event."""

    def local(lat_deg: float, lon_deg: float) -> Place:
        east, north = frame.to_local(lat_deg, lon_deg)
        return float(east), float(north)

    point, stands_at = event.fix.point, pose.point if pose else None
    place = local(point.lat_deg, point.lon_deg) if point else None
    ground = frame.project(outpost.geometry)
    footprints = [
        frame.project(look.footprint)
        for look in looks
        if look.footprint is not None and event.started_at <= look.at <= event.ended_at
    ]
    hfov_deg = hfov_of(pose, camera) if pose else None
    return Scene(
        outpost=ground,
        watch=ground.buffer(outpost.watch_radius_m, quad_segs=ARC_SEGMENTS),
        place=place,
        error=_error(place, event) if place else None,
        looked=shapely.union_all([shapely.make_valid(footprint) for footprint in footprints]),
        paths=_paths(event, frame, detections),
        peak=_at_peak(event, frame, detections),
        camera=local(stands_at.lat_deg, stands_at.lon_deg) if stands_at else None,
        view=(pose.heading_deg, hfov_deg or 0.0) if pose and pose.heading_deg is not None else None,
        sensors=[(sensor.name, local(sensor.point.lat_deg, sensor.point.lon_deg)) for sensor in sensors],
    )


def _error(place: Place, event: Event) -> BaseGeometry | None:
    """Return the area that holds the true place nine times in ten."""
    radius_m = event.fix.error_radius_m
    ellipse = event.fix.error_ellipse or (ErrorEllipse(radius_m, radius_m, 0.0) if radius_m else None)
    if ellipse is None:
        return None
    angle, turn = np.linspace(0, 2 * math.pi, 4 * ARC_SEGMENTS), math.radians(ellipse.orientation_deg)
    along, across = ellipse.semi_major_m * np.cos(angle), ellipse.semi_minor_m * np.sin(angle)
    east = place[0] + along * math.sin(turn) + across * math.cos(turn)
    north = place[1] + along * math.cos(turn) - across * math.sin(turn)
    return shapely.Polygon(np.column_stack([east, north]))


def _paths(
    event: Event, frame: LocalFrame, detections: Sequence[Detection]
) -> list[tuple[bool, list[Place]]]:
    """Return the places of each thing during the event, those of the kind last, as they lie on top."""
    by_thing: dict[tuple[bool, int, int], list[Place]] = {}
    during = [f for f in detections if event.started_at <= f.at <= event.ended_at and f.fix.point is not None]
    during.sort(key=lambda found: found.offset_s)
    for number, (found, place) in enumerate(zip(during, _places(frame, during), strict=True)):
        thing = (0, number) if found.track_id is None else (1, found.track_id)
        by_thing.setdefault((_counts(event, found), *thing), []).append(place)
    return [(own, path) for (own, *_), path in sorted(by_thing.items())]


def _at_peak(event: Event, frame: LocalFrame, detections: Sequence[Detection]) -> list[tuple[bool, Place]]:
    """Return the places in the peak frame, those of the kind last."""
    here = [f for f in detections if f.frame_index == event.peak_frame_index and f.fix.point is not None]
    own = [_counts(event, found) for found in here]
    return sorted(zip(own, _places(frame, here), strict=True))


def _places(frame: LocalFrame, located: Sequence[Detection]) -> list[Place]:
    points = [found.fix.point for found in located if found.fix.point is not None]
    east, north = frame.to_local([p.lat_deg for p in points], [p.lon_deg for p in points])
    return list(zip(east.tolist(), north.tolist(), strict=True))


def _counts(event: Event, found: Detection) -> bool:
    return found.label in LABELS.get(event.kind, frozenset())
