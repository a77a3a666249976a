"""The sender against a real server that refuses, forgets, changes and falls silent."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ingest.courier import send
from ingest.courier.pack import Packed
from ingest.courier.package import Package, PackedFile, Role
from ingest.courier.send import Progress, Sender, connect
from outwatch.domain.errors import (
    AccessDenied,
    ConfigInvalid,
    PackageRefused,
    PackageTooLarge,
    UploadInterrupted,
)

AT = datetime(2026, 3, 14, 16, 40, tzinfo=UTC)
CLIP = bytes(range(256)) * 4096
Answer = tuple[int, dict[str, str], dict[str, Any]]


class Server:
    """A tus server in memory; ``bend`` returns another answer, "cut" for none, or None for the true one."""

    def __init__(self) -> None:
        self.url = ""
        self.came: dict[str, bytearray] = {}
        self.states: dict[str, str] = {}
        self.log: list[str] = []
        self.bend: Callable[[str, str], Answer | str | None] = lambda *_: None
        self.keeps: int | None = None

    def answer(self, method: str, path: str, headers: Any, body: bytes) -> Answer:
        """Return status, headers and JSON."""
        if method == "POST":
            key = dict(pair.split(" ") for pair in headers["Upload-Metadata"].split(","))["filename"]
            part = self.came.setdefault(key.rstrip("="), bytearray())
            return 201, {"Location": f"/files/{key.rstrip('=')}", "Upload-Offset": str(len(part))}, {}
        if method == "PATCH":
            part = self.came[path.rpartition("/")[2]]
            assert int(headers["Upload-Offset"]) == len(part)
            part += body
            return 204, {"Upload-Offset": str(len(part))}, {}
        size = len(self.came.get("Y2xpcC5tcDQ", b""))
        state = self.states.get("clip.mp4") or ("confirmed" if size == len(CLIP) else "waiting")
        file = {
            "path": "clip.mp4",
            "state": state,
            "received_bytes": size,
            "size_bytes": len(CLIP),
            "reason": "odd",
        }
        return 200, {}, {"files": [file]}


@contextmanager
def listening(server: Server) -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self) -> None:
            server.log.append(f"{self.command} {self.path}")
            bent = server.bend(self.command, self.path)
            length = int(self.headers.get("Content-Length") or 0)
            if bent == "cut":
                if server.keeps is not None:
                    server.came[self.path.rpartition("/")[2]] += self.rfile.read(server.keeps)
                self.close_connection = True
                return
            body = self.rfile.read(length)
            code, headers, data = bent or server.answer(self.command, self.path, self.headers, body)  # type: ignore[misc]
            text = json.dumps(data).encode() if data else b""
            self.send_response(code)
            for name, value in {**headers, "Content-Length": str(len(text))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text)

        do_POST = do_PATCH = do_GET = _do  # noqa: N815  names of the standard library's

        def log_message(self, *_: object) -> None:
            """Keep the test's output for the test."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    """Return a listening server."""
    with listening(Server()) as running:
        yield running


@pytest.fixture
def packed(tmp_path: Path) -> Packed:
    """Return a package of one clip."""
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(CLIP)
    package = Package((PackedFile("clip.mp4", "0" * 64, len(CLIP), AT, Role.VIDEO),), (), {}, AT)
    return Packed(package, {"clip.mp4": clip})


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait shorter than a real station does."""
    monkeypatch.setattr(send, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(send, "LONGEST_PAUSE_S", 0.01)
    monkeypatch.setattr(send, "POLL_S", 0.001)


def sent(server: Server, packed: Packed, **options: Any) -> None:
    with connect(server.url, token="geheim") as http:
        Sender(http, **options).send(packed)


def test_the_manifest_goes_first_and_all_arrives(server: Server, packed: Packed) -> None:
    """Then the server is asked, and says that the hash is right."""
    seen: list[Progress] = []
    sent(server, packed, watch=seen.append)
    assert [entry.partition(" ")[0] for entry in server.log[:3]] == ["POST", "PATCH", "GET"]
    assert bytes(server.came["Y2xpcC5tcDQ"]) == CLIP
    assert (seen[-1].done_bytes, seen[-1].total_bytes) == (len(CLIP), len(CLIP))


def test_pieces_shrink_where_a_break_leaves_nothing(
    server: Server, packed: Packed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that holds requests back until they are whole lets only short ones through."""
    monkeypatch.setattr(send, "LEAST_PIECE_BYTES", 1000)
    tried: list[int] = []

    class Strict(Server):
        def answer(self, method: str, path: str, headers: Any, body: bytes) -> Answer:
            if method == "PATCH":
                tried.append(len(body))
                if len(body) > 100_000:
                    return 502, {}, {"error": "too long for the proxy"}
            return super().answer(method, path, headers, body)

    with listening(Strict()) as strict:
        sent(strict, packed)
        assert bytes(strict.came["Y2xpcC5tcDQ"]) == CLIP
    assert max(tried) > 100_000 > min(tried)


def test_a_break_goes_on_from_what_the_server_kept(server: Server, packed: Packed) -> None:
    """Not a byte of it is sent again."""
    cuts = iter(["cut"] * 3)
    server.keeps = 100_000
    server.bend = lambda method, path: (
        next(cuts, None) if (method, path) == ("PATCH", "/files/Y2xpcC5tcDQ") else None
    )
    sent(server, packed)
    assert bytes(server.came["Y2xpcC5tcDQ"]) == CLIP


def test_it_gives_up_where_it_is_told_to(server: Server, packed: Packed) -> None:
    """With what to do; else it goes on for ever."""
    server.bend = lambda method, _: (503, {}, {"error": "closed for repair"}) if method == "PATCH" else None
    with pytest.raises(UploadInterrupted, match=r"no progress.*closed for repair.*run the same command"):
        sent(server, packed, give_up_after=timedelta(seconds=0.2))


def test_a_file_that_arrives_changed_is_sent_again_three_times(server: Server, packed: Packed) -> None:
    """Then the operator is told to look at the card."""
    server.states["clip.mp4"] = "refused"
    with pytest.raises(PackageRefused, match=r"clip.mp4 arrived changed 3 times \(odd\): check the card"):
        sent(server, packed)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (401, AccessDenied),
        (403, AccessDenied),
        (404, ConfigInvalid),
        (301, ConfigInvalid),
        (413, PackageTooLarge),
        (422, PackageRefused),
    ],
)
def test_answers_that_stay_are_told_at_once(
    server: Server, packed: Packed, code: int, error: type[Exception]
) -> None:
    """They are not tried again: a person must act."""
    server.bend = lambda *_: (code, {}, {"error": "no"})
    with pytest.raises(error):
        sent(server, packed)
    assert len(server.log) == 1


def test_a_server_of_another_kind_is_told(server: Server, packed: Packed) -> None:
    """Nothing is sent to it."""
    server.bend = lambda *_: (200, {}, {"hello": "world"})
    with pytest.raises(ConfigInvalid, match="no Outwatch upload server"):
        sent(server, packed)


def test_a_package_that_the_server_forgot_is_announced_again(server: Server, packed: Packed) -> None:
    """It may have given it up while the station had no link for a week."""
    answers = iter([(409, {}, {"error": "send outwatch-package.json first"})])

    def bend(method: str, path: str) -> Answer | None:
        return next(answers, None) if method == "POST" and len(server.log) > 3 else None

    server.bend = bend
    sent(server, packed)
    assert bytes(server.came["Y2xpcC5tcDQ"]) == CLIP
    assert [entry for entry in server.log if entry.startswith("POST")] == ["POST /files/"] * 4


def test_a_file_that_changed_since_it_was_packed_is_not_sent(server: Server, packed: Packed) -> None:
    """The operator runs the command again, which packs it anew."""
    packed.sources["clip.mp4"].write_bytes(CLIP[:-1])
    with pytest.raises(PackageRefused, match="changed since it was packed"):
        sent(server, packed)


def test_a_url_that_is_none_is_told() -> None:
    """Before anything is read."""
    with pytest.raises(ConfigInvalid, match="expected a URL"):
        connect("headquarters.example", token="")
