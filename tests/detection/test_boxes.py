"""What several tiles saw of one thing becomes one box, and what is two stays two."""

from __future__ import annotations

import numpy as np
import pytest

from detection.boxes import Letterbox, join_tiles, share_inside
from outwatch.domain.types import Box

FRAME_PX = (200, 100)
LEFT, RIGHT = (0, 0, 120, 100), (80, 0, 200, 100)
"""Two tiles side by side that overlap by 40 px."""


def box(left: float, right: float, *, confidence: float = 0.8, label: str = "person", top: float = 10) -> Box:
    """Return a box 20 px high."""
    return Box(label, confidence, (left, top, right, top + 20))


def joined(left: list[Box], right: list[Box]) -> list[tuple[str, float, float]]:
    """Return label, left and right edge of the boxes that two tiles give, most confident first."""
    boxes = join_tiles([left, right], np.array([LEFT, RIGHT]), image_size_px=FRAME_PX)
    return [(box.label, box.box_xyxy_px[0], box.box_xyxy_px[2]) for box in boxes]


def test_nothing_seen_is_nothing() -> None:
    """Empty tiles give no boxes."""
    assert joined([], []) == []


def test_a_thing_seen_whole_by_both_is_one() -> None:
    """In the overlap the surer of two boxes stays."""
    assert joined([box(90, 110, confidence=0.6)], [box(91, 111, confidence=0.7)]) == [("person", 91, 111)]


def test_a_stump_gives_way_to_the_whole_even_if_surer() -> None:
    """What an edge left of a thing is dropped for the neighbour's whole box, which it hardly overlaps."""
    assert joined([box(112, 120, confidence=0.9)], [box(112, 142, confidence=0.4)]) == [("person", 112, 142)]


def test_pieces_that_no_tile_saw_whole_are_put_together() -> None:
    """A lorry longer than the overlap is one, with the confidence of its surer piece."""
    lorry = joined(
        [box(20, 120, label="car", confidence=0.5)], [box(80, 170, label="other_vehicle", confidence=0.7)]
    )
    assert lorry == [("other_vehicle", 20, 170)]


def test_neighbours_at_an_edge_stay_two() -> None:
    """Two people side by side, one of them cut, are two."""
    assert joined([box(100, 117), box(118, 120)], [box(100, 117), box(118, 135, confidence=0.7)]) == [
        ("person", 100, 117),
        ("person", 118, 135),
    ]


def test_a_person_before_a_car_at_an_edge_stays() -> None:
    """Only a box of its own kind swallows a stump."""
    found = joined([box(110, 119)], [box(90, 150, label="car", confidence=0.9), box(110, 125)])
    assert found == [("car", 90, 150), ("person", 110, 125)]


def test_a_box_at_the_frames_own_edge_is_not_cut() -> None:
    """What leaves the frame is seen by no other tile: it is whole as it is."""
    assert joined([box(0, 15)], [box(190, 200)]) == [("person", 0, 15), ("person", 190, 200)]


def test_the_share_inside_is_that_of_the_first() -> None:
    """A half of the small box lies in the large one, and a twentieth of the large one in the small."""
    small, large = np.array([[0.0, 0.0, 10.0, 10.0]]), np.array([[5.0, 0.0, 105.0, 10.0]])
    assert (share_inside(small, large)[0, 0], share_inside(large, small)[0, 0]) == (0.5, 0.05)


@pytest.mark.parametrize(("size_px", "scale"), [((640, 512), 1.0), ((1280, 720), 0.5), ((320, 512), 1.0)])
def test_a_given_input_is_filled_as_far_as_the_shape_allows(size_px: tuple[int, int], scale: float) -> None:
    """A frame keeps its shape in an input that cannot be chosen, and its boxes come back exactly."""
    letterbox = Letterbox.into(width_px=size_px[0], height_px=size_px[1], input_size_px=(640, 512))
    assert letterbox.scale == scale
    assert letterbox.apply(np.zeros((size_px[1], size_px[0], 3), dtype=np.uint8)).shape == (512, 640, 3)
    inside = np.array(
        [[letterbox.left_px, letterbox.top_px, 640.0 - letterbox.left_px, 512.0 - letterbox.top_px]]
    )
    assert letterbox.undo(inside).tolist() == [[0.0, 0.0, *size_px]]
