"""The figures that were accepted: what a change must not make worse unnoticed.

Belongs here: reading them, comparing a report with them, and renewing them. Not here: measuring.

The file holds, for each kind of report, what was measured (``setup``: the same images, flights and
numbers, else figures are not comparable) and a table of figures by their path in the report::

    {"images": {"setup": {...}, "figures": {
        "per_class.person.ap50": {"value": 0.81, "better": "higher", "tolerance": 0.02}}}}

``better`` is ``higher``, ``lower``, or two bounds within which any value is as good as any other. The
tolerance covers what differs between processors; on one machine a figure is the same every time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from outwatch.domain.errors import ConfigInvalid

Verdict = Literal["same", "better", "worse"]


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure beside the one that was accepted."""

    figure: str
    accepted: float
    measured: float | None
    """None where the report cannot say it: that is worse than any number."""
    tolerance: float
    verdict: Verdict


def compare(report: Mapping[str, Any], path: Path) -> list[Compared]:
    """Compare a report with the accepted figures of its kind.

    Raises:
        ConfigInvalid: the file has none of its kind, is malformed, or they are of other images or flights.
    """
    section = _section(_read(path), report, path)
    if section["setup"] != report["setup"]:
        differing = {
            name: (section["setup"].get(name), report["setup"].get(name))
            for name in sorted(section["setup"].keys() | report["setup"].keys())
            if section["setup"].get(name) != report["setup"].get(name)
        }
        told = ", ".join(f"{name} {was!r} accepted, {now!r} now" for name, (was, now) in differing.items())
        raise ConfigInvalid(f"{path}: the accepted {report['kind']} figures are of something else ({told})")
    try:
        return [_compared(name, rule, report) for name, rule in section["figures"].items()]
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigInvalid(
            f"{path}: each figure needs value, tolerance and better (higher, lower or [low, high]): {error}"
        ) from error


def renew(report: Mapping[str, Any], path: Path) -> None:
    """Write a report's figures over the accepted ones of its kind; which figures count stays as it is.

    Raises:
        ConfigInvalid: the file has none of its kind, or the report cannot say one of them.
    """
    accepted = _read(path)
    section = _section(accepted, report, path)
    section["setup"] = report["setup"]
    for name, rule in section["figures"].items():
        if (value := figure_at(report, name)) is None:
            raise ConfigInvalid(
                f"{path}: the report has no figure {name!r} to accept; take it out of the file"
            )
        rule["value"] = value
    path.write_text(json.dumps(accepted, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def figure_at(report: Mapping[str, Any], path: str) -> float | None:
    """Return the figure at a dotted path, None where it is not there or is no number."""
    value: Any = report
    for name in path.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return None
        value = value[name]
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _compared(name: str, rule: Mapping[str, Any], report: Mapping[str, Any]) -> Compared:
    measured, accepted, tolerance = figure_at(report, name), float(rule["value"]), float(rule["tolerance"])
    gain = None if measured is None else _gain(measured, accepted, rule["better"])
    verdict: Verdict = "same"
    if gain is None or gain < -tolerance:
        verdict = "worse"
    elif gain > tolerance:
        verdict = "better"
    return Compared(name, accepted, measured, tolerance, verdict)


def _gain(measured: float, accepted: float, better: object) -> float:
    """Return by how much a figure is better than the accepted one, negative where it is worse."""
    if better == "higher":
        return measured - accepted
    if better == "lower":
        return accepted - measured
    if not (isinstance(better, list) and len(better) == len(("low", "high"))):
        raise ValueError(f"better is {better!r}")
    low, high = map(float, better)
    return min(measured - low, high - measured, 0.0)


def _read(path: Path) -> dict[str, Any]:
    try:
        accepted = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigInvalid(f"accepted figures {path} cannot be read as JSON: {error}") from error
    if not isinstance(accepted, dict):
        raise ConfigInvalid(f"accepted figures {path}: expected an object by kind of report")
    return accepted


def _section(accepted: Mapping[str, Any], report: Mapping[str, Any], path: Path) -> dict[str, Any]:
    section = accepted.get(report["kind"])
    if not (isinstance(section, dict) and {"setup", "figures"} <= section.keys()):
        raise ConfigInvalid(
            f"{path} has no accepted figures of kind {report['kind']!r}: add setup and figures, as in "
            "docs/evaluation.md"
        )
    return section
