"""Where a clip deserves a second, closer look: episodes around what the first pass over its keyframes found.

Belongs here: which detections any rule could make an event of, and which times are then decoded in full.
Not here: decoding, detecting (``detect.py``) and the rules themselves (``rules/``).

The first pass sees a thing that passes in two seconds once or twice, so a single box is enough. A thing that
stays needs no more than keyframes once it is known: only what is *new* opens time in full.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely

from detection.labels import group_of
from detection.sightings import CERTAIN_RADII, place_of
from outwatch.domain.geometry import LocalFrame, centre
from outwatch.domain.types import Detection, Outpost

FloatArray = npt.NDArray[np.float64]
Span = tuple[float, float]
"""Start and end in seconds from the clip's first frame, the end excluded."""


@dataclass(frozen=True, slots=True)
class EpisodeLimits:
    """How far episodes reach; names and meanings are those of the settings' ``detection.episode_*``."""

    margin_s: float
    full_s: float
    reach_m: float
    steady_m: float


@dataclass(frozen=True, slots=True)
class Episodes:
    """Times that may hold an event, apart from each other and in order."""

    full: tuple[Span, ...] = ()
    """To be decoded in full."""
    steady: tuple[Span, ...] = ()
    """Nothing new comes into view: keyframes suffice."""

    def __contains__(self, offset_s: float) -> bool:
        """Return whether a time lies in an episode."""
        return any(start <= offset_s < end for start, end in (*self.full, *self.steady))


def find_episodes(
    detections: Sequence[Detection], *, outposts: Sequence[Outpost], limits: EpisodeLimits
) -> Episodes:
    """Return where a clip must be looked at again.

    Args:
        detections: of the first pass; those without a place give no event and so no episode.
        outposts: the watched places.
        limits: how far an episode reaches in time and around a place.
    """
    near = near_outposts(detections, outposts, reach_m=limits.reach_m)
    whole = merged((d.offset_s - limits.margin_s, d.offset_s + limits.margin_s) for d in near)
    news = _news(near, memory_s=limits.full_s, steady_m=limits.steady_m)
    new = merged((d.offset_s - limits.margin_s, d.offset_s + limits.full_s) for d in news)
    return Episodes(tuple(_common(whole, new)), tuple(_less(whole, new)))


def near_outposts(
    detections: Sequence[Detection], outposts: Sequence[Outpost], *, reach_m: float
) -> list[Detection]:
    """Return the detections that may lie within ``reach_m`` of the watch radius of any outpost."""
    located = [detection for detection in detections if detection.fix.point is not None]
    if not located:
        return []
    points = [place_of(detection.fix) for detection in located]
    lats_deg, lons_deg = [p.lat_deg for p in points], [p.lon_deg for p in points]
    doubts_m = np.array([CERTAIN_RADII * (detection.fix.error_radius_m or 0.0) for detection in located])
    near = np.zeros(len(located), dtype=bool)
    for outpost in outposts:
        frame = LocalFrame.at(centre(outpost.geometry))
        places = shapely.points(np.column_stack(frame.to_local(lats_deg, lons_deg)))
        away_m = shapely.distance(places, frame.project(outpost.geometry))
        near |= away_m <= outpost.watch_radius_m + reach_m + doubts_m
    return [detection for detection, is_near in zip(located, near.tolist(), strict=True) if is_near]


def merged(spans: Iterable[Span]) -> list[Span]:
    """Return spans in order, those that touch or overlap as one."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def _news(detections: Sequence[Detection], *, memory_s: float, steady_m: float) -> list[Detection]:
    """Return what stands where nothing of its kind stood within ``memory_s`` before."""
    if not detections:
        return []
    frame = LocalFrame.at(place_of(detections[0].fix))
    points = [place_of(detection.fix) for detection in detections]
    places_m = np.column_stack(frame.to_local([p.lat_deg for p in points], [p.lon_deg for p in points]))
    times_s = np.array([detection.offset_s for detection in detections])
    kinds = np.array([group_of(detection.label) for detection in detections])
    news: list[Detection] = []
    for kind in sorted(set(kinds.tolist())):
        of_kind = np.flatnonzero(kinds == kind)
        known = _stood_before(times_s[of_kind], places_m[of_kind], memory_s=memory_s, steady_m=steady_m)
        news += [detections[index] for index in of_kind[~known].tolist()]
    return news


def _stood_before(
    times_s: FloatArray, places_m: FloatArray, *, memory_s: float, steady_m: float
) -> npt.NDArray[np.bool_]:
    """Return for each place (n, 2) in order of time (n,) whether an earlier, recent one is near."""
    firsts = np.searchsorted(times_s, times_s - memory_s)
    lasts = np.searchsorted(times_s, times_s)
    return np.array(
        [
            bool((np.hypot(*(places_m[first:last] - place).T) <= steady_m).any())
            for place, first, last in zip(places_m, firsts.tolist(), lasts.tolist(), strict=True)
        ],
        dtype=bool,
    )


def _common(first: Sequence[Span], second: Sequence[Span]) -> list[Span]:
    """Return the time that two lists of spans, each in order and apart, have in common."""
    shared = ((max(a[0], b[0]), min(a[1], b[1])) for a in first for b in second)
    return sorted((start, end) for start, end in shared if start < end)


def _less(first: Sequence[Span], second: Sequence[Span]) -> list[Span]:
    """Return the time of the first list of spans that the second leaves over; each in order and apart."""
    edges = [-math.inf, *(edge for span in second for edge in span), math.inf]
    return _common(first, list(zip(edges[::2], edges[1::2], strict=True)))
