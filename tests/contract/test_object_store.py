"""What every object store keeps, asked of each adapter on each server.

A promise that a server does not keep is skipped by its name, as the start-up probe reports it;
``test_probe_reports_what_each_server_keeps`` says which those are.
"""

from __future__ import annotations

import hashlib
import io
import os
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from outwatch.domain.errors import AccessDenied, KeyInvalid, ObjectExists, ObjectMissing, StoreUnavailable
from outwatch.domain.ports import ObjectStore
from storage.local import LocalStore
from storage.probe import probe_store
from storage.s3 import PART_BYTES, S3Store

from .conftest import Backend, S3Server, relaying

LARGE_BYTES = 200_000_000
NOW = timedelta(seconds=-1)
"""Sweep even what was left behind this second."""
REPLACES_WITH_A_GAP = {"rclone"}
"""Servers that were seen to lose an object from sight for a moment while it is replaced."""

ROUND_TRIP_KEYS = {
    "spaces": "landing/a b/ c d .txt",
    "urdu": "landing/چوکی/رات کی فوٹیج.mp4",
    "signs": "a+b%25%2F&c=?#;,@!$'()~*:\"<>|",
    "composed and decomposed": "\u00e9/e\u0301",
    "beyond the first plane": "\U0001f681/x",
    "not for XML": "a\ufffeb\uffffc\x85d\u2028e]]>&amp;<f>",
    "hidden": ".hidden/.file",
    "dots inside": "a..b/...c/d..",
    "1,024 bytes": "/".join(["k" * 204] * 5),
    "1,024 bytes of Urdu": "/".join(["چ" * 102] * 5),
}
REFUSED_KEYS = {
    "empty": "",
    "1,025 bytes": "/".join(["k" * 204] * 4 + ["k" * 205]),
    "a part of 256 bytes": "a/" + "k" * 256,
    "climbs": "../outside",
    "climbs inside": "a/../../outside",
    "dot part": "a/./b",
    "absolute": "/etc/passwd",
    "empty part": "a//b",
    "ends in a slash": "a/",
    "backslash": "a\\b",
    "line break": "a\nb",
    "null": "a\0b",
    "half a surrogate pair": "a\ud800b",
    "unfinished writes": ".partial/x",
}


def keys_of(store: ObjectStore, prefix: str = "") -> list[str]:
    """Return the keys that a store lists."""
    return [info.key for info in store.list(prefix)]


@pytest.fixture(scope="session")
def large_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file of 200 MB in which no two blocks are alike."""
    path = tmp_path_factory.mktemp("large") / "large.bin"
    with path.open("wb") as file:
        for number in range(LARGE_BYTES // 1_000_000):
            file.write(number.to_bytes(2, "big") * 500_000)
    yield path
    path.unlink()


@pytest.mark.parametrize("content", [b"", b"\x00\xff" * 5_000], ids=["empty", "bytes"])
def test_get_returns_what_was_put(backend: Backend, content: bytes) -> None:
    """Bytes come back as they went in, and a second put replaces them."""
    backend.store.put("a/b", b"old")
    backend.store.put("a/b", content)
    assert content == backend.store.get("a/b")
    assert keys_of(backend.store) == ["a/b"]


@pytest.mark.parametrize(
    ("start", "length"), [(0, 3), (2, 3), (2, None), (8, 30), (10, None), (30, 3), (3, 0), (0, 0), (0, None)]
)
def test_ranged_get_cuts_like_a_slice(backend: Backend, start: int, length: int | None) -> None:
    """A range gives what a slice of the bytes gives, also at and past the end."""
    backend.require("ranged_get")
    content = b"0123456789"
    backend.store.put("a/b", content)
    end = None if length is None else start + length
    assert content[start:end] == backend.store.get("a/b", start=start, length=length)


def test_negative_range_is_refused(backend: Backend) -> None:
    """A negative range is a mistake, not a range from the end."""
    with pytest.raises(ValueError, match="negative"):
        backend.store.get("a", start=-1)


def test_head_tells_size_and_time(backend: Backend) -> None:
    """Head and list agree on size and time, and the time is UTC-aware and recent."""
    backend.store.put("a/b", b"12345")
    info = backend.store.head("a/b")
    assert (info.key, info.size_bytes) == ("a/b", 5)
    assert timedelta(0) == info.modified_at.utcoffset()
    assert abs(datetime.now(UTC) - info.modified_at) < timedelta(minutes=1)
    (listed,) = backend.store.list("")
    assert (info.key, info.size_bytes) == (listed.key, listed.size_bytes)
    assert abs(info.modified_at - listed.modified_at) < timedelta(seconds=1)


@pytest.mark.parametrize("key", ["absent", "a/b/absent", "a"])
def test_missing_object_is_named(backend: Backend, key: str, tmp_path: Path) -> None:
    """Reading what is not there raises ObjectMissing with the key; the folder of a key is no object."""
    backend.store.put("a/b/c", b"x")
    for read in (
        lambda: backend.store.get(key),
        lambda: backend.store.get(key, start=1, length=0),
        lambda: backend.store.head(key),
        lambda: backend.store.download(key, tmp_path / "file"),
    ):
        with pytest.raises(ObjectMissing, match=repr(key)):
            read()
    assert not (tmp_path / "file").exists()


def test_delete_removes_one_object_and_forgives_a_missing_one(backend: Backend) -> None:
    """Delete takes the object, not its neighbours, and may be repeated."""
    backend.store.put("a/b", b"x")
    backend.store.put("a/b2", b"x")
    for _ in range(2):
        backend.store.delete("a/b")
        backend.store.delete("never/was")
    assert keys_of(backend.store) == ["a/b2"]


def test_key_is_free_again_once_the_keys_below_it_are_deleted(backend: Backend) -> None:
    """Folders are no objects: none outlives the last object in it."""
    backend.store.put("a/b/c", b"x")
    backend.store.delete("a/b/c")
    backend.store.put("a", b"y")
    assert backend.store.get("a") == b"y"


def test_list_gives_thousands_in_order_of_key(backend: Backend) -> None:
    """More keys than one page holds come once each, in the order of their UTF-8 bytes."""
    keys = [f"n/{number:04}" for number in range(1100)] + [f"n/{number:04}/x" for number in range(1100, 1150)]
    keys += [f"n/{number:04}{sign}" for number in range(1100, 1150) for sign in "-.0~ی"]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda key: backend.store.put(key, b""), reversed(keys)))
    assert sorted(keys, key=str.encode) == keys_of(backend.store)
    assert len(keys_of(backend.store, "n/")) == 1400
    assert [f"n/005{digit}" for digit in range(10)] == keys_of(backend.store, "n/005")
    assert keys_of(backend.store, "n/1100") == [
        "n/1100-",
        "n/1100.",
        "n/1100/x",
        "n/11000",
        "n/1100~",
        "n/1100ی",
    ]
    assert keys_of(backend.store, "n/1100/") == ["n/1100/x"]
    assert keys_of(backend.store, "n/0000/") == []
    assert keys_of(backend.store, "m") == []


@pytest.mark.parametrize("prefix", ["../", "a/../..", "/", "/etc/", "a//", ".partial/", "a\\"])
def test_list_refuses_prefixes_of_no_key(backend: Backend, prefix: str) -> None:
    """A prefix that no legal key has is a mistake everywhere, not an empty answer somewhere."""
    with pytest.raises(KeyInvalid):
        keys_of(backend.store, prefix)


@pytest.mark.parametrize("key", ROUND_TRIP_KEYS.values(), ids=ROUND_TRIP_KEYS.keys())
def test_odd_keys_round_trip(backend: Backend, key: str, tmp_path: Path) -> None:
    """Every legal key works in every call."""
    content = key.encode()
    (tmp_path / "up").write_bytes(content)
    backend.store.upload(key, tmp_path / "up")
    assert content == backend.store.get(key)
    backend.store.download(key, tmp_path / "down")
    assert content == (tmp_path / "down").read_bytes()
    assert (key, len(content)) == (backend.store.head(key).key, backend.store.head(key).size_bytes)
    assert [key] == keys_of(backend.store)
    assert [key] == keys_of(backend.store, key)
    backend.store.delete(key)
    assert keys_of(backend.store) == []


def test_unicode_forms_are_different_keys(backend: Backend) -> None:
    """No store folds two spellings of a letter into one key."""
    backend.store.put("\u00e9", b"composed")
    backend.store.put("e\u0301", b"decomposed")
    assert (backend.store.get("\u00e9"), backend.store.get("e\u0301")) == (b"composed", b"decomposed")


@pytest.mark.parametrize("key", REFUSED_KEYS.values(), ids=REFUSED_KEYS.keys())
def test_bad_keys_are_refused_the_same_way(backend: Backend, key: str, tmp_path: Path) -> None:
    """A bad key is refused by every call of every store, before anything is written."""
    (tmp_path / "file").write_bytes(b"x")
    for call in (
        lambda: backend.store.put(key, b"x"),
        lambda: backend.store.put(key, b"x", if_absent=True),
        lambda: backend.store.upload(key, tmp_path / "file"),
        lambda: backend.store.get(key),
        lambda: backend.store.download(key, tmp_path / "file"),
        lambda: backend.store.head(key),
        lambda: backend.store.delete(key),
    ):
        with pytest.raises(KeyInvalid):
            call()
    assert keys_of(backend.store) == []
    assert (tmp_path / "file").read_bytes() == b"x"


def test_large_file_moves_in_bounded_memory(backend: Backend, large_file: Path, tmp_path: Path) -> None:
    """200 MB go up and come down unchanged, with a few parts in memory and never the whole."""
    copy = tmp_path / "copy"
    tracemalloc.start()
    try:
        backend.store.upload("large", large_file)
        upload_peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        backend.store.download("large", copy)
        download_peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    print(
        f"{backend.name}: peak {upload_peak_bytes / 1e6:.0f} MB up, {download_peak_bytes / 1e6:.0f} MB down"
    )
    assert backend.store.head("large").size_bytes == LARGE_BYTES
    with large_file.open("rb") as expected, copy.open("rb") as actual:
        assert (
            hashlib.file_digest(expected, "sha256").digest() == hashlib.file_digest(actual, "sha256").digest()
        )
    assert backend.store.get("large", start=100_000_000, length=10) == b"\x00\x64" * 5
    assert upload_peak_bytes < 4 * PART_BYTES
    assert download_peak_bytes < PART_BYTES


def test_create_is_refused_where_the_key_is_taken(backend: Backend) -> None:
    """A second create raises ObjectExists and leaves the first value."""
    backend.store.put("a/b", b"first", if_absent=True)
    with pytest.raises(ObjectExists, match="'a/b'"):
        backend.store.put("a/b", b"second", if_absent=True)
    assert backend.store.get("a/b") == b"first"
    assert keys_of(backend.store) == ["a/b"]


def test_of_racing_creates_one_wins(backend: Backend) -> None:
    """Of creates at the same moment exactly one succeeds, and its value is the one that stands."""
    backend.require("conditional_create")
    writers = 8
    barrier = Barrier(writers)
    assert backend.store.atomic_create

    def create(value: bytes) -> bytes | None:
        barrier.wait()
        try:
            backend.store.put("claim", value, if_absent=True)
        except ObjectExists:
            return None
        return value

    with ThreadPoolExecutor(writers) as pool:
        winners = [value for value in pool.map(create, [bytes([n]) * 1000 for n in range(writers)]) if value]
    assert [backend.store.get("claim")] == winners


def test_concurrent_writers_of_one_key_leave_one_whole_value(backend: Backend) -> None:
    """Whoever reads while many write sees one writer's value, whole, at any time."""
    values = [bytes([number]) * 300_000 for number in range(6)]
    backend.store.put("shared", values[0])

    def write(value: bytes) -> None:
        for _ in range(3):
            backend.store.put("shared", value)

    reads = 0
    with ThreadPoolExecutor(len(values)) as pool:
        writes = [pool.submit(write, value) for value in values]
        while not all(done.done() for done in writes):
            try:
                assert backend.store.get("shared") in values
            except StoreUnavailable:
                continue  # refused is not torn
            except ObjectMissing:
                assert backend.name in REPLACES_WITH_A_GAP
            reads += 1
    assert [None] * len(values) == [done.result() for done in writes]
    assert reads > 0
    assert backend.store.get("shared") in values
    assert keys_of(backend.store) == ["shared"]


class _BreakingFile(io.BufferedReader):
    """A file on a disk that fails after ``PART_BYTES`` and a half."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() >= PART_BYTES * 3 // 2:
            raise OSError("the disk failed")
        return super().read(min(size or 0, 1 << 20))


class _BreakingPath(type(Path())):  # type: ignore[misc]
    def open(self, *_: object, **__: object) -> _BreakingFile:
        return _BreakingFile(io.FileIO(os.fspath(self)))


def test_upload_whose_source_breaks_changes_nothing(backend: Backend, tmp_path: Path) -> None:
    """An error half way leaves the old object, no part of the new one, and nothing to sweep."""
    source = tmp_path / "source"
    source.write_bytes(b"\x01" * (3 * PART_BYTES))
    backend.store.put("old", b"old")
    for key in ("old", "new"):
        with pytest.raises(OSError, match="the disk failed"):
            backend.store.upload(key, _BreakingPath(source))
    assert keys_of(backend.store) == ["old"]
    assert backend.store.get("old") == b"old"
    assert backend.store.sweep_partial(NOW) == 0


def test_killed_upload_changes_nothing(
    backend: Backend, kill_half_way: Callable[[LocalStore | S3Store, str, int], None]
) -> None:
    """A killed writer leaves the old object; what it left behind is invisible and can be swept."""
    backend.store.put("a/old", b"old")
    kill_half_way(backend.store, "a/old", 2 * PART_BYTES)
    assert keys_of(backend.store) == ["a/old"]
    assert backend.store.get("a/old") == b"old"
    assert backend.store.sweep_partial(timedelta(days=365 * 50)) == 0
    assert backend.store.sweep_partial(NOW) == 1
    assert backend.store.sweep_partial(NOW) == 0
    assert backend.store.get("a/old") == b"old"


def test_upload_over_a_cut_line_changes_nothing(
    s3_server: S3Server, s3_store: S3Store, tmp_path: Path
) -> None:
    """A line that goes dead half way is a StoreUnavailable, and nothing of the upload is visible."""
    source = tmp_path / "source"
    source.write_bytes(b"\x01" * (3 * PART_BYTES))
    with relaying(s3_server.endpoint, limit_bytes=2 * PART_BYTES) as relay:
        with pytest.raises(StoreUnavailable, match="check that it runs"):
            replace(s3_store, endpoint=relay.endpoint, create_bucket=False).upload("a", source)
        assert relay.reached.is_set()
    assert keys_of(s3_store) == []
    with pytest.raises(ObjectMissing):
        s3_store.head("a")


def test_put_over_a_cut_line_changes_nothing(s3_server: S3Server, s3_store: S3Store) -> None:
    """A small object is whole or absent too."""
    s3_store.put("a", b"old")
    with relaying(s3_server.endpoint, limit_bytes=200_000) as relay, pytest.raises(StoreUnavailable):
        replace(s3_store, endpoint=relay.endpoint, create_bucket=False).put("a", b"new" * 1_000_000)
    assert s3_store.get("a") == b"old"


def test_download_is_whole_or_absent(backend: Backend, tmp_path: Path) -> None:
    """A download replaces the file that is there in one move and leaves nothing else in its folder."""
    backend.store.put("a", b"new")
    target = tmp_path / "folder" / "file"
    target.parent.mkdir()
    target.write_bytes(b"old")
    with pytest.raises(ObjectMissing):
        backend.store.download("absent", target)
    assert target.read_bytes() == b"old"
    backend.store.download("a", target)
    assert target.read_bytes() == b"new"
    assert [target] == list(target.parent.iterdir())


def test_upload_of_a_missing_file_is_the_callers_error(backend: Backend, tmp_path: Path) -> None:
    """A local file that is not there is not taken for a missing object."""
    with pytest.raises(FileNotFoundError):
        backend.store.upload("a", tmp_path / "absent")
    assert keys_of(backend.store) == []


def test_wrong_secret_is_refused_everywhere(backend: Backend, tmp_path: Path) -> None:
    """No call works with a wrong secret, and none changes anything."""
    backend.require("rejects_wrong_secret")
    if not isinstance(backend.store, S3Store):
        pytest.skip("a local folder has no secret: its owner and mode guard it")
    backend.store.put("a", b"x")
    wrong = backend.store.with_secret("wrong-secret")
    for call in (
        lambda: wrong.put("a", b"y"),
        lambda: wrong.put("b", b"y", if_absent=True),
        lambda: wrong.upload("b", Path(__file__)),
        lambda: wrong.get("a"),
        lambda: wrong.download("a", tmp_path / "file"),
        lambda: wrong.head("a"),
        lambda: keys_of(wrong),
        lambda: wrong.delete("a"),
    ):
        with pytest.raises(AccessDenied, match="check access key"):
            call()
    assert (keys_of(backend.store), backend.store.get("a")) == (["a"], b"x")


def test_arrow_reads_ranges_and_tables(backend: Backend) -> None:
    """Pyarrow finds, reads and cuts what the store wrote."""
    table = pa.table({"n": list(range(10_000)), "word": ["چوکی"] * 10_000})
    for day in ("dt=2025-01-01", "dt=2025-01-02"):
        sink = io.BytesIO()
        pq.write_table(table, sink)
        backend.store.put(f"lake/events/{day}/a.parquet", sink.getvalue())
    filesystem, root = backend.store.arrow_filesystem()
    key = "lake/events/dt=2025-01-01/a.parquet"
    with filesystem.open_input_file(f"{root}/{key}") as file:
        assert backend.store.get(key, start=4, length=100) == file.read_at(100, 4)
    found = ds.dataset(f"{root}/lake/events", filesystem=filesystem, partitioning="hive")
    assert found.count_rows() == 2 * 10_000
    assert table.column("n") == pq.read_table(f"{root}/{key}", filesystem=filesystem, columns=["n"]).column(
        "n"
    )


def test_prefix_keeps_two_stores_in_one_bucket_apart(s3_server: S3Server) -> None:
    """Stores under different prefixes of one bucket do not see each other's keys."""
    one = s3_server.store("shared", prefix="team/one")
    two = s3_server.store("shared", prefix="/team/two/")
    one.put("a", b"1")
    two.put("a", b"2")
    assert (keys_of(one), one.get("a"), one.head("a").key) == (["a"], b"1", "a")
    assert (keys_of(two), two.get("a")) == (["a"], b"2")
    filesystem, root = one.arrow_filesystem()
    with filesystem.open_input_file(f"{root}/a") as file:
        assert file.read() == b"1"


def test_probe_reports_what_each_server_keeps(backend: Backend) -> None:
    """The probe sees each server's gaps, names them, and leaves nothing behind."""
    expected = {
        "local": set(),
        "rclone": {"conditional_create"},
        "moto": {"rejects_wrong_secret"},
    }[backend.name]
    names = ("conditional_create", "rejects_wrong_secret", "ranged_get", "read_after_write")
    assert expected == {name for name in names if not getattr(backend.promises, name)}
    assert expected == {note.partition(":")[0] for note in backend.promises.notes}
    probe_store(backend.store)
    assert keys_of(backend.store) == []
