"""What is expected at a watched place: activity by hour of the week, its own vehicles, its baseline.

Belongs here: the types, and reading them out of a parsed TOML or JSON file with every fault named, so that
all can be mended in one go. Not here: reading files, and what an expectation does to an event
(``detection/rules/context.py``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from shapely.geometry.base import BaseGeometry

from outwatch.domain.errors import ConfigInvalid
from outwatch.domain.geojson import is_number, is_text, read_features
from outwatch.domain.types import EventKind, GeoPoint

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MAX_ENTRIES = 10_000
"""More than a province's places need; beyond it a file is a mistake."""
_SHOWN = 60
"""Characters of a wrong value that an error message repeats."""
_TABLES = {
    "activity": {"name", "outposts", "kinds", "days", "from", "to", "usual"},
    "own": {"name", "outposts", "kinds", "days", "from", "to", "at_most", "area"},
}
"""The keys that each table of the file may hold."""


@dataclass(frozen=True, slots=True)
class Hours:
    """A span of local time on some days of the week; one that ends before it starts ends the next day."""

    days: frozenset[int]
    """0 is Monday, as ``date.weekday`` has it: the day on which it starts."""
    start: time
    end: time

    def cover(self, start: datetime, end: datetime) -> bool:
        """Return whether a span of time, aware and in the places' zone, lies wholly within."""
        return any(
            opens <= start and end <= closes
            for day in (start.date() - timedelta(days=1), start.date())
            if day.weekday() in self.days
            for opens, closes in [self._on(day, zone=start.tzinfo)]
        )

    def _on(self, day: date, *, zone: tzinfo | None) -> tuple[datetime, datetime]:
        next_day = self.end <= self.start
        return (
            datetime.combine(day, self.start, zone),
            datetime.combine(day + timedelta(days=next_day), self.end, zone),
        )


@dataclass(frozen=True, slots=True)
class Activity:
    """What is usual at a place at some hours: prayer, the school run, a bazaar. It lowers, never hides."""

    name: str
    outposts: frozenset[str]
    """Ids of the places it holds for; none means all of them."""
    kinds: frozenset[EventKind]
    hours: Hours
    usual: int | None = None
    """How many are usual at most; None where nobody said."""


@dataclass(frozen=True, slots=True)
class OwnTraffic:
    """Vehicles, or people, that belong to a place: where they park, or when they come and go."""

    name: str
    outposts: frozenset[str]
    """Ids of the places it holds for; none means all of them."""
    kinds: frozenset[EventKind]
    hours: Hours | None = None
    """None is at any hour."""
    area: BaseGeometry | None = None
    """Polygon on WGS 84, longitude first; None is anywhere."""
    at_most: int | None = None
    """How many are ours; more are not."""


@dataclass(frozen=True, slots=True)
class BaselinePlace:
    """A thing that a person confirmed to stand at a place on every flight."""

    point: GeoPoint
    radius_m: float
    kind: EventKind
    reason: str
    """Who confirmed it and why, in words for the record."""
    at_most: int | None = None
    """How many were confirmed; more are an event again. None is any number."""


@dataclass(frozen=True, slots=True)
class Expected:
    """All that is expected, with the zone of its hours."""

    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))
    activities: tuple[Activity, ...] = ()
    own: tuple[OwnTraffic, ...] = ()


def parse_expected(
    data: object, *, source: str, zone: ZoneInfo, outposts: Collection[str] | None = None
) -> Expected:
    """Return what a parsed file of expectations holds, in its order.

    Args:
        data: what ``tomllib.loads`` or ``json.loads`` gave: tables ``activity`` and ``own``.
        source: the file's name, for error messages.
        zone: of its hours.
        outposts: ids of the places that there are; an entry that names another is a fault.

    Raises:
        ConfigInvalid: anything is wrong; the message names the file and, for each fault, the entry (table,
            number and name), the key, what was expected and what was found.
    """
    file = f"expected file {source}"
    if not isinstance(data, Mapping):
        raise ConfigInvalid(f"{file}: expected tables activity and own, found {_shown(data)}")
    unknown = sorted(set(data) - set(_TABLES))
    faults = [f"{name}: expected only the tables {', '.join(_TABLES)}" for name in unknown]
    known = None if outposts is None else frozenset(outposts)
    entries = {table: _entries(data, table, faults=faults, outposts=known) for table in _TABLES}
    expected = Expected(
        zone,
        tuple(_activity(entry) for entry in entries["activity"]),
        tuple(_own(entry) for entry in entries["own"]),
    )
    if faults:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise ConfigInvalid("\n  ".join([f"{file}: {count}", *faults]))
    return expected


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry of the file, and how to take what it holds; what is wrong becomes a fault."""

    where: str
    values: Mapping[str, Any]
    outposts: frozenset[str] | None
    faults: list[str]

    def fault(self, key: str, *, expected: str, found: object) -> None:
        self.faults.append(f"{self.where}, {key}: expected {expected}, found {_shown(found)}")

    def name(self) -> str:
        value = self.values.get("name")
        if is_text(value):
            return value.strip()
        self.fault("name", expected="text for the record", found=value)
        return ""

    def words(self, key: str, *, among: Collection[str] | None, default: Sequence[str] | None) -> list[str]:
        """Return a list of words, each ``among`` those there are; ``default`` None means it must be given."""
        if default is not None and key not in self.values:
            return list(default)
        value = self.values.get(key)
        expected = f"a list of {'ids' if among is None else ', '.join(sorted(among))}"
        if not isinstance(value, list | tuple) or not value:  # an emptied list must not come to mean all
            self.fault(key, expected=expected, found=value)
            return []
        wrong = [word for word in value if not is_text(word) or (among is not None and word not in among)]
        if wrong:
            self.fault(key, expected=expected, found=wrong[0])
            return []
        return list(value)

    def kinds(self) -> frozenset[EventKind]:
        among = [kind.value for kind in EventKind if kind is not EventKind.SENSOR_TRIP]
        return frozenset(EventKind(word) for word in self.words("kinds", among=among, default=None))

    def places(self) -> frozenset[str]:
        return frozenset(self.words("outposts", among=self.outposts, default=()))

    def hours(self) -> Hours:
        days = self.words("days", among=DAYS, default=DAYS)
        return Hours(frozenset(DAYS.index(day) for day in days), self._time("from"), self._time("to"))

    def _time(self, key: str) -> time:
        value = self.values.get(key)
        if isinstance(value, time) and value.tzinfo is None:  # TOML has times of its own
            return value
        try:
            return datetime.strptime(value, "%H:%M").time()  # type: ignore[arg-type]  # noqa: DTZ007
        except (TypeError, ValueError):
            self.fault(key, expected='a local time such as "12:30"', found=value)
            return time()

    def count(self, key: str) -> int | None:
        value = self.values.get(key)
        if value is None:
            return None
        if is_number(value) and isinstance(value, int) and value > 0:
            return value
        self.fault(key, expected="a whole number above 0", found=value)
        return None

    def area(self) -> BaseGeometry | None:
        """Return the polygon under ``area``, a GeoJSON geometry."""
        if "area" not in self.values:
            return None
        feature = {"type": "Feature", "properties": {"id": "area"}, "geometry": self.values["area"]}
        collection = {"type": "FeatureCollection", "features": [feature]}
        try:
            (polygon,) = read_features(
                collection, file="area", read=lambda f: f.geometry(("Polygon", "MultiPolygon"))
            )
        except ConfigInvalid as error:
            self.faults.append(f"{self.where}, {str(error).splitlines()[-1].strip()}")
            return None
        return polygon


def _entries(
    data: Mapping[str, Any], table: str, *, faults: list[str], outposts: frozenset[str] | None
) -> list[_Entry]:
    values = data.get(table, [])
    if not isinstance(values, list) or len(values) > MAX_ENTRIES:
        faults.append(f"{table}: expected a list of at most {MAX_ENTRIES} entries, found {_shown(values)}")
        return []
    entries = []
    for number, value in enumerate(values, start=1):
        where = f"{table} {number}"
        if not isinstance(value, Mapping):
            faults.append(f"{where}: expected a table of {', '.join(sorted(_TABLES[table]))}")
            continue
        if is_text(value.get("name")):
            where = f"{where} ({value['name'][:_SHOWN]})"
        entry = _Entry(where, value, outposts, faults)
        for key in sorted(set(value) - _TABLES[table]):
            entry.fault(key, expected=f"only {', '.join(sorted(_TABLES[table]))}", found=key)
        entries.append(entry)
    return entries


def _activity(entry: _Entry) -> Activity:
    return Activity(entry.name(), entry.places(), entry.kinds(), entry.hours(), entry.count("usual"))


def _own(entry: _Entry) -> OwnTraffic:
    timed = not {"days", "from", "to"}.isdisjoint(entry.values)
    if not timed and "area" not in entry.values:
        entry.fault("area", expected="an area, or hours from and to, or both", found=None)
    return OwnTraffic(
        name=entry.name(),
        outposts=entry.places(),
        kinds=entry.kinds(),
        hours=entry.hours() if timed else None,
        area=entry.area(),
        at_most=entry.count("at_most"),
    )


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
