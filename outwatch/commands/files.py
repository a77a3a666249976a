"""``outwatch files`` and ``outwatch refused-readings``: what became of everything that came in.

Belongs here: options and tables for people. Not here: any work (``pipeline/queries.py``).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

import typer
from rich.markup import escape
from rich.table import Table

from outwatch.commands.shared import COLOUR_OF_OUTCOME, AsJson, opened_pipeline, out, print_json

Outcome = Literal["landed", "accepted", "duplicate", "set_aside", "refused", "abandoned"]
Since = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="First day of receipt, UTC.")]


def files(
    since: Since = None,
    outcome: Annotated[Outcome | None, typer.Option(help="Only files of this outcome.")] = None,
    as_json: AsJson = False,
) -> None:
    """List every file that was handed in or announced: what became of it, and why."""
    from outwatch.pipeline import queries

    with opened_pipeline() as pipeline:
        day = since.replace(tzinfo=UTC) if since else None
        rows = queries.files(pipeline, since=day, outcome=outcome)
        zone = pipeline.zone
    if as_json:
        print_json(rows)
        return
    table = Table("received", "file", "MB", "outcome", "clip", "reason")
    table.columns[1].overflow = "fold"
    for row in rows:
        colour = COLOUR_OF_OUTCOME[row["outcome"]]
        table.add_row(
            f"{datetime.fromisoformat(row['received_at']).astimezone(zone):%Y-%m-%d %H:%M}",
            escape(row["name"]),
            f"{row['size_bytes'] / 1e6:.1f}",
            f"[{colour}]{row['outcome']}[/]",
            row["clip_id"] or "",
            escape(row["reason"] or ""),
        )
    out.print(table)
    out.print(f"{len(rows)} files (times in {zone.key})")


def refused_readings(since: Since = None, as_json: AsJson = False) -> None:
    """List the sensor readings that are kept apart: unreadable, unknown, out of range, future, twice."""
    from outwatch.pipeline import queries

    with opened_pipeline() as pipeline:
        rows = queries.refused_readings(pipeline, since=since.date() if since else None)
    if as_json:
        print_json(rows)
        return
    table = Table("received (UTC)", "feed", "sensor", "reason", "why")
    for row in rows:
        cells = (row["received_at"][:19], row["feed"], row["sensor_id"] or "", row["reason"], row["why"])
        table.add_row(*map(escape, cells))
    out.print(table)
    out.print(f"{len(rows)} readings kept apart; `--json` shows what came")
