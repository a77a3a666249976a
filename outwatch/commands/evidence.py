"""``outwatch verify`` and ``outwatch evidence``: prove that nothing changed, and hand evidence out.

Belongs here: options, words and exit codes. Not here: any work (``pipeline/verification.py``, ``export.py``).
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from outwatch.commands.shared import AsJson, opened_pipeline, out, print_json

EventId = Annotated[str, typer.Argument(help="An event's id, or at least 8 letters of its beginning.")]
_COLOURS = {"ok": "green", "changed": "bold red", "missing": "bold red", "differs": "yellow"}


def verify(event: EventId, as_json: AsJson = False) -> None:
    """Prove that an event's evidence is what was sealed, or name what changed (exit code 1)."""
    from outwatch.pipeline import verification

    with opened_pipeline() as pipeline:
        verdict = verification.verify(pipeline, event)
    if as_json:
        print_json(asdict(verdict) | {"holds": verdict.holds})
    else:
        table = Table("", "what", "")
        table.columns[1].overflow = "fold"
        for item in verdict.items:
            colour = _COLOURS[item.state]
            table.add_row(f"[{colour}]{item.state}[/]", escape(item.name), escape(item.words))
        out.print(table)
        words = "nothing changed since it was sealed" if verdict.holds else "NOT what was sealed"
        out.print(f"event {verdict.event_id}: {words}", highlight=False, soft_wrap=True)
    raise typer.Exit(0 if verdict.holds else 1)


def evidence(
    event: EventId,
    folder: Annotated[Path, typer.Option("--out", help="Where the files go.")],
    blur: Annotated[
        bool, typer.Option(help="Hide people and vehicles that do not belong to the event.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write an event's still, excerpt, map and record into a folder, for those who must see them."""
    from outwatch.pipeline import export

    with opened_pipeline() as pipeline:
        exported = export.export_evidence(pipeline, event, folder=folder, blur=blur)
    if as_json:
        print_json(
            {
                "event_id": exported.event.id,
                "files": [str(path) for path in exported.files],
                "left_out": dict(exported.left_out),
                "hidden": exported.hidden,
                "not_as_sealed": dict(exported.doubts),
            }
        )
        return
    for path in exported.files:
        out.print(str(path), highlight=False, soft_wrap=True, markup=False)
    for name, why in exported.left_out.items():
        out.print(f"[yellow]{name} is left out[/]: {escape(why)}", highlight=False, soft_wrap=True)
    for name, why in exported.doubts.items():
        words = f"[bold red]NOT as sealed[/]: {escape(name)}: {escape(why)}"
        out.print(words, highlight=False, soft_wrap=True)
    if exported.hidden is not None:
        out.print(f"[yellow]{escape(str(exported.hidden['warning']))}[/]", highlight=False)
