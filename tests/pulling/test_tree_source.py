"""Every way to a place gives the same files, whole or not at all, and stays within bounds."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ingest.sources import tree
from ingest.sources.http import MAX_PAGE_BYTES, HttpTree
from ingest.sources.tree import TreeSource
from outwatch.domain.errors import AccessDenied, ConfigInvalid, FeedTimeout, ObjectMissing
from outwatch.domain.ports import FootageSource, RemoteFile
from outwatch.settings import PullSource

AT = datetime(2026, 3, 14, 16, 40, 7, tzinfo=UTC)
Opener = Callable[[PullSource], FootageSource]


def fill(folder: Path, **files: bytes) -> None:
    """Write files, ``__`` standing for a slash and ``_dot_`` for a dot, all as old as ``AT``."""
    for name, data in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (AT.timestamp(), AT.timestamp()))


def listed(source: FootageSource) -> dict[str, RemoteFile]:
    """Return what a source lists, by path."""
    return {file.path: file for file in source.list()}


def test_lists_and_fetches_what_is_there(place, opened: Opener, tmp_path: Path) -> None:
    """Files of all folders are listed with size and time, and fetched with content and time."""
    data = os.urandom(700_000)
    fill(
        place.folder, DJI_0001_dot_MP4=data, **{"day 1__کلپ_dot_SRT": b"telemetry", "day 1__x_dot_txt": b"?"}
    )
    source = opened(place.source(include=("*.mp4", "*.srt")))
    found = listed(source)
    assert {"DJI_0001.MP4": 700_000, "day 1/کلپ.SRT": 9} == {path: f.size_bytes for path, f in found.items()}
    for file in found.values():
        path = tmp_path / Path(file.path).name
        source.fetch(file, path)
        assert (place.folder / file.path).read_bytes() == path.read_bytes()
        assert AT == file.modified_at
        assert AT.timestamp() == path.stat().st_mtime
        assert file == source.stat(file.path)


@pytest.mark.parametrize("kind", ["folder", "sftp"])  # other servers resolve links before we see them
def test_links_and_hidden_folders_are_left_out(kind: str, place_of, opened: Opener, tmp_path: Path) -> None:
    """What a link or a hidden folder holds is not taken, wherever it leads."""
    place = place_of(kind)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret.mp4").write_bytes(b"secret")
    fill(place.folder, good_dot_mp4=b"good", _dot_trash__old_dot_mp4=b"old")
    (place.folder / "linked.mp4").symlink_to(tmp_path / "elsewhere" / "secret.mp4")
    (place.folder / "linked").symlink_to(tmp_path / "elsewhere")
    assert {"good.mp4"} == set(listed(opened(place.source())))


def test_a_folder_that_cannot_be_read_stops_no_other(place_of, opened: Opener, tmp_path: Path) -> None:
    """A folder that the server refuses is told with its reason; the rest is listed."""
    place = place_of("ftp")
    fill(place.folder, good_dot_mp4=b"good")
    (place.folder / "outside").symlink_to(tmp_path)  # which pyftpdlib lists as a folder, and refuses
    source = opened(place.source())
    assert {"good.mp4"} == set(listed(source))
    assert {"outside"} == set(source.skipped)


def test_a_broken_fetch_goes_on_where_it_stopped(place, opened: Opener, tmp_path: Path) -> None:
    """Bytes that an earlier fetch got are not fetched again where the server can begin amid a file."""
    data = os.urandom(1 << 20)
    fill(place.folder, a_dot_mp4=data)
    source = opened(place.source())
    (file,) = source.list()
    # Other bytes than the file's show which of them came from here.
    (tmp_path / "a.mp4.partial").write_bytes(b"\0" * 400_000)
    source.fetch(file, tmp_path / "a.mp4")
    starts_over = place.kind in {"http_plain", "ftp_old"}
    expected = data if starts_over else b"\0" * 400_000 + data[400_000:]
    assert expected == (tmp_path / "a.mp4").read_bytes()
    assert not (tmp_path / "a.mp4.partial").exists()


def test_a_file_that_vanished_is_missing(place, opened: Opener, tmp_path: Path) -> None:
    """A file that was removed after the listing is told as such, and nothing is left of it."""
    fill(place.folder, a_dot_mp4=b"data", b_dot_mp4=b"more")
    source = opened(place.source())
    found = listed(source)
    (place.folder / "a.mp4").unlink()
    with pytest.raises(ObjectMissing, match=r"a\.mp4"):
        source.fetch(found["a.mp4"], tmp_path / "a.mp4")
    assert not (tmp_path / "a.mp4").exists()
    source.fetch(found["b.mp4"], tmp_path / "b.mp4")
    assert b"more" == (tmp_path / "b.mp4").read_bytes()


@pytest.mark.parametrize("now_bytes", [300_000, 900_000])
def test_another_size_than_listed_is_no_file(place, opened: Opener, tmp_path: Path, now_bytes: int) -> None:
    """A file that shrank or grew after the listing is not kept, whichever end lies."""
    fill(place.folder, a_dot_mp4=os.urandom(500_000))
    source = opened(place.source())
    (file,) = source.list()
    fill(place.folder, a_dot_mp4=os.urandom(now_bytes))
    if place.kind == "s3" and now_bytes > 500_000:
        source.fetch(file, tmp_path / "a.mp4")  # reads what was listed; the caller looks again
        assert file != source.stat("a.mp4")
        return
    with pytest.raises(FeedTimeout, match="listed 500000 bytes"):
        source.fetch(file, tmp_path / "a.mp4")
    assert [] == list(tmp_path.iterdir())


def test_a_hostile_path_is_never_fetched(place, opened: Opener, tmp_path: Path) -> None:
    """A path that climbs, or holds what it must not, goes neither to the server nor to the disk."""
    source = opened(place.source())
    for path in ("../up.mp4", "/etc/passwd", "a/../../b.mp4", "line\r\nDELE x.mp4", "\u202e4pm.exe", "a\\b"):
        with pytest.raises(ConfigInvalid, match="is not fetched"):
            source.fetch(RemoteFile(path, 1, None), tmp_path / "x")
    assert [] == list(tmp_path.iterdir())


def test_a_run_ends_in_time(place, opened: Opener, tmp_path: Path) -> None:
    """A source on which a run has spent all its time is left, and says how to go on."""
    fill(place.folder, a_dot_mp4=b"data")
    source = opened(place.source(max_run="PT0.000001S"))
    with pytest.raises(FeedTimeout, match="max_run"):
        list(source.list())


def test_too_many_files_are_refused(place, opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing without end is ended, and says what to narrow."""
    monkeypatch.setattr(tree, "MAX_FILES", 3)
    monkeypatch.setattr("ingest.sources.store_source.MAX_FILES", 3)
    fill(place.folder, **{f"f{number}_dot_mp4": b"x" for number in range(4)})
    with pytest.raises(ConfigInvalid, match="narrow"):
        list(opened(place.source()).list())


@pytest.mark.parametrize("kind", ["sftp", "ftp", "http_ranges", "s3"])
def test_a_wrong_login_is_denied(kind: str, place_of, opened: Opener, tmp_path: Path) -> None:
    """Refused credentials are told from a server that does not answer."""
    place = place_of(kind)
    wrong: dict[str, object] = {"password": "wrong"}
    if kind == "sftp":
        wrong = {"key_file": place.settings["key_file"].with_name("other")}
    with pytest.raises(AccessDenied):
        list(opened(place.source(**wrong)).list())


@pytest.mark.parametrize("scheme", ["sftp", "ftp", "http", "s3"])
def test_a_silent_server_is_given_up(scheme: str, opened: Opener) -> None:
    """A server that takes the connection and says nothing is given up after the time-out."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = f"127.0.0.1:{silent.getsockname()[1]}"
        url = f"s3://bucket?endpoint=http://{where}" if scheme == "s3" else f"{scheme}://{where}/"
        source = PullSource(name="silent", url=url, user="u", password="p", insecure=True, timeout_s=0.3)
        began = time.monotonic()
        with pytest.raises(FeedTimeout):
            list(opened(source).list())
        assert time.monotonic() - began < 10


def test_sftp_refuses_another_host_key(place_of, opened: Opener) -> None:
    """A server that proves itself by another key than the declared one is not told who we are."""
    place = place_of("sftp")
    other = place.settings["key_file"].with_name("other.pub").read_text()
    for known_host in (other, "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"):
        with pytest.raises(AccessDenied, match="which is not known_host"):
            list(opened(place.source(known_host=known_host)).list())


def test_sftp_knows_a_host_by_its_fingerprint_or_scan(place_of, opened: Opener) -> None:
    """A fingerprint and a line of ``ssh-keyscan`` both name the server's key."""
    place = place_of("sftp")
    public = place.settings["key_file"].with_name("host.pub")
    told = subprocess.run(["ssh-keygen", "-lf", public], capture_output=True, text=True, check=True).stdout
    scanned = f"127.0.0.1 {public.read_text()}"
    for known_host in (told.split()[1], scanned):
        assert [] == list(opened(place.source(known_host=known_host)).list())
    with pytest.raises(ConfigInvalid, match="ssh-keyscan"):
        list(opened(place.source(known_host="not a key")).list())


def test_ftp_reads_names_of_another_encoding(place_of, opened: Opener) -> None:
    """One name that is no UTF-8 hides no other file; it is listed, for the plan to refuse."""
    place = place_of("ftp")
    fill(place.folder, good_dot_mp4=b"good")
    Path(os.fsdecode(os.fsencode(place.folder) + b"/caf\xe9.mp4")).write_bytes(b"x")
    assert {"good.mp4", "caf\udce9.mp4"} == set(listed(opened(place.source())))


@contextmanager
def web_server(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Run a web server that answers as told, and give its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/files/"
        finally:
            server.shutdown()
            thread.join()


class Quiet(BaseHTTPRequestHandler):
    """Answers HEAD and GET with what ``answer`` gives, and logs nothing."""

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body."""
        raise NotImplementedError

    def do_GET(self) -> None:
        """Give the answer, without its body where only the head is asked for."""
        status, headers, body = self.answer()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        """Give the answer's head."""
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Keep the tests' output for the tests."""


def web_source(url: str) -> TreeSource:
    """Return a source of all MP4 files under a URL."""
    return TreeSource("web", HttpTree(url, timeout_s=2), include=("*.mp4",), max_run_s=60)


@pytest.mark.parametrize(("said", "sent"), [(1000, 600), (600, 1000)])
def test_a_lying_content_length_gives_no_file(said: int, sent: int, tmp_path: Path) -> None:
    """A body shorter or longer than the length that was listed is not kept."""

    class Liar(Quiet):
        def answer(self) -> tuple[int, dict[str, str], bytes]:
            length = said if self.command == "HEAD" else sent
            return 200, {"Content-Length": str(length)}, b"x" * sent

    with web_server(Liar) as url:
        source = web_source(url)
        with pytest.raises(FeedTimeout, match=f"listed {said} bytes"):
            source.fetch(source.stat("a.mp4"), tmp_path / "a.mp4")
        source.close()
    assert [] == list(tmp_path.iterdir())


def test_a_body_cut_off_is_kept_for_the_next_try(tmp_path: Path) -> None:
    """A connection that breaks amid a file raises, and what came is gone on from."""
    data = os.urandom(300_000)
    asked = []

    class Breaks(Quiet):
        def answer(self) -> tuple[int, dict[str, str], bytes]:
            asked.append((self.command, self.headers.get("Range")))
            headers = {"ETag": '"v1"'}
            if start := int((self.headers.get("Range") or "bytes=0-")[6:-1]):
                total = f"bytes {start}-{len(data) - 1}/{len(data)}"
                return 206, headers | {"Content-Range": total}, data[start:]
            return 200, headers | {"Content-Length": str(len(data))}, data[:200_000]

    with web_server(Breaks) as url:
        source = web_source(url)
        file = source.stat("a.mp4")
        with pytest.raises(FeedTimeout):
            source.fetch(file, tmp_path / "a.mp4")
        kept = (tmp_path / "a.mp4.partial").stat().st_size
        source.fetch(file, tmp_path / "a.mp4")
        source.close()
    assert data == (tmp_path / "a.mp4").read_bytes()
    assert 0 < kept <= 200_000
    assert ("GET", f"bytes={kept}-") == asked[-1]


def test_a_killed_fetch_goes_on_in_another_process(tmp_path: Path) -> None:
    """A fetch killed amid a file loses at most what was in memory; the next process asks for the rest."""
    data = os.urandom(2_000_000)
    half_sent, killed, starts = threading.Event(), threading.Event(), []

    class Slow(Quiet):
        def do_GET(self) -> None:
            start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
            starts.append(start)
            self.send_response(206 if start else 200)
            self.send_header("ETag", '"v1"')
            self.send_header("Content-Length", str(len(data) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.end_headers()
            if self.command == "HEAD":
                return
            if start:
                self.wfile.write(data[start:])
                return
            self.wfile.write(data[:1_000_000])
            half_sent.set()
            killed.wait()

    script = (
        "import sys\nfrom pathlib import Path\n"
        "from ingest.sources.http import HttpTree\nfrom ingest.sources.tree import TreeSource\n"
        "source = TreeSource('web', HttpTree(sys.argv[1], timeout_s=9), include=(), max_run_s=60)\n"
        "source.fetch(source.stat('a.mp4'), Path(sys.argv[2]))\n"
    )
    with web_server(Slow) as url:
        process = subprocess.Popen([sys.executable, "-c", script, url, tmp_path / "a.mp4"])
        assert half_sent.wait(timeout=30)
        partial = tmp_path / "a.mp4.partial"
        while not partial.exists() or partial.stat().st_size < 500_000:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        killed.set()
        kept = partial.stat().st_size
        source = web_source(url)
        source.fetch(source.stat("a.mp4"), tmp_path / "a.mp4")
        source.close()
    assert data == (tmp_path / "a.mp4").read_bytes()
    assert kept == starts[-1]


def test_a_page_links_to_its_own_files_only() -> None:
    """Links to other hosts, up, deeper, with queries or broken are not followed; odd names are listed."""
    page = """
        <a href="a.mp4">a</a> <A HREF='/files/b.mp4'>b</A> <a href="a.mp4">again</a>
        <a href="%D9%BE.mp4">Urdu</a>
        <a href="http://elsewhere.example/c.mp4">c</a> <a href="//elsewhere.example/files/c.mp4">c</a>
        <a href="../d.mp4">d</a> <a href="/d.mp4">d</a> <a href="x/y/e.mp4">e</a> <a href="f.mp4?sort=1">f</a>
        <a href="http://[broken/g.mp4">g</a> <a href="file:///etc/passwd">h</a> <a href="..%2Fi.mp4">i</a>
        <a>no</a>
    """

    class Page(Quiet):
        def answer(self) -> tuple[int, dict[str, str], bytes]:
            return (
                200,
                {"Content-Length": "7" if self.command == "HEAD" else str(len(page.encode()))},
                page.encode(),
            )

    with web_server(Page) as url:
        source = web_source(url)
        assert {"a.mp4", "b.mp4", "پ.mp4"} == set(listed(source))
        source.close()


def test_an_endless_page_is_ended() -> None:
    """A folder page without end costs no more memory than the largest that is read."""

    class Endless(Quiet):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            try:
                for _ in range(2 * MAX_PAGE_BYTES >> 20):
                    self.wfile.write(b"<a href='x'>" * (1 << 20))
            except OSError:
                return  # the client has seen enough

    with web_server(Endless) as url:
        source = web_source(url)
        with pytest.raises(ConfigInvalid, match="is no folder page"):
            list(source.list())
        source.close()


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (302, ConfigInvalid),
        (401, AccessDenied),
        (403, AccessDenied),
        (404, ObjectMissing),
        (503, FeedTimeout),
    ],
)
def test_an_answer_that_is_no_folder(status: int, error: type[Exception]) -> None:
    """Each status is told in the tree's words; a redirect is shown, not followed."""

    class Answers(Quiet):
        def answer(self) -> tuple[int, dict[str, str], bytes]:
            return status, {"Location": "http://elsewhere.example/", "Content-Length": "0"}, b""

    with web_server(Answers) as url:
        source = web_source(url)
        with pytest.raises(error):
            list(source.list())
        source.close()
