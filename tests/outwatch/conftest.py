"""A home of the test's own, with no setting but that, and one event to put into it."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from outwatch.domain.types import Event, EventKind, GeoPoint, GroundFix

SEEN_AT = datetime(2026, 3, 14, 16, 40, tzinfo=UTC)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the home that the environment names; nothing else is set, and no settings file is near."""
    for name in [name for name in os.environ if name.upper().startswith("OUTWATCH_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OUTWATCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def gathering() -> Event:
    """Return a gathering of 13 with one still."""
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
