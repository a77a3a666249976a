"""What telemetry of any format costs at most: a poor worker must outlive whatever is handed in."""

from __future__ import annotations

from importlib import import_module
from zoneinfo import ZoneInfo

import pytest

from ingest.telemetry.csv_log import CsvLog
from ingest.telemetry.sources import recognise
from outwatch.domain.errors import TelemetryInvalid

ZONE = ZoneInfo("Asia/Karachi")
GPX = '<gpx xmlns="http://www.topografix.com/GPX/1/1"><trk><trkseg>{}</trkseg></trk></gpx>'
KML = '<kml xmlns="http://www.opengis.net/kml/2.2"><Placemark>{}</Placemark></kml>'
FILES = {
    "csv_log": "latitude,longitude,seconds\n{}",
    "gpx": GPX,
    "kml": KML.format("<LineString><coordinates>{}</coordinates></LineString>"),
    "dji_srt": "{}",
}
RECORDS = {
    "csv_log": "33.5,71.4,{}\n",
    "gpx": '<trkpt lat="33.5" lon="71.4"><ele>{}</ele></trkpt>',
    "kml": "71.4,33.5,{} ",
    "dji_srt": "{0}\n00:00:{0:02},000 --> 00:00:{0:02},900\n[latitude: 33.5] [longitude: 71.4]\n\n",
}


@pytest.mark.parametrize("form", FILES)
def test_more_records_than_any_flight_has_are_not_read(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes behind the limit is left out, and the telemetry says so; at the limit all is read."""
    monkeypatch.setattr(import_module(f"ingest.telemetry.{form}"), "MAX_RECORDS", 10)
    for records, warned in ((10, False), (11, True)):
        text = FILES[form].format("".join(RECORDS[form].format(second) for second in range(records)))
        source = recognise(text.encode())
        assert source is not None
        telemetry = source.read(text.encode(), zone=ZONE)
        assert (telemetry.format, len(telemetry.samples)) == (form, 10)
        assert ("cut_at_limit" in telemetry.warnings) == warned


def test_lines_that_say_nothing_count_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of millions of empty lines costs no more than one of so many records."""
    monkeypatch.setattr(import_module("ingest.telemetry.csv_log"), "MAX_RECORDS", 10)
    with pytest.raises(TelemetryInvalid, match="no readable record"):
        CsvLog().read(b"latitude,longitude\n" + b"\n" * 10 + b"33.5,71.4\n", zone=ZONE)


def test_photo_of_endless_segments_is_looked_through_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metadata behind more segments than any camera writes is not found."""
    module = import_module("ingest.telemetry.exif")
    monkeypatch.setattr(module, "MAX_BLOCKS", 3)
    packet = b"http://ns.adobe.com/xap/1.0/\x00packet"
    xmp = b"\xff\xe1" + (len(packet) + 2).to_bytes(2, "big") + packet
    filler = b"\xff\xe0\x00\x02"
    assert module.metadata(b"\xff\xd8" + filler * 2 + xmp)[1] == b"packet"
    assert module.metadata(b"\xff\xd8" + filler * 3 + xmp)[1] == b""
