"""Databases for the tests of what lasts in SQL: SQLite files, and databases of a PostgreSQL server.

The server is the one at ``OUTWATCH_TEST_POSTGRES_URL``, else one started on loopback for the session
from the binaries on this machine. ``engine`` gives each test a migrated database of each kind.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.exc import OperationalError

import storage
from storage.database import connect, migrate

START_TIMEOUT_S = 30
PACKAGED = Path("/usr/lib/postgresql")
"""Where Debian puts each version's binaries, out of PATH."""
RUN_UNTIL_STDIN_ENDS = 'exec 3<&0; "$@" </dev/null & read -r _ <&3; kill -INT $!; wait $!'
"""The server ends with the tests, however they end: the kernel closes a killed process's pipe."""
_names = count()


class Clock:
    """A time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, 18, 30, tzinfo=UTC)

    def __call__(self) -> datetime:
        """Return the time."""
        return self.now

    def advance(self, **parts: float) -> None:
        """Move the time on by ``timedelta(**parts)``."""
        self.now += timedelta(**parts)


@pytest.fixture
def clock() -> Clock:
    """Return a clock for the test to move."""
    return Clock()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Give the URL of a PostgreSQL server on which databases may be made, or skip where there is none."""
    if given := os.environ.get("OUTWATCH_TEST_POSTGRES_URL"):
        yield given
        return
    found = shutil.which("initdb") or next(
        map(str, sorted(PACKAGED.glob("*/bin/initdb"), reverse=True)), None
    )
    if found is None:
        pytest.skip("no PostgreSQL: install it (initdb is not found) or set OUTWATCH_TEST_POSTGRES_URL")
    with _cluster(Path(found).parent) as url:
        yield url


@contextmanager
def _cluster(binaries: Path) -> Iterator[str]:
    """Run a PostgreSQL server of our own in a temporary folder."""
    # PostgreSQL refuses to run as root.
    owner = {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []}
    run_as = owner if os.geteuid() == 0 else {}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="outwatch-postgres-") as folder:
        if run_as:
            shutil.chown(folder, "nobody")
        initdb = [binaries / "initdb", "-D", f"{folder}/data", "-U", "outwatch", "-A", "trust", "--no-sync"]
        subprocess.run(
            [*initdb, "--encoding=UTF8", "--locale=C"], check=True, capture_output=True, cwd=folder, **run_as
        )
        # What speeds a server up that need not survive a power cut.
        options = ["fsync=off", "listen_addresses=127.0.0.1", "unix_socket_directories="]
        server = [binaries / "postgres", "-D", f"{folder}/data", "-p", str(port)]
        server += [part for option in options for part in ("-c", option)]
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen(
                ["sh", "-c", RUN_UNTIL_STDIN_ENDS, "sh", *server],
                stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=folder, **run_as,
            )  # fmt: skip
        try:
            url = f"postgresql+psycopg://outwatch@127.0.0.1:{port}/postgres"
            _wait_until_ready(url, process=process, log=Path(folder) / "log")
            yield url
        finally:
            process.stdin.close()
            process.wait(timeout=START_TIMEOUT_S)


def _wait_until_ready(url: str, *, process: subprocess.Popen[bytes], log: Path) -> None:
    engine = create_engine(url)
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            with engine.connect():
                break
        except OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {log.read_text()}") from None
            time.sleep(0.05)
    engine.dispose()


@contextmanager
def _postgres_database(server_url: str) -> Iterator[str]:
    """Make an empty database on a server and drop it in the end."""
    name = f"outwatch_test_{os.getpid()}_{next(_names)}"
    server = create_engine(server_url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield make_url(server_url).set(database=name).render_as_string(hide_password=False)
    finally:
        with server.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        server.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Give the URL of an empty database, on each engine."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'outwatch.db'}"
        return
    with _postgres_database(request.getfixturevalue("postgres_url")) as url:
        yield url


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """Give a migrated database, on each engine."""
    opened = connect(database_url)
    migrate(opened)
    yield opened
    opened.dispose()


@pytest.fixture
def start_python() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Give a function that starts a Python script with arguments; what still runs in the end is killed."""
    processes: list[subprocess.Popen[str]] = []
    path = str(Path(storage.__file__).parents[1])

    def start(script: str, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()
