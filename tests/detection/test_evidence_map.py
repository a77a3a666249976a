"""The map of an event: what is on it, where, and what it does without."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import timedelta
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pytest
import shapely
from PIL import Image as Pictures

from detection.evidence import draw_map
from detection.evidence.place_map import SIDE_PX
from detection.evidence.relief import draw_relief
from detection.evidence.sheet import Sheet
from detection.terrain import FlatTerrain
from outwatch.domain.geometry import LocalFrame
from outwatch.domain.types import (
    Coverage,
    Detection,
    ErrorEllipse,
    Event,
    EventKind,
    GeoPoint,
    GroundFix,
    Outpost,
    OutpostKind,
    Sensor,
    TelemetrySample,
)

ORANGE, YELLOW, SKY = (230, 159, 0), (240, 228, 66), (86, 180, 233)
HERE = GeoPoint(33.5866, 71.4441)
FRAME = LocalFrame.at(HERE)
OUTPOST = Outpost(
    "post",
    "Post",
    "چوکی",
    OutpostKind.POLICE_OUTPOST,
    shapely.Point(HERE.lon_deg, HERE.lat_deg),
    100.0,
    "room",
)
HEAD_PX = 84


def at(east_m: float, north_m: float) -> GeoPoint:
    lat, lon = FRAME.to_geo(east_m, north_m)
    return GeoPoint(float(lat), float(lon))


def near_post(event: Event, *, east_m: float = 30.0, north_m: float = 0.0, radius_m: float = 10.0) -> Event:
    ellipse = ErrorEllipse(radius_m, radius_m, 0.0)
    return replace(event, fix=GroundFix(event.peak_at, at(east_m, north_m), ellipse, radius_m, "flat_ground"))


def drawn(event: Event, **more: object) -> npt.NDArray[np.int_]:
    """Return the pixels of a map's ground, without head and legend."""
    options = {"outpost": OUTPOST, "local_zone": ZoneInfo("Asia/Karachi"), **more}
    picture = np.asarray(Pictures.open(io.BytesIO(draw_map(event, **options))).convert("RGB"), int)  # type: ignore[arg-type]
    return picture[HEAD_PX : HEAD_PX + SIDE_PX]


def near(pixels: npt.NDArray[np.int_], colour: tuple[int, int, int]) -> npt.NDArray[np.bool_]:
    close: npt.NDArray[np.bool_] = (abs(pixels - colour) < 30).all(axis=-1)
    return close


def footprint(event: Event, half_m: float, *, late_s: float = 1.0) -> Coverage:
    corners = [
        at(x, y) for x, y in ((-half_m, -half_m), (half_m, -half_m), (half_m, half_m), (-half_m, half_m))
    ]
    polygon = shapely.Polygon([(corner.lon_deg, corner.lat_deg) for corner in corners])
    return Coverage("clip-1", event.started_at + timedelta(seconds=late_s), late_s, 30, polygon)


def test_same_input_gives_the_same_map(gathering: Event) -> None:
    """A second run writes the same object."""
    options = {"outpost": OUTPOST, "local_zone": ZoneInfo("Asia/Karachi")}
    assert draw_map(near_post(gathering), **options) == draw_map(near_post(gathering), **options)  # type: ignore[arg-type]


def test_the_error_is_drawn_to_scale_and_north_is_up(gathering: Event) -> None:
    """120 m across: an ellipse of 10 m and 30 m east of the middle of post and event."""
    for east_m, north_m, column, row in ((30, 0, 1, 0), (0, 30, 0, -1)):
        event = near_post(gathering, east_m=east_m, north_m=north_m)
        pixels = drawn(event, outpost=replace(OUTPOST, watch_radius_m=15.0))
        rows, columns = np.nonzero(near(pixels, ORANGE)[100:700, 100:700])
        px_per_m = SIDE_PX / 120.0
        assert np.ptp(columns) == pytest.approx(20 * px_per_m, abs=6)
        middle = (columns.min() + columns.max()) / 2 + 100, (rows.min() + rows.max()) / 2 + 100
        # The map's middle lies between the post and the far edge of the ellipse, 20 m from the post.
        assert middle[0] == pytest.approx(400 + column * 10 * px_per_m, abs=4)
        assert middle[1] == pytest.approx(400 + row * 10 * px_per_m, abs=4)


def test_only_what_was_looked_at_during_the_event_is_shaded(gathering: Event) -> None:
    """A look within the event's time shades its ground; one before it does not."""
    event = near_post(gathering)
    without = drawn(event)
    assert (drawn(event, looks=[footprint(event, 20, late_s=-5.0)]) == without).all()
    shaded = (drawn(event, looks=[footprint(event, 20)]) != without).any(axis=-1).mean()
    assert shaded == pytest.approx((40 / 120) ** 2, rel=0.15)


def test_a_footprint_to_the_horizon_costs_no_more(gathering: Event) -> None:
    """Ground seen far beyond the map is cut at its edge."""
    event = near_post(gathering)
    changed = (drawn(event, looks=[footprint(event, 40_000)]) != drawn(event)).any(axis=-1).mean()
    assert changed > 0.8


def test_a_watch_beyond_the_map_is_shown_whole_in_its_corner(gathering: Event) -> None:
    """With 25 m of radius the circle is on the map; with 400 m it is in the small map only."""
    event = near_post(gathering)
    small = near(drawn(event, outpost=replace(OUTPOST, watch_radius_m=25.0)), YELLOW)
    large = near(drawn(event, outpost=replace(OUTPOST, watch_radius_m=400.0)), YELLOW)
    assert np.ptp(np.nonzero(small)[1]) == pytest.approx(50 * SIDE_PX / 120, abs=8)
    assert 100 < np.ptp(np.nonzero(large)[1]) < 190


def test_paths_are_of_what_went_somewhere(gathering: Event) -> None:
    """A thing that walks 20 m leaves a line; one that an unsteady camera shakes by as much does not."""
    event = replace(
        near_post(gathering), fix=GroundFix(gathering.peak_at, at(30, 0), None, None, "flat_ground")
    )

    def walked(places: list[tuple[float, float]]) -> list[Detection]:
        return [
            Detection(
                "clip-1",
                event.started_at + timedelta(seconds=number),
                float(number),
                number,
                "person",
                0.8,
                (0, 0, 10, 20),
                "model-1",
                5,
                GroundFix(event.started_at, at(*place), None, None, "flat_ground"),
            )
            for number, place in enumerate(places)
        ]

    straight = walked([(-20 + 4 * step, 10) for step in range(8)])
    shaken = walked([(-20 + 28 * (step % 2), 10) for step in range(8)])
    lines = [near(drawn(event, detections=found), ORANGE).sum() for found in ([], straight, shaken)]
    assert lines[1] > lines[0] + 150
    assert lines[2] < lines[0] + 60


def test_a_sensors_event_shows_the_sensors(gathering: Event) -> None:
    """Each sensor has its sign at its place; there is neither clip nor camera."""
    sensor = Sensor("north", "North gate", ("motion",), at(-30, 20), None)
    event = replace(near_post(gathering), kind=EventKind.SENSOR_TRIP, clip_id=None, sensor_ids=("north",))
    assert near(drawn(event, sensors=[sensor]), SKY).sum() > near(drawn(event), SKY).sum() + 40


def test_nothing_is_made_up_without_place_or_pose(gathering: Event) -> None:
    """Without any place of the event the post is drawn all the same; a pose without heading has no view."""
    nowhere = replace(gathering, fix=GroundFix(gathering.peak_at, None, None, None, "none", "no telemetry"))
    assert drawn(nowhere).shape == (SIDE_PX, SIDE_PX, 3)
    pose = TelemetrySample(0.0, gathering.peak_at, at(10, 10), 60.0)
    assert drawn(near_post(gathering), pose=pose).shape == (SIDE_PX, SIDE_PX, 3)


class Slope:
    """Ground that rises by a tenth to the east, unknown in the north."""

    method = "dem"
    spacing_m = 30.0

    def heights_m(self, lat_deg: npt.ArrayLike, lon_deg: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return the heights of the slope."""
        east, north = FRAME.to_local(lat_deg, lon_deg)
        return np.where(north > 200, np.nan, 1000 + east / 10)


def test_relief_gives_contours_of_a_round_step() -> None:
    """40 m of rise give a contour every 10 m; flat and unknown ground gives none, and no error."""
    frame = FRAME
    assert draw_relief(Sheet(80, east_m=0, north_m=0, side_m=400), frame, Slope()) == 10.0
    assert draw_relief(Sheet(80, east_m=0, north_m=0, side_m=400), frame, FlatTerrain(900.0)) is None
    assert draw_relief(Sheet(80, east_m=0, north_m=1000, side_m=400), frame, Slope()) is None
