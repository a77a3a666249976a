"""Measure how many MISB ST 0601 packets a second are read, beside the ``klvdata`` package.

Run it as ``python -m benchmarks.klv [--packets N] [--real FILE]``. Both parsers read the same bytes in turn,
in one process, and must give the same place for every packet; what counts is processor time. Ours verifies
every checksum and makes whole samples (poses composed, corners, times). klvdata verifies none; of each packet
the values that make up our sample are taken out of its objects, which are then dropped (keeping them doubles
its time).

The flown packets carry 38 items with both forms of corners, but no item 104, on which klvdata fails.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import klvdata

from ingest.telemetry.misb_klv import MisbKlv
from outwatch.domain.misb import checksum
from outwatch.domain.types import GeoPoint, TelemetrySample
from outwatch.simulate.klv import encode_packet

START = datetime(2026, 3, 14, 16, 40, tzinfo=UTC)
RATE_HZ = 30
PLACE = (13, 14, 15)
WANTED = (*PLACE, 2, 5, 6, 7, 16, 18, 19, 20, 23, 24, *range(26, 34), *range(82, 92))
KEYS = [bytes([tag]) for tag in WANTED]
"""The items of which our samples are made, as klvdata keys them."""


def flight(count: int) -> bytes:
    """Return the packets of an aircraft on a circle that looks at its middle."""
    return b"".join(map(_packet, range(count)))


def _packet(index: int) -> bytes:
    turn = math.radians(index / RATE_HZ)
    centre = GeoPoint(33.58662, 71.44410, 620.0)
    around = ((0.001, -0.001), (0.001, 0.001), (-0.001, 0.001), (-0.001, -0.001))
    sample = TelemetrySample(
        offset_s=index / RATE_HZ,
        at=START + timedelta(seconds=index / RATE_HZ),
        point=GeoPoint(33.58662 + 0.02 * math.cos(turn), 71.44410 + 0.02 * math.sin(turn), 2400.0),
        height_agl_m=None,
        heading_deg=(math.degrees(turn) + 180) % 360,
        pitch_deg=-41.0,
        roll_deg=0.3,
        hfov_deg=4.5,
        airframe_heading_deg=(math.degrees(turn) + 90) % 360,
        airframe_pitch_deg=2.5,
        airframe_roll_deg=17.0,
        corners=tuple(GeoPoint(centre.lat_deg + lat, centre.lon_deg + lon) for lat, lon in around),
    )
    return encode_packet(
        sample, centre=centre, offset_corners=True, mission="Mission 12", designation="MALE", sensor="EO Nose"
    )


def real(path: Path, count: int) -> bytes:
    """Return a packet from a file over and over, with its checksum made right."""
    data = path.read_bytes()
    return (data[:-2] + checksum(data[:-2]).to_bytes(2, "big")) * count


def read_ours(data: bytes) -> tuple[Any, ...]:
    """Return the samples."""
    return MisbKlv().read(data, zone=ZoneInfo("UTC")).samples


def read_klvdata(data: bytes) -> list[list[Any]]:
    """Return of each packet the values of the wanted items that it has, the place first."""
    return [
        [packet.items[key].value.value for key in KEYS if key in packet.items]
        for packet in klvdata.StreamParser(data)
    ]


def places_agree(data: bytes) -> bool:
    """Tell whether both read the same latitudes, longitudes and altitudes, to 1e-9 of a degree and metre."""
    ours = [(s.point.lat_deg, s.point.lon_deg, s.point.alt_m) for s in read_ours(data)]
    theirs = [values[: len(PLACE)] for values in read_klvdata(data)]
    return len(ours) == len(theirs) and all(
        math.isclose(a, b, rel_tol=0, abs_tol=1e-9)
        for one, other in zip(ours, theirs, strict=True)
        for a, b in zip(one, other, strict=True)
    )


def seconds(read: Callable[[bytes], Any], data: bytes) -> float:
    """Return the processor time of one reading, without that of forgetting its result."""
    began = time.process_time()
    result = read(data)
    ended = time.process_time()
    del result
    return ended - began


def compare(name: str, data: bytes, *, count: int, rounds: int) -> None:
    """Print the packets per second of both, as medians over rounds in turn, and their ratio."""
    if not places_agree(data):
        raise SystemExit(f"{name}: the two parsers do not read the same places")
    times = [(seconds(read_ours, data), seconds(read_klvdata, data)) for _ in range(rounds)]
    ours, theirs = (count / statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(slow / fast for fast, slow in times)
    print(f"{name:<22} ours {ours:>9,.0f}/s   klvdata {theirs:>8,.0f}/s   ratio {ratio:5.1f}")


def main() -> None:
    """Compare on flown packets and, where a file is given, on a real one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packets", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--real", type=Path, help="a file with one packet")
    options = parser.parse_args()
    count, rounds = options.packets, options.rounds
    compare("flown, both corners", flight(count), count=count, rounds=rounds)
    if options.real:
        compare(options.real.name[:22], real(options.real, count), count=count, rounds=rounds)


if __name__ == "__main__":
    main()
