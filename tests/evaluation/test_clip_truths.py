"""What a truth file expects of a clip follows from what stands in it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from outwatch.domain.errors import ConfigInvalid
from outwatch.domain.types import EventKind
from outwatch.evaluation.clips import TrueClip, clip_result, find_clips
from outwatch.evaluation.runs import ClipRun

START = datetime(2026, 3, 14, 16, 40, tzinfo=UTC)
RUN = ClipRun((), START, timedelta(seconds=2), ())
Outline = list[tuple[EventKind, int, bool]]


def outline(truth: dict[str, Any], run: ClipRun = RUN) -> Outline:
    """Return kind, count and whether it must be found, of every expected event."""
    result = clip_result(TrueClip(Path("clip.mp4"), truth), run)
    return [(item.kind, item.count, item.must) for item in result.expected]


def frames(*, people: int = 0, cars: int = 0, seconds: float = 30.0) -> dict[str, Any]:
    """Return the truth of footage in which so many stand together for so long."""
    boxes = [{"label": "car", "xywh": [0, 0, 9, 9]}] * cars
    return {
        "frames": [
            {"time_s": 0.5 * i, "largest_cluster": people, "boxes": boxes} for i in range(int(seconds * 2))
        ]
    }


@pytest.mark.parametrize(
    ("truth", "expected"),
    [
        (frames(people=12), [(EventKind.GATHERING_NEAR_OUTPOST, 12, True)]),
        (frames(people=8), [(EventKind.GATHERING_NEAR_OUTPOST, 8, False)]),
        (frames(people=12, seconds=14), [(EventKind.GATHERING_NEAR_OUTPOST, 12, False)]),
        (frames(people=6), []),
        (frames(people=12, seconds=8), []),
        (frames(cars=8), [(EventKind.VEHICLE_NEAR_OUTPOST, 8, True)]),
        (frames(cars=1, seconds=1), []),
    ],
)
def test_labelled_footage_tells_events_by_the_rules_defaults(
    truth: dict[str, Any], expected: Outline
) -> None:
    """Clear ones must be found, those within 15 % of a threshold may be, others are none."""
    assert outline(truth) == expected


def test_the_sample_footage_expects_what_its_readme_says(samples: Path) -> None:
    """A gathering of about 13, walkers who are none, parked cars, and nothing without telemetry."""
    told = {clip.video.name: clip for clip in find_clips(samples / "footage")}
    found = {name: outline(dict(clip.truth)) for name, clip in told.items() if clip.truth is not None}
    assert found == {
        "night_gathering.mp4": [(EventKind.GATHERING_NEAR_OUTPOST, 13, True)],
        "night_walkers.mp4": [],
        "night_vehicles.mp4": [(EventKind.VEHICLE_NEAR_OUTPOST, 9, True)],
    }
    without = {name for name, clip in told.items() if clip.truth is None}
    assert without == {"aerial_traffic.mp4", "tower_gate_cars.mp4", "tower_pedestrians.avi"}


def test_a_simulated_truth_is_taken_at_its_word() -> None:
    """Its events have kind, outpost, time and place; what the clip's clock is off by is known."""
    truth = {
        "started_at": START.isoformat(),
        "events": [
            {
                "kind": "vehicle_near_outpost",
                "outpost_id": "post",
                "start_s": 2.0,
                "end_s": 9.0,
                "count": 2,
                "lat_deg": 33.5,
                "lon_deg": 71.4,
            }
        ],
    }
    late = ClipRun((), START + timedelta(seconds=1), timedelta(seconds=2), ())
    result = clip_result(TrueClip(Path("clip.mp4"), truth), late)
    assert [(item.outpost_id, item.start) for item in result.expected] == [
        ("post", START + timedelta(seconds=2))
    ]
    assert result.clock_error == timedelta(seconds=1)


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "cannot be read"), ('{"boxes": []}', "expected 'events'"), ('{"frames": []}', "is not beside it")],
)
def test_a_truth_that_cannot_be_used_is_named(tmp_path: Path, text: str, words: str) -> None:
    """The error says which file and what was expected."""
    (tmp_path / "clip.truth.json").write_text(text)
    with pytest.raises(ConfigInvalid, match=words):
        find_clips(tmp_path)


def test_a_truth_never_leads_out_of_its_folder(tmp_path: Path) -> None:
    """The clip that a truth names is looked for beside it, whatever path stands there."""
    (tmp_path / "inside").mkdir()
    (tmp_path / "outside.mp4").touch()
    (tmp_path / "inside" / "a.truth.json").write_text(json.dumps({"frames": [], "clip": "../outside.mp4"}))
    with pytest.raises(ConfigInvalid, match="is not beside it"):
        find_clips(tmp_path / "inside")
