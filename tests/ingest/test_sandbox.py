"""The wall around the decoder holds, and a child that breaks it is dealt with."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ingest import sandbox
from ingest.confinement import Limits
from ingest.video import probe_video, read_frames
from outwatch.domain.errors import CorruptClip, FeedTimeout, UnsupportedFormat

ATTEMPTS = """
import json, os, socket, threading
from ingest.confinement import Limits, confine
held = confine(Limits(max_pixels=1, memory_mb=512, cpu_s=9, silence_s=9), parent_pid=os.getppid())
done = []
def attempt(name, action):
    try:
        action()
    except (OSError, MemoryError):
        return
    done.append(name)
attempt("memory_limit", lambda: bytearray(600 << 20))
attempt("opens_no_files", lambda: open("/etc/passwd").read())
attempt("no_network", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(("127.0.0.1", 9)))
attempt("starts_no_process", lambda: os.fork() or os._exit(0))
attempt("starts_no_process", lambda: os.posix_spawn("/bin/true", ["true"], {}))
attempt("starts_no_process", lambda: os.execv("/bin/true", ["true"]))
attempt("signals_no_process", lambda: os.kill(os.getppid(), 0))
attempt("signals_no_process", lambda: os.kill(-1, 0))
os.kill(os.getpid(), 0)
thread = threading.Thread(target=lambda: None)
thread.start()
thread.join()
attempt("no_tcp", lambda: socket.socket().bind(("127.0.0.1", 0)))
print(json.dumps({"held": held, "done": done}))
"""
ORPHAN = """
import os, time
from ingest.confinement import Limits, confine
parent = os.getpid()
if os.fork() == 0:
    confine(Limits(max_pixels=1, memory_mb=512, cpu_s=9, silence_s=9), parent_pid=parent)
    print(os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.fixture
def taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Replace the decoder by a program, as if a clip had taken it over; return a file to hand it."""

    def take_over(body: str) -> Path:
        package = tmp_path / "ingest"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "decoder.py").write_text(f"import os, struct, sys, time\n{body}\n")
        monkeypatch.setattr(sandbox, "__file__", str(package / "sandbox.py"))
        path = tmp_path / "clip.mp4"
        path.write_bytes(b"x")
        return path

    return take_over


def test_what_is_said_to_hold_does_hold() -> None:
    """A confined process cannot do what its confinement says it cannot."""
    answer = subprocess.run([sys.executable, "-c", ATTEMPTS], capture_output=True, check=True, text=True)
    said = json.loads(answer.stdout)
    assert not set(said["held"]) & set(said["done"])
    assert "memory_limit" in said["held"]


def test_isolation_names_what_holds_here(limits: Limits) -> None:
    """The limits hold everywhere; the rest is told as it is found."""
    always = {"memory_limit", "cpu_limit", "writes_no_files", "no_new_privileges", "dies_with_parent"}
    assert always <= set(sandbox.isolation(limits))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("os.abort()", "crashed the decoder"),
        ("os.kill(os.getpid(), 9)", "ended by the system"),
        ("sys.exit(3)", "exit code 3"),
        ("os.write(1, b'F')", "without a result"),
        ("os.write(2, b'!' * 9999); sys.exit(3)", "exit code 3"),
        ("os.write(1, b'?' * 5)", "no longer speaks sense"),
        ("os.write(1, struct.pack('<cI', b'F', 2**32 - 1))", "no longer speaks sense"),
        ("os.write(1, struct.pack('<cI', b'R', 2) + b'[]')", "no longer speaks sense"),
        ("os.write(1, struct.pack('<cI', b'R', 2) + b'{}')", "no longer speaks sense"),
        ("os.write(1, struct.pack('<cI', b'E', 2) + bytes([255, 255]))", "broke the decoder"),
    ],
)
def test_broken_child_gives_a_reason(
    taken_over: Callable[[str], Path], limits: Limits, body: str, reason: str
) -> None:
    """However the child ends or lies, the clip is refused in words, and nothing hangs."""
    path = taken_over(body)
    with pytest.raises(CorruptClip, match=reason):
        probe_video(path, limits=limits)


def test_child_that_says_no_more_but_lives_is_ended(taken_over: Callable[[str], Path]) -> None:
    """A child that closes its mouth and stays is refused after the silence it is granted."""
    path = taken_over("os.close(1); time.sleep(600)")
    with pytest.raises(CorruptClip, match="no longer speaks sense"):
        probe_video(path, limits=Limits(max_pixels=10**6, memory_mb=512, cpu_s=9, silence_s=0.5))


def test_child_that_floods_its_errors_is_not_held_up(
    taken_over: Callable[[str], Path], limits: Limits
) -> None:
    """Errors that nobody reads are dropped, and the last that were kept go to the log, 4 kB at most."""
    flood = "try:\n    while True: os.write(2, b'!' * 1000)\nexcept BlockingIOError:\n    sys.exit(3)"
    path = taken_over(flood)
    with capture_logs() as logs, pytest.raises(CorruptClip, match="exit code 3"):
        probe_video(path, limits=limits)
    assert [len(entry["stderr"]) for entry in logs] == [4096]


def test_frame_that_lies_about_its_size_is_refused(taken_over: Callable[[str], Path], limits: Limits) -> None:
    """Height and width must agree with the bytes that came."""
    path = taken_over(
        "frame = struct.pack('<Qd?II', 0, 0.0, False, 9, 9)\n"
        "os.write(1, struct.pack('<cI', b'F', len(frame)) + frame)"
    )
    with pytest.raises(CorruptClip, match="no longer speaks sense"):
        next(read_frames(path, limits=limits))


def test_reason_quotes_no_control_characters(taken_over: Callable[[str], Path], limits: Limits) -> None:
    """What a child says cannot write on a terminal or fill a log."""
    said = json.dumps({"kind": "unsupported", "reason": "\x1b[31mred\n" + "x" * 9999}).encode()
    path = taken_over(f"os.write(1, struct.pack('<cI', b'E', {len(said)}) + {said!r})")
    with pytest.raises(UnsupportedFormat) as caught:
        probe_video(path, limits=limits)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("body", ["time.sleep(600)", "os.write(1, b'F'); time.sleep(600)"])
def test_silent_child_is_ended(taken_over: Callable[[str], Path], body: str) -> None:
    """A child that says nothing is ended after the silence it is granted."""
    path = taken_over(body)
    before = _children()
    with pytest.raises(FeedTimeout, match=r"nothing for 0\.5 s"):
        probe_video(path, limits=Limits(max_pixels=10**6, memory_mb=512, cpu_s=9, silence_s=0.5))
    assert _children() <= before


def test_child_dies_with_its_parent() -> None:
    """A worker that is killed leaves no decoder behind."""
    with subprocess.Popen([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    assert _gone(child)


def test_leaving_early_ends_the_decoder(clip: Callable[..., Path], limits: Limits) -> None:
    """Whoever stops reading frames leaves no process behind."""
    path = clip(frames=200)
    before = _children()  # servers that other tests keep running
    frames = read_frames(path, limits=limits)
    next(frames)
    children = _children() - before
    assert children
    frames.close()  # type: ignore[attr-defined]
    assert not children & _children()


def test_clips_may_be_read_side_by_side(clip: Callable[..., Path], limits: Limits) -> None:
    """Threads may each read a clip."""
    path = clip()
    counts: list[int] = []
    threads = [
        threading.Thread(target=lambda: counts.append(sum(1 for _ in read_frames(path, limits=limits))))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [60, 60, 60]


def _children() -> set[str]:
    task = Path(f"/proc/self/task/{threading.get_native_id()}/children")
    return set(task.read_text().split())


def _gone(pid: int) -> bool:
    for _ in range(1500):  # half a minute, on a machine that is busy
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":  # ended; whoever adopted it has not looked yet
            return True
        time.sleep(0.02)
    return False
