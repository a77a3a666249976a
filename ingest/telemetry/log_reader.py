"""The child program that reads one hostile log: ``python -m ingest.telemetry.log_reader DESCRIPTOR < FILE``.

Belongs here: the formats that are read in the child, and how telemetry goes through the pipe. Not here: the
formats themselves (a module each), the wall around it (``ingest/confinement.py``), and the parent's end
(``confined.py``). It reads its request (JSON) from a descriptor, imports what it needs, confines itself, and
only then looks at the file.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import sys
from datetime import UTC, datetime, timedelta
from typing import IO
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from ingest.confinement import FRAME, REFUSAL, REPORT, Limits, confine, send
from outwatch.domain.errors import TelemetryInvalid
from outwatch.domain.types import GeoPoint, Telemetry, TelemetrySample

READERS = {
    "px4_ulog": "Px4ULog",
    "ardupilot_dataflash": "ArduPilotDataFlash",
    "mavlink_tlog": "MavlinkTlog",
}
"""By format, which is its module's name too: the class that reads it."""
IMPORTED_AT_WORK = ("numpy.ma",)
"""What NumPy imports only when it is asked for a median, when no file can be opened any more."""
COLUMNS = (
    *(
        "offset_s",
        "at_us",
        "lat_deg",
        "lon_deg",
        "alt_m",
        "height_agl_m",
        "heading_deg",
        "pitch_deg",
        "roll_deg",
    ),
    *("hfov_deg", "focal_length_mm", "home_lat_deg", "home_lon_deg", "home_alt_m", "airframe_heading_deg"),
    *("airframe_pitch_deg", "airframe_roll_deg", "ellipsoid_height_m"),
)
"""Of a row for each sample, 64-bit floats, NaN for None; microseconds since 1970 are exact up to 2255."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def main(text: str, *, file: IO[bytes], out: IO[bytes]) -> None:
    """Confine this process, read one log and say what is in it, or why it is refused."""
    request = json.loads(text)
    limits = Limits(**request["limits"])
    module = importlib.import_module(f"ingest.telemetry.{request['format']}")
    source = getattr(module, READERS[request["format"]])()
    for library in IMPORTED_AT_WORK:
        importlib.import_module(library)
    zone = ZoneInfo(request["zone"])
    confine(limits, parent_pid=request["parent_pid"])
    try:
        telemetry: Telemetry = source.read(file.read(), zone=zone)
        rows = rows_of(telemetry.samples)
    except TelemetryInvalid as invalid:
        _refuse(out, str(invalid))
    except MemoryError:
        _refuse(out, f"needs more than {limits.memory_mb} MB to read: raise decoder_memory_mb or cut the log")
    else:
        send(out, FRAME, rows.data)
        send(out, REPORT, json.dumps(_about(telemetry)).encode())


def rows_of(samples: tuple[TelemetrySample, ...]) -> npt.NDArray[np.float64]:
    """Return samples as rows of ``COLUMNS``, shape (n, 18); corners are left out, as no log has them."""
    rows = np.empty((len(samples), len(COLUMNS)))
    for row, sample in enumerate(samples):
        rows[row] = [math.nan if value is None else value for value in _values(sample)]
    return rows


def _values(sample: TelemetrySample) -> tuple[float | None, ...]:
    return (
        sample.offset_s,
        None if sample.at is None else (sample.at - EPOCH) // _MICROSECOND,
        *_place(sample.point),
        *(sample.height_agl_m, sample.heading_deg, sample.pitch_deg, sample.roll_deg, sample.hfov_deg),
        sample.focal_length_mm,
        *_place(sample.home),
        *(sample.airframe_heading_deg, sample.airframe_pitch_deg, sample.airframe_roll_deg),
        sample.ellipsoid_height_m,
    )


def _place(point: GeoPoint | None) -> tuple[float | None, float | None, float | None]:
    return (None, None, None) if point is None else (point.lat_deg, point.lon_deg, point.alt_m)


def _about(telemetry: Telemetry) -> dict[str, object]:
    """Return what is said of all samples together."""
    return {
        "skipped": telemetry.skipped,
        "missing": telemetry.missing,
        "warnings": telemetry.warnings,
        "time_base": telemetry.time_base,
        "clock": telemetry.clock,
        "zone": telemetry.zone,
        "clock_uncertainty_s": telemetry.clock_uncertainty_s,
    }


def _refuse(out: IO[bytes], reason: str) -> None:
    send(out, REFUSAL, json.dumps({"kind": "corrupt", "reason": reason}).encode())


if __name__ == "__main__":
    with os.fdopen(int(sys.argv[1])) as request:
        text = request.read()
    main(text, file=os.fdopen(0, "rb"), out=os.fdopen(1, "wb"))
