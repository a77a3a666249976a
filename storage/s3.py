"""An object store behind plain S3, through the ``minio`` SDK: the only module that imports it.

Belongs here: the S3 calls that every server keeps, and the translation of their errors. Not here:
object tags and object lock, which servers differ in; finding out what a server keeps
(``probe.py``), but for the one promise on which ``put(if_absent=True)`` depends.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4
from xml.etree.ElementTree import ParseError

import structlog
import urllib3
from minio import Minio
from minio.error import MinioException, S3Error
from minio.helpers import BaseURL, DictType, check_bucket_name
from pyarrow.fs import FileSystem, S3FileSystem
from urllib3.exceptions import HTTPError

from outwatch.domain.errors import (
    AccessDenied,
    ConfigInvalid,
    KeyInvalid,
    ObjectExists,
    ObjectMissing,
    OutwatchError,
    PermanentError,
    StoreUnavailable,
)
from outwatch.domain.ports import ObjectInfo
from storage.keys import check_key, check_prefix
from storage.partial import BLOCK_BYTES, partial_file, settle

PART_BYTES = 8 << 20
"""Size of an upload's parts: the most that a lost connection costs; above S3's least of 5 MiB."""
MAX_PARTS = 10_000
"""Most parts of one upload (Amazon S3 User Guide, "Multipart upload limits")."""
MAX_CONNECTIONS = 10
"""Connections kept for reuse: more threads than that at once are rare, and only open new ones."""
RETRIES = 3
"""Further tries of a request that failed on the way; longer outages are the caller's to retry."""
RETRY_BACKOFF_S = 0.2
"""Wait before the second try, doubled each time."""

_BY_CODE: dict[str, type[OutwatchError]] = {
    "AuthorizationHeaderMalformed": ConfigInvalid,  # the region is another
    "ExpiredToken": AccessDenied,
    "InvalidBucketName": ConfigInvalid,
    "InvalidToken": AccessDenied,
    "KeyTooLongError": KeyInvalid,
    "NoSuchBucket": ConfigInvalid,
    "PermanentRedirect": ConfigInvalid,
    "RequestTimeout": StoreUnavailable,
}
_BY_STATUS: dict[int, type[OutwatchError]] = {
    401: AccessDenied,
    403: AccessDenied,
    404: ObjectMissing,
    408: StoreUnavailable,
    409: StoreUnavailable,  # another request on this key is under way (ConditionalRequestConflict)
    412: ObjectExists,
    429: StoreUnavailable,
    501: PermanentError,
}
_WHAT_TO_DO: dict[type[OutwatchError], str] = {
    AccessDenied: "check access key, secret key, the bucket's policy and this machine's clock",
    ConfigInvalid: "check bucket, region and endpoint of the store's URL",
    StoreUnavailable: "try again",
}

log = structlog.get_logger(__name__)


class _Pool(urllib3.PoolManager):
    """Names XML as the SDK expects it: some servers (rclone) send errors as text/xml, unread else."""

    def urlopen(self, method: str, url: str, redirect: bool = True, **kw: Any) -> urllib3.BaseHTTPResponse:  # type: ignore[override]
        response = super().urlopen(method, url, redirect=redirect, **kw)
        if response.headers.get("content-type", "").startswith("text/xml"):
            response.headers["content-type"] = "application/xml"
        return response


@dataclass(frozen=True, kw_only=True, eq=False)
class S3Store:
    """An ``ObjectStore`` in a bucket, under an optional prefix.

    ``endpoint`` is host or host:port without a scheme. Nothing goes over the network before the
    first call, unless ``create_bucket`` asks for it. An upload is visible only when whole; parts of
    one that was killed take room until ``sweep_partial``.
    """

    endpoint: str
    bucket: str
    prefix: str = ""
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    region: str
    secure: bool
    timeout_s: float
    create_bucket: bool = False

    def __post_init__(self) -> None:
        folder = self.prefix.strip("/")
        object.__setattr__(self, "prefix", f"{check_key(folder)}/" if folder else "")
        try:
            check_bucket_name(self.bucket)
            BaseURL(f"https://{self.endpoint}", self.region)
        except ValueError as error:
            raise ConfigInvalid(
                f"store {self.url}: {error}; expected s3://bucket?endpoint=host:port"
            ) from error
        if self.create_bucket:
            with self._translated(self.bucket):
                if not self._client.bucket_exists(self.bucket):
                    self._client.make_bucket(self.bucket, self.region)

    def with_secret(self, secret_key: str) -> S3Store:
        """Return this store under another secret, for the probe to see it refused."""
        return replace(self, secret_key=secret_key, create_bucket=False)

    @property
    def url(self) -> str:
        """Return where the store is, without secrets."""
        scheme = "https" if self.secure else "http"
        return f"s3://{self.bucket}/{self.prefix}?endpoint={scheme}://{self.endpoint}"

    @cached_property
    def atomic_create(self) -> bool:
        """Return whether this server was seen to refuse a second create of one key."""
        key = f".probe/create-{uuid4().hex}"
        try:
            self._create(key, b"first")
            self._create(key, b"second")
        except ObjectExists:
            return True
        except (AccessDenied, ConfigInvalid):
            raise
        except PermanentError as error:
            log.info("store_refuses_conditional_create", store=self.url, error=str(error))
        finally:
            self.delete(key)
        return False

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """Write an object; with ``if_absent`` raise ``ObjectExists`` where the key is taken.

        ``if_absent`` is atomic where ``atomic_create`` is true. Where it is not, the store looks and
        then writes, and of two writers at one moment both may believe to be first. ``ObjectExists``
        may also mean an earlier try of this call whose answer was lost on the way.
        """
        if if_absent and self.atomic_create:
            self._create(key, data)
            return
        if if_absent and self._exists(key):
            raise ObjectExists(f"object {key!r} is already in {self.url}")
        self._send(key, io.BytesIO(data), size_bytes=len(data))

    def upload(self, key: str, path: Path) -> None:
        """Write a local file as an object, in parts of ``PART_BYTES`` or as large as it takes.

        Raises:
            OSError: ``path`` cannot be read, or became shorter meanwhile.
        """
        with path.open("rb") as source:
            self._send(key, source, size_bytes=path.stat().st_size)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Return an object's bytes, or ``length`` of them from ``start``; none past its end."""
        if start < 0 or (length is not None and length < 0):
            raise ValueError(f"range of {key!r} must not be negative, found {start=}, {length=}")
        if length == 0:
            self.head(key)
            return b""
        ranged = start > 0 or length is not None
        with self._translated(key):
            try:
                with self._open(key, start=start, length=length or 0) as response:
                    # Not the status: rclone answers a range with 200.
                    if ranged and "content-range" not in response.headers:
                        raise PermanentError(f"{self.url} ignored the range asked of {key!r}")
                    return response.read()
            except S3Error as error:
                if error.code == "InvalidRange":
                    return b""
                raise

    def download(self, key: str, path: Path) -> None:
        """Write an object to a local file in an existing folder, whole or not at all.

        Raises:
            OSError: ``path`` cannot be written.
        """
        with partial_file(path.parent) as file:
            file.writelines(self._blocks(key))
            settle(file, path)

    def head(self, key: str) -> ObjectInfo:
        """Return size and time of an object."""
        with self._translated(key):
            return self._info(self._client.stat_object(self.bucket, self._name(key)))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects whose key starts with ``prefix``, in order of key."""
        name = self.prefix + check_prefix(prefix)
        with self._translated(prefix):
            for item in self._client.list_objects(self.bucket, prefix=name, recursive=True):
                # Some consoles write empty objects named like folders; no key of ours ends so.
                if not item.object_name.endswith("/"):
                    yield self._info(item)

    def delete(self, key: str) -> None:
        """Remove an object; a missing one is no error."""
        with self._translated(key):
            self._client.remove_object(self.bucket, self._name(key))

    def sweep_partial(self, older_than: timedelta) -> int:
        """Abort the uploads that killed writers left behind and return how many.

        A server that does not list uploads keeps them until its own rules remove them.
        """
        cutoff = datetime.now(UTC) - older_than
        aborted = 0
        for name, upload_id, started_at in self._uploads():
            if started_at < cutoff:
                with self._translated(name):
                    self._client._abort_multipart_upload(self.bucket, name, upload_id)
                aborted += 1
        return aborted

    def arrow_filesystem(self) -> tuple[FileSystem, str]:
        """Return a pyarrow file system and the path in it under which this store's keys lie."""
        # Checksums that trail aws-chunked bodies corrupt uploads on some servers (DESIGN, section 5);
        # the AWS SDK inside pyarrow reads its rule from the environment only.
        os.environ.setdefault("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
        filesystem = S3FileSystem(
            access_key=self.access_key,
            secret_key=self.secret_key,
            region=self.region,
            endpoint_override=self.endpoint,
            scheme="https" if self.secure else "http",
            connect_timeout=self.timeout_s,
            request_timeout=self.timeout_s,
        )
        return filesystem, f"{self.bucket}/{self.prefix}".rstrip("/")

    @cached_property
    def _client(self) -> Minio:
        pool = _Pool(
            maxsize=MAX_CONNECTIONS,
            timeout=urllib3.Timeout(connect=self.timeout_s, read=self.timeout_s),
            retries=urllib3.Retry(
                total=RETRIES,
                redirect=False,  # a signature holds for one host only
                backoff_factor=RETRY_BACKOFF_S,
                status_forcelist=(500, 502, 503, 504),
            ),
        )
        return Minio(
            self.endpoint,
            access_key=self.access_key,
            secret_key=self.secret_key,
            region=self.region,
            secure=self.secure,
            http_client=pool,
        )

    def _name(self, key: str) -> str:
        return check_key(self.prefix + check_key(key))

    def _exists(self, key: str) -> bool:
        try:
            self.head(key)
        except ObjectMissing:
            return False
        return True

    def _create(self, key: str, data: bytes) -> None:
        """Write an object in one request that the server refuses where the key is taken."""
        headers: DictType = {"If-None-Match": "*", "Content-Type": "application/octet-stream"}
        with self._translated(key):
            # The SDK's public call turns this header into metadata.
            self._client._put_object(self.bucket, self._name(key), data, headers)

    def _send(self, key: str, source: BinaryIO, *, size_bytes: int) -> None:
        """Write an object part by part: one part in memory, and none on its way when one fails."""
        part_bytes = max(PART_BYTES, -(-size_bytes // MAX_PARTS))
        with self._translated(key):
            self._client.put_object(
                self.bucket,
                self._name(key),
                source,
                size_bytes,
                part_size=part_bytes,
                num_parallel_uploads=1,
            )

    @contextmanager
    def _open(self, key: str, *, start: int = 0, length: int = 0) -> Iterator[urllib3.BaseHTTPResponse]:
        response = self._client.get_object(self.bucket, self._name(key), offset=start, length=length)
        try:
            yield response
        finally:
            response.close()

    def _blocks(self, key: str) -> Iterator[bytes]:
        with self._translated(key), self._open(key) as response:
            yield from response.stream(BLOCK_BYTES)

    def _uploads(self) -> Iterator[tuple[str, str, datetime]]:
        """Yield name, id and start of each unfinished upload."""
        marker: str | None = None
        while True:
            try:
                with self._translated(self.prefix):
                    # The SDK's default, an empty delimiter, hides all uploads of rclone; no key of
                    # ours holds a backslash.
                    page = self._client._list_multipart_uploads(
                        self.bucket, prefix=self.prefix, key_marker=marker, delimiter="\\"
                    )
            except ObjectMissing:
                return  # rclone says so where there are none
            for item in page.uploads:
                if item.upload_id and item.initiated_time:
                    yield item.object_name, item.upload_id, item.initiated_time
            marker = page.next_key_marker
            if not page.is_truncated or not marker:
                return

    def _info(self, item: Any) -> ObjectInfo:
        return ObjectInfo(
            key=item.object_name.removeprefix(self.prefix),
            size_bytes=item.size,
            modified_at=item.last_modified,
            etag=item.etag or None,
        )

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        try:
            yield
        except S3Error as error:
            raise self._error(error, key) from error
        except (MinioException, HTTPError, ParseError) as error:
            raise StoreUnavailable(
                f"store {self.url} did not answer for {key!r}: {error}; check that it runs and can be reached"
            ) from error

    def _error(self, error: S3Error, key: str) -> OutwatchError:
        status = error.response.status
        kind = _BY_CODE.get(error.code or "") or _BY_STATUS.get(status)
        if kind is None:
            kind = StoreUnavailable if status >= 500 else PermanentError  # noqa: PLR2004
        if kind is ObjectMissing:
            return ObjectMissing(f"no object {key!r} in {self.url}")
        if kind is ObjectExists:
            return ObjectExists(f"object {key!r} is already in {self.url}")
        hint = _WHAT_TO_DO.get(kind, "report what the server said")
        return kind(f"store {self.url} refused {key!r}: {error.code}: {error.message}; {hint}")
