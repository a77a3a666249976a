"""``outwatch incidents`` and ``outwatch baseline``: what is one happening, what always stands there.

Belongs here: options and tables for people. Not here: any work (``outwatch/pipeline/incidents.py``,
``outwatch/pipeline/baseline.py``).
"""

from __future__ import annotations

from datetime import UTC, datetime
from getpass import getuser
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer
from rich.markup import escape
from rich.table import Table

from outwatch.commands.shared import AsJson, opened_pipeline, out, print_json
from outwatch.pipeline import baseline as places
from outwatch.pipeline import incidents as pipeline_incidents
from outwatch.tables import show_incidents

Since = Annotated[
    datetime | None, typer.Option(formats=["%Y-%m-%d"], help="First day on which something ended, UTC.")
]
Who = Annotated[
    str,
    typer.Option(help="Who decides.", default_factory=getuser, show_default="the name you are logged in by"),
]
Why = Annotated[str, typer.Option(help="The reason, for the record.")]
_COLOURS = {
    "candidate": "yellow",
    "confirmed": "green",
    "refused": "red",
    "removed": "dim",
    "withdrawn": "dim",
}

incidents = typer.Typer(help="List incidents; join and separate what belongs together.")
baseline = typer.Typer(help="List what stands there on every flight; confirm, refuse, remove.")


@incidents.callback(invoke_without_command=True)
def list_incidents(context: typer.Context, since: Since = None, as_json: AsJson = False) -> None:
    """List incidents: the events of one happening, by which flights and sensors, where, when, how many."""
    if context.invoked_subcommand is not None:
        return
    with opened_pipeline() as pipeline:
        day = since.replace(tzinfo=UTC) if since else None
        rows = pipeline_incidents.incident_rows(pipeline, since=day)
        zone = pipeline.zone
    if as_json:
        print_json(rows)
        return
    show_incidents(out, rows, zone=zone)


@incidents.command("show")
def show(incident: Annotated[str, typer.Argument(help="Its id, or one that it had before.")]) -> None:
    """Print one incident as JSON, with why each event belongs to it."""
    with opened_pipeline() as pipeline:
        print_json(pipeline_incidents.incident_row(pipeline, incident))


@incidents.command("join")
def join(
    one: Annotated[str, typer.Argument(help="An incident or an event.")],
    other: Annotated[str, typer.Argument(help="Another.")],
    why: Why,
    who: Who,
) -> None:
    """Say that two incidents are one happening."""
    with opened_pipeline() as pipeline:
        decision = pipeline_incidents.join(pipeline, one, other, who=who, why=why)
    _say(pipeline_incidents.decision_row(decision))


@incidents.command("separate")
def separate(
    event: Annotated[str, typer.Argument(help="The event that does not belong to its incident.")],
    why: Why,
    who: Who,
) -> None:
    """Say that an event is another happening than the rest of its incident."""
    with opened_pipeline() as pipeline:
        decision = pipeline_incidents.separate(pipeline, event, who=who, why=why)
    _say(pipeline_incidents.decision_row(decision))


@incidents.command("undo")
def undo(
    decision: Annotated[int, typer.Argument(help="Its number, as `outwatch incidents decisions` shows it.")],
    why: Why,
    who: Who,
) -> None:
    """Take an earlier decision back; both stay on record."""
    with opened_pipeline() as pipeline:
        undone = pipeline_incidents.undo(pipeline, decision, who=who, why=why)
    _say(pipeline_incidents.decision_row(undone))


@incidents.command("decisions")
def decisions(as_json: AsJson = False) -> None:
    """List what people decided of incidents, and what was taken back."""
    with opened_pipeline() as pipeline:
        rows = pipeline_incidents.decision_rows(pipeline)
        zone = pipeline.zone
    if as_json:
        print_json(rows)
        return
    table = Table("#", "decision", "who", "when", "why", "undone by")
    for row in rows:
        verdict = row["verdict"] if row["undoes"] is None else f"undo #{row['undoes']}"
        undone = "" if row["undone_by"] is None else f"#{row['undone_by']}"
        when = _local(row["decided_at"], zone)
        table.add_row(str(row["id"]), verdict, escape(row["who"]), when, escape(row["why"]), undone)
    out.print(table)


@baseline.callback(invoke_without_command=True)
def default(context: typer.Context) -> None:
    """List the places where no command is given."""
    if context.invoked_subcommand is None:
        list_places()


@baseline.command("list")
def list_places(as_json: AsJson = False) -> None:
    """List what stands at a place on every flight, and what people said of it."""
    with opened_pipeline() as pipeline:
        rows = places.place_rows(pipeline)
        zone = pipeline.zone
    if as_json:
        print_json(rows)
        return
    table = Table("place", "near", "state", "flights", "since", "last", "where", "± m", "absent on")
    for row in rows:
        table.add_row(
            row["id"],
            escape(row["outpost_id"]),
            f"[{_COLOURS[row['state']]}]{row['state']}[/]",
            str(len(row["flights"])),
            _local(row["first_at"], zone),
            _local(row["last_at"], zone),
            f"{row['lat_deg']:.5f}, {row['lon_deg']:.5f}",
            f"{row['radius_m']:.0f}",
            escape(row["absent_flight"] or ""),
        )
    out.print(table)


Place = Annotated[str, typer.Argument(help="Its id, as `outwatch baseline list` shows it.")]


@baseline.command("confirm")
def confirm(place: Place, why: Why, who: Who) -> None:
    """Say that what stands there belongs there: it raises no alert any more, and stays on record."""
    _decide(place, "confirmed", who=who, why=why)


@baseline.command("refuse")
def refuse(place: Place, why: Why, who: Who) -> None:
    """Say that what stands there does not belong there: it goes on raising alerts."""
    _decide(place, "refused", who=who, why=why)


@baseline.command("remove")
def remove(place: Place, why: Why, who: Who) -> None:
    """Take a confirmed place back: what stands there raises alerts again."""
    _decide(place, "removed", who=who, why=why)


def _decide(place: str, state: str, *, who: str, why: str) -> None:
    with opened_pipeline() as pipeline:
        row = places.decide_place(pipeline, place, state, who=who, why=why)
    out.print(f"Place {row['id']} near {escape(row['outpost_id'])} is {row['state']}", highlight=False)


def _say(row: dict[str, Any]) -> None:
    out.print(f"Decision #{row['id']}: {row['verdict']}, by {escape(row['who'])}", highlight=False)


def _local(at: str, zone: ZoneInfo) -> str:
    return f"{datetime.fromisoformat(at).astimezone(zone):%Y-%m-%d %H:%M}"
