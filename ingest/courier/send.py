"""Send a package over a weak link: tus 1.0, one file after the other, resumed by byte after any break.

Belongs here: the client's end of the link: asking, sending, waiting, counting. Not here: packing
(``pack.py``) and the server (``outwatch/console/uploads.py``).

Our server takes the creation of a file that it knows as the question how much of it has come. So every
attempt begins with the same request, whether it is the first one, follows a break, or comes days later from
a restarted machine: nothing needs to be remembered here.
"""

from __future__ import annotations

import io
import socket
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO

import httpx
import structlog

from ingest.courier.pack import Packed
from ingest.courier.package import MANIFEST_NAME, Package, PackedFile
from outwatch.domain.errors import (
    AccessDenied,
    ConfigInvalid,
    PackageRefused,
    PackageTooLarge,
    UploadInterrupted,
)

log = structlog.get_logger(__name__)

TUS_VERSION = "1.0.0"
BLOCK_BYTES = 64 << 10
SEND_BUFFER_BYTES = 1 << 20
"""Kept small, so that progress is what left the machine; 1 MB on the way still fills 10 Mbit/s by radio."""
LEAST_PIECE_BYTES, FIRST_PIECE_BYTES, MOST_PIECE_BYTES = 256 << 10, 8 << 20, 128 << 20
"""A piece is one request. Our server keeps what came of a broken one; a proxy that holds requests back until
they are whole does not. So pieces shrink where a break left nothing, and grow where all goes well."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
"""Waits after attempts that brought nothing; they double."""
POLL_S = 0.5
"""Between two questions whether the server has read all files through."""
TIMEOUT = httpx.Timeout(60.0, connect=30.0, read=180.0)
"""Read: the server hashes a file before it answers, and a large one takes minutes."""
MOST_SENDINGS = 3
"""A file that arrives changed so often is not the link's fault: memory, cable or card are."""
DONE_STATES = frozenset(("confirmed", "landed"))
CHECKSUM_MISMATCH = 460
"""What the tus protocol's checksum extension answers."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a package is, in bytes that the server has or that are on the way."""

    name: str
    done_bytes: int
    total_bytes: int
    note: str = ""
    """What is being waited for; empty while bytes flow."""


@dataclass(frozen=True, slots=True)
class _Item:
    """One file as it is sent."""

    name: str
    metadata: Mapping[str, str]
    size_bytes: int
    source: Path | bytes


class _PackageUnknown(Exception):
    """The server does not know the package that a file is of."""


def connect(url: str, *, token: str) -> httpx.Client:
    """Return a client for an upload server.

    Raises:
        ConfigInvalid: the URL is none.
    """
    if not url.startswith(("http://", "https://")):
        raise ConfigInvalid(f"upload server {url!r}: expected a URL such as https://headquarters.example")
    headers = {"Tus-Resumable": TUS_VERSION} | ({"Authorization": f"Bearer {token}"} if token else {})
    options = [(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)]
    transport = httpx.HTTPTransport(socket_options=options)
    return httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT, transport=transport)


class Sender:
    """Sends packages to one server.

    Args:
        http: from ``connect``.
        watch: told of progress.
        give_up_after: without progress for so long, ``UploadInterrupted`` is raised; None never gives up.
    """

    def __init__(
        self,
        http: httpx.Client,
        *,
        watch: Callable[[Progress], None] = lambda _: None,
        give_up_after: timedelta | None = None,
    ) -> None:
        self._http, self._watch, self._give_up_after = http, watch, give_up_after
        self._piece_bytes = FIRST_PIECE_BYTES
        self._broken_at: int | None = None  # where the piece began that a break ended
        self._best = -1  # the farthest offset of the present file that the server has told
        self._pause_s = 0.0  # the first try after a break comes at once: most breaks of a weak link pass
        self._moved_s = time.monotonic()
        self._before_bytes = self._total_bytes = 0

    def send(self, packed: Packed) -> None:
        """Send a package, and return once the server has found every file's hash right.

        Raises:
            UploadInterrupted: there was no progress for ``give_up_after``.
            PackageRefused: the server will not take it, or a file arrives changed every time.
            AccessDenied: the token is wrong.
            ConfigInvalid: what answers is no upload server of ours.
        """
        package = packed.package
        self._deliver(_manifest(package), package)
        self._total_bytes = package.size_bytes
        sendings: Counter[str] = Counter()
        while standing := self._not_done(package):
            coming = [file for file in packed.in_order() if file.path in standing]
            on_hand = [file for file in coming if not _arrived(standing[file.path])]
            self._before_bytes = package.size_bytes - sum(file.size_bytes for file in on_hand)
            for file in on_hand:
                sendings[file.path] += 1
                if sendings[file.path] > MOST_SENDINGS:
                    why = standing[file.path]["reason"]
                    raise PackageRefused(
                        f"{file.path} arrived changed {MOST_SENDINGS} times ({why}): check the card, its "
                        "reader and this machine's memory"
                    )
                self._deliver(_item(package, file, packed.sources[file.path]), package)
                self._before_bytes += file.size_bytes
            if not on_hand:
                self._check_patience("the server has all and does not confirm it")
                self._say("", 0, note="the server reads the files through")
                time.sleep(POLL_S)
        self._say("", 0)

    def _not_done(self, package: Package) -> dict[str, dict[str, Any]]:
        """Return what the server says of the files that it has not found right yet, by path."""
        while True:
            try:
                answer = self._http.get(f"/uploads/{package.id}")
                if answer.status_code == httpx.codes.NOT_FOUND:
                    self._deliver(_manifest(package), package)
                    continue
                _check(answer)
                files = {file["path"]: file for file in answer.json()["files"]}
                return {
                    file.path: files[file.path]
                    for file in package.files
                    if files[file.path]["state"] not in DONE_STATES
                }
            except (httpx.TransportError, UploadInterrupted) as error:
                self._after_break("", error)
            except (ValueError, KeyError, TypeError) as error:
                raise ConfigInvalid(f"{self._http.base_url} is no Outwatch upload server") from error

    def _deliver(self, item: _Item, package: Package) -> None:
        """Send one file to its last byte, through as many breaks as it takes."""
        self._best, self._broken_at = -1, None
        while True:
            try:
                self._attempt(item)
            except _PackageUnknown:
                # The server gave the package up meanwhile, or lost its disk: begin with it again.
                self._deliver(_manifest(package), package)
                self._best, self._broken_at = -1, None
            except (httpx.TransportError, UploadInterrupted) as error:
                self._after_break(item.name, error)
            else:
                return

    def _attempt(self, item: _Item) -> None:
        url, offset = self._create(item)
        if offset == self._broken_at:
            self._piece_bytes = max(LEAST_PIECE_BYTES, self._piece_bytes // 2)
        self._arrived_to(offset)
        with _opened(item) as stream:
            while offset < item.size_bytes:
                self._broken_at = offset
                offset = self._send_piece(item, url, stream, offset=offset)
                self._piece_bytes = min(MOST_PIECE_BYTES, self._piece_bytes * 2)
                self._arrived_to(offset)

    def _create(self, item: _Item) -> tuple[str, int]:
        """Announce a file, or ask after one that was; return its URL and how much of it has come."""
        metadata = ",".join(
            f"{key} {b64encode(text.encode()).decode()}" for key, text in item.metadata.items()
        )
        headers = {"Upload-Length": str(item.size_bytes), "Upload-Metadata": metadata}
        answer = self._http.post("/files/", headers=headers)
        if answer.status_code == httpx.codes.CONFLICT:
            raise _PackageUnknown
        _check(answer)
        try:
            return answer.headers["Location"], int(answer.headers["Upload-Offset"])
        except (KeyError, ValueError) as error:
            raise ConfigInvalid(f"{self._http.base_url} is no Outwatch upload server") from error

    def _send_piece(self, item: _Item, url: str, stream: BinaryIO, *, offset: int) -> int:
        """Send the next piece and return how much of the file the server then has."""
        length = min(self._piece_bytes, item.size_bytes - offset)
        headers = {
            "Upload-Offset": str(offset),
            "Content-Length": str(length),
            "Content-Type": "application/offset+octet-stream",
        }
        blocks = self._blocks(item, stream, offset=offset, length=length)
        answer = self._http.patch(url, headers=headers, content=blocks)
        if answer.status_code == CHECKSUM_MISMATCH:
            return item.size_bytes  # it came whole and wrong: ``send`` asks and sends it again
        if answer.status_code in {httpx.codes.NOT_FOUND, httpx.codes.CONFLICT, httpx.codes.GONE}:
            raise UploadInterrupted(f"the server's part of {item.name} changed meanwhile")
        _check(answer)
        return int(answer.headers["Upload-Offset"])

    def _blocks(self, item: _Item, stream: BinaryIO, *, offset: int, length: int) -> Iterator[bytes]:
        stream.seek(offset)
        end = offset + length
        while offset < end:
            try:
                block = stream.read(min(BLOCK_BYTES, end - offset))
            except OSError as error:
                raise UploadInterrupted(f"{item.name} cannot be read: is the card in place?") from error
            if not block:
                raise UploadInterrupted(f"{item.name} became shorter while it was sent: run the upload again")
            yield block
            offset += len(block)
            self._say(item.name, offset)

    def _arrived_to(self, offset: int) -> None:
        if offset > self._best:
            self._best, self._pause_s, self._moved_s = offset, 0.0, time.monotonic()

    def _after_break(self, name: str, error: Exception) -> None:
        """Wait, longer each time that nothing came of it, or give up."""
        log.info("upload_broken", file=name, offset=self._best, error=repr(error))
        self._check_patience(str(error))
        if self._pause_s:
            self._say(name, max(0, self._best), note=f"{error}; trying again in {self._pause_s:.0f} s")
            time.sleep(self._pause_s)
        self._pause_s = min(LONGEST_PAUSE_S, self._pause_s * 2 or FIRST_PAUSE_S)

    def _check_patience(self, why: str) -> None:
        still_s = time.monotonic() - self._moved_s
        if self._give_up_after is not None and still_s > self._give_up_after.total_seconds():
            raise UploadInterrupted(
                f"no progress for {still_s:.0f} s ({why}): what came is kept; run the same command to go on"
            )

    def _say(self, name: str, offset: int, *, note: str = "") -> None:
        self._watch(Progress(name, self._before_bytes + offset, self._total_bytes, note))


def _manifest(package: Package) -> _Item:
    data = package.to_json()
    return _Item(MANIFEST_NAME, {"filename": MANIFEST_NAME, "package": package.id}, len(data), data)


def _item(package: Package, file: PackedFile, source: Path) -> _Item:
    metadata = {
        "filename": file.path.rpartition("/")[2],
        "package": package.id,
        "path": file.path,
        "sha256": file.sha256,
        "modified_at": file.modified_at.isoformat(),
    }
    return _Item(file.path, metadata, file.size_bytes, source)


def _arrived(state: Mapping[str, Any]) -> bool:
    """Tell whether a file has come whole and waits to be read through."""
    return bool(state["state"] == "waiting" and state["received_bytes"] == state["size_bytes"])


@contextmanager
def _opened(item: _Item) -> Iterator[BinaryIO]:
    if isinstance(item.source, bytes):
        yield io.BytesIO(item.source)
        return
    try:
        stream = item.source.open("rb")
    except OSError as error:
        raise UploadInterrupted(
            f"{item.source} cannot be opened ({error.strerror}): is the card in place?"
        ) from error
    with stream:
        if item.source.stat().st_size != item.size_bytes:
            raise PackageRefused(f"{item.source} changed since it was packed: run the upload again")
        yield stream


def _check(answer: httpx.Response) -> None:
    """Raise the error that an answer stands for; none for success."""
    if answer.is_success:
        return
    code, why = answer.status_code, _reason(answer)
    if code in {401, 403}:
        raise AccessDenied(f"{answer.url.host} refused the token: {why}")
    if code in {404, 405} or answer.is_redirect:
        raise ConfigInvalid(f"{answer.url} is no upload server ({code}): correct the URL of --to")
    if code == httpx.codes.REQUEST_ENTITY_TOO_LARGE:
        raise PackageTooLarge(f"the server refuses it: {why}")
    if code in {400, 412, 415, 422}:
        raise PackageRefused(f"the server refuses it: {why}")
    raise UploadInterrupted(f"the server answers {code}: {why}")


def _reason(answer: httpx.Response) -> str:
    """Return the reason in an answer, one printable line of it."""
    try:
        text = str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        text = answer.reason_phrase
    return "".join(character if character.isprintable() else " " for character in text)[:500]
