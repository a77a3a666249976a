"""A tree of files on a web server that shows its folders as pages of links, through ``httpx``.

Belongs here: reading such pages, and fetching in ranges. Not here: walking and fetching (``tree.py``).
Redirects are not followed: they could lead anywhere, our token with them.

Source: RFC 9110 (Range, If-Range, validators).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from html.parser import HTMLParser
from urllib.parse import quote, unquote, urljoin, urlsplit

import httpx

from ingest.sources.tree import Entry, Opened, remote_file
from outwatch.domain.errors import AccessDenied, ConfigInvalid, FeedTimeout, ObjectMissing
from outwatch.domain.ports import RemoteFile

MAX_PAGE_BYTES = 16 << 20
"""A folder page: 100,000 links of 160 bytes."""
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-\d{1,19}/(?:\d{1,19}|\*)", re.ASCII)


class HttpTree:
    """A ``Tree`` under a URL that ends with a slash.

    ``token`` is sent as a bearer token, else ``user`` and ``password`` as basic authentication.
    """

    def __init__(
        self, url: str, *, user: str = "", password: str = "", token: str = "", timeout_s: float
    ) -> None:
        self._url = url.rstrip("/") + "/"
        self._timeout_s = timeout_s
        self._clock: datetime | None = None
        # Compressed on the way, a file would not have the length that is announced.
        headers = {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._client = httpx.Client(
            headers=headers,
            auth=(user, password) if user and not token else None,
            timeout=timeout_s,
            follow_redirects=False,
        )

    @property
    def url(self) -> str:
        """Return where the tree is."""
        return self._url

    @property
    def clock(self) -> datetime | None:
        """Return the time that the server's last answer carried."""
        return self._clock

    def entries(self, folder: str) -> Iterator[Entry]:
        """Yield what a folder's page links to one level down; ``stat`` tells the sizes."""
        page_url = self._full(f"{folder}/" if folder else "")
        with self._translated(folder), self._client.stream("GET", page_url) as response:
            self._check(response, folder or "the folder page")
            page = bytearray()
            for block in response.iter_raw():
                page += block
                if len(page) > MAX_PAGE_BYTES:
                    raise ConfigInvalid(
                        f"{page_url}: a page of over {MAX_PAGE_BYTES} bytes is no folder page"
                    )
        for name in _names(page.decode(errors="replace"), page_url=page_url):
            yield Entry(name.rstrip("/"), is_folder=name.endswith("/"))

    def stat(self, path: str) -> RemoteFile:
        """Return a file as it is now."""
        with self._translated(path):
            response = self._client.head(self._full(path))
        self._check(response, path)
        length = response.headers.get("content-length", "")
        return remote_file(
            path,
            size_bytes=int(length) if length.isascii() and length.isdigit() and len(length) < 20 else None,  # noqa: PLR2004
            modified_at=_time(response.headers.get("last-modified")),
            etag=response.headers.get("etag"),
        )

    @contextmanager
    def open(self, path: str, *, start: int, file: RemoteFile) -> Iterator[Opened]:
        """Open a file for reading from ``start`` if it is still ``file``, else from its beginning."""
        request = self._client.build_request("GET", self._full(path), headers=_range(start, file))
        with self._translated(path):
            response = self._client.send(request, stream=True)
        try:
            self._check(response, path)
            yield Opened(_begins_at(response, start), self._blocks(response, path))
        finally:
            response.close()

    def close(self) -> None:
        """End the connection."""
        self._client.close()

    def _blocks(self, response: httpx.Response, path: str) -> Iterator[bytes]:
        with self._translated(path):
            yield from response.iter_raw()  # as it comes: of a broken answer nothing is lost

    def _full(self, path: str) -> str:
        return self._url + quote(path)

    def _check(self, response: httpx.Response, what: str) -> None:
        """Raise the error that a status stands for; keep the server's time."""
        self._clock = _time(response.headers.get("date")) or self._clock
        status, where = response.status_code, f"{what!r} on {self._url}"
        if response.is_redirect:
            raise ConfigInvalid(
                f"{where} has moved: set url to {response.headers.get('location')!r} if you trust it"
            )
        if status in {401, 403, 407}:
            raise AccessDenied(f"{where}: refused with {status}; check user, password or token")
        if status in {404, 410}:
            raise ObjectMissing(f"{where}: not found ({status})")
        if status in {408, 425, 429} or response.is_server_error:
            raise FeedTimeout(f"{where}: the server is in trouble ({status}); try again later")
        if not response.is_success:
            raise ConfigInvalid(f"{where}: unexpected answer {status}; is this a folder of files?")

    @contextmanager
    def _translated(self, path: str) -> Iterator[None]:
        try:
            yield
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise FeedTimeout(
                f"{self._url} broke off at {path!r}, or gave nothing for {self._timeout_s:g} s: {error}; "
                "check that it runs and can be reached"
            ) from error
        except (httpx.InvalidURL, ValueError) as error:
            raise ConfigInvalid(f"{path!r} makes no URL under {self._url}: {error}") from error


class _Links(HTMLParser):
    """Collects where a page's links go."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.targets += [value for name, value in attrs if name == "href" and value]


def _names(page: str, *, page_url: str) -> Iterator[str]:
    """Yield the names one level below a page, folders with a slash; links to elsewhere are none."""
    links = _Links()
    links.feed(page)
    base = urlsplit(page_url)
    seen: set[str] = set()
    for target in links.targets:
        try:
            link = urlsplit(urljoin(page_url, target))
        except ValueError:
            continue  # no URL at all, so none of this folder's
        if link[:2] != base[:2] or not link.path.startswith(base.path) or link.query:
            continue
        name = unquote(link.path.removeprefix(base.path), errors="surrogateescape")
        if name and "/" not in name[:-1] and name not in seen:
            seen.add(name)
            yield name


def _range(start: int, file: RemoteFile) -> Mapping[str, str]:
    """Return the headers that ask for the rest of a file, and for all of it where it has changed."""
    if not start:
        return {}
    if file.etag is not None and not file.etag.startswith("W/"):
        return {"Range": f"bytes={start}-", "If-Range": file.etag}
    if file.modified_at is not None:
        stamp = file.modified_at.strftime("%a, %d %b %Y %H:%M:%S GMT")
        return {"Range": f"bytes={start}-", "If-Range": stamp}
    return {}


def _begins_at(response: httpx.Response, start: int) -> int:
    found = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
    if response.status_code != httpx.codes.PARTIAL_CONTENT:
        return 0
    if found is None or int(found[1]) != start:
        raise FeedTimeout(f"{response.url}: the server sent another range than from {start}; try again")
    return start


def _time(text: str | None) -> datetime | None:
    """Return a date of HTTP as UTC, None where there is none that makes sense."""
    try:
        at = parsedate_to_datetime(text or "")
    except (ValueError, TypeError):
        return None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
