"""One clip through the real pipeline, from the landing zone to its events, in a home of its own.

Belongs here: preparing that home and asking what came out. Not here: any step of the work, and what should
have come out. A home of its own means that nothing one clip leaves behind can help or hurt another, and
that nothing of the user's is touched.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import structlog
from pydantic import SecretStr

from outwatch.domain.types import Event, Modality
from outwatch.pipeline import landing, queries, runner, wiring
from outwatch.settings import SensorSettings, Settings, load_settings

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ClipRun:
    """What the pipeline made of one clip."""

    events: tuple[Event, ...]
    started_at: datetime | None
    """Of the first frame, as the clip states it; None where no clip was registered."""
    clock_uncertainty: timedelta
    failures: tuple[str, ...]


def run_clip(
    video: Path,
    *,
    outposts: Path | None,
    dem: Path | None = None,
    weights: Mapping[Modality, Path] | None = None,
) -> ClipRun:
    """Hand a clip in, do all open work and return its events; what fails is told, not raised.

    Args:
        video: with its telemetry beside it.
        outposts: GeoJSON of the watched places.
        dem: heights of the ground, None for flat ground.
        weights: of the models to use in place of those of the settings, by what a camera sees.

    Raises:
        ConfigInvalid: the settings or the outposts are wrong.
    """
    with tempfile.TemporaryDirectory(prefix="outwatch-evaluate-") as home:
        with wiring.open_pipeline(_settings(Path(home), outposts, dem, weights)) as pipeline:
            landed = landing.land(pipeline, [video], declared={})
            report = runner.run_open_work(pipeline)
            clip = next(iter(pipeline.ledger.clips()), None)
            failures = [f"{item.step}: {item.error}" for item in report.failures]
            failures += [item.error for item in landed if item.error]
            failures += [
                f"{row['name']}: {row['reason']}"
                for row in queries.files(pipeline, outcome="refused")
            ]  # fmt: skip
            events = tuple(queries.events(pipeline))
        log.info("clip_evaluated", clip=video.name, events=len(events), failures=failures)
        return ClipRun(
            events=events,
            started_at=clip.started_at if clip else None,
            clock_uncertainty=timedelta(seconds=clip.clock_uncertainty_s) if clip else timedelta(0),
            failures=tuple(failures),
        )


def _settings(
    home: Path, outposts: Path | None, dem: Path | None, weights: Mapping[Modality, Path] | None
) -> Settings:
    """Return the user's settings with everything that lasts or is told to others kept in ``home``."""
    mine = load_settings()
    model = {f"{modality}_weights": path for modality, path in (weights or {}).items()}
    return load_settings(
        home=home,
        store_url="",
        database_url=SecretStr(""),
        outposts=outposts,
        sensors=SensorSettings(),
        alerts=mine.alerts.model_copy(update={"channels": ("log",)}),
        ground=mine.ground.model_copy(update={"dem": dem}),
        detection=mine.detection.model_copy(update=model),
    )
