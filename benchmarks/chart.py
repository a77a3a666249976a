"""Draw the results of ``speed.py`` as bars: ``python -m benchmarks.chart [--results FILE] [--out FILE]``.

Belongs here: the picture. Not here: any figure that ``results.json`` does not hold.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from benchmarks.speed import ONE, PLAIN, RESULTS, TWO
from outwatch.evaluation.svg import COLOURS

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "speed.svg"
_NAMES = {PLAIN: "plain: track every 15th frame", ONE: "Outwatch, one pass", TWO: "Outwatch, two passes"}
_WIDTH, _LEFT, _RIGHT = 760, 210, 210
_BAR, _STEP, _HEAD, _GAP = 20, 28, 34, 18


def drawn(results: Mapping[str, Any]) -> str:
    """Return an SVG with the processor seconds of each way, a group of bars for each clip."""
    parts: list[str] = []
    top = _HEAD
    for clip in results["clips"].values():
        parts.append(_text(_LEFT, top, _title(clip), weight="bold"))
        longest_s = max(way["cpu_s"] for way in clip["ways"].values())
        for colour, (way, figures) in zip(COLOURS, clip["ways"].items(), strict=False):
            top += _STEP
            length = figures["cpu_s"] / longest_s * (_WIDTH - _LEFT - _RIGHT)
            parts.append(_text(_LEFT - 8, top, _NAMES[way], anchor="end"))
            place = f'x="{_LEFT}" y="{top - _BAR + 6}" width="{length:.1f}" height="{_BAR}"'
            parts.append(f'<rect {place} fill="{colour}"/>')
            parts.append(_text(_LEFT + length + 6, top, _words(clip, way)))
        top += _STEP + _GAP
    caption = f"Processor seconds, all processes; {results['machine']['processor']}; {results['model']}"
    parts.append(_text(8, top, caption, size=11))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top + 14}" font-family="sans-serif">'
        f'<rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'
    )


def table(results: Mapping[str, Any]) -> str:
    """Return the figures as a Markdown table, a row for each clip and way."""
    rows = [
        "| clip | way | processor s | plain takes | real time per core | peak MB | found, missed, wrong |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, clip in results["clips"].items():
        for way, figures in clip["ways"].items():
            times = "" if way == PLAIN else f"{clip['plain_costs_times'][way]:.1f} times"
            events = ", ".join(str(figures[f"events_{kind}"]) for kind in ("found", "missed", "wrong"))
            rows.append(
                f"| `{name}` | {_NAMES[way]} | {figures['cpu_s']:.0f} | {times} |"
                f" {figures['realtime_per_core']:.1f} | {figures['peak_mb']} | {events} |"
            )
    return "\n".join(rows)


def _title(clip: Mapping[str, Any]) -> str:
    size = f"{clip['width_px']}x{clip['height_px']} at {clip['fps']} frames a second"
    return f"{clip['duration_s'] / 60:g} min, {size}, {clip['mbit_s']:.0f} Mb/s, {clip['true_events']} events"


def _words(clip: Mapping[str, Any], way: str) -> str:
    figures = clip["ways"][way]
    times = "" if way == PLAIN else f", {100 / clip['plain_costs_times'][way]:.0f} %"
    return f"{figures['cpu_s']:.0f} s{times}, {figures['events_found']} found"


def _text(
    x: float, y: float, words: str, *, anchor: str = "start", weight: str = "normal", size: int = 13
) -> str:
    look = f'text-anchor="{anchor}" font-weight="{weight}" font-size="{size}" fill="#222"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {look}>{escape(words)}</text>'


def main() -> None:
    """Draw the chart of a results file and print its table."""
    parser = argparse.ArgumentParser(description="Draw the results of benchmarks.speed.")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--out", type=Path, default=PICTURE)
    options = parser.parse_args()
    results = json.loads(options.results.read_text(encoding="utf-8"))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(drawn(results), encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
