"""A tree of files on an SSH server, through ``paramiko``.

Belongs here: the connection, which is none before the server has proved its host key. Not here: walking
and fetching (``tree.py``).
"""

from __future__ import annotations

import base64
import hashlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from stat import S_ISDIR, S_ISREG

import paramiko

from ingest.sources.tree import BLOCK_BYTES, Entry, Opened, remote_file, time_of
from outwatch.domain.errors import AccessDenied, ConfigInvalid, FeedTimeout, ObjectMissing
from outwatch.domain.ports import RemoteFile

AHEAD_BYTES = 16 * BLOCK_BYTES
"""Asked for at a time and held in memory: 4 MiB fill 50 Mbit/s at the 600 ms of a satellite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SshLogin:
    """Whom to be on an SSH server, and which server it must be."""

    user: str
    password: str = field(default="", repr=False)
    """Also the passphrase of ``key_file``, where there is one."""
    key_file: Path | None = None
    known_host: str | None = None
    """The server's public key ("ssh-ed25519 AAAA…", or a line of ``ssh-keyscan``) or its "SHA256:…"; None
    trusts whoever answers."""


class SftpTree:
    """A ``Tree`` on an SSH server, connected at first use."""

    def __init__(self, host: str, *, port: int, root: str, login: SshLogin, timeout_s: float) -> None:
        self._host, self._port, self._root = host, port, root.rstrip("/") or "/"
        self._login, self._timeout_s = login, timeout_s
        self._transport: paramiko.Transport | None = None

    @property
    def url(self) -> str:
        """Return where the tree is, without secrets."""
        return f"sftp://{self._login.user}@{self._host}:{self._port}{self._root}"

    @property
    def clock(self) -> datetime | None:
        """Return None: the protocol tells no time."""
        return None

    def entries(self, folder: str) -> Iterator[Entry]:
        """Yield what is in a folder."""
        with self._translated(folder):
            for found in self._sftp.listdir_iter(self._full(folder)):
                mode = found.st_mode or 0
                if S_ISDIR(mode):
                    yield Entry(found.filename, is_folder=True)
                elif S_ISREG(mode):
                    yield Entry(found.filename, False, found.st_size, time_of(found.st_mtime))

    def stat(self, path: str) -> RemoteFile:
        """Return a regular file as it is now."""
        with self._translated(path):
            found = self._sftp.lstat(self._full(path))
        if not S_ISREG(found.st_mode or 0):
            raise ObjectMissing(f"{path!r} on {self.url} is no regular file any more")
        return remote_file(path, size_bytes=found.st_size, modified_at=time_of(found.st_mtime))

    @contextmanager
    def open(self, path: str, *, start: int, file: RemoteFile) -> Iterator[Opened]:
        """Open a file for reading from ``start``."""
        with self._translated(path):
            source = self._sftp.open(self._full(path), "rb")
        try:
            source.seek(start)
            yield Opened(start, self._blocks(source, path, start=start, size_bytes=file.size_bytes or 0))
        finally:
            with self._translated(path):
                source.close()

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.close()

    def _blocks(
        self, source: paramiko.SFTPFile, path: str, *, start: int, size_bytes: int
    ) -> Iterator[bytes]:
        position = ahead = start
        while True:
            with self._translated(path):
                if ahead <= position < size_bytes:
                    # Not ``max_concurrent_requests``, whose wait between requests allows 5 MB/s.
                    ahead = min(size_bytes, position + AHEAD_BYTES)
                    source.prefetch(ahead)
                try:
                    block = source.read(BLOCK_BYTES)
                except EOFError:
                    if self._transport is None or not self._transport.is_active():
                        raise
                    return  # the file has become shorter than what was asked ahead
            if not block:
                return
            position += len(block)
            yield block

    def _full(self, path: str) -> str:
        return f"{self._root.rstrip('/')}/{path}" if path else self._root

    @cached_property
    def _sftp(self) -> paramiko.SFTPClient:
        """Connect, hold the server to its key, and only then say who we are."""
        expected = _public_key(self._login.known_host)
        link = socket.create_connection((self._host, self._port), timeout=self._timeout_s)
        try:
            self._transport = transport = paramiko.Transport(link)
            transport.banner_timeout = transport.auth_timeout = self._timeout_s
            if expected is not None:
                # Else a server with several keys may prove itself by one we were not told.
                transport.get_security_options().key_types = _algorithms(expected, transport)
            transport.start_client(timeout=self._timeout_s)
            self._require_host_key(transport.get_remote_server_key())
            self._log_in(transport)
            client = paramiko.SFTPClient.from_transport(transport)
            assert client is not None  # noqa: S101 - None only without a transport
            channel = client.get_channel()
            assert channel is not None  # noqa: S101 - for the type checker
            channel.settimeout(self._timeout_s)
        except BaseException:
            link.close()  # a transport that never began closes nothing
            raise
        return client

    def _log_in(self, transport: paramiko.Transport) -> None:
        if self._login.key_file is not None:
            key = _private_key(self._login.key_file, self._login.password)
            transport.auth_publickey(self._login.user, key)
        else:
            transport.auth_password(self._login.user, self._login.password)

    def _require_host_key(self, key: paramiko.PKey) -> None:
        known = self._login.known_host
        if known is None:
            return
        digest = base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")
        if known.strip() != f"SHA256:{digest}" and _public_key(known) != (key.get_name(), key.get_base64()):
            raise AccessDenied(
                f"{self.url} proved itself by {key.get_name()} SHA256:{digest}, which is not known_host: "
                "another machine may stand in its place. Ask who runs it, and only then change known_host"
            )

    @contextmanager
    def _translated(self, path: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise ObjectMissing(f"{path or self._root!r} is not on {self.url}") from error
        except PermissionError as error:
            raise AccessDenied(f"{self.url} may not be read at {path!r}: check the user's rights") from error
        except paramiko.BadAuthenticationType as error:
            raise AccessDenied(
                f"{self.url} takes no such login: {error}; set password or key_file"
            ) from error
        except paramiko.AuthenticationException as error:
            raise AccessDenied(f"{self.url} refused the login: check user, password and key_file") from error
        except paramiko.ssh_exception.IncompatiblePeer as error:
            raise AccessDenied(
                f"{self.url} has no key of the kind in known_host, or speaks no cipher of ours: {error}"
            ) from error
        except UnicodeDecodeError as error:
            raise ConfigInvalid(
                f"a name in {path or self._root!r} on {self.url} is not UTF-8: rename it there"
            ) from error
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise FeedTimeout(
                f"{self.url} did not answer within {self._timeout_s:g} s, or hung up: {error!r}; "
                "check that it runs and can be reached"
            ) from error


def _public_key(known_host: str | None) -> tuple[str, str] | None:
    """Return kind and base64 text of a public key, None for a fingerprint.

    Raises:
        ConfigInvalid: it is neither.
    """
    if known_host is None or known_host.strip().startswith("SHA256:"):
        return None
    words = known_host.split()
    for kind, text in pairwise(words):
        if text.startswith("AAAA"):
            return kind, text
    raise ConfigInvalid(
        'known_host is neither a public key ("ssh-ed25519 AAAA…", as `ssh-keyscan -t ed25519 host` prints) '
        'nor a fingerprint ("SHA256:…")'
    )


def _algorithms(expected: tuple[str, str], transport: paramiko.Transport) -> tuple[str, ...]:
    """Return the signature algorithms by which a server can prove a key of this kind."""
    kind, _ = expected
    kinds = {"rsa-sha2-512", "rsa-sha2-256"} if kind == "ssh-rsa" else {kind}
    usable = tuple(name for name in transport.get_security_options().key_types if name in kinds)
    if not usable:
        raise ConfigInvalid(f"known_host is of the kind {kind!r}, which is unknown: use its ssh-ed25519 key")
    return usable


def _private_key(path: Path, passphrase: str) -> paramiko.PKey:
    try:
        return paramiko.PKey.from_path(path, passphrase or None)
    except (OSError, ValueError, paramiko.SSHException) as error:
        raise ConfigInvalid(f"key_file {path} cannot be read as a private key: {error}") from error
