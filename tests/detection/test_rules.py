"""When detections near an outpost are an event."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import shapely

from detection.detect import with_first_boxes
from detection.ground import ErrorBudget, GroundLocator
from detection.rules import GATHERING, RULE_VERSION, VEHICLE, Thresholds, find_events
from detection.tracks import ClipTracker
from outwatch.domain.geometry import LocalFrame
from outwatch.domain.types import (
    Box,
    Camera,
    Coverage,
    Detection,
    ErrorEllipse,
    Event,
    EventKind,
    GeoPoint,
    GroundFix,
    Modality,
    Outpost,
    OutpostKind,
    Recall,
    TelemetrySample,
)
from outwatch.settings import RuleSettings

START = datetime(2026, 3, 14, 16, 40, tzinfo=UTC)
RULES = RuleSettings()
THRESHOLDS = Thresholds(**{field.name: getattr(RULES, field.name) for field in fields(Thresholds)})
POST = GeoPoint(33.5862, 71.445)
FRAME = LocalFrame.at(POST)
PERFECT = {"person": 1.0, "car": 1.0, "other_vehicle": 1.0}
CAMERA_M = np.array([30.0, -40.0])
"""The camera's ground point, metres east and north of the post."""
NOWHERE = GroundFix(START, None, None, None, "none", "not georeferenced")


def outpost(outpost_id: str = "post", *, east_m: float = 0.0, radius_m: float = 400.0) -> Outpost:
    lat, lon = FRAME.to_geo(east_m, 0)
    place = shapely.Point(float(lon), float(lat))
    return Outpost(outpost_id, "Post", "چوکی", OutpostKind.POLICE_OUTPOST, place, radius_m, "room")


def seen(
    look: int,
    east_m: float,
    north_m: float,
    *,
    label: str = "person",
    track_id: int | None = None,
    radius_m: float = 8.0,
    confidence: float = 0.8,
) -> Detection:
    """Return a detection at metres around the post, in a look of a clip with two looks a second."""
    lat, lon = FRAME.to_geo(east_m, north_m)
    at = START + timedelta(seconds=look / 2)
    fix = GroundFix(
        at,
        GeoPoint(float(lat), float(lon)),
        ErrorEllipse(radius_m, radius_m / 2, 30.0),
        radius_m,
        "flat_ground",
    )
    local = np.array([east_m, north_m]) - CAMERA_M
    box = (east_m, -north_m, east_m + 1, 2 - north_m)
    return Detection(
        "clip",
        at,
        look / 2,
        look * 15,
        label,
        confidence,
        box,
        "m",
        track_id,
        fix,
        local[0],
        local[1],
    )


def crowd(look: int, size: int, *, east_m: float = 60.0, spread_m: float = 3.0) -> list[Detection]:
    """Return people in a row, each ``spread_m`` from the next."""
    return [seen(look, east_m + spread_m * number, 80.0) for number in range(size)]


def looks(count: int, *, footprint: shapely.Polygon | None = None) -> list[Coverage]:
    everything = footprint or shapely.box(71.4, 33.5, 71.5, 33.7)
    return [
        Coverage("clip", START + timedelta(seconds=index / 2), index / 2, index * 15, everything)
        for index in range(count)
    ]


def events(
    detections: Sequence[Detection],
    *,
    count: int = 200,
    outposts: Sequence[Outpost] = (outpost(),),
    thresholds: Thresholds = THRESHOLDS,
    recall: dict[str, float] | None = None,
    covered: Sequence[Coverage] | None = None,
) -> list[Event]:
    def make_id(kind: EventKind, place: str, started_at: datetime) -> str:
        return f"{kind}/{place}/{started_at:%H:%M:%S}"

    return find_events(
        detections,
        looks=looks(count) if covered is None else covered,
        outposts=outposts,
        thresholds=thresholds,
        recall=Recall(PERFECT if recall is None else recall),
        make_id=make_id,
    )


def test_thresholds_are_those_of_the_settings() -> None:
    """Every rule setting has its threshold of the same name, and none is left over."""
    assert set(RuleSettings.model_fields) == {field.name for field in fields(Thresholds)}


def test_nothing_seen_is_no_event() -> None:
    """An empty clip and one whose detections have no place give nothing."""
    assert events([]) == []
    assert events([replace(seen(look, 0, 0), fix=NOWHERE) for look in range(50)]) == []


def test_a_lasting_crowd_is_one_gathering_with_all_its_figures() -> None:
    """Ten people, linked and lasting, make one event whose every field can be checked by hand."""
    people = [person for look in range(41) for person in crowd(look, 10)]
    stray = [seen(20, 300, 300, label="person"), seen(20, 300, 310, label="bicycle")]

    (event,) = events(people + stray)

    assert (event.kind, event.outpost_id, event.rule_version) == (GATHERING, "post", RULE_VERSION)
    assert (event.started_at, event.ended_at) == (START, START + timedelta(seconds=20))
    assert (event.count_low, event.count, event.count_high) == (10, 10, 10)
    assert (event.peak_at, event.peak_frame_index, event.in_view) == (START, 0, 10)
    assert event.distance_m == pytest.approx(np.hypot(72, 80), abs=0.1)
    assert event.bearing_deg == pytest.approx(np.degrees(np.arctan2(72, 80)), abs=0.1)
    assert event.p_inside == pytest.approx(1.0)
    assert event.confidence == pytest.approx(0.8)
    assert event.id == "gathering_near_outpost/post/16:40:00"
    assert event.fix.error_radius_m == 8.0


def test_the_order_of_detections_does_not_matter() -> None:
    """The same detections in any order give the same events."""
    people = [person for look in range(41) for person in crowd(look, 10)]
    cars = [seen(look, -50, 0, label="car") for look in range(5, 30)]
    shuffled = [
        [*people, *cars][index] for index in np.random.default_rng(0).permutation(len(people) + len(cars))
    ]

    assert events(people + cars) == events(shuffled)
    assert len(events(shuffled)) == 2


@pytest.mark.parametrize(
    ("size", "spread_m", "seconds"),
    [(7, 3.0, 30.0), (10, 5.5, 30.0), (10, 3.0, 14.5)],
    ids=["too few", "too far apart", "too short"],
)
def test_less_than_a_gathering_is_none(size: int, spread_m: float, seconds: float) -> None:
    """Each threshold by itself keeps an event from being claimed."""
    people = [
        person for look in range(int(seconds * 2) + 1) for person in crowd(look, size, spread_m=spread_m)
    ]

    assert events(people) == []


def test_a_dip_shorter_than_the_gap_does_not_end_a_gathering() -> None:
    """Nine looks with five people in the middle of a crowd of ten leave one event of full length."""
    people = [person for look in range(61) for person in crowd(look, 5 if 20 <= look < 29 else 10)]

    (event,) = events(people)

    assert event.ended_at - event.started_at == timedelta(seconds=30)


def test_a_crowd_that_only_flickers_is_none() -> None:
    """Eight who come together every fourth second are people passing by."""
    people = [person for look in range(0, 120, 8) for person in crowd(look, 8)]

    assert events(people) == []


def test_looking_away_is_not_seeing_nobody() -> None:
    """Looks that did not cover the place do not count against what is seen there."""
    people = [person for look in range(0, 120, 8) for person in crowd(look, 8)]
    elsewhere = shapely.box(72.0, 34.0, 72.1, 34.1)
    covered = [
        look if index % 8 == 0 else replace(look, footprint=elsewhere)
        for index, look in enumerate(looks(120))
    ]

    assert len(events(people, covered=covered)) == 1


def test_a_gathering_seen_again_within_the_merge_gap_is_the_same() -> None:
    """The camera leaves for a minute and comes back: one event. Five minutes later: two."""
    for minutes, expected in ((1, 1), (5, 2)):
        again = 50 + minutes * 120
        people = [p for look in [*range(41), *range(again, again + 41)] for p in crowd(look, 10)]
        assert len(events(people, count=again + 41)) == expected


def test_two_gatherings_at_one_time_are_two_when_far_apart_and_one_when_near() -> None:
    """The merge distance decides, and events of the same start still have different ids."""
    for east_m, expected in ((60 + 27 + 30, 1), (60 + 27 + 150, 2)):
        people = [p for look in range(41) for at in (60.0, east_m) for p in crowd(look, 10, east_m=at)]
        found = events(people)
        assert len(found) == expected
        assert len({event.id for event in found}) == expected


def test_count_high_allows_for_what_the_model_misses_and_for_single_wrong_looks() -> None:
    """One look of 20 does not set the upper count; a recall of 0.8 raises it by a quarter."""
    people = [p for look in range(41) for p in crowd(look, 20 if look == 7 else 12 if look < 10 else 9)]

    (event,) = events(people, recall={"person": 0.8})

    assert (event.count_low, event.count, event.count_high) == (9, 9, 15)
    assert event.peak_frame_index == 7 * 15
    assert event.in_view == 20


def test_looks_with_too_few_for_a_gathering_lower_the_count() -> None:
    """Seven people with a false eighth in four looks of ten are not surely eight."""
    people = [p for look in range(61) for p in crowd(look, 8 if look % 5 in (0, 2) else 7)]

    (event,) = events(people)

    assert (event.count_low, event.count, event.count_high) == (7, 8, 8)


def test_looks_that_show_nobody_lower_the_count_and_looks_elsewhere_do_not() -> None:
    """What is empty at the place counts as such, but never as an event of nobody; away is not empty."""
    people = [p for look in range(61) if look % 4 for p in crowd(look, 9)]
    away = replace(looks(1)[0], footprint=shapely.box(72.0, 34.0, 72.1, 34.1)).footprint
    covered = [look if index % 4 else replace(look, footprint=away) for index, look in enumerate(looks(61))]

    assert [event.count_low for event in events(people)] == [1]
    assert [event.count_low for event in events(people, covered=covered)] == [9]


def test_unmeasured_recall_is_not_perfect_and_counts_by_label() -> None:
    """Without a measure twice as many may be there; a label's recall only counts for that label."""
    people = [person for look in range(41) for person in crowd(look, 10)]
    assert [event.count_high for event in events(people, recall={})] == [20]
    assert [event.count_high for event in events(people, recall={"car": 0.9})] == [20]

    kinds = ["car"] * 8 + ["other_vehicle"]
    cars = [seen(look, 20.0 * n, 50.0, label=kind) for look in range(20) for n, kind in enumerate(kinds)]
    (event,) = events(cars, recall={"car": 1.0, "other_vehicle": 0.25})
    assert event.count_high == 8 + 4


def test_two_groups_that_pass_one_after_the_other_are_no_gathering() -> None:
    """Each is there for ten seconds, within the merge distance: together they last, neither does."""
    passing = [p for look in range(21) for p in crowd(look, 9, east_m=60)]
    passing += [p for look in range(22, 43) for p in crowd(look, 9, east_m=100)]

    assert events(passing) == []


def test_a_group_that_walks_is_one_gathering() -> None:
    """Nine people at 1.4 m/s stay together, also over a gap of four seconds."""
    walking = [p for look in [*range(30), *range(38, 60)] for p in crowd(look, 9, east_m=-60 + 0.7 * look)]

    (event,) = events(walking)

    assert event.ended_at - event.started_at == timedelta(seconds=29.5)


def test_a_later_flicker_does_not_lengthen_an_event() -> None:
    """Three looks with a crowd 100 seconds after a gathering are not the same gathering."""
    people = [p for look in [*range(41), 241, 242, 243] for p in crowd(look, 10)]

    (event,) = events(people, count=250)

    assert event.ended_at - event.started_at == timedelta(seconds=20)


def test_parked_vehicles_are_one_event_with_their_usual_number() -> None:
    """Four cars, of which the frame now and then cuts off two, are one event of about four."""
    cars = [
        seen(look, 20.0 * number, 50.0, label="car" if number else "other_vehicle")
        for look in range(40)
        for number in range(2 if look % 10 == 0 else 4)
    ]

    (event,) = events(cars)

    assert (event.kind, event.outpost_id) == (VEHICLE, "post")
    assert (event.count_low, event.count, event.count_high) == (2, 4, 4)


def test_a_vehicle_that_flickers_is_none() -> None:
    """Single boxes at changing places, each with a track of its own, are false detections."""
    rng = np.random.default_rng(0)
    cars = [
        seen(look, *rng.uniform(-150, 150, 2), label="car", track_id=look)
        for look in range(200)
        if rng.random() < 0.3
    ]

    assert events(cars) == []


def test_a_moving_vehicle_counts_by_its_track() -> None:
    """A car that leaves its own error radius from look to look is held together by its track."""
    driving = [seen(look, -200 + 20.0 * look, 30.0, label="car", track_id=1) for look in range(12)]

    assert len(events(driving)) == 1
    assert events([replace(car, track_id=None) for car in driving]) == []


def test_boxes_that_jump_within_the_error_of_the_fix_are_no_vehicle() -> None:
    """A false box a look, each some metres from the last, is none, however rough the fix is."""
    jumping = [seen(look, 12.0 * (look % 3), 50.0, label="car", radius_m=40.0) for look in range(60)]
    parked = [seen(look, 1.5 * (look % 3), 50.0, label="car", radius_m=40.0) for look in range(60)]

    assert events(jumping) == []
    assert len(events(parked)) == 1


@pytest.mark.parametrize(
    ("confidence", "expected"), [(0.29, []), (0.35, [GATHERING]), (0.45, [VEHICLE, GATHERING])]
)
def test_things_of_too_little_confidence_raise_nothing(confidence: float, expected: list[EventKind]) -> None:
    """More is asked of a vehicle than of each of many people."""
    people = [person for look in range(41) for person in crowd(look, 10)]
    cars = [seen(look, -50, 0, label="car", track_id=1) for look in range(41)]
    found = events([replace(thing, confidence=confidence) for thing in people + cars])

    assert {event.kind for event in found} == set(expected)


def test_a_vehicle_that_stays_too_short_is_none() -> None:
    """Three looks in one and a half seconds are not yet two seconds."""
    assert events([seen(look, 0, 50, label="car", track_id=1) for look in range(4)]) == []
    assert len(events([seen(look, 0, 50, label="car", track_id=1) for look in range(5)])) == 1


def test_a_fast_vehicle_counts_from_its_first_look() -> None:
    """The tracker's own numbers: five looks of a car at 12 m/s are two seconds, the unconfirmed first too."""
    tracker, blank = ClipTracker(sample_fps=2), np.full((512, 640, 3), 90, dtype=np.uint8)
    by_look = []
    for look in range(5):
        driving = seen(look, -20 + 6.0 * look, 30.0, label="other_vehicle" if look % 2 else "car")
        left = 100 + 60.0 * look
        box = Box(driving.label, 0.8, (left, 200, left + 40, 220))
        (number,) = tracker.update(blank, [box], offset_s=look / 2)
        by_look.append([replace(driving, track_id=number)])
    as_told = [detection for detections in by_look for detection in detections]
    whole = with_first_boxes(by_look, tracker.first_boxes)

    assert [detection.track_id for detection in as_told] == [None, 1, 1, 1, 1]
    assert [detection.track_id for detection in whole] == [1] * 5
    assert events(as_told) == []
    assert [event.kind for event in events(whole)] == [VEHICLE]


def test_a_bicycle_is_no_vehicle() -> None:
    """Bicycles are detected and kept, and raise nothing."""
    assert events([seen(look, 0, 50, label="bicycle") for look in range(60)]) == []


def test_only_outposts_whose_radius_is_likely_reached_get_an_event() -> None:
    """Each outpost near a happening has its own event; one just out of reach has none."""
    cars = [seen(look, 0, 50, label="car") for look in range(20)]
    posts = [
        outpost("near"),
        outpost("also", east_m=300),
        outpost("beyond", east_m=420),
        outpost("far", east_m=9000),
    ]

    assert [event.outpost_id for event in events(cars, outposts=posts)] == ["also", "near"]


def test_a_place_on_the_edge_is_as_likely_inside_as_out() -> None:
    """At the watch radius the probability is a half, and the threshold decides."""
    cars = [seen(look, 0, 400, label="car") for look in range(20)]

    (event,) = events(cars)

    assert event.p_inside == pytest.approx(0.5, abs=0.02)
    assert events(cars, thresholds=replace(THRESHOLDS, min_p_inside=0.6)) == []


def test_detections_of_two_clips_or_without_a_look_are_refused() -> None:
    """A mistake of the caller is an error, not a wrong event."""
    with pytest.raises(ValueError, match="one clip"):
        events([seen(0, 0, 0), replace(seen(1, 0, 0), clip_id="other")])
    with pytest.raises(ValueError, match=r"frames without one: \[45\]"):
        events([seen(3, 0, 0)], count=2)


POSES = {
    "night_gathering": (33.5866, 71.4441, 60.0, 120.0, -80.0),
    "night_walkers": (33.5868, 71.4425, 60.0, 120.0, -30.0),
    "night_vehicles": (33.5905, 71.4400, 130.0, 200.0, -30.0),
}
"""Latitude, longitude, height above take-off, heading and pitch, as the flights' telemetry has them."""


def real_events(name: str, *, missed: float = 0.0, false_boxes: float = 0.0, seed: int = 0) -> list[Event]:
    """Return the events of a real flight's true boxes, of which some are missed and others made up."""
    if "OUTWATCH_SAMPLES" not in os.environ:
        pytest.skip("needs the truth of real footage: set OUTWATCH_SAMPLES to the samples' folder")
    samples = Path(os.environ["OUTWATCH_SAMPLES"])
    frames = json.loads((samples / "footage" / f"{name}.truth.json").read_text())["frames"]
    outposts = [
        Outpost(
            id=feature["properties"]["id"],
            name=feature["properties"]["name"],
            name_ur=feature["properties"]["name_ur"],
            kind=OutpostKind(feature["properties"]["kind"]),
            geometry=shapely.geometry.shape(feature["geometry"]),
            watch_radius_m=feature["properties"]["watch_radius_m"],
            control_room=feature["properties"]["control_room"],
        )
        for feature in json.loads((samples / "outposts.geojson").read_text())["features"]
    ]
    lat, lon, height_m, heading_deg, pitch_deg = POSES[name]
    pose = TelemetrySample(0.0, None, GeoPoint(lat, lon), height_m, heading_deg, pitch_deg, 0.0)
    camera = Camera("DJI XT2 25 mm", Modality.THERMAL, 24.56, 0.5, "640 px of 17 um behind 25 mm")
    locator = GroundLocator(None, ErrorBudget(2.5, 2.0, 2.5, 0.7, 15.0, 3.0))
    footprint, _ = locator.footprint(pose, camera, width_px=640, height_px=512)
    rng = np.random.default_rng(seed)
    detections: list[Detection] = []
    covered: list[Coverage] = []
    for index, frame in enumerate(frames):
        at = START + timedelta(seconds=frame["time_s"])
        labelled = [(box["label"], box["xywh"]) for box in frame["boxes"] if rng.random() >= missed]
        labelled += [
            (str(rng.choice(["person", "car"])), [*rng.uniform(0, 480, 2), 15, 20])
            for _ in range(rng.poisson(false_boxes))
        ]
        boxes = [(x, y, x + w, y + h) for _, (x, y, w, h) in labelled]
        located = locator.locate(boxes, at=at, pose=pose, camera=camera, width_px=640, height_px=512)
        covered.append(Coverage("clip", at, frame["time_s"], index * 15, footprint))
        detections += [
            Detection(
                "clip",
                at,
                frame["time_s"],
                index * 15,
                label,
                0.7,
                box,
                "m",
                None,
                place.fix,
                place.east_m,
                place.north_m,
            )
            for (label, _), box, place in zip(labelled, boxes, located, strict=True)
        ]
    found_share = 1 - missed
    return events(
        detections, outposts=outposts, covered=covered, recall={"person": found_share, "car": found_share}
    )


IMPERFECT = pytest.mark.parametrize(
    ("missed", "false_boxes", "seed"),
    [(0.0, 0.0, 0), (0.15, 0.5, 1), (0.2, 1.0, 2), (0.25, 1.0, 3), (0.25, 0.0, 4)],
)


@IMPERFECT
def test_real_gathering_is_found_once_with_its_true_size(
    missed: float, false_boxes: float, seed: int
) -> None:
    """A group of 13 (median), up to 21, is one gathering near the post, even if a quarter is missed."""
    (event,) = real_events("night_gathering", missed=missed, false_boxes=false_boxes, seed=seed)

    assert (event.kind, event.outpost_id) == (GATHERING, "sample-post")
    assert event.count_low <= 13 <= event.count_high
    assert event.count_low <= 21 <= event.count_high
    assert 9 <= event.count <= 14
    assert event.ended_at - event.started_at > timedelta(seconds=35)


@IMPERFECT
def test_real_walkers_are_no_event(missed: float, false_boxes: float, seed: int) -> None:
    """Fifteen people spread over 46 by 72 m are not a gathering, whatever a detector adds or misses."""
    assert real_events("night_walkers", missed=missed, false_boxes=false_boxes, seed=seed) == []


@IMPERFECT
def test_real_parked_cars_are_one_event_with_their_number(
    missed: float, false_boxes: float, seed: int
) -> None:
    """Eight cars that leave the view of a turning camera and return are one event near the school."""
    (event,) = real_events("night_vehicles", missed=missed, false_boxes=false_boxes, seed=seed)

    assert (event.kind, event.outpost_id) == (VEHICLE, "sample-school")
    assert event.count_low <= 8 <= event.count_high
    assert 7 <= event.count <= 10
