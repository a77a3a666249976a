"""The still that goes with an event: one picture a tired person understands at a glance.

Belongs here: drawing. Not here: what is an event (``detection/rules``) and where the picture is
kept (``storage``). Words and figures stand beside the picture, never on it; nobody is identified.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from zoneinfo import ZoneInfo

import numpy as np
from PIL import Image as Pictures
from PIL import ImageDraw

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
    length_words,
    round_length,
    wind_of,
)
from detection.ground import hfov_of
from detection.rays import ray_directions
from detection.rules import LABELS
from outwatch.domain.geometry import LocalFrame
from outwatch.domain.types import Camera, Detection, Event, EventKind, Image, Outpost, TelemetrySample

MIN_WIDTH_PX = 1280
"""Smaller pictures are enlarged at least to this, so that lines are crisp on thermal pixels."""
MAX_WIDTH_PX = 1920
"""Larger ones are reduced to this: a phone on a weak link must load it."""
PANEL_WIDTH_PX = 460
JPEG_QUALITY = 88
_MARGIN_PX, _HEAD_PX, _FOOT_PX = 24, 76, 64
_FACTS_TOP_PX, _HEADING_PX, _LINE_PX, _GAP_PX, _REVIEW_PX, _COMPASS_PX = 12, 24, 32, 20, 84, 124
_BAR_SHARE = 0.22
"""Longest scale bar, as a share of the picture's width."""
_SURE = 0.99
_NOUNS = {
    EventKind.VEHICLE_NEAR_OUTPOST: ("vehicle", "vehicles"),
    EventKind.STOPPED_VEHICLE: ("vehicle", "vehicles"),
    EventKind.APPROACH: ("person or vehicle", "people or vehicles"),
    EventKind.CONVOY: ("vehicle", "vehicles"),
    EventKind.GATHERING_NEAR_OUTPOST: ("person", "people"),
    EventKind.GATHERING_GROWING: ("person", "people"),
    EventKind.GATHERING_DISPERSING: ("person", "people"),
    EventKind.LOITERING: ("person", "people"),
    EventKind.NIGHT_ACTIVITY: ("person or vehicle", "people or vehicles"),
}
_TITLES = {
    EventKind.STOPPED_VEHICLE: "Stopped vehicle",
    EventKind.APPROACH: "Approach",
    EventKind.CONVOY: "Convoy",
    EventKind.GATHERING_NEAR_OUTPOST: "Gathering",
    EventKind.GATHERING_GROWING: "Growing gathering",
    EventKind.GATHERING_DISPERSING: "Dispersing gathering",
    EventKind.LOITERING: "Loitering",
    EventKind.NIGHT_ACTIVITY: "Night activity",
}
"""Of vehicles near an outpost the noun says all."""

Facts = list[tuple[str, list[str]]]


def draw_still(
    image: Image,
    *,
    event: Event,
    detections: Sequence[Detection],
    outpost: Outpost,
    clip_name: str,
    pose: TelemetrySample | None,
    camera: Camera | None,
    local_zone: ZoneInfo,
) -> bytes:
    """Return an annotated frame as JPEG; the same input gives the same bytes.

    Args:
        image: the event's peak frame, shape (height, width, 3), BGR, uint8.
        event: what the still shows.
        detections: all detections in this frame.
        outpost: the place the event is near.
        clip_name: the footage's file name, for a person to find it.
        pose: the camera's pose at this frame; without it there is no north and no scale.
        camera: the camera, for the scale.
        local_zone: the time zone of the people who look.
    """
    height_px, width_px = image.shape[:2]
    facts = facts_of(event, outpost=outpost, local_zone=local_zone)
    wanted = max(1.0, MIN_WIDTH_PX / width_px, _panel_height(facts) / height_px)
    zoom = min(wanted, MAX_WIDTH_PX / width_px)
    picture = _picture(image, detections, kind=event.kind, zoom=zoom)
    body_px = max(picture.height, _panel_height(facts))
    size = picture.width + PANEL_WIDTH_PX, _HEAD_PX + body_px + _FOOT_PX
    sheet = Pictures.new("RGB", size, PAPER)
    sheet.paste(picture, (0, _HEAD_PX))
    draw = ImageDraw.Draw(sheet)
    title = title_of(event, outpost)
    title_font = font_that_fits(title, sheet.width - 2 * _MARGIN_PX, largest_px=44)
    draw.text((_MARGIN_PX, _HEAD_PX // 2), title, font=title_font, fill=INK, anchor="lm")
    left = picture.width + _MARGIN_PX
    bottom = _write_facts(draw, facts, left=left, top=_HEAD_PX + _FACTS_TOP_PX)
    _draw_review(draw, event, left=left, top=bottom)
    _draw_north(draw, pose, left=left, bottom=_HEAD_PX + body_px - _MARGIN_PX)
    middle = _HEAD_PX + body_px + _FOOT_PX // 2
    metre_px = metre_in_px(event, pose=pose, camera=camera, width_px=width_px, height_px=height_px)
    _draw_scale(draw, metre_px and metre_px * zoom, left=_MARGIN_PX, middle=middle, width_px=picture.width)
    source = f"{clip_name}   clip {event.clip_id}   frame {event.peak_frame_index}   {event.model_id}"
    source_font = font_that_fits(source, sheet.width - round(picture.width * 0.6), largest_px=20)
    draw.text((sheet.width - _MARGIN_PX, middle), source, font=source_font, fill=GREY, anchor="rm")
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def title_of(event: Event, outpost: Outpost) -> str:
    """Return the event in one plain line."""
    if event.kind is EventKind.SENSOR_TRIP:
        number = len(event.sensor_ids)
        return f"{number} {'sensor' if number == 1 else 'sensors'} tripped near {outpost.name}"
    one, many = _NOUNS[event.kind]
    noun = one if event.count == 1 else many
    about = f"about {event.count} {noun} ({_interval(event)})"
    if event.count_low == event.count_high:
        about = f"{event.count} {noun}"
    what = _TITLES.get(event.kind, noun.capitalize())
    return f"{what} near {outpost.name}: {about}"


def facts_of(event: Event, *, outpost: Outpost, local_zone: ZoneInfo) -> Facts:
    """Return what stands beside the picture: headings, each with its lines."""
    local = event.peak_at.astimezone(local_zone)
    start, end = (at.astimezone(local_zone) for at in (event.started_at, event.ended_at))
    where = f"{length_words(event.distance_m)} {wind_of(event.bearing_deg)} ({event.bearing_deg:.0f}°) of it"
    if event.distance_m == 0:
        where = "inside its boundary"
    chance = f"{event.p_inside:.0%}" if event.p_inside <= _SURE else "over 99%"
    together = "together" if event.kind is EventKind.GATHERING_NEAR_OUTPOST else "in view"
    point, radius_m = event.fix.point, event.fix.error_radius_m
    place = [] if point is None else [f"{point.lat_deg:.5f}, {point.lon_deg:.5f}"]
    if radius_m is not None:
        place.append(f"true place within {length_words(math.ceil(radius_m))} (9 in 10)")
    if event.fix.method == "flat_ground":
        place.append("assumes flat ground")
    return [
        ("CAPTURED", [f"{local:%d %b %Y, %H:%M:%S} {local:%Z}", f"{event.peak_at:%d %b %Y, %H:%M:%S} UTC"]),
        ("LASTED", [f"{(end - start).total_seconds():.0f} s, {start:%H:%M:%S} to {end:%H:%M:%S}"]),
        (outpost.name.upper(), [where, f"within its {outpost.watch_radius_m:.0f} m watch: {chance}"]),
        ("PLACE", place),
        ("COUNT", [f"{event.count} {together} ({_interval(event)})", f"{event.in_view} in this frame"]),
        ("CONFIDENCE", [f"{event.confidence:.2f} of 1"]),
    ]


def metre_in_px(
    event: Event, *, pose: TelemetrySample | None, camera: Camera | None, width_px: int, height_px: int
) -> float | None:
    """Return how many pixels of the frame one metre across the view takes at the event's place.

    None where pose, lens or place are not known, or the place lies behind the camera.
    """
    point = event.fix.point
    hfov_deg = hfov_of(pose, camera) if pose else None
    if pose is None or point is None or pose.point is None or hfov_deg is None:
        return None
    drop_m = pose.height_agl_m
    if event.fix.method == "dem" and point.alt_m is not None and pose.point.alt_m is not None:
        drop_m = pose.point.alt_m - point.alt_m
    if drop_m is None or pose.heading_deg is None or pose.pitch_deg is None:
        return None
    east, north = LocalFrame.at(pose.point).to_local(point.lat_deg, point.lon_deg)
    parameters = np.array([[0, 0, 0, pose.heading_deg, pose.pitch_deg, 0, hfov_deg, 0, 0]], float)
    middle = np.array([[width_px / 2, height_px / 2]])
    axis = ray_directions(parameters, middle, width_px=width_px, height_px=height_px)[0, 0]
    depth_m = float(axis @ np.array([float(east), float(north), -drop_m]))
    return width_px / 2 / math.tan(math.radians(hfov_deg / 2)) / depth_m if depth_m > 0 else None


def _interval(event: Event) -> str:
    return f"{event.count_low} to {event.count_high}"


def _picture(
    image: Image, detections: Sequence[Detection], *, kind: EventKind, zoom: float
) -> Pictures.Image:
    """Return the frame, scaled, with the kind's boxes strong and all others thin."""
    frame = Pictures.fromarray(np.ascontiguousarray(image[:, :, ::-1]))
    size = round(frame.width * zoom), round(frame.height * zoom)
    picture = frame.resize(size, Pictures.Resampling.LANCZOS)
    draw = ImageDraw.Draw(picture)
    for strong in (False, True):
        for detection in detections:
            if (detection.label in LABELS[kind]) != strong:
                continue
            left, top, right, bottom = (edge * zoom for edge in detection.box_xyxy_px)
            box = left - 3, top - 3, right + 3, bottom + 3
            if strong:
                # A dark edge keeps the line visible on white-hot ground.
                draw.rectangle((box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1), outline=NIGHT, width=5)
            draw.rectangle(box, outline=ORANGE if strong else SKY, width=3 if strong else 1)
    return picture


def _panel_height(facts: Facts) -> int:
    """Return the height the panel needs: facts, review, compass and the space between."""
    facts_px = sum(_HEADING_PX + _LINE_PX * len(lines) + _GAP_PX for _, lines in facts)
    return _FACTS_TOP_PX + facts_px + _REVIEW_PX + _MARGIN_PX + _COMPASS_PX + _MARGIN_PX


def _write_facts(draw: ImageDraw.ImageDraw, facts: Facts, *, left: int, top: int) -> int:
    """Write headings and lines, and return where they end."""
    for heading, lines in facts:
        draw.text((left, top), heading, font=font(17), fill=GREY)
        top += _HEADING_PX
        for line in lines:
            line_font = font_that_fits(line, PANEL_WIDTH_PX - 2 * _MARGIN_PX, largest_px=26)
            draw.text((left, top), line, font=line_font, fill=INK)
            top += _LINE_PX
        top += _GAP_PX
    return top


def _draw_review(draw: ImageDraw.ImageDraw, event: Event, *, left: int, top: int) -> None:
    """Say whether a person has looked."""
    word, sentence = REVIEWS[event.review]
    right = left + PANEL_WIDTH_PX - 2 * _MARGIN_PX
    draw.rounded_rectangle((left, top, right, top + _REVIEW_PX), radius=8, outline=YELLOW, width=2)
    draw.text((left + 16, top + 12), word, font=font(26), fill=YELLOW)
    draw.text((left + 16, top + 48), sentence, font=font(20), fill=INK)


def _draw_north(draw: ImageDraw.ImageDraw, pose: TelemetrySample | None, *, left: int, bottom: int) -> None:
    """Draw where north lies in the picture, as seen from above, and where the camera looks."""
    radius_px = _COMPASS_PX // 2
    x, y = left + radius_px, bottom - radius_px
    if pose is None or pose.heading_deg is None:
        draw.text((left, bottom), "North is not known", font=font(22), fill=GREY, anchor="ls")
        return
    draw.ellipse((x - radius_px, y - radius_px, x + radius_px, y + radius_px), outline=GREY, width=2)
    angle = math.radians(-pose.heading_deg)
    ahead, aside = (math.sin(angle), -math.cos(angle)), (math.cos(angle), math.sin(angle))

    def spot(along: float, across: float) -> tuple[float, float]:
        return (
            x + radius_px * (along * ahead[0] + across * aside[0]),
            y + radius_px * (along * ahead[1] + across * aside[1]),
        )

    draw.polygon([spot(0.55, 0), spot(-0.6, 0.34), spot(-0.35, 0), spot(-0.6, -0.34)], fill=INK)
    draw.text(spot(0.78, 0), "N", font=font(24), fill=ORANGE, anchor="mm")
    heading = pose.heading_deg % 360
    draw.text((x + radius_px + 18, y - 16), "Up in the picture is", font=font(20), fill=GREY, anchor="lm")
    draw.text(
        (x + radius_px + 18, y + 14),
        f"{wind_of(heading)} ({heading:.0f}°)",
        font=font(26),
        fill=INK,
        anchor="lm",
    )


def _draw_scale(
    draw: ImageDraw.ImageDraw, metre_px: float | None, *, left: int, middle: int, width_px: int
) -> None:
    """Draw a bar of a round number of metres, as long as it is at the event's place."""
    if metre_px is None:
        draw.text((left, middle), "Scale is not known", font=font(22), fill=GREY, anchor="lm")
        return
    longest_m = width_px * _BAR_SHARE / metre_px
    metres = round_length(longest_m)
    right = left + metres * metre_px
    draw.line((left, middle, right, middle), fill=INK, width=5)
    for x in (left, right):
        draw.line((x, middle - 11, x, middle + 11), fill=INK, width=3)
    draw.text((right + 14, middle), f"{metres:g} m at the event", font=font(24), fill=INK, anchor="lm")
