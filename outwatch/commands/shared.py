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

out = Console()
err = Console(stderr=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of tables for people.")]

MountPitch = Annotated[
    float | None,
    typer.Option(help="Camera fixed to the airframe: 0 looks along the nose, -90 through the floor."),
]
MountHeading = Annotated[float, typer.Option(help="... turned so far clockwise from the nose.")]
MountRoll = Annotated[float, typer.Option(help="... and so far right side down.")]


def declared_mount(pitch_deg: float | None, heading_deg: float, roll_deg: float) -> dict[str, str]:
    """Return the mount angles of the options as a declaration; without a pitch there is none."""
    if pitch_deg is None:
        return {}
    return {
        "mount_pitch_deg": str(pitch_deg),
        "mount_heading_deg": str(heading_deg),
        "mount_roll_deg": str(roll_deg),
    }


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
