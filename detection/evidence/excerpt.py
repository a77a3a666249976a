"""A few seconds of a clip around an event's peak, with boxes, as a small MP4.

Belongs here: which seconds, what is drawn on them, and the encoding. Not here: decoding the source
(``ingest``) and where boxes are between looks (``moments.py``). Words stand below the picture.

The excerpt runs at an even rate and shows at each of its moments the latest frame that there was. A camera
or converter that holds its picture would else look like people who stand still: the strip says for how long
the picture has not changed, and boxes stand where they were when it was taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any, Self
from zoneinfo import ZoneInfo

import av
import cv2
import numpy as np
from PIL import Image as Pictures
from PIL import ImageDraw

from detection.evidence.moments import Moments
from detection.evidence.style import (
    GREY,
    INK,
    NIGHT,
    ORANGE,
    PAPER,
    REVIEWS,
    SKY,
    YELLOW,
    font,
    font_that_fits,
)
from detection.rules import LABELS
from outwatch.domain.errors import PermanentError
from outwatch.domain.types import Detection, Event, Frame, Image, Outpost

EXCERPT_S = 8.0
"""Long enough to see who walks and who stands, short enough for a weak link."""
RATE_HZ = 10
"""People and vehicles can be followed by eye, at a third of the cost of every frame."""
MIN_WIDTH_PX, MAX_WIDTH_PX = 960, 1280
"""Smaller pictures are enlarged, larger ones reduced: the words below must be readable on a phone."""
STRIP_PX = 72
SAME_PICTURE_LEVELS = 6
"""Largest change of any block, in grey levels of 255, between two frames of one held picture. Measured: at
most 2 within the held pictures of the sample flights, some 100 from one of them to the next."""
BLOCK_PX = 8
"""Side of a block, in pixels of the excerpt: a third of a person."""
HELD_FROM_S = 0.25
"""An unchanged picture is spoken of from here on: slow cameras give four frames a second."""
_BITS_PER_S = 1_600_000
"""8 s are then at most 1.6 MB and the start: 2 MB."""
_ENCODER = {
    "preset": "veryfast",
    "crf": "26",
    "maxrate": str(_BITS_PER_S),
    "bufsize": str(_BITS_PER_S),
    # The same bytes each time: one thread, and none of x264's looking ahead, which on some processors does
    # not weigh the same pictures alike twice.
    "x264-params": "threads=1:lookahead-threads=1:sliced-threads=0:"
    "mbtree=0:weightp=0:aq-mode=0:rc-lookahead=0",
}


@dataclass(frozen=True, slots=True)
class Window:
    """The seconds of a clip that an excerpt shows."""

    start_s: float
    end_s: float


def window_around(peak_s: float, *, duration_s: float, length_s: float = EXCERPT_S) -> Window:
    """Return the seconds around a peak, moved into the clip where they would leave it."""
    start_s = max(0.0, min(peak_s - length_s / 2, duration_s - length_s))
    return Window(start_s, min(duration_s, start_s + length_s))


class ExcerptWriter:
    """Writes one event's excerpt as its frames come; a context that closes the file.

    Frames come in order of time and may start before the window and end behind it.
    """

    def __init__(
        self,
        path: Path,
        *,
        event: Event,
        outpost: Outpost,
        window: Window,
        moments: Moments,
        source_width_px: int,
        clip_started_at: datetime,
        local_zone: ZoneInfo,
        hide: Callable[[Image, float], Image] | None = None,
    ) -> None:
        """Take what is drawn.

        Args:
            path: of the MP4 to write.
            event: what the excerpt shows.
            outpost: the place the event is near.
            window: the seconds to show.
            moments: all that was detected.
            source_width_px: width of the frames in whose pixels the boxes are.
            clip_started_at: when the first frame of the clip was taken.
            local_zone: the time zone of the people who look.
            hide: returns a frame's picture, taken at an offset in seconds, with what nobody may see hidden.
        """
        self._hide = hide
        self.path, self._window, self._moments = path, window, moments
        self._source_width_px = source_width_px
        self._labels = LABELS[event.kind]
        self._started_at, self._zone = clip_started_at, local_zone
        self._what = f"{outpost.name}: {event.kind.value.removesuffix('_near_outpost').replace('_', ' ')}"
        self._review = REVIEWS[event.review][0]
        self._container: Any = None
        self._stream: Any = None
        self._latest: Frame | None = None
        self._picture: Image | None = None
        self._blocks: Image | None = None
        self._changed_s = 0.0
        self._written = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, whole or not; doing it twice is no fault."""
        container, self._container = self._container, None
        if container is not None:
            container.close()

    def add(self, frame: Frame) -> None:
        """Take the next frame: what was shown until it came is written.

        While a picture is held it is not drawn anew: what is hidden in it stays hidden where it is.
        """
        self._write_until(min(frame.offset_s, self._window.end_s))
        picture = _sized(frame.image)
        blocks = _blocks(picture)
        if self._blocks is None or _differ(self._blocks, blocks):
            if self._hide is not None:
                picture = _sized(self._hide(frame.image, frame.offset_s))
            self._picture, self._blocks, self._changed_s = picture, blocks, frame.offset_s
        self._latest = frame

    def finish(self) -> int:
        """Write what is left of the window, close the file and return the number of pictures in it.

        Raises:
            PermanentError: no frame came, so that there is nothing to show.
        """
        self._write_until(self._window.end_s)
        if self._container is None:
            raise PermanentError(
                f"excerpt from {self._window.start_s:.1f} to {self._window.end_s:.1f} s: no frame of the clip"
                " could be read there"
            )
        self._container.mux(self._stream.encode())
        self.close()
        return self._written

    def _write_until(self, end_s: float) -> None:
        """Write the latest picture for each moment of the excerpt before ``end_s``."""
        if self._latest is None or self._picture is None:
            return
        while (at_s := self._window.start_s + self._written / RATE_HZ) < end_s - 1e-6:
            sheet = self._sheet(self._picture, self._latest, at_s=max(at_s, self._latest.offset_s))
            if self._container is None:
                self._open(width_px=sheet.shape[1], height_px=sheet.shape[0])
            frame = av.VideoFrame.from_ndarray(sheet, format="bgr24")
            frame.pts, frame.time_base = self._written, Fraction(1, RATE_HZ)
            self._container.mux(self._stream.encode(frame))
            self._written += 1

    def _open(self, *, width_px: int, height_px: int) -> None:
        try:
            self._container = av.open(
                str(self.path), "w", format="mp4", options={"movflags": "faststart", "fflags": "bitexact"}
            )
            self._stream = self._container.add_stream("libx264", rate=RATE_HZ, options=dict(_ENCODER))
        except (av.FFmpegError, ValueError) as error:
            raise PermanentError(
                f"excerpt: this PyAV has no H.264 encoder ({error}): install the wheel of `av` from PyPI"
            ) from error
        self._stream.codec_context.thread_count = 1
        self._stream.width, self._stream.height, self._stream.pix_fmt = width_px, height_px, "yuv420p"

    def _sheet(self, picture: Image, frame: Frame, *, at_s: float) -> Image:
        """Return the picture with its boxes and the strip below, shape (height, width, 3), BGR, uint8."""
        height_px, width_px = picture.shape[:2]
        sheet = np.empty((height_px + STRIP_PX, width_px, 3), np.uint8)
        sheet[:height_px] = picture
        zoom = width_px / self._source_width_px
        self._draw_boxes(sheet[:height_px], self._moments.at(self._changed_s), zoom=zoom)
        sheet[height_px:] = self._strip(width_px, at_s=at_s, damaged=frame.is_corrupt)
        return sheet

    def _draw_boxes(self, picture: Image, found: list[Detection], *, zoom: float) -> None:
        for strong in (False, True):
            for detection in found:
                if (detection.label in self._labels) != strong:
                    continue
                left, top, right, bottom = (round(edge * zoom) for edge in detection.box_xyxy_px)
                corners = (left - 3, top - 3), (right + 3, bottom + 3)
                if strong:
                    cv2.rectangle(picture, *corners, NIGHT, 4)
                cv2.rectangle(picture, *corners, (ORANGE if strong else SKY)[::-1], 2 if strong else 1)

    def _strip(self, width_px: int, *, at_s: float, damaged: bool) -> Image:
        """Return the strip of words below the picture."""
        strip = Pictures.new("RGB", (width_px, STRIP_PX), PAPER)
        draw = ImageDraw.Draw(strip)
        left, right, upper, lower = 16, width_px - 16, STRIP_PX * 0.3, STRIP_PX * 0.74
        local = (self._started_at + timedelta(seconds=at_s)).astimezone(self._zone)
        time = f"{local:%d %b %Y, %H:%M:%S}.{local.microsecond // 100_000} {local:%Z}"
        draw.text((left, upper), time, font=font(26), fill=INK, anchor="lm")
        draw.text((right, upper), self._review, font=font(26), fill=YELLOW, anchor="rm")
        held_s = at_s - self._changed_s
        doubt = f"same picture for {held_s:.1f} s" if held_s >= HELD_FROM_S else ""
        doubt = "damaged picture" if damaged else doubt
        draw.text((right, lower), doubt, font=font(22), fill=YELLOW, anchor="rm")
        fitting = font_that_fits(self._what, (right - left) * 0.65, largest_px=22)
        draw.text((left, lower), self._what, font=fitting, fill=GREY, anchor="lm")
        return np.asarray(strip)[:, :, ::-1]


def _sized(image: Image) -> Image:
    """Return a frame as large as it is shown, its sides even as the encoding needs them."""
    height_px, width_px = image.shape[:2]
    wide = min(max(width_px, MIN_WIDTH_PX), MAX_WIDTH_PX) // 2 * 2
    high = max(2, round(height_px * wide / width_px / 2) * 2)
    method = cv2.INTER_AREA if wide < width_px else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (wide, high), interpolation=method), dtype=np.uint8)


def _blocks(picture: Image) -> Image:
    """Return the mean grey of blocks, by which two pictures are told apart."""
    size = max(1, picture.shape[1] // BLOCK_PX), max(1, picture.shape[0] // BLOCK_PX)
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _differ(before: Image, after: Image) -> bool:
    return before.shape != after.shape or int(cv2.absdiff(before, after).max()) > SAME_PICTURE_LEVELS
