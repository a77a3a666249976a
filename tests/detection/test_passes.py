"""Which times of a clip are looked at closely, and that a box is where it is at any scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from detection.detect import ClipDetections, Looker, detect_clip, joined
from detection.ground import ErrorBudget, GroundLocator
from detection.passes import EpisodeLimits, Episodes, find_episodes, merged
from detection.tracks import ClipTracker
from outwatch.domain.geometry import LocalFrame
from outwatch.domain.types import (
    Box,
    Clip,
    ClockSource,
    Completeness,
    Coverage,
    Detection,
    Frame,
    GeoPoint,
    GroundFix,
    Image,
    Modality,
    Outpost,
    OutpostKind,
    Recall,
    TelemetrySample,
    Track,
)

SEEN_AT = datetime(2026, 3, 14, 16, 40, tzinfo=UTC)
CENTRE = GeoPoint(33.5, 71.4)
LIMITS = EpisodeLimits(margin_s=4.0, full_s=30.0, reach_m=100.0, steady_m=10.0)
OUTPOST = Outpost(
    id="post",
    name="Post",
    name_ur="Post",
    kind=OutpostKind.POLICE_OUTPOST,
    geometry=shapely.Point(CENTRE.lon_deg, CENTRE.lat_deg),
    watch_radius_m=200.0,
    control_room="room",
)


def seen(offset_s: float, *, east_m: float = 0.0, label: str = "car", located: bool = True) -> Detection:
    """Return a detection some metres east of the outpost."""
    lat_deg, lon_deg = LocalFrame.at(CENTRE).to_geo(np.array([east_m]), np.array([0.0]))
    at = SEEN_AT + timedelta(seconds=offset_s)
    point = GeoPoint(float(lat_deg[0]), float(lon_deg[0])) if located else None
    return Detection(
        clip_id="c",
        at=at,
        offset_s=offset_s,
        frame_index=round(offset_s * 30),
        label=label,
        confidence=0.3,
        box_xyxy_px=(0.0, 0.0, 9.0, 9.0),
        model_id="m",
        track_id=None,
        fix=GroundFix(at, point, None, 2.0 if located else None, "flat_ground" if located else "none"),
    )


def episodes(*detections: Detection, limits: EpisodeLimits = LIMITS) -> Episodes:
    """Return the episodes around one outpost."""
    return find_episodes(detections, outposts=[OUTPOST], limits=limits)


def test_one_box_near_an_outpost_opens_its_time_in_full() -> None:
    """A car that passes in two seconds is seen once: that is enough."""
    assert episodes(seen(20.0)) == Episodes(full=((16.0, 24.0),))


@pytest.mark.parametrize(
    ("found", "opens"),
    [
        (seen(20.0, east_m=299.0), True),
        (seen(20.0, east_m=305.0), True),  # within the reach and three times the radius of its error
        (seen(20.0, east_m=320.0), False),
        (seen(20.0, located=False), False),
    ],
)
def test_only_what_may_reach_an_outpost_opens_an_episode(found: Detection, opens: bool) -> None:
    """What lies beyond the watch radius and the reach, or nowhere, is no event by any rule."""
    assert bool(episodes(found).full) is opens


def test_no_outposts_no_episodes() -> None:
    """Where nothing is watched a clip is never decoded in full."""
    assert find_episodes([seen(1.0)], outposts=[], limits=LIMITS) == Episodes()


def test_what_stands_there_for_long_needs_keyframes_alone() -> None:
    """Five minutes of a parked car are looked at closely for the first half minute."""
    parked = [seen(float(second), east_m=0.5 * (second % 3)) for second in range(100, 400)]
    assert episodes(*parked) == Episodes(full=((96.0, 130.0),), steady=((130.0, 403.0),))


def test_a_car_that_passes_a_long_gathering_is_looked_at_closely() -> None:
    """What is new opens time in full, whatever else has been standing there."""
    people = [seen(float(second), label="person") for second in range(100, 400)]
    car = seen(300.0, east_m=50.0)
    assert episodes(*people, car).full == ((96.0, 130.0), (296.0, 330.0))
    moving = [seen(300.0 + second, east_m=-150.0 + 15.0 * second) for second in range(12)]
    assert episodes(*people, *moving).full == ((96.0, 130.0), (296.0, 341.0))


def test_what_comes_back_after_long_is_new() -> None:
    """Memory is as long as the time in full."""
    assert episodes(seen(0.0), seen(60.0)).full == ((-4.0, 4.0), (56.0, 64.0))


def test_all_that_is_near_lies_in_an_episode() -> None:
    """Full and steady times are apart, and nothing near an outpost is left out of them."""
    found = episodes(*[seen(float(second), east_m=float(3 * second % 40)) for second in range(0, 300, 7)])
    assert all(float(second) in found for second in range(0, 300, 7))
    spans = sorted((*found.full, *found.steady))
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9)), max_size=12))
def test_merged_spans_hold_the_same_time(found: list[tuple[int, int]]) -> None:
    """Spans that touch or overlap become one; no time is gained or lost."""
    spans = [(float(start), float(start + length)) for start, length in found]
    once = merged(spans)
    assert all(before[1] < after[0] for before, after in pairwise(once))
    for half in range(130):
        at = half / 2 + 0.25
        assert any(a <= at < b for a, b in spans) is any(a <= at < b for a, b in once)


def test_parts_become_one_clip_with_numbers_of_their_own() -> None:
    """Tracks of a later part go on behind those of an earlier one; looks are in order of time."""
    first, second = _part(0.0), _part(50.0)
    whole = joined([first, second])
    assert [track.id for track in whole.tracks] == [1, 2]
    assert [found.track_id for found in whole.detections] == [1, 2]
    assert [look.offset_s for look in joined([second, first]).looks] == [0.0, 50.0]
    assert (whole.corrupt_looks, whole.too_small) == (2, 4)


def _part(offset_s: float) -> ClipDetections:
    found = replace(seen(offset_s), track_id=1)
    track = Track("c", 1, "car", found.at, found.at, 1, 0.3, (found.fix,))
    look = Coverage("c", found.at, offset_s, found.frame_index, None)
    return ClipDetections((found,), (track,), (look,), corrupt_looks=1, too_small=2)


class Corner:
    """A detector that finds a person and a car in the middle of every image, and counts its images."""

    model_id = "m"
    labels = ("person", "car")
    recall = Recall()
    input_px = 64

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def detect(self, images: Sequence[Image], *, input_px: int | None = None) -> list[list[Box]]:  # noqa: ARG002
        """Return two boxes over the middle half of each image."""
        self.shapes += [image.shape for image in images]
        return [
            [
                Box(
                    label,
                    0.9,
                    (image.shape[1] / 4, image.shape[0] / 4, image.shape[1] / 2, image.shape[0] / 2),
                )
                for label in self.labels
            ]
            for image in images
        ]


def looker(detector: Corner, *, height_m: float = 30.0) -> Looker:
    """Return what looks straight down at a clip of 192x128 pixels from a height."""
    clip = Clip(
        id="c",
        flight_id="f",
        platform="p",
        camera=None,
        modality=Modality.THERMAL,
        started_at=SEEN_AT,
        clock_source=ClockSource.TELEMETRY,
        clock_uncertainty_s=1.0,
        duration_s=9.0,
        frame_count=90,
        width_px=192,
        height_px=128,
        frame_rate_hz=10.0,
        codec="h264",
        object_key="k",
        sha256="0" * 64,
        completeness=Completeness(90, 90, 0, 9.0, 9.0),
        file_name="a.mp4",
        size_bytes=1,
    )
    pose = TelemetrySample(0.0, None, CENTRE, height_m, heading_deg=0.0, pitch_deg=-90.0, hfov_deg=20.0)
    budget = ErrorBudget(2.5, 2.0, 2.5, 0.7, 15.0, 3.0)
    return Looker(clip, detector, GroundLocator(None, budget), lambda _: pose, batch=2)


def frames(*indices: int, shrink: int = 1) -> list[Frame]:
    """Return grey frames, shrunk to a share of the clip's."""
    image = np.full((128 // shrink, 192 // shrink, 3), 90, np.uint8)
    return [Frame(index, index / 10, image) for index in indices]


def test_boxes_found_in_shrunken_frames_are_in_pixels_of_the_clip() -> None:
    """Where a thing is does not depend on the size at which it was seen."""
    eye = looker(Corner())
    whole, shrunk = (
        detect_clip(frames(0, 5, 10, shrink=shrink), looker=eye, tracker=ClipTracker(sample_fps=2.0))
        for shrink in (1, 2)
    )
    assert [found.box_xyxy_px for found in whole.detections] == [(48.0, 32.0, 96.0, 64.0)] * 6
    assert whole == shrunk
    assert {track.hits for track in whole.tracks} == {3}


def test_what_was_seen_before_is_followed_and_not_looked_for_again() -> None:
    """Frames of the first pass cost the model nothing in the second."""
    eye = looker(detector := Corner())
    known = {frame.index: seen for frame, seen in eye.look(frames(0, 10, 20), known={})}
    assert len(detector.shapes) == 3
    again = detect_clip(frames(0, 5, 10), looker=eye, tracker=ClipTracker(sample_fps=2.0), known=known)
    assert len(detector.shapes) == 4
    assert [look.frame_index for look in again.looks] == [0, 5, 10]
    assert {track.hits for track in again.tracks} == {3}


def test_things_too_small_to_be_claimed_are_dropped_counted_and_said() -> None:
    """From high up a person has too few pixels: the box goes, and the look says to what it is blind."""
    found = detect_clip(
        frames(0, 5), looker=looker(Corner(), height_m=60.0), tracker=ClipTracker(sample_fps=2.0)
    )
    assert {one.label for one in found.detections} == {"car"}
    assert (found.too_small, found.counts["too_small"]) == (2, 2)
    assert all("person" in look.blind_to and "car" not in look.blind_to for look in found.looks)
    assert all(look.gsd_m == pytest.approx(2 * 60 * np.tan(np.radians(10)) / 192) for look in found.looks)
