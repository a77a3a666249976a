"""From a pull source's settings to the adapter that reaches it.

Belongs here: reading URLs and handing credentials over. Not here: the settings' own checks
(``outwatch/settings.py``) and what is done with a source (``pull.py``).
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from ingest.sources.folder import FolderTree
from ingest.sources.ftp import FtpTree
from ingest.sources.http import HttpTree
from ingest.sources.sftp import SftpTree, SshLogin
from ingest.sources.store_source import StoreSource
from ingest.sources.taking import DEFAULT_INCLUDE
from ingest.sources.tree import Tree, TreeSource
from outwatch.domain.errors import ConfigInvalid
from outwatch.domain.ports import FootageSource, ObjectStore
from outwatch.pipeline.wiring import s3_store
from outwatch.settings import PullSource

SSH_PORT, FTP_PORT = 22, 21


def build_source(source: PullSource) -> FootageSource:
    """Return the adapter for a source of files; it connects at first use.

    Raises:
        ConfigInvalid: the URL is of no such source.
    """
    include = source.include or DEFAULT_INCLUDE
    max_run_s = source.max_run.total_seconds()
    if urlsplit(source.url).scheme == "s3":
        return StoreSource(source.name, _store(source), include=include, max_run_s=max_run_s)
    return TreeSource(source.name, _tree(source), include=include, max_run_s=max_run_s)


def is_camera(source: PullSource) -> bool:
    """Tell whether a source is a camera that is recorded, rather than files that are fetched."""
    return urlsplit(source.url).scheme in {"rtsp", "rtsps"}


def camera_url(source: PullSource) -> str:
    """Return a camera's URL with its login in it, as FFmpeg takes it: a secret."""
    parts = urlsplit(source.url)
    if not source.user:
        return source.url
    login = f"{quote(source.user, safe='')}:{quote(source.password.get_secret_value(), safe='')}"
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{login}@{host}"))


def _tree(source: PullSource) -> Tree:
    parts = urlsplit(source.url)
    host, root = parts.hostname or "", unquote(parts.path) or "/"
    user = unquote(parts.username or "") or source.user
    password = source.password.get_secret_value()
    if parts.scheme == "file":
        return FolderTree(Path(root))
    if parts.scheme == "sftp":
        login = SshLogin(
            user=user,
            password=password,
            key_file=source.key_file.expanduser() if source.key_file else None,
            known_host=source.known_host,
        )
        return SftpTree(host, port=parts.port or SSH_PORT, root=root, login=login, timeout_s=source.timeout_s)
    if parts.scheme == "ftp":
        return FtpTree(
            host,
            port=parts.port or FTP_PORT,
            root=root,
            user=user,
            password=password,
            timeout_s=source.timeout_s,
        )
    if parts.scheme in {"http", "https"}:
        url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))
        token = source.token.get_secret_value()
        return HttpTree(url, user=user, password=password, token=token, timeout_s=source.timeout_s)
    raise ConfigInvalid(f"source {source.name}: {parts.scheme}:// is not a source of files")


def _store(source: PullSource) -> ObjectStore:
    return s3_store(
        source.url,
        what=f"source {source.name}",
        access_key=source.user,
        secret_key=source.password.get_secret_value(),
        region=source.region,
        timeout_s=source.timeout_s,
        create_bucket=False,
    )
