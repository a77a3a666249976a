"""``outwatch sensors`` and ``outwatch watch``: how sensors and feeds stand, and listening to them now.

Belongs here: options, tables and lines for people. Not here: any work (``pipeline/sensors.py``).
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer
from rich.markup import escape
from rich.table import Table

from outwatch.commands.shared import AsJson, err, opened_pipeline, out, print_json
from outwatch.domain.errors import ConfigInvalid
from outwatch.domain.types import Outcome

_COLOURS = {"ok": "green", "silent": "bold red", "never": "yellow"}


def sensors(as_json: AsJson = False) -> None:
    """List the registry's sensors: when each was last heard, what it said, and which are silent."""
    from outwatch.pipeline import sensors as pipeline_sensors

    with opened_pipeline() as pipeline:
        rows = [pipeline_sensors.sensor_row(item) for item in pipeline_sensors.health(pipeline)]
        feeds = pipeline_sensors.feed_rows(pipeline)
        if as_json:
            print_json({"sensors": rows, "feeds": feeds})
            return
        _show(rows, feeds, zone=pipeline.zone)


def watch(
    for_s: Annotated[
        float | None, typer.Option("--for", min=0.1, help="Seconds; until interrupted where not given.")
    ] = None,
) -> None:
    """Listen to every feed and act within a second of a trip; leave the feeds to this or to the DAGs."""
    from outwatch.pipeline.watch import watch_sensors

    failed = False

    def told(outcome: Outcome) -> None:
        nonlocal failed
        failed = failed or outcome.error is not None
        _say(outcome)

    with opened_pipeline() as pipeline, suppress(KeyboardInterrupt):
        if not pipeline.settings.sensors.feeds:
            raise ConfigInvalid(
                "no feed is set: write [[sensors.feeds]] into outwatch.toml (docs/sensors.md)"
            )
        watch_sensors(pipeline, for_s=for_s, told=told)
    raise typer.Exit(1 if failed else 0)


def _say(outcome: Outcome) -> None:
    if outcome.error:
        words = escape(f"{outcome.input}: {outcome.error}")
        err.print(f"[bold red]{outcome.step}[/] {words}", highlight=False)
        return
    counts = ", ".join(f"{name} {count}" for name, count in outcome.counts.items() if count)
    out.print(f"{outcome.step} {outcome.input}: {counts or 'nothing new'}", highlight=False, markup=False)


def _show(rows: list[dict[str, Any]], feeds: list[dict[str, Any]], *, zone: ZoneInfo) -> None:
    table = Table(title=f"{len(rows)} sensors (times in {zone.key})", title_justify="left")
    for column in ("sensor", "reports", "state", "last seen", "last value", "accepted", "refused"):
        table.add_column(column, overflow="fold")
    for row in rows:
        value = "" if row["last_value"] is None else f"{row['last_kind']} {row['last_value']:g}"
        table.add_row(
            escape(row["sensor_id"]),
            escape(", ".join(row["kinds"])),
            f"[{_COLOURS[row['state']]}]{row['state']}[/]",
            _local(row["last_at"], zone),
            escape(f"{value} {row['unit'] or ''}".strip()),
            str(row["accepted"]),
            str(row["refused"]),
        )
    out.print(table)
    table = Table("feed", "last listened to", "accepted", "refused")
    for feed in feeds:
        counts = str(feed["accepted"]), str(feed["refused"])
        table.add_row(feed["feed"], _local(feed["listened_at"], zone), *counts)
    out.print(table)


def _local(at: str | None, zone: ZoneInfo) -> str:
    return "" if at is None else datetime.fromisoformat(at).astimezone(zone).strftime("%d %b %H:%M:%S")
