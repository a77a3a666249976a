"""An event and an outpost that the alerting tests change one field at a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from shapely.geometry import Point

from outwatch.domain.types import Event, EventKind, GeoPoint, GroundFix, Outpost, OutpostKind

SEEN_AT = datetime(2026, 3, 14, 16, 40, tzinfo=UTC)


@pytest.fixture
def gathering() -> Event:
    """Return a sure gathering of 13 that lasted 25 seconds."""
    return Event(
        id="event-1",
        kind=EventKind.GATHERING_NEAR_OUTPOST,
        clip_id="clip-1",
        outpost_id="sample-post",
        started_at=SEEN_AT,
        ended_at=SEEN_AT + timedelta(seconds=25),
        peak_at=SEEN_AT + timedelta(seconds=10),
        peak_frame_index=300,
        fix=GroundFix(
            at=SEEN_AT,
            point=GeoPoint(33.58662, 71.44410),
            error_ellipse=None,
            error_radius_m=12.3,
            method="flat_ground",
        ),
        distance_m=66.0,
        bearing_deg=52.0,
        p_inside=0.93,
        count_low=10,
        count=13,
        count_high=16,
        in_view=21,
        confidence=0.71,
        model_id="model-1",
        rule_version="1",
        evidence_keys=("evidence/dt=2026-03-14/event-1/still.jpg",),
    )


@pytest.fixture
def outpost() -> Outpost:
    """Return a police outpost with a name in both languages."""
    return Outpost(
        id="sample-post",
        name="Sample Post",
        name_ur="نمونہ چوکی",
        kind=OutpostKind.POLICE_OUTPOST,
        geometry=Point(71.445, 33.5862),
        watch_radius_m=400.0,
        control_room="kohat-sample",
    )
