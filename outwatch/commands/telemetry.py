"""``outwatch telemetry``: what a file tells of the camera's way, or why it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from outwatch.commands.shared import (
    AsJson,
    MountHeading,
    MountPitch,
    MountRoll,
    declared_mount,
    out,
    print_json,
    telling_errors,
)
from outwatch.settings import load_settings


def telemetry(
    files: Annotated[
        list[Path], typer.Argument(help="Telemetry of any format, photos, or videos with it inside.")
    ],
    time_zone: Annotated[
        str | None, typer.Option(help="Zone of wall times that a file writes without one.")
    ] = None,
    mount_pitch: MountPitch = None,
    mount_heading: MountHeading = None,
    mount_roll: MountRoll = None,
    as_json: AsJson = False,
) -> None:
    """Print format, samples, time span, zone, positions, and what is missing; or why a file is refused."""
    from outwatch.pipeline.landing import mount_angles
    from outwatch.pipeline.telemetry import inspect

    with telling_errors():
        settings = load_settings(**({"ingest": {"time_zone": time_zone}} if time_zone else {}))
        declared = declared_mount(mount_pitch, mount_heading, mount_roll)
        mount = mount_angles(declared, source="options")
        reports = [inspect(path, settings=settings, mount=mount) for path in files]
    if as_json:
        print_json(reports[0] if len(reports) == 1 else reports)
    else:
        _show(reports)
    raise typer.Exit(1 if any("refused" in report for report in reports) else 0)


def _show(reports: list[dict[str, Any]]) -> None:
    table = Table("file", "format", "samples", "time", "first and last position", "notes")
    for report in reports:
        if "refused" in report:
            why = escape(report["refused"])
            table.add_row(escape(report["file"]), report["format"], "", "[red]refused[/]", "", why)
        else:
            table.add_row(
                escape(report["file"]),
                report["format"],
                str(report["samples"]),
                _time(report),
                f"{_place(report['first_position'])}\n{_place(report['last_position'])}",
                escape(_notes(report)),
            )
    out.print(table)


def _time(report: dict[str, Any]) -> str:
    if report["first_at"] is None:
        return f"no clock, {report['duration_s']:g} s"
    first, last = (report[name][:19].replace("T", " ") for name in ("first_at", "last_at"))
    parts = [report["clock"], report["zone"]]
    if report["clock_uncertainty_s"] is not None:
        parts.append(f"±{report['clock_uncertainty_s']:g} s")
    return f"{first}Z\n{last}Z\n({' '.join(part for part in parts if part)})"


def _place(point: dict[str, float | None] | None) -> str:
    if point is None:
        return "no position"
    height = "" if point["alt_m"] is None else f" {point['alt_m']:.0f} m"
    return f"{point['lat_deg']:.6f} {point['lon_deg']:.6f}{height}"


def _notes(report: dict[str, Any]) -> str:
    notes = [f"missing: {', '.join(report['missing'])}"] if report["missing"] else []
    notes += [f"{report['skipped']} records skipped"] if report["skipped"] else []
    notes += [*report["warnings"], report["not_georeferenced"] or ""]
    return "; ".join(note for note in notes if note)
