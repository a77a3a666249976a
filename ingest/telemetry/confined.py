"""Read logs, which anybody may hand in, in a confined child process.

Belongs here: the parent's end: handing over the file, and making telemetry of what the child says, which is
as little trusted as the log. Not here: the child's program (``log_reader.py``), processes and pipes
(``ingest/sandbox.py``).
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from ingest.confinement import FRAME, REPORT, Limits
from ingest.sandbox import exchange, opened
from ingest.telemetry.log_reader import COLUMNS, EPOCH
from outwatch.domain.errors import CorruptClip, FeedTimeout, TelemetryInvalid, UnsupportedFormat
from outwatch.domain.types import GeoPoint, Telemetry, TelemetryClock, TelemetrySample, TimeBase

PROGRAM = "ingest.telemetry.log_reader"
MAX_LOG_BYTES = 512 << 20
"""A day of flight at the highest rates that autopilots log by default; a child of 2 GB holds and reads it."""
_WORD = re.compile(r"[a-z0-9_]{1,60}", re.ASCII)
"""What doubts and missing fields are named by."""
_MAX_WORDS = 32


def read_confined(content: Path | bytes, *, format: str, zone: ZoneInfo, limits: Limits) -> Telemetry:  # noqa: A002
    """Return the telemetry in a log, read by a child that can do no harm.

    Args:
        content: the log's file, or its bytes.
        format: one of ``log_reader.READERS``.
        zone: of wall times that the format writes without one.
        limits: what it may cost; ``max_pixels`` means nothing here.

    Raises:
        TelemetryInvalid: it cannot be read, takes too much time or memory, or crashes its reader.
    """
    name = content.name if isinstance(content, Path) else f"{format} log"
    task = {"format": format, "zone": zone.key}
    rows, about = None, None
    try:
        with _descriptor(content, name=name) as file:
            for kind, payload in exchange(file, name=name, task=task, limits=limits, program=PROGRAM):
                if kind == FRAME:
                    rows = _rows(payload)
                elif kind == REPORT:
                    about = json.loads(bytes(payload))
    except (CorruptClip, UnsupportedFormat, FeedTimeout) as error:
        raise TelemetryInvalid(str(error)) from error
    except ValueError as error:
        raise _senseless(name) from error
    return _telemetry(rows, about, name=name, format=format)


@contextmanager
def _descriptor(content: Path | bytes, *, name: str) -> Iterator[int]:
    """Open a log of an acceptable size for reading."""
    if isinstance(content, Path):
        with opened(content) as file:
            _check_size(os.fstat(file).st_size, name=name)
            yield file
        return
    _check_size(len(content), name=name)
    # In memory, as a pipe would block on a child that does not read.
    with os.fdopen(os.memfd_create("log"), "w+b") as copy:
        copy.write(content)
        copy.seek(0)
        yield copy.fileno()


def _check_size(size_bytes: int, *, name: str) -> None:
    if size_bytes > MAX_LOG_BYTES:
        raise TelemetryInvalid(
            f"{name} has {size_bytes >> 20} MB, at most {MAX_LOG_BYTES >> 20} MB are read: hand in the"
            " flights' logs one by one"
        )


def _rows(payload: memoryview) -> npt.NDArray[np.float64]:
    """Return the samples' rows, shape (n, 18).

    Raises:
        ValueError: they are not whole, not in order or hold what no number is.
    """
    rows = np.frombuffer(payload, dtype=np.float64).reshape(-1, len(COLUMNS))
    offsets_s = rows[:, 0]
    if np.isinf(rows).any() or np.isnan(offsets_s).any() or (np.diff(offsets_s) < 0).any() or not len(rows):
        raise ValueError("rows are not those of samples in order")
    return rows


def _telemetry(
    rows: npt.NDArray[np.float64] | None,
    about: Mapping[str, Any] | None,
    *,
    name: str,
    format: str,  # noqa: A002
) -> Telemetry:
    """Return telemetry made of a child's words; whatever does not fit is no word of our program."""
    if rows is None or about is None:
        raise _senseless(name)
    try:
        uncertainty_s = about["clock_uncertainty_s"]
        return Telemetry(
            format=format,
            samples=tuple(map(_sample, rows.tolist())),
            skipped=int(about["skipped"]),
            missing=_words(about["missing"]),
            warnings=_words(about["warnings"]),
            time_base=TimeBase(about["time_base"]),
            clock=TelemetryClock(about["clock"]),
            zone=None if about["zone"] is None else ZoneInfo(about["zone"]).key,
            clock_uncertainty_s=None if uncertainty_s is None else float(uncertainty_s),
        )
    except (ValueError, TypeError, KeyError, LookupError, OverflowError) as error:
        raise _senseless(name) from error


def _sample(row: list[float]) -> TelemetrySample:
    value = dict(zip(COLUMNS, (None if math.isnan(number) else number for number in row), strict=True))
    at_us = value["at_us"]
    return TelemetrySample(
        offset_s=row[0],
        at=None if at_us is None else EPOCH + timedelta(microseconds=at_us),
        point=_point(value["lat_deg"], value["lon_deg"], value["alt_m"]),
        home=_point(value["home_lat_deg"], value["home_lon_deg"], value["home_alt_m"]),
        height_agl_m=value["height_agl_m"],
        heading_deg=value["heading_deg"],
        pitch_deg=value["pitch_deg"],
        roll_deg=value["roll_deg"],
        hfov_deg=value["hfov_deg"],
        focal_length_mm=value["focal_length_mm"],
        airframe_heading_deg=value["airframe_heading_deg"],
        airframe_pitch_deg=value["airframe_pitch_deg"],
        airframe_roll_deg=value["airframe_roll_deg"],
        ellipsoid_height_m=value["ellipsoid_height_m"],
    )


def _point(lat_deg: float | None, lon_deg: float | None, alt_m: float | None) -> GeoPoint | None:
    return None if lat_deg is None or lon_deg is None else GeoPoint(lat_deg, lon_deg, alt_m)


def _words(said: list[str]) -> tuple[str, ...]:
    if len(said) > _MAX_WORDS or not all(_WORD.fullmatch(word) for word in said):
        raise ValueError("doubts are not words of ours")
    return tuple(said)


def _senseless(name: str) -> TelemetryInvalid:
    return TelemetryInvalid(f"{name} broke its reader, which no longer speaks sense: do not use the file")
