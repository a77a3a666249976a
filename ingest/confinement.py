"""What the decoding child does to itself before it sees a byte of footage, and how it speaks.

Belongs here: limits, namespaces, the ban on opening files, and the framed messages, which both ends
need. Not here: the filter of system calls (``seccomp.py``), starting and reading the child
(``sandbox.py``), and video (``container.py``). The child pays for each import, so there is only the
standard library.

Not prevented: all other system calls, so a bug of the kernel may be within reach; and where the kernel
lacks a part, what that part forbids (``outwatch doctor`` names the parts that hold).
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

from ingest.seccomp import keep_to_itself

HEADER = struct.Struct("<cI")
"""What precedes every message: its kind and the length of its payload in bytes."""
FRAME, REPORT, REFUSAL, BEAT, KLV = b"F", b"R", b"E", b"B", b"K"
FRAME_HEADER = struct.Struct("<Qd?II")
"""What precedes a frame's pixels: index, offset in seconds, is_corrupt, height and width in pixels."""
KLV_HEADER = struct.Struct("<d")
"""What precedes a packet of metadata: seconds from the first frame."""
MAX_KLV_BYTES, MAX_KLV_PACKETS = 64 << 20, 500_000
"""Metadata of one video: at 30 packets a second of 250 bytes two hours, or four and a half of small ones."""
OPEN_FILES = 16
"""Enough for Python to import a module; a decoder needs three."""
CPU_GRACE_S = 5
"""Seconds between the signal that ends the child and the one that it cannot put off."""
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38  # linux/prctl.h
_CLONE_NEWUSER, _CLONE_NEWNET, _CLONE_NEWIPC = 0x10000000, 0x40000000, 0x08000000  # linux/sched.h
_LANDLOCK_CREATE_RULESET, _LANDLOCK_RESTRICT_SELF = 444, 446  # asm-generic/unistd.h, all architectures
_LANDLOCK_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""Bits of file access each Landlock version knows (linux/landlock.h); later ones add none we need."""
_LANDLOCK_NETWORK_SINCE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one file may cost. Each field is the setting of the same name."""

    max_pixels: int
    """Largest width times height of a frame."""
    memory_mb: int
    """Address space of the child, which starts at about 400 MB with its libraries."""
    cpu_s: int
    """Processor time for one pass over one file."""
    silence_s: float
    """Longest time without a word from the child."""


class RefusedError(Exception):
    """The file is refused; ``kind`` is ``corrupt`` or ``unsupported``."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def confine(limits: Limits, *, parent_pid: int) -> tuple[str, ...]:
    """Give up, for the rest of this process, what decoding does not need; return what took hold.

    Call it after the last import and before the process has threads. The limits always take hold,
    the rest where kernel and container runtime permit it.
    """
    memory = limits.memory_mb << 20
    for kind, soft, hard in (
        (resource.RLIMIT_AS, memory, memory),
        (resource.RLIMIT_CPU, limits.cpu_s, limits.cpu_s + CPU_GRACE_S),
        (resource.RLIMIT_FSIZE, 0, 0),
        (resource.RLIMIT_NOFILE, OPEN_FILES, OPEN_FILES),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        resource.setrlimit(kind, (soft, hard))
    holds = ["memory_limit", "cpu_limit", "writes_no_files"]
    libc = ctypes.CDLL(None)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
        holds.append("no_new_privileges")
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0:
        holds.append("dies_with_parent")
        if os.getppid() != parent_pid:  # it died before the line above
            raise SystemExit(1)
    own = _CLONE_NEWNET | _CLONE_NEWIPC
    if libc.unshare(_CLONE_NEWUSER | own) == 0 or libc.unshare(own) == 0:
        holds.append("no_network")
    holds += _seal(libc)
    if keep_to_itself(libc):
        holds += ["starts_no_process", "signals_no_process"]
    return tuple(holds)


def _seal(libc: ctypes.CDLL) -> tuple[str, ...]:
    """Forbid this process to open any file, and TCP; return what took hold. Open files stay so.

    Source: Documentation/userspace-api/landlock.rst of the Linux kernel; a ruleset without rules
    denies all that it handles.
    """
    version = libc.syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if version < 1:
        return ()
    rights = (1 << _LANDLOCK_FILE_RIGHTS[min(version, max(_LANDLOCK_FILE_RIGHTS))]) - 1
    network = version >= _LANDLOCK_NETWORK_SINCE
    ruleset = struct.pack("=QQ", rights, 0b11) if network else struct.pack("=Q", rights)
    handle = libc.syscall(
        _LANDLOCK_CREATE_RULESET, ruleset, ctypes.c_size_t(len(ruleset)), ctypes.c_uint32(0)
    )
    if handle < 0:
        return ()
    held = libc.syscall(_LANDLOCK_RESTRICT_SELF, handle, ctypes.c_uint32(0)) == 0
    os.close(handle)
    return (("opens_no_files", "no_tcp") if network else ("opens_no_files",)) if held else ()


def send(out: IO[bytes], kind: bytes, *parts: Any) -> None:
    """Write one message of bytes-like parts."""
    out.write(HEADER.pack(kind, sum(memoryview(part).nbytes for part in parts)))
    for part in parts:
        out.write(part)
    out.flush()


def heartbeat(out: IO[bytes], *, every_s: float = 1.0) -> Callable[[], None]:
    """Return a function that, called often, writes a sign of life about every ``every_s``."""
    last = time.monotonic()

    def beat() -> None:
        nonlocal last
        if time.monotonic() - last >= every_s:
            last = time.monotonic()
            send(out, BEAT)

    return beat
