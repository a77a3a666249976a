"""Clips with a truth beside them, through the whole pipeline: which events came of them, and how good.

Belongs here: what a ``<clip>.truth.json`` expects. Not here: matching and figures (``events.py``).

Two formats are read. The simulator's names events with kind, outpost, start, end, count and place
(``outwatch/simulate/truth.py``). That of labelled footage has the boxes of every real frame, each of
which holds for half a second, and the largest group of people linked within 5 m; events follow from
these with the rules' own defaults; those that are not clear by ``MARGIN`` may be found or not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from outwatch.domain.errors import ConfigInvalid
from outwatch.domain.types import EventKind, GeoPoint, Modality
from outwatch.evaluation.events import ClipResult, Expected, event_figures
from outwatch.evaluation.runs import ClipRun, run_clip
from outwatch.simulate.truth import TruthRules

MARGIN = 0.15
"""An event whose number or duration lies within this share of a threshold may be found or not."""
HELD_S = 0.5
"""How long each labelled frame of footage stays on the screen."""
_VEHICLES = frozenset({"car", "other_vehicle"})
_VIDEOS = frozenset({".mp4", ".avi", ".mov"})
_TRUTH = ".truth.json"
Progress = Callable[[str, int, int], None]
"""Told what is being done, clips done, and clips in all."""


@dataclass(frozen=True, slots=True)
class TrueClip:
    """A clip with its truth."""

    video: Path
    truth: Mapping[str, Any] | None
    """None where nothing is to be expected: footage without telemetry gives no located event."""


def find_clips(folder: Path) -> list[TrueClip]:
    """Return the clips of a folder, those with ``<clip>.truth.json`` and those without telemetry.

    A clip without telemetry can have no located event, so that none is the truth about it.

    Raises:
        ConfigInvalid: there is none, or a truth cannot be read or names a clip that is not there.
    """
    if not folder.is_dir():
        raise ConfigInvalid(f"{folder} is no folder: name one of clips with <clip>{_TRUTH} beside them")
    clips = []
    for path in sorted(folder.glob(f"*{_TRUTH}")):
        truth = _read(path)
        video = _video_of(path, truth)
        clips.append(TrueClip(video, truth))
    known = {clip.video.stem for clip in clips}
    others = (path for path in sorted(folder.iterdir()) if path.suffix.lower() in _VIDEOS)
    clips += [TrueClip(path, None) for path in others if path.stem not in known and not _has_telemetry(path)]
    if not clips:
        raise ConfigInvalid(f"{folder} holds no clip with a truth beside it: expected <clip>{_TRUTH}")
    return clips


def evaluate_clips(
    folder: Path,
    *,
    outposts: Path | None,
    weights: Mapping[Modality, Path] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Return the figures of all clips of a folder, each run in a home of its own.

    Args:
        folder: see ``find_clips``.
        outposts: GeoJSON of the watched places; None: ``outposts.geojson`` in the folder or beside it.
        weights: of the models to use by what a camera sees; None: those of the settings.
        progress: told how it goes on.

    Raises:
        ConfigInvalid: there are no such clips or no outposts.
    """
    clips = find_clips(folder)
    places = outposts or _outposts_near(folder)
    results = []
    for number, clip in enumerate(clips):
        if progress is not None:
            progress(clip.video.name, number, len(clips))
        dem = clip.video.with_name(f"{clip.video.stem}.dem.tif")
        run = run_clip(clip.video, outposts=places, dem=dem if dem.is_file() else None, weights=weights)
        results.append(clip_result(clip, run))
    return {
        "kind": "clips",
        "setup": {"clips": [clip.video.name for clip in clips]},
        "model": model_of(results),
        **event_figures(results),
        "clips_done": [_row(result) for result in results],
    }


def clip_result(clip: TrueClip, run: ClipRun) -> ClipResult:
    """Return a clip as expected and as found."""
    expected: tuple[Expected, ...] = ()
    error = None
    if clip.truth is not None and run.started_at is not None:
        if "events" in clip.truth:
            true_start = datetime.fromisoformat(clip.truth["started_at"])
            error = run.started_at - true_start
            expected = _simulated(clip.truth["events"], true_start)
        else:
            expected = _labelled(clip.truth["frames"], run.started_at)
    return ClipResult(
        clip.video.name,
        expected,
        run.events,
        failures=run.failures,
        clock_slack=run.clock_uncertainty,
        clock_error=error,
    )


def model_of(results: Sequence[ClipResult]) -> str | None:
    """Return the model that the events say they come from; None where there is no event."""
    return next((event.model_id for result in results for event in result.found if event.model_id), None)


def _simulated(events: Sequence[Mapping[str, Any]], start: datetime) -> tuple[Expected, ...]:
    return tuple(
        Expected(
            EventKind(event["kind"]),
            start + timedelta(seconds=event["start_s"]),
            start + timedelta(seconds=event["end_s"]),
            int(event["count"]),
            must=True,
            outpost_id=event["outpost_id"],
            point=GeoPoint(event["lat_deg"], event["lon_deg"]),
            inside=True,
        )
        for event in events
    )


def _labelled(frames: Sequence[Mapping[str, Any]], start: datetime) -> tuple[Expected, ...]:
    """Return what boxes and group sizes give by the rules' defaults; counts are medians over the event."""
    rules = TruthRules()
    times_s = [float(frame["time_s"]) for frame in frames]
    groups = [int(frame.get("largest_cluster", 0)) for frame in frames]
    cars = [sum(box["label"] in _VEHICLES for box in frame["boxes"]) for frame in frames]
    expected = []
    for kind, sizes, least, lasts_s in (
        (
            EventKind.GATHERING_NEAR_OUTPOST,
            groups,
            rules.gathering_min_people,
            rules.gathering_min_duration_s,
        ),
        (EventKind.VEHICLE_NEAR_OUTPOST, cars, 1, rules.vehicle_min_duration_s),
    ):
        margin = MARGIN if least > 1 else 0.0  # one is one: there is no margin around it
        certain = _span(times_s, sizes, least=least * (1 + margin), lasts_s=lasts_s * (1 + MARGIN))
        perhaps = _span(times_s, sizes, least=least * (1 - margin), lasts_s=lasts_s * (1 - MARGIN))
        if perhaps is not None:
            expected.append(
                Expected(
                    kind,
                    start + timedelta(seconds=perhaps[0]),
                    start + timedelta(seconds=perhaps[1]),
                    round(float(np.median([size for size in sizes if size >= least * (1 - margin)]))),
                    must=certain is not None,
                )
            )
    return tuple(expected)


def _span(
    times_s: Sequence[float], sizes: Sequence[int], *, least: float, lasts_s: float
) -> tuple[float, float] | None:
    """Return from when to when at least so many are seen, if they are seen for so long in all."""
    seen = [time_s for time_s, size in zip(times_s, sizes, strict=True) if size >= least]
    return (seen[0], seen[-1] + HELD_S) if len(seen) * HELD_S >= lasts_s else None


def _read(path: Path) -> Mapping[str, Any]:
    try:
        truth = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigInvalid(f"truth {path} cannot be read as JSON: {error}") from error
    if not isinstance(truth, dict) or not ({"events", "started_at"} <= truth.keys() or "frames" in truth):
        raise ConfigInvalid(f"truth {path}: expected 'events' and 'started_at', or 'frames' with boxes")
    return truth


def _has_telemetry(video: Path) -> bool:
    return any(video.with_suffix(suffix).exists() for suffix in (".SRT", ".srt"))


def _video_of(path: Path, truth: Mapping[str, Any]) -> Path:
    stem = path.name.removesuffix(_TRUTH)
    names = [str(truth["clip"])] if "clip" in truth else [f"{stem}.mp4", f"{stem}.ts"]
    for name in names:
        if (video := path.with_name(Path(name).name)).is_file():
            return video
    raise ConfigInvalid(f"truth {path}: the clip {' or '.join(names)} is not beside it; put it there")


def _outposts_near(folder: Path) -> Path:
    for place in (folder, folder.parent):
        if (path := place / "outposts.geojson").is_file():
            return path
    raise ConfigInvalid(f"no outposts.geojson in {folder} or beside it: name one with --outposts")


def _row(result: ClipResult) -> dict[str, Any]:
    return {
        "clip": result.name,
        "expected": [item.words + ("" if item.must else " (may be)") for item in result.expected],
        "found": [f"{event.kind.value} of {event.count} at {event.outpost_id}" for event in result.found],
        "missed": len(result.missed()),
        "wrong": len(result.wrong()),
    }
