"""Convex pieces that bodies and buildings are made of, in metres.

Belongs here: the pieces and how to stand and turn them. Not here: what they make up (``actors.py``,
``scenery.py``) and drawing (``render.py``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from outwatch.simulate.palette import Tone
from outwatch.simulate.view import Floats


@dataclass(frozen=True, slots=True)
class Part:
    """The convex hull of spheres at ``centres_m`` (N, 3) of ``radii_m`` (N,), corners where zero."""

    centres_m: Floats
    radii_m: Floats
    level: Tone
    normal: Floats | None = None
    """Outward normal (3,) of a flat face, which shows that side only."""


def capsule(start: Floats, end: Floats, *, radii_m: tuple[float, float], level: Tone) -> Part:
    """Return the hull of two spheres."""
    return Part(np.stack([start, end]), np.array(radii_m), level)


def outline(*, back_m: float, front_m: float, width_m: float, chamfer_m: float = 0.0) -> Floats:
    """Return a rectangle with cut corners as (right, ahead), counter-clockwise from above, (8, 2)."""
    half = width_m / 2
    inner = half - chamfer_m
    near, far = back_m + chamfer_m, front_m - chamfer_m
    return np.array(
        [
            (half, near), (half, far), (inner, front_m), (-inner, front_m),
            (-half, far), (-half, near), (-inner, back_m), (inner, back_m),
        ]
    )  # fmt: skip


def prism(
    base: Floats, *, low_m: float, high_m: float, sides: Tone, lid: Tone, top: Floats | None = None
) -> list[Part]:
    """Return side faces and lid of a solid between two outlines (N, 2), ``top`` as ``base`` if not given."""
    top = base if top is None else top
    low = np.column_stack([base, np.full(len(base), low_m)])
    high = np.column_stack([top, np.full(len(top), high_m)])
    parts = []
    for here in range(len(base)):
        after = (here + 1) % len(base)
        corners = np.array([low[here], low[after], high[after], high[here]])
        normal = np.cross(corners[1] - corners[0], corners[3] - corners[0])
        if np.any(normal):  # a chamfer of zero leaves faces without area
            parts.append(Part(corners, np.zeros(4), sides, normal))
    return [*parts, lid_at(top, height_m=high_m, level=lid)]


def lid_at(outline_m: Floats, *, height_m: float, level: Tone) -> Part:
    """Return a level face that is seen from above."""
    corners = np.column_stack([outline_m, np.full(len(outline_m), height_m)])
    return Part(corners, np.zeros(len(corners)), level, np.array([0.0, 0.0, 1.0]))


def placed(parts: list[Part], *, place_m: Floats, heading_rad: float) -> list[Part]:
    """Turn parts given as (right, ahead, up) to a heading and stand them on a local place (3,)."""
    cosine, sine = math.cos(heading_rad), math.sin(heading_rad)
    turn = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
    return [
        Part(
            part.centres_m @ turn + place_m,
            part.radii_m,
            part.level,
            None if part.normal is None else part.normal @ turn,
        )
        for part in parts
    ]
