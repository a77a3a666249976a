"""Sensors out of GeoJSON: which there are, where they stand, what they measure, how feeds call them.

Belongs here: what a feature must hold to be a sensor, and finding a sensor by name. Not here: GeoJSON
itself (``geojson.py``), reading the file, and what their readings are worth (``readings.py``).

Several sensors may share an alias as long as they measure different kinds: a LoRaWAN node with a motion and a
temperature element is two features, each with the node's EUI among its aliases and limits of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from difflib import get_close_matches

from outwatch.domain.geojson import Feature, is_number, is_text, read_features
from outwatch.domain.types import GeoPoint, Sensor

SENSOR_SILENT = "sensor_silent"
"""The kind of the readings that say a sensor has not spoken when it should have; no sensor measures it."""
MAX_EXPECTED_INTERVAL = timedelta(days=30)
"""A sensor that may be quiet for longer cannot be told from a dead one."""
DEFAULT_FALSE_SHARE = 0.5
"""What nobody has counted is taken as even: to say less would claim a trust that nobody has earned."""
MAX_FALSE_SHARE = 0.99
"""A sensor that is never right is no sensor: take it out of the registry."""
_KIND = re.compile(r"[a-z][a-z0-9_]{0,63}")
_LON_LAT_ALT = 3
_PROPERTIES = (
    "id",
    "name",
    "kinds",
    "expected_interval_s",
    "unit",
    "minimum",
    "maximum",
    "trip_from",
    "false_share",
    "aliases",
)
_NEARLY = 0.8
"""Likeness (``difflib``) from which an unknown property is a known one misspelt: ``expected_interval``."""


@dataclass(frozen=True)
class Registry:
    """The sensors that are known, by every name they have."""

    sensors: tuple[Sensor, ...] = ()
    _by_id: dict[str, Sensor] = field(init=False, repr=False, compare=False, default_factory=dict)
    _by_name: dict[str, list[Sensor]] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        for sensor in self.sensors:
            self._by_id[sensor.id] = sensor
            for name in dict.fromkeys((sensor.id, *sensor.aliases)):
                self._by_name.setdefault(name, []).append(sensor)

    def sensor(self, sensor_id: str) -> Sensor | None:
        """Return the sensor with an id, None where the registry has none (any more)."""
        return self._by_id.get(sensor_id)

    def named(self, name: str) -> Sequence[Sensor]:
        """Return the sensors that feeds call by a name: none, one, or several of different kinds."""
        return self._by_name.get(name, ())


def parse_sensors(data: object, *, source: str) -> Registry:
    """Return the registry in a parsed GeoJSON FeatureCollection (RFC 7946) of points.

    Args:
        data: what ``json.loads`` gave.
        source: the file's name, for error messages.

    Raises:
        ConfigInvalid: anything is wrong; the message names the file and, for each fault, the feature
            (index and id), the field, what was expected and what was found.
    """
    taken: dict[tuple[str, str], int] = {}
    ids: dict[str, int] = {}

    def read(feature: Feature) -> Sensor | None:
        sensor = _sensor(feature)
        if ids.setdefault(sensor.id, feature.index) != feature.index and sensor.id:
            feature.fault("id", expected=f"an id that feature {ids[sensor.id]} lacks", found=sensor.id)
        for name in dict.fromkeys((sensor.id, *sensor.aliases)):
            for kind in sensor.kinds:
                other = taken.setdefault((name, kind), feature.index)
                if other != feature.index and name != sensor.id:
                    expected = f"a name by which feature {other} does not report {kind} too"
                    feature.fault("aliases", expected=expected, found=name)
        return sensor

    return Registry(read_features(data, file=f"sensors file {source}", read=read))


def _sensor(feature: Feature) -> Sensor:
    _check_spelling(feature)
    minimum, maximum = _number(feature, "minimum"), _number(feature, "maximum")
    if minimum is not None and maximum is not None and minimum >= maximum:
        feature.fault("minimum", expected=f"a number below maximum ({maximum:g})", found=minimum)
    kinds, trip_from = _kinds(feature), _number(feature, "trip_from")
    if trip_from is not None and len(kinds) > 1:
        # One bound for all would make a battery of 98 % a trip.
        feature.fault("trip_from", expected="one kind, and a feature of its own for each other", found=kinds)
    return Sensor(
        id=feature.text("id"),
        name=feature.text("name"),
        kinds=kinds,
        point=_point(feature),
        expected_interval=_interval(feature),
        unit=feature.text("unit") if feature.properties.get("unit") is not None else None,
        minimum=minimum,
        maximum=maximum,
        trip_from=trip_from,
        false_share=_false_share(feature),
        aliases=_aliases(feature),
    )


def _check_spelling(feature: Feature) -> None:
    """Note properties that nearly are ones that lack: a map's other columns are nobody's fault."""
    lacking = [name for name in _PROPERTIES if name not in feature.properties]
    for name in feature.properties:
        if name not in _PROPERTIES and (meant := get_close_matches(name, lacking, n=1, cutoff=_NEARLY)):
            feature.fault(name, expected=f"the property {meant[0]}", found=name)


def _kinds(feature: Feature) -> tuple[str, ...]:
    value = feature.properties.get("kinds")
    kinds = [value] if isinstance(value, str) else value
    expected = "a word such as motion, or a list of them: small letters, digits and _"
    if not isinstance(kinds, list) or not kinds:
        feature.fault("kinds", expected=expected, found=value)
        return ()
    for kind in kinds:
        if not isinstance(kind, str) or not _KIND.fullmatch(kind):
            feature.fault("kinds", expected=expected, found=kind)
        elif kind == SENSOR_SILENT:
            feature.fault("kinds", expected="none that Outwatch itself writes", found=kind)
    return tuple(dict.fromkeys(str(kind) for kind in kinds))


def _aliases(feature: Feature) -> tuple[str, ...]:
    value = feature.properties.get("aliases", [])
    names = [value] if isinstance(value, str) else value
    if isinstance(names, list) and all(is_text(name) for name in names):
        return tuple(dict.fromkeys(name.strip() for name in names))
    feature.fault("aliases", expected="a list of the names by which feeds call it", found=value)
    return ()


def _point(feature: Feature) -> GeoPoint:
    place = feature.geometry(("Point",))
    if place is None:
        return GeoPoint(0.0, 0.0)  # never seen: the fault ends the reading of the file
    coordinates = place.coords[0]
    alt_m = float(coordinates[2]) if len(coordinates) == _LON_LAT_ALT else None
    return GeoPoint(lat_deg=float(coordinates[1]), lon_deg=float(coordinates[0]), alt_m=alt_m)


def _number(feature: Feature, key: str) -> float | None:
    value = feature.properties.get(key)
    if value is None or is_number(value):
        return None if value is None else float(value)
    feature.fault(key, expected="a number, or none", found=value)
    return None


def _interval(feature: Feature) -> timedelta | None:
    value = feature.properties.get("expected_interval_s")
    if value is None:
        return None
    longest_s = MAX_EXPECTED_INTERVAL.total_seconds()
    if is_number(value) and 1 <= value <= longest_s:
        return timedelta(seconds=float(value))
    expected = f"seconds from 1 to {longest_s:.0f}; none for a sensor that speaks only when something happens"
    feature.fault("expected_interval_s", expected=expected, found=value)
    return None


def _false_share(feature: Feature) -> float:
    value = feature.properties.get("false_share", DEFAULT_FALSE_SHARE)
    if is_number(value) and 0 <= value <= MAX_FALSE_SHARE:
        return float(value)
    expected = f"the share of its trips that are false, from 0 to {MAX_FALSE_SHARE}"
    feature.fault("false_share", expected=expected, found=value)
    return DEFAULT_FALSE_SHARE
