"""``outwatch correct`` and ``outwatch frame``: mend a flight's heading and height by points that are known.

Belongs here: options, the words for a point, and tables. Not here: any work
(``outwatch/pipeline/corrections.py``, ``frames.py``).
"""

from __future__ import annotations

import getpass
import re
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from outwatch.commands.shared import AsJson, opened_pipeline, out, print_json
from outwatch.domain.types import MAX_LAT_DEG, MAX_LON_DEG

_NUMBER = r"-?\d+(?:\.\d+)?"
_POINT = re.compile(
    rf"(?P<clip_id>[0-9a-f]{{16}})@(?P<offset_s>{_NUMBER})"
    rf":(?P<x_px>{_NUMBER}),(?P<y_px>{_NUMBER})"
    rf"=(?P<lat_deg>{_NUMBER}),(?P<lon_deg>{_NUMBER})(?:,(?P<alt_m>{_NUMBER}))?"
)
_SHAPE = "CLIP@SECONDS:X,Y=LAT,LON or ...=LAT,LON,HEIGHT"


def correct(
    flight: Annotated[str, typer.Argument(help="The flight's id, or that of one of its clips.")],
    point: Annotated[
        list[str] | None,
        typer.Option(
            help=f"A known point, {_SHAPE}: where and when it is seen, and where it stands, height in metres"
            " above the sea if not on the ground. Give two or more, far apart."
        ),
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="Show every correction of the flight; change nothing.")
    ] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Let the telemetry stand as it came.")] = False,
    who: Annotated[str | None, typer.Option(help="Who answers for it; you, unless told.")] = None,
    as_json: AsJson = False,
) -> None:
    """Correct a flight's heading and height by known points; its clips are then detected again."""
    from outwatch.pipeline import corrections

    if sum((bool(point), show, remove)) != 1:
        raise typer.BadParameter("give either --point (twice or more), --show or --remove")
    points = [corrections.KnownPoint(**parse_point(text)) for text in point or ()]
    by = who or getpass.getuser()
    with opened_pipeline() as pipeline:
        if show:
            flight_id, _ = corrections.flight_named(pipeline, flight)
            _show([_row(revision) for revision in pipeline.corrections.revisions(flight_id)], as_json=as_json)
            return
        if remove:
            done = corrections.remove_correction(pipeline, flight, who=by)
        else:
            done = corrections.correct_flight(pipeline, flight, points, who=by)
    row = _row(done.revision) | {"reopened": list(done.reopened)}
    if as_json:
        print_json(row)
        return
    _show([row], as_json=False)
    out.print(f"{len(done.reopened)} clips opened again; `outwatch run` or the DAGs detect them anew")


def frame(
    clip: Annotated[str, typer.Argument(help="The clip's id.")],
    seconds: Annotated[float, typer.Argument(min=0, help="Seconds from its first frame.")],
    out_file: Annotated[Path, typer.Option("--out", help="The picture to write, .png or .jpg.")] = Path(
        "still.png"
    ),
) -> None:
    """Write one frame with rulers, to read off the pixels of a known point."""
    from outwatch.pipeline.frames import save_frame

    with opened_pipeline() as pipeline:
        offset_s = save_frame(pipeline, clip, seconds, out_file)
    out.print(f"{out_file}: a point in it is --point {clip}@{offset_s:.3f}:X,Y=LAT,LON", highlight=False)


def parse_point(text: str) -> dict[str, Any]:
    """Return the fields of a point's words.

    Raises:
        typer.BadParameter: they are of another shape, or name no place on earth.
    """
    match = _POINT.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(
            f"{text!r}: expected {_SHAPE}, as in 0123456789abcdef@12.5:320,240=33.6,71.4"
        )
    found = {name: value for name, value in match.groupdict().items() if value is not None}
    values: dict[str, Any] = {
        name: value if name == "clip_id" else float(value) for name, value in found.items()
    }
    if abs(values["lat_deg"]) > MAX_LAT_DEG or abs(values["lon_deg"]) > MAX_LON_DEG:
        raise typer.BadParameter(f"{text!r}: no such place; latitude comes first")
    return values


def _row(revision: Any) -> dict[str, Any]:
    body = revision.body or {}
    return {
        "flight_id": revision.flight_id,
        "revision": revision.number,
        "who": revision.who,
        "at": revision.at.isoformat(),
        "correction": body.get("correction"),
        "points": body.get("points", []),
    }


def _show(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    table = Table("revision", "who", "at", "heading", "height", "left", "points")
    for row in rows:
        found = row["correction"]
        table.add_row(
            str(row["revision"]),
            escape(row["who"]),
            row["at"][:19],
            "as it came" if found is None else _offset(found, "heading", "deg", "°"),
            "as it came" if found is None else _offset(found, "height", "m", " m"),
            "" if found is None else f"{found['residual_px']:.1f} px",
            str(len(row["points"])),
        )
    out.print(table)


def _offset(found: dict[str, Any], name: str, unit: str, sign: str) -> str:
    return f"{found[f'{name}_offset_{unit}']:+.1f}{sign} ± {found[f'{name}_sigma_{unit}']:.1f}"
