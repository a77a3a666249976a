"""Tables for people, shared by the command line and the demo.

Belongs here: how rows are shown. Not here: where they come from (``pipeline/queries.py``).
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from outwatch.domain.types import Event
from outwatch.pipeline import queries
from outwatch.pipeline.wiring import Pipeline


def show_events(console: Console, pipeline: Pipeline, found: Sequence[Event]) -> None:
    """Print events for people: local times, counts with their interval, then where the evidence lies."""
    table = Table(title=f"{len(found)} events (times in {pipeline.zone.key})", title_justify="left")
    for column in ("#", "what", "near", "from", "to", "count", "distance", "± m", "inside"):
        words = column in {"what", "near"}
        table.add_column(column, no_wrap=not words, min_width=9 if words else None, overflow="fold")
    for number, event in enumerate(found, start=1):
        table.add_row(
            str(number),
            event.kind.value.removesuffix("_near_outpost").replace("_", " "),
            escape(event.outpost_id),
            event.started_at.astimezone(pipeline.zone).strftime("%d %b %H:%M:%S"),
            event.ended_at.astimezone(pipeline.zone).strftime("%H:%M:%S"),
            f"{event.count} ({event.count_low}-{event.count_high})",
            f"{event.distance_m:.0f} m",
            f"{event.fix.error_radius_m:.0f}" if event.fix.error_radius_m is not None else "?",
            f"{event.p_inside:.0%}",
        )
    console.print(table)
    for number, event in enumerate(found, start=1):
        for key in event.evidence_keys[:1]:
            console.print(
                f"{number}: {queries.locate(pipeline, key)}", soft_wrap=True, highlight=False, markup=False
            )
