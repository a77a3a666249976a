"""The child program that copies a camera's stream: ``python -m ingest.sources.recorder REQUEST FILE``.

Belongs here: limits of this process, reading packets and writing them. Not here: starting it and telling
what its words mean (``rtsp.py``). It decodes nothing; what it needs of the network it keeps, programs and
other processes it gives up. Both arguments are descriptors: it opens no file by name.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import pkgutil
import resource
import signal
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import IO, Any

import av

from ingest.confinement import CPU_GRACE_S
from ingest.container import CODECS
from ingest.seccomp import keep_to_itself

PROTOCOLS = "rtsp,rtsps,rtp,udp,tcp,tls,crypto"
OPEN_FILES = 64
PACKET_HEAD_BYTES = 64
"""What the container adds to a packet, at most."""
DEFAULT_RATE_HZ = 25
"""Of a camera that does not tell its rate."""
CLOSING_BYTES = 32 << 10
"""Kept for the container's head and index."""
LOOK_INTO_S = 5.0
"""How much of the stream is looked at to learn its pictures' size: cameras send a keyframe each 1 to 4 s."""
LOOK_AT_CLOCK_S = 1.0
"""How long packets are compared with our clock before the file is begun."""
MAX_KEPT_BYTES = 32 << 20
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38  # linux/prctl.h
_DENIED = (av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError)
_INVALID = (av.error.HTTPNotFoundError, av.error.HTTPBadRequestError, av.error.HTTPClientError)


Timed = tuple[int, Any]
"""A packet after its decoding time, in units of its stream's time base."""


class Fault(Exception):
    """Nothing was recorded; ``kind`` is denied, invalid, unsupported or silent."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def main(request: dict[str, Any], *, file: IO[bytes]) -> None:
    """Confine this process, record, and say how it went in lines of JSON."""
    for module in pkgutil.walk_packages(av.__path__, "av."):  # PyAV imports some only when it meets a stream
        if module.name not in {"av.__main__", "av.datasets"}:
            importlib.import_module(module.name)
    _confine(request)
    try:
        packets, reason = record(request, file=file)
        _say("ended", packets=packets, reason=reason)
    except Fault as fault:
        _say("ended", fault=fault.kind, reason=str(fault), packets=0)


def record(request: dict[str, Any], *, file: IO[bytes]) -> tuple[int, str | None]:
    """Copy packets from the first keyframe on; return how many, and why it was less than asked.

    Raises:
        Fault: no packet was written.
    """
    with _connected(request) as source:
        pictures = _pictures(source)
        packets = _from_keyframe(source, pictures, timeout_s=request["timeout_s"])
        try:
            first, started = _first(packets, tick_s=float(pictures.time_base or 1))
        except av.FFmpegError as error:
            raise Fault("silent", f"broke off before the first keyframe ({error.strerror})") from error
        _say("started", at=started.isoformat())
        room, seconds = request["max_bytes"] - CLOSING_BYTES, request["seconds"]
        everything = chain(first, packets)
        return _copy(everything, pictures, file=file, started=started, seconds=seconds, room_bytes=room)


def _first(packets: Iterator[Timed], *, tick_s: float) -> tuple[list[Timed], datetime]:
    """Return the packets of the first second and when, by our clock, the first of them was taken.

    What came while FFmpeg looked into the stream comes at once, late by that time; what follows comes as
    it is taken. The packet that came soonest after its place in the stream tells.
    """
    look_until = time.monotonic() + LOOK_AT_CLOCK_S
    kept: list[Timed] = []
    started, size_bytes = datetime.max.replace(tzinfo=UTC), 0
    for dts, packet in packets:
        kept.append((dts, packet))
        started = min(started, datetime.now(UTC) - timedelta(seconds=(dts - kept[0][0]) * tick_s))
        size_bytes += packet.size
        if time.monotonic() >= look_until or size_bytes > MAX_KEPT_BYTES:
            break
    if not kept:
        raise Fault("silent", "ended its stream before the first keyframe")
    return kept, started


def _connected(request: dict[str, Any]) -> av.container.InputContainer:
    try:
        source: av.container.InputContainer = av.open(
            request["url"],
            format="rtsp",
            metadata_errors="replace",
            timeout=(request["timeout_s"], request["timeout_s"]),
            container_options={
                "rtsp_transport": request["transport"],
                "protocol_whitelist": PROTOCOLS,
                "allowed_media_types": "video",
                "timeout": str(int(request["timeout_s"] * 1e6)),
                "analyzeduration": str(int(LOOK_INTO_S * 1e6)),
                "max_streams": "8",
            },
        )
        return source  # noqa: TRY300 - opening is what is tried
    except _DENIED as error:
        raise Fault("denied", "refused the login: check user and password") from error
    except _INVALID as error:
        raise Fault("invalid", f"has no such stream ({error.strerror}): check the path in url") from error
    except av.FFmpegError as error:
        raise Fault(
            "silent", f"did not answer as a camera does ({error.strerror}): check host and port"
        ) from error


def _pictures(source: av.container.InputContainer) -> av.VideoStream:
    if not source.streams.video:
        raise Fault("invalid", "sends no pictures: check the path in url")
    pictures = source.streams.video[0]
    if pictures.codec_context.name not in CODECS:
        raise Fault("unsupported", f"sends {pictures.codec_context.name}: set it to H.264 or H.265")
    if not pictures.width or not pictures.height:
        raise Fault("silent", f"sent no whole picture in {LOOK_INTO_S:g} s: set a keyframe every 2 s or less")
    return pictures


def _from_keyframe(
    source: av.container.InputContainer, pictures: av.VideoStream, *, timeout_s: float
) -> Iterator[Timed]:
    """Yield packets with their times, the first of which is a keyframe."""
    give_up_at, met = time.monotonic() + timeout_s, False
    untimed: Any = None
    for packet in source.demux(pictures):
        met = met or bool(packet.is_keyframe and packet.size)
        if not met and time.monotonic() > give_up_at:
            raise Fault("silent", "sent no keyframe: set a keyframe every 2 s or less")
        if not met or not packet.size:
            continue
        dts = packet.pts if packet.dts is None else packet.dts
        if dts is None:  # as of a stream's very first picture, before the camera has told its clock
            untimed, met = packet, bool(packet.is_keyframe)
            continue
        if untimed is not None:
            untimed.pts = untimed.dts = dts - _interval(pictures)
            yield untimed.dts, untimed
            untimed = None
        yield dts, packet


def _interval(pictures: av.VideoStream) -> int:
    """Return the time from one picture to the next, in units of the stream's time base."""
    return max(1, round(1 / float((pictures.average_rate or DEFAULT_RATE_HZ) * (pictures.time_base or 1))))


def _copy(
    packets: Iterator[Timed],
    pictures: av.VideoStream,
    *,
    file: IO[bytes],
    started: datetime,
    seconds: float,
    room_bytes: int,
) -> tuple[int, str | None]:
    """Write packets to a container until the time is over, by the stream's clock or by ours, or the room."""
    begins, last, count = None, -1, 0
    wanted = seconds / float(pictures.time_base or 1)
    ends_at = time.monotonic() + seconds
    with av.open(file, "w", format="matroska") as out:
        out.metadata["creation_time"] = started.isoformat(timespec="microseconds").replace("+00:00", "Z")
        stream = out.add_stream_from_template(pictures)
        try:
            for dts, packet in packets:
                begins = dts if begins is None else begins
                if dts - begins >= wanted or time.monotonic() >= ends_at:
                    return count, None
                if dts - begins <= last:  # a camera that sets its clock back would spoil the file
                    continue
                room_bytes -= packet.size + PACKET_HEAD_BYTES
                if room_bytes < 0:
                    return count, f"reached its largest size after {count} pictures: raise max_file_bytes"
                last = dts - begins
                packet.pts = None if packet.pts is None else packet.pts - begins
                packet.dts, packet.stream = last, stream
                out.mux(packet)
                count += 1
        except av.FFmpegError as error:
            return count, f"broke off after {count} pictures ({error.strerror})"
    return count, f"ended its stream after {count} pictures"


def _confine(request: dict[str, Any]) -> None:
    """Limit memory, time and file size; give up new privileges, programs and other processes."""
    memory = request["memory_mb"] << 20
    for kind, soft, hard in (
        (resource.RLIMIT_AS, memory, memory),
        (resource.RLIMIT_CPU, request["cpu_s"], request["cpu_s"] + CPU_GRACE_S),
        (resource.RLIMIT_FSIZE, request["max_bytes"], request["max_bytes"]),
        (resource.RLIMIT_NOFILE, OPEN_FILES, OPEN_FILES),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        resource.setrlimit(kind, (soft, hard))
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != request["parent_pid"]:  # it died before the line above
        raise SystemExit(1)
    keep_to_itself(libc)


def _say(kind: str, **words: object) -> None:
    sys.stdout.write(json.dumps({"kind": kind, **words}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    with os.fdopen(int(sys.argv[1])) as note:
        asked = json.loads(note.read())
    main(asked, file=os.fdopen(int(sys.argv[2]), "wb"))
