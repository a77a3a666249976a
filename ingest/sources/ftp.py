"""A tree of files on an FTP server, through the standard library.

Belongs here: the few FTP commands that listing and reading need, and what old servers lack. Not here:
walking and fetching (``tree.py``). Nothing on the way is encrypted: settings ask for ``insecure``.

Sources: RFC 959 and RFC 3659 (MLSD, MDTM, SIZE, REST in stream mode).
"""

from __future__ import annotations

import ftplib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property

from ingest.sources.tree import BLOCK_BYTES, MAX_ENTRIES, Entry, Opened, remote_file
from outwatch.domain.errors import AccessDenied, ConfigInvalid, FeedTimeout, ObjectMissing
from outwatch.domain.ports import RemoteFile

_NOT_LOGGED_IN, _NO_SUCH_COMMAND, _NO_SUCH_FILE = {"530", "532"}, {"500", "501", "502", "504"}, "550"
_LISTED = re.compile(r"(?P<kind>[-dl])\S{9}\S*(?:\s+\S+){4}\s+\S+\s+\S+\s+\S+ (?P<name>.+)")
"""A line of LIST as Unix servers write it: mode, links, owner, group, size, month, day, time, name."""
_TIME = re.compile(r"\d{14}")


class FtpTree:
    """A ``Tree`` on an FTP server, connected at first use; an empty user is anonymous."""

    def __init__(
        self, host: str, *, port: int, root: str, user: str, password: str, timeout_s: float
    ) -> None:
        self._host, self._port, self._root = host, port, root.rstrip("/") or "/"
        self._user, self._password, self._timeout_s = user, password, timeout_s
        self._connected: ftplib.FTP | None = None
        self._has_mlsd = True

    @property
    def url(self) -> str:
        """Return where the tree is, without secrets."""
        return f"ftp://{self._host}:{self._port}{self._root}"

    @property
    def clock(self) -> datetime | None:
        """Return None: the protocol tells no time."""
        return None

    def entries(self, folder: str) -> Iterator[Entry]:
        """Yield what is in a folder; servers without MLSD leave size and time to ``stat``."""
        full = self._full(folder)
        if self._has_mlsd:
            try:
                lines = self._lines(f"MLSD {full}", folder)
            except _MissingCommandError:
                self._has_mlsd = False
            else:
                yield from filter(None, map(_from_mlsd, lines))
                return
        yield from filter(None, map(_from_list, self._lines(f"LIST {full}", folder)))

    def stat(self, path: str) -> RemoteFile:
        """Return a file as it is now."""
        full = self._full(path)
        with self._translated(path):
            self._ftp.voidcmd("TYPE I")
            size_bytes = self._ftp.size(full)
            modified = self._ftp.voidcmd(f"MDTM {full}").partition(" ")[2]
        return remote_file(path, size_bytes=size_bytes, modified_at=_time(modified))

    @contextmanager
    def open(self, path: str, *, start: int, file: RemoteFile) -> Iterator[Opened]:
        """Open a file for reading from ``start``, or from its beginning where the server knows no REST."""
        del file
        with self._translated(path):
            self._ftp.voidcmd("TYPE I")
            command = f"RETR {self._full(path)}"
            try:
                link = self._ftp.transfercmd(command, rest=start or None)
            except ftplib.error_perm as error:
                if not start or str(error)[:3] not in _NO_SUCH_COMMAND:
                    raise
                start, link = 0, self._ftp.transfercmd(command)
        finished = False

        def blocks() -> Iterator[bytes]:
            nonlocal finished
            while True:
                with self._translated(path):
                    block = link.recv(BLOCK_BYTES)
                    if not block:
                        link.close()
                        self._ftp.voidresp()
                        finished = True
                        return
                yield block

        try:
            yield Opened(start, blocks())
        finally:
            link.close()
            if not finished:
                self.close()  # what the server still says of this transfer would be taken for the next answer

    def close(self) -> None:
        """End the connection; the next call makes a new one."""
        if self._connected is not None:
            self._connected.close()
            self._connected = None
        self.__dict__.pop("_ftp", None)

    @cached_property
    def _ftp(self) -> ftplib.FTP:
        # Latin-1 carries any byte, so that one name in another encoding does not hide the folder.
        self._connected = ftp = ftplib.FTP(timeout=self._timeout_s, encoding="latin-1")  # noqa: S321 - declared
        ftp.connect(self._host, self._port)
        ftp.login(self._user, self._password)
        return ftp

    def _full(self, path: str) -> str:
        text = f"{self._root.rstrip('/')}/{path}" if path else self._root
        return text.encode(errors="surrogateescape").decode("latin-1")

    def _lines(self, command: str, folder: str) -> list[str]:
        lines: list[str] = []

        def keep(line: str) -> None:
            if len(lines) > MAX_ENTRIES:
                raise ConfigInvalid(f"{folder!r} on {self.url} has too many names: name a narrower folder")
            lines.append(line.encode("latin-1").decode(errors="surrogateescape"))

        try:
            with self._translated(folder):
                self._ftp.retrlines(command, keep)
        except ConfigInvalid:
            self.close()
            raise
        return lines

    @contextmanager
    def _translated(self, path: str) -> Iterator[None]:
        try:
            yield
        except ftplib.error_perm as error:
            code = str(error)[:3]
            if code in _NOT_LOGGED_IN:
                raise AccessDenied(f"{self.url} refused the login ({error}): check user, password") from error
            if code in _NO_SUCH_COMMAND:
                raise _MissingCommandError(f"{self.url} lacks a command that is needed: {error}") from error
            raise ObjectMissing(
                f"{path or self._root!r} is not on {self.url}, or not for us: {error}"
            ) from error
        except (OSError, EOFError, ftplib.Error) as error:
            self.close()
            raise FeedTimeout(
                f"{self.url} did not answer within {self._timeout_s:g} s, or broke off: {error!r}; "
                "check that it runs and can be reached"
            ) from error


class _MissingCommandError(ConfigInvalid):
    """The server knows no such command."""


def _from_mlsd(line: str) -> Entry | None:
    """Return an entry of an MLSD line, None for links, devices and the folder itself (RFC 3659)."""
    facts_text, _, name = line.partition(" ")
    facts = {
        key.casefold(): value
        for key, _, value in (fact.partition("=") for fact in facts_text.split(";") if fact)
    }
    kind = facts.get("type", "").casefold()
    if kind == "dir":
        return Entry(name, is_folder=True)
    if kind != "file":
        return None
    size = facts.get("size", "")
    size_bytes = int(size) if size.isascii() and size.isdigit() and len(size) < 20 else None  # noqa: PLR2004
    return Entry(name, False, size_bytes, _time(facts.get("modify", "")))


def _from_list(line: str) -> Entry | None:
    found = _LISTED.fullmatch(line)
    if found is None or found["kind"] == "l" or found["name"] in {".", ".."}:
        return None
    return Entry(found["name"], is_folder=found["kind"] == "d")


def _time(text: str) -> datetime | None:
    """Return a time of MDTM or MLSD, which is UTC: YYYYMMDDHHMMSS with an optional fraction."""
    found = _TIME.match(text)
    try:
        return datetime.strptime(found[0], "%Y%m%d%H%M%S").replace(tzinfo=UTC) if found else None
    except ValueError:
        return None
