"""The upload server: the protocol, what it refuses, and what it keeps through crashes and full disks."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
import uvicorn

from ingest.courier.package import LeftOut, Package, PackedFile, Role, _digest
from outwatch.console.app import create_app
from outwatch.pipeline import incoming, wiring
from outwatch.pipeline.spool import Parcel, Spool
from outwatch.pipeline.wiring import Pipeline
from outwatch.settings import IngestSettings, UploadSettings, load_settings
from storage.tables import FileState

AT = datetime(2026, 3, 14, 16, 40, tzinfo=UTC)
CLIP, LOG = b"a clip" * 5000, b"1\n00:00:00,000 --> 00:00:01,000\n[latitude: 33.5] [longitude: 71.4]\n"
TUS = {"Tus-Resumable": "1.0.0"}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def package_of(
    files: dict[str, bytes], *, left_out: tuple[LeftOut, ...] = (), operator: str = "Ali"
) -> Package:
    roles = {".MP4": Role.VIDEO, ".JPG": Role.PHOTO, ".SRT": Role.TELEMETRY}
    packed = tuple(
        PackedFile(path, sha256(data), len(data), AT, roles.get(Path(path).suffix, Role.TELEMETRY))
        for path, data in files.items()
    )
    return Package(packed, left_out, {"operator": operator}, AT)


class Client:
    """Speaks tus by hand, so that a test can say each thing wrong."""

    def __init__(self, url: str, **headers: str) -> None:
        self.http = httpx.Client(base_url=url, headers={**TUS, **headers}, trust_env=False, timeout=60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def create(self, size_bytes: int, **metadata: str) -> httpx.Response:
        """Announce a file."""
        said = ",".join(f"{key} {b64encode(text.encode()).decode()}" for key, text in metadata.items())
        return self.http.post("/files/", headers={"Upload-Length": str(size_bytes), "Upload-Metadata": said})

    def append(self, url: str, data: bytes, *, offset: int = 0, **headers: str) -> httpx.Response:
        """Send bytes of a file."""
        kind = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": str(offset)}
        return self.http.patch(url, content=data, headers={**kind, **headers})

    def put(self, data: bytes, **metadata: str) -> httpx.Response:
        """Announce a file and send it in one piece."""
        created = self.create(len(data), **metadata)
        assert created.status_code == 201, created.text
        return self.append(created.headers["Location"], data)

    def open_package(self, package: Package) -> httpx.Response:
        """Send a package's manifest."""
        return self.put(package.to_json(), filename="outwatch-package.json", package=package.id)

    def send_file(self, package: Package, path: str, data: bytes) -> httpx.Response:
        """Send a file of a package."""
        return self.put(data, filename=Path(path).name, package=package.id, path=path)

    def states(self, package: Package) -> dict[str, str]:
        """Return what the server says of each file."""
        answer = self.http.get(f"/uploads/{package.id}").json()
        return {file["path"]: file["state"] for file in answer["files"]}

    def wait_state(self, package: Package, path: str, state: str) -> None:
        """Wait until the server says so of a file."""
        deadline_s = time.monotonic() + 30
        while self.states(package)[path] != state:
            assert time.monotonic() < deadline_s, self.states(package)
            time.sleep(0.02)


class Station(Client):
    """A client, and the server's own folders to look into."""

    def __init__(self, url: str, home: Path, **headers: str) -> None:
        super().__init__(url, **headers)
        self.home = home

    def landed(self) -> list[str]:
        """Return the names of the files in ``landing/``, manifests of clips apart."""
        files = (self.home / "store" / "landing").rglob("*")
        return sorted(path.name for path in files if path.is_file() and path.suffix != ".json")

    def wait_landed(self, *names: str) -> None:
        """Wait until these and no others lie in ``landing/``."""
        deadline_s = time.monotonic() + 30
        while self.landed() != sorted(names):
            assert time.monotonic() < deadline_s, self.landed()
            time.sleep(0.02)

    def wait_part(self, size_bytes: int) -> None:
        """Wait until so much of the only file lies on the disk; asking the server would end its request."""
        deadline_s = time.monotonic() + 10
        while sizes := [part.stat().st_size for part in (self.home / "incoming").glob("*/1")] or [0]:
            if sizes == [size_bytes]:
                return
            assert time.monotonic() < deadline_s, sizes
            time.sleep(0.02)


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Callable[..., Station]]:
    """Start servers in this process, each with its ``uploads`` settings, and return a client of each."""
    with ExitStack() as running:

        def start(
            *,
            home: Path = tmp_path / "headquarters",
            authorization: str = "",
            min_free_bytes: int = 0,
            **limits: object,
        ) -> Station:
            uploads = UploadSettings(**limits)  # type: ignore[arg-type]
            ingest = IngestSettings(min_free_bytes=min_free_bytes)
            app = create_app(load_settings(home=home, uploads=uploads, ingest=ingest))
            server = uvicorn.Server(uvicorn.Config(app, port=0, loop="asyncio", log_level="error"))
            thread = threading.Thread(target=server.run)
            thread.start()
            running.callback(thread.join)
            running.callback(setattr, server, "should_exit", True)
            while not server.started:
                assert thread.is_alive(), "the server ended"
                time.sleep(0.01)
            port = server.servers[0].sockets[0].getsockname()[1]
            headers = {"Authorization": authorization} if authorization else {}
            return running.enter_context(Station(f"http://127.0.0.1:{port}", home, **headers))

        yield start


@pytest.fixture
def client(serving: Callable[..., Station]) -> Station:
    """Return a client of a server with generous limits."""
    return serving(max_file_bytes=1_000_000)


def test_it_says_what_it_speaks(client: Station) -> None:
    """Version, extensions and the largest file, as the protocol asks."""
    answer = client.http.options("/files/")
    assert answer.status_code == 204
    assert answer.headers["Tus-Version"] == "1.0.0"
    assert answer.headers["Tus-Extension"] == "creation,expiration,termination"
    assert answer.headers["Tus-Max-Size"] == "1000000"


def test_a_package_lands_clip_with_telemetry_and_its_declaration(client: Station) -> None:
    """The clip waits for its telemetry, both land as one upload, and the status says so."""
    package = package_of({"DCIM/DJI_1.MP4": CLIP, "DCIM/DJI_1.SRT": LOG})
    assert client.open_package(package).status_code == 204
    assert client.send_file(package, "DCIM/DJI_1.MP4", CLIP).status_code == 204
    assert client.states(package) == {"DCIM/DJI_1.MP4": "confirmed", "DCIM/DJI_1.SRT": "waiting"}
    assert client.send_file(package, "DCIM/DJI_1.SRT", LOG).status_code == 204
    client.wait_state(package, "DCIM/DJI_1.MP4", "landed")
    client.wait_state(package, "DCIM/DJI_1.SRT", "landed")
    (video,) = (client.home / "store" / "landing").rglob("DJI_1.MP4")
    assert video.read_bytes() == CLIP
    assert video.with_name("DJI_1.SRT").read_bytes() == LOG
    assert json.loads(video.with_name("DJI_1.outwatch.json").read_text()) == {"operator": "Ali"}


def test_a_changed_file_is_refused_by_name_and_may_come_again(client: Station) -> None:
    """460, the bytes in quarantine with the reason, and the second try is taken."""
    package = package_of({"DJI_1.MP4": CLIP})
    client.open_package(package)
    changed = CLIP[:-1] + b"?"
    answer = client.send_file(package, "DJI_1.MP4", changed)
    assert answer.status_code == 460
    assert "DJI_1.MP4 came whole" in answer.json()["error"]
    quarantined = client.home / "store" / "quarantine" / sha256(changed)
    assert (quarantined / "DJI_1.MP4").read_bytes() == changed
    assert "DJI_1.MP4 came whole" in json.loads((quarantined / "reason.json").read_text())["why"]
    assert client.states(package) == {"DJI_1.MP4": "refused"}
    assert client.send_file(package, "DJI_1.MP4", CLIP).status_code == 204
    client.wait_state(package, "DJI_1.MP4", "landed")


def test_a_wrong_declaration_is_refused_and_its_clip_lands_without(client: Station) -> None:
    """The sender hears of it at once, by name, and the clip waits for nothing."""
    wrong = b'{"camera": "no such camera"}'
    package = package_of({"DJI_1.MP4": CLIP, "DJI_1.outwatch.json": wrong})
    client.open_package(package)
    answer = client.send_file(package, "DJI_1.outwatch.json", wrong)
    assert answer.status_code == 460
    assert "no such camera" in answer.json()["error"]
    assert client.send_file(package, "DJI_1.MP4", CLIP).status_code == 204
    client.wait_state(package, "DJI_1.MP4", "landed")
    (video,) = (client.home / "store" / "landing").rglob("DJI_1.MP4")
    assert json.loads(video.with_name("DJI_1.outwatch.json").read_text()) == {"operator": "Ali"}


def test_asking_again_tells_how_much_came(client: Station) -> None:
    """Announcing a package's file twice is one upload, and answers its offset; so does HEAD."""
    package = package_of({"DJI_1.MP4": CLIP})
    client.open_package(package)
    said = {"filename": "DJI_1.MP4", "package": package.id, "path": "DJI_1.MP4"}
    first = client.create(len(CLIP), **said)
    assert first.headers["Upload-Offset"] == "0"
    client.append(first.headers["Location"], CLIP[:1000])
    second = client.create(len(CLIP), **said)
    assert (second.headers["Location"], second.headers["Upload-Offset"]) == (
        first.headers["Location"],
        "1000",
    )
    asked = client.http.head(first.headers["Location"])
    assert (asked.headers["Upload-Offset"], asked.headers["Upload-Length"]) == ("1000", str(len(CLIP)))
    assert asked.headers["Cache-Control"] == "no-store"


def test_what_came_of_a_broken_request_is_kept(client: Station) -> None:
    """Every byte that reached the server before the link broke counts."""
    url = client.create(100_000, filename="a.mp4").headers["Location"]
    break_off(client, url, b"x" * 70_000, announced=100_000)
    wait_offset(client, url, 70_000)
    assert client.append(url, b"x" * 30_000, offset=70_000).headers["Upload-Offset"] == "100000"


def test_a_newcomer_takes_over_from_a_dead_connection(client: Station) -> None:
    """A link that broke unseen keeps nobody out: HEAD ends it, and counts what it brought."""
    url = client.create(100_000, filename="a.mp4").headers["Location"]
    with dangling(client, url, b"x" * 60_000, announced=100_000):
        client.wait_part(60_000)
        started = time.monotonic()
        assert client.http.head(url).headers["Upload-Offset"] == "60000"
        assert client.append(url, b"x" * 40_000, offset=60_000).status_code == 204
        assert time.monotonic() - started < 3


def test_a_killed_server_knows_what_it_has(upload_server: Callable[..., Any]) -> None:
    """SIGKILL amid a request: after the restart the offset is what lies on the disk."""
    data = bytes(range(256)) * 1000
    server = upload_server()
    with Station(server.url, server.home) as client:
        url = client.create(len(data), filename="a.mp4", sha256=sha256(data)).headers["Location"]
        with dangling(client, url, data[:123_456], announced=len(data)):
            client.wait_part(123_456)
            server.kill()
        server.start()
        assert client.http.head(url).headers["Upload-Offset"] == "123456"
        assert client.append(url, data[123_456:], offset=123_456).status_code == 204
        client.wait_landed("a.mp4")
    (landed,) = (server.home / "store" / "landing").rglob("a.mp4")
    assert landed.read_bytes() == data


def test_a_connection_that_gives_nothing_is_ended(serving: Callable[..., Station]) -> None:
    """After ``idle_s`` the server answers with what it has."""
    client = serving(idle_s=0.3)
    url = client.create(100_000, filename="a.mp4").headers["Location"]
    with dangling(client, url, b"x" * 500, announced=100_000) as link:
        link.settimeout(20)
        answer = link.recv(4096)
    assert answer.startswith(b"HTTP/1.1 204")
    assert b"upload-offset: 500" in answer.lower()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Upload-Offset": "1"}, 409),
        ({"Upload-Offset": "-1"}, 400),
        ({"Upload-Offset": "²"}, 400),
        ({"Content-Type": "text/plain"}, 415),
        ({"Tus-Resumable": "0.2.0"}, 412),
    ],
)
def test_wrong_requests_are_told_apart(client: Station, headers: dict[str, str], status: int) -> None:
    """As the protocol says, with a reason in JSON, and without taking a byte."""
    url = client.create(10, filename="a.mp4").headers["Location"]
    sent = {name: text.encode() for name, text in headers.items()}
    answer = client.append(url, b"x" * 5, **sent)  # type: ignore[arg-type]
    assert answer.status_code == status
    assert answer.json()["error"]
    assert client.http.head(url).headers["Upload-Offset"] == "0"


def test_more_than_announced_is_refused(client: Station) -> None:
    """Before a byte of it is taken."""
    url = client.create(10, filename="a.mp4").headers["Location"]
    assert client.append(url, b"x" * 11).status_code == 413
    assert client.http.head(url).headers["Upload-Offset"] == "0"


def test_a_body_of_unknown_length_ends_at_the_announced_one(client: Station) -> None:
    """Without Content-Length the server counts itself."""
    url = client.create(10, filename="a.mp4").headers["Location"]
    kind = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
    answer = client.http.patch(url, content=iter([b"x" * 8, b"y" * 8]), headers=kind)
    assert answer.status_code == 422
    assert "more bytes came than the 10 that were announced" in answer.json()["error"]


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../../etc/passwd.mp4", "passwd.mp4"),
        ("C:\\DCIM\\DJI_1.MP4", "DJI_1.MP4"),
        ("/abs/clip.mp4", "clip.mp4"),
        ("ویڈیو.mp4", "ویڈیو.mp4"),
    ],
)
def test_a_name_is_a_name_and_no_path(client: Station, name: str, kept: str) -> None:
    """Whatever a client calls a file, it lands in landing/ under its last part."""
    assert client.put(CLIP, filename=name).status_code == 204
    client.wait_landed(kept)


@pytest.mark.parametrize("name", ["..", "a\x00.mp4", "a\n.mp4", "x" * 300 + ".mp4", "/"])
def test_a_name_that_is_none_is_refused(client: Station, name: str) -> None:
    """With a reason, before anything is kept."""
    answer = client.create(10, filename=name)
    assert answer.status_code == 422
    assert "name" in answer.json()["error"]
    assert client.create(10).status_code == 422
    assert client.http.get("/uploads").json() == []


@pytest.mark.parametrize("text", ["yesterday", "2026-03-14T16:40:00", "0001-01-01T00:00:00+14:00"])
def test_a_time_that_is_none_is_refused(client: Station, text: str) -> None:
    """Words, a time without its zone, and one before all calendars."""
    assert client.create(10, filename="a.mp4", modified_at=text).status_code == 422


def test_a_path_that_is_not_in_the_manifest_is_refused(client: Station) -> None:
    """So is one with another size, and a package whose manifest has not come."""
    package = package_of({"DJI_1.MP4": CLIP})
    said = {"filename": "DJI_1.MP4", "package": package.id, "path": "DJI_1.MP4"}
    assert client.create(len(CLIP), **said).status_code == 409
    client.open_package(package)
    assert client.create(len(CLIP), **{**said, "path": "../DJI_1.MP4"}).status_code == 422
    assert client.create(len(CLIP) + 1, **said).status_code == 422
    assert client.create(len(CLIP), **{**said, "package": "../../../../etc"}).status_code == 422
    assert client.http.head("/files/..%2F..%2Fetc%2Fpasswd").status_code == 404


def test_a_manifest_that_was_changed_is_refused(client: Station) -> None:
    """At once, by its digest, before any file is sent."""
    package = package_of({"DJI_1.MP4": CLIP})
    data = package.to_json().replace(b"Ali", b"Eve")
    answer = client.put(data, filename="outwatch-package.json", package=package.id)
    assert answer.status_code == 422
    assert "was changed after it was written" in answer.json()["error"]
    assert client.http.get("/uploads").json() == []


def test_a_declaration_that_is_none_is_refused_before_the_files(client: Station) -> None:
    """A misspelt camera is told while the operator is still there."""
    packed = package_of({"DJI_1.MP4": CLIP})
    package = Package(packed.files, (), {"camera": "no such camera"}, AT)
    answer = client.open_package(package)
    assert answer.status_code == 422
    assert "no such camera" in answer.json()["error"]


def test_an_upload_may_be_withdrawn(client: Station) -> None:
    """A file without a package is forgotten; a package's is not."""
    url = client.create(10, filename="a.mp4").headers["Location"]
    assert client.http.delete(url).status_code == 204
    assert client.http.head(url).status_code == 404
    package = package_of({"DJI_1.MP4": CLIP})
    client.open_package(package)
    said = {"filename": "DJI_1.MP4", "package": package.id, "path": "DJI_1.MP4"}
    assert client.http.delete(client.create(len(CLIP), **said).headers["Location"]).status_code == 422


def test_networks_without_patch_are_served(client: Station) -> None:
    """The protocol's X-HTTP-Method-Override does as well."""
    url = client.create(5, filename="a.mp4").headers["Location"]
    kind = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
    answer = client.http.post(url, content=b"12345", headers={**kind, "X-HTTP-Method-Override": "PATCH"})
    assert (answer.status_code, answer.headers["Upload-Offset"]) == (204, "5")


def test_an_empty_file_is_whole_when_it_is_announced(client: Station) -> None:
    """No PATCH ever comes for it."""
    assert client.create(0, filename="empty.mp4").status_code == 201
    client.wait_landed("empty.mp4")


def test_a_group_joins_telemetry_to_its_clip(client: Station) -> None:
    """Clients without packages send the telemetry first, under one group."""
    client.put(LOG, filename="DJI_1.SRT", group="flight 7")
    time.sleep(0.5)
    assert client.landed() == []
    client.put(CLIP, filename="DJI_1.MP4", group="flight 7")
    client.wait_landed("DJI_1.MP4", "DJI_1.SRT")
    (video,) = (client.home / "store" / "landing").rglob("DJI_1.MP4")
    assert video.with_name("DJI_1.SRT").is_file()


def test_a_token_is_asked_of_everyone(serving: Callable[..., Station]) -> None:
    """Before a byte is taken, also of this machine."""
    known = serving(token="geheim", authorization="Bearer geheim")
    assert known.create(10, filename="a.mp4").status_code == 201
    for shown in ({"Authorization": ""}, {"Authorization": "Bearer falsch"}):
        assert known.http.get("/uploads", headers=shown).status_code == 401
        assert known.http.post("/files/", headers=shown).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [{"X-Forwarded-For": "10.1.2.3"}, {"Origin": "https://evil.example"}, {"Host": "rebound.example"}],
)
def test_without_a_token_only_this_machine_may_come(client: Station, headers: dict[str, str]) -> None:
    """A proxy in front, a web page of elsewhere and a rebound name are not this machine."""
    assert client.http.get("/uploads", headers=headers).status_code == 401


def break_off(client: Station, url: str, data: bytes, *, announced: int) -> None:
    """Send the head of a request and close the connection amid its body."""
    with dangling(client, url, data, announced=announced) as link:
        link.shutdown(socket.SHUT_RDWR)


def dangling(client: Station, url: str, data: bytes, *, announced: int) -> socket.socket:
    """Return a connection that has sent a part of a PATCH and says no more."""
    link = socket.create_connection(("127.0.0.1", client.http.base_url.port or 80))
    head = (
        f"PATCH {url} HTTP/1.1\r\nHost: 127.0.0.1\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n"
        f"Content-Type: application/offset+octet-stream\r\nContent-Length: {announced}\r\n\r\n"
    )
    link.sendall(head.encode() + data)
    return link


def wait_offset(client: Station, url: str, offset: int) -> None:
    deadline_s = time.monotonic() + 10
    while (found := client.http.head(url).headers["Upload-Offset"]) != str(offset):
        assert time.monotonic() < deadline_s, found
        time.sleep(0.02)


def test_limits_refuse_before_a_byte_is_taken(serving: Callable[..., Station]) -> None:
    """A file, a number of files and a sum that are more than is ever taken: 413, with the setting's name."""
    client = serving(max_file_bytes=100, max_package_files=2, max_waiting_bytes=150)
    for size_bytes, files, said in (
        (101, 1, "uploads.max_file_bytes"),
        (10, 3, "uploads.max_package_files"),
        (80, 2, "uploads.max_waiting_bytes"),
    ):
        package = package_of({f"DJI_{number}.MP4": b"x" * size_bytes for number in range(files)})
        answer = client.open_package(package)
        assert answer.status_code == 413
        assert said in answer.json()["error"]
    assert client.create(101, filename="a.mp4").status_code == 413
    assert client.http.get("/uploads").json() == []


def test_too_much_at_once_waits(serving: Callable[..., Station]) -> None:
    """507 while others are on their way, and room again once they have come."""
    client = serving(max_packages=1)
    url = client.create(10, filename="a.mp4").headers["Location"]
    answer = client.create(10, filename="b.mp4")
    assert (answer.status_code, "1 packages are on their way" in answer.json()["error"]) == (507, True)
    client.append(url, b"x" * 10)
    client.wait_landed("a.mp4")
    assert client.create(10, filename="b.mp4").status_code == 201


def test_a_full_disk_refuses_new_work_and_keeps_what_it_has(
    serving: Callable[..., Station], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came stays, the client is told, and goes on once there is room."""
    client = serving(min_free_bytes=1000)
    url = client.create(100, filename="a.mp4").headers["Location"]
    client.append(url, b"x" * 40)
    usage = shutil.disk_usage(client.home)
    with monkeypatch.context() as full:
        full.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
        assert client.append(url, b"x" * 60, offset=40).status_code == 507
        refused = client.create(10, filename="b.mp4")
        assert (refused.status_code, "make room" in refused.json()["error"]) == (507, True)
        assert client.http.head(url).headers["Upload-Offset"] == "40"
    assert client.append(url, b"x" * 60, offset=40).status_code == 204
    client.wait_landed("a.mp4")


def test_room_is_left_for_what_came_to_land(
    serving: Callable[..., Station], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Landing copies: a disk that is full of what came could never be emptied again."""
    client = serving(min_free_bytes=1000)
    usage = shutil.disk_usage(client.home)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1199))
    assert client.create(100, filename="a.mp4").status_code == 507
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1200))
    assert client.create(100, filename="a.mp4").status_code == 201


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_disk_that_fills_midway_loses_nothing(
    serving: Callable[..., Station], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real small disk: the write that fails keeps what fitted, and the rest follows when there is room."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=10m", "tmpfs", disk], check=False)
    if mounted.returncode:
        pytest.skip("this machine lets nobody mount a tmpfs")
    try:
        client = serving(home=disk)
        data = bytes(range(256)) * 8000
        url = client.create(len(data), filename="a.mp4", sha256=sha256(data)).headers["Location"]
        ballast = disk / "ballast"
        ballast.write_bytes(b"x" * (shutil.disk_usage(disk).free - 1_000_000))
        with monkeypatch.context() as filling:  # as if it had been filled since it was looked at
            usage = shutil.disk_usage(disk)
            filling.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**9))
            answer = client.append(url, data)
        assert answer.status_code == 507
        assert "free some space; what came is kept" in answer.json()["error"]
        ballast.unlink()
        here = int(client.http.head(url).headers["Upload-Offset"])
        assert 0 < here <= 1_000_000
        assert client.append(url, data[here:], offset=here).status_code == 204
        client.wait_landed("a.mp4")
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_several_clients_at_once_do_not_mix(client: Station) -> None:
    """Each file has its own bytes, and each lands once."""
    contents = {f"clip{number}.mp4": bytes([number]) * 200_000 for number in range(6)}
    with ThreadPoolExecutor(6) as pool:
        answers = pool.map(lambda item: client.put(item[1], filename=item[0]).status_code, contents.items())
        assert list(answers) == [204] * 6
    client.wait_landed(*contents)
    for path in (client.home / "store" / "landing").rglob("*.mp4"):
        assert path.read_bytes() == contents[path.name]


def test_what_is_on_its_way_is_listed(client: Station) -> None:
    """With its bytes, until it has landed whole."""
    package = package_of({"A.MP4": CLIP, "A.SRT": LOG})
    client.open_package(package)
    client.send_file(package, "A.SRT", LOG)
    (row,) = client.http.get("/uploads").json()
    assert (row["id"], row["client"], row["declared"]) == (package.id, "127.0.0.1", {"operator": "Ali"})
    assert (row["size_bytes"], row["received_bytes"]) == (len(CLIP) + len(LOG), len(LOG))
    assert [file["state"] for file in row["files"]] == ["waiting", "confirmed"]
    client.send_file(package, "A.MP4", CLIP)
    client.wait_state(package, "A.MP4", "landed")
    client.wait_state(package, "A.SRT", "landed")
    assert client.http.get("/uploads").json() == []


def test_one_package_stops_no_other(client: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is wrong with one, those after it land."""
    landing, first = incoming.hand_over, package_of({"A.MP4": CLIP})

    def broken(pipeline: Pipeline, spool: Spool, parcel: Parcel, **how: bool) -> Counter[str]:
        if parcel.id == first.id:
            raise ValueError("nobody thought of this")
        return landing(pipeline, spool, parcel, **how)

    monkeypatch.setattr(incoming, "hand_over", broken)
    for package in (first, package_of({"B.MP4": CLIP * 2})):
        client.open_package(package)
        client.send_file(package, package.files[0].path, CLIP * (1 if package is first else 2))
    client.wait_landed("B.MP4")


def test_a_file_dated_in_the_future_does_not_keep_its_package_for_ever(client: Station) -> None:
    """A part takes its file's time to land; a camera's wrong clock must not be taken for progress."""
    made = client.put(CLIP, filename="a.mp4", group="flight 7", modified_at="2099-01-01T00:00:00Z")
    assert made.status_code == 204
    client.wait_landed("a.mp4")
    spool = incoming.open_spool(load_settings(home=client.home))
    (parcel,) = spool.parcels()
    part = spool.part(parcel.files[0])
    part.write_bytes(b"")
    os.utime(part, (4_070_908_800, 4_070_908_800))
    assert spool.moved_at(parcel) <= datetime.now(UTC)


@pytest.mark.parametrize("operator", ["\ud800", "a\0b"])
def test_a_declaration_that_cannot_be_kept_is_refused(operator: str, client: Station) -> None:
    """It would break every attempt to land what it declares."""
    package = package_of({"A.MP4": CLIP}, operator=operator)
    body = package._body() | {"id": package.id}
    data = json.dumps(body | {"digest": _digest(body)}).encode()
    assert client.put(data, filename="outwatch-package.json", package=package.id).status_code == 422


def test_what_makes_no_progress_is_given_up_and_reported(client: Station) -> None:
    """The bytes go, and each file that did not come has its row and its reason."""
    package = package_of(
        {"A.MP4": CLIP, "B.MP4": CLIP * 2},
        left_out=(LeftOut("FLY001.DAT", 77, "an aircraft's own log"),),
    )
    client.open_package(package)
    said = {"filename": "B.MP4", "package": package.id, "path": "B.MP4"}
    client.append(client.create(len(CLIP) * 2, **said).headers["Location"], CLIP)
    settings = load_settings(home=client.home)
    with wiring.open_pipeline(settings) as pipeline:
        assert incoming.settle_incoming(pipeline) == {}
        pipeline.now = lambda: datetime.now(UTC) + settings.uploads.keep_partial + timedelta(hours=1)
        assert settled(pipeline) == {"incoming_abandoned": 2}
        rows = {file.name: file for upload in pipeline.ledger.uploads() for file in upload.files}
    assert client.http.get("/uploads").json() == []
    assert not (client.home / "incoming" / package.id).exists()
    assert (rows["A.MP4"].outcome, rows["B.MP4"].outcome) == (FileState.ABANDONED, FileState.ABANDONED)
    assert rows["B.MP4"].reason is not None
    assert rows["B.MP4"].reason.startswith("only 0.0 of 0.1 MB came by 20")
    assert rows["B.MP4"].reason.endswith("UTC; hand it in again")
    assert rows["FLY001.DAT"].outcome is FileState.SET_ASIDE
    assert rows["FLY001.DAT"].reason == "left out at the station: an aircraft's own log"


def settled(pipeline: Pipeline) -> dict[str, int]:
    """Settle what is to be settled, as soon as the server is not at it itself."""
    deadline_s = time.monotonic() + 30
    while not (counts := incoming.settle_incoming(pipeline)):
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    return counts


def test_what_came_whole_lands_though_the_rest_was_given_up(client: Station) -> None:
    """A clip whose telemetry never came is worth having."""
    package = package_of({"A.MP4": CLIP, "A.SRT": LOG})
    client.open_package(package)
    client.send_file(package, "A.MP4", CLIP)
    settings = load_settings(home=client.home)
    with wiring.open_pipeline(settings) as pipeline:
        pipeline.now = lambda: datetime.now(UTC) + settings.uploads.keep_partial + timedelta(hours=1)
        assert settled(pipeline) == {"incoming_landed": 1, "incoming_abandoned": 1}
        rows = {file.name: file for upload in pipeline.ledger.uploads() for file in upload.files}
    assert client.landed() == ["A.MP4"]
    assert rows["A.SRT"].outcome is FileState.ABANDONED


def test_a_log_that_clips_share_lands_with_each(client: Station) -> None:
    """It stays until the last clip has it."""
    files = {"flight.gpx": b"<gpx/>", "A.MP4": CLIP, "B.MP4": CLIP * 2}
    roles = {"flight.gpx": Role.TELEMETRY}
    packed = tuple(
        PackedFile(path, sha256(data), len(data), AT, roles.get(path, Role.VIDEO))
        for path, data in files.items()
    )
    package = Package(packed, (), {}, AT)
    client.open_package(package)
    for path, data in files.items():
        client.send_file(package, path, data)
    for path in files:
        client.wait_state(package, path, "landed")
    client.wait_landed("A.MP4", "B.MP4", "flight.gpx", "flight.gpx")


def test_files_that_came_whole_before_a_crash_land_after_it(client: Station) -> None:
    """The sweep finds what a killed server had no time to read through and hand over."""
    url = client.create(len(CLIP), filename="a.mp4").headers["Location"]
    (folder,) = (client.home / "incoming").glob("*/")
    (folder / "1").write_bytes(CLIP)
    with wiring.open_pipeline(load_settings(home=client.home)) as pipeline:
        assert settled(pipeline) == {"incoming_landed": 1}
        assert incoming.settle_incoming(pipeline) == {}
    assert client.http.head(url).headers["Upload-Offset"] == str(len(CLIP))
    assert client.landed() == ["a.mp4"]
