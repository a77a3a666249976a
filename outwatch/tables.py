"""Tables for people, shared by the command line and the demo.

Belongs here: how rows are shown. Not here: where they come from (``pipeline/queries.py``).
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from outwatch.domain.types import Event
from outwatch.pipeline import queries
from outwatch.pipeline.wiring import Pipeline


def events_table(pipeline: Pipeline, found: Sequence[Event]) -> Table:
    """Return events as a table for people: local times, counts with their interval, the still's path."""
    table = Table(title=f"{len(found)} events (times in {pipeline.zone.key})", title_justify="left")
    for column in ("event", "near", "from", "to", "count", "distance", "± m", "inside", "still"):
        table.add_column(column, overflow="fold")
    zone = pipeline.zone
    for event in found:
        table.add_row(
            event.kind.value.replace("_", " "),
            event.outpost_id,
            event.started_at.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S"),
            event.ended_at.astimezone(zone).strftime("%H:%M:%S"),
            f"{event.count} ({event.count_low}-{event.count_high})",
            f"{event.distance_m:.0f} m",
            f"{event.fix.error_radius_m:.0f}" if event.fix.error_radius_m is not None else "?",
            f"{event.p_inside:.0%}",
            queries.locate(pipeline, event.evidence_keys[0]) if event.evidence_keys else "",
        )
    return table
