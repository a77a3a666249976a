"""Who belongs to an event, and that others cannot be made out once they are hidden."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.evidence import bystanders, hide
from outwatch.domain.geometry import LocalFrame
from outwatch.domain.types import Detection, Event, EventKind, GeoPoint, GroundFix

LINK_M = 5.0


def standing(
    event: Event,
    east_m: float,
    north_m: float,
    *,
    label: str = "person",
    track: int | None = None,
    frame: int | None = None,
) -> Detection:
    """Return what stands so far from the event, in its peak frame or another."""
    origin = event.fix.point
    assert origin is not None
    lat, lon = LocalFrame.at(origin).to_geo(east_m, north_m)
    at = event.peak_at if frame is None else event.peak_at + timedelta(seconds=1)
    fix = GroundFix(at, GeoPoint(float(lat), float(lon)), None, 5.0, "flat_ground")
    index = event.peak_frame_index if frame is None else frame
    assert index is not None
    return Detection(
        "clip-1", at, 10.0, index, label, 0.8, (0, 0, 20, 40), "model-1", track, fix, east_m, north_m
    )


def test_a_group_belongs_and_whoever_stands_apart_does_not(gathering: Event) -> None:
    """Of two groups the one at the event's place; a lone person, a car and the other group are bystanders."""
    group = [standing(gathering, east, 0) for east in (-4, -2, 0, 2, 4, 6)]
    others = [standing(gathering, 60 + east, 0) for east in (0, 2, 4)]
    others += [standing(gathering, 25, 25), standing(gathering, 1, 1, label="car")]
    assert bystanders(gathering, [*group, *others], link_m=LINK_M) == others


def test_members_stay_members_in_other_frames(gathering: Event) -> None:
    """A member that walks off is told by its track, one that lost its track by where it stands."""
    group = [standing(gathering, east, 0, track=number) for number, east in enumerate((0, 2, 4))]
    walked = standing(gathering, 30, 0, track=1, frame=330)
    lost = standing(gathering, 2.5, 0, track=77, frame=330)
    stranger = standing(gathering, 30, 3, track=78, frame=330)
    assert bystanders(gathering, [*group, walked, lost, stranger], link_m=LINK_M) == [stranger]


def test_outside_its_time_nobody_belongs(gathering: Event) -> None:
    """Who stands at the place before the event began is hidden."""
    group = [standing(gathering, east, 0, track=number) for number, east in enumerate((0, 2, 4))]
    before = replace(group[0], at=gathering.started_at - timedelta(seconds=1), frame_index=1)
    assert bystanders(gathering, [*group, before], link_m=LINK_M) == [before]


def test_of_vehicles_as_many_belong_as_were_counted(gathering: Event) -> None:
    """One vehicle near the post: the nearer one is the event's, the other and all people are not."""
    event = replace(gathering, kind=EventKind.VEHICLE_NEAR_OUTPOST, count=1, count_low=1, count_high=1)
    near, far = standing(event, 1, 0, label="car"), standing(event, 30, 0, label="car")
    person = standing(event, 2, 0)
    assert bystanders(event, [far, person, near], link_m=LINK_M) == [far, person]


@settings(deadline=None, max_examples=40)
@given(
    left=st.integers(-30, 300), top=st.integers(-30, 220), side=st.integers(6, 90), seed=st.integers(0, 99)
)
def test_hidden_pixels_keep_no_detail(left: int, top: int, side: int, seed: int) -> None:
    """Of any box, also across the edge, what is left has lost its fine structure; all else is untouched."""
    image = np.random.default_rng(seed).integers(0, 255, (240, 320, 3), dtype=np.uint8)
    box = (float(left), float(top), float(left + side), float(top + 2 * side))
    found = Detection(
        "c",
        None,
        0.0,
        0,
        "person",
        0.5,
        box,
        "m",
        None,
        GroundFix(None, None, None, None, "none"),  # type: ignore[arg-type]
    )
    before, hidden = image.copy(), hide(image, [found])
    inside = np.zeros((240, 320), bool)
    inside[max(0, top) : max(0, top + 2 * side), max(0, left) : max(0, left + side)] = True
    changed = (hidden != image).any(axis=-1)
    assert (image == before).all()
    assert changed[inside].mean() > 0.95 if inside.any() else not changed[inside].any()
    reach = 0.35 * 2 * side + 5
    assert not changed[:, : max(0, int(left - reach))].any()
    assert not changed[: max(0, int(top - reach))].any()


def test_two_people_cannot_be_told_apart_once_hidden() -> None:
    """Two quite different figures of one brightness give nearly the same smear."""
    noise = np.random.default_rng(5)
    figures = [
        np.kron(noise.permutation(np.repeat([40, 220], 50)).reshape(10, 10), np.ones((4, 4))) for _ in "ab"
    ]
    pictures = []
    for figure in figures:
        image = np.full((120, 120, 3), 130, np.uint8)
        image[40:80, 40:80] = figure[:, :, None].astype(np.uint8)
        box = (40.0, 40.0, 80.0, 80.0)
        found = Detection("c", None, 0.0, 0, "person", 0.5, box, "m", None, None)  # type: ignore[arg-type]
        pictures.append(hide(image, [found])[40:80, 40:80, 0].astype(float))
    open_contrast = np.std(figures[0] - figures[1])
    assert np.std(pictures[0] - pictures[1]) < 0.2 * open_contrast
    edges = cv2.Laplacian(pictures[0], cv2.CV_64F).std()
    assert edges < 0.05 * cv2.Laplacian(figures[0].astype(float), cv2.CV_64F).std()


def test_nothing_to_hide_is_the_picture_itself() -> None:
    """No copy is made of what stays as it is."""
    image = np.zeros((10, 10, 3), np.uint8)
    assert hide(image, []) is image


@pytest.mark.parametrize("count", [0, 3])
def test_an_event_without_a_place_has_no_members(gathering: Event, count: int) -> None:
    """In doubt everybody is hidden."""
    people = [standing(gathering, east, 0) for east in range(count)]
    nowhere = replace(gathering, fix=replace(gathering.fix, point=None))
    assert bystanders(nowhere, people, link_m=LINK_M) == people
