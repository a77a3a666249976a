"""What ``benchmarks`` promises: footage that is what it says, the three ways on it, and a chart of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import av
import pytest

from benchmarks.chart import drawn
from benchmarks.footage import FPS, QUICK, footage
from benchmarks.speed import ONE, PLAIN, TWO, WAYS


def test_quick_run_shows_that_keyframes_first_is_cheaper_at_the_same_events(tmp_path: Path) -> None:
    """On a minute of footage with one gathering all ways find it, two passes for the least work."""
    pytest.importorskip("ultralytics", reason="the plain way needs the extra [ultralytics]")
    pytest.importorskip("lap", reason="Ultralytics' trackers need lap")
    out = tmp_path / "results.json"
    subprocess.run(
        [sys.executable, "-m", "benchmarks.speed", "--quick", "--work", str(tmp_path), "--out", str(out)],
        cwd=Path(__file__).parents[2],
        check=True,
    )
    results = json.loads(out.read_text(encoding="utf-8"))
    (clip,) = results["clips"].values()
    ways = clip["ways"]
    assert [(ways[way]["events_found"], ways[way]["failures"]) for way in WAYS] == [(1, [])] * 3
    assert ways[TWO]["cpu_s"] < ways[ONE]["cpu_s"] < ways[PLAIN]["cpu_s"]
    assert all(f"{ways[way]['cpu_s']:.0f} s" in drawn(results) for way in WAYS)


def test_footage_is_as_long_large_and_keyed_as_it_says(tmp_path: Path) -> None:
    """A minute is 1,800 frames with a keyframe each second, at about the bit rate that was asked for."""
    made = footage(QUICK, cache=tmp_path)
    with av.open(str(made.video)) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        size_px = stream.width, stream.height
    keys = [index for index, packet in enumerate(packets) if packet.is_keyframe]
    assert size_px == (QUICK.width_px, QUICK.height_px)
    assert keys == list(range(0, QUICK.duration_s * FPS, FPS))
    assert len(packets) == QUICK.duration_s * FPS
    bits = sum(packet.size for packet in packets) * 8
    assert bits / QUICK.duration_s == pytest.approx(QUICK.mbit_s * 1e6, rel=0.1)
    assert footage(QUICK, cache=tmp_path) == made
