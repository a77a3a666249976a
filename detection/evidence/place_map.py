"""A small map of an event: the place that is watched, where the event was, and what was looked at.

Belongs here: drawing a map from values alone. Not here: any tile or other picture of the ground, as the map
must be drawn where there is no network (relief comes from the elevation model, if there is one).

North is up. All is drawn in metres east and north of the outpost; where the watch radius reaches beyond the
map, a small one in its corner shows the whole of it.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from itertools import pairwise
from zoneinfo import ZoneInfo

import shapely
from PIL import Image as Pictures
from PIL import ImageDraw

from detection.evidence.map_scene import Scene, scene_of
from detection.evidence.map_words import (
    MARGIN_PX,
    draw_north_and_scale,
    draw_ticks,
    name_things,
    write_head,
    write_legend,
)
from detection.evidence.relief import draw_relief
from detection.evidence.sheet import Place, Sheet
from detection.evidence.style import INK, NIGHT, ORANGE, PAPER, SKY, YELLOW
from outwatch.domain.geometry import LocalFrame, centre
from outwatch.domain.ports import Terrain
from outwatch.domain.types import Camera, Coverage, Detection, Event, Outpost, Sensor, TelemetrySample

SIDE_PX = 800
INSET_PX = 190
_INSET_LEFT_PX, _INSET_TOP_PX, _INSET_BOTTOM_PX = 90, 96, 46
"""Room between the inset and the edges with ticks, north and scale."""
_HEAD_PX, _FOOT_PX = 84, 132
LEAST_PATH_M, LEAST_PATH_PLACES, LEAST_STRAIGHT = 15.0, 6, 0.7
"""What went so far, was seen so often and went so straight (the way from end to end, as a share of the way it
took) is drawn as a path: anything else may be what an unsteady camera makes of things that stand."""
_LOOKED, _WATCHED, _PLACE = (*SKY, 52), (*YELLOW, 20), (*INK, 90)


def draw_map(
    event: Event,
    *,
    outpost: Outpost,
    local_zone: ZoneInfo,
    looks: Sequence[Coverage] = (),
    detections: Sequence[Detection] = (),
    pose: TelemetrySample | None = None,
    camera: Camera | None = None,
    sensors: Sequence[Sensor] = (),
    terrain: Terrain | None = None,
) -> bytes:
    """Return a map as PNG; the same input gives the same bytes.

    Args:
        event: what the map shows.
        outpost: the place the event is near.
        local_zone: the time zone of the people who look.
        looks: of the camera; those during the event are shaded.
        detections: of the clip; those during the event are shown.
        pose: of the camera at the peak.
        camera: the camera, for its field of view.
        sensors: that reported the event.
        terrain: heights of the ground, for hill-shade and contours.
    """
    frame = LocalFrame.at(centre(outpost.geometry))
    scene = scene_of(
        event,
        frame,
        outpost=outpost,
        looks=looks,
        detections=detections,
        pose=pose,
        camera=camera,
        sensors=sensors,
    )
    east_m, north_m, side_m = scene.bounds()
    sheet = Sheet(SIDE_PX, east_m=east_m, north_m=north_m, side_m=side_m)
    contour_m = draw_relief(sheet, frame, terrain) if terrain is not None else None
    _draw_scene(sheet, scene)
    picture = sheet.finished()
    pen = ImageDraw.Draw(picture)
    name_things(pen, sheet, scene, outpost)
    draw_ticks(pen, sheet, frame)
    draw_north_and_scale(pen, sheet)
    if not sheet.box.contains(scene.watch):
        picture.paste(_inset(scene, sheet), _free_corner(sheet, scene))
    whole = Pictures.new("RGB", (SIDE_PX, _HEAD_PX + SIDE_PX + _FOOT_PX), PAPER)
    whole.paste(picture, (0, _HEAD_PX))
    pen = ImageDraw.Draw(whole)
    write_head(pen, event, outpost, local_zone=local_zone, width_px=SIDE_PX)
    top = _HEAD_PX + SIDE_PX + 12
    write_legend(pen, scene, outpost, contour_m=contour_m, top=top, width_px=SIDE_PX)
    buffer = io.BytesIO()
    whole.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _draw_scene(sheet: Sheet, scene: Scene) -> None:
    sheet.area(scene.looked, fill=_LOOKED, outline=None)
    sheet.area(scene.watch, fill=_WATCHED, outline=YELLOW, width_px=2)
    sheet.area(scene.outpost, fill=_PLACE, outline=INK, width_px=2)
    for own, path in scene.paths:
        colour = ORANGE if own else SKY
        for at in path:
            sheet.dot(at, radius_px=1.5, fill=(*colour, 70))
        if _went(path):
            sheet.line(path, colour=(*colour, 200), width_px=2)
    for own, at in scene.peak:
        sheet.dot(at, radius_px=5, fill=(*NIGHT, 255))
        sheet.dot(at, radius_px=4, fill=(*(ORANGE if own else SKY), 255))
    if scene.camera and scene.view:
        _draw_view(sheet, scene.camera, scene.view)
    if scene.error is not None:
        sheet.area(scene.error, fill=None, outline=NIGHT, width_px=5)
        sheet.area(scene.error, fill=None, outline=ORANGE, width_px=3)
    if scene.place is not None:
        sheet.cross(scene.place, colour=ORANGE, arm_px=9)


def _went(path: list[Place]) -> bool:
    """Return whether a thing can be said to have gone somewhere."""
    far_m, walked_m = math.dist(path[0], path[-1]), sum(math.dist(a, b) for a, b in pairwise(path))
    return len(path) >= LEAST_PATH_PLACES and far_m >= max(LEAST_PATH_M, LEAST_STRAIGHT * walked_m)


def _draw_view(sheet: Sheet, camera: Place, view: Place) -> None:
    """Draw the edges of what the camera sees, away from where it is."""
    heading_deg, hfov_deg = view
    reach_m = 0.14 * sheet.side_m
    for edge_deg in (heading_deg - hfov_deg / 2, heading_deg + hfov_deg / 2):
        angle = math.radians(edge_deg)
        end = camera[0] + reach_m * math.sin(angle), camera[1] + reach_m * math.cos(angle)
        sheet.line([camera, end], colour=(*INK, 255), width_px=2)
    sheet.dot(camera, radius_px=7, fill=(*NIGHT, 255))
    sheet.dot(camera, radius_px=5, fill=(*INK, 255))


def _free_corner(sheet: Sheet, scene: Scene) -> tuple[int, int]:
    """Return the left and top of the corner that hides the least of what the map is about."""
    right, low = SIDE_PX - INSET_PX - MARGIN_PX, SIDE_PX - INSET_PX - _INSET_BOTTOM_PX
    corners = [(right, low), (_INSET_LEFT_PX, low), (_INSET_LEFT_PX, _INSET_TOP_PX), (right, _INSET_TOP_PX)]
    marks = [sheet.px(place) for place in scene.marks()]

    def hidden(corner: tuple[int, int]) -> int:
        apart = [(x - corner[0] - INSET_PX / 2, y - corner[1] - INSET_PX / 2) for x, y in marks]
        return sum(max(abs(dx), abs(dy)) < 0.7 * INSET_PX for dx, dy in apart)

    return min(corners, key=hidden)


def _inset(scene: Scene, shown: Sheet) -> Pictures.Image:
    """Return a small map of the whole watch, with a frame around what the large one shows."""
    west, south, east, north = shapely.union_all([scene.watch, shown.box]).bounds
    side_m = 1.08 * max(east - west, north - south)
    sheet = Sheet(INSET_PX, east_m=(west + east) / 2, north_m=(south + north) / 2, side_m=side_m)
    sheet.area(scene.looked, fill=_LOOKED, outline=None)
    sheet.area(scene.watch, fill=_WATCHED, outline=YELLOW, width_px=2)
    sheet.area(scene.outpost, fill=_PLACE, outline=INK, width_px=1)
    middle = scene.outpost.centroid
    sheet.dot((middle.x, middle.y), radius_px=4, fill=(*INK, 255))
    if scene.place is not None:
        sheet.cross(scene.place, colour=ORANGE, arm_px=5)
    sheet.area(shown.box, fill=None, outline=INK, width_px=1)
    picture = sheet.finished()
    ImageDraw.Draw(picture).rectangle((0, 0, INSET_PX - 1, INSET_PX - 1), outline=INK, width=2)
    return picture
