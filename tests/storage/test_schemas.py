"""Domain values survive the way to tables and back unchanged, and tables are GeoParquet 1.1."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS

from outwatch.domain.errors import UnsupportedFormat
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
    Review,
    Telemetry,
    TelemetrySample,
    Track,
)
from storage import schemas

quick = settings(max_examples=40, deadline=None)
floats = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 2**40)
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
times = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
points = st.builds(GeoPoint, st.floats(-90, 90), st.floats(-180, 180), st.none() | floats)
fixes = st.builds(
    GroundFix,
    at=times,
    point=st.none() | points,
    error_ellipse=st.none() | st.builds(ErrorEllipse, floats, floats, floats),
    error_radius_m=st.none() | floats,
    method=st.sampled_from(["flat_ground", "dem", "none"]),
    reason_if_none=st.none() | words,
)
detections = st.builds(
    Detection,
    clip_id=words,
    at=times,
    offset_s=floats,
    frame_index=counts,
    label=words,
    confidence=floats,
    box_xyxy_px=st.tuples(floats, floats, floats, floats),
    model_id=words,
    track_id=st.none() | counts,
    fix=fixes,
    east_m=st.none() | floats,
    north_m=st.none() | floats,
)
tracks = st.builds(
    Track,
    clip_id=words,
    id=counts,
    label=words,
    started_at=times,
    ended_at=times,
    hits=counts,
    peak_confidence=floats,
    fixes=st.lists(fixes, max_size=4).map(tuple),
)
footprints = st.builds(
    lambda lon, lat, size: shapely.box(lon, lat, lon + size, lat + size),
    st.floats(-170, 170), st.floats(-80, 80), st.floats(1e-5, 1),
)  # fmt: skip
looks = st.builds(
    Coverage,
    clip_id=words,
    at=times,
    offset_s=floats,
    frame_index=counts,
    footprint=st.none() | footprints,
    reason_if_none=st.none() | words,
    gsd_m=st.none() | floats,
    blind_to=st.lists(words, max_size=2).map(tuple),
)
events = st.builds(
    Event,
    id=words,
    kind=st.sampled_from(EventKind),
    clip_id=words,
    outpost_id=words,
    started_at=times,
    ended_at=times,
    peak_at=times,
    peak_frame_index=counts,
    fix=fixes,
    distance_m=floats,
    bearing_deg=floats,
    p_inside=floats,
    count_low=counts,
    count=counts,
    count_high=counts,
    in_view=counts,
    confidence=floats,
    model_id=words,
    rule_version=words,
    evidence_keys=st.lists(words, max_size=3).map(tuple),
    review=st.sampled_from(Review),
    measures=st.dictionaries(words, floats, max_size=2),
    notes=st.lists(words, max_size=2).map(tuple),
    lowered_by=st.integers(0, 2),
    suppressed_by=st.none() | words,
)
samples = st.builds(
    TelemetrySample,
    offset_s=floats,
    at=st.none() | times,
    point=st.none() | points,
    height_agl_m=st.none() | floats,
    heading_deg=st.none() | floats,
    pitch_deg=st.none() | floats,
    roll_deg=st.none() | floats,
    hfov_deg=st.none() | floats,
    focal_length_mm=st.none() | floats,
    home=st.none() | points,
)
telemetry = st.builds(
    Telemetry,
    format=words,
    samples=st.lists(samples, max_size=4).map(tuple),
    skipped=counts,
    missing=st.lists(words, max_size=3).map(tuple),
    warnings=st.lists(words, max_size=3).map(tuple),
)
clips = st.builds(
    Clip,
    id=words,
    flight_id=words,
    platform=words,
    camera=st.none() | st.builds(Camera, words, st.sampled_from(Modality), floats, floats, words),
    modality=st.sampled_from(Modality),
    started_at=times,
    clock_source=st.sampled_from(ClockSource),
    clock_uncertainty_s=floats,
    duration_s=floats,
    frame_count=counts,
    width_px=counts,
    height_px=counts,
    frame_rate_hz=floats,
    codec=words,
    object_key=words,
    sha256=words,
    completeness=st.builds(
        Completeness,
        frames_declared=st.none() | counts,
        frames_read=counts,
        corrupt_frames=counts,
        duration_declared_s=st.none() | floats,
        duration_read_s=floats,
        gaps=st.lists(st.tuples(floats, floats), max_size=2).map(tuple),
        reason=st.none() | words,
    ),
    file_name=words,
    size_bytes=st.integers(0, 2**48),
    telemetry_format=st.none() | words,
    telemetry_missing=st.lists(words, max_size=2).map(tuple),
    flags=st.lists(words, max_size=2).map(tuple),
)

AT = datetime(2026, 3, 1, 18, 30, tzinfo=UTC)
PLACE = GeoPoint(34.0151, 71.5249, 359.0)
FIX = GroundFix(AT, PLACE, ErrorEllipse(9.0, 6.0, 30.0), 9.0, "flat_ground")
LOST = GroundFix(AT, None, None, None, "none", "the ray passes above the horizon")
SEEN = Detection("c", AT, 0.0, 0, "person", 0.9, (1.0, 2.0, 3.0, 4.0), "m", 7, FIX, 1.0, -2.0)


def through_parquet(table: pa.Table) -> pa.Table:
    """Return a table as it comes out of a Parquet file."""
    file = io.BytesIO()
    pq.write_table(table, file)
    return pq.read_table(file)


@quick
@given(st.lists(detections, max_size=4))
def test_detections_round_trip(expected: list[Detection]) -> None:
    """Every detection comes back exactly, in order, through a Parquet file."""
    assert expected == schemas.detections_from(through_parquet(schemas.detections_table(expected)))


@quick
@given(st.lists(tracks, max_size=3))
def test_tracks_round_trip(expected: list[Track]) -> None:
    """Every track comes back exactly, with its fixes."""
    assert expected == schemas.tracks_from(through_parquet(schemas.tracks_table(expected)))


@quick
@given(st.lists(looks, max_size=4))
def test_coverage_round_trips(expected: list[Coverage]) -> None:
    """Every look comes back exactly, with or without its footprint."""
    assert expected == schemas.coverage_from(through_parquet(schemas.coverage_table(expected)))


@quick
@given(st.lists(events, max_size=4))
def test_events_round_trip(expected: list[Event]) -> None:
    """Every event comes back exactly, with its evidence and review."""
    assert expected == schemas.events_from(through_parquet(schemas.events_table(expected)))


@quick
@given(telemetry)
def test_telemetry_round_trips(expected: Telemetry) -> None:
    """Telemetry comes back exactly, with what was missing and doubted."""
    assert expected == schemas.telemetry_from(through_parquet(schemas.telemetry_table(expected)))


@quick
@given(clips)
def test_clip_round_trips_through_json_text(expected: Clip) -> None:
    """A clip comes back exactly from the text of its manifest."""
    assert expected == schemas.clip_from_json(json.loads(json.dumps(schemas.clip_json(expected))))


def test_times_come_back_in_utc_itself() -> None:
    """Times are UTC by the one name that the domain uses."""
    (found,) = schemas.detections_from(schemas.detections_table([SEEN]))
    assert found.at.tzinfo is UTC
    assert found.fix.at.tzinfo is UTC


@pytest.mark.parametrize("at", [AT.replace(tzinfo=None), AT.astimezone(timezone(timedelta(hours=5)))])
def test_times_not_in_utc_are_refused(at: datetime) -> None:
    """A naive or local time is a mistake of the caller, never taken for UTC."""
    with pytest.raises(ValueError, match="at must be UTC-aware"):
        schemas.detections_table([replace(SEEN, at=at)])


@pytest.mark.parametrize("table", schemas.VERSIONS)
def test_schema_names_its_table_version_and_geometry(table: str) -> None:
    """Metadata say what the table is, and to GeoParquet readers where, in which datum and how covered."""
    metadata = schemas.schema_of(table).metadata
    geo = json.loads(metadata[b"geo"])
    column = geo["columns"]["geometry"]
    assert metadata[b"outwatch.table"] == table.encode()
    assert metadata[b"outwatch.schema_version"] == str(schemas.VERSIONS[table]).encode()
    assert (geo["version"], geo["primary_column"], column["encoding"]) == ("1.1.0", "geometry", "WKB")
    assert CRS.from_json_dict(column["crs"]) == CRS.from_user_input("OGC:CRS84")
    assert column["covering"]["bbox"] == {side: ["bbox", side] for side in ("xmin", "ymin", "xmax", "ymax")}


def test_geometry_is_longitude_first_and_null_where_unknown() -> None:
    """The WKB point and its bbox follow the fix; a thing without a fix has neither."""
    table = schemas.detections_table([SEEN, replace(SEEN, fix=LOST)])
    assert shapely.from_wkb(table["geometry"][0].as_py()) == shapely.Point(71.5249, 34.0151)
    assert table["bbox"][0].as_py() == {"xmin": 71.5249, "ymin": 34.0151, "xmax": 71.5249, "ymax": 34.0151}
    assert table["geometry"][1].as_py() is None
    assert table["bbox"][1].as_py() is None


@pytest.mark.parametrize(
    ("fixes", "expected"),
    [
        ((), None),
        ((LOST,), None),
        ((LOST, FIX), shapely.Point(71.5249, 34.0151)),
        ((FIX, LOST, FIX), shapely.LineString([(71.5249, 34.0151)] * 2)),
    ],
)
def test_track_geometry_is_what_was_located(fixes: tuple[GroundFix, ...], expected: shapely.Geometry) -> None:
    """Two located fixes make a line, one a point, none nothing."""
    table = schemas.tracks_table([Track("c", 1, "car", AT, AT, 2, 0.9, fixes)])
    assert expected == shapely.from_wkb(table["geometry"][0].as_py())


def test_empty_tables_have_the_whole_schema() -> None:
    """Looked, found nothing: a table without rows is a table of its kind."""
    assert schemas.detections_table([]).schema.equals(schemas.schema_of("detections"), check_metadata=True)
    assert schemas.detections_from(schemas.detections_table([])) == []


def test_table_of_another_version_is_refused() -> None:
    """A newer schema is named, not misread."""
    table = schemas.detections_table([SEEN])
    newer = table.replace_schema_metadata({**table.schema.metadata, schemas.VERSION_KEY: b"2"})
    with pytest.raises(UnsupportedFormat, match="expected schema version 1, found 2"):
        schemas.detections_from(newer)


def test_table_without_a_column_is_refused_by_its_name() -> None:
    """What is missing is named."""
    with pytest.raises(UnsupportedFormat, match="missing columns: fix_at, label"):
        schemas.detections_from(schemas.detections_table([SEEN]).drop_columns(["label", "fix_at"]))


def test_telemetry_without_its_metadata_is_refused() -> None:
    """Samples alone do not say their format, nor what was missing."""
    bare = schemas.telemetry_table(Telemetry("dji_srt", ())).replace_schema_metadata(
        schemas.schema_of("telemetry").metadata
    )
    with pytest.raises(UnsupportedFormat, match=r"outwatch\.telemetry"):
        schemas.telemetry_from(bare)


def test_unknown_table_is_refused() -> None:
    """A table without a schema is named, beside those there are."""
    with pytest.raises(UnsupportedFormat, match=r"'rumours'.*detections, tracks"):
        schemas.schema_of("rumours")


def test_clip_json_of_the_first_version_is_read() -> None:
    """A clip registered before sizes were kept has none; nothing else is different."""
    clip = Clip(
        id="c", flight_id="f", platform="p", camera=None, modality=Modality.RGB, started_at=AT,
        clock_source=ClockSource.FILE, clock_uncertainty_s=60.0, duration_s=1.0, frame_count=10, width_px=64,
        height_px=48, frame_rate_hz=10.0, codec="h264", object_key="k", sha256="s",
        completeness=Completeness(10, 10, 0, 1.0, 1.0), file_name="n", size_bytes=0,
    )  # fmt: skip
    first = {name: value for name, value in schemas.clip_json(clip).items() if name != "size_bytes"}
    assert schemas.clip_from_json(first | {"schema_version": 1}) == clip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 3}, "has schema version 3, expected 2"),
        ({"codec": ...}, "codec"),
        ({"pilot": "x"}, "pilot"),
        ({"modality": "x-ray"}, "x-ray"),
        ({"started_at": "2026-03-01T18:30:00"}, "UTC-aware"),
    ],
)
def test_clip_json_that_is_none_is_refused(change: dict[str, object], message: str) -> None:
    """A manifest with a field missing, unknown or wrong names the field."""
    whole = Completeness(10, 10, 0, 1.0, 1.0)
    clip = Clip(
        id="c", flight_id="f", platform="p", camera=None, modality=Modality.RGB, started_at=AT,
        clock_source=ClockSource.FILE, clock_uncertainty_s=60.0, duration_s=1.0, frame_count=10, width_px=64,
        height_px=48, frame_rate_hz=10.0, codec="h264", object_key="k", sha256="s", completeness=whole,
        file_name="n",
        size_bytes=1,
    )  # fmt: skip
    data = {name: value for name, value in {**schemas.clip_json(clip), **change}.items() if value is not ...}
    with pytest.raises(UnsupportedFormat, match=message):
        schemas.clip_from_json(data)


@quick
@given(st.lists(events, max_size=3))
def test_events_of_version_2_are_read(written: list[Event]) -> None:
    """A file from before measures, notes, lowering and suppression gives events without them."""
    table = schemas.events_table(written)
    old = table.drop_columns(["measures", "notes", "lowered_by", "suppressed_by"])
    old = old.replace_schema_metadata({**table.schema.metadata, schemas.VERSION_KEY: b"2"})
    expected = [replace(event, measures={}, notes=(), lowered_by=0, suppressed_by=None) for event in written]
    assert expected == schemas.events_from(through_parquet(old))


@quick
@given(st.lists(looks, max_size=3))
def test_coverage_of_version_1_is_read(written: list[Coverage]) -> None:
    """A file from before sizes were told gives looks without them."""
    table = schemas.coverage_table(written)
    old = table.drop_columns(["gsd_m", "blind_to"])
    old = old.replace_schema_metadata({**table.schema.metadata, schemas.VERSION_KEY: b"1"})
    expected = [replace(look, gsd_m=None, blind_to=()) for look in written]
    assert expected == schemas.coverage_from(through_parquet(old))
