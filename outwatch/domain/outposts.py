"""Outposts out of GeoJSON, with every fault named so that a person can mend the file in one go.

Belongs here: what a FeatureCollection (RFC 7946) must hold to be a list of watched places. Not here:
reading the file, and distances to the places (``geometry.py``).
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from shapely.errors import GEOSException
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry
from shapely.validation import explain_validity

from outwatch.domain.errors import ConfigInvalid
from outwatch.domain.types import Outpost, OutpostKind

MAX_WATCH_RADIUS_M = 20_000.0
"""Beyond the radio reach of the aircraft in use (DJI states 8-20 km in the open) "near an outpost" has
no meaning, and a larger number is a slip of units."""
_KINDS = tuple(str(kind) for kind in OutpostKind)
_POSITION, _RING = 1, 2
_NESTING = {"Point": _POSITION, "Polygon": 3, "MultiPolygon": 4}
"""Levels of lists in a geometry's coordinates (RFC 7946, section 3.1)."""
_MIN_RING = 4
_MAX_LON_DEG, _MAX_LAT_DEG = 180, 90
_AXES = (2, 3)
"""Longitude and latitude, with or without a height."""
_SHOWN = 60
"""Characters of a wrong value that an error message repeats."""
_WGS84_NAMES = ("crs84", "epsg:4326", "epsg::4326")
_Fields = Mapping[str, Any]


@dataclass(slots=True)
class _Faults:
    """What is wrong with a file, gathered so that all of it is told at once."""

    source: str
    found: list[str] = field(default_factory=list)

    def add(self, where: str, *, expected: str, found: object) -> None:
        """Note one fault at ``where``."""
        text = repr(found)
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
        self.found.append(f"{where}: expected {expected}, found {shown}")

    def raise_if_any(self) -> None:
        """Raise ``ConfigInvalid`` with every fault, one a line."""
        if self.found:
            count = "1 fault" if len(self.found) == 1 else f"{len(self.found)} faults"
            raise ConfigInvalid("\n  ".join([f"outposts file {self.source}: {count}", *self.found]))


def parse_outposts(data: object, *, source: str) -> tuple[Outpost, ...]:
    """Return the outposts of a parsed GeoJSON FeatureCollection (RFC 7946), in its order.

    Args:
        data: what ``json.loads`` gave.
        source: the file's name, for error messages.

    Raises:
        ConfigInvalid: anything is wrong; the message names the file and, for each fault, the feature
            (index and id), the field, what was expected and what was found.
    """
    faults = _Faults(source)
    features = _features(data, faults=faults)
    faults.raise_if_any()
    seen: dict[str, int] = {}
    outposts = [_outpost(feature, index=index, seen=seen, faults=faults) for index, feature in features]
    faults.raise_if_any()
    return tuple(outpost for outpost in outposts if outpost is not None)


def _features(data: object, *, faults: _Faults) -> list[tuple[int, object]]:
    if not isinstance(data, Mapping) or data.get("type") != "FeatureCollection":
        found = data.get("type") if isinstance(data, Mapping) else data
        faults.add("type", expected="a GeoJSON FeatureCollection", found=found)
        return []
    _check_crs(data.get("crs"), faults=faults)
    features = data.get("features")
    if not isinstance(features, list) or not features:
        faults.add("features", expected="a list of at least one feature to watch", found=features)
        return []
    return list(enumerate(features))


def _check_crs(crs: object, *, faults: _Faults) -> None:
    # RFC 7946 dropped "crs", yet GIS tools still write it, and a projected one moves every outpost.
    if crs is None:
        return
    properties = crs.get("properties") if isinstance(crs, Mapping) else None
    name = properties.get("name") if isinstance(properties, Mapping) else None
    if not isinstance(name, str) or not name.strip().lower().endswith(_WGS84_NAMES):
        expected = "none, or a name of WGS 84 (export as EPSG:4326)"
        faults.add("crs", expected=expected, found=crs if name is None else name)


def _outpost(feature: object, *, index: int, seen: dict[str, int], faults: _Faults) -> Outpost | None:
    before = len(faults.found)
    where = f"feature {index}"
    if not isinstance(feature, Mapping) or feature.get("type") != "Feature":
        faults.add(where, expected="a GeoJSON Feature", found=feature)
        return None
    properties = feature.get("properties")
    if not isinstance(properties, Mapping):
        faults.add(f"{where}, properties", expected="an object", found=properties)
        return None
    where = f"{where} (id {properties['id']!r})" if "id" in properties else f"{where} (no id)"
    outpost_id = _text(properties, "id", where=where, faults=faults)
    name, name_ur, control_room = (
        _text(properties, key, where=where, faults=faults) for key in ("name", "name_ur", "control_room")
    )
    kind = _kind(properties, where=where, faults=faults)
    radius_m = _radius_m(properties, where=where, faults=faults)
    geometry = _geometry(feature.get("geometry"), where=f"{where}, geometry", faults=faults)
    if outpost_id and seen.setdefault(outpost_id, index) != index:
        faults.add(f"{where}, id", expected=f"an id that feature {seen[outpost_id]} lacks", found=outpost_id)
    if len(faults.found) > before or kind is None or geometry is None:
        return None
    return Outpost(
        id=outpost_id,
        name=name,
        name_ur=name_ur,
        kind=kind,
        geometry=geometry,
        watch_radius_m=radius_m,
        control_room=control_room,
    )


def _text(properties: _Fields, key: str, *, where: str, faults: _Faults) -> str:
    value = properties.get(key)
    # Control characters would break mail headers and terminals that names are shown in; format
    # characters (Cf) stay, because Urdu is written with some.
    if (
        isinstance(value, str)
        and value.strip()
        and not any(unicodedata.category(character) in {"Cc", "Cs"} for character in value)
    ):
        return value.strip()
    faults.add(f"{where}, {key}", expected="text without control characters", found=value)
    return ""


def _kind(properties: _Fields, *, where: str, faults: _Faults) -> OutpostKind | None:
    value = properties.get("kind")
    if isinstance(value, str) and value in _KINDS:
        return OutpostKind(value)
    faults.add(f"{where}, kind", expected=f"one of {', '.join(_KINDS)}", found=value)
    return None


def _radius_m(properties: _Fields, *, where: str, faults: _Faults) -> float:
    value = properties.get("watch_radius_m")
    if _is_number(value) and 0 < value <= MAX_WATCH_RADIUS_M:
        return float(value)
    expected = f"metres above 0 and at most {MAX_WATCH_RADIUS_M:.0f}"
    faults.add(f"{where}, watch_radius_m", expected=expected, found=value)
    return 0.0


def _geometry(value: object, *, where: str, faults: _Faults) -> BaseGeometry | None:
    kind = value.get("type") if isinstance(value, Mapping) else None
    if not isinstance(value, Mapping) or kind not in _NESTING:
        faults.add(where, expected=f"a {', '.join(_NESTING)}", found=kind or value)
        return None
    coordinates = value.get("coordinates")
    before = len(faults.found)
    _check_coordinates(coordinates, levels=_NESTING[kind], where=f"{where}, coordinates", faults=faults)
    if len(faults.found) > before:
        return None
    try:
        geometry: BaseGeometry = shape({"type": kind, "coordinates": coordinates})
    except (GEOSException, ValueError) as error:
        faults.add(
            where, expected="a buildable shape, with a height in all positions or in none", found=str(error)
        )
        return None
    if geometry.is_empty or not geometry.is_valid:
        faults.add(where, expected="a valid shape", found=explain_validity(geometry))
        return None
    return geometry


def _check_coordinates(value: object, *, levels: int, where: str, faults: _Faults) -> None:
    """Check lists nested ``levels`` deep: positions, then rings, then polygons."""
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        faults.add(where, expected="a list of coordinates", found=value)
    elif levels == _POSITION:
        _check_position(value, where=where, faults=faults)
    else:
        if levels == _RING:
            _check_ring(value, where=where, faults=faults)
        for index, part in enumerate(value):
            _check_coordinates(part, levels=levels - 1, where=f"{where}[{index}]", faults=faults)


def _check_ring(ring: Sequence[Any], *, where: str, faults: _Faults) -> None:
    if len(ring) < _MIN_RING or ring[0] != ring[-1]:
        faults.add(
            where, expected=f"a ring of at least {_MIN_RING} positions whose last is its first", found=ring
        )


def _check_position(position: Sequence[Any], *, where: str, faults: _Faults) -> None:
    if len(position) not in _AXES or not all(_is_number(number) for number in position):
        faults.add(where, expected="[longitude, latitude] in degrees", found=position)
        return
    lon_deg, lat_deg = position[:2]
    if abs(lon_deg) <= _MAX_LON_DEG and abs(lat_deg) <= _MAX_LAT_DEG:
        return
    swapped = abs(lon_deg) <= _MAX_LAT_DEG and abs(lat_deg) <= _MAX_LON_DEG
    hint = "; latitude and longitude look swapped" if swapped else ""
    expected = f"longitude within {_MAX_LON_DEG} first, then latitude within {_MAX_LAT_DEG} degrees{hint}"
    faults.add(where, expected=expected, found=position)


def _is_number(value: object) -> TypeGuard[int | float]:
    # Compared rather than converted: a JSON integer may be too large for any float; NaN is never below.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
