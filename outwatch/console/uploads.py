"""Resumable uploads: tus 1.0 with the extensions creation, expiration and termination.

Belongs here: the protocol's headers and answers, and one connection a file at a time. Not here: what is taken
and what becomes of it (``pipeline/incoming.py``), and where bytes lie (``pipeline/spool.py``).
Source: https://tus.io/protocols/resumable-upload (1.0.0).

Why our own: see ``docs/adr/2026-11-22-own-tus-server.md``.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import partial
from weakref import WeakValueDictionary

import anyio
import structlog
from anyio.streams.memory import MemoryObjectSendStream
from anyio.to_thread import run_sync
from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from outwatch.domain.errors import ObjectMissing
from outwatch.pipeline import incoming
from outwatch.pipeline.spool import MANIFEST_ROLE, Arrival, ArrivalState, Spool
from outwatch.pipeline.wiring import Pipeline

log = structlog.get_logger(__name__)

TUS_VERSION = "1.0.0"
CHUNK_TYPE = "application/offset+octet-stream"
READ_AHEAD = 16
"""Blocks of up to 256 kB that a connection holds in memory while the disk is busy. They are kept when the
link breaks; what the network layer still holds then is lost and comes again."""
CHECKSUM_MISMATCH = 460
"""From the protocol's checksum extension."""
GRACE_S = 0.2
"""For a connection whose turn ends, to hand over what arrived before its end, which may lie unread still."""
MAX_METADATA_VALUES = 32
MAX_DIGITS = 18
"""Of a number of bytes: it then fits 64 bits."""


class Turn:
    """One request's right to a file."""

    def __init__(self) -> None:
        self._reader: asyncio.Task[None] | None = None
        self._ended = False

    def end(self) -> None:
        """Let the request read what has arrived, and no more; what was read is still written."""
        self._ended = True
        if self._reader is not None:
            asyncio.get_running_loop().call_later(GRACE_S, self._reader.cancel)

    @asynccontextmanager
    async def reading(self, request: Request, *, idle_s: float) -> AsyncIterator[AsyncIterator[bytes]]:
        """Yield a request's body as it comes, read ahead until it ends, breaks, or this turn does."""
        send, receive = anyio.create_memory_object_stream[bytes](READ_AHEAD)
        reader = self._reader = asyncio.create_task(_read_ahead(request, send, idle_s=idle_s))
        # Not by the task itself: one that is cancelled before its first step never runs.
        reader.add_done_callback(lambda _: send.close())
        if self._ended:
            self.end()
        try:
            async with receive:
                yield receive
        finally:
            reader.cancel()
            await asyncio.wait([reader])
        if not reader.cancelled() and (error := reader.exception()) is not None:
            raise error


class Desk:
    """Who is sending which file; a newcomer for the same file takes over from a connection that broke.

    A broken link often leaves the server with a connection that looks alive. The client knows better: its
    next request for the file ends the old one, which first writes what it has read.
    """

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._turns: dict[str, Turn] = {}

    @asynccontextmanager
    async def turn(self, file_id: str) -> AsyncIterator[Turn]:
        """End who is at the file, and wait until they have written what they read."""
        lock = self._locks.setdefault(file_id, asyncio.Lock())
        if file_id in self._turns:
            self._turns[file_id].end()
        async with lock:
            turn = self._turns[file_id] = Turn()
            try:
                yield turn
            finally:
                del self._turns[file_id]


class TusServer:
    """The protocol over one spool.

    Args:
        pipeline: returns the pipeline in which files land, once it is open.
        spool: where they are kept on their way.
        wake: called when a file has come whole.
    """

    def __init__(self, pipeline: Callable[[], Pipeline], spool: Spool, *, wake: Callable[[], None]) -> None:
        self._pipeline, self._spool, self._wake = pipeline, spool, wake
        self._desk = Desk()

    def router(self) -> APIRouter:
        """Return the routes under ``/files/``."""
        router = APIRouter(prefix="/files", default_response_class=Response)
        for path in ("", "/"):
            router.add_api_route(path, self.options, methods=["OPTIONS"])
            router.add_api_route(path, self.create, methods=["POST"])
        router.add_api_route("/{file_id}", self.ask, methods=["HEAD"])
        router.add_api_route("/{file_id}", self.append, methods=["PATCH"])
        router.add_api_route("/{file_id}", self.end, methods=["DELETE"])
        router.add_api_route("/{file_id}", self.overridden, methods=["POST"])
        return router

    async def options(self) -> Response:
        """Say what is spoken here."""
        headers = {
            "Tus-Version": TUS_VERSION,
            "Tus-Extension": "creation,expiration,termination",
            "Tus-Max-Size": str(self._spool.limits.max_file_bytes),
        }
        return Response(status_code=204, headers={**_tus(), **headers})

    async def create(self, request: Request) -> Response:
        """Announce a file; one of a package that is known answers how much of it has come."""
        _check_version(request)
        size_bytes = _number(request, "Upload-Length")
        client = request.client.host if request.client else "unknown"
        try:
            file = await run_sync(
                partial(
                    incoming.announce,
                    self._spool,
                    _metadata(request.headers.get("Upload-Metadata", "")),
                    size_bytes=size_bytes,
                    client=client,
                    now=self._pipeline().now(),
                )
            )
        except ObjectMissing as error:
            return _refusal(409, str(error))
        async with self._desk.turn(file.id):
            offset = await run_sync(self._spool.offset, file)
            file = await self._taken_in(file, offset)
        if file.role == MANIFEST_ROLE and file.state is ArrivalState.CONFIRMED:
            offset = size_bytes  # the same package packed at another time: its manifest may differ in length
        location = f"{request.scope.get('root_path', '')}/files/{file.id}"
        headers = {"Location": location, "Upload-Offset": str(offset)}
        return Response(status_code=201, headers={**_tus(), **self._expires(file), **headers})

    async def ask(self, request: Request, file_id: str) -> Response:
        """Say how much of a file has come."""
        _check_version(request)
        async with self._desk.turn(file_id):
            file, offset = await run_sync(self._standing, file_id)
        headers = {
            "Upload-Offset": str(offset),
            "Upload-Length": str(file.size_bytes),
            "Cache-Control": "no-store",
        }
        return Response(status_code=200, headers={**_tus(), **self._expires(file), **headers})

    async def append(self, request: Request, file_id: str) -> Response:
        """Take the next bytes of a file, and keep what comes even if the rest does not."""
        _check_version(request)
        if request.headers.get("Content-Type") != CHUNK_TYPE:
            return _refusal(415, f"Content-Type must be {CHUNK_TYPE}")
        start = _number(request, "Upload-Offset")
        async with self._desk.turn(file_id) as turn:
            file, offset = await run_sync(self._standing, file_id)
            if offset != start:
                return _refusal(409, f"{offset} bytes of {file.path} are here, not {start}: go on from there")
            length = int(request.headers.get("Content-Length") or 0)
            if start + length > file.size_bytes:
                why = f"{start + length} bytes exceed the {file.size_bytes} announced for {file.path}"
                return _refusal(413, why)
            if offset < file.size_bytes:
                await run_sync(partial(self._spool.check_free, length, largest_bytes=file.size_bytes))
                offset = await _receive(request, self._spool, file, turn=turn)
            file = await self._taken_in(file, offset)
        if file.state is ArrivalState.REFUSED:
            return _refusal(CHECKSUM_MISMATCH, file.reason)
        headers = {"Upload-Offset": str(offset)}
        return Response(status_code=204, headers={**_tus(), **self._expires(file), **headers})

    async def end(self, request: Request, file_id: str) -> Response:
        """Forget a file, as its client asks."""
        _check_version(request)
        async with self._desk.turn(file_id):
            await run_sync(incoming.withdraw, self._spool, file_id)
        return Response(status_code=204, headers=_tus())

    async def overridden(self, request: Request, file_id: str) -> Response:
        """Do what the header says instead of POST: some networks let no PATCH through."""
        methods = {"PATCH": self.append, "HEAD": self.ask, "DELETE": self.end}
        method = methods.get(request.headers.get("X-HTTP-Method-Override", "").upper())
        return (
            await method(request, file_id) if method else _refusal(405, "POST to /files/ creates an upload")
        )

    async def _taken_in(self, file: Arrival, offset: int) -> Arrival:
        """Have a file read through if it has just come whole."""
        if offset < file.size_bytes or file.state is not ArrivalState.WAITING:
            return file
        file = await run_sync(incoming.take_in, self._pipeline(), self._spool, file.id)
        self._wake()
        return file

    def _standing(self, file_id: str) -> tuple[Arrival, int]:
        file = self._spool.file(file_id)
        if file.state is ArrivalState.REFUSED:
            raise ObjectMissing(file.reason)
        return file, self._spool.offset(file)

    def _expires(self, file: Arrival) -> dict[str, str]:
        """Return when a file is given up if nothing more comes."""
        if file.state is not ArrivalState.WAITING:
            return {}
        at = datetime.now(UTC) + self._spool.limits.keep_partial
        return {"Upload-Expires": format_datetime(at, usegmt=True)}


async def _receive(request: Request, spool: Spool, file: Arrival, *, turn: Turn) -> int:
    """Append a request's body to a file until it ends or breaks; return how much of the file is here."""
    writer = await run_sync(spool.open_part, file)
    try:
        async with turn.reading(request, idle_s=spool.limits.idle_s) as blocks:
            async for block in blocks:
                await run_sync(writer.write, block)
    finally:
        with anyio.CancelScope(shield=True):
            await run_sync(writer.close)
    return writer.offset


async def _read_ahead(request: Request, send: MemoryObjectSendStream[bytes], *, idle_s: float) -> None:
    """Pass a body on as it comes. Always ready to read, so that a break loses nothing that has arrived."""
    stream = request.stream()
    try:
        while True:
            async with asyncio.timeout(idle_s):
                block = await anext(stream)
            if block:
                await send.send(block)
    except StopAsyncIteration:
        return
    except (ClientDisconnect, TimeoutError) as error:
        log.info("upload_broken", path=request.url.path, why=type(error).__name__)


def _check_version(request: Request) -> None:
    if request.headers.get("Tus-Resumable") != TUS_VERSION:
        raise HTTPException(412, f"Tus-Resumable must be {TUS_VERSION}", headers={"Tus-Version": TUS_VERSION})


def _number(request: Request, name: str) -> int:
    text = request.headers.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        raise HTTPException(
            400, f"{name} must be a whole number of bytes, found {text[:40]!r}", headers=_tus()
        )
    return int(text)


def _metadata(header: str) -> dict[str, str]:
    """Return what ``Upload-Metadata`` says: pairs of a key and a value in Base64, separated by commas."""
    pairs = [pair.strip().partition(" ") for pair in header.split(",") if pair.strip()]
    if len(pairs) > MAX_METADATA_VALUES:
        raise HTTPException(
            400, f"Upload-Metadata has {len(pairs)} values, at most {MAX_METADATA_VALUES} are read"
        )
    try:
        return {key: base64.b64decode(value, validate=True).decode() for key, _, value in pairs}
    except ValueError as error:
        raise HTTPException(400, "Upload-Metadata must be keys with values in Base64 of UTF-8") from error


def _tus() -> dict[str, str]:
    return {"Tus-Resumable": TUS_VERSION}


def _refusal(code: int, why: str) -> Response:
    # Closed, so that a client that is sending stops: what it sends would be thrown away.
    return JSONResponse({"error": why}, status_code=code, headers={**_tus(), "Connection": "close"})
