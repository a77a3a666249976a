"""Small clips, made on the spot, and the sample files where they are at hand."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from ingest.sandbox import Limits

WIDTH_PX, HEIGHT_PX = 160, 128


@pytest.fixture
def limits() -> Limits:
    """Limits as in production, with a shorter silence."""
    return Limits(max_pixels=50_000_000, memory_mb=2048, cpu_s=60, silence_s=30)


@pytest.fixture
def samples() -> Path:
    """The folder of real samples."""
    folder = os.environ.get("OUTWATCH_SAMPLES")
    if not folder:
        pytest.skip("OUTWATCH_SAMPLES is not set: no real sample data")
    return Path(folder)


def moving_picture(number: int, *, grey: bool = False) -> np.ndarray:
    """Return a textured picture that moves with its number: (128, 160, 3), uint8, BGR."""
    noise = np.random.default_rng(1).integers(0, 255, (HEIGHT_PX // 8, WIDTH_PX // 8, 3), dtype=np.uint8)
    image = np.roll(np.kron(noise, np.ones((8, 8, 1), dtype=np.uint8)), (2 * number, number), (0, 1))
    return np.repeat(image[:, :, :1], 3, axis=2) if grey else image


def write_clip(
    path: Path,
    *,
    codec: str = "libx264",
    frames: int = 60,
    fps: int = 30,
    gop: int = 15,
    grey: bool = False,
    pixels: str = "yuv420p",
    times: Sequence[int] | None = None,
    metadata: dict[str, str] | None = None,
    faststart: bool = True,
) -> Path:
    """Write a clip; ``times`` are the frames' timestamps in units of 1 / fps."""
    options = {"movflags": "faststart"} if faststart and path.suffix == ".mp4" else {}
    form = {".ts": "mpegts"}.get(path.suffix)
    with av.open(str(path), "w", format=form, options=options) as container:
        container.metadata.update(metadata or {})
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = WIDTH_PX, HEIGHT_PX, pixels, gop
        stream.thread_count = 1
        stream.time_base = Fraction(1, fps)
        for number, time in enumerate(times or range(frames)):
            frame = av.VideoFrame.from_ndarray(moving_picture(number, grey=grey), format="bgr24")
            frame.pts, frame.time_base = time, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture
def picture() -> Callable[..., np.ndarray]:
    """What ``clip`` shows at a number."""
    return moving_picture


@pytest.fixture
def clip(tmp_path: Path) -> Callable[..., Path]:
    """Write a clip of a given name in a fresh folder."""

    def write(name: str = "clip.mp4", **options: object) -> Path:
        return write_clip(tmp_path / name, **options)  # type: ignore[arg-type]

    return write
