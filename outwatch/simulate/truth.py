"""What is true of a simulated flight: poses, actors, boxes, and the events that follow from them.

Belongs here: the truth's types and its JSON. Not here: any opinion of the pipeline; the rules are
restated in their plainest form, so that truth and pipeline can disagree.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from outwatch.domain.types import EventKind
from outwatch.simulate.render import Seen
from outwatch.simulate.scenario import OutpostSite, Scenario
from outwatch.simulate.view import Floats, Pose, Site

TRUTH_INTERVAL_S = 0.5
"""Time between frames of the truth: that of the real footage's truth."""
_HALF = 0.5
"""An actor that shows at least this much of itself counts as in view."""


@dataclass(frozen=True, slots=True)
class TruthRules:
    """What counts as an event; the defaults are those of ``outwatch.settings.RuleSettings``."""

    gathering_min_people: int = 8
    gathering_link_m: float = 5.0
    gathering_min_duration_s: float = 15.0
    vehicle_min_duration_s: float = 2.0
    max_gap_s: float = 5.0
    merge_gap_s: float = 120.0
    merge_distance_m: float = 60.0


@dataclass(frozen=True, slots=True)
class TruthFrame:
    """One sampled frame."""

    index: int
    offset_s: float
    true_pose: Pose
    reported_pose: Pose
    seen: tuple[Seen, ...]


@dataclass(frozen=True, slots=True)
class TruthEvent:
    """What should be reported of a flight: times in seconds from its first frame."""

    kind: EventKind
    outpost_id: str
    start_s: float
    end_s: float
    count: int
    """The median over the event's frames."""
    count_low: int
    count_high: int
    lat_deg: float
    lon_deg: float
    distance_m: float


@dataclass(frozen=True, slots=True)
class _Sighting:
    """What one frame shows of one group, or of all vehicles near an outpost; places are (n, 2)."""

    offset_s: float
    places_m: Floats

    @property
    def middle_m(self) -> tuple[float, float]:
        east_m, north_m = self.places_m.mean(axis=0).tolist()
        return east_m, north_m


def derive_events(
    scenario: Scenario, *, frames: Sequence[TruthFrame], site: Site, rules: TruthRules
) -> tuple[TruthEvent, ...]:
    """Return the events that a faultless observer of the frames would report, in order of start."""
    groups = [group for item in frames for group in _groups(item, rules)]
    events: list[TruthEvent] = []
    for outpost in scenario.outposts:
        near = [group for group in groups if _is_near(group.middle_m, outpost)]
        vehicles = [seen for item in frames if len((seen := _vehicles(item, outpost)).places_m)]
        for kind, sightings, reach_m, duration_s in (
            (
                EventKind.GATHERING_NEAR_OUTPOST,
                near,
                rules.merge_distance_m,
                rules.gathering_min_duration_s,
            ),
            (EventKind.VEHICLE_NEAR_OUTPOST, vehicles, math.inf, rules.vehicle_min_duration_s),
        ):
            events += [
                _event(kind, outpost, happening, site)
                for happening in _chains(sightings, gap_s=rules.merge_gap_s, reach_m=reach_m)
                if any(
                    part[-1].offset_s - part[0].offset_s >= duration_s
                    for part in _chains(happening, gap_s=rules.max_gap_s, reach_m=reach_m)
                )
            ]
    return tuple(
        sorted(events, key=lambda event: (event.start_s, event.kind, event.outpost_id, event.distance_m))
    )


def _is_near(place_m: Sequence[float], outpost: OutpostSite) -> bool:
    return math.dist(place_m, (outpost.east_m, outpost.north_m)) <= outpost.watch_radius_m


def _in_view(item: TruthFrame, label: str) -> Floats:
    """Return the places of what shows at least half of itself, (n, 2)."""
    places = [
        seen.place_m[:2] for seen in item.seen if seen.label == label and seen.visible_fraction >= _HALF
    ]
    return np.array(places).reshape(-1, 2)


def _vehicles(item: TruthFrame, outpost: OutpostSite) -> _Sighting:
    near = [place for place in _in_view(item, "car") if _is_near(place.tolist(), outpost)]
    return _Sighting(item.offset_s, np.array(near).reshape(-1, 2))


def _groups(item: TruthFrame, rules: TruthRules) -> list[_Sighting]:
    """Return every large enough set of people linked by steps of at most ``gathering_link_m``."""
    places = _in_view(item, "person")
    if len(places) == 0:
        return []
    apart_m = np.hypot(*(places[:, None] - places[None, :]).transpose(2, 0, 1))
    group = np.arange(len(places))
    for one, other in np.argwhere(apart_m <= rules.gathering_link_m):
        group[group == group[other]] = group[one]
    sets = [places[group == number] for number in np.unique(group)]
    return [_Sighting(item.offset_s, people) for people in sets if len(people) >= rules.gathering_min_people]


def _chains(sightings: Sequence[_Sighting], *, gap_s: float, reach_m: float) -> list[list[_Sighting]]:
    """Return sightings, given in order of time, that follow each other within a time and a distance.

    Two groups of one frame that are near enough belong to one chain.
    """
    chains: list[list[_Sighting]] = []
    for sighting in sightings:
        open_chains = [
            chain
            for chain in chains
            if sighting.offset_s - chain[-1].offset_s <= gap_s
            and math.dist(sighting.middle_m, chain[-1].middle_m) <= reach_m
        ]
        if open_chains:
            place_m = sighting.middle_m
            min(open_chains, key=lambda chain: math.dist(place_m, chain[-1].middle_m)).append(sighting)
        else:
            chains.append([sighting])
    return chains


def _event(kind: EventKind, outpost: OutpostSite, chain: Sequence[_Sighting], site: Site) -> TruthEvent:
    """Return a chain as an event; where a frame shows several groups of it, the largest is counted."""
    largest = [
        max(of_frame, key=lambda sighting: len(sighting.places_m))
        for _, of_frame in itertools.groupby(chain, key=lambda sighting: sighting.offset_s)
    ]
    counts = [len(sighting.places_m) for sighting in largest]
    east, north = np.concatenate([sighting.places_m for sighting in largest]).mean(axis=0)
    point = site.to_geo(float(east), float(north), 0.0)
    return TruthEvent(
        kind=kind,
        outpost_id=outpost.id,
        start_s=largest[0].offset_s,
        end_s=largest[-1].offset_s,
        count=round(float(np.median(counts))),
        count_low=min(counts),
        count_high=max(counts),
        lat_deg=point.lat_deg,
        lon_deg=point.lon_deg,
        distance_m=math.dist((east, north), (outpost.east_m, outpost.north_m)),
    )


def truth_json(
    scenario: Scenario,
    *,
    frames: Sequence[TruthFrame],
    events: Sequence[TruthEvent],
    site: Site,
) -> dict[str, Any]:
    """Return the truth as plain values for JSON."""
    return {
        "scenario": scenario.name,
        "seed": scenario.seed,
        "started_at": scenario.start_utc.isoformat(),
        "fps": scenario.fps,
        "frame_count": scenario.frame_count,
        "camera": asdict(scenario.camera),
        "note": "boxes hold the bodies' outlines and a pixel of blur, cut at the frame's edge; "
        "actors out of view have none; alt_m is metres above mean sea level",
        "events": [asdict(event) for event in events],
        "frames": [
            {
                "index": item.index,
                "offset_s": item.offset_s,
                "true_pose": _pose_json(item.true_pose, site),
                "reported_pose": _pose_json(item.reported_pose, site),
                "actors": [_seen_json(seen, site) for seen in item.seen],
            }
            for item in frames
        ],
    }


def _pose_json(pose: Pose, site: Site) -> dict[str, float]:
    point = site.to_geo(pose.east_m, pose.north_m, pose.up_m)
    return {
        "lat_deg": round(point.lat_deg, 9),
        "lon_deg": round(point.lon_deg, 9),
        "alt_m": round(site.alt_m + pose.up_m, 4),
        "height_agl_m": round(pose.up_m, 4),
        "heading_deg": round(pose.heading_deg, 5),
        "pitch_deg": round(pose.pitch_deg, 5),
        "roll_deg": round(pose.roll_deg, 5),
    }


def _seen_json(seen: Seen, site: Site) -> dict[str, Any]:
    east, north, up = (float(value) for value in seen.place_m)
    point = site.to_geo(east, north, up)
    return {
        "label": seen.label,
        "lat_deg": round(point.lat_deg, 9),
        "lon_deg": round(point.lon_deg, 9),
        "alt_m": round(site.alt_m + up, 4),
        "box_xyxy_px": None if seen.box_xyxy_px is None else [round(edge, 3) for edge in seen.box_xyxy_px],
        "visible_fraction": round(seen.visible_fraction, 3),
    }
