"""A frame is looked at as closely as people and vehicles in it need, and no closer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.tiling import LookPlan, SizeLimits, detect_planned, grid, gsd_of, plan_look
from outwatch.domain.types import Box, Camera, Image, Modality, Recall, TelemetrySample

SIZES = SizeLimits()
POSE = TelemetrySample(
    offset_s=0.0, at=None, point=None, height_agl_m=100.0, heading_deg=0.0, pitch_deg=-90.0, hfov_deg=60.0
)
CAMERA = Camera("wide", Modality.RGB, 90.0, 1.0, "a test")


def plan(
    gsd_m: float | None,
    *,
    pitch_deg: float | None = -60.0,
    size_px: tuple[int, int] = (1920, 1080),
    model_input_px: int = 640,
    sizes: SizeLimits = SIZES,
) -> LookPlan:
    """Return the plan for a frame."""
    return plan_look(
        gsd_m=gsd_m,
        pitch_deg=pitch_deg,
        width_px=size_px[0],
        height_px=size_px[1],
        model_input_px=model_input_px,
        sizes=sizes,
    )


def test_a_pixel_covers_the_ground_that_the_lens_and_the_distance_say() -> None:
    """100 m above, 60 degrees over 1000 pixels are 115.5 m; at 30 degrees down it is twice as far."""
    assert gsd_of(POSE, camera=None, width_px=1000) == pytest.approx(0.11547, rel=1e-4)
    oblique = replace(POSE, pitch_deg=-30.0)
    assert gsd_of(oblique, camera=None, width_px=1000) == pytest.approx(0.23094, rel=1e-4)


def test_a_terrain_and_a_camera_stand_in_for_the_telemetry() -> None:
    """The height above a terrain counts before the take-off's; the camera's lens where none is told."""
    nameless = replace(POSE, hfov_deg=None)
    assert gsd_of(nameless, camera=CAMERA, width_px=1000) == pytest.approx(0.2)
    assert gsd_of(nameless, camera=CAMERA, width_px=1000, ground_below_m=250.0) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "pose",
    [
        None,
        replace(POSE, pitch_deg=None),
        replace(POSE, height_agl_m=None),
        replace(POSE, height_agl_m=-3.0),
        replace(POSE, hfov_deg=None),
        replace(POSE, pitch_deg=0.0),
        replace(POSE, pitch_deg=12.0),
        replace(POSE, pitch_deg=-0.1),
    ],
)
def test_a_pose_that_says_too_little_has_no_distance(pose: TelemetrySample | None) -> None:
    """Without height, pitch or lens, above the horizon or all but level, nothing is said."""
    assert gsd_of(pose, camera=None, width_px=1000) is None


def test_near_ground_is_looked_at_whole_in_the_models_own_size() -> None:
    """Where a person fills fifty pixels, more would be work for nothing."""
    assert plan(0.015) == LookPlan(640)
    assert plan(0.015, model_input_px=896) == LookPlan(896)


def test_farther_ground_is_looked_at_larger_then_in_tiles() -> None:
    """Each step back needs as much input as the one before, or more, and tiles come last."""
    plans = [plan(gsd_m, size_px=(3840, 2160)) for gsd_m in (0.01, 0.018, 0.025, 0.035, 0.045)]
    assert [640, 928, 1344, 1920] == [planned.input_px for planned in plans[:4]]
    assert [0, 0, 0, 0, 18] == [len(planned.tiles) for planned in plans]


def test_tiles_show_the_frames_own_pixels_at_most() -> None:
    """A tile is never enlarged: at worst it is cut as large as the model's own size."""
    finest = plan(0.09, size_px=(3840, 2160), sizes=SizeLimits(max_tiles=99))
    tile = finest.tiles[0]
    assert finest.input_px <= 640
    assert finest.input_px - 32 < max(tile.right_px - tile.left_px, tile.bottom_px - tile.top_px) <= 640


def test_an_unknown_distance_means_whole_and_at_the_frames_own_size() -> None:
    """Without telemetry nothing is refused, and a large frame is looked at in middling size."""
    assert plan(None, pitch_deg=None) == LookPlan(1344)
    assert plan(None, size_px=(640, 512)) == LookPlan(640)
    assert plan(None, size_px=(768, 576)) == LookPlan(928)


def test_small_frames_are_enlarged_as_far_as_it_helps_and_never_cut() -> None:
    """A thermal frame from high up is looked at in up to twice its size."""
    plans = [plan(gsd_m, size_px=(640, 512), pitch_deg=-30.0) for gsd_m in (0.08, 0.1, 0.15)]
    assert [640, 928, 1344] == [planned.input_px for planned in plans]
    assert plan(0.15, size_px=(320, 256)).input_px == 640
    assert not any(planned.tiles for planned in plans)


def test_people_too_small_for_a_claim_are_told_and_not_looked_for() -> None:
    """Below ten pixels there is no person; below twelve no vehicle; then a plain look is enough."""
    assert plan(0.17).blind_to == ("person",)
    assert plan(0.21).blind_to == ("person", "bicycle")
    assert plan(0.5) == LookPlan(640, (), ("person", "car", "bicycle", "other_vehicle"))


def test_the_least_sizes_are_settings() -> None:
    """An agency may ask for more pixels, or make do with fewer."""
    assert plan(0.1, sizes=SizeLimits(min_person_px=25.0)).blind_to == ("person", "bicycle")
    assert plan(0.2, sizes=SizeLimits(min_person_px=5.0)).blind_to == ()


def test_a_person_is_smallest_from_straight_above() -> None:
    """The same distance that shows a person from the side does not from above, nor where nobody knows."""
    blind = [plan(0.11, pitch_deg=pitch_deg).blind_to for pitch_deg in (-30.0, -60.0, -90.0, None)]
    assert [(), (), ("person",), ("person",)] == blind


def test_tiles_are_bounded() -> None:
    """However large the frame, a look is never more than so many tiles: they become coarser."""
    full = plan(0.04, size_px=(7680, 4320))
    few = plan(0.04, size_px=(7680, 4320), sizes=SizeLimits(max_tiles=4))
    assert 4 < len(full.tiles) <= SIZES.max_tiles
    assert 1 <= len(few.tiles) <= 4
    assert full.tiles[0].right_px < few.tiles[0].right_px


@given(
    gsd_m=st.floats(0.01, 0.3),
    pitch_deg=st.floats(-90, -5),
    width_px=st.integers(64, 5000),
    height_px=st.integers(64, 5000),
    model_input_px=st.sampled_from([320, 640, 896]),
)
def test_a_plan_sees_the_whole_frame_with_enough_pixels(
    gsd_m: float, pitch_deg: float, width_px: int, height_px: int, model_input_px: int
) -> None:
    """Tiles are of one size, lie inside the frame, cover it, and keep to the model's size."""
    planned = plan(gsd_m, pitch_deg=pitch_deg, size_px=(width_px, height_px), model_input_px=model_input_px)
    seen = np.zeros((height_px, width_px), dtype=bool)
    for tile in planned.tiles:
        assert 0 <= tile.left_px < tile.right_px <= width_px
        assert 0 <= tile.top_px < tile.bottom_px <= height_px
        seen[tile.top_px : tile.bottom_px, tile.left_px : tile.right_px] = True
    assert seen.all() or not planned.tiles
    assert len({(tile.right_px - tile.left_px, tile.bottom_px - tile.top_px) for tile in planned.tiles}) <= 1
    assert len(planned.tiles) <= SIZES.max_tiles
    assert planned.input_px <= (
        model_input_px if planned.tiles else max(SIZES.longest_whole_px, model_input_px)
    )


@pytest.mark.parametrize(("person_px", "input_px"), [(6.0, 320), (12.0, 480), (16.0, 640)])
def test_a_first_look_may_be_smaller_than_what_the_model_was_trained_for(
    person_px: float, input_px: int
) -> None:
    """Where limits allow it the frame is shrunk as far as people keep their pixels; else it is not."""
    first = SizeLimits(person_input_px=person_px, vehicle_input_px=12.0, least_whole_px=320)
    assert plan(0.03, sizes=first).input_px == input_px
    assert plan(0.03, sizes=replace(first, least_whole_px=None)).input_px == 640


@given(st.integers(100, 4000), st.integers(64, 900), st.integers(0, 15))
def test_neighbouring_tiles_overlap_enough(width_px: int, side_px: int, overlap_px: int) -> None:
    """A thing no longer than the overlap lies whole in one tile, wherever it stands."""
    tiles = grid(width_px, 50, side_px=side_px, overlap_px=overlap_px)
    assert all(tile.right_px - tile.left_px <= side_px for tile in tiles)
    for left, right in pairwise(tiles):
        assert left.right_px - right.left_px >= overlap_px


class Spots:
    """A detector that finds each spot of one grey level on black, cut where the image ends."""

    model_id = "spots-0"
    labels = ("car",)
    recall = Recall()
    input_px = 320

    def __init__(self) -> None:
        self.looks: list[tuple[int, int | None]] = []

    def detect(self, images: Sequence[Image], *, input_px: int | None = None) -> list[list[Box]]:
        """Return a box for each level, the surer the more of it is seen."""
        self.looks.append((len(images), input_px))
        return [[spot_of(image[..., 0] == level) for level in np.unique(image) if level] for image in images]


def spot_of(spot: npt.NDArray[np.bool_]) -> Box:
    """Return the box around what is true."""
    rows, columns = np.flatnonzero(spot.any(axis=1)), np.flatnonzero(spot.any(axis=0))
    edges = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return Box("car", 0.3 + min(0.6, spot.sum() / 1e5), tuple(float(edge) for edge in edges))


def corners(boxes: Sequence[Box]) -> list[tuple[float, ...]]:
    """Return the corners of boxes in order of place."""
    return sorted(box.box_xyxy_px for box in boxes)


SMALL = SizeLimits(longest_whole_px=320)
"""With it a frame of 960 by 540 is cut into tiles of up to 320, which overlap by up to 80."""


@settings(max_examples=30)
@given(
    places=st.lists(st.tuples(st.integers(0, 15), st.integers(0, 8)), min_size=1, max_size=6, unique=True),
    shift_px=st.tuples(st.integers(0, 20), st.integers(0, 20)),
    side_px=st.integers(8, 36),
)
def test_things_are_found_once_wherever_edges_cut_them(
    places: list[tuple[int, int]], shift_px: tuple[int, int], side_px: int
) -> None:
    """Tiles give the boxes that the whole frame gives: none doubled, none cut, none moved."""
    image = np.zeros((540, 960, 3), dtype=np.uint8)
    for level, (column, row) in enumerate(places, start=1):
        left, top = 60 * column + shift_px[0], 60 * row + shift_px[1]
        image[top : top + side_px, left : left + side_px] = level
    planned = plan(0.08, size_px=(960, 540), model_input_px=320, sizes=SMALL)
    detector = Spots()
    (whole,) = detector.detect([image])
    (found,) = detect_planned(detector, [image], planned)
    assert len(planned.tiles) > 4
    assert corners(whole) == corners(found)


def test_a_thing_longer_than_the_overlap_is_put_together() -> None:
    """A lorry that no tile shows whole is one box as long as it is."""
    image = np.zeros((540, 960, 3), dtype=np.uint8)
    image[150:180, 90:890] = 1
    (found,) = detect_planned(
        Spots(), [image], plan(0.08, size_px=(960, 540), model_input_px=320, sizes=SMALL)
    )
    assert [(90.0, 150.0, 890.0, 180.0)] == corners(found)


def test_images_keep_their_order_and_are_looked_at_together() -> None:
    """The tiles of all images go to the detector at once, and each box comes back to its image."""
    images = [np.zeros((540, 960, 3), dtype=np.uint8) for _ in range(3)]
    for index, image in enumerate(images):
        image[200:220, 100 + 100 * index : 120 + 100 * index] = 7
    planned = plan(0.08, size_px=(960, 540), model_input_px=320, sizes=SMALL)
    detector = Spots()
    found = detect_planned(detector, images, planned)
    assert [[(100.0 + 100 * i, 200.0, 120.0 + 100 * i, 220.0)] for i in range(3)] == [
        corners(boxes) for boxes in found
    ]
    assert [(3 * len(planned.tiles), planned.input_px)] == detector.looks
    assert [] == detect_planned(detector, [], planned)


def test_a_whole_look_takes_frames_of_any_size() -> None:
    """A decoder may hand frames on smaller: a plan without tiles does not mind."""
    detector = Spots()
    detect_planned(detector, [np.zeros((54, 96, 3), dtype=np.uint8)], LookPlan(928))
    assert [(1, 928)] == detector.looks
