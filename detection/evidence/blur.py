"""Hide people and vehicles that do not belong to an event, for pictures that leave the agency.

Belongs here: who belongs to an event, and the pixels of who does not. Not here: where boxes are between
looks (``moments.py``). What no model found cannot be hidden: a person looks before anything is handed on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from sklearn.neighbors import KDTree

from detection.rules import LABELS, find_groups
from outwatch.domain.geometry import FloatArray, LocalFrame
from outwatch.domain.types import Detection, Event, EventKind, GeoPoint, Image

GROWTH = 0.35
"""Share of a box by which it is hidden beyond each edge: boxes cut limbs, and things move between looks."""
LEAST_GROWTH_PX = 4
CELLS = 3
"""Mosaic cells along the longer side: a person of 20 pixels keeps three, too few for gait or face."""
SMEAR = 0.5
"""Sigma of the Gaussian after the mosaic, in cells: it takes away the edges that would betray motion."""
_GROUPS = frozenset(
    {EventKind.GATHERING_NEAR_OUTPOST, EventKind.GATHERING_GROWING, EventKind.GATHERING_DISPERSING}
)


def hide(image: Image, detections: Iterable[Detection]) -> Image:
    """Return a picture in which boxes are hidden; without any it is the picture itself.

    Args:
        image: shape (height, width, 3), BGR, uint8; it is left as it is.
        detections: whose boxes, in its pixels, are to be hidden.
    """
    hidden = image
    for found in detections:
        left, top, right, bottom = _grown(found, width_px=image.shape[1], height_px=image.shape[0])
        if right > left and bottom > top:
            hidden = image.copy() if hidden is image else hidden
            hidden[top:bottom, left:right] = _smeared(hidden[top:bottom, left:right])
    return hidden


def bystanders(event: Event, detections: Sequence[Detection], *, link_m: float) -> list[Detection]:
    """Return the detections of a clip that do not belong to an event; in doubt one does not.

    Those that belong are, in the peak frame, the group at the event's place, or as many of its kind as were
    counted there, nearest first; and in other frames the same tracks, and what of the kind stands within
    ``link_m`` of where one of them stood.

    Args:
        event: with a clip and a place.
        detections: all of the clip.
        link_m: people closer than this stand together.
    """
    own = [found for found in detections if found.label in LABELS.get(event.kind, frozenset())]
    members = _at_peak(event, [f for f in own if f.frame_index == event.peak_frame_index], link_m)
    tracks = {found.track_id for found in members if found.track_id is not None}
    close = _close_to(members, own, link_m)
    belonging = {id(found) for found in members}
    for found, stands_there in zip(own, close, strict=True):
        if event.started_at <= found.at <= event.ended_at and (stands_there or found.track_id in tracks):
            belonging.add(id(found))
    return [found for found in detections if id(found) not in belonging]


def _at_peak(event: Event, own: Sequence[Detection], link_m: float) -> list[Detection]:
    """Return those of a kind in the peak frame that the event is about."""
    located = [found for found in own if found.fix.point is not None]
    point = event.fix.point
    if point is None:
        return []
    gaps_m = {id(f): float(np.hypot(*at)) for f, at in zip(located, _metres(point, located), strict=True)}
    if event.kind in _GROUPS:
        groups = find_groups(located, link_m)
        return min(groups, key=lambda group: min(gaps_m[id(found)] for found in group), default=[])
    return sorted(located, key=lambda found: gaps_m[id(found)])[: event.count]


def _close_to(members: Sequence[Detection], own: Sequence[Detection], link_m: float) -> list[bool]:
    """Return of each whether it stands where one of the members stood."""
    origin = members[0].fix.point if members else None
    if origin is None:
        return [False] * len(own)
    tree = KDTree(_metres(origin, members))
    located = [found for found in own if found.fix.point is not None]
    gaps_m = tree.query(_metres(origin, located))[0].ravel() if located else []
    near = {id(found) for found, gap_m in zip(located, gaps_m, strict=True) if gap_m <= link_m}
    return [id(found) in near for found in own]


def _metres(origin: GeoPoint, located: Sequence[Detection]) -> FloatArray:
    """Return metres east and north of a place, shape (n, 2)."""
    places = [found.fix.point for found in located if found.fix.point is not None]
    lat, lon = [place.lat_deg for place in places], [place.lon_deg for place in places]
    return np.column_stack(LocalFrame.at(origin).to_local(lat, lon)).reshape(-1, 2)


def _grown(found: Detection, *, width_px: int, height_px: int) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of what is hidden, in whole pixels within the picture."""
    left, top, right, bottom = found.box_xyxy_px
    across = max(LEAST_GROWTH_PX, GROWTH * (right - left))
    down = max(LEAST_GROWTH_PX, GROWTH * (bottom - top))
    edges = np.array([left - across, top - down, right + across, bottom + down]).round().astype(int)
    clipped = np.clip(edges, 0, [width_px, height_px, width_px, height_px])
    return int(clipped[0]), int(clipped[1]), int(clipped[2]), int(clipped[3])


def _smeared(part: Image) -> Image:
    """Return a part of a picture as a few smeared cells of its mean colours."""
    height_px, width_px = part.shape[:2]
    cell_px = max(height_px, width_px) / CELLS
    cells = max(1, round(width_px / cell_px)), max(1, round(height_px / cell_px))
    mosaic = cv2.resize(part, cells, interpolation=cv2.INTER_AREA)
    blocks = cv2.resize(mosaic, (width_px, height_px), interpolation=cv2.INTER_NEAREST)
    return np.asarray(cv2.GaussianBlur(blocks, (0, 0), SMEAR * cell_px), dtype=np.uint8)
