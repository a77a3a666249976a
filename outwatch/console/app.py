"""The web application: who may come in, what each error answers, and the pipeline it works with.

Belongs here: building the application and what all its routes share. Not here: any route's own work.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import structlog
from anyio.to_thread import run_sync
from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from outwatch.console.uploads import TUS_VERSION, TusServer
from outwatch.domain.errors import (
    AccessDenied,
    NoRoom,
    ObjectMissing,
    OutwatchError,
    PackageRefused,
    PackageTooLarge,
    PermanentError,
    TransientError,
    UploadInterrupted,
)
from outwatch.domain.hosts import is_loopback
from outwatch.pipeline import incoming
from outwatch.pipeline.wiring import Pipeline, open_pipeline
from outwatch.settings import Settings

log = structlog.get_logger(__name__)

SETTLE_EVERY_S = 60.0
"""What no request woke us for: files that came whole before a restart, waits that ended."""
ANSWERS: tuple[tuple[type[OutwatchError], int], ...] = (
    (AccessDenied, 401),
    (PackageTooLarge, 413),
    (PackageRefused, 422),
    (NoRoom, 507),
    (UploadInterrupted, 423),
    (ObjectMissing, 404),
    (TransientError, 503),
    (PermanentError, 422),
)
"""The error tree as HTTP: the first that fits."""


class Office:
    """What the routes work with while the application runs."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pipeline: Pipeline | None = None
        self.spool = incoming.open_spool(settings)
        self.woken = asyncio.Event()

    @property
    def pipeline(self) -> Pipeline:
        """Return the pipeline, which is open as long as the application runs."""
        if self._pipeline is None:
            raise RuntimeError("the application is not running")
        return self._pipeline

    @asynccontextmanager
    async def running(self, _: FastAPI) -> AsyncIterator[None]:
        """Open the pipeline, and hand over what has come until the application ends."""
        with open_pipeline(self._settings) as self._pipeline:
            settling = asyncio.create_task(self._settle())
            try:
                yield
            finally:
                settling.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await settling

    async def _settle(self) -> None:
        while True:
            self.woken.clear()
            try:
                await run_sync(incoming.settle_incoming, self.pipeline)
            except Exception:
                # The next turn tries again; uploads go on meanwhile.
                log.exception("settling_failed")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_EVERY_S):
                    await self.woken.wait()


def create_app(settings: Settings) -> FastAPI:
    """Return the application: resumable uploads at ``/files/``, what is on its way at ``/uploads``."""
    office = Office(settings)
    guard = [Depends(_guard(settings.uploads.token.get_secret_value()))]
    app = FastAPI(title="Outwatch", lifespan=office.running, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_exception_handler(OutwatchError, _answer)
    app.add_exception_handler(HTTPException, _answer_http)
    tus = TusServer(lambda: office.pipeline, office.spool, wake=office.woken.set)
    app.include_router(tus.router(), dependencies=guard)

    @app.get("/uploads", dependencies=guard)
    def uploads() -> list[dict[str, Any]]:
        return incoming.arrivals(office.pipeline)

    @app.get("/uploads/{package}", dependencies=guard)
    def upload(package: str) -> dict[str, Any]:
        return incoming.arrival(office.spool, package)

    return app


def _guard(token: str) -> Callable[[Request], None]:
    """Return the check of every request: by token, or without one by coming from this machine."""

    def check(request: Request) -> None:
        if token:
            shown = request.headers.get("Authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(shown.encode(), token.encode()):
                raise AccessDenied(
                    "the token is missing or wrong: send Authorization: Bearer <uploads.token>"
                )
        elif not _is_local(request):
            raise AccessDenied("without uploads.token only this machine may upload: set one on the server")

    return check


def _is_local(request: Request) -> bool:
    """Tell whether a request comes from this machine, and not through a proxy or a web page of elsewhere."""
    client = request.client.host if request.client else ""
    origin = request.headers.get("Origin", "").partition("://")[2]
    forwarded = "Forwarded" in request.headers or "X-Forwarded-For" in request.headers
    foreign = forwarded or origin not in {"", request.headers.get("Host")}
    return not foreign and is_loopback(client) and is_loopback(request.url.hostname or "")


async def _answer(_: Request, error: Exception) -> Response:
    code = next((code for kind, code in ANSWERS if isinstance(error, kind)), 500)
    # Closed, so that a client that is sending stops: what it sends would be thrown away.
    headers = {"Connection": "close", "Tus-Resumable": TUS_VERSION}
    return JSONResponse({"error": str(error)}, status_code=code, headers=headers)


async def _answer_http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for nothing else
    headers = {"Connection": "close", "Tus-Resumable": TUS_VERSION, **(error.headers or {})}
    return JSONResponse({"error": error.detail}, status_code=error.status_code, headers=headers)
