"""The command line: the same steps as the DAGs, by hand, and questions to what they wrote.

Belongs here: options, tables, progress and exit codes. Not here: any work (``pipeline/``).
Exit codes: 0 all is well, 1 something failed or was refused (the output says what), 2 wrong usage.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import structlog
import typer
from rich.markup import escape
from rich.progress import TaskID
from rich.table import Table

from outwatch import __version__
from outwatch.commands import (
    corrections,
    courier,
    evaluate,
    evidence,
    files,
    incidents,
    models,
    pull,
    sensors,
    telemetry,
)
from outwatch.commands.shared import (
    COLOUR_OF_OUTCOME,
    AsJson,
    MountHeading,
    MountPitch,
    MountRoll,
    declared_mount,
    err,
    opened_pipeline,
    out,
    print_json,
    progress_bars,
    say,
)
from outwatch.domain.cameras import camera_named, camera_names
from outwatch.domain.errors import OutwatchError
from outwatch.domain.types import Outcome
from outwatch.pipeline import landing, queries, registration, runner, steps, wiring
from outwatch.settings import load_settings
from outwatch.tables import show_events

app = typer.Typer(
    help="Keep watch over places: footage in; events, evidence and alerts out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
TOLD = {"no_telemetry", "incomplete"}
"""Flags that the notes of a clip put into words already."""


def _print_version(asked: bool) -> None:
    if asked:
        out.print(__version__, highlight=False)
        raise typer.Exit


@app.callback()
def configure(
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log every step to standard error.")
    ] = False,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and leave."
        ),
    ] = False,
) -> None:
    """Set up logging before any command."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO if verbose else logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )


@app.command()
def ingest(
    files: Annotated[
        list[Path],
        typer.Argument(help="Video files, with telemetry of their name beside them, photos, or whole cards."),
    ],
    camera: Annotated[
        str | None,
        typer.Option(help="Camera and lens by name, where the files do not say (`outwatch cameras`)."),
    ] = None,
    platform: Annotated[str | None, typer.Option(help="Aircraft, as you call it.")] = None,
    time_zone: Annotated[str | None, typer.Option(help="Zone of the telemetry's local time.")] = None,
    mount_pitch: MountPitch = None,
    mount_heading: MountHeading = None,
    mount_roll: MountRoll = None,
    land_only: Annotated[
        bool, typer.Option("--land-only", help="Only hand the files over; DAGs do the rest.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Hand in footage and, unless told otherwise, run every step through to the alert."""
    declared = {
        name: value
        for name, value in (("camera", camera), ("platform", platform), ("time_zone", time_zone))
        if value is not None
    } | declared_mount(mount_pitch, mount_heading, mount_roll)
    with opened_pipeline() as pipeline:
        if camera is not None:
            camera_named(camera)
        landed = landing.land(pipeline, files, declared=declared)
        report = runner.Report() if land_only else _run(pipeline, quiet=as_json)
        rows = [_ingest_row(pipeline, upload) for upload in landed]
        if as_json:
            print_json({"uploads": rows, "failures": [steps.summary(item) for item in report.failures]})
        else:
            _show_ingest(rows, report)
        failed = (
            report.failures
            or any(row["error"] or row["unfinished"] for row in rows)
            or any(file["outcome"] == "refused" for row in rows for file in row["files"])
        )
    raise typer.Exit(1 if failed else 0)


@app.command()
def run(as_json: AsJson = False) -> None:
    """Run whatever is open in the ledger, step by step, through to the alert."""
    with opened_pipeline() as pipeline:
        report = _run(pipeline, quiet=as_json)
        if as_json:
            print_json(
                {
                    "outcomes": [steps.summary(item) for item in report.outcomes],
                    "failures": [steps.summary(item) for item in report.failures],
                }
            )
        else:
            _show_failures(report.failures)
            out.print(f"{len(report.outcomes)} steps done, {len(report.failures)} failed")
    raise typer.Exit(1 if report.failures else 0)


@app.command()
def events(
    since: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="First day of capture, UTC.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the events that stand, oldest first."""
    with opened_pipeline() as pipeline:
        found = queries.events(pipeline, since=since.date() if since else None)
        if as_json:
            print_json([queries.event_row(pipeline, event) for event in found])
        else:
            show_events(out, pipeline, found)


@app.command()
def alerts(
    control_room: Annotated[str | None, typer.Option(help="Only one control room's.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the alerts, newest first, and how their deliveries stand."""
    with opened_pipeline() as pipeline:
        found = queries.alerts(pipeline, control_room=control_room)
        rows = [queries.alert_row(pipeline, alert) for alert in found]
        if as_json:
            print_json(rows)
            return
        for row in rows:
            out.rule(f"{row['priority']} {row['kind']} {row['outpost_id']} ({row['state']})", align="left")
            out.print(row["message_en"], highlight=False, markup=False)
            out.print(row["message_ur"], highlight=False, markup=False)
            for delivery in row["deliveries"]:
                out.print(
                    f"  {delivery['channel']}: {delivery['state']} {delivery['last_error'] or ''}",
                    style="dim",
                    markup=False,
                )
        out.print(f"{len(rows)} alerts")


@app.command()
def work(as_json: AsJson = False) -> None:
    """List the work that is open or failed, with the reason of each failure."""
    with opened_pipeline() as pipeline:
        rows = queries.unfinished(pipeline)
        if as_json:
            print_json(
                [
                    {
                        "step": w.step,
                        "subject": w.subject,
                        "state": w.state,
                        "attempts": w.attempts,
                        "error": w.error,
                    }
                    for w in rows
                ]
            )
            return
        table = Table("step", "subject", "state", "attempts", "error")
        for item in rows:
            table.add_row(item.step, item.subject, item.state, str(item.attempts), escape(item.error or ""))
        out.print(table)


@app.command()
def retry(
    events: Annotated[
        bool,
        typer.Option(
            "--events", help="Ask the rules again of every clip and window: places or thresholds changed."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Open failed work and refused deliveries again, once mended; `run` or the DAGs then do it."""
    with opened_pipeline() as pipeline:
        reopened = runner.reopen_failed(pipeline) + (runner.reopen_events(pipeline) if events else 0)
        if as_json:
            print_json({"reopened": reopened})
        else:
            out.print(f"{reopened} opened again")


@app.command()
def cameras(as_json: AsJson = False) -> None:
    """List the cameras and lenses that `--camera` knows."""
    known = {name: camera_named(name) for name in camera_names()}
    if as_json:
        print_json(
            [
                {
                    "name": name,
                    "modality": camera.modality,
                    "hfov_deg": camera.hfov_deg,
                    "source": camera.source,
                }
                for name, camera in known.items()
            ]
        )
        return
    table = Table("camera", "sees", "HFOV", "source")
    table.columns[0].no_wrap = True  # a name broken over lines cannot be copied
    for name, camera in known.items():
        table.add_row(name, camera.modality.value, f"{camera.hfov_deg:.1f}°", camera.source)
    out.print(table)


@app.command()
def simulate(
    scenario: Annotated[str, typer.Argument(help="A shipped scenario's name, or a .toml file.")],
    folder: Annotated[
        Path, typer.Option("--out", help="Where the clip, its telemetry and its truth go.")
    ] = Path(),
    telemetry: Annotated[
        Literal["srt", "klv"],
        typer.Option(help="Subtitles beside an MP4, or MISB ST 0601 inside a transport stream."),
    ] = "srt",
) -> None:
    """Render a drone flight, thermal or by day, with telemetry and exact truth, for drills and tests."""
    from outwatch.simulate import load_scenario
    from outwatch.simulate import simulate as render

    try:
        chosen = load_scenario(scenario)
        with progress_bars() as bars:
            task = bars.add_task(f"rendering {chosen.name}", total=None)
            flight = render(
                chosen,
                folder,
                telemetry_kind=telemetry,
                progress=lambda done, total: bars.update(task, completed=done, total=total),
            )
    except OutwatchError as error:
        say(error)
        raise typer.Exit(1) from error
    for path in dict.fromkeys((flight.video, flight.telemetry, flight.truth, flight.outposts, flight.dem)):
        if path is not None:
            out.print(path, highlight=False)


@app.command()
def demo(
    folder: Annotated[
        Path | None,
        typer.Option(
            help="Where the demo keeps its state: new, empty, or an earlier demo's, which it empties."
        ),
    ] = None,
) -> None:
    """Fly three simulated flights through the Airflow DAGs and show events, pictures and alerts."""
    from outwatch.demo import run_demo

    try:
        run_demo(folder or load_settings().home_dir / "demo", console=out)
    except OutwatchError as error:
        say(error)
        raise typer.Exit(1) from error


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Check all that Outwatch stands on and is told to listen to, and say what to fix."""
    from outwatch.pipeline.doctor import examine

    checks = examine()
    if as_json:
        print_json([{"name": c.name, "state": c.state, "found": c.found, "fix": c.fix} for c in checks])
    else:
        table = Table("", "what", "found", "what to do")
        colours = {"ok": "green", "warning": "yellow", "failed": "bold red"}
        for check in checks:
            table.add_row(
                f"[{colours[check.state]}]{check.state}[/]",
                check.name,
                escape(check.found),
                escape(check.fix),
            )
        out.print(table)
    raise typer.Exit(1 if any(check.state == "failed" for check in checks) else 0)


def _run(pipeline: wiring.Pipeline, *, quiet: bool) -> runner.Report:
    if quiet:
        return runner.run_open_work(pipeline)
    with progress_bars() as bars:
        current: dict[tuple[str, str], TaskID] = {}

        def watch(step: str, subject: str, done_s: float | None) -> None:
            key = (step, subject)
            if key not in current:
                for task in current.values():
                    bars.update(task, visible=False)
                clip = pipeline.ledger.clip(subject) if step == "detect_clips" else None
                total = clip.duration_s if clip else None
                current[key] = bars.add_task(
                    escape(f"{step} {clip.file_name if clip else subject}"), total=total
                )
            if done_s is not None:
                bars.update(current[key], completed=done_s)

        return runner.run_open_work(pipeline, watch=watch)


def _ingest_row(pipeline: wiring.Pipeline, landed: landing.Landed) -> dict[str, Any]:
    upload = pipeline.ledger.upload(landed.upload_id) if landed.upload_id else None
    rows = []
    subjects = {landed.upload_id}
    for file in upload.files if upload else ():
        clip = pipeline.ledger.clip(file.clip_id) if file.clip_id else None
        subjects.add(file.clip_id)
        found = registration.standing_events(pipeline, clip) if clip else []
        rows.append(
            {
                "name": file.name,
                "outcome": file.outcome,
                "reason": file.reason,
                "clip_id": file.clip_id,
                "captured_at": clip.started_at.astimezone(UTC).isoformat() if clip else None,
                "flags": list(clip.flags) if clip else [],
                "incomplete": clip.completeness.reason if clip else None,
                "notes": list(steps.clip_notes(pipeline, clip)) if clip else [],
                "events": [event.id for event in found],
            }
        )
    unfinished = [
        f"{work.step}: {work.error}"
        for work in queries.unfinished(pipeline)
        if work.subject in subjects and work.error
    ]
    return {
        "names": list(landed.names),
        "upload_id": landed.upload_id,
        "already_landed": landed.upload_id is not None and not landed.is_new,
        "error": landed.error,
        "unfinished": unfinished,
        "files": rows,
    }


def _show_ingest(rows: list[dict[str, Any]], report: runner.Report) -> None:
    table = Table("file", "outcome", "clip", "events", "notes")
    table.columns[0].overflow = "fold"
    for row in rows:
        if row["error"]:
            table.add_row(escape(row["names"][0]), "[red]not handed in[/]", "", "", escape(row["error"]))
        for file in row["files"]:
            flags = ", ".join(flag for flag in file["flags"] if flag not in TOLD)
            notes = [file["reason"], file["incomplete"], *file["notes"], flags]
            if row["already_landed"]:
                notes.insert(0, "already handed in; nothing written again")
            notes += row["unfinished"]
            table.add_row(
                escape(file["name"]),
                f"[{COLOUR_OF_OUTCOME[file['outcome']]}]{file['outcome']}[/]",
                file["clip_id"] or "",
                str(len(file["events"])) if file["clip_id"] else "",
                escape("; ".join(note for note in notes if note)),
            )
    out.print(table)
    _show_failures(report.failures)


def _show_failures(failures: list[Outcome]) -> None:
    for failure in failures:
        err.print(
            f"[bold red]{failure.step}[/] {escape(f'{failure.input}: {failure.error}')}", highlight=False
        )
    if failures:
        err.print("Mend the cause, then `outwatch retry` and `outwatch run`.")


app.command()(telemetry.telemetry)
app.command()(corrections.correct)
app.command()(corrections.frame)
app.command()(files.files)
app.command("refused-readings")(files.refused_readings)
app.command()(pull.pull)
app.command()(courier.upload)
app.command()(courier.receive)
app.command()(courier.serve)
app.command()(courier.uploads)
app.command()(sensors.sensors)
app.command()(sensors.watch)
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(incidents.incidents, name="incidents")
app.add_typer(incidents.baseline, name="baseline")
app.command()(evidence.verify)
app.command("evidence")(evidence.evidence)
app.add_typer(models.app, name="models")

if __name__ == "__main__":
    app()
