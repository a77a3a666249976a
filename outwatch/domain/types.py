"""The value objects that pass between stages: frozen, slotted, units in the names, times UTC-aware.

Belongs here: types and the checks that make a value of them impossible to get wrong. Not here:
reading or writing them (``storage/schemas.py``) and computing them (the stages).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from shapely.geometry.base import BaseGeometry

MAX_LAT_DEG = 90.0
MAX_LON_DEG = 180.0
Image = npt.NDArray[np.uint8]
"""A frame's pixels: (height, width, 3), BGR, uint8."""


def require_utc(value: datetime, *, name: str) -> datetime:
    """Return ``value`` if it is UTC-aware.

    Raises:
        ValueError: the time is naive or in another zone.
    """
    if value.utcoffset() != timedelta(0):
        raise ValueError(f"{name} must be UTC-aware, found {value!r}")
    return value


class Modality(StrEnum):
    """What a camera sees."""

    RGB = "rgb"
    THERMAL = "thermal"


class ClockSource(StrEnum):
    """Where a clip's time comes from, most trusted first."""

    EMBEDDED_GPS = "embedded_gps"
    TELEMETRY = "telemetry"
    CONTAINER = "container"
    FILE = "file"


class TimeBase(StrEnum):
    """What the offsets of telemetry count from."""

    CLIP = "clip"
    """The clip's first frame: telemetry that was written with the pictures."""
    LOG = "log"
    """The log's own first sample: it must be fitted to a clip by its clock (``ingest/align.py``)."""


class TelemetryClock(StrEnum):
    """Where the times in telemetry come from, most trusted first."""

    GPS = "gps"
    """UTC that a satellite receiver or a disciplined clock wrote."""
    UTC = "utc"
    """UTC of a clock that nothing is known to keep right."""
    LOCAL = "local"
    """Wall time without a zone, taken to be in the declared one."""
    NONE = "none"


class OutpostKind(StrEnum):
    """What a watched place is."""

    POLICE_OUTPOST = "police_outpost"
    SCHOOL = "school"
    GOVERNMENT_BUILDING = "government_building"
    CHECKPOINT = "checkpoint"


class EventKind(StrEnum):
    """The rules' answers."""

    VEHICLE_NEAR_OUTPOST = "vehicle_near_outpost"
    STOPPED_VEHICLE = "stopped_vehicle"
    APPROACH = "approach"
    CONVOY = "convoy"
    GATHERING_NEAR_OUTPOST = "gathering_near_outpost"
    GATHERING_GROWING = "gathering_growing"
    GATHERING_DISPERSING = "gathering_dispersing"
    LOITERING = "loitering"
    NIGHT_ACTIVITY = "night_activity"
    SENSOR_TRIP = "sensor_trip"


class Review(StrEnum):
    """What a person said of an event."""

    UNREVIEWED = "unreviewed"
    CONFIRMED = "confirmed"
    FALSE = "false"


class Priority(StrEnum):
    """How soon a control room must look, P1 first."""

    P1 = "P1"
    P2 = "P2"
    P3 = "P3"
    P4 = "P4"


class AlertState(StrEnum):
    """Where an alert stands."""

    NEW = "new"
    DELIVERED = "delivered"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"
    FALSE = "false"


@dataclass(frozen=True, slots=True)
class GeoPoint:
    """A place on WGS 84; ``alt_m`` is metres above mean sea level (EGM96), None where unknown."""

    lat_deg: float
    lon_deg: float
    alt_m: float | None = None

    def __post_init__(self) -> None:
        if not (abs(self.lat_deg) <= MAX_LAT_DEG and abs(self.lon_deg) <= MAX_LON_DEG):
            raise ValueError(f"latitude {self.lat_deg} or longitude {self.lon_deg} is outside WGS 84")


@dataclass(frozen=True, slots=True)
class ErrorEllipse:
    """The area that holds the true place with probability 0.9, as half-axes in metres.

    ``orientation_deg`` is the bearing of the major axis, clockwise from north, in [0, 180).
    """

    semi_major_m: float
    semi_minor_m: float
    orientation_deg: float


@dataclass(frozen=True, slots=True)
class GroundFix:
    """Where a thing seen in a frame stands on the ground, or why that cannot be said."""

    at: datetime
    point: GeoPoint | None
    error_ellipse: ErrorEllipse | None
    error_radius_m: float | None
    """Radius of the circle that holds the true place with probability of at least 0.9."""
    method: Literal["flat_ground", "dem", "sensor", "none"]
    reason_if_none: str | None = None


@dataclass(frozen=True, slots=True)
class Outpost:
    """A watched place. ``geometry`` is a WGS 84 point or polygon, longitude first."""

    id: str
    name: str
    name_ur: str
    kind: OutpostKind
    geometry: BaseGeometry
    watch_radius_m: float
    control_room: str


@dataclass(frozen=True, slots=True)
class Lens:
    """How a lens differs from a pinhole: Brown and Conrady's model, as OpenCV's calibration writes it.

    A point at (x, y) focal lengths right and down of the axis appears, with r2 = x2 + y2, at
    x (1 + k1 r2 + k2 r2^2 + k3 r2^3) + 2 p1 x y + p2 (r2 + 2 x2), and at y likewise with
    p1 (r2 + 2 y2) + 2 p2 x y.
    """

    k1: float = 0.0
    k2: float = 0.0
    p1: float = 0.0
    p2: float = 0.0
    k3: float = 0.0
    centre_x: float = 0.5
    """Where the axis meets the picture, as a share of its width from the left."""
    centre_y: float = 0.5
    """... and of its height from the top."""


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera with its lens: what is needed to know its field of view."""

    name: str
    modality: Modality
    hfov_deg: float
    hfov_sigma_deg: float
    source: str
    """Where the field of view comes from, in words a person can check."""
    lens: Lens | None = None
    """None is a pinhole: makers publish no distortion, so it is known of calibrated cameras only."""


@dataclass(frozen=True, slots=True)
class TelemetrySample:
    """The camera's pose at one moment of a clip.

    Angles are those of the camera, not of the airframe: ``heading_deg`` clockwise from true north,
    ``pitch_deg`` 0 at the horizon and -90 straight down, ``roll_deg`` right side down.
    """

    offset_s: float
    """Seconds from the first frame of the clip."""
    at: datetime | None
    """None where the telemetry carries no clock."""
    point: GeoPoint | None
    height_agl_m: float | None
    """Height above the take-off point, as aircraft report it; from KLV, above the ground in the picture's
    middle. A difference of heights, so of no datum."""
    heading_deg: float | None = None
    pitch_deg: float | None = None
    roll_deg: float | None = None
    hfov_deg: float | None = None
    focal_length_mm: float | None = None
    home: GeoPoint | None = None
    airframe_heading_deg: float | None = None
    """The aircraft's own attitude, nose up and right side down positive: with a fixed mount angle it gives
    the camera's (``ingest/telemetry/mount.py``)."""
    airframe_pitch_deg: float | None = None
    airframe_roll_deg: float | None = None
    ellipsoid_height_m: float | None = None
    """Height above the WGS 84 ellipsoid, where that is what was written; never mixed with ``point.alt_m``
    but by way of the geoid (``detection/terrain.py``)."""
    corners: tuple[GeoPoint, ...] | None = None
    """Where the aircraft says the picture's corners lie: upper left, upper right, lower right, lower left."""


@dataclass(frozen=True, slots=True)
class MountAngles:
    """How a camera without a gimbal is fixed to its airframe, as an operator declares it, in degrees.

    ``heading_deg`` clockwise from the nose, ``pitch_deg`` 0 along the nose and -90 through the floor,
    ``roll_deg`` right side down.
    """

    pitch_deg: float
    heading_deg: float = 0.0
    roll_deg: float = 0.0


@dataclass(frozen=True, slots=True)
class Telemetry:
    """A clip's telemetry or a log: samples in order of ``offset_s``, with what was found and what was not."""

    format: str
    samples: tuple[TelemetrySample, ...]
    skipped: int = 0
    """Records that could not be read and were left out."""
    missing: tuple[str, ...] = ()
    """Fields that no record carries, of: time, position, height, gimbal."""
    warnings: tuple[str, ...] = ()
    time_base: TimeBase = TimeBase.CLIP
    clock: TelemetryClock = TelemetryClock.NONE
    zone: str | None = None
    """The IANA zone that wall times were taken in; None where the format itself says UTC or has no clock."""
    clock_uncertainty_s: float | None = None
    """Half-width in seconds of what is thought to hold the true time, zone mistakes apart."""

    @property
    def georeferenced(self) -> bool:
        """Return whether any sample has both a place and the camera's pitch and heading."""
        return any(
            sample.point is not None and sample.pitch_deg is not None and sample.heading_deg is not None
            for sample in self.samples
        )


@dataclass(frozen=True, slots=True)
class Completeness:
    """What reading a clip to its end gave, beside what its container declares."""

    frames_declared: int | None
    frames_read: int
    corrupt_frames: int
    duration_declared_s: float | None
    duration_read_s: float
    gaps: tuple[tuple[float, float], ...] = ()
    """Holes in the timestamps: (start, end) in seconds from the first frame."""
    reason: str | None = None
    """Why the clip is incomplete, in words an operator can act on; None when it is whole."""
    checked: Literal["every_frame", "keyframes"] = "every_frame"
    """What was decoded to find out: where keyframes alone were, the other frames are there, and unseen."""

    @property
    def complete(self) -> bool:
        """Whether nothing is known to be missing or damaged."""
        return self.reason is None


@dataclass(frozen=True, slots=True)
class Clip:
    """One registered video file. ``id`` is the first 16 hex digits of ``sha256``."""

    id: str
    flight_id: str
    platform: str
    camera: Camera | None
    modality: Modality
    started_at: datetime
    clock_source: ClockSource
    clock_uncertainty_s: float
    duration_s: float
    frame_count: int
    width_px: int
    height_px: int
    frame_rate_hz: float
    codec: str
    object_key: str
    sha256: str
    completeness: Completeness
    file_name: str
    size_bytes: int
    telemetry_format: str | None = None
    telemetry_missing: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    """Doubts a person should know: clock_after_receipt, telemetry_length_differs, ..."""

    def __post_init__(self) -> None:
        require_utc(self.started_at, name="started_at")


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded frame. ``image`` is (height, width, 3) BGR uint8."""

    index: int
    offset_s: float
    image: Image
    is_corrupt: bool = False


@dataclass(frozen=True, slots=True)
class Box:
    """What a detector says of one frame; the box is left, top, right, bottom in pixels."""

    label: str
    confidence: float
    box_xyxy_px: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Detection:
    """One box in one frame of one clip, with its track and its place on the ground."""

    clip_id: str
    at: datetime
    offset_s: float
    frame_index: int
    label: str
    confidence: float
    box_xyxy_px: tuple[float, float, float, float]
    model_id: str
    track_id: int | None
    """Number of the track within this clip; identities never outlive a clip."""
    fix: GroundFix
    east_m: float | None = None
    """Metres east and north of the camera's ground point, for clustering free of the pose error
    that all boxes of a frame share."""
    north_m: float | None = None


@dataclass(frozen=True, slots=True)
class Track:
    """One thing followed through a clip."""

    clip_id: str
    id: int
    label: str
    started_at: datetime
    ended_at: datetime
    hits: int
    peak_confidence: float
    fixes: tuple[GroundFix, ...] = ()


@dataclass(frozen=True, slots=True)
class Coverage:
    """One look of the camera: the ground it could see, so that "not seen" and "not looked" differ."""

    clip_id: str
    at: datetime
    offset_s: float
    frame_index: int
    footprint: BaseGeometry | None
    """Polygon on WGS 84, longitude first; None with ``reason_if_none`` where it cannot be said."""
    reason_if_none: str | None = None
    gsd_m: float | None = None
    """Ground sample distance: metres that one pixel across the view covers in the frame's middle."""
    blind_to: tuple[str, ...] = ()
    """Labels of things that would be too small here to be claimed: none seen says nothing of them."""


@dataclass(frozen=True, slots=True)
class Event:
    """A question for a person: something of a kind, near a place, for a time, with its uncertainty."""

    id: str
    kind: EventKind
    clip_id: str | None
    """The clip that shows it; None where sensors report it."""
    outpost_id: str
    started_at: datetime
    ended_at: datetime
    peak_at: datetime
    peak_frame_index: int | None
    """None where there is no clip."""
    fix: GroundFix
    distance_m: float
    bearing_deg: float
    """Bearing from the outpost to the event, clockwise from true north."""
    p_inside: float
    """Probability that the true place lies within the outpost's watch radius."""
    count_low: int
    count: int
    count_high: int
    in_view: int
    """All of the kind seen in the peak frame, whether or not they belong to the event."""
    confidence: float
    model_id: str | None
    """None where no model looked."""
    rule_version: str
    evidence_keys: tuple[str, ...] = ()
    review: Review = Review.UNREVIEWED
    window: str | None = None
    """The window of readings in which it starts; None where a clip shows it."""
    sensor_ids: tuple[str, ...] = ()
    """Every sensor that reports it, in order of its first trip."""
    measures: Mapping[str, float] = field(default_factory=dict)
    """Figures that belong to its kind, units in the names: ``speed_m_s``, ``dwell_s``."""
    notes: tuple[str, ...] = ()
    """Why it is less or more than it seems, in words: what is expected here at this hour, what moves."""
    lowered_by: int = 0
    """Levels of priority taken off because it is expected; it is never hidden."""
    suppressed_by: str | None = None
    """Why no alert is raised of it: an own vehicle, a schedule, the baseline. It stays on record."""


@dataclass(frozen=True, slots=True)
class Incident:
    """Events of one happening, seen in overlapping flights, consecutive clips and by sensors."""

    id: str
    """Follows from its earliest event, whatever the order in which its events came."""
    event_ids: tuple[str, ...]
    """In order of start."""
    outpost_ids: tuple[str, ...]
    kinds: tuple[EventKind, ...]
    started_at: datetime
    ended_at: datetime
    fix: GroundFix
    """Of the event whose place is known best."""
    count: int
    """The largest count that any of its flights gives; of sensors where no flight saw it."""


@dataclass(frozen=True, slots=True)
class Recall:
    """Share of the things there that a model finds, by label, as measured on labelled images."""

    overall: Mapping[str, float] = field(default_factory=dict)
    bands: tuple[tuple[float, Mapping[str, float]], ...] = ()
    """By ground sample distance, ascending: the largest ``gsd_m`` of each band and its recall by label."""

    def at(self, gsd_m: float | None) -> Mapping[str, float]:
        """Return the recall by label at a ground sample distance: the band's, else what holds over all.

        Beyond the coarsest band nothing was measured, so nothing is returned.
        """
        if gsd_m is None or not self.bands:
            return self.overall
        for largest_gsd_m, by_label in self.bands:
            if gsd_m <= largest_gsd_m:
                return {**self.overall, **by_label}
        return {}


@dataclass(frozen=True, slots=True)
class Sensor:
    """A sensor that reports on its own, as the registry knows it (``outwatch/domain/sensors.py``)."""

    id: str
    name: str
    kinds: tuple[str, ...]
    """What it observes: motion, seismic, gate, temperature, ..."""
    point: GeoPoint
    expected_interval: timedelta | None
    """It reports at least so often; None where it speaks only when something happens."""
    unit: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    trip_from: float | None = None
    """A value from here on is a trip; None for a sensor whose readings are never one."""
    false_share: float = 0.5
    """Share of its trips that are false alarms, as far as anyone knows; a half where nobody counted."""
    aliases: tuple[str, ...] = ()
    """Further ids by which feeds name it."""


@dataclass(frozen=True, slots=True)
class SensorReading:
    """One accepted reading. ``id`` follows from what it says: the same reading twice has one id."""

    id: str
    sensor_id: str
    kind: str
    at: datetime
    """When it was observed (SensorThings: phenomenonTime)."""
    received_at: datetime
    point: GeoPoint
    value: float
    unit: str | None
    feed: str
    details: Mapping[str, str] = field(default_factory=dict)
    """What else the feed said, as text: a camera's label, a battery."""

    def __post_init__(self) -> None:
        require_utc(self.at, name="at")
        require_utc(self.received_at, name="received_at")


@dataclass(frozen=True, slots=True)
class Observation:
    """What a feed's payload says, before the registry was asked whether it can be."""

    sensor: str
    """The sensor's id, as the feed or its mapping names it."""
    kind: str
    value: float
    at: datetime | None
    """None where the payload has no time: the time of receipt then stands."""
    unit: str | None = None
    source_id: str | None = None
    """The feed's own id of the message, where it has one: a re-delivery carries it again."""
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RefusedReading:
    """A reading kept apart, with its payload and the reason."""

    id: str
    feed: str
    received_at: datetime
    reason: Literal["unreadable", "unknown_sensor", "unknown_kind", "out_of_range", "in_future", "duplicate"]
    why: str
    """The reason in words that a person can act on."""
    payload: str
    sensor_id: str | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Alert:
    """What a control room is asked to look at: one a happening, however many events report it."""

    id: str
    dedup_key: str
    priority: Priority
    kind: EventKind
    outpost_id: str
    control_room: str
    event_ids: tuple[str, ...]
    raised_at: datetime
    captured_from: datetime
    captured_to: datetime
    message_en: str
    message_ur: str
    state: AlertState = AlertState.NEW
    payload: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step did: keys and counts only, small enough for any message bus."""

    step: str
    input: str
    outputs: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    error: str | None = None
    notes: tuple[str, ...] = ()
    """What a person should know though nothing failed: why a file was refused or nothing is located."""
