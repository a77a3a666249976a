"""``outwatch evaluate``: how good boxes, events and places are, on images, clips and simulated flights.

Belongs here: options, what is printed, and the exit code. Not here: measuring (``outwatch/evaluation``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from outwatch.commands.shared import (
    AsJson,
    err,
    opened_pipeline,
    out,
    print_json,
    progress_bars,
    telling_errors,
)
from outwatch.settings import load_settings

app = typer.Typer(
    help="Measure the pipeline against images, clips and simulated flights whose truth is known.",
    no_args_is_help=True,
)

Model = Annotated[
    str | None,
    typer.Option(help="A folder, a .pt or .onnx file, or a registered model's id; else the one in use."),
]
Out = Annotated[Path | None, typer.Option("--out", help="Folder for report.html and report.json.")]
Accept = Annotated[
    Path | None, typer.Option(help="Accepted figures: leave with 1 where one is worse than they are.")
]
Renew = Annotated[bool, typer.Option("--renew", help="Write these figures into the file of --accept.")]
_COLOURS = {"same": "dim", "better": "green", "worse": "bold red"}


@app.command()
def images(
    data: Annotated[Path, typer.Option(help="Ultralytics layout: a folder with data.yaml, or such a file.")],
    model: Model = None,
    split: Annotated[str, typer.Option(help="Which part of the data set.")] = "val",
    limit: Annotated[int | None, typer.Option(min=1, help="So many images only, evenly spread.")] = None,
    folder: Out = None,
    accept: Accept = None,
    renew: Renew = False,
    as_json: AsJson = False,
) -> None:
    """AP50, AP50-95, precision and recall per class, by altitude, camera angle and box size."""
    from outwatch.evaluation.choice import evaluate_data

    with opened_pipeline() as pipeline:
        report = evaluate_data(pipeline, data, model=model, split=split, limit=limit)
    _finish(report, _image_table(report), _Wishes(folder, accept, renew, as_json))


@app.command()
def clips(
    data: Annotated[Path, typer.Option(help="Folder of clips with <clip>.truth.json beside them.")],
    outposts: Annotated[
        Path | None, typer.Option(help="GeoJSON of the watched places; else outposts.geojson there.")
    ] = None,
    model: Model = None,
    folder: Out = None,
    accept: Accept = None,
    renew: Renew = False,
    as_json: AsJson = False,
) -> None:
    """Events of whole clips against their truth: precision, recall, counts, time to detect."""
    from outwatch.evaluation.choice import weights_of
    from outwatch.evaluation.clips import evaluate_clips

    with opened_pipeline() as pipeline, _progress() as tell:
        weights = weights_of(pipeline, model)
        report = evaluate_clips(data, outposts=outposts, weights=weights, progress=tell)
    _finish(report, _event_table(report), _Wishes(folder, accept, renew, as_json))


@app.command()
def simulated(
    flights: Annotated[int, typer.Option(min=1, help="How many flights.")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="Of the flights; the same seed gives the same.")] = 7,
    cases: Annotated[int, typer.Option(min=1, help="Looks without pictures, to measure places by.")] = 3000,
    dem: Annotated[Path | None, typer.Option(help="GeoTIFF over which some of them are flown.")] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Where rendered flights are kept; in the home folder if not given.")
    ] = None,
    model: Model = None,
    folder: Out = None,
    accept: Accept = None,
    renew: Renew = False,
    as_json: AsJson = False,
) -> None:
    """Events, counts, places and probabilities over flights drawn from a seed, with exact truth."""
    from outwatch.evaluation.choice import weights_of
    from outwatch.evaluation.simulated import evaluate_simulated

    kept = cache or load_settings().home_dir / "evaluation" / "flights"
    with opened_pipeline() as pipeline, _progress() as tell:
        weights = weights_of(pipeline, model)
        report = evaluate_simulated(
            flights, seed=seed, cache=kept, cases=cases, dem=dem, weights=weights, progress=tell
        )
    _finish(report, _event_table(report), _Wishes(folder, accept, renew, as_json))


@dataclass(frozen=True, slots=True)
class _Wishes:
    """What is to become of a report."""

    folder: Path | None
    accept: Path | None
    renew: bool
    as_json: bool


class _Tell:
    """Shows which clip is being done, and how many of how many are."""

    def __init__(self) -> None:
        self.bars = progress_bars()
        self._task = self.bars.add_task("evaluating", total=None)

    def __call__(self, name: str, done: int, total: int) -> None:
        self.bars.update(self._task, description=escape(name), completed=done, total=total)


@contextmanager
def _progress() -> Iterator[_Tell]:
    tell = _Tell()
    with tell.bars:
        yield tell


def _finish(report: dict[str, Any], table: Table, wishes: _Wishes) -> None:
    """Compare, write and print a report; leave with 1 where a figure is worse than was accepted."""
    from outwatch.evaluation.accepted import compare
    from outwatch.evaluation.accepted import renew as write_accepted
    from outwatch.evaluation.report import page

    with telling_errors():
        if wishes.accept is not None and wishes.renew:
            write_accepted(report, wishes.accept)
        compared = compare(report, wishes.accept) if wishes.accept is not None else []
    if compared:
        report["against_accepted"] = {item.figure: item.verdict for item in compared}
    if wishes.folder is not None:
        wishes.folder.mkdir(parents=True, exist_ok=True)
        (wishes.folder / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        (wishes.folder / "report.html").write_text(page(report, compared), encoding="utf-8")
        err.print(f"{wishes.folder / 'report.html'}", highlight=False)
    if wishes.as_json:
        print_json(report)
    else:
        out.print(table)
    for item in compared:
        colour = _COLOURS[item.verdict]
        measured = "not said" if item.measured is None else f"{item.measured:.4g}"
        err.print(f"[{colour}]{item.verdict}[/] {item.figure}: {item.accepted:.4g} accepted, {measured} now")
    raise typer.Exit(1 if any(item.verdict == "worse" for item in compared) else 0)


def _image_table(report: Mapping[str, Any]) -> Table:
    table = Table("images", "class", "true boxes", "AP50 (95 %)", "AP50-95", "precision", "recall")
    for column in table.columns[:4]:
        column.no_wrap = True
    groups = {"all": report}
    for name in ("by_altitude", "by_angle", "by_box_size"):
        words = name.removeprefix("by_").replace("_", " ")
        groups |= {f"{words} {value}": row for value, row in report[name].items()}
    for name, group in groups.items():
        for label, row in group["per_class"].items():
            others = [_shown(row[key], None) for key in ("ap50_95", "precision", "recall")]
            table.add_row(name, label, str(row["truths"]), _shown(row["ap50"], row["ap50_ci"]), *others)
    return table


def _event_table(report: Mapping[str, Any]) -> Table:
    table = Table("figure", "value")
    location, count = report["location"], report["count"]
    rows = {
        "events that had to be found": (report["must"], None),
        "recall": (report["recall"], report["recall_ci"]),
        "precision": (report["precision"], report["precision_ci"]),
        "mean count error": (count["mean_abs_error"], None),
        "count intervals that hold": (count["interval_holds"], count["interval_holds_ci"]),
        "location error, half within (m)": (location["p50_m"], None),
        "location error, 95 % within (m)": (location["p95_m"], None),
        "90 % ellipses that hold": (location["ellipse_holds"], location["ellipse_holds_ci"]),
        "time to detect, half within (s)": (report["time_to_detect"]["p50_s"], None),
    }
    if "locations" in report:
        places = report["locations"]
        rows["places without pictures: error, half within (m)"] = (places["p50_m"], None)
        rows["places without pictures: 90 % ellipses that hold"] = (
            places["ellipse_holds"],
            places["ellipse_holds_ci"],
        )
    for name, (value, ci) in rows.items():
        table.add_row(name, _shown(value, ci))
    for row in report["mistakes"]:
        table.add_row(f"{row['mistake']} in {row['clip']}", escape(row["what"]))
    for reason in report["failed"]:
        table.add_row("[red]failed[/]", escape(reason))
    return table


def _shown(value: float | None, ci: Sequence[float] | None) -> str:
    if value is None:
        return "not said"
    return f"{value:.3g}" + (f" ({ci[0]:.3g} to {ci[1]:.3g})" if ci else "")
