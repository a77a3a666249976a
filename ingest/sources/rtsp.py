"""A segment of an RTSP camera's stream, as it is, in a file.

Belongs here: starting the recorder, waiting for it no longer than it may take, and telling why it ended.
Not here: the recorder itself (``recorder.py``), a child process, as what a camera sends is not to be
trusted; nor decoding, which nothing does before the clip is registered.

The segment's time is this machine's clock at its first packet, so a camera with a wrong clock does no
harm; it is late by what camera and link take, as a rule under two seconds.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

import structlog

from outwatch.domain.errors import AccessDenied, ConfigInvalid, FeedTimeout, OutwatchError, UnsupportedFormat

MEMORY_MB = 1024
"""Address space of the recorder: its libraries take 400 MB, and it holds one packet at a time."""
CPU_PER_S = 0.5
"""Processor time for a second of stream: copying takes a hundredth of that."""
CPU_START_S = 30
MAX_BYTES = 8_000_000_000
CONNECTS_WITHIN = 3
"""A recorder may take so many time-outs to connect, to look into the stream and to meet a keyframe."""
GRACE_S = 10.0
"""Time to finish the file."""
MAX_WORDS_BYTES = 64 << 10
_ERRORS: dict[str, type[OutwatchError]] = {
    "denied": AccessDenied,
    "invalid": ConfigInvalid,
    "unsupported": UnsupportedFormat,
    "silent": FeedTimeout,
}

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Segment:
    """A recorded segment."""

    path: Path
    started_at: datetime
    """Our clock at the first packet; the container's ``creation_time`` says the same."""
    packets: int
    ended_early: str | None
    """Why it is shorter than was asked, None where it is not."""


def record_segment(
    url: str,
    *,
    seconds: float,
    out: Path,
    timeout_s: float,
    transport: Literal["tcp", "udp"] = "tcp",
    max_bytes: int = MAX_BYTES,
) -> Segment:
    """Record a camera's pictures for so many seconds of wall time, from a keyframe on, without decoding.

    Sound is left out. What was recorded before a camera broke off is kept, and says so.

    Args:
        url: ``rtsp://`` or ``rtsps://``, with user and password where the camera wants them.
        seconds: how long.
        out: a new Matroska file.
        timeout_s: without an answer for so long, the camera is given up.
        transport: TCP passes firewalls and loses nothing; some cameras know only UDP.
        max_bytes: the file is ended when it has so many.

    Raises:
        FeedTimeout: the camera does not answer, broke off before the first picture, or sent no keyframe.
        AccessDenied: it refused the login.
        ConfigInvalid: it knows no such stream.
        UnsupportedFormat: its pictures are of a kind that is not read here.
    """
    shown = _shown(url)
    request = {
        "url": url,
        "seconds": seconds,
        "timeout_s": timeout_s,
        "transport": transport,
        "memory_mb": MEMORY_MB,
        "cpu_s": CPU_START_S + int(seconds * CPU_PER_S),
        "max_bytes": max_bytes,
        "parent_pid": os.getpid(),
    }
    with out.open("xb") as file:
        within_s = seconds + CONNECTS_WITHIN * timeout_s + GRACE_S
        words, returncode = _run(request, file.fileno(), within_s=within_s)
    started, ended = words.get("started"), words.get("ended")
    if started is None:
        out.unlink()
        raise _refused(shown, ended, returncode=returncode, timeout_s=timeout_s)
    reason = ended["reason"] if ended else _how_it_died(returncode)
    return Segment(
        path=out,
        started_at=datetime.fromisoformat(started["at"]),
        packets=int(ended["packets"]) if ended else 0,
        ended_early=f"{shown}: {reason}" if reason else None,
    )


def _run(request: dict[str, Any], file: int, *, within_s: float) -> tuple[dict[str, dict[str, Any]], int]:
    """Run the recorder to its end, or end it; return its messages by kind, and its exit code."""
    # Nobody reads the pipe while it runs: one that floods it stands still, and is ended in time.
    said, says = os.pipe2(os.O_CLOEXEC)
    try:
        process = _started(request, file, says)
        try:
            process.wait(timeout=within_s)
        except subprocess.TimeoutExpired:
            log.warning("recorder_ended", after_s=within_s)
        finally:
            process.kill()
            process.wait()
        os.close(says)
        says = -1
        return _words(os.read(said, MAX_WORDS_BYTES)), process.returncode
    finally:
        for descriptor in {said, says} - {-1}:
            os.close(descriptor)


def _started(request: dict[str, Any], file: int, says: int) -> subprocess.Popen[bytes]:
    # In memory, as arguments and environment of a process are there for others to read.
    with os.fdopen(os.memfd_create("request"), "w+b", buffering=0) as note:
        note.write(json.dumps(request).encode())
        note.seek(0)
        return subprocess.Popen(  # noqa: S603 - our own interpreter and module, arguments as a list
            [
                sys.executable,
                "-P",
                "-s",
                "-B",
                "-m",
                "ingest.sources.recorder",
                str(note.fileno()),
                str(file),
            ],
            pass_fds=(note.fileno(), file),
            stdin=subprocess.DEVNULL,
            stdout=says,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={
                "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
                "LC_ALL": "C.UTF-8",
                "OPENBLAS_NUM_THREADS": "1",
                "MALLOC_ARENA_MAX": "2",
            },
        )


def _words(said: bytes) -> dict[str, dict[str, Any]]:
    """Return what the recorder said, by kind; it is a stranger once it has read the stream."""
    words = {}
    for line in said.splitlines():
        try:
            message = json.loads(line)
            words[str(message["kind"])] = message
        except (ValueError, KeyError, TypeError):
            log.warning("recorder_spoke_nonsense", line=line[:200])
    return words


def _refused(shown: str, ended: dict[str, Any] | None, *, returncode: int, timeout_s: float) -> OutwatchError:
    """Return the error of a recorder that has recorded nothing."""
    if ended is None:
        return FeedTimeout(f"{shown}: {_how_it_died(returncode)}, and nothing was recorded")
    kind = _ERRORS.get(str(ended.get("fault")), FeedTimeout)
    waited = f" (time-out {timeout_s:g} s)" if kind is FeedTimeout else ""
    return kind(f"{shown}: {ended.get('reason')}{waited}")


def _how_it_died(returncode: int) -> str:
    if returncode == -signal.SIGKILL:
        return "the camera hung, and the recorder was ended"
    if returncode == -signal.SIGXCPU:
        return "the recorder used up its processor time"
    return f"the recorder broke on the stream (exit {returncode}): the camera sends damaged or hostile data"


def _shown(url: str) -> str:
    """Return a URL without its login."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))
