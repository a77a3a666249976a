"""What all commands share: where they print, how they open the pipeline, and how they fail.

Belongs here: output and exit codes. Not here: any command (its own module) or any work (``pipeline/``).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from outwatch.domain.errors import OutwatchError
from outwatch.pipeline import wiring

COLOUR_OF_OUTCOME = {
    "landed": "cyan",
    "accepted": "green",
    "duplicate": "yellow",
    "set_aside": "dim",
    "refused": "red",
    "abandoned": "red",
}
"""Of every outcome a file may have."""
out = Console()
err = Console(stderr=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of tables for people.")]

MountPitch = Annotated[
    float | None,
    typer.Option(help="Camera fixed to the airframe: 0 looks along the nose, -90 through the floor."),
]
MountHeading = Annotated[float | None, typer.Option(help="... turned so far clockwise from the nose.")]
MountRoll = Annotated[float | None, typer.Option(help="... and so far right side down.")]


def declared_mount(pitch: float | None, heading: float | None, roll: float | None) -> dict[str, str]:
    """Return the mount angles of the options, in degrees, as a declaration of those that were given."""
    angles = {"mount_pitch_deg": pitch, "mount_heading_deg": heading, "mount_roll_deg": roll}
    return {name: f"{angle:g}" for name, angle in angles.items() if angle is not None}


@contextmanager
def telling_errors() -> Iterator[None]:
    """Show an error of ours in one line and leave with 1."""
    try:
        yield
    except OutwatchError as error:
        say(error)
        raise typer.Exit(1) from error


@contextmanager
def opened_pipeline() -> Iterator[wiring.Pipeline]:
    """Open the pipeline; show an error of ours in one line and leave with 1."""
    with telling_errors(), wiring.open_pipeline() as pipeline:
        yield pipeline


def say(error: OutwatchError) -> None:
    """Print an error's kind and words."""
    err.print(f"[bold red]{type(error).__name__}[/]: {escape(str(error))}", highlight=False)


def progress_bars() -> Progress:
    """Return bars that vanish when done."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=err, transient=True)


def print_json(value: object) -> None:
    """Print a value as JSON for programs."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
