"""What GeoJSON files of places have in common, with every fault named so that all can be mended in one go.

Belongs here: FeatureCollections (RFC 7946), the texts, numbers and geometries of their features. Not here:
what the properties of a place mean (``outposts.py``, ``sensors.py``), and reading files.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard, TypeVar

from shapely.errors import GEOSException
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry
from shapely.validation import explain_validity

from outwatch.domain.errors import ConfigInvalid

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
_CONTROL = {"Cc", "Cs"}
"""Unicode categories that break mail headers and terminals that names are shown in; format characters (Cf)
stay, because Urdu is written with some."""
T = TypeVar("T")


@dataclass(slots=True)
class _Faults:
    """What is wrong with a file, gathered so that all of it is told at once."""

    file: str
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
            raise ConfigInvalid("\n  ".join([f"{self.file}: {count}", *self.found]))


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature, and how to take what it must hold; what is wrong becomes a fault of its file."""

    index: int
    where: str
    properties: Mapping[str, Any]
    _geometry: object
    _faults: _Faults

    def fault(self, key: str, *, expected: str, found: object) -> None:
        """Note what is wrong with one property, or with the geometry."""
        self._faults.add(f"{self.where}, {key}", expected=expected, found=found)

    def text(self, key: str) -> str:
        """Return a property that must be text without control characters; empty with a fault noted."""
        value = self.properties.get(key)
        if is_text(value):
            return value.strip()
        self.fault(key, expected="text without control characters", found=value)
        return ""

    def geometry(self, kinds: Collection[str]) -> BaseGeometry | None:
        """Return the geometry, of one of ``kinds`` and longitude first; None with a fault noted."""
        value, faults, where = self._geometry, self._faults, f"{self.where}, geometry"
        kind = value.get("type") if isinstance(value, Mapping) else None
        if not isinstance(value, Mapping) or not isinstance(kind, str) or kind not in kinds:
            self.fault("geometry", expected=f"a {', '.join(kinds)}", found=kind or value)
            return None
        coordinates = value.get("coordinates")
        before = len(faults.found)
        _check_coordinates(coordinates, levels=_NESTING[kind], where=f"{where}, coordinates", faults=faults)
        if len(faults.found) > before:
            return None
        try:
            geometry: BaseGeometry = shape({"type": kind, "coordinates": coordinates})
        except (GEOSException, ValueError) as error:
            expected = "a buildable shape, with a height in all positions or in none"
            self.fault("geometry", expected=expected, found=str(error))
            return None
        if geometry.is_empty or not geometry.is_valid:
            self.fault("geometry", expected="a valid shape", found=explain_validity(geometry))
            return None
        return geometry


def read_features(data: object, *, file: str, read: Callable[[Feature], T | None]) -> tuple[T, ...]:
    """Return what ``read`` makes of each feature of a parsed FeatureCollection, in its order.

    Args:
        data: what ``json.loads`` gave.
        file: what the file is and its name, for error messages.
        read: turns a feature into a value; it may give None only where it notes a fault.

    Raises:
        ConfigInvalid: anything is wrong; the message names the file and, for each fault, the feature
            (index and id), the field, what was expected and what was found.
    """
    faults = _Faults(file)
    features = _features(data, faults=faults)
    faults.raise_if_any()
    opened = [_feature(value, index=index, faults=faults) for index, value in enumerate(features)]
    values = [read(feature) for feature in opened if feature is not None]
    faults.raise_if_any()
    return tuple(value for value in values if value is not None)


def is_text(value: object) -> TypeGuard[str]:
    """Return whether a value is text that says something, without control characters."""
    return (
        isinstance(value, str)
        and bool(value.strip())
        and not any(unicodedata.category(character) in _CONTROL for character in value)
    )


def is_number(value: object) -> TypeGuard[int | float]:
    """Return whether a value is a finite number that a float can hold."""
    # Compared rather than converted: a JSON integer may be too large for any float; NaN is never below.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _features(data: object, *, faults: _Faults) -> list[object]:
    if not isinstance(data, Mapping) or data.get("type") != "FeatureCollection":
        found = data.get("type") if isinstance(data, Mapping) else data
        faults.add("type", expected="a GeoJSON FeatureCollection", found=found)
        return []
    _check_crs(data.get("crs"), faults=faults)
    features = data.get("features")
    if not isinstance(features, list) or not features:
        faults.add("features", expected="a list of at least one feature to watch", found=features)
        return []
    return features


def _feature(value: object, *, index: int, faults: _Faults) -> Feature | None:
    where = f"feature {index}"
    if not isinstance(value, Mapping) or value.get("type") != "Feature":
        faults.add(where, expected="a GeoJSON Feature", found=value)
        return None
    properties = value.get("properties")
    if not isinstance(properties, Mapping):
        faults.add(f"{where}, properties", expected="an object", found=properties)
        return None
    where = f"{where} (id {properties['id']!r})" if "id" in properties else f"{where} (no id)"
    return Feature(index, where, properties, value.get("geometry"), faults)


def _check_crs(crs: object, *, faults: _Faults) -> None:
    # RFC 7946 dropped "crs", yet GIS tools still write it, and a projected one moves every outpost.
    if crs is None:
        return
    properties = crs.get("properties") if isinstance(crs, Mapping) else None
    name = properties.get("name") if isinstance(properties, Mapping) else None
    if not isinstance(name, str) or not name.strip().lower().endswith(_WGS84_NAMES):
        expected = "none, or a name of WGS 84 (export as EPSG:4326)"
        faults.add("crs", expected=expected, found=crs if name is None else name)


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
    if len(position) not in _AXES or not all(is_number(number) for number in position):
        faults.add(where, expected="[longitude, latitude] in degrees", found=position)
        return
    lon_deg, lat_deg = position[:2]
    if abs(lon_deg) <= _MAX_LON_DEG and abs(lat_deg) <= _MAX_LAT_DEG:
        return
    swapped = abs(lon_deg) <= _MAX_LAT_DEG and abs(lat_deg) <= _MAX_LON_DEG
    hint = "; latitude and longitude look swapped" if swapped else ""
    expected = f"longitude within {_MAX_LON_DEG} first, then latitude within {_MAX_LAT_DEG} degrees{hint}"
    faults.add(where, expected=expected, found=position)
