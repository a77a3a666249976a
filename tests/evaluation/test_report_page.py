"""The report is one page that fetches nothing and hides nothing."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Any

from outwatch.evaluation.accepted import Compared
from outwatch.evaluation.events import ClipResult, event_figures
from outwatch.evaluation.report import page
from outwatch.evaluation.svg import Line, Mark, plot_groups, plot_lines


def image_report() -> dict[str, Any]:
    figures = {"ap50": 0.8123, "ap50_95": 0.41, "precision": None, "recall": 0.7}
    row = {"truths": 40, **figures, **{f"{name}_ci": None for name in figures}, "ap50_ci": [0.7, 0.9]}
    group = {"images": 3, "per_class": {"person": row}}
    return {
        "kind": "images",
        "setup": {"data": "<b>thermal</b>", "images": 3},
        "model": "m",
        "classes_left_out": ["dog"],
        "intervals": "95 %",
        **group,
        "by_altitude": {"60": group},
        "by_angle": {},
        "by_box_size": {"0-12": group},
        "curves": {"person": [(0.1, 1.0), (0.7, 0.6)]},
    }


def test_a_report_of_images_shows_figures_intervals_and_verdicts() -> None:
    """What cannot be said is told so, and what came from outside is text, not markup."""
    compared = [Compared("per_class.person.ap50", 0.85, 0.8123, 0.02, "worse")]
    html = page(image_report(), compared)
    assert "0.812 (0.7 to 0.9)" in html
    assert "not said" in html
    assert "<td class='worse'>worse</td>" in html
    assert "<b>thermal</b>" not in html
    assert "Not judged: dog" in html
    assert "AP50 by camera depression" not in html, "names told no angle"


def test_a_report_fetches_nothing() -> None:
    """No address, script or picture of elsewhere stands in it, and each plot is well-formed."""
    for report in (
        image_report(),
        {"kind": "clips", "setup": {}, **event_figures([ClipResult("a", (), ())])},
    ):
        html = page(report)
        assert re.findall(r"https?:|<script|<link|<img|@import|url\(", html) == []
        for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
            ET.fromstring(svg)  # noqa: S314 our own text


def test_marks_stay_in_the_picture() -> None:
    """Values beyond the axis are drawn at its edge; groups without a value are left empty."""
    svg = plot_groups("t", {"a": {"x": Mark(7.0, -3.0, 9.0), "y": Mark(None)}}, y_label="", y_range=(0, 1))
    assert svg.count("<circle") == 1
    heights = [float(y) for y in re.findall(r'(?:cy|y1|y2)="(-?[\d.]+)"', svg)]
    assert 0 <= min(heights) <= max(heights) <= 300


def test_lines_and_points_have_a_legend() -> None:
    """Joined points are a line, others are dots, and each has its name."""
    lines = [Line("curve", [(0, 0), (1, 1)]), Line("points", [(0.5, 0.5)], joined=False)]
    svg = plot_lines("t", lines, x_label="x", y_label="y", x_range=(0, 1), y_range=(0, 1))
    assert (svg.count("<polyline"), svg.count("<circle")) == (1, 3)
    assert ">curve<" in svg
    assert ">points<" in svg
