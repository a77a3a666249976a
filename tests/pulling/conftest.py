"""Real servers to pull from, on loopback: OpenSSH, web servers, FTP, S3 and an RTSP camera.

Each runs as a process of its own, or in a thread where it is made to misbehave, over a folder that the
test fills. A test whose server is not installed skips and names what to install.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from outwatch.settings import PullSource

START_TIMEOUT_S = 30
SSHD = "/usr/sbin/sshd"
SYSTEM_PYTHON = "/usr/bin/python3"
"""Debian's own interpreter, which has GStreamer's bindings."""
ACCESS_KEY, SECRET_KEY = "outwatch-access", "outwatch-secret"
CAMERA_USER, CAMERA_PASSWORD = "camera", "secret/with:signs"
CAMERA = """
import sys, gi
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
port, clip, user, password = sys.argv[1:]
server = GstRtspServer.RTSPServer(service=port, address="127.0.0.1")
mounts = server.get_mount_points()
for path in ("/live", "/private"):
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(f"( filesrc location={clip} ! qtdemux ! rtph264pay name=pay0 pt=96 )")
    factory.set_shared(False)
    if path == "/private":
        allowed = GstRtspServer.RTSPPermissions()
        allowed.add_permission_for_role("user", "media.factory.access", True)
        allowed.add_permission_for_role("user", "media.factory.construct", True)
        factory.set_permissions(allowed)
    mounts.add_factory(path, factory)
auth = GstRtspServer.RTSPAuth()
auth.add_basic(
    GstRtspServer.RTSPAuth.make_basic(user, password), GstRtspServer.RTSPToken.new_with_kv({"role": "user"})
) if False else None
server.attach(None)
GLib.MainLoop().run()
"""


def free_port() -> int:
    """Return a loopback port on which nothing listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def serving(command: list[str], *, port: int, log: Path) -> Iterator[None]:
    """Run a server process until the block ends; it answers when the block begins."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=os.environ | {"RCLONE_CONFIG": os.devnull}
        )
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not _listens(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{command[0]} does not listen: {log.read_text()}")
                time.sleep(0.05)
            yield
        finally:
            process.kill()
            process.wait()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
