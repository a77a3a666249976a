"""A SensorThings server over HTTP: pages of a list, asked for patiently and from nowhere else.

Belongs here: requests, retries, and the judgement of answers and next links. Not here: which entities are
asked for and what they mean (``sensorthings.py``).
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import structlog

from outwatch.domain.errors import AccessDenied, ConfigInvalid, FeedTimeout

_MAX_PAGE_BYTES = 32 * 1024 * 1024
"""A page of 500 Observations with their Datastreams has half a megabyte."""
_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 30.0
_ANSWER_BYTES = 200
_TRY_AGAIN = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
"""Client errors that say "not now" (RFC 9110, 8470, 6585); all others say "not this"."""

log = structlog.get_logger(__name__)


class _Busy(Exception):
    """The server cannot answer now; told as ``FeedTimeout`` in the end."""

    def __init__(self, why: str, *, wait_s: float = 0.0) -> None:
        super().__init__(why)
        self.wait_s = wait_s


class SensorThingsServer:
    """Gives the pages of a server's lists."""

    def __init__(self, url: str, *, feed: str, token: str, timeout_s: float) -> None:
        """Prepare; nothing is sent.

        Args:
            url: the service's root with its version.
            feed: the feed's name, for the words of errors.
            token: sent as ``Authorization: Bearer``; empty for none.
            timeout_s: how long to wait for an answer.

        Raises:
            ConfigInvalid: the URL is not http(s) with a host, or holds credentials.
        """
        self._root = _checked_url(url)
        self._feed = feed
        self._token = token
        self._timeout_s = timeout_s

    @property
    def origin(self) -> str:
        """Return scheme, host and port."""
        return _origin(self._root)

    def pages(
        self, path: str, parameters: Mapping[str, str], *, deadline: float
    ) -> Iterator[tuple[list[Any], bool]]:
        """Yield the pages of a list, and whether more follow, along the server's next links.

        Args:
            path: of the list, below the root.
            parameters: of the query.
            deadline: until when to try again, in seconds of the monotonic clock; one try is always made.

        Raises:
            FeedTimeout: the server did not answer, or not usably.
            AccessDenied: it refused the token.
            ConfigInvalid: it has no such list, or refers to another host.
        """
        # Spaces as %20: a plus means a space to some servers and a plus to others.
        query = urlencode(parameters, quote_via=quote)
        url: httpx.URL | None = self._root.copy_with(
            path=f"{self._root.path.rstrip('/')}/{path}", query=query.encode()
        )
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        # trust_env is off: proxies and .netrc passwords of the account must not leak into requests.
        with httpx.Client(timeout=self._timeout_s, headers=headers, trust_env=False) as client:
            while url is not None:
                page = self._page(client, url, deadline=deadline)
                yield page["value"], page.get("@iot.nextLink") is not None
                url = self._next(url, page.get("@iot.nextLink"))

    def _next(self, url: httpx.URL, link: object) -> httpx.URL | None:
        """Return the next page's address, which must be on the server that was declared."""
        if link is None:
            return None
        try:
            following = url.join(str(link))
        except httpx.InvalidURL as error:
            raise ConfigInvalid(f"feed {self._feed!r}: the server's next link is no URL: {error}") from error
        found, declared = _origin(following), _origin(self._root)
        if found != declared:
            raise ConfigInvalid(
                f"feed {self._feed!r}: the server at {declared} refers to {found} for its next page, which "
                "is not followed: set url to what the server calls itself, or the server's root URL to that"
            )
        if following == url:
            raise FeedTimeout(f"feed {self._feed!r}: the server gives the same page again as its next")
        return following

    def _page(self, client: httpx.Client, url: httpx.URL, *, deadline: float) -> dict[str, Any]:
        """Return a page, asking again with growing waits; at least one try is made."""
        wait_s = _FIRST_WAIT_S
        while True:
            try:
                return self._answer(client, url)
            except (httpx.TransportError, _Busy) as reason:
                wait_s = max(wait_s, reason.wait_s if isinstance(reason, _Busy) else 0.0)
                if time.monotonic() + wait_s >= deadline:
                    raise FeedTimeout(
                        f"SensorThings server {_origin(url)} of feed {self._feed!r} did not answer: "
                        f"{type(reason).__name__.strip('_')}: {reason}"
                    ) from reason
                log.warning("sensorthings_busy", feed=self._feed, reason=str(reason), wait_s=wait_s)
                time.sleep(wait_s)
                wait_s = min(2 * wait_s, _LONGEST_WAIT_S)

    def _answer(self, client: httpx.Client, url: httpx.URL) -> dict[str, Any]:
        with client.stream("GET", url) as response:
            self._judge(response)
            body = bytearray()
            for block in response.iter_bytes():
                body += block
                if len(body) > _MAX_PAGE_BYTES:
                    raise ConfigInvalid(
                        f"feed {self._feed!r}: a page is larger than {_MAX_PAGE_BYTES} bytes: lower page_size"
                    )
        try:
            page = json.loads(bytes(body))
        except (ValueError, RecursionError) as error:
            raise _Busy(f"its answer is not JSON: {error}") from error
        if not isinstance(page, dict) or not isinstance(page.get("value"), list):
            raise ConfigInvalid(
                f"feed {self._feed!r}: {_origin(url)}{url.path} answered no list of Observations: check url"
            )
        return page

    def _judge(self, response: httpx.Response) -> None:
        status = response.status_code
        if response.is_success:
            return
        said = f"{status} {response.reason_phrase}"
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise AccessDenied(
                f"SensorThings server {self.origin} of feed {self._feed!r} answered {said}: check token"
            )
        if status in _TRY_AGAIN or response.is_server_error:
            asked = response.headers.get("Retry-After", "")
            raise _Busy(said, wait_s=float(asked) if re.fullmatch("[0-9]{1,6}", asked) else 0.0)
        start = next(response.iter_raw(chunk_size=_ANSWER_BYTES), b"").decode(errors="replace")
        raise ConfigInvalid(
            f"SensorThings server {self.origin} of feed {self._feed!r} answered {said} {start!r}: check url"
        )


def _checked_url(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
        host = url.host
    except (httpx.InvalidURL, UnicodeError) as error:  # UnicodeError: a name that IDNA does not allow
        raise ConfigInvalid(f"SensorThings URL cannot be read: {error}") from error
    if url.scheme not in {"http", "https"} or not host:
        raise ConfigInvalid(f"SensorThings URL must be http(s)://host/..., found scheme {url.scheme!r}")
    if url.userinfo:
        raise ConfigInvalid(f"SensorThings URL for {host} must not hold a user or password: use token")
    return url


def _origin(url: httpx.URL) -> str:
    return f"{url.scheme}://{url.netloc.decode('ascii')}"
