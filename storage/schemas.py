"""The shape of everything that lasts in Parquet or JSON, with a version each, and the way there and back.

Belongs here: Arrow schemas of the lake tables and of a clip's telemetry, the GeoParquet 1.1 metadata
(https://geoparquet.org/releases/v1.1.0), and conversions between domain values and tables, exact in both
directions. Not here: files, stores and partitions (``storage/lake.py``), SQL tables (``storage/tables.py``).

A change of a column's name, type or meaning raises the table's number in ``VERSIONS``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import shapely
from pyproj import CRS

from outwatch.domain.errors import UnsupportedFormat
from outwatch.domain.incidents import Revision
from outwatch.domain.types import (
    Camera,
    Clip,
    ClockSource,
    Completeness,
    Coverage,
    Detection,
    ErrorEllipse,
    Event,
    EventKind,
    GeoPoint,
    GroundFix,
    Modality,
    RefusedReading,
    Review,
    SensorReading,
    Telemetry,
    TelemetryClock,
    TelemetrySample,
    TimeBase,
    Track,
    require_utc,
)

VERSIONS: Mapping[str, int] = {
    "detections": 1,
    "tracks": 1,
    "coverage": 2,
    "readings": 1,
    "refused_readings": 1,
    "events": 3,
    "incidents": 1,
    "telemetry": 2,
}
"""The version of each table's schema, written into every file."""
CLIP_VERSION = 2
"""The version of the JSON form of a clip."""
VERSION_KEY = b"outwatch.schema_version"
_TELEMETRY_KEY = b"outwatch.telemetry"

_Row = dict[str, Any]
_TIME = pa.timestamp("us", tz="UTC")


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


_BOX_PX = ("left_px", "top_px", "right_px", "bottom_px")
_FIX = (
    _required("fix_at", _TIME),
    pa.field("lat_deg", pa.float64()),
    pa.field("lon_deg", pa.float64()),
    pa.field("alt_m", pa.float64()),
    pa.field("error_radius_m", pa.float64()),
    pa.field("error_semi_major_m", pa.float64()),
    pa.field("error_semi_minor_m", pa.float64()),
    pa.field("error_orientation_deg", pa.float64()),
    _required("fix_method", pa.string()),
    pa.field("no_fix_reason", pa.string()),
)
_EVENTS_SINCE_3 = (
    pa.field("measures", pa.map_(pa.string(), pa.float64())),
    pa.field("notes", pa.list_(_required("element", pa.string()))),
    pa.field("lowered_by", pa.int8()),
    pa.field("suppressed_by", pa.string()),
)
_COVERAGE_SINCE_2 = (
    pa.field("gsd_m", pa.float64()),
    pa.field("blind_to", pa.list_(_required("element", pa.string()))),
)
_SINCE: Mapping[tuple[str, str], tuple[pa.Field, ...]] = {
    ("coverage", "1"): _COVERAGE_SINCE_2,
    ("events", "2"): _EVENTS_SINCE_3,
}
"""Columns that a table of an older version lacks, by table and version. They are null where it is read, in a
scan over files of both versions too."""
_FIELDS: Mapping[str, tuple[pa.Field, ...]] = {
    "detections": (
        _required("clip_id", pa.string()),
        _required("at", _TIME),
        _required("offset_s", pa.float64()),
        _required("frame_index", pa.int64()),
        _required("label", pa.string()),
        _required("confidence", pa.float64()),
        *(_required(name, pa.float64()) for name in _BOX_PX),
        _required("model_id", pa.string()),
        pa.field("track_id", pa.int64()),
        *_FIX,
        pa.field("east_m", pa.float64()),
        pa.field("north_m", pa.float64()),
    ),
    "tracks": (
        _required("clip_id", pa.string()),
        _required("track_id", pa.int64()),
        _required("label", pa.string()),
        _required("started_at", _TIME),
        _required("ended_at", _TIME),
        _required("hits", pa.int64()),
        _required("peak_confidence", pa.float64()),
        _required("fixes", pa.list_(_required("element", pa.struct(_FIX)))),
    ),
    "coverage": (
        _required("clip_id", pa.string()),
        _required("at", _TIME),
        _required("offset_s", pa.float64()),
        _required("frame_index", pa.int64()),
        pa.field("no_footprint_reason", pa.string()),
        *_COVERAGE_SINCE_2,
    ),
    # The words of OGC SensorThings 1.1, section 8.2.6 (Observation).
    "readings": (
        _required("reading_id", pa.string()),
        _required("sensor_id", pa.string()),
        _required("observed_property", pa.string()),
        _required("phenomenon_time", _TIME),
        _required("result_time", _TIME),
        _required("result", pa.float64()),
        pa.field("unit_of_measurement", pa.string()),
        _required("feed", pa.string()),
        _required("parameters", pa.string()),
        _required("lat_deg", pa.float64()),
        _required("lon_deg", pa.float64()),
        pa.field("alt_m", pa.float64()),
    ),
    "refused_readings": (
        _required("refusal_id", pa.string()),
        _required("feed", pa.string()),
        _required("result_time", _TIME),
        _required("reason", pa.string()),
        _required("why", pa.string()),
        _required("payload", pa.string()),
        pa.field("sensor_id", pa.string()),
        pa.field("phenomenon_time", _TIME),
    ),
    "events": (
        _required("event_id", pa.string()),
        _required("kind", pa.string()),
        pa.field("clip_id", pa.string()),
        pa.field("window_id", pa.string()),
        _required("sensor_ids", pa.list_(_required("element", pa.string()))),
        _required("outpost_id", pa.string()),
        _required("started_at", _TIME),
        _required("ended_at", _TIME),
        _required("peak_at", _TIME),
        pa.field("peak_frame_index", pa.int64()),
        *_FIX,
        _required("distance_m", pa.float64()),
        _required("bearing_deg", pa.float64()),
        _required("p_inside", pa.float64()),
        _required("count_low", pa.int64()),
        _required("count", pa.int64()),
        _required("count_high", pa.int64()),
        _required("in_view", pa.int64()),
        _required("confidence", pa.float64()),
        pa.field("model_id", pa.string()),
        _required("rule_version", pa.string()),
        _required("evidence_keys", pa.list_(_required("element", pa.string()))),
        _required("review", pa.string()),
        *_EVENTS_SINCE_3,
    ),
    "incidents": (
        _required("incident_id", pa.string()),
        _required("revised_at", _TIME),
        pa.field("merged_into", pa.string()),
        _required("event_ids", pa.list_(_required("element", pa.string()))),
        _required("by", pa.list_(_required("element", pa.string()))),
        _required("outpost_ids", pa.list_(_required("element", pa.string()))),
        _required("kinds", pa.list_(_required("element", pa.string()))),
        pa.field("started_at", _TIME),
        pa.field("ended_at", _TIME),
        pa.field("count", pa.int64()),
        pa.field("lat_deg", pa.float64()),
        pa.field("lon_deg", pa.float64()),
        pa.field("alt_m", pa.float64()),
        pa.field("error_radius_m", pa.float64()),
    ),
    "telemetry": (
        _required("offset_s", pa.float64()),
        pa.field("at", _TIME),
        pa.field("lat_deg", pa.float64()),
        pa.field("lon_deg", pa.float64()),
        pa.field("alt_m", pa.float64()),
        pa.field("height_agl_m", pa.float64()),
        pa.field("heading_deg", pa.float64()),
        pa.field("pitch_deg", pa.float64()),
        pa.field("roll_deg", pa.float64()),
        pa.field("hfov_deg", pa.float64()),
        pa.field("focal_length_mm", pa.float64()),
        pa.field("home_lat_deg", pa.float64()),
        pa.field("home_lon_deg", pa.float64()),
        pa.field("home_alt_m", pa.float64()),
        pa.field("airframe_heading_deg", pa.float64()),
        pa.field("airframe_pitch_deg", pa.float64()),
        pa.field("airframe_roll_deg", pa.float64()),
        pa.field("ellipsoid_height_m", pa.float64()),
        pa.field("corners_lon_lat_deg", pa.list_(_required("element", pa.float64()))),
    ),
}
_GEOMETRY_TYPES: Mapping[str, tuple[str, ...]] = {
    "detections": ("Point",),
    "tracks": ("LineString", "Point"),
    "coverage": ("MultiPolygon", "Polygon"),
    "readings": ("Point",),
    "refused_readings": (),
    "events": ("Point",),
    "incidents": ("Point",),
    "telemetry": ("Point",),
}
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_BBOX = pa.struct([_required(corner, pa.float64()) for corner in _CORNERS])
_GEOMETRY = (pa.field("geometry", pa.binary()), pa.field("bbox", _BBOX))


@cache
def schema_of(table: str) -> pa.Schema:
    """Return a table's Arrow schema with its version and GeoParquet metadata.

    Raises:
        UnsupportedFormat: this Outwatch knows no such table.
    """
    if table not in VERSIONS:
        raise UnsupportedFormat(f"no schema for table {table!r}: expected one of {', '.join(VERSIONS)}")
    metadata = {
        b"geo": json.dumps(_geo(_GEOMETRY_TYPES[table])).encode(),
        b"outwatch.table": table.encode(),
        VERSION_KEY: str(VERSIONS[table]).encode(),
    }
    return pa.schema([*_FIELDS[table], *_GEOMETRY], metadata=metadata)


def _geo(geometry_types: Sequence[str]) -> _Row:
    """Return the ``geo`` file metadata of GeoParquet 1.1 for our one geometry column."""
    column = {
        "encoding": "WKB",
        "geometry_types": list(geometry_types),
        "crs": CRS.from_user_input("OGC:CRS84").to_json_dict(),
        "covering": {"bbox": {corner: ["bbox", corner] for corner in _CORNERS}},
    }
    return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}


def detections_table(detections: Sequence[Detection]) -> pa.Table:
    """Return detections as a table, one row each, in their order; the geometry is the fix's point."""
    rows = [
        {
            "clip_id": item.clip_id,
            "at": item.at,
            "offset_s": item.offset_s,
            "frame_index": item.frame_index,
            "label": item.label,
            "confidence": item.confidence,
            **dict(zip(_BOX_PX, item.box_xyxy_px, strict=True)),
            "model_id": item.model_id,
            "track_id": item.track_id,
            **_fix_row(item.fix),
            "east_m": item.east_m,
            "north_m": item.north_m,
        }
        for item in detections
    ]
    return _table("detections", rows, _points(rows))


def detections_from(table: pa.Table) -> list[Detection]:
    """Return the detections of a table in its order.

    Raises:
        UnsupportedFormat: the table has another schema.
    """
    return [
        Detection(
            clip_id=row["clip_id"],
            at=_utc(row["at"]),
            offset_s=row["offset_s"],
            frame_index=row["frame_index"],
            label=row["label"],
            confidence=row["confidence"],
            box_xyxy_px=(row["left_px"], row["top_px"], row["right_px"], row["bottom_px"]),
            model_id=row["model_id"],
            track_id=row["track_id"],
            fix=_fix(row),
            east_m=row["east_m"],
            north_m=row["north_m"],
        )
        for row in _rows("detections", table)
    ]


def tracks_table(tracks: Sequence[Track]) -> pa.Table:
    """Return tracks as a table, one row each; the geometry is the line through the located fixes.

    A track located once is a point, one never located has no geometry.
    """
    rows = [
        {
            "clip_id": item.clip_id,
            "track_id": item.id,
            "label": item.label,
            "started_at": item.started_at,
            "ended_at": item.ended_at,
            "hits": item.hits,
            "peak_confidence": item.peak_confidence,
            "fixes": [_fix_row(fix) for fix in item.fixes],
        }
        for item in tracks
    ]
    return _table("tracks", rows, _objects(_path(item) for item in tracks))


def tracks_from(table: pa.Table) -> list[Track]:
    """Return the tracks of a table in its order.

    Raises:
        UnsupportedFormat: the table has another schema.
    """
    return [
        Track(
            clip_id=row["clip_id"],
            id=row["track_id"],
            label=row["label"],
            started_at=_utc(row["started_at"]),
            ended_at=_utc(row["ended_at"]),
            hits=row["hits"],
            peak_confidence=row["peak_confidence"],
            fixes=tuple(_fix(fix) for fix in row["fixes"]),
        )
        for row in _rows("tracks", table)
    ]


def coverage_table(looks: Sequence[Coverage]) -> pa.Table:
    """Return looks as a table, one row each; the geometry is the footprint, in two dimensions."""
    rows = [
        {
            "clip_id": item.clip_id,
            "at": item.at,
            "offset_s": item.offset_s,
            "frame_index": item.frame_index,
            "no_footprint_reason": item.reason_if_none,
            "gsd_m": item.gsd_m,
            "blind_to": list(item.blind_to),
        }
        for item in looks
    ]
    return _table("coverage", rows, _objects(item.footprint for item in looks))


def coverage_from(table: pa.Table) -> list[Coverage]:
    """Return the looks of a table in its order.

    Raises:
        UnsupportedFormat: the table has another schema.
    """
    rows = _rows("coverage", table)
    footprints = shapely.from_wkb(table["geometry"].to_numpy())
    return [
        Coverage(
            clip_id=row["clip_id"],
            at=_utc(row["at"]),
            offset_s=row["offset_s"],
            frame_index=row["frame_index"],
            footprint=footprint,
            reason_if_none=row["no_footprint_reason"],
            gsd_m=row["gsd_m"],
            blind_to=tuple(row["blind_to"] or ()),
        )
        for row, footprint in zip(rows, footprints, strict=True)
    ]


def events_table(events: Sequence[Event]) -> pa.Table:
    """Return events as a table, one row each; the geometry is the fix's point."""
    rows = [
        {
            "event_id": item.id,
            "kind": item.kind.value,
            "clip_id": item.clip_id,
            "window_id": item.window,
            "sensor_ids": list(item.sensor_ids),
            "outpost_id": item.outpost_id,
            "started_at": item.started_at,
            "ended_at": item.ended_at,
            "peak_at": item.peak_at,
            "peak_frame_index": item.peak_frame_index,
            **_fix_row(item.fix),
            "distance_m": item.distance_m,
            "bearing_deg": item.bearing_deg,
            "p_inside": item.p_inside,
            "count_low": item.count_low,
            "count": item.count,
            "count_high": item.count_high,
            "in_view": item.in_view,
            "confidence": item.confidence,
            "model_id": item.model_id,
            "rule_version": item.rule_version,
            "evidence_keys": list(item.evidence_keys),
            "review": item.review.value,
            "measures": sorted(item.measures.items()),
            "notes": list(item.notes),
            "lowered_by": item.lowered_by,
            "suppressed_by": item.suppressed_by,
        }
        for item in events
    ]
    return _table("events", rows, _points(rows))


def events_from(table: pa.Table) -> list[Event]:
    """Return the events of a table in its order.

    Raises:
        UnsupportedFormat: the table has another schema.
    """
    return [
        Event(
            id=row["event_id"],
            kind=EventKind(row["kind"]),
            clip_id=row["clip_id"],
            window=row["window_id"],
            sensor_ids=tuple(row["sensor_ids"]),
            outpost_id=row["outpost_id"],
            started_at=_utc(row["started_at"]),
            ended_at=_utc(row["ended_at"]),
            peak_at=_utc(row["peak_at"]),
            peak_frame_index=row["peak_frame_index"],
            fix=_fix(row),
            distance_m=row["distance_m"],
            bearing_deg=row["bearing_deg"],
            p_inside=row["p_inside"],
            count_low=row["count_low"],
            count=row["count"],
            count_high=row["count_high"],
            in_view=row["in_view"],
            confidence=row["confidence"],
            model_id=row["model_id"],
            rule_version=row["rule_version"],
            evidence_keys=tuple(row["evidence_keys"]),
            review=Review(row["review"]),
            measures=dict(row["measures"] or ()),
            notes=tuple(row["notes"] or ()),
            lowered_by=row["lowered_by"] or 0,
            suppressed_by=row["suppressed_by"],
        )
        for row in _rows("events", table)
    ]


def incidents_table(revisions: Sequence[Revision]) -> pa.Table:
    """Return incidents as they stood after changes as a table, one row each; the geometry is where it is."""
    rows = [
        {
            "incident_id": item.incident_id,
            "revised_at": item.revised_at,
            "merged_into": item.merged_into,
            "event_ids": [] if item.incident is None else list(item.incident.event_ids),
            "by": list(item.by),
            "outpost_ids": [] if item.incident is None else list(item.incident.outpost_ids),
            "kinds": [] if item.incident is None else [kind.value for kind in item.incident.kinds],
            "started_at": item.incident and item.incident.started_at,
            "ended_at": item.incident and item.incident.ended_at,
            "count": item.incident and item.incident.count,
            **_point_row(item.incident.fix.point if item.incident else None),
            "error_radius_m": item.incident and item.incident.fix.error_radius_m,
        }
        for item in revisions
    ]
    return _table("incidents", rows, _points(rows))


def readings_table(readings: Sequence[SensorReading]) -> pa.Table:
    """Return readings as a table, one row each, in their order; the geometry is the sensor's place."""
    rows = [
        {
            "reading_id": item.id,
            "sensor_id": item.sensor_id,
            "observed_property": item.kind,
            "phenomenon_time": item.at,
            "result_time": item.received_at,
            "result": item.value,
            "unit_of_measurement": item.unit,
            "feed": item.feed,
            "parameters": json.dumps(dict(item.details), sort_keys=True, ensure_ascii=False),
            **_point_row(item.point),
        }
        for item in readings
    ]
    return _table("readings", rows, _points(rows))


def readings_from(table: pa.Table) -> list[SensorReading]:
    """Return the readings of a table in its order.

    Raises:
        UnsupportedFormat: the table has another schema.
    """
    return [
        SensorReading(
            id=row["reading_id"],
            sensor_id=row["sensor_id"],
            kind=row["observed_property"],
            at=_utc(row["phenomenon_time"]),
            received_at=_utc(row["result_time"]),
            point=GeoPoint(row["lat_deg"], row["lon_deg"], row["alt_m"]),
            value=row["result"],
            unit=row["unit_of_measurement"],
            feed=row["feed"],
            details=json.loads(row["parameters"]),
        )
        for row in _rows("readings", table)
    ]


def refused_readings_table(refused: Sequence[RefusedReading]) -> pa.Table:
    """Return refused readings as a table, one row each, in their order; none has a place."""
    rows = [
        {
            "refusal_id": item.id,
            "feed": item.feed,
            "result_time": item.received_at,
            "reason": item.reason,
            "why": item.why,
            "payload": item.payload,
            "sensor_id": item.sensor_id,
            "phenomenon_time": item.at,
        }
        for item in refused
    ]
    return _table("refused_readings", rows, _objects(None for _ in rows))


def refused_readings_from(table: pa.Table) -> list[RefusedReading]:
    """Return the refused readings of a table in its order.

    Raises:
        UnsupportedFormat: the table has another schema.
    """
    return [
        RefusedReading(
            id=row["refusal_id"],
            feed=row["feed"],
            received_at=_utc(row["result_time"]),
            reason=row["reason"],
            why=row["why"],
            payload=row["payload"],
            sensor_id=row["sensor_id"],
            at=None if row["phenomenon_time"] is None else _utc(row["phenomenon_time"]),
        )
        for row in _rows("refused_readings", table)
    ]


def telemetry_table(telemetry: Telemetry) -> pa.Table:
    """Return a clip's telemetry as a table, one row a sample; the geometry is the camera's position.

    What belongs to the whole (format, missing, skipped, warnings) is in the schema's metadata.
    """
    rows = [
        {
            "offset_s": item.offset_s,
            "at": item.at,
            **_point_row(item.point),
            "height_agl_m": item.height_agl_m,
            "heading_deg": item.heading_deg,
            "pitch_deg": item.pitch_deg,
            "roll_deg": item.roll_deg,
            "hfov_deg": item.hfov_deg,
            "focal_length_mm": item.focal_length_mm,
            **_point_row(item.home, prefix="home_"),
            "airframe_heading_deg": item.airframe_heading_deg,
            "airframe_pitch_deg": item.airframe_pitch_deg,
            "airframe_roll_deg": item.airframe_roll_deg,
            "ellipsoid_height_m": item.ellipsoid_height_m,
            "corners_lon_lat_deg": _flat(item.corners),
        }
        for item in telemetry.samples
    ]
    whole = {
        "format": telemetry.format,
        "missing": telemetry.missing,
        "skipped": telemetry.skipped,
        "warnings": telemetry.warnings,
        "time_base": telemetry.time_base,
        "clock": telemetry.clock,
        "zone": telemetry.zone,
        "clock_uncertainty_s": telemetry.clock_uncertainty_s,
    }
    table = _table("telemetry", rows, _points(rows))
    return table.replace_schema_metadata({**table.schema.metadata, _TELEMETRY_KEY: json.dumps(whole)})


def telemetry_from(table: pa.Table) -> Telemetry:
    """Return the telemetry of a table.

    Raises:
        UnsupportedFormat: the table has another schema, or lacks the metadata of the whole.
    """
    rows = _rows("telemetry", table)
    if _TELEMETRY_KEY not in (table.schema.metadata or {}):
        raise UnsupportedFormat(f"telemetry table lacks the metadata {_TELEMETRY_KEY.decode()!r}")
    whole = json.loads(table.schema.metadata[_TELEMETRY_KEY])
    samples = tuple(
        TelemetrySample(
            offset_s=row["offset_s"],
            at=None if row["at"] is None else _utc(row["at"]),
            point=_point(row),
            height_agl_m=row["height_agl_m"],
            heading_deg=row["heading_deg"],
            pitch_deg=row["pitch_deg"],
            roll_deg=row["roll_deg"],
            hfov_deg=row["hfov_deg"],
            focal_length_mm=row["focal_length_mm"],
            home=_point(row, prefix="home_"),
            airframe_heading_deg=row["airframe_heading_deg"],
            airframe_pitch_deg=row["airframe_pitch_deg"],
            airframe_roll_deg=row["airframe_roll_deg"],
            ellipsoid_height_m=row["ellipsoid_height_m"],
            corners=_unflat(row["corners_lon_lat_deg"]),
        )
        for row in rows
    )
    return Telemetry(
        format=whole["format"],
        samples=samples,
        skipped=whole["skipped"],
        missing=tuple(whole["missing"]),
        warnings=tuple(whole["warnings"]),
        time_base=TimeBase(whole["time_base"]),
        clock=TelemetryClock(whole["clock"]),
        zone=whole["zone"],
        clock_uncertainty_s=whole["clock_uncertainty_s"],
    )


def _flat(corners: Sequence[GeoPoint] | None) -> list[float] | None:
    if corners is None:
        return None
    return [degrees for corner in corners for degrees in (corner.lon_deg, corner.lat_deg)]


def _unflat(flat: Sequence[float] | None) -> tuple[GeoPoint, ...] | None:
    if flat is None:
        return None
    return tuple(GeoPoint(lat_deg, lon_deg) for lon_deg, lat_deg in zip(flat[::2], flat[1::2], strict=True))


def clip_json(clip: Clip) -> dict[str, Any]:
    """Return a clip as JSON values: the same clip gives the same keys and values in the same order."""
    body = asdict(clip) | {
        "modality": clip.modality.value,
        "started_at": clip.started_at.isoformat(),
        "clock_source": clip.clock_source.value,
        "telemetry_missing": list(clip.telemetry_missing),
        "flags": list(clip.flags),
    }
    if clip.camera is not None:
        body["camera"]["modality"] = clip.camera.modality.value
    body["completeness"]["gaps"] = [list(gap) for gap in clip.completeness.gaps]
    return {"schema_version": CLIP_VERSION, **body}


def clip_from_json(data: Mapping[str, Any]) -> Clip:
    """Return the clip that ``clip_json`` wrote.

    Raises:
        UnsupportedFormat: the data has another version, or a field is missing, unknown or wrong.
    """
    version = data.get("schema_version")
    if version == 1:  # before sizes were kept: 0 stands for unknown
        data, version = {**data, "size_bytes": 0}, CLIP_VERSION
    if version != CLIP_VERSION:
        raise UnsupportedFormat(
            f"clip {data.get('id')!r} has schema version {version!r}, expected {CLIP_VERSION}: "
            "read it with the Outwatch that wrote it"
        )
    body = {name: value for name, value in data.items() if name != "schema_version"}
    try:
        camera, whole = body["camera"], body["completeness"]
        gaps = tuple((start, end) for start, end in whole["gaps"])
        body |= {
            "camera": camera and Camera(**{**camera, "modality": Modality(camera["modality"])}),
            "modality": Modality(body["modality"]),
            "started_at": datetime.fromisoformat(body["started_at"]),
            "clock_source": ClockSource(body["clock_source"]),
            "completeness": Completeness(**{**whole, "gaps": gaps}),
            "telemetry_missing": tuple(body["telemetry_missing"]),
            "flags": tuple(body["flags"]),
        }
        return Clip(**body)
    except (KeyError, TypeError, ValueError) as error:
        raise UnsupportedFormat(f"clip {data.get('id')!r} is not as version {version}: {error!r}") from error


def _table(name: str, rows: Sequence[_Row], geometries: npt.NDArray[np.object_]) -> pa.Table:
    schema = schema_of(name)
    columns = [_column(field, rows) for field in _FIELDS[name]]
    geometry = pa.array(shapely.to_wkb(geometries, output_dimension=2), pa.binary())
    return pa.Table.from_arrays([*columns, geometry, _bbox(geometries)], schema=schema)


def _column(field: pa.Field, rows: Sequence[_Row]) -> pa.Array:
    values = [row[field.name] for row in rows]
    if field.type == _TIME:
        # Arrow would take a naive time for UTC without a word.
        values = [value if value is None else require_utc(value, name=field.name) for value in values]
    return pa.array(values, field.type)


def checked(name: str, table: pa.Table) -> pa.Table:
    """Return a table as it is, if it has this Outwatch's columns and version.

    An older one that only lacks columns gets them, null in every row (``_SINCE``).

    Raises:
        UnsupportedFormat: it has neither.
    """
    names = [field.name for field in _FIELDS[name]]
    found = (table.schema.metadata or {}).get(VERSION_KEY, b"none").decode()
    lacking = _SINCE.get((name, found), ())
    for field in lacking:
        table = table.append_column(field, pa.nulls(len(table), field.type))
    missing = sorted({*names, "geometry"}.difference(table.column_names))
    if missing or (found != str(VERSIONS[name]) and not lacking):
        raise UnsupportedFormat(
            f"{name} table: expected schema version {VERSIONS[name]}, found {found}; "
            f"missing columns: {', '.join(missing) or 'none'}"
        )
    return table


def _rows(name: str, table: pa.Table) -> list[_Row]:
    """Return a table's rows without geometry, which repeats what the other columns say exactly."""
    names = [field.name for field in _FIELDS[name]]
    rows: list[_Row] = checked(name, table).select(names).to_pylist()
    return rows


def _bbox(geometries: npt.NDArray[np.object_]) -> pa.StructArray:
    corners = shapely.bounds(geometries).reshape(-1, 4)
    none = pa.array(np.isnan(corners[:, 0]))
    return pa.StructArray.from_arrays([pa.array(side) for side in corners.T], fields=list(_BBOX), mask=none)


def _points(rows: Sequence[_Row]) -> npt.NDArray[np.object_]:
    """Return an array (n,) of points from rows' longitude and latitude, None where there is none."""
    points = np.full(len(rows), None, dtype=object)
    located = np.array([row["lat_deg"] is not None for row in rows], dtype=bool)
    xy = np.array([(row["lon_deg"], row["lat_deg"]) for row in rows if row["lat_deg"] is not None])
    points[located] = shapely.points(xy.reshape(-1, 2))
    return points


def _path(track: Track) -> shapely.LineString | shapely.Point | None:
    places = [(fix.point.lon_deg, fix.point.lat_deg) for fix in track.fixes if fix.point is not None]
    if not places:
        return None
    return shapely.Point(places[0]) if len(places) == 1 else shapely.LineString(places)


def _objects(geometries: Iterable[shapely.Geometry | None]) -> npt.NDArray[np.object_]:
    """Return an array (n,) of geometries or None."""
    return np.fromiter(geometries, dtype=object)


def _fix_row(fix: GroundFix) -> _Row:
    ellipse = fix.error_ellipse
    return {
        "fix_at": fix.at,
        **_point_row(fix.point),
        "error_radius_m": fix.error_radius_m,
        "error_semi_major_m": ellipse and ellipse.semi_major_m,
        "error_semi_minor_m": ellipse and ellipse.semi_minor_m,
        "error_orientation_deg": ellipse and ellipse.orientation_deg,
        "fix_method": fix.method,
        "no_fix_reason": fix.reason_if_none,
    }


def _fix(row: _Row) -> GroundFix:
    major, minor, bearing = (
        row[name] for name in ("error_semi_major_m", "error_semi_minor_m", "error_orientation_deg")
    )
    return GroundFix(
        at=_utc(row["fix_at"]),
        point=_point(row),
        error_ellipse=None if major is None else ErrorEllipse(major, minor, bearing),
        error_radius_m=row["error_radius_m"],
        method=row["fix_method"],
        reason_if_none=row["no_fix_reason"],
    )


def _point_row(point: GeoPoint | None, *, prefix: str = "") -> _Row:
    return {
        f"{prefix}lat_deg": point and point.lat_deg,
        f"{prefix}lon_deg": point and point.lon_deg,
        f"{prefix}alt_m": point and point.alt_m,
    }


def _point(row: _Row, *, prefix: str = "") -> GeoPoint | None:
    lat_deg = row[f"{prefix}lat_deg"]
    return None if lat_deg is None else GeoPoint(lat_deg, row[f"{prefix}lon_deg"], row[f"{prefix}alt_m"])


def _utc(value: datetime) -> datetime:
    return value.astimezone(UTC)
