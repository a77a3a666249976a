"""Small plots as SVG text, which a page holds without fetching anything.

Belongs here: axes, marks and legends. Not here: what is plotted (``report.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
"""Told apart also by those who see fewer colours (Okabe and Ito 2008)."""
_WIDTH, _HEIGHT = 460, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 46, 50
_TICKS = 5


@dataclass(frozen=True, slots=True)
class Mark:
    """A value, with the interval around it where one is known."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """Points joined in order, or single ones."""

    name: str
    points: Sequence[tuple[float, float]]
    joined: bool = True
    dashed: bool = False


def plot_lines(
    title: str,
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    whiskers: Sequence[tuple[float, float, float]] = (),
) -> str:
    """Return lines and points over two numbers; each whisker is (x, low, high)."""
    axes = _Axes(x_range, y_range)
    parts = [axes.drawn(x_label=x_label, y_label=y_label, x_ticks=_even(x_range))]
    parts += [axes.whisker(x, low, high, "#888") for x, low, high in whiskers]
    for colour, line in zip(_cycled(len(lines)), lines, strict=True):
        shown = "#888" if line.dashed else colour
        if line.joined and line.points:
            path = " ".join(f"{axes.x(x):.1f},{axes.y(y):.1f}" for x, y in line.points)
            dash = ' stroke-dasharray="5 4"' if line.dashed else ""
            parts.append(f'<polyline points="{path}" fill="none" stroke="{shown}" stroke-width="2"{dash}/>')
        elif not line.joined:
            parts += [_dot(axes.x(x), axes.y(y), shown) for x, y in line.points]
    legend = [
        (line.name, "#888" if line.dashed else c) for c, line in zip(_cycled(len(lines)), lines, strict=True)
    ]
    return _whole(title, parts, legend)


def plot_groups(
    title: str,
    series: Mapping[str, Mapping[str, Mark]],
    *,
    y_label: str,
    y_range: tuple[float, float],
    wanted: tuple[float, float] | None = None,
) -> str:
    """Return values with their intervals by group: series by name, marks by group, in order.

    Args:
        title: of the plot.
        series: marks by the group's name.
        y_label: what the values are.
        y_range: of the axis; marks beyond are drawn at its edge.
        wanted: a band that is shaded: where values should lie.
    """
    groups = list(dict.fromkeys(group for marks in series.values() for group in marks))
    axes = _Axes((-0.5, max(0.5, len(groups) - 0.5)), y_range)
    ticks = [(float(index), group) for index, group in enumerate(groups)]
    parts = [axes.band(wanted)] if wanted else []
    parts.append(axes.drawn(x_label="", y_label=y_label, x_ticks=ticks))
    for number, (colour, marks) in enumerate(zip(_cycled(len(series)), series.values(), strict=True)):
        aside = (number - (len(series) - 1) / 2) * min(0.2, 0.7 / max(1, len(series)))
        for index, group in enumerate(groups):
            mark = marks.get(group)
            if mark is None or mark.value is None:
                continue
            x = axes.x(index + aside)
            if mark.low is not None and mark.high is not None:
                parts.append(axes.whisker(index + aside, mark.low, mark.high, colour))
            parts.append(_dot(x, axes.y(mark.value), colour, f"{group}: {mark.value:g}"))
    return _whole(
        title, parts, list(zip(series, _cycled(len(series)), strict=True)) if len(series) > 1 else []
    )


@dataclass(frozen=True, slots=True)
class _Axes:
    """Where values fall in the picture."""

    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        return _LEFT + self._share(value, self.x_range) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - self._share(value, self.y_range) * (_HEIGHT - _TOP - _BOTTOM)

    @staticmethod
    def _share(value: float, within: tuple[float, float]) -> float:
        low, high = within
        return min(1.0, max(0.0, (value - low) / (high - low)))

    def band(self, within: tuple[float, float]) -> str:
        top, bottom = self.y(within[1]), self.y(within[0])
        return (
            f'<rect x="{_LEFT}" y="{top:.1f}" width="{_WIDTH - _LEFT - _RIGHT}" height="{bottom - top:.1f}" '
            'fill="#009E73" fill-opacity="0.12"/>'
        )

    def whisker(self, x: float, low: float, high: float, colour: str) -> str:
        at = f'x1="{self.x(x):.1f}" x2="{self.x(x):.1f}" y1="{self.y(low):.1f}" y2="{self.y(high):.1f}"'
        return f'<line {at} stroke="{colour}" stroke-width="1.5" stroke-opacity="0.6"/>'

    def drawn(self, *, x_label: str, y_label: str, x_ticks: Sequence[tuple[float, str]]) -> str:
        right, floor = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
        parts = [
            f'<line x1="{_LEFT}" x2="{right}" y1="{self.y(at):.1f}" y2="{self.y(at):.1f}" stroke="#ddd"/>'
            f'<text x="{_LEFT - 6}" y="{self.y(at) + 4:.1f}" text-anchor="end">{words}</text>'
            for at, words in _even(self.y_range)
        ]
        steps = max(1, len(x_ticks))
        crowded = steps > _TICKS + 1 or max((len(words) for _, words in x_ticks), default=0) * steps > 58  # noqa: PLR2004  characters that fit side by side
        for number, (at, words) in enumerate(x_ticks):
            down = 16 + (13 if crowded and number % 2 else 0)
            parts.append(
                f'<text x="{self.x(at):.1f}" y="{floor + down}" text-anchor="middle">{escape(words)}</text>'
            )
        parts.append(f'<line x1="{_LEFT}" x2="{right}" y1="{floor}" y2="{floor}" stroke="#555"/>')
        parts.append(
            f'<text x="{(_LEFT + right) / 2}" y="{_HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>'
        )
        middle = (_TOP + floor) / 2
        turned = f'transform="rotate(-90 14 {middle})"'
        parts.append(f'<text x="14" y="{middle}" text-anchor="middle" {turned}>{escape(y_label)}</text>')
        return "".join(parts)


def _even(within: tuple[float, float]) -> list[tuple[float, str]]:
    low, high = within
    steps = [low + (high - low) * step / _TICKS for step in range(_TICKS + 1)]
    return [(at, f"{at:.3g}") for at in steps]


def _dot(x: float, y: float, colour: str, words: str = "") -> str:
    title = f"<title>{escape(words)}</title>" if words else ""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}" fill-opacity="0.85">{title}</circle>'


def _cycled(count: int) -> list[str]:
    return [COLOURS[index % len(COLOURS)] for index in range(count)]


def _whole(title: str, parts: Sequence[str], legend: Sequence[tuple[str, str]]) -> str:
    shown = []
    left = _LEFT + 4.0
    for name, colour in legend:
        shown.append(f'<circle cx="{left:.0f}" cy="26" r="4" fill="{colour}"/>')
        shown.append(f'<text x="{left + 8:.0f}" y="30">{escape(name)}</text>')
        left += 22 + 6.2 * len(name)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">'
        f'<text x="{_LEFT - 40}" y="14" class="title">{escape(title)}</text>'
        f"{''.join(shown)}{''.join(parts)}</svg>"
    )
