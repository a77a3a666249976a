"""Outposts out of GeoJSON, with every fault named so that a person can mend the file in one go.

Belongs here: what a feature must hold to be a watched place. Not here: GeoJSON itself (``geojson.py``),
reading the file, and distances to the places (``geometry.py``).
"""

from __future__ import annotations

from outwatch.domain.geojson import Feature, is_number, read_features
from outwatch.domain.types import Outpost, OutpostKind

MAX_WATCH_RADIUS_M = 20_000.0
"""Beyond the radio reach of the aircraft in use (DJI states 8-20 km in the open) "near an outpost" has
no meaning, and a larger number is a slip of units."""
_KINDS = tuple(str(kind) for kind in OutpostKind)
_GEOMETRIES = ("Point", "Polygon", "MultiPolygon")


def parse_outposts(data: object, *, source: str) -> tuple[Outpost, ...]:
    """Return the outposts of a parsed GeoJSON FeatureCollection (RFC 7946), in its order.

    Args:
        data: what ``json.loads`` gave.
        source: the file's name, for error messages.

    Raises:
        ConfigInvalid: anything is wrong; the message names the file and, for each fault, the feature
            (index and id), the field, what was expected and what was found.
    """
    seen: dict[str, int] = {}
    return read_features(data, file=f"outposts file {source}", read=lambda feature: _outpost(feature, seen))


def _outpost(feature: Feature, seen: dict[str, int]) -> Outpost | None:
    outpost_id, name, name_ur, control_room = (
        feature.text(key) for key in ("id", "name", "name_ur", "control_room")
    )
    kind, radius_m = _kind(feature), _radius_m(feature)
    geometry = feature.geometry(_GEOMETRIES)
    if outpost_id and seen.setdefault(outpost_id, feature.index) != feature.index:
        expected = f"an id that feature {seen[outpost_id]} lacks"
        feature.fault("id", expected=expected, found=outpost_id)
    if kind is None or geometry is None:
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


def _kind(feature: Feature) -> OutpostKind | None:
    value = feature.properties.get("kind")
    if isinstance(value, str) and value in _KINDS:
        return OutpostKind(value)
    feature.fault("kind", expected=f"one of {', '.join(_KINDS)}", found=value)
    return None


def _radius_m(feature: Feature) -> float:
    value = feature.properties.get("watch_radius_m")
    if is_number(value) and 0 < value <= MAX_WATCH_RADIUS_M:
        return float(value)
    expected = f"metres above 0 and at most {MAX_WATCH_RADIUS_M:.0f}"
    feature.fault("watch_radius_m", expected=expected, found=value)
    return 0.0
