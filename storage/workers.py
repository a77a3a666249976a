"""Who holds a lease: a worker's name, and whether the process behind a name is known to be dead.

Belongs here: names of processes and the look into ``/proc``. Not here: leases (``storage/ledger.py``).
"""

from __future__ import annotations

import hashlib
import os
import socket
from functools import cache
from pathlib import Path


def worker_name() -> str:
    """Return this process's name, ``host:pid:start``, which no other process ever has.

    ``start`` is the process's start in clock ticks since boot (proc(5), ``stat`` field 22).
    """
    pid = os.getpid()
    return f"{_host()}:{pid}:{_started(pid)}"


def is_dead(worker: str) -> bool:
    """Return whether a worker is known to be dead; False where that cannot be known from here."""
    host, _, process = worker.partition(":")
    pid, _, started = process.partition(":")
    if host != _host() or not pid.isdecimal():
        return False
    return not _exists(int(pid)) or _started(int(pid)) not in {started, "unknown"}


@cache
def _host() -> str:
    """Return the name of this machine's process numbers.

    The host name alone is not enough: clones share it, and so do containers on one machine, whose
    process numbers mean other processes. The boot and the PID namespace tell them apart.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        space = f"{boot}{Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # not Linux: the host name has to do
        space = ""
    return f"{socket.gethostname()}-{hashlib.sha256(space.encode()).hexdigest()[:8]}"


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it lives, and is another user's
        return True
    return True


def _started(pid: int) -> str:
    """Return a live process's start time, ``dead`` for one that only waits to be reaped, else ``unknown``."""
    try:
        # The second field, the command's name, may hold spaces and brackets.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # no /proc, or it hides other users' processes
        return "unknown"
    return "dead" if fields[0] in {"Z", "X"} else fields[19]
