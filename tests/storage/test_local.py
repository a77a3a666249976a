"""The local store beyond the contract: what only a file system can do to it."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outwatch.domain.errors import (
    AccessDenied,
    KeyInvalid,
    ObjectExists,
    ObjectMissing,
    OutwatchError,
    StoreUnavailable,
)
from storage.local import LocalStore
from storage.probe import probe_store


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the folder of the store under test."""
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> LocalStore:
    """Return an empty store."""
    return LocalStore(root)


def calls(store: LocalStore, key: str, path: Path) -> list[Callable[[], object]]:
    """Return every call of a store that takes a key."""
    return [
        lambda: store.put(key, b"x"),
        lambda: store.put(key, b"x", if_absent=True),
        lambda: store.upload(key, path),
        lambda: store.get(key),
        lambda: store.download(key, path),
        lambda: store.head(key),
        lambda: store.delete(key),
    ]


def test_store_is_made_at_the_first_write(store: LocalStore, root: Path) -> None:
    """Looking at a store that is not there finds it empty and makes nothing."""
    assert list(store.list("")) == []
    with pytest.raises(ObjectMissing):
        store.get("a")
    assert store.sweep_partial(timedelta(0)) == 0
    assert not root.exists()
    store.put("a", b"x")
    assert store.get("a") == b"x"


def test_objects_are_plain_files_with_the_process_umask(store: LocalStore, root: Path) -> None:
    """Other tools, and other users where the umask lets them, can read the store."""
    old = os.umask(0o022)
    try:
        store.put("a/b.txt", b"x")
    finally:
        os.umask(old)
    assert (root / "a" / "b.txt").read_bytes() == b"x"
    assert (root / "a" / "b.txt").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("key", ["link", "link/secret", "folder/link/secret"])
def test_links_lead_nowhere(store: LocalStore, root: Path, tmp_path: Path, key: str) -> None:
    """A link out of the store is refused by every call and never listed."""
    outside = tmp_path / "outside"
    (outside / "folder").mkdir(parents=True)
    (outside / "secret").write_bytes(b"secret")
    (root / "folder").mkdir(parents=True)
    (root / "link").symlink_to(outside)
    (root / "folder" / "link").symlink_to(outside)
    for call in calls(store, key, tmp_path / "outside" / "secret"):
        with pytest.raises(KeyInvalid, match="symbolic link"):
            call()
    assert list(store.list("")) == []
    with pytest.raises(KeyInvalid, match="symbolic link"):
        list(store.list("link/"))
    assert (outside / "secret").read_bytes() == b"secret"


def test_root_itself_may_be_a_link(tmp_path: Path) -> None:
    """A store on another disk, linked into place, works."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    LocalStore(tmp_path / "link").put("a/b", b"x")
    assert (tmp_path / "disk" / "a" / "b").read_bytes() == b"x"


@pytest.mark.parametrize(("first", "second"), [("a/b", "a"), ("a", "a/b"), ("a", "a/b/c"), ("a/b/c", "a/b")])
@pytest.mark.parametrize("if_absent", [False, True])
def test_key_above_or_below_another_is_refused(
    store: LocalStore, first: str, second: str, *, if_absent: bool
) -> None:
    """A file cannot be a folder too: the second key is refused, the first stays, nothing is left."""
    store.put(first, b"x")
    with pytest.raises(KeyInvalid, match="above or below"):
        store.put(second, b"y", if_absent=if_absent)
    with pytest.raises(ObjectMissing):
        store.get(second)
    with pytest.raises(ObjectMissing):
        store.head(second)
    store.delete(second)
    assert [info.key for info in store.list("")] == [first]
    assert store.sweep_partial(timedelta(seconds=-1)) == 0


def test_deleting_the_last_object_of_a_folder_removes_the_folder(store: LocalStore, root: Path) -> None:
    """Emptied folders go, up to the first that still holds something."""
    store.put("a/b/c/d", b"x")
    store.put("a/e", b"x")
    store.delete("a/b/c/d")
    assert sorted(path.name for path in (root / "a").iterdir()) == ["e"]
    store.delete("a/e")
    assert not (root / "a").exists()
    assert root.exists()


def test_writes_survive_deletes_in_the_same_folder(store: LocalStore) -> None:
    """A delete that removes an emptied folder never fails a write into it."""
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            store.put("a/b/churn", b"")
            store.delete("a/b/churn")

    with ThreadPoolExecutor(1) as pool:
        churning = pool.submit(churn)
        try:
            for number in range(100):
                store.put(f"a/b/{number}", b"x")
                assert store.get(f"a/b/{number}") == b"x"
                store.delete(f"a/b/{number}")
        finally:
            stop.set()
        churning.result()
    assert list(store.list("")) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_is_named_and_leaves_nothing(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """A full disk is worth another try once there is room; the old object stands."""
    store.put("a", b"old")

    def fail(_: int) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(StoreUnavailable, match=r"no room left in .* for 'a'.*free space"):
            store.put("a", b"new")
    assert store.get("a") == b"old"
    assert list((root / ".partial").iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_file_of_another_owner_is_access_denied(store: LocalStore, root: Path) -> None:
    """A file that the process may not read is a matter of rights, not of absence."""
    store.put("a", b"x")
    (root / "a").chmod(0)
    with pytest.raises(AccessDenied, match="owner and mode"):
        store.get("a")


def test_sweep_spares_running_writes(store: LocalStore, root: Path) -> None:
    """Only partial files older than asked are removed, and none is ever listed."""
    store.put("a", b"x")
    for name, age in (("old", timedelta(hours=2)), ("young", timedelta(minutes=1))):
        path = root / ".partial" / name
        path.write_bytes(b"half")
        written_at = (datetime.now(UTC) - age).timestamp()
        os.utime(path, (written_at, written_at))
    assert store.sweep_partial(timedelta(hours=1)) == 1
    assert [path.name for path in (root / ".partial").iterdir()] == ["young"]
    assert [info.key for info in store.list("")] == ["a"]


def test_file_system_without_hard_links_looks_then_writes(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On FAT a create still refuses a taken key, and the probe says that races are not decided."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    store.put("a", b"first", if_absent=True)
    with pytest.raises(ObjectExists):
        store.put("a", b"second", if_absent=True)
    assert store.get("a") == b"first"
    assert not probe_store(store).conditional_create


def test_pipe_in_the_folder_is_no_object(store: LocalStore, root: Path, tmp_path: Path) -> None:
    """Opening a pipe would wait for ever: it is neither listed nor opened."""
    root.mkdir()
    os.mkfifo(root / "pipe")
    assert list(store.list("")) == []
    for call in calls(store, "pipe", tmp_path / "file")[3:6]:
        with pytest.raises(ObjectMissing):
            call()


def test_a_file_where_the_store_should_be_is_unavailable(tmp_path: Path) -> None:
    """A root that is no folder is a fault of the store, told as one of our errors."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutwatchError, match="file"):
        LocalStore(tmp_path / "file").put("a", b"x")


PART = st.text(
    st.characters(codec="utf-8", exclude_characters="/\\", exclude_categories=["Cc", "Cs"]), min_size=1
)
FILES = st.dictionaries(
    st.lists(PART.filter(lambda part: part not in {".", "..", ".partial"}), min_size=1, max_size=3).map(
        "/".join
    ),
    st.binary(max_size=20),
    max_size=6,
)


@settings(deadline=None, max_examples=25)
@given(files=FILES)
def test_any_set_of_keys_reads_back(
    files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What was accepted is listed in byte order and reads back; deleting it leaves no trace."""
    root = tmp_path_factory.mktemp("any")
    store = LocalStore(root)
    kept = {}
    for key, content in files.items():
        try:
            store.put(key, content)
        except KeyInvalid:
            assert any(f"{key}/".startswith(f"{other}/") or other.startswith(f"{key}/") for other in kept)
        else:
            kept[key] = content
    assert [info.key for info in store.list("")] == sorted(kept, key=str.encode)
    assert {key: store.get(key) for key in kept} == kept
    for key in kept:
        store.delete(key)
    assert [path.name for path in root.iterdir()] in ([".partial"], [])
