"""The still that goes with an event."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pytest
import shapely
from PIL import Image as Pictures

from detection.evidence import draw_still, facts_of, metre_in_px, title_of, wind_of
from outwatch.domain.geometry import LocalFrame
from outwatch.domain.types import (
    Camera,
    Detection,
    ErrorEllipse,
    Event,
    EventKind,
    GeoPoint,
    GroundFix,
    Modality,
    Outpost,
    OutpostKind,
    TelemetrySample,
)

AT = datetime(2026, 3, 14, 20, 30, 5, tzinfo=UTC)
KARACHI = ZoneInfo("Asia/Karachi")
HERE = GeoPoint(33.5866, 71.4441)
FIX = GroundFix(AT, HERE, ErrorEllipse(6, 4, 0), 5.3, "flat_ground")
CAMERA = Camera("XT2", Modality.THERMAL, 24.56, 0.5, "data sheet")
POSE = TelemetrySample(0.0, AT, HERE, 60.0, 120.0, -90.0, 0.0)
OUTPOST = Outpost(
    "post", "Sample Post", "چوکی", OutpostKind.POLICE_OUTPOST, shapely.Point(71.445, 33.5862), 400.0, "room"
)
EVENT = Event(
    id="e",
    kind=EventKind.GATHERING_NEAR_OUTPOST,
    clip_id="0123456789abcdef",
    outpost_id="post",
    started_at=AT - timedelta(seconds=5),
    ended_at=AT + timedelta(seconds=33),
    peak_at=AT,
    peak_frame_index=150,
    fix=FIX,
    distance_m=85.2,
    bearing_deg=299.0,
    p_inside=1.0,
    count_low=11,
    count=13,
    count_high=22,
    in_view=23,
    confidence=0.69,
    model_id="model-1",
    rule_version="1",
)
ORANGE, SKY = (230, 159, 0), (86, 180, 233)


def detection(label: str, box: tuple[float, float, float, float]) -> Detection:
    return Detection("clip", AT, 5.0, 150, label, 0.8, box, "m", None, FIX, 0.0, 0.0)


def still(
    *,
    width_px: int = 640,
    height_px: int = 512,
    event: Event = EVENT,
    pose: TelemetrySample | None = POSE,
    detections: tuple[Detection, ...] = (),
) -> tuple[bytes, npt.NDArray[np.uint8]]:
    """Return a still of an even grey frame, as bytes and as pixels."""
    data = draw_still(
        np.full((height_px, width_px, 3), 90, np.uint8),
        event=event,
        detections=detections,
        outpost=OUTPOST,
        clip_name="flight.mp4",
        pose=pose,
        camera=CAMERA,
        local_zone=KARACHI,
    )
    return data, np.asarray(Pictures.open(io.BytesIO(data)))


def near(pixels: npt.NDArray[np.uint8], colour: tuple[int, int, int]) -> npt.NDArray[np.bool_]:
    """Return where pixels have a colour, but for what JPEG changes."""
    close: npt.NDArray[np.bool_] = (abs(pixels.astype(int) - colour) < 40).all(axis=-1)
    return close


def test_title_says_it_in_plain_words() -> None:
    """Kind, place and count with its interval; one vehicle is not 'about one vehicles'."""
    car = replace(EVENT, kind=EventKind.VEHICLE_NEAR_OUTPOST, count_low=1, count=1, count_high=1)

    assert title_of(EVENT, OUTPOST) == "Gathering near Sample Post: about 13 people (11 to 22)"
    assert title_of(car, OUTPOST) == "Vehicle near Sample Post: 1 vehicle"
    assert title_of(replace(car, count=2, count_high=3), OUTPOST) == (
        "Vehicles near Sample Post: about 2 vehicles (1 to 3)"
    )


def test_facts_hold_both_clocks_place_error_and_confidence() -> None:
    """Local time first, with its own date past midnight; distances, direction, odds and radius in words."""
    facts = dict(facts_of(EVENT, outpost=OUTPOST, local_zone=KARACHI))

    assert facts == {
        "CAPTURED": ["15 Mar 2026, 01:30:05 PKT", "14 Mar 2026, 20:30:05 UTC"],
        "LASTED": ["38 s, 01:30:00 to 01:30:38"],
        "SAMPLE POST": ["85 m WNW (299°) of it", "within its 400 m watch: over 99%"],
        "PLACE": ["33.58660, 71.44410", "true place within 6 m (9 in 10)", "assumes flat ground"],
        "COUNT": ["13 together (11 to 22)", "23 in this frame"],
        "CONFIDENCE": ["0.69 of 1"],
    }


def test_a_place_from_an_elevation_model_assumes_nothing() -> None:
    """Only a fix on assumed ground says so."""
    event = replace(EVENT, fix=replace(FIX, method="dem"))
    assert dict(facts_of(event, outpost=OUTPOST, local_zone=KARACHI))["PLACE"] == [
        "33.58660, 71.44410",
        "true place within 6 m (9 in 10)",
    ]


def test_an_event_inside_an_outpost_has_no_direction() -> None:
    """At distance zero a bearing means nothing."""
    facts = dict(facts_of(replace(EVENT, distance_m=0.0, p_inside=0.62), outpost=OUTPOST, local_zone=KARACHI))

    assert facts["SAMPLE POST"] == ["inside its boundary", "within its 400 m watch: 62%"]


@pytest.mark.parametrize(("bearing", "wind"), [(0, "N"), (359, "N"), (45, "NE"), (101, "E"), (299, "WNW")])
def test_winds_are_the_nearest_of_sixteen(bearing: float, wind: str) -> None:
    """Bearings wrap around at north."""
    assert wind_of(bearing) == wind


def test_same_input_gives_the_same_bytes() -> None:
    """A second run writes the same object."""
    assert still()[0] == still()[0]


@pytest.mark.parametrize(
    ("width_px", "height_px"), [(640, 512), (1280, 720), (3840, 2160), (320, 240), (720, 1280)]
)
def test_any_frame_is_shown_whole_beside_its_panel(width_px: int, height_px: int) -> None:
    """Small frames are enlarged, large ones reduced, and the picture is never covered by words."""
    _, pixels = still(width_px=width_px, height_px=height_px)
    grey = near(pixels, (90, 90, 90))
    rows, columns = grey.sum(axis=1) > 500, grey.sum(axis=0) > 150
    shown_px = columns.sum(), rows.sum()

    assert shown_px[0] / shown_px[1] == pytest.approx(width_px / height_px, rel=0.02)
    assert 600 <= shown_px[0] <= 1920
    assert grey[np.ix_(rows, columns)].mean() > 0.995


def test_boxes_of_the_kind_are_strong_and_others_thin() -> None:
    """People are framed thick and orange, a car beside them thin and blue, at their scaled places."""
    person, car = detection("person", (100, 100, 120, 140)), detection("car", (400, 300, 460, 330))

    _, with_person = still(detections=(person,))
    _, with_both = still(detections=(person, car))
    _, of_vehicles = still(detections=(person,), event=replace(EVENT, kind=EventKind.VEHICLE_NEAR_OUTPOST))
    # The frame is shown at twice its size, 76 px below the sheet's top.
    at_person, at_car = np.s_[76 + 190 : 76 + 290, 190:250], np.s_[76 + 590 : 76 + 670, 790:930]

    strong, thin = near(with_person[at_person], ORANGE).sum(), near(of_vehicles[at_person], SKY).sum()
    assert thin > 100
    assert strong > 2 * thin
    assert near(with_both[at_car], SKY).sum() > 200
    assert near(with_both[at_car], ORANGE).sum() == 0
    assert near(with_person[at_car], SKY).sum() == 0


def test_north_turns_with_the_camera() -> None:
    """Heading north the N stands above the compass, heading south below it."""
    compass = np.s_[76 + 850 : 76 + 1024, 1280:1440]
    rows = []
    for heading in (0.0, 180.0):
        _, pixels = still(pose=replace(POSE, heading_deg=heading))
        rows.append(np.nonzero(near(pixels[compass], ORANGE))[0].mean())

    assert rows[1] - rows[0] == pytest.approx(2 * 0.78 * 62, abs=8)


def test_a_metre_has_the_size_that_the_lens_gives_it() -> None:
    """Straight below, a metre is focal length over height; farther along the axis it shrinks."""
    focal_px = 320 / np.tan(np.radians(12.28))
    below = metre_in_px(EVENT, pose=POSE, camera=CAMERA, width_px=640, height_px=512)
    lat, lon = LocalFrame.at(HERE).to_geo(60 * np.sin(np.radians(120)), 60 * np.cos(np.radians(120)))
    ahead = replace(EVENT, fix=replace(FIX, point=GeoPoint(float(lat), float(lon))))
    oblique = metre_in_px(
        ahead, pose=replace(POSE, pitch_deg=-45.0), camera=CAMERA, width_px=640, height_px=512
    )

    assert below == pytest.approx(focal_px / 60)
    assert oblique == pytest.approx(focal_px / np.hypot(60, 60), rel=1e-4)


def test_without_pose_or_lens_nothing_is_made_up() -> None:
    """No scale without what it takes, and the still is drawn all the same."""
    assert metre_in_px(EVENT, pose=None, camera=CAMERA, width_px=640, height_px=512) is None
    assert metre_in_px(EVENT, pose=POSE, camera=None, width_px=640, height_px=512) is None
    behind = replace(POSE, pitch_deg=80.0)
    assert metre_in_px(EVENT, pose=behind, camera=CAMERA, width_px=640, height_px=512) is None
    assert still(pose=None)[1].shape == still()[1].shape
