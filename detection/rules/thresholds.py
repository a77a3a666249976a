"""When something is an event: one value a setting of ``outwatch.settings.RuleSettings``, where reasons stand.

Belongs here: the one dataclass of thresholds. Not here: their defaults.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from outwatch.domain.types import OutpostKind


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When something is an event; names and meanings are those of the settings' ``rules``."""

    gathering_min_people: int
    gathering_link_m: float
    gathering_min_duration: timedelta
    gathering_min_confidence: float
    vehicle_min_duration: timedelta
    vehicle_min_confidence: float
    max_gap: timedelta
    merge_gap: timedelta
    merge_distance_m: float
    min_p_inside: float
    stopped_min_duration: timedelta
    stopped_min_move_m: float
    approach_min_closing_m: float
    approach_min_speed_m_s: float
    approach_min_duration: timedelta
    approach_within_m: float
    convoy_min_vehicles: int
    convoy_max_spacing_m: float
    convoy_min_move_m: float
    convoy_min_duration: timedelta
    loitering_min_duration: timedelta
    loitering_radius_m: float
    loitering_min_passes: int
    loitering_beyond_m: float
    trend_min_change: int
    trend_min_duration: timedelta
    night_kinds: tuple[OutpostKind, ...]
    night_radius_m: float
    night_min_duration: timedelta
    night_sun_below_deg: float
