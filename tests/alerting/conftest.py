"""An event and an outpost that the alerting tests change one field at a time."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from shapely.geometry import Point

from outwatch.domain.types import Outpost, OutpostKind

SEEN_AT = datetime(2026, 3, 14, 16, 40, tzinfo=UTC)


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
