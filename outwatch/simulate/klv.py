"""MISB ST 0601 metadata as aircraft write it: local sets, and a transport stream that carries them.

Belongs here: what goes into a set, and putting sets beside pictures. Not here: how a value becomes bytes
(``outwatch/domain/misb.py``) and what the camera's poses are (``flight.py``).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from outwatch.domain.attitude import angles_of, rotation
from outwatch.domain.misb import (
    DESIGNATION,
    FULL_CORNERS,
    ITEMS,
    MAX_TEXT_BYTES,
    MISSION_ID,
    OFFSET_CORNERS,
    SENSOR,
    TIME_STAMP,
    TIME_STAMP_BYTES,
    VERSION,
    local_set,
)
from outwatch.domain.types import GeoPoint, TelemetrySample

STANDARD_REVISION = 17
"""ST 0601.17: every item that is written here has the same form in it as in all later ones."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TS_CLOCK = Fraction(1, 90_000)
"""ISO 13818-1."""


def encode_packet(
    sample: TelemetrySample,
    *,
    geoid_undulation_m: float | None = None,
    centre: GeoPoint | None = None,
    offset_corners: bool = False,
    mission: str | None = None,
    designation: str | None = None,
    sensor: str | None = None,
) -> bytes:
    """Return a sample as one local set; what it does not know is left out.

    The sensor's angles are relative to the airframe's attitude, which is level and has the camera's heading
    where the sample has none.

    Args:
        sample: the pose, with the picture's corners where they are known.
        geoid_undulation_m: height of the geoid above the ellipsoid there; with it a sample that has only a
            height above the sea gets ellipsoid heights too.
        centre: where the middle of the picture lies.
        offset_corners: write the corners also as offsets from ``centre``, where they are near enough.
        mission: free text on the flight.
        designation: free text on the aircraft.
        sensor: free text on the camera.

    Raises:
        ValueError: a value cannot be written: a height below -900 m, a text over 127 bytes.
    """
    items: list[tuple[int, bytes]] = []
    if sample.at is not None:
        time_us = (sample.at - _EPOCH) // timedelta(microseconds=1)
        items.append((TIME_STAMP, time_us.to_bytes(TIME_STAMP_BYTES, "big")))
    items += [
        (tag, _text(text))
        for tag, text in ((MISSION_ID, mission), (DESIGNATION, designation), (SENSOR, sensor))
        if text is not None
    ]
    measures = {
        **_attitudes(sample),
        **_places(sample, centre, geoid_undulation_m=geoid_undulation_m),
        **_corners(sample, centre if offset_corners else None),
        16: sample.hfov_deg,
    }
    items += [(tag, ITEMS[tag].encode(value)) for tag, value in sorted(measures.items()) if value is not None]
    return local_set([*items, (VERSION, bytes([STANDARD_REVISION]))])


def _text(text: str) -> bytes:
    data = text.encode()
    if len(data) > MAX_TEXT_BYTES:
        raise ValueError(f"text of {len(data)} bytes, at most {MAX_TEXT_BYTES} fit: {text[:20]}...")
    return data


def _attitudes(sample: TelemetrySample) -> dict[int, float | None]:
    """Return the airframe's angles in both forms, and the sensor's relative to them."""
    heading = sample.airframe_heading_deg
    heading = sample.heading_deg if heading is None else heading
    pitch, roll = sample.airframe_pitch_deg or 0.0, sample.airframe_roll_deg or 0.0
    if heading is None:
        return {}
    measures: dict[int, float | None] = {5: heading % 360, 6: pitch, 7: roll, 90: pitch, 91: roll}
    if sample.heading_deg is not None and sample.pitch_deg is not None:
        camera = rotation(sample.heading_deg, sample.pitch_deg, sample.roll_deg or 0.0)
        azimuth, elevation, turn = angles_of(rotation(heading, pitch, roll).T @ camera)
        measures |= {18: float(azimuth), 19: float(elevation), 20: float(turn) % 360}
    return measures


def _places(
    sample: TelemetrySample, centre: GeoPoint | None, *, geoid_undulation_m: float | None
) -> dict[int, float | None]:
    measures: dict[int, float | None] = {104: sample.ellipsoid_height_m}
    if sample.point is not None:
        alt_m = sample.point.alt_m
        measures |= {13: sample.point.lat_deg, 14: sample.point.lon_deg, 15: alt_m}
        if measures[104] is None and alt_m is not None and geoid_undulation_m is not None:
            measures[104] = alt_m + geoid_undulation_m
    height_m = measures[104]
    if height_m is not None and height_m <= ITEMS[75].high:
        measures[75] = height_m
    if centre is not None:
        measures |= {23: centre.lat_deg, 24: centre.lon_deg, 25: centre.alt_m}
        if centre.alt_m is not None and geoid_undulation_m is not None:
            measures[78] = centre.alt_m + geoid_undulation_m
    return measures


def _corners(sample: TelemetrySample, centre: GeoPoint | None) -> dict[int, float | None]:
    """Return the full corners, and those from the centre where one is given; off its range they say so."""
    measures: dict[int, float | None] = {}
    for corner, full, offset in zip(sample.corners or (), FULL_CORNERS, OFFSET_CORNERS, strict=False):
        measures |= dict(zip(full, (corner.lat_deg, corner.lon_deg), strict=True))
        if centre is not None:
            away = (corner.lat_deg - centre.lat_deg, (corner.lon_deg - centre.lon_deg + 180) % 360 - 180)
            measures |= dict(zip(offset, away, strict=True))
    return measures


def write_ts(video: Path, packets: Iterable[tuple[float, bytes]], *, out: Path) -> None:
    """Write a video's pictures, as they are, into an MPEG transport stream with a KLV stream beside them.

    Args:
        video: a file with H.264 pictures.
        packets: seconds from the first picture in rising order, and local sets.
        out: the ``.ts`` file to write.
    """
    with av.open(str(video)) as source, av.open(str(out), "w", format="mpegts") as target:
        pictures = source.streams.video[0]
        copied = target.add_stream_from_template(pictures)
        metadata = target.add_data_stream("klv")
        metadata.time_base = _TS_CLOCK
        waiting = iter(packets)
        upcoming = next(waiting, None)
        for packet in source.demux(pictures):
            if packet.dts is None:  # the demuxer's sign of the end
                continue
            while upcoming is not None and upcoming[0] <= packet.dts * packet.time_base:
                target.mux(_packet(upcoming, metadata))
                upcoming = next(waiting, None)
            packet.stream = copied
            target.mux(packet)
        for rest in [upcoming, *waiting] if upcoming is not None else []:
            target.mux(_packet(rest, metadata))


def _packet(timed: tuple[float, bytes], stream: Any) -> av.Packet[Any]:
    offset_s, data = timed
    packet = av.Packet(data)
    packet.stream, packet.time_base = stream, _TS_CLOCK
    packet.pts = packet.dts = round(offset_s / _TS_CLOCK)
    return packet
