"""Uploads through a link that breaks all the time: a real server, the official client and our own.

``OUTWATCH_TEST_LINK_MB=300`` runs both over the full distance: cut every 2 MB, limited to 2 MB/s.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from tusclient.client import TusClient

FULL_MB = int(os.environ.get("OUTWATCH_TEST_LINK_MB", "0"))
SIZE_BYTES = (FULL_MB or 12) * 1_000_000
CUT_EVERY_BYTES = 2_000_000 if FULL_MB else 300_000
RATE_BYTES_S = 2_000_000 if FULL_MB else 8_000_000
MOST_RESENT_SHARE = 0.03
BLOCK_BYTES = 16 << 10
KILLS = 5 if FULL_MB else 2


class WeakLink:
    """A TCP proxy that ends each connection after so many bytes upstream, and limits bytes a second."""

    def __init__(self, port: int) -> None:
        self.target, self.port = port, 0
        self.upstream_bytes = 0
        self.cuts = 0
        self._loop = asyncio.new_event_loop()
        self._free_at_s = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    @contextmanager
    def running(self) -> Iterator[WeakLink]:
        """Carry connections in a thread of its own."""
        ready = threading.Event()
        thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve(ready)))
        thread.start()
        ready.wait()
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._done.set)
            thread.join()
            self._loop.close()

    async def _serve(self, ready: threading.Event) -> None:
        self._done = asyncio.Event()
        server = await asyncio.start_server(self._carry, "127.0.0.1", 0, limit=BLOCK_BYTES)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await self._done.wait()
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(task := asyncio.current_task())  # type: ignore[arg-type]
        with suppress(OSError):
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.target, limit=BLOCK_BYTES)
            down = asyncio.create_task(self._down(up_reader, writer))
            try:
                await self._up(reader, up_writer)
            finally:
                down.cancel()
                up_writer.close()
        writer.transport.abort()
        self._tasks.discard(task)  # type: ignore[arg-type]

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = CUT_EVERY_BYTES
        while left and (block := await reader.read(min(left, BLOCK_BYTES))):
            now = time.monotonic()
            self._free_at_s = max(now, self._free_at_s) + len(block) / RATE_BYTES_S
            await asyncio.sleep(max(0.0, self._free_at_s - now))
            writer.write(block)
            await writer.drain()
            self.upstream_bytes += len(block)
            left -= len(block)
        self.cuts += not left

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while block := await reader.read(BLOCK_BYTES):
                writer.write(block)
                await writer.drain()
            writer.close()


@pytest.fixture
def footage(tmp_path: Path) -> Path:
    """Return a card with one clip of noise; no camera's, but as long as one."""
    card = tmp_path / "card"
    card.mkdir()
    with (card / "DJI_0001.MP4").open("wb") as file:
        noise = random.Random(7)
        for _ in range(SIZE_BYTES // 1_000_000):
            file.write(noise.randbytes(1_000_000))
    return card


@pytest.fixture
def weak_link(upload_server: Callable[..., Any]) -> Iterator[tuple[WeakLink, Any]]:
    """Return a weak link to a server, and the server."""
    server = upload_server()
    with WeakLink(server.port).running() as link:
        yield link, server


def resent_share(link: WeakLink) -> float:
    """Return the bytes upstream beyond the file's own, headers included, as a share of the file."""
    return (link.upstream_bytes - SIZE_BYTES) / SIZE_BYTES


def landed_sha256(home: Path) -> list[str]:
    return sorted(
        hashlib.sha256(path.read_bytes()).hexdigest() for path in (home / "store" / "landing").rglob("*.MP4")
    )


def test_the_official_client_resumes_by_byte(
    weak_link: tuple[WeakLink, Any], footage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """tuspy sends a clip in pieces longer than the link holds; what came of each is kept."""
    link, server = weak_link
    clip = footage / "DJI_0001.MP4"
    client = TusClient(f"http://127.0.0.1:{link.port}/files/")
    metadata = {"filename": clip.name}
    started = time.monotonic()
    with clip.open("rb") as stream:
        client.uploader(
            file_stream=stream,
            chunk_size=8 << 20,
            retries=2 * SIZE_BYTES // CUT_EVERY_BYTES,
            retry_delay=0,
            metadata=metadata,
        ).upload()
    server.wait_landed(1)
    assert landed_sha256(server.home) == [hashlib.sha256(clip.read_bytes()).hexdigest()]
    assert link.cuts >= SIZE_BYTES // CUT_EVERY_BYTES
    assert resent_share(link) < MOST_RESENT_SHARE
    _report(capsys, "tuspy", link, time.monotonic() - started)


def test_our_client_goes_on_after_kills(
    weak_link: tuple[WeakLink, Any], footage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`outwatch upload`, killed and started again over the same link, sends nothing twice."""
    link, server = weak_link
    environment = {**os.environ, "OUTWATCH_HOME": str(tmp_path / "station")}
    command = [sys.executable, "-m", "outwatch.cli", "upload", str(footage)]
    command += ["--to", f"http://127.0.0.1:{link.port}", "--purpose", "drill"]
    started = time.monotonic()
    for kill in range(KILLS):
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        while link.upstream_bytes < (kill + 1) * SIZE_BYTES / (KILLS + 1):
            assert process.poll() is None, "it ended before it was killed"
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "confirmed by headquarters" in done.stdout
    server.wait_landed(1)
    clip = footage / "DJI_0001.MP4"
    assert landed_sha256(server.home) == [hashlib.sha256(clip.read_bytes()).hexdigest()]
    assert link.cuts >= SIZE_BYTES // CUT_EVERY_BYTES - KILLS
    assert resent_share(link) < MOST_RESENT_SHARE
    _report(capsys, f"outwatch upload, killed {KILLS} times", link, time.monotonic() - started)


def _report(capsys: pytest.CaptureFixture[str], what: str, link: WeakLink, took_s: float) -> None:
    with capsys.disabled():
        print(
            f"\n{what}: {SIZE_BYTES / 1e6:.0f} MB, {link.cuts} cuts, "
            f"{link.upstream_bytes / 1e6:.2f} MB upstream, {100 * resent_share(link):.2f} % re-sent, "
            f"{took_s:.0f} s"
        )
