"""Start a decoder in a confined child process, read what it says, and end it.

Belongs here: the parent's end of the wall, which knows files, pipes and processes but neither video nor
logs. Not here: the confinement itself (``confinement.py``), the child's programs (``decoder.py``,
``telemetry/log_reader.py``) and what their numbers mean (``video.py``, ``telemetry/confined.py``).

The child gets the opened file as its standard input, so it needs no path at all. What it says is
untrusted too: a broken decoder is a stranger inside the house, so every length is checked.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import structlog

from ingest.confinement import BEAT, FRAME, FRAME_HEADER, HEADER, KLV, REFUSAL, REPORT, Limits
from outwatch.domain.errors import CorruptClip, FeedTimeout, PermanentError, UnsupportedFormat

__all__ = ["Limits", "converse", "exchange", "isolation", "opened"]

log = structlog.get_logger()

DECODER = "ingest.decoder"
MAX_TEXT_BYTES = 64 << 20
"""Longest report: one with an embedded subtitle track, of which the longest sample has 4 MB."""
LAST_WORDS_BYTES = 4 << 10
PIPE_BYTES = 1 << 20
"""The largest pipe Linux gives an unprivileged process: a frame passes in few turns."""


def converse(path: Path, *, task: Mapping[str, object], limits: Limits) -> Iterator[tuple[bytes, memoryview]]:
    """Yield the child's frames or metadata and at last its report, as (kind, payload).

    The child is ended and reaped when the iterator ends, is closed or raises. Read it in the thread
    that started it: a child dies with its parent's thread.

    Raises:
        CorruptClip: the file cannot be decoded, or breaks the decoder.
        UnsupportedFormat: the file is not a regular file, or none of the formats, codecs and sizes.
        FeedTimeout: the child said nothing for ``limits.silence_s``.
    """
    with opened(path) as file:
        yield from exchange(file, name=path.name, task=task, limits=limits)


def isolation(limits: Limits) -> tuple[str, ...]:
    """Return which parts of the confinement take hold on this machine, for ``doctor``."""
    with Path(os.devnull).open("rb") as nothing:
        task = {"mode": "isolation"}
        for kind, payload in exchange(nothing.fileno(), name="isolation", task=task, limits=limits):
            if kind == REPORT:
                return tuple(map(str, json.loads(bytes(payload))["holds"]))
    raise CorruptClip("isolation: the decoder gave no report")  # pragma: no cover - exchange raises first


def exchange(
    file: int, *, name: str, task: Mapping[str, object], limits: Limits, program: str = DECODER
) -> Iterator[tuple[bytes, memoryview]]:
    """Do as ``converse`` does with a file that is open, and with any of the child's programs.

    Args:
        file: the descriptor of the opened file.
        name: of the file, for errors.
        task: the request, as the program expects it.
        limits: what it may cost.
        program: the module that the child runs.
    """
    with _child(file, task=task, limits=limits, program=program) as (process, errors):
        assert process.stdout is not None  # noqa: S101 - for the type checker: stdout=PIPE
        pipe = _Pipe(process.stdout.fileno(), name=name, limits=limits)
        while (message := pipe.message()) is not None:
            kind, payload = message
            if kind == REFUSAL:
                raise _refused(name, payload)
            if kind != BEAT:
                yield kind, payload
            if kind == REPORT:
                return
        try:
            returncode = process.wait(timeout=limits.silence_s)
        except subprocess.TimeoutExpired as error:
            raise _senseless(name) from error
        raise _died(name, returncode, last_words=_last_words(errors), limits=limits)


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Open a regular file for reading, and nothing else: neither links, devices nor pipes."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if path.is_symlink():
            raise UnsupportedFormat(f"{path.name} is a symbolic link: hand in the file itself") from error
        raise CorruptClip(f"{path.name} cannot be opened: {error.strerror}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UnsupportedFormat(f"{path.name} is no regular file: hand in the file itself")
        if status.st_size == 0:
            raise CorruptClip(f"{path.name} is empty (0 bytes): copy it again from the card")
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _child(
    file: int, *, task: Mapping[str, object], limits: Limits, program: str
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Start the child; give it and the descriptor of what it writes as errors; end and reap it."""
    with _error_pipe() as (errors, errors_in):
        process = _started(file, errors_in, task=task, limits=limits, program=program)
        try:
            yield process, errors
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


@contextmanager
def _error_pipe() -> Iterator[tuple[int, int]]:
    """Open a pipe that keeps the first 64 kB and drops the rest, as nobody reads it while the child runs."""
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield read, write
    finally:
        os.close(read)
        os.close(write)


def _last_words(errors: int) -> str:
    try:
        data = os.read(errors, PIPE_BYTES)
    except BlockingIOError:  # it wrote none
        return ""
    return data[-LAST_WORDS_BYTES:].decode(errors="replace")


def _started(
    file: int, errors: int, *, task: Mapping[str, object], limits: Limits, program: str
) -> subprocess.Popen[bytes]:
    request = {**task, "limits": asdict(limits), "parent_pid": os.getpid()}
    # In memory, as a list of frames outgrows an argument (128 KiB) and a pipe.
    with os.fdopen(os.memfd_create("request"), "w+b", buffering=0) as note:
        note.write(json.dumps(request).encode())
        note.seek(0)
        return subprocess.Popen(  # noqa: S603 - our own interpreter and module, arguments as a list
            [sys.executable, "-P", "-s", "-B", "-m", program, str(note.fileno())],
            pass_fds=(note.fileno(),),
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd="/",
            env={
                "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
                "LC_ALL": "C.UTF-8",
                # Both keep address space, which is limited, from growing with the number of cores.
                "OPENBLAS_NUM_THREADS": "1",
                "MALLOC_ARENA_MAX": "2",
            },
        )


class _Pipe:
    """Reads framed messages from a child that may stop, lie or flood."""

    def __init__(self, descriptor: int, *, name: str, limits: Limits) -> None:
        self._descriptor, self._name, self._silence_s = descriptor, name, limits.silence_s
        self._max_bytes = max(MAX_TEXT_BYTES, limits.max_pixels * 3 + FRAME_HEADER.size)
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        os.set_blocking(descriptor, False)

    def message(self) -> tuple[bytes, memoryview] | None:
        """Return the next message, None at the end of the child's words, even amid one."""
        header = self._read(HEADER.size)
        if header is None:
            return None
        kind, length = HEADER.unpack(header)
        if kind not in {FRAME, KLV, REPORT, REFUSAL, BEAT} or length > self._max_bytes:
            raise _senseless(self._name)
        payload = self._read(length)
        return None if payload is None else (kind, payload)

    def _read(self, length: int) -> memoryview | None:
        data = memoryview(bytearray(length))
        done = 0
        while done < length:
            self._await()
            read = os.readv(self._descriptor, [data[done:]])
            if read == 0:
                return None
            done += read
        return data

    def _await(self) -> None:
        ready = select.poll()
        ready.register(self._descriptor, select.POLLIN)
        if not ready.poll(self._silence_s * 1000):
            raise FeedTimeout(
                f"{self._name}: the decoder gave nothing for {self._silence_s:g} s and was ended;"
                " try again when the machine is less busy"
            )


def _refused(name: str, payload: memoryview) -> PermanentError:
    """Return the error for which the child gave a reason."""
    try:
        said = json.loads(bytes(payload))
        kind, reason = str(said["kind"]), str(said["reason"])
    except (ValueError, KeyError, TypeError):
        kind, reason = "corrupt", "broke the decoder"
    # The reason may quote the file: keep it one printable line.
    line = "".join(character if character.isprintable() else " " for character in reason)[:500]
    return (UnsupportedFormat if kind == "unsupported" else CorruptClip)(f"{name}: {line}")


def _senseless(name: str) -> CorruptClip:
    return CorruptClip(f"{name} broke the decoder, which no longer speaks sense: do not use the file")


def _died(name: str, returncode: int, *, last_words: str, limits: Limits) -> CorruptClip:
    """Return the error for a child that ended without a word; its last lines go to the log."""
    number = -returncode
    log.warning("decoder_died", file=name, returncode=returncode, stderr=last_words)
    if number == signal.SIGXCPU:
        why = f"needs more than {limits.cpu_s} s of processor time: raise decoder_cpu_s or cut the file"
    elif number == signal.SIGKILL:
        why = (
            "made the decoder be ended by the system, most likely for memory: lower the load or cut the file"
        )
    elif number > 0:
        why = (
            f"crashed the decoder ({signal.strsignal(number)}): it is damaged or made to harm; do not use it"
        )
    else:
        why = (
            f"ended the decoder (exit code {returncode}) without a result: see that it runs (outwatch doctor)"
        )
    return CorruptClip(f"{name} {why}")
