"""A report as one page that needs nothing else: figures, plots, and every mistake by name.

Belongs here: which figures are shown how. Not here: plots themselves (``svg.py``) and measuring.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from outwatch.evaluation.accepted import Compared
from outwatch.evaluation.svg import Line, Mark, plot_groups, plot_lines

_SHARES = (0.0, 1.0)
_ELLIPSE_WANTED = (0.85, 0.95)
"""What a 90 % ellipse should hold, give or take the error of measuring it."""
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1a1a1a; background: #fff; }
body { max-width: 1000px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.tiles { display: flex; flex-wrap: wrap; gap: .6rem; }
.tile { border: 1px solid #ddd; border-radius: 6px; padding: .5rem .8rem; min-width: 8rem; }
.tile b { display: block; font-size: 1.35rem; } .tile span { color: #555; font-size: .85rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(430px, 1fr)); gap: 1rem; }
svg { width: 100%; height: auto; font: 11px system-ui, sans-serif; fill: #333; }
svg .title { font-size: 13px; font-weight: 600; }
table { border-collapse: collapse; font-size: .85rem; }
td, th { border-bottom: 1px solid #e3e3e3; padding: .25rem .6rem; text-align: left; vertical-align: top; }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
.worse { color: #b00020; font-weight: 600; } .better { color: #006b4a; } p.note { color: #555; }
.scroll { overflow-x: auto; margin-top: 1rem; }
"""


def page(report: Mapping[str, Any], compared: Sequence[Compared] = ()) -> str:
    """Return a report of any kind as HTML.

    Args:
        report: as ``evaluate_images``, ``evaluate_clips`` or ``evaluate_simulated`` gives it.
        compared: its figures beside the accepted ones.
    """
    kind = str(report["kind"])
    setup = ", ".join(f"{name} {_words(value)}" for name, value in report["setup"].items())
    body = _images(report) if kind == "images" else _events(report)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>Outwatch: {escape(kind)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>Outwatch, evaluated on {escape(kind)}</h1>"
        f'<p class="note">Model {escape(str(report.get("model")))}; {escape(setup)}.</p>'
        f"{_against(compared)}{body}</body></html>\n"
    )


def _images(report: Mapping[str, Any]) -> str:
    classes: Mapping[str, Any] = report["per_class"]
    tiles = [(f"AP50 {label}", row["ap50"], row["ap50_ci"]) for label, row in classes.items()]
    curves = [Line(label, curve) for label, curve in report["curves"].items() if curve]
    plots = [
        plot_lines(
            "Precision over recall at IoU 0.5",
            curves,
            x_label="recall",
            y_label="precision",
            x_range=_SHARES,
            y_range=_SHARES,
        )
    ]
    for name, title in (
        ("by_altitude", "AP50 by altitude (m)"),
        ("by_angle", "AP50 by camera depression (deg)"),
        ("by_box_size", "AP50 by box size (px, root of area)"),
    ):
        if report[name]:
            plots.append(plot_groups(title, _by_label(report[name], "ap50"), y_label="AP50", y_range=_SHARES))
    columns = ("ap50", "ap50_95", "precision", "recall")
    rows = [
        (label, row["truths"], *(_with_interval(row[name], row[f"{name}_ci"]) for name in columns))
        for label, row in classes.items()
    ]
    notes = f'<p class="note">Intervals: {escape(str(report["intervals"]))}.</p>'
    if report["classes_left_out"]:
        notes += f'<p class="note">Not judged: {escape(", ".join(report["classes_left_out"]))}.</p>'
    head = ("class", "true boxes", "AP50", "AP50-95", "precision", "recall")
    return _tiles(tiles) + _plots(plots) + "<h2>Classes</h2>" + _table(head, rows) + notes


def _events(report: Mapping[str, Any]) -> str:
    count, location, delay = report["count"], report["location"], report["time_to_detect"]
    tiles = [
        ("events that had to be found", report["must"], None),
        ("recall", report["recall"], report["recall_ci"]),
        ("precision", report["precision"], report["precision_ci"]),
        ("count error, mean", count["mean_abs_error"], None),
        ("count intervals hold", count["interval_holds"], count["interval_holds_ci"]),
        ("location error p50, m", location["p50_m"], None),
        ("location error p95, m", location["p95_m"], None),
        ("90 % ellipses hold", location["ellipse_holds"], location["ellipse_holds_ci"]),
        ("time to detect p50, s", delay["p50_s"], None),
    ]
    parts = [_tiles([tile for tile in tiles if tile[1] is not None]), _plots(_event_plots(report))]
    if "locations" in report:
        parts += ["<h2>Places without pictures</h2>", _location_part(report["locations"])]
    parts.append("<h2>Every mistake</h2>")
    names = list(dict.fromkeys(name for row in report["mistakes"] for name in row))
    rows = [tuple(row.get(name, "") for name in names) for row in report["mistakes"]]
    parts.append(_table(names, rows) if rows else '<p class="note">None.</p>')
    told = [f"{kind}: {number}" for kind, number in report["not_judged"].items()]
    told += [f"failed: {reason}" for reason in report["failed"]]
    if told:
        parts.append(f'<h2>Also told</h2><p class="note">{escape("; ".join(told))}</p>')
    parts.append(
        f'<p class="note">{report["may"]} events lay too near to a threshold to be judged; '
        f"{report['may_found']} of them were found.</p>"
    )
    return "".join(parts)


def _event_plots(report: Mapping[str, Any]) -> list[str]:
    plots = []
    for name, groups in report.get("by", {}).items():
        series = {
            figure: {value: _mark(row, figure) for value, row in groups.items() if row[figure] is not None}
            for figure in ("recall", "precision")
        }
        plots.append(plot_groups(f"Events by {name}", series, y_label="share", y_range=_SHARES))
    if points := report["count"]["points"]:
        most = _round_up(max(max(row) for row in points))
        plots.append(
            plot_lines(
                "Counts: found, with intervals, over true",
                [
                    Line("found", [(true, usual) for true, _, usual, _ in points], joined=False),
                    _diagonal(most, "as true"),
                ],
                x_label="true count",
                y_label="count",
                x_range=(0, most),
                y_range=(0, most),
                whiskers=[(true, low, high) for true, low, _, high in points],
            )
        )
    if report["p_inside"]["events"]:
        plots.append(_reliability("p_inside of events", report["p_inside"]))
    return plots


def _location_part(locations: Mapping[str, Any]) -> str:
    tiles = [
        ("looks", locations["cases"], None),
        ("error p50, m", locations["p50_m"], None),
        ("error p95, m", locations["p95_m"], None),
        ("90 % ellipses hold", locations["ellipse_holds"], locations["ellipse_holds_ci"]),
        ("Brier score of p_inside", locations["p_inside"]["brier"], None),
    ]
    plots = [_reliability("p_inside of looks", locations["p_inside"])]
    for name, groups in locations["by"].items():
        held = {"holds": {value: _mark(row, "ellipse_holds") for value, row in groups.items()}}
        plots.append(
            plot_groups(
                f"Share inside the 90 % ellipse by {name}",
                held,
                y_label="share",
                y_range=(0.7, 1.0),
                wanted=_ELLIPSE_WANTED,
            )
        )
        errors = {
            words: {value: Mark(row[figure]) for value, row in groups.items()}
            for words, figure in (("p50", "p50_m"), ("p95", "p95_m"))
        }
        top = _round_up(max((row["p95_m"] or 0.0 for row in groups.values()), default=0.0))
        plots.append(plot_groups(f"Location error by {name}", errors, y_label="metres", y_range=(0, top)))
    return _tiles(tiles) + _plots(plots)


def _reliability(title: str, figures: Mapping[str, Any]) -> str:
    bins = [row for row in figures["bins"] if row["events"]]
    return plot_lines(
        f"What came true of {title}",
        [Line("came true", [(row["said"], row["came_true"]) for row in bins], joined=False), _diagonal(1.0)],
        x_label="probability as stated",
        y_label="share that came true",
        x_range=_SHARES,
        y_range=_SHARES,
        whiskers=[(row["said"], *row["came_true_ci"]) for row in bins],
    )


def _diagonal(to: float, name: str = "as stated") -> Line:
    return Line(name, [(0.0, 0.0), (to, to)], dashed=True)


def _round_up(value: float) -> float:
    """Return where an axis ends that is told in fifths: the next multiple of five."""
    return 5.0 * math.floor(value / 5 + 1)


def _by_label(groups: Mapping[str, Any], figure: str) -> dict[str, dict[str, Mark]]:
    labels = dict.fromkeys(label for row in groups.values() for label in row["per_class"])
    return {
        label: {
            group: _mark(row["per_class"][label], figure)
            for group, row in groups.items()
            if label in row["per_class"]
        }
        for label in labels
    }


def _mark(row: Mapping[str, Any], figure: str) -> Mark:
    low, high = row.get(f"{figure}_ci") or (None, None)
    return Mark(row[figure], low, high)


def _against(compared: Sequence[Compared]) -> str:
    if not compared:
        return ""
    rows = [
        f"<tr><td>{escape(item.figure)}</td><td class='n'>{item.accepted:g}</td>"
        f"<td class='n'>{_words(item.measured)}</td><td class='n'>{item.tolerance:g}</td>"
        f"<td class='{item.verdict}'>{item.verdict}</td></tr>"
        for item in compared
    ]
    head = "".join(f"<th>{name}</th>" for name in ("figure", "accepted", "now", "tolerance", ""))
    return f"<h2>Against the accepted figures</h2><table><tr>{head}</tr>{''.join(rows)}</table>"


def _tiles(tiles: Iterable[tuple[str, Any, Sequence[float] | None]]) -> str:
    shown = "".join(
        f'<div class="tile"><b>{_words(value)}</b><span>{escape(name)}'
        f"{f' ({ci[0]:g} to {ci[1]:g})' if ci else ''}</span></div>"
        for name, value, ci in tiles
    )
    return f'<div class="tiles">{shown}</div>'


def _plots(plots: Sequence[str]) -> str:
    return f'<h2>Plots</h2><div class="plots">{"".join(plots)}</div>' if plots else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = "".join(
        "<tr>" + "".join(f"<td>{escape(_words(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f'<div class="scroll"><table><tr>{top}</tr>{lines}</table></div>'


def _with_interval(value: float | None, ci: Sequence[float] | None) -> str:
    return f"{_words(value)} ({ci[0]:g} to {ci[1]:g})" if ci else _words(value)


def _words(value: object) -> str:
    if value is None:
        return "not said"
    if isinstance(value, float):
        return f"{value:.3g}"
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
