"""Every telemetry format that is read, and the one that a file is of, told by its content.

Belongs here: the list of formats, and reading a file by it. Not here: any format (a module each).
"""

from __future__ import annotations

from pathlib import Path
from zoneinfo import ZoneInfo

from ingest.confinement import Limits
from ingest.telemetry.ardupilot_dataflash import ArduPilotDataFlash
from ingest.telemetry.confined import read_confined
from ingest.telemetry.csv_log import CsvLog
from ingest.telemetry.dji_srt import DjiSrt
from ingest.telemetry.gpx import Gpx
from ingest.telemetry.kml import Kml
from ingest.telemetry.log_reader import READERS
from ingest.telemetry.mavlink_tlog import MavlinkTlog
from ingest.telemetry.misb_klv import MisbKlv
from ingest.telemetry.photo import Photo
from ingest.telemetry.px4_ulog import Px4ULog
from outwatch.domain.errors import TelemetryInvalid
from outwatch.domain.ports import TelemetrySource
from outwatch.domain.types import Telemetry

HEAD_BYTES = 65_536
"""What a format is told by."""
SOURCES: tuple[TelemetrySource, ...] = (
    MisbKlv(),
    Px4ULog(),
    ArduPilotDataFlash(),
    Photo(),
    Gpx(),
    Kml(),
    DjiSrt(),
    MavlinkTlog(),
    CsvLog(),
)
"""Those with a signature first, those told by the look of their text or records last."""
CONFINED = frozenset(READERS)
"""Binary logs, read in the confined child: what a hostile one does to its parser, it does there."""


def recognise(head: bytes) -> TelemetrySource | None:
    """Return the format of a file by its first ``HEAD_BYTES``, None where it is none of them."""
    return next((source for source in SOURCES if source.recognises(head)), None)


def read_telemetry(content: Path | bytes, *, zone: ZoneInfo, limits: Limits) -> Telemetry:
    """Return the telemetry in a file, whatever its format.

    Args:
        content: a file, or its bytes.
        zone: of wall times that a format writes without one.
        limits: what a parser in the confined child may cost.

    Raises:
        TelemetryInvalid: it is of no known format, or nothing in it can be read.
        OSError: the file cannot be read at all.
    """
    name = content.name if isinstance(content, Path) else "telemetry"
    data = content.read_bytes() if isinstance(content, Path) else content
    if not data.strip():
        raise TelemetryInvalid(f"{name} is empty: copy it again from the aircraft's card")
    source = recognise(data[:HEAD_BYTES])
    if source is None:
        raise TelemetryInvalid(
            f"{name} ({len(data)} bytes) is no telemetry of a kind that is read here: "
            f"{', '.join(each.format for each in SOURCES)}; hand in the log as the aircraft wrote it"
        )
    if source.format in CONFINED:
        return read_confined(data, format=source.format, zone=zone, limits=limits)
    return source.read(data, zone=zone)
