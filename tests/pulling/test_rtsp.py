"""A camera's stream becomes a clip as it is, and a camera that fails says how."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from structlog.testing import capture_logs

from ingest.sandbox import Limits
from ingest.sources import rtsp
from ingest.sources.rtsp import record_segment
from ingest.video import probe_video
from outwatch.domain.errors import AccessDenied, ConfigInvalid, FeedTimeout

FPS = 15
LIMITS = Limits(max_pixels=50_000_000, memory_mb=2048, cpu_s=60, silence_s=30)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A clip for the camera to play: 5 s of moving noise with a keyframe each second."""
    path = tmp_path / "film.mp4"
    noise = np.random.default_rng(1).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"bf": "0", "tune": "zerolatency"})
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 96, 64, "yuv420p", FPS
        for number in range(5 * FPS):
            frame = av.VideoFrame.from_ndarray(np.roll(noise, number, 1), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_a_segment_is_a_whole_clip(camera: Callable[..., str], film: Path, tmp_path: Path) -> None:
    """It starts with a keyframe, lasts as long as asked, decodes whole, and carries our clock's time."""
    before = datetime.now(UTC)
    segment = record_segment(camera(film), seconds=2, out=tmp_path / "s.mkv", timeout_s=5)
    after = datetime.now(UTC)
    video = probe_video(segment.path, limits=LIMITS)
    assert segment.ended_early is None
    assert segment.packets == video.completeness.frames_read
    assert video.completeness.complete
    assert abs(2 - video.recorded_s) < 0.5
    assert before < segment.started_at < after - timedelta(seconds=1.9)
    assert video.created_at == segment.started_at.replace(microsecond=video.created_at.microsecond)


def test_udp_is_known_too(camera: Callable[..., str], film: Path, tmp_path: Path) -> None:
    """A camera that is asked for datagrams gives the same."""
    segment = record_segment(camera(film), seconds=1, out=tmp_path / "s.mkv", timeout_s=5, transport="udp")
    assert segment.packets >= FPS // 2


def test_a_camera_that_ends_leaves_what_was_recorded(
    camera: Callable[..., str], film: Path, tmp_path: Path
) -> None:
    """A stream that ends before its time gives a clip and says why it is short."""
    segment = record_segment(camera(film), seconds=60, out=tmp_path / "s.mkv", timeout_s=2)
    assert segment.ended_early is not None
    assert segment.packets > 4 * FPS
    assert segment.packets == probe_video(segment.path, limits=LIMITS).completeness.frames_read


def test_a_login_is_asked_and_told(camera: Callable[..., str], film: Path, tmp_path: Path) -> None:
    """A wrong login is denied without showing it; the right one records, whatever signs it has."""
    url = camera(film, "viewer", "secret/with:signs")
    for login in ("", "viewer:wrong-secret@"):
        with pytest.raises(AccessDenied, match="refused the login") as told:
            record_segment(url.replace("//", f"//{login}"), seconds=1, out=tmp_path / "s.mkv", timeout_s=5)
        assert "wrong-secret" not in str(told.value)
        assert not (tmp_path / "s.mkv").exists()
    right = url.replace("//", "//viewer:secret%2Fwith%3Asigns@")
    assert record_segment(right, seconds=1, out=tmp_path / "s.mkv", timeout_s=5).packets


def test_an_unknown_stream_is_a_wrong_setting(camera: Callable[..., str], film: Path, tmp_path: Path) -> None:
    """A camera that knows no such path needs a person, not another try."""
    url = camera(film).replace("/live", "/other")
    with pytest.raises(ConfigInvalid, match="check the path in url"):
        record_segment(url, seconds=1, out=tmp_path / "s.mkv", timeout_s=5)


def test_a_camera_that_is_away_or_silent_times_out(tmp_path: Path) -> None:
    """No listener, and a listener that says nothing, are both transient, and soon told."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"rtsp://127.0.0.1:{silent.getsockname()[1]}/live"
        began = time.monotonic()
        with pytest.raises(FeedTimeout):
            record_segment(url, seconds=1, out=tmp_path / "s.mkv", timeout_s=0.5)
        assert time.monotonic() - began < 10
    with pytest.raises(FeedTimeout, match="check host and port"):
        record_segment(url, seconds=1, out=tmp_path / "s.mkv", timeout_s=0.5)


def test_a_camera_that_speaks_nonsense_times_out(tmp_path: Path) -> None:
    """What floods the line with no RTSP is given up in time."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def flood() -> None:
            link, _ = server.accept()
            with link:
                try:
                    while True:
                        link.sendall(b"\x24\x00\xff\xff" + b"\xa5" * 65535)
                except OSError:
                    return  # the recorder is gone, as it should

        thread = threading.Thread(target=flood)
        thread.start()
        url = f"rtsp://127.0.0.1:{server.getsockname()[1]}/live"
        with pytest.raises(FeedTimeout):
            record_segment(url, seconds=1, out=tmp_path / "s.mkv", timeout_s=1)
        thread.join()


def test_other_protocols_are_not_spoken(tmp_path: Path) -> None:
    """The recorder opens no file and no other protocol, whatever its URL says."""
    secret = tmp_path / "secret.sdp"
    secret.write_text("v=0\n")
    for url in (f"file://{secret}", "http://127.0.0.1:9/x.m3u8"):
        with pytest.raises((FeedTimeout, ConfigInvalid)):
            record_segment(url, seconds=1, out=tmp_path / "s.mkv", timeout_s=1)


def test_a_recorder_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A recorder that no longer answers is killed, and one that floods its words is not believed."""
    real, hang = subprocess.Popen, "while True: print('nonsense', flush=True)"

    def popen(_command: list[str], **options: object) -> subprocess.Popen[bytes]:
        return real([sys.executable, "-c", hang], **options)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr(rtsp.subprocess, "Popen", popen)
    monkeypatch.setattr(rtsp, "GRACE_S", 0.5)
    with pytest.raises(FeedTimeout, match="hung"), capture_logs():
        record_segment("rtsp://127.0.0.1:9/", seconds=0.1, out=tmp_path / "s.mkv", timeout_s=0.1)
    assert not (tmp_path / "s.mkv").exists()


def test_a_segment_outgrows_no_limit(camera: Callable[..., str], film: Path, tmp_path: Path) -> None:
    """A file that reaches its largest size is ended there, and what is in it can be read."""
    segment = record_segment(camera(film), seconds=10, out=tmp_path / "s.mkv", timeout_s=5, max_bytes=60_000)
    assert segment.path.stat().st_size <= 60_000
    assert "largest size" in segment.ended_early
    assert probe_video(segment.path, limits=LIMITS).completeness.frames_read > 0
