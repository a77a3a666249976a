"""What tests of every room share: samples, a simulated flight, and a pipeline in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import structlog

from outwatch.domain.types import Event, EventKind, GeoPoint, GroundFix
from outwatch.pipeline import wiring
from outwatch.settings import Settings, load_settings
from outwatch.simulate import SimulatedFlight, load_scenario, simulate

WIDTH_PX, HEIGHT_PX = 160, 128
SEEN_AT = datetime(2026, 3, 14, 16, 40, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _logging_as_at_start() -> Iterator[None]:
    """Undo what a command of one test did to logging, which is of the whole process."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def samples() -> Path:
    """Return the folder of real samples, or skip where this machine has none."""
    folder = os.environ.get("OUTWATCH_SAMPLES")
    if not folder:
        pytest.skip("OUTWATCH_SAMPLES is not set: real samples are not part of the project")
    return Path(folder)


@pytest.fixture(scope="session")
def gathering_flight(tmp_path_factory: pytest.TempPathFactory) -> SimulatedFlight:
    """Return the demo's gathering, cut to the half minute that holds its event, rendered once."""
    scenario = load_scenario("demo_gathering")
    return simulate(replace(scenario, duration_s=26.0), tmp_path_factory.mktemp("flight"))


@pytest.fixture
def settings(tmp_path: Path, gathering_flight: SimulatedFlight, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return the embedded defaults in a folder of the test's own, with the simulated flight's outposts."""
    for name in [name for name in os.environ if name.startswith("OUTWATCH_") and name != "OUTWATCH_SAMPLES"]:
        monkeypatch.delenv(name)
    return load_settings(home=tmp_path / "home", outposts=gathering_flight.outposts)


@pytest.fixture
def pipeline(settings: Settings) -> Iterator[wiring.Pipeline]:
    """Return a pipeline on the embedded defaults."""
    with wiring.open_pipeline(settings) as built:
        yield built


@pytest.fixture
def gathering() -> Event:
    """Return a gathering of 13 with one still."""
    return Event(
        id="event-1",
        kind=EventKind.GATHERING_NEAR_OUTPOST,
        clip_id="clip-1",
        outpost_id="sample-post",
        started_at=SEEN_AT,
        ended_at=SEEN_AT + timedelta(seconds=25),
        peak_at=SEEN_AT + timedelta(seconds=10),
        peak_frame_index=300,
        fix=GroundFix(
            at=SEEN_AT,
            point=GeoPoint(33.58662, 71.44410),
            error_ellipse=None,
            error_radius_m=12.3,
            method="flat_ground",
        ),
        distance_m=66.0,
        bearing_deg=52.0,
        p_inside=0.93,
        count_low=10,
        count=13,
        count_high=16,
        in_view=21,
        confidence=0.71,
        model_id="model-1",
        rule_version="1",
        evidence_keys=("evidence/dt=2026-03-14/event-1/still.jpg",),
    )


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


class UploadServer:
    """`outwatch serve` in a process of its own, to be killed and started again."""

    def __init__(self, home: Path, **settings: object) -> None:
        self.home, self.port = home, 0
        self._environment = {
            name: text for name, text in os.environ.items() if not name.startswith("OUTWATCH_")
        }
        self._environment["OUTWATCH_HOME"] = str(home)
        self._environment["OUTWATCH_INGEST__MIN_FREE_BYTES"] = "0"
        self._environment |= {
            f"OUTWATCH_UPLOADS__{name.upper()}": str(value) for name, value in settings.items()
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, on the port it had before if any, and wait until it answers."""
        if not self.port:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = free.getsockname()[1]
        command = [sys.executable, "-m", "outwatch.cli", "serve", "--port", str(self.port)]
        self._process = subprocess.Popen(command, env=self._environment, stderr=subprocess.DEVNULL)
        deadline_s = time.monotonic() + 60
        while time.monotonic() < deadline_s:
            assert self._process.poll() is None, "the server ended"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.05)
        raise TimeoutError("the server does not answer")

    def kill(self) -> None:
        """End it as a power cut does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def wait_landed(self, count: int) -> None:
        """Wait until so many files lie in ``landing/``, manifests of clips apart."""
        deadline_s = time.monotonic() + 60
        while len(found := self.landed()) < count:
            assert time.monotonic() < deadline_s, f"only {found} landed"
            time.sleep(0.05)

    def landed(self) -> list[str]:
        """Return the names of the files in ``landing/``, manifests of clips apart."""
        files = (self.home / "store" / "landing").rglob("*")
        return sorted(path.name for path in files if path.is_file() and path.suffix != ".json")


@pytest.fixture
def upload_server(tmp_path: Path) -> Iterator[Callable[..., UploadServer]]:
    """Start upload servers, each with its ``uploads`` settings, in a home of the test's own."""
    started: list[UploadServer] = []

    def start(**settings: object) -> UploadServer:
        server = UploadServer(tmp_path / "headquarters", **settings)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.kill()
