"""Tables for people, shared by the command line and the demo.

Belongs here: how rows are shown. Not here: where they come from (``pipeline/queries.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

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


def show_incidents(console: Console, rows: Sequence[Mapping[str, Any]], *, zone: ZoneInfo) -> None:
    """Print incidents for people: local times, what saw them, and why each event belongs there.

    Args:
        console: where to print.
        rows: as ``pipeline/incidents.py`` gives them.
        zone: of the times shown.
    """
    table = Table(title=f"{len(rows)} incidents (times in {zone.key})", title_justify="left")
    for column in ("#", "what", "near", "from", "to", "count", "seen by"):
        words = column in {"what", "near", "seen by"}
        table.add_column(column, no_wrap=not words, overflow="fold")
    for number, row in enumerate(rows, start=1):
        table.add_row(
            str(number),
            ", ".join(kind.removesuffix("_near_outpost").replace("_", " ") for kind in row["kinds"]),
            escape(", ".join(row["outpost_ids"])),
            f"{datetime.fromisoformat(row['started_at']).astimezone(zone):%d %b %H:%M:%S}",
            f"{datetime.fromisoformat(row['ended_at']).astimezone(zone):%H:%M:%S}",
            str(row["count"]),
            _seen_by(row),
        )
    console.print(table)
    for number, row in enumerate(rows, start=1):
        lines = [f"{number}: {row['id']}", *(f"   {_why_there(event)}" for event in row["events"])]
        console.print("\n".join(lines), soft_wrap=True, highlight=False, markup=False)


def _seen_by(row: Mapping[str, Any]) -> str:
    flights = len(row["flights"])
    told = [f"{flights} flight{'s' if flights > 1 else ''}"] if flights else []
    return " and ".join([*told, *(["sensors"] if row["by_sensors"] else [])])


def _why_there(event: Mapping[str, Any]) -> str:
    why = f"event {event['id']}: {event['kind'].replace('_', ' ')}, {event['subject']}"
    if event["near_event_id"] is not None:
        away = (
            ""
            if event["distance_m"] is None
            else f"{event['distance_m']:.0f} m, {event['gap_s']:.0f} s from "
        )
        why += f"; {away}{event['near_event_id'][:8]} ({event['by']})"
    return f"{why}; {event['note']}" if event["note"] else why
