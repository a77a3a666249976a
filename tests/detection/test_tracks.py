"""Track numbers stay with things while the camera turns, and never leak between clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detection.tracks import LOOK_WIDTH_PX, CameraMotion, ClipTracker
from outwatch.domain.types import Box, Image

SIZE_PX = (640, 512)
BLANK: Image = np.full((512, 640, 3), 90, dtype=np.uint8)
NO_BOXES = np.empty((0, 4))


@pytest.fixture(scope="module")
def ground() -> Image:
    """Return bumpy ground, larger than a frame, on which corners can be found anywhere."""
    noise = np.random.default_rng(0).integers(0, 255, (90, 110), dtype=np.uint8)
    grey = cv2.resize(noise, (1100, 900), interpolation=cv2.INTER_CUBIC) // 4 + 60
    return np.repeat(grey[:, :, None], 3, axis=2).astype(np.uint8)


def pose(*, turn_deg: float, zoom: float, shift_px: tuple[float, float]) -> npt.NDArray[np.float64]:
    """Return the (2, 3) motion from the ground's pixels into those of a frame."""
    matrix = cv2.getRotationMatrix2D((550.0, 450.0), turn_deg, zoom)
    matrix[:, 2] += np.array([-230.0, -194.0]) + shift_px
    return np.asarray(matrix)


def look(ground: Image, matrix: npt.NDArray[np.float64]) -> Image:
    """Return what the camera sees."""
    return np.asarray(cv2.warpAffine(ground, matrix, SIZE_PX), dtype=np.uint8)


def person(
    centre_px: Sequence[float], *, confidence: float = 0.8, label: str = "person", side_px: float = 14.0
) -> Box:
    """Return a box around a centre."""
    x, y = centre_px
    half = side_px / 2
    return Box(label, confidence, (x - half, y - half, x + half, y + half))


def seen(matrix: npt.NDArray[np.float64], places: npt.NDArray[np.float64]) -> list[Box]:
    """Return the boxes of places on the ground in a frame."""
    return [person(matrix[:, :2] @ place + matrix[:, 2]) for place in places]


def follow(
    looks: Sequence[Sequence[Box]], *, offsets_s: Sequence[float] | None = None
) -> list[list[int | None]]:
    """Return the numbers of a clip whose camera stands over featureless ground, at two looks a second."""
    tracker = ClipTracker(sample_fps=2)
    times = offsets_s or [index / 2 for index in range(len(looks))]
    return [tracker.update(BLANK, boxes, offset_s=at) for boxes, at in zip(looks, times, strict=True)]


def test_camera_motion_is_recovered(ground: Image) -> None:
    """The motion found carries a look back onto the one before, to within a pixel of the full frame."""
    first, second = (
        pose(turn_deg=0, zoom=1, shift_px=(0, 0)),
        pose(turn_deg=6, zoom=1.05, shift_px=(25, -40)),
    )
    motion = CameraMotion()
    assert motion.update(look(ground, first), NO_BOXES, offset_s=0.0).tolist() == np.eye(3).tolist()
    found = motion.update(look(ground, second), NO_BOXES, offset_s=0.5)
    places = np.array([[400.0, 300.0], [700.0, 300.0], [550.0, 600.0]])
    shrunk = LOOK_WIDTH_PX / SIZE_PX[0]
    before = (places @ first[:, :2].T + first[:, 2]) * shrunk
    after = (places @ second[:, :2].T + second[:, 2]) * shrunk
    error_px = np.linalg.norm(after @ found[:2, :2].T + found[:2, 2] - before, axis=1)
    assert error_px.max() < 0.5


def test_a_camera_over_featureless_ground_is_taken_to_stand_still() -> None:
    """Featureless looks give no motion rather than a guess."""
    motion = CameraMotion()
    found = [motion.update(BLANK, NO_BOXES, offset_s=at) for at in (0.0, 0.5)]
    assert [np.eye(3).tolist()] * 2 == [matrix.tolist() for matrix in found]


def test_camera_motion_ignores_moving_things(ground: Image) -> None:
    """A large thing that crosses the frame does not pass for the camera's motion."""
    matrix = pose(turn_deg=0, zoom=1, shift_px=(0, 0))
    texture = np.random.default_rng(1).integers(0, 255, (300, 300, 3), dtype=np.uint8)
    motion = CameraMotion()
    for at, left in enumerate((100, 160)):
        frame = look(ground, matrix)
        frame[100:400, left : left + 300] = texture
        found = motion.update(frame, np.array([[left, 100.0, left + 300, 400]]) / 2, offset_s=float(at))
    np.testing.assert_allclose(found, np.eye(3), atol=0.25)


def test_standing_people_keep_their_numbers_while_the_camera_swings(ground: Image) -> None:
    """Numbers stay though the picture jerks by five body widths and more, never twice the same way."""
    places = np.array([[450.0, 400.0], [500.0, 500.0], [560.0, 420.0], [620.0, 480.0], [600.0, 380.0]])
    swings = [(0, 0, 0), (4, -70, 20), (-6, 30, -40), (8, 40, 60), (-3, -60, 30), (5, 50, -50), (0, -40, 0)]
    poses = [pose(turn_deg=turn, zoom=1 + turn / 100, shift_px=(x, y)) for turn, x, y in swings]
    tracker = ClipTracker(sample_fps=2)
    numbers = [
        tracker.update(look(ground, matrix), seen(matrix, places), offset_s=index / 2)
        for index, matrix in enumerate(poses)
    ]
    assert numbers == [[None] * 5, *[[1, 2, 3, 4, 5]] * 6]


def test_walkers_keep_their_numbers_where_boxes_no_longer_overlap() -> None:
    """A step of one and a half body widths a look is followed."""
    looks = [[person((100 + 21 * i, 100)), person((500 - 21 * i, 300))] for i in range(8)]
    assert [[None, None], *[[1, 2]] * 7] == follow(looks)


def test_crossing_walkers_keep_their_numbers() -> None:
    """Two people who pass each other are told apart by where they were going."""
    looks = [[person((100 + 8 * i, 200)), person((260 - 8 * i, 218))] for i in range(20)]
    assert follow(looks)[1:] == [[1, 2]] * 19


def test_numbers_do_not_depend_on_the_order_of_boxes() -> None:
    """A look's boxes may come in any order: the number belongs to the thing."""
    left, right = (100.0, 100.0), (400.0, 300.0)
    looks = [[person(left), person(right)], [person(left), person(right)], [person(right), person(left)]]
    assert follow(looks) == [[None, None], [1, 2], [2, 1]]


def test_empty_looks_are_survived_up_to_the_gap() -> None:
    """A thing missed for a while comes back with its number, and with a new one after too long."""
    box = [person((300, 200), label="car", side_px=40)]
    short = follow([box, box, *[[]] * 4, box])
    assert (short[1], short[-1]) == ([1], [1])
    long = follow([box, box, *[[]] * 12, box, box])
    assert (long[1], long[-1]) == ([1], [2])


def test_labels_are_never_mixed() -> None:
    """A car on the very place of a person has its own number."""
    place = (300.0, 200.0)
    looks = [[person(place)], [person(place)], [person(place, label="car")], [person(place, label="car")]]
    assert follow(looks) == [[None], [1], [None], [2]]


def test_a_vehicle_is_one_thing_whatever_kind_the_model_says() -> None:
    """A lorry that is called a car in every other look keeps its number."""
    place = (300.0, 200.0)
    looks = [[person(place, label=label)] for label in ("car", "other_vehicle") * 3]
    assert follow(looks) == [[None], *[[1]] * 5]


def test_the_first_box_of_a_thing_is_told_once_it_is_seen_again() -> None:
    """Each number's first box is found by its index; what is never seen again, or too faint, has none."""
    tracker = ClipTracker(sample_fps=2)
    faint, once = person((50, 400), confidence=0.27), person((600, 50))
    car, walker = person((300, 200), label="car", side_px=40), person((100, 100))

    assert tracker.update(BLANK, [faint, once, car], offset_s=0.0) == [None] * 3
    assert tracker.first_boxes == {}
    assert tracker.update(BLANK, [car, walker], offset_s=0.5) == [1, None]
    assert tracker.update(BLANK, [], offset_s=1.0) == []
    assert tracker.update(BLANK, [walker, car], offset_s=1.5) == [2, 1]
    assert tracker.first_boxes == {1: (0, 2), 2: (1, 1)}


def test_unsure_boxes_continue_tracks_but_start_none() -> None:
    """A faint box keeps a known thing alive; alone it is not yet a thing."""
    sure, faint = person((300, 200), confidence=0.8), person((300, 200), confidence=0.27)
    assert follow([[sure], [sure], [faint], [faint]]) == [[None], [1], [1], [1]]
    assert follow([[faint], [faint], [faint]]) == [[None], [None], [None]]


def test_numbers_restart_with_each_clip_and_repeat_exactly(ground: Image) -> None:
    """Two trackers side by side count for themselves, and a clip gives the same numbers again."""
    places = np.array([[500.0, 450.0], [600.0, 420.0]])
    poses = [pose(turn_deg=3 * i, zoom=1, shift_px=(-10 * i, 0)) for i in range(5)]
    first, second = ClipTracker(sample_fps=2), ClipTracker(sample_fps=2)
    for index, matrix in enumerate(poses):
        frame, boxes, at = look(ground, matrix), seen(matrix, places), index / 2
        assert first.update(frame, boxes, offset_s=at) == second.update(frame, boxes, offset_s=at)
    assert first.update(look(ground, poses[-1]), seen(poses[-1], places), offset_s=2.5) == [1, 2]


def test_a_clip_without_boxes_has_no_numbers() -> None:
    """Empty looks from first to last are no error."""
    assert follow([[], [], []]) == [[], [], []]


TIMES_S: Mapping[str, list[float]] = {
    "two a second": [0.5 * index for index in range(13)],
    "one a second": [float(index) for index in range(7)],
    "keyframes, then closely, then keyframes": [0, 1, 2, 2.4, 2.5, 3, 3.1, 3.5, 4, 5, 6],
}


@pytest.mark.parametrize("rhythm", TIMES_S)
def test_things_keep_their_numbers_under_a_panning_camera(ground: Image, rhythm: str) -> None:
    """Three things on ground that the camera pans over stay three, at whatever times it looks."""
    places = np.array([[520.0, 400.0], [560.0, 460.0], [600.0, 420.0]])
    tracker = ClipTracker(sample_fps=2)
    numbers = []
    for at in TIMES_S[rhythm]:
        matrix = pose(turn_deg=2 * at, zoom=1, shift_px=(120 - 40 * at, 15 * at))
        numbers.append(tracker.update(look(ground, matrix), seen(matrix, places), offset_s=at))
    assert [[None] * 3, *[[1, 2, 3]] * (len(numbers) - 1)] == numbers


@given(
    steps_s=st.lists(st.floats(0.1, 1.5), min_size=3, max_size=10),
    speed_px_s=st.floats(-20, 20),
    start_px=st.floats(250, 400),
)
def test_walkers_keep_their_numbers_at_any_times(
    steps_s: list[float], speed_px_s: float, start_px: float
) -> None:
    """A walker of up to 1.4 body widths a second is one thing, however irregularly it is looked at."""
    offsets_s = np.cumsum([0.0, *steps_s]).tolist()
    looks = [[person((start_px + speed_px_s * at, 200.0))] for at in offsets_s]
    assert [[None], *[[1]] * len(steps_s)] == follow(looks, offsets_s=offsets_s)


def test_looks_may_be_of_several_sizes() -> None:
    """A decoder hands frames on shrunk where that is enough: a thing is the same in either."""
    tracker = ClipTracker(sample_fps=2)
    numbers = []
    for index, share in enumerate((1.0, 0.5, 0.5, 1.0)):
        blank = np.full((int(512 * share), int(640 * share), 3), 90, dtype=np.uint8)
        box = person((300 * share, 200 * share), side_px=20 * share)
        numbers.append(tracker.update(blank, [box], offset_s=index / 2))
    assert [[None], [1], [1], [1]] == numbers


def test_a_thing_missed_for_three_seconds_keeps_its_number(ground: Image) -> None:
    """The gap is reckoned in seconds, not in looks: close looks forget no sooner, rare ones no later."""
    place = np.array([[550.0, 430.0]])
    for fps in (1, 2, 5):
        tracker = ClipTracker(sample_fps=2)
        numbers = []
        for at in np.arange(0, 9, 1 / fps):
            matrix = pose(turn_deg=0, zoom=1, shift_px=(60 - 15 * at, 0))
            boxes = [] if 3 <= at < 6 else seen(matrix, place)
            numbers += tracker.update(look(ground, matrix), boxes, offset_s=float(at))
        assert [None, *[1] * (6 * fps - 1)] == numbers


def test_a_thing_missed_for_too_long_has_another_number() -> None:
    """After more than the longest gap it is another thing, though only one look was missed."""
    box = [person((300, 200), label="car", side_px=40)]
    assert [[None], [1], [None], [2]] == follow([box] * 4, offsets_s=[0.0, 0.5, 6.0, 6.5])


def test_a_cut_glues_nothing(ground: Image) -> None:
    """Another scene with things at the very same pixels shows other things, numbered on."""
    elsewhere = np.ascontiguousarray(ground[::-1])  # mirrored: no turn of the camera shows it
    matrix = pose(turn_deg=0, zoom=1, shift_px=(0, 0))
    places = np.array([[500.0, 450.0], [600.0, 420.0]])
    tracker = ClipTracker(sample_fps=2)
    numbers = [
        tracker.update(look(scene, matrix), seen(matrix, places), offset_s=index / 2)
        for index, scene in enumerate([ground, ground, elsewhere, elsewhere])
    ]
    assert [[None, None], [1, 2], [None, None], [3, 4]] == numbers


def test_things_come_back_with_their_scene(ground: Image) -> None:
    """Foreign frames among the looks, as damage and splices leave them, end nothing."""
    elsewhere = np.ascontiguousarray(ground[::-1])
    places = np.array([[500.0, 450.0], [600.0, 420.0]])
    tracker = ClipTracker(sample_fps=2)
    numbers = []
    for index, scene in enumerate([ground, ground, elsewhere, ground, elsewhere, ground]):
        matrix = pose(turn_deg=2 * index, zoom=1, shift_px=(12 * index, 0))
        numbers.append(tracker.update(look(scene, matrix), seen(matrix, places), offset_s=index / 2))
    assert [1, 2] == numbers[1] == numbers[3] == numbers[5]
    assert {1, 2}.isdisjoint(numbers[2] + numbers[4])


def test_a_clock_that_steps_back_loses_nothing() -> None:
    """A damaged clip's times may repeat or go back: each look still counts."""
    box = [person((300, 200))]
    assert [[None], *[[1]] * 4] == follow([box] * 5, offsets_s=[0.0, 0.5, 0.5, 0.2, 0.9])
