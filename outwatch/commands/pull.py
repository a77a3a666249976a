"""``outwatch pull``: fetch from remote sources now, or see how their files stand.

Belongs here: options and tables. Not here: any work (``outwatch/pipeline/pull.py``).
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from outwatch.commands.shared import AsJson, opened_pipeline, out, print_json, say
from outwatch.domain.errors import OutwatchError
from outwatch.pipeline import pull as pulling
from outwatch.pipeline import steps, wiring

_COLOURS = {"taken": "green", "waiting": "yellow", "refused": "red"}


def pull(
    name: Annotated[
        str | None, typer.Argument(help="One source, by its name in the settings; all where left out.")
    ] = None,
    list_: Annotated[
        bool, typer.Option("--list", help="Show how each file stands, and why; fetch nothing.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Look at refused files again, once the cause is mended.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Fetch new footage from remote sources, or record a segment from cameras."""
    with opened_pipeline() as pipeline:
        if list_:
            _show_files(pipeline, name, as_json=as_json)
            return
        names = [name] if name is not None else pulling.source_names(pipeline)
        rows = [_pulled(pipeline, one, again=again) for one in names]
        if as_json:
            print_json(rows)
        else:
            _show_outcomes(rows)
    raise typer.Exit(1 if any(row["error"] or row["counts"].get("failed") for row in rows) else 0)


def _pulled(pipeline: wiring.Pipeline, name: str, *, again: bool) -> dict[str, Any]:
    """Return a source's outcome; an error of one source is told, and stops no other."""
    try:
        if again:
            pulling.reopen_refused(pipeline, name)
        return steps.summary(pulling.pull_source(pipeline, name))
    except OutwatchError as error:
        say(error)
        return {"input": name, "counts": {}, "notes": [], "error": f"{type(error).__name__}: {error}"}


def _show_outcomes(rows: list[dict[str, Any]]) -> None:
    table = Table("source", "listed", "taken", "waiting", "refused", "failed", "notes")
    for row in rows:
        counts = (
            str(row["counts"].get(key, "")) for key in ("listed", "taken", "waiting", "refused", "failed")
        )
        table.add_row(row["input"], *counts, escape(row["error"] or "\n".join(row["notes"])))
    out.print(table)
    if not rows:
        out.print("No sources: name some under pull.sources in outwatch.toml.")


def _show_files(pipeline: wiring.Pipeline, name: str | None, *, as_json: bool) -> None:
    files = pulling.pulled_files(pipeline, name)
    if as_json:
        print_json(
            [
                {
                    "source": file.source,
                    "path": file.path,
                    "size_bytes": file.size_bytes,
                    "modified_at": file.modified_at.isoformat() if file.modified_at else None,
                    "last_seen_at": file.last_seen_at.isoformat(),
                    "state": file.state.value,
                    "upload_id": file.upload_id,
                    "reason": file.reason,
                }
                for file in files
            ]
        )
        return
    table = Table("source", "file", "MB", "last seen (UTC)", "state", "upload", "reason")
    table.columns[1].overflow = "fold"
    for file in files:
        table.add_row(
            file.source,
            escape(file.path),
            "" if file.size_bytes is None else f"{file.size_bytes / 1e6:.1f}",
            f"{file.last_seen_at:%Y-%m-%d %H:%M}",
            f"[{_COLOURS[file.state]}]{file.state}[/]",
            file.upload_id or "",
            escape(file.reason or ""),
        )
    out.print(table)
