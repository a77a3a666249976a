"""Outposts are read whole or refused with every fault named."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import mapping

from outwatch.domain.errors import ConfigInvalid
from outwatch.domain.outposts import MAX_WATCH_RADIUS_M, parse_outposts
from outwatch.domain.types import OutpostKind

SQUARE = [[71.0, 33.0], [71.01, 33.0], [71.01, 33.01], [71.0, 33.01], [71.0, 33.0]]


def feature(**changes: Any) -> dict[str, Any]:
    """Return a valid feature with some properties (or its geometry) replaced."""
    geometry = changes.pop("geometry", {"type": "Point", "coordinates": [71.445, 33.5862]})
    properties = {
        "id": "post-1",
        "name": "Upper Post",
        "name_ur": "بالائی چوکی",
        "kind": "police_outpost",
        "watch_radius_m": 400,
        "control_room": "kohat",
    }
    return {"type": "Feature", "properties": properties | changes, "geometry": geometry}


def collection(*features: Any) -> dict[str, Any]:
    """Return a FeatureCollection."""
    return {"type": "FeatureCollection", "features": list(features)}


def fault_of(data: object) -> str | None:
    """Return what the parser says against ``data``, None where it takes it."""
    try:
        parse_outposts(data, source="f")
    except ConfigInvalid as error:
        return str(error)
    return None


def test_a_good_file_gives_its_outposts_in_order() -> None:
    """Names in both scripts, kind, radius and longitude-first geometry come through."""
    first, second = parse_outposts(
        collection(
            feature(),
            feature(id="school", kind="school", geometry={"type": "Polygon", "coordinates": [SQUARE]}),
        ),
        source="a.geojson",
    )
    assert (first.id, first.name_ur, first.kind) == ("post-1", "بالائی چوکی", OutpostKind.POLICE_OUTPOST)
    assert (first.geometry.x, first.geometry.y) == (71.445, 33.5862)
    assert first.watch_radius_m == 400.0
    assert (second.id, second.geometry.geom_type) == ("school", "Polygon")


def test_the_sample_file_is_read() -> None:
    """The three invented outposts of the samples are valid."""
    samples = os.environ.get("OUTWATCH_SAMPLES")
    if not samples:
        pytest.skip("OUTWATCH_SAMPLES is not set: the sample outposts are not there")
    data = json.loads((Path(samples) / "outposts.geojson").read_text(encoding="utf-8"))
    outposts = parse_outposts(data, source="outposts.geojson")
    assert [outpost.id for outpost in outposts] == ["sample-post", "sample-school", "far-post"]


@pytest.mark.parametrize(
    ("changes", "field", "found"),
    [
        ({"id": ""}, "id", "''"),
        ({"id": 7}, "id", "7"),
        ({"name": "a\nBcc: x"}, "name", "'a\\nBcc: x'"),
        ({"name_ur": None}, "name_ur", "None"),
        ({"control_room": "  "}, "control_room", "'  '"),
        ({"kind": "mosque"}, "kind", "'mosque'"),
        ({"kind": ["school"]}, "kind", "['school']"),
        ({"watch_radius_m": 0}, "watch_radius_m", "0"),
        ({"watch_radius_m": True}, "watch_radius_m", "True"),
        ({"watch_radius_m": "400"}, "watch_radius_m", "'400'"),
        ({"watch_radius_m": float("nan")}, "watch_radius_m", "nan"),
        ({"watch_radius_m": MAX_WATCH_RADIUS_M + 1}, "watch_radius_m", "20001.0"),
        ({"watch_radius_m": 10**400}, "watch_radius_m", "1000000"),
        (
            {"geometry": {"type": "Point", "coordinates": [71, 33, 10**400]}},
            "geometry, coordinates",
            "[71, 33",
        ),
        ({"geometry": None}, "geometry", "None"),
        ({"geometry": {"type": "LineString", "coordinates": SQUARE}}, "geometry", "'LineString'"),
        ({"geometry": {"type": "Point", "coordinates": [71.4]}}, "geometry, coordinates", "[71.4]"),
        ({"geometry": {"type": "Point", "coordinates": "71,33"}}, "geometry, coordinates", "'71,33'"),
        ({"geometry": {"type": "Polygon", "coordinates": [SQUARE[:-1]]}}, "coordinates[0]", "[[71.0, 33.0]"),
        (
            {"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 1, 5], [1, 0], [0, 0]]]}},
            "geometry: expected a buildable shape, with a height in all positions or in none",
            "setting an array element",
        ),
        ({"geometry": {"type": "Polygon", "coordinates": SQUARE}}, "coordinates[0][0]", "71.0"),
        (
            {
                "geometry": {
                    "type": "Polygon",
                    "coordinates": [[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]],
                }
            },
            "geometry",
            "Self-intersection",
        ),
    ],
)
def test_a_fault_names_file_feature_field_and_what_was_found(
    changes: dict[str, Any], field: str, found: str
) -> None:
    """A person can mend the file from the message alone."""
    bad = feature(**({"id": "other"} | changes))
    with pytest.raises(ConfigInvalid) as caught:
        parse_outposts(collection(feature(), bad), source="posts.geojson")
    message = str(caught.value)
    assert "posts.geojson" in message
    assert f"feature 1 (id {bad['properties']['id']!r})" in message
    assert field in message
    assert "expected" in message
    assert found in message


def test_all_faults_are_told_at_once() -> None:
    """Two bad fields of one feature and one of another make three faults."""
    with pytest.raises(ConfigInvalid, match="3 faults") as caught:
        parse_outposts(collection(feature(kind="x", name=""), feature(id="b", name_ur=3)), source="f")
    lines = str(caught.value).splitlines()[1:]
    assert [line.split(":")[0].rsplit(", ", 1)[1] for line in lines] == ["name", "kind", "name_ur"]


def test_a_feature_without_an_id_is_named_by_its_place() -> None:
    """The index is enough to find it."""
    nameless = feature()
    del nameless["properties"]["id"]
    with pytest.raises(ConfigInvalid, match=r"feature 0 \(no id\), id: expected text"):
        parse_outposts(collection(nameless), source="f")


def test_an_id_used_twice_names_both_features() -> None:
    """Events would be laid at the wrong door otherwise."""
    with pytest.raises(ConfigInvalid, match=r"feature 2 \(id 'post-1'\), id: expected an id that feature 0"):
        parse_outposts(collection(feature(), feature(id="b"), feature()), source="f")


def test_swapped_coordinates_are_suspected() -> None:
    """Latitude first is the commonest slip; it shows where the longitude is past 90 degrees."""
    wrong = {"type": "Point", "coordinates": [35.9, 104.3]}
    with pytest.raises(ConfigInvalid, match="latitude and longitude look swapped"):
        parse_outposts(collection(feature(geometry=wrong)), source="f")


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (None, "None"),
        ([], "[]"),
        ({"type": "Feature"}, "'Feature'"),
        ({"type": "FeatureCollection"}, "features: expected"),
        (collection(), "at least one feature"),
        (collection("x"), "feature 0: expected a GeoJSON Feature"),
        (collection({"type": "Feature"}), "feature 0, properties"),
    ],
)
def test_what_is_not_a_feature_collection_is_refused(data: object, found: str) -> None:
    """An empty list too: a house that watches nothing must not look well."""
    with pytest.raises(ConfigInvalid) as caught:
        parse_outposts(data, source="f")
    assert found in str(caught.value)


@pytest.mark.parametrize("name", ["urn:ogc:def:crs:OGC:1.3:CRS84", "EPSG:4326", "urn:ogc:def:crs:EPSG::4326"])
def test_wgs84_by_its_names_is_taken(name: str) -> None:
    """The names of WGS 84 that older tools write are taken, in any order of keys."""
    for crs in (
        {"type": "name", "properties": {"name": name}},
        {"properties": {"name": name, "note": "x"}, "type": "name"},
    ):
        assert len(parse_outposts(collection(feature()) | {"crs": crs}, source="f")) == 1


@pytest.mark.parametrize(
    "crs",
    [
        {"type": "name", "properties": {"name": "EPSG:32642"}},
        {"type": "name", "properties": {"name": "EPSG:32642", "note": "EPSG:4326"}},
        {"type": "link", "properties": {"href": "EPSG:4326"}},
        {"properties": None, "type": "EPSG:4326"},
        "EPSG:4326",
        [],
    ],
)
def test_a_projected_file_is_refused(crs: object) -> None:
    """RFC 7946 knows WGS 84 only; what names no CRS in the way of GeoJSON 2008 is refused too."""
    with pytest.raises(ConfigInvalid, match="export as EPSG:4326"):
        parse_outposts(collection(feature()) | {"crs": crs}, source="f")


names = st.text(
    st.characters(exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp")), min_size=1, max_size=20
).filter(lambda text: bool(text.strip()))


@settings(max_examples=60, deadline=None)
@given(
    name=names,
    kind=st.sampled_from(list(OutpostKind)),
    radius_m=st.floats(0.1, MAX_WATCH_RADIUS_M),
    lon_deg=st.floats(-180, 180),
    lat_deg=st.floats(-90, 90),
)
def test_what_is_written_is_read(
    name: str, kind: OutpostKind, radius_m: float, lon_deg: float, lat_deg: float
) -> None:
    """Every valid outpost survives a round trip through JSON."""
    written = feature(
        name=name,
        kind=kind.value,
        watch_radius_m=radius_m,
        geometry={"type": "Point", "coordinates": [lon_deg, lat_deg]},
    )
    (read,) = parse_outposts(json.loads(json.dumps(collection(written))), source="f")
    assert (name.strip(), kind, radius_m) == (read.name, read.kind, read.watch_radius_m)
    assert {"type": "Point", "coordinates": (lon_deg, lat_deg)} == mapping(read.geometry)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(
    key=st.sampled_from(["id", "name", "name_ur", "kind", "watch_radius_m", "control_room"]),
    value=json_values,
)
def test_any_value_is_taken_or_refused_by_name(key: str, value: object) -> None:
    """Nothing a file can hold makes the parser fail in another way."""
    fault = fault_of(collection(feature(**{key: value})))
    assert fault is None or f", {key}: expected" in fault


@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from(["Point", "Polygon", "MultiPolygon"]), value=json_values)
def test_any_coordinates_are_taken_or_refused_by_name(kind: str, value: object) -> None:
    """Coordinates of any shape give a valid geometry or a named fault."""
    data = collection(feature(geometry={"type": kind, "coordinates": value}))
    fault = fault_of(data)
    if fault is None:
        assert parse_outposts(data, source="f")[0].geometry.is_valid
    else:
        assert ", geometry" in fault
