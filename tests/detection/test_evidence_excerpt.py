"""The excerpt of a clip: which seconds, what it shows, and where boxes are between looks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import av
import numpy as np
import numpy.typing as npt
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from detection.evidence import EXCERPT_S, RATE_HZ, ExcerptWriter, Moments, Window, window_around
from detection.evidence.excerpt import STRIP_PX
from outwatch.domain.errors import PermanentError
from outwatch.domain.types import Detection, Event, Frame, GroundFix, Image, Outpost, OutpostKind

AT = datetime(2026, 3, 14, 20, 30, tzinfo=UTC)
FIX = GroundFix(AT, None, None, None, "none", "a test")
OUTPOST = Outpost(
    "post", "Sample Post", "چوکی", OutpostKind.POLICE_OUTPOST, shapely.Point(71.445, 33.5862), 400.0, "room"
)
ORANGE = (230, 159, 0)
LOOKS_S = [number / 2 for number in range(40)]


def seen(offset_s: float, left_px: float, *, track: int | None = 1) -> Detection:
    box = (left_px, 100.0, left_px + 40, 160.0)
    at = AT + timedelta(seconds=offset_s)
    return Detection("clip", at, offset_s, round(offset_s * 30), "person", 0.8, box, "m", track, FIX)


def lefts(moments: Moments, offset_s: float) -> list[float]:
    return [found.box_xyxy_px[0] for found in moments.at(offset_s)]


@given(peak_s=st.floats(0, 60), duration_s=st.floats(0.1, 60))
def test_window_lies_in_the_clip_and_holds_the_peak(peak_s: float, duration_s: float) -> None:
    """Eight seconds around any peak, less only where the clip itself is shorter."""
    peak_s = min(peak_s, duration_s)
    window = window_around(peak_s, duration_s=duration_s)
    assert 0 <= window.start_s <= peak_s <= window.end_s <= duration_s
    assert window.end_s - window.start_s == pytest.approx(min(EXCERPT_S, duration_s))


def test_a_track_moves_between_its_looks() -> None:
    """Halfway between two looks a followed box is halfway, and nothing is shown twice."""
    moments = Moments([seen(1.0, 100), seen(1.5, 200)], looks_s=LOOKS_S)
    assert lefts(moments, 1.0) == [100]
    assert lefts(moments, 1.25) == [150]
    assert lefts(moments, 1.5) == [200]
    assert lefts(moments, 1.8) == []


def test_what_no_track_joins_is_held_for_half_a_look() -> None:
    """A box of one look alone stands until halfway to its neighbours, then is gone."""
    moments = Moments([seen(2.0, 100, track=None)], looks_s=LOOKS_S)
    assert [lefts(moments, at_s) for at_s in (1.74, 1.76, 2.24, 2.26)] == [[], [100], [100], []]


def test_a_missed_look_is_bridged_to_hide_and_not_to_draw() -> None:
    """Where the model looked and found nothing no box is drawn, but what it may have missed stays hidden."""
    found = [seen(1.0, 100), seen(2.0, 200)]
    assert lefts(Moments(found, looks_s=LOOKS_S), 1.5) == []
    assert 150 in lefts(Moments(found, looks_s=LOOKS_S, hiding=True), 1.5)


def test_to_hide_a_box_also_stands_where_it_was_and_where_it_will_be() -> None:
    """Between looks a picture may be held or the camera turn: both ends are hidden, and the way between."""
    moments = Moments([seen(1.0, 100), seen(1.5, 200)], looks_s=LOOKS_S, hiding=True)
    assert sorted(lefts(moments, 1.25)) == [100, 150, 200]
    assert lefts(moments, 1.5) == [200]


@given(
    offsets=st.lists(st.integers(2, 30), unique=True, min_size=1),
    track=st.sampled_from([1, None]),
    at=st.floats(1, 15),
)
def test_what_is_drawn_is_also_hidden(offsets: list[int], track: int | None, at: float) -> None:
    """No moment shows a box that hiding would leave open."""
    found = [seen(offset / 2, 100 + offset, track=track) for offset in sorted(offsets)]
    drawn = lefts(Moments(found, looks_s=LOOKS_S), at)
    hidden = lefts(Moments(found, looks_s=LOOKS_S, hiding=True), at)
    assert all(any(abs(left - other) <= 1.5 for other in hidden) for left in drawn)


def write(
    path: Path,
    gathering: Event,
    *,
    held: bool = False,
    detections: tuple[Detection, ...] = (),
    hide: Callable[[Image, float], Image] | None = None,
) -> Path:
    """Write the excerpt of a clip of grey noise that moves, or holds each picture for half a second."""
    noise = np.random.default_rng(3)
    pictures = noise.integers(60, 120, (25, 12, 16), dtype=np.uint8)
    window = Window(2.0, 4.0)
    with ExcerptWriter(
        path,
        event=gathering,
        outpost=OUTPOST,
        window=window,
        moments=Moments(detections, looks_s=LOOKS_S),
        source_width_px=320,
        clip_started_at=AT,
        local_zone=ZoneInfo("Asia/Karachi"),
        hide=hide,
    ) as writer:
        for number in range(19, 42):
            shown = pictures[number // 5 if held else number - 19]
            image = np.repeat(np.kron(shown, np.ones((20, 20), np.uint8))[:, :, None], 3, axis=2)
            writer.add(Frame(number * 3, number / 10, image))
        assert writer.finish() == 20
    return path


def decoded(path: Path) -> list[npt.NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def boxed(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.intp]:
    """Return the columns in which a box is drawn."""
    orange = (abs(picture[:-STRIP_PX].astype(int) - ORANGE) < 60).all(axis=-1)
    return np.nonzero(orange.sum(axis=0) > 20)[0]


def test_excerpt_is_small_standard_and_without_sound(tmp_path: Path, gathering: Event) -> None:
    """H.264 in yuv420p at an even rate, its index ahead of its data, enlarged, with a strip below."""
    path = write(tmp_path / "clip.mp4", gathering)
    with av.open(str(path)) as container:
        (stream,) = container.streams
        found = (
            stream.codec_context.name,
            stream.pix_fmt,
            stream.width,
            stream.height,
            float(stream.average_rate),
        )
    data = path.read_bytes()
    assert found == ("h264", "yuv420p", 960, 720 + STRIP_PX, float(RATE_HZ))
    assert data.index(b"moov") < data.index(b"mdat")
    assert len(decoded(path)) == 20


def test_same_input_gives_the_same_excerpt(tmp_path: Path, gathering: Event) -> None:
    """A second run writes the same object, byte for byte."""
    first, second = (write(tmp_path / name, gathering).read_bytes() for name in ("a.mp4", "b.mp4"))
    assert first == second


def test_boxes_follow_what_moves_and_stand_where_the_picture_is_held(
    tmp_path: Path, gathering: Event
) -> None:
    """Between looks a box glides with a live picture, and stays with a picture that is held."""
    detections = (seen(2.0, 60), seen(2.5, 160))
    live = decoded(write(tmp_path / "live.mp4", gathering, detections=detections))
    held = decoded(write(tmp_path / "held.mp4", gathering, detections=detections, held=True))
    at_first, midway = boxed(live[0]), boxed(live[2])
    assert at_first.min() == pytest.approx(60 * 3 - 3, abs=4)
    assert midway.min() == pytest.approx(100 * 3 - 3, abs=8)
    assert boxed(held[2]).min() == boxed(held[0]).min()
    assert boxed(held[5]).min() == pytest.approx(160 * 3 - 3, abs=4)


def test_a_held_picture_says_so(tmp_path: Path, gathering: Event) -> None:
    """The strip gets words in yellow once a picture has stood for a quarter second, until the next one."""
    held = decoded(write(tmp_path / "held.mp4", gathering, held=True))

    def yellow(number: int) -> int:
        strip = held[number][-STRIP_PX // 2 :, 600:].astype(int)
        return int(((strip[:, :, 0] > 150) & (strip[:, :, 2] < 120)).sum())

    assert yellow(4) > 50
    assert yellow(5) == yellow(6) == 0


def test_what_is_hidden_in_a_held_picture_stays_hidden(tmp_path: Path, gathering: Event) -> None:
    """Pictures are hidden once, when they were taken, and shown so for as long as they are held."""
    asked_s: list[float] = []

    def blacken(image: Image, offset_s: float) -> Image:
        asked_s.append(offset_s)
        return np.zeros_like(image)

    shown = decoded(write(tmp_path / "held.mp4", gathering, held=True, hide=blacken))
    assert asked_s == [1.9, 2.0, 2.5, 3.0, 3.5, 4.0]
    assert max(int(picture[:-STRIP_PX].max()) for picture in shown) < 30


def test_no_frame_is_an_error_in_words(tmp_path: Path, gathering: Event) -> None:
    """Where the clip cannot be read at the event's time nothing is written, and the words say when."""
    writer = ExcerptWriter(
        tmp_path / "none.mp4",
        event=gathering,
        outpost=OUTPOST,
        window=Window(2.0, 4.0),
        moments=Moments((), looks_s=LOOKS_S),
        source_width_px=320,
        clip_started_at=AT,
        local_zone=ZoneInfo("Asia/Karachi"),
    )
    with writer, pytest.raises(PermanentError, match=r"from 2\.0 to 4\.0 s: no frame"):
        writer.finish()
    assert not writer.path.exists()
