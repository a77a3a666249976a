"""A worker is called dead only where that is certain: the price of a mistake is work done twice at once."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

from storage import workers
from storage.workers import is_dead, worker_name


def name_of(pid: int) -> str:
    """Return the worker name of another process on this machine."""
    return f"{worker_name().split(':')[0]}:{pid}:{workers._started(pid)}"


def refuse(*_: object) -> NoReturn:
    """Stand in for a system that does not let one look."""
    raise PermissionError("not yours")


@pytest.fixture
def sleeper() -> subprocess.Popen[bytes]:
    """Give a live process of another name, ended in the end."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def test_process_is_dead_from_the_moment_it_ends(sleeper: subprocess.Popen[bytes]) -> None:
    """Alive while it runs; dead as a zombie and when reaped."""
    worker = name_of(sleeper.pid)
    assert not is_dead(worker)
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert is_dead(worker)
    sleeper.wait()
    assert is_dead(worker)


def test_reused_process_number_is_another_process(sleeper: subprocess.Popen[bytes]) -> None:
    """The same number with an earlier start is a worker that is gone."""
    host, pid, started = name_of(sleeper.pid).split(":")
    assert is_dead(f"{host}:{pid}:{int(started) - 1}")


@pytest.mark.parametrize("worker", ["", "somebody", "elsewhere-00000000:1:2", "a:b:c"])
def test_what_cannot_be_seen_from_here_is_not_dead(worker: str) -> None:
    """Neither another machine's process nor a name that is none."""
    assert not is_dead(worker)


def test_process_of_another_user_is_judged_by_its_start(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may not be signalled, and lives."""
    worker = name_of(sleeper.pid)
    monkeypatch.setattr(os, "kill", refuse)
    assert not is_dead(worker)


def test_process_that_proc_hides_is_not_dead(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It exists, and more cannot be known."""
    worker = name_of(sleeper.pid)
    monkeypatch.setattr(Path, "read_text", refuse)
    assert not is_dead(worker)


def test_names_work_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere than on Linux a worker has a name too, and its own process is alive."""
    monkeypatch.setattr(Path, "read_text", refuse)
    workers._host.cache_clear()
    assert worker_name().endswith(f":{os.getpid()}:unknown")
    assert not is_dead(worker_name())
    workers._host.cache_clear()
