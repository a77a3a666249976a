"""``outwatch models``: what looks at what, and how models come in, are trained, judged and promoted.

Belongs here: options, tables and lines for people. Not here: any work (``pipeline/models.py``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from outwatch.commands.shared import AsJson, err, opened_pipeline, out, print_json
from outwatch.domain.types import Modality

app = typer.Typer(
    help="The models that look at footage: list, add, train, evaluate, compare, promote.",
    no_args_is_help=True,
)
Model = Annotated[str, typer.Argument(help="A model's id, thermal_yolo11n or rgb_yolo11n, or a path.")]
Data = Annotated[Path, typer.Option(help="Labelled images in Ultralytics layout, with data.yaml.")]
Split = Annotated[str, typer.Option(help="Which part of them.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Judge so many images only, evenly spread.")]
For = Annotated[Modality, typer.Option("--modality", help="What the camera sees.")]


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List the models, and which of them looks at what cameras see."""
    from outwatch.pipeline import models

    with opened_pipeline() as pipeline:
        listed, named = models.list_models(pipeline), models.named_in_settings(pipeline)
    if as_json:
        print_json([_row(item) for item in listed])
        return
    table = Table("", "model", "sees", "frame", "labels", "figures", "licence")
    table.columns[1].no_wrap = True  # an id broken over lines cannot be copied
    for item in listed:
        figures = ", ".join(f"{name} {value:.2f}" for name, value in item.card.metrics.items())
        table.add_row(
            "[green]looks[/]" if item.looks else "",
            escape(item.id),
            item.modality.value,
            f"{item.card.longest_px} px",
            ", ".join(_labels(item)),
            escape(figures or "not measured"),
            escape(item.card.licence or "not said"),
        )
    out.print(table)
    for modality, path in named.items():
        out.print(f"{modality}: settings name {path}, which looks instead", highlight=False, markup=False)


@app.command()
def add(
    weights: Annotated[
        Path,
        typer.Argument(
            help="A .pt file, which runs as code when it is loaded, .onnx, or an OpenVINO folder."
        ),
    ],
    modality: For,
    name: Annotated[
        str | None, typer.Option(help="First part of its id; the file's name if not given.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="Labels of its classes in order, as in person,car,-; - leaves a class out."),
    ] = None,
    input_px: Annotated[
        int | None, typer.Option(min=32, max=4096, help="Longest side of the frames it was trained for.")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="SPDX expression, as in AGPL-3.0-only.")] = None,
) -> None:
    """Check weights by a dry run and put them into the registry; nothing looks at footage with them yet."""
    from outwatch.pipeline import models

    if weights.suffix == ".pt":
        err.print(
            "[yellow]A .pt file is a program: loading it runs what it says. Add only those you trust.[/]"
        )
    with opened_pipeline() as pipeline:
        model_id = models.add_model(
            pipeline,
            weights,
            modality=modality,
            name=name,
            labels=labels,
            longest_px=input_px,
            licence=licence,
        )
    _tell_added(model_id, modality)


@app.command()
def train(
    data: Data,
    start: Annotated[Path, typer.Option(help="Weights to start from (.pt), as yolo11n.pt.")],
    modality: For,
    folder: Annotated[
        Path | None, typer.Option("--out", help="Where the run is written; in the home folder if not given.")
    ] = None,
) -> None:
    """Run the recipe for a kind of camera and put what comes out into the registry (hours on a CPU)."""
    from outwatch.pipeline import models

    with opened_pipeline() as pipeline:
        model_id, figures = models.train_model(
            pipeline, data_dir=data, start=start, modality=modality, out_dir=folder
        )
    out.print(figures, highlight=False, markup=False)
    _tell_added(model_id, modality)


@app.command()
def evaluate(
    model: Model, data: Data, split: Split = "val", limit: Limit = None, as_json: AsJson = False
) -> None:
    """Judge a model by labelled images: AP50, AP50-95, precision and recall, with 95 % intervals."""
    from outwatch.pipeline import models

    with opened_pipeline() as pipeline:
        report = models.evaluate_model(pipeline, model, data=data, split=split, limit=limit)
    if as_json:
        print_json(report)
        return
    table = Table("label", "true boxes", "AP50", "AP50-95", "precision", "recall", title=report["model"])
    for label, row in report["per_class"].items():
        cells = (_with_interval(row[name], row[f"{name}_ci"]) for name in _FIGURES)
        table.add_row(label, str(row["truths"]), *cells)
    out.print(table)


@app.command()
def compare(
    first: Model,
    second: Model,
    data: Data,
    split: Split = "val",
    limit: Limit = None,
    as_json: AsJson = False,
) -> None:
    """Judge two models by the same images and say how sure their difference is; the report is kept."""
    from outwatch.pipeline import models

    with opened_pipeline() as pipeline:
        report = models.compare_models(pipeline, first, second, data=data, split=split, limit=limit)
    if as_json:
        print_json(report)
        return
    table = Table("label", "figure", report["first"], report["second"], "second less first (95 %)")
    for label, rows in report["per_class"].items():
        for name, row in rows.items():
            difference = _with_interval(row["difference"], row["difference_ci"])
            table.add_row(label, name, _number(row["first"]), _number(row["second"]), difference)
    out.print(table)
    out.print(f"{report['images']} images, kept as {report['key']}", highlight=False)


@app.command()
def promote(
    model: Annotated[
        str, typer.Argument(help="A model's id, or shipped for the one that comes with Outwatch.")
    ],
    modality: For,
) -> None:
    """Let a model look at what such cameras see from now on; promoting another takes it back."""
    from outwatch.pipeline import models

    with opened_pipeline() as pipeline:
        promotion = models.promote_model(pipeline, model, modality=modality)
    now, before = (name or "the shipped model" for name in (promotion.model_id, promotion.previous_id))
    at = f"{promotion.at:%Y-%m-%d %H:%M}Z"
    out.print(
        f"{modality}: {now} since {at}, by {promotion.by}, in place of {before}",
        highlight=False,
        markup=False,
    )


_FIGURES = ("ap50", "ap50_95", "precision", "recall")


def _tell_added(model_id: str, modality: Modality) -> None:
    out.print(f"{model_id} is in the registry.", highlight=False, markup=False)
    out.print(
        f"To use it: outwatch models promote {model_id} --modality {modality}", highlight=False, markup=False
    )


def _row(item: Any) -> dict[str, Any]:
    card = item.card
    return {
        "id": item.id,
        "modality": item.modality,
        "shipped": item.shipped,
        "looks": item.looks,
        "labels": _labels(item),
        "input_px": card.longest_px,
        "base_model": card.base_model,
        "training_data": dict(card.training_data),
        "licence": card.licence,
        "metrics": dict(card.metrics),
        "sha256": card.sha256,
        "added_at": item.added_at,
        "added_by": item.added_by,
    }


def _labels(item: Any) -> list[str]:
    return list(dict.fromkeys(label for label in item.card.class_labels if label))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _with_interval(value: float | None, interval: list[float] | None) -> str:
    return _number(value) + ("" if interval is None else f"  ({interval[0]:.3f} to {interval[1]:.3f})")
