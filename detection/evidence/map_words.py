"""The words and signs on a map of an event: names, ticks, north, scale, heading and legend.

Belongs here: what is read. Not here: what is drawn to scale (``place_map.py``).
"""

from __future__ import annotations

import math
from zoneinfo import ZoneInfo

from PIL import ImageDraw

from detection.evidence.map_scene import MOST_CAMERA_M, Scene
from detection.evidence.sheet import Place, Sheet
from detection.evidence.still import title_of
from detection.evidence.style import (
    GREY,
    INK,
    NIGHT,
    ORANGE,
    SKY,
    YELLOW,
    font,
    font_that_fits,
    length_words,
    round_length,
    wind_of,
)
from outwatch.domain.geometry import LocalFrame
from outwatch.domain.types import Event, Outpost

MARGIN_PX = 16
_SIGN_PX = 8
_TICK_LABEL_PX = 78
Area = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels."""
_TICKS = 5
_CLEAR_OF_CORNERS = (0.1, 0.94)
"""Shares of an edge between which it is marked: the corners hold other signs."""


def name_things(pen: ImageDraw.ImageDraw, sheet: Sheet, scene: Scene, outpost: Outpost) -> None:
    """Write names beside the outpost, the camera and the sensors."""
    middle = scene.outpost.centroid
    if scene.outpost.geom_type == "Point":
        x, y = sheet.px((middle.x, middle.y))
        pen.rectangle((x - 7, y - 7, x + 7, y + 7), fill=INK, outline=NIGHT)
    named = [(outpost.name, (middle.x, middle.y), INK)]
    named += [(name, at, SKY) for name, at in scene.sensors]
    if scene.camera:
        named.append(("camera", scene.camera, INK))
    taken = [_around(sheet, place) for place in scene.marks()]
    taken += [(0, 0, sheet.side_px / 3, 56), (sheet.side_px - 70, 0, sheet.side_px, 90)]  # scale and north
    if scene.error is not None:
        west, south, east, north = scene.error.bounds
        taken.append((*sheet.px((west, north)), *sheet.px((east, south))))
    for name, at, colour in named:
        x, y = sheet.px(at)
        if colour == SKY:
            pen.polygon([(x, y - 9), (x - 8, y + 6), (x + 8, y + 6)], fill=SKY, outline=NIGHT)
        _write_beside(pen, name, (x, y), colour=colour, taken=taken, side_px=sheet.side_px)


def _write_beside(
    pen: ImageDraw.ImageDraw,
    text: str,
    at: Place,
    *,
    colour: tuple[int, int, int],
    taken: list[Area],
    side_px: int,
) -> None:
    """Write a name right of a place, else left, above or below it, where there is room."""
    small = font(18)
    width_px = small.getlength(text)
    around = ((14, 0), (-14 - width_px, 0), (-width_px / 2, -28), (-width_px / 2, 28), (14, 28))
    boxes = [(at[0] + dx, at[1] + dy - 11, at[0] + dx + width_px, at[1] + dy + 11) for dx, dy in around]
    inside = [b for b in boxes if b[0] >= _TICK_LABEL_PX and b[1] >= 0 and max(b) <= side_px] or boxes
    box = next((b for b in inside if not any(_overlap(b, other) for other in taken)), inside[0])
    taken.append(box)
    pen.text((box[0], box[1]), text, font=small, fill=colour, stroke_width=3, stroke_fill=NIGHT)


def _around(sheet: Sheet, place: Place) -> Area:
    x, y = sheet.px(place)
    return x - _SIGN_PX, y - _SIGN_PX, x + _SIGN_PX, y + _SIGN_PX


def _overlap(a: Area, b: Area) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def draw_ticks(pen: ImageDraw.ImageDraw, sheet: Sheet, frame: LocalFrame) -> None:
    """Mark round latitudes on the left edge and longitudes on the lower one."""
    (west, south), (east, north) = sheet.corners()
    (low_lat, high_lat), (low_lon, high_lon) = frame.to_geo([west, east], [south, north])
    lowest, highest = _CLEAR_OF_CORNERS
    for low, high, upright in ((low_lat, high_lat, True), (low_lon, high_lon, False)):
        step = round_length((high - low) / _TICKS * 1.6)
        digits = max(0, -math.floor(math.log10(step)))
        for number in range(math.ceil(low / step), math.floor(high / step) + 1):
            share = (number * step - low) / (high - low)
            text = f"{number * step:.{digits}f}°"
            if not lowest < share < highest:
                continue
            if upright:
                y = sheet.side_px * (1 - share)
                pen.line((0, y, 10, y), fill=GREY, width=2)
                pen.text(
                    (14, y), text, font=font(14), fill=GREY, anchor="lm", stroke_width=2, stroke_fill=NIGHT
                )
            else:
                x = sheet.side_px * share
                pen.line((x, sheet.side_px - 10, x, sheet.side_px), fill=GREY, width=2)
                at = (x, sheet.side_px - 12)
                pen.text(at, text, font=font(14), fill=GREY, anchor="ms", stroke_width=2, stroke_fill=NIGHT)


def draw_north_and_scale(pen: ImageDraw.ImageDraw, sheet: Sheet) -> None:
    """Draw where north is, and a bar of a round number of metres."""
    x, top = sheet.side_px - 40, 16
    pen.polygon([(x, top), (x + 13, top + 36), (x, top + 27), (x - 13, top + 36)], fill=INK, outline=NIGHT)
    pen.text((x, top + 50), "N", font=font(22), fill=ORANGE, anchor="mm", stroke_width=2, stroke_fill=NIGHT)
    length_m = round_length(0.25 * sheet.side_m)
    left, y, width = 24, 30, length_m * sheet.px_per_m
    pen.line((left - 1, y, left + width + 1, y), fill=NIGHT, width=9)
    pen.line((left, y, left + width, y), fill=INK, width=5)
    words = length_words(length_m) if length_m >= 1 else f"{length_m:g} m"
    pen.text(
        (left + width + 12, y), words, font=font(20), fill=INK, anchor="lm", stroke_width=2, stroke_fill=NIGHT
    )


def write_head(
    pen: ImageDraw.ImageDraw, event: Event, outpost: Outpost, *, local_zone: ZoneInfo, width_px: int
) -> None:
    """Write what happened, when and where, above the map."""
    title = title_of(event, outpost)
    fitting = font_that_fits(title, width_px - 2 * MARGIN_PX, largest_px=30)
    pen.text((MARGIN_PX, 28), title, font=fitting, fill=INK, anchor="lm")
    local = event.peak_at.astimezone(local_zone)
    where = f"{length_words(event.distance_m)} {wind_of(event.bearing_deg)} of {outpost.name}"
    if event.distance_m == 0:
        where = f"inside {outpost.name}"
    words = f"{local:%d %b %Y, %H:%M:%S} {local:%Z}   {where}"
    fitting = font_that_fits(words, width_px - 2 * MARGIN_PX, largest_px=21)
    pen.text((MARGIN_PX, 62), words, font=fitting, fill=GREY, anchor="lm")


def write_legend(
    pen: ImageDraw.ImageDraw,
    scene: Scene,
    outpost: Outpost,
    *,
    contour_m: float | None,
    top: int,
    width_px: int,
) -> None:
    """Explain every sign that is on the map, in two columns."""
    entries: list[tuple[str, str]] = [("cross", "event")]
    if scene.error is not None:
        entries[0] = ("error", "event, true place inside 9 times in 10")
    elif scene.sensors:
        entries[0] = ("cross", "event: the sensor that tripped first")
    entries.append(("watch", f"watched: within {length_words(outpost.watch_radius_m)} of {outpost.name}"))
    if not scene.looked.is_empty:
        entries.append(("looked", "looked at during the event"))
    if any(own for own, _ in scene.peak):
        entries.append(("own", "seen at the peak; faint: before and after"))
    if any(not own for own, _ in scene.peak):
        entries.append(("other", "others seen at the peak"))
    if scene.camera is not None:
        entries.append(("camera", _camera_words(scene)))
    if scene.sensors:
        entries.append(("sensor", "sensor that reported it"))
    if contour_m is not None:
        entries.append(("contour", f"contours every {contour_m:g} m"))
    for number, (sign, words) in enumerate(entries):
        left, y = MARGIN_PX + (number // 4) * width_px // 2, top + 14 + (number % 4) * 27
        _draw_sign(pen, sign, (left + 14, y))
        fitting = font_that_fits(words, width_px // 2 - 60, largest_px=18)
        pen.text((left + 36, y), words, font=fitting, fill=INK, anchor="lm")


def _camera_words(scene: Scene) -> str:
    if scene.camera is not None and math.hypot(*scene.camera) > MOST_CAMERA_M:
        return f"camera {length_words(math.hypot(*scene.camera))} away, not on this map"
    return "camera at the peak, and where it looked"


def _draw_sign(pen: ImageDraw.ImageDraw, sign: str, at: Place) -> None:
    x, y = at
    box = (x - 10, y - 8, x + 10, y + 8)
    if sign in {"error", "cross"}:
        pen.line((x - 5, y, x + 5, y), fill=ORANGE, width=2)
        pen.line((x, y - 5, x, y + 5), fill=ORANGE, width=2)
    if sign == "error":
        pen.ellipse(box, outline=ORANGE, width=3)
    elif sign == "watch":
        pen.ellipse(box, outline=YELLOW, width=2)
    elif sign == "looked":
        pen.rectangle(box, fill=(43, 73, 92))
    elif sign in {"own", "other"}:
        pen.ellipse((x - 4, y - 4, x + 4, y + 4), fill=ORANGE if sign == "own" else SKY)
    elif sign == "camera":
        pen.line((x, y + 5, x - 8, y - 8), fill=INK, width=2)
        pen.line((x, y + 5, x + 8, y - 8), fill=INK, width=2)
        pen.ellipse((x - 4, y + 1, x + 4, y + 9), fill=INK)
    elif sign == "sensor":
        pen.polygon([(x, y - 8), (x - 8, y + 6), (x + 8, y + 6)], fill=SKY)
    elif sign == "contour":
        pen.line((x - 10, y + 3, x, y - 3, x + 10, y + 1), fill=GREY, width=1)
