"""Packages: what goes along, what stays behind, and a manifest that survives its journey or says why not."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.courier.pack import Packed, pack_folder
from ingest.courier.package import LeftOut, Package, PackedFile, Role, check_path, parse_package
from ingest.courier.queue import Queue
from ingest.sandbox import Limits
from outwatch.domain.errors import PackageRefused, PackageTooLarge, UploadInterrupted

AT = datetime(2026, 3, 14, 16, 40, tzinfo=UTC)
names = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\"), min_size=1, max_size=20
)
paths = st.lists(names.filter(lambda name: name not in {".", ".."}), min_size=1, max_size=4).map("/".join)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
times = st.integers(0, 4_000_000_000).map(lambda second: datetime.fromtimestamp(second, UTC))
sizes = st.integers(0, 1 << 62)
files = st.builds(
    PackedFile, paths, st.binary(min_size=32, max_size=32).map(bytes.hex), sizes, times, st.sampled_from(Role)
)
left_out = st.builds(LeftOut, paths, sizes, texts)


@st.composite
def packages(draw: st.DrawFn) -> Package:
    """Draw packages whose paths differ without regard to case."""
    items = draw(
        st.lists(st.one_of(files, left_out), max_size=6, unique_by=lambda item: item.path.casefold())
    )
    items = [item for item in items if item.path.casefold() != "outwatch-package.json"]
    packed = tuple(item for item in items if isinstance(item, PackedFile))
    rest = tuple(item for item in items if isinstance(item, LeftOut))
    return Package(packed, rest, draw(st.dictionaries(texts, texts, max_size=3)), draw(times))


@given(packages())
def test_a_manifest_says_the_same_when_read(package: Package) -> None:
    """Round trip, id and all."""
    assert parse_package(package.to_json()) == package


@given(packages(), st.data())
def test_a_changed_byte_of_a_manifest_is_found(package: Package, data: st.DataObject) -> None:
    """By its digest, wherever it is; or it says the same."""
    text = bytearray(package.to_json())
    index = data.draw(st.integers(0, len(text) - 1))
    text[index] ^= data.draw(st.integers(1, 255))
    try:
        found = parse_package(bytes(text))
    except PackageRefused:
        return
    assert found == package


@given(st.binary(max_size=300))
def test_anything_else_is_refused_in_words(data: bytes) -> None:
    """Never another error."""
    with pytest.raises(PackageRefused):
        parse_package(data)


def test_a_huge_manifest_is_not_read() -> None:
    """Its size is the first thing looked at."""
    with pytest.raises(PackageTooLarge, match="pack fewer files"):
        parse_package(b" " * ((16 << 20) + 1))


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "../a", "a/../b", "a//b", "a/", "a\\b", "a\x00", "a\nb", "x" * 256, "a/" * 600 + "b"],
)
def test_paths_that_lead_elsewhere_are_refused(path: str) -> None:
    """Absolute, climbing, empty parts, control characters, too long."""
    with pytest.raises(PackageRefused, match="file name"):
        check_path(path)


def test_a_path_twice_is_refused() -> None:
    """Also where only case differs, as a stick's file system cannot hold both."""
    file = PackedFile("A.MP4", "0" * 64, 1, AT, Role.VIDEO)
    with pytest.raises(PackageRefused, match="twice"):
        Package((file, PackedFile("a.mp4", "1" * 64, 1, AT, Role.VIDEO)), (), {}, AT)


def test_the_time_of_packing_and_previews_do_not_change_the_id() -> None:
    """So that what was begun over the link is completed by a stick."""
    clip = PackedFile("A.MP4", "0" * 64, 1, AT, Role.VIDEO)
    preview = PackedFile("A.preview.jpg", "1" * 64, 1, AT, Role.PREVIEW)
    one = Package((clip, preview), (), {"operator": "Ali"}, AT)
    assert one.id == Package((clip,), (), {"operator": "Ali"}, AT + timedelta(days=1)).id
    assert one.id != Package((clip,), (), {"operator": "Eve"}, AT).id


@pytest.fixture
def card(tmp_path: Path, clip: Callable[..., Path]) -> Path:
    """Return a card with a clip, its telemetry, a photo, and what is of no use."""
    card = tmp_path / "card"
    media = card / "DCIM" / "100MEDIA"
    media.mkdir(parents=True)
    clip("DJI_0001.MP4", frames=90).rename(media / "DJI_0001.MP4")
    (media / "DJI_0001.SRT").write_text("1\n00:00:00,000 --> 00:00:01,000\n[latitude: 33.5]\n")
    (media / "DJI_0001.LRF").write_bytes(b"small copy")
    (media / "DJI_0002.JPG").write_bytes(b"photo")
    (card / "FLY001.DAT").write_bytes(b"log")
    (card / ".Trashes").mkdir()
    (card / ".Trashes" / "old.MP4").write_bytes(b"deleted")
    (card / "link.MP4").symlink_to("/etc/passwd")
    return card


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    """Return a station's memory."""
    return Queue(tmp_path / "station")


def packed(card: Path, queue: Queue, *, limits: Limits | None = None) -> Packed:
    return pack_folder(
        card,
        queue=queue,
        declared={"operator": "Ali"},
        created_at=AT,
        is_telemetry=lambda head: b"latitude" in head,
        preview_limits=limits,
    )


def test_a_card_is_sorted_and_nothing_of_it_is_passed_over(card: Path, queue: Queue) -> None:
    """Footage and telemetry go along; the rest is named with its reason."""
    package = packed(card, queue).package
    assert {file.path: file.role for file in package.files} == {
        "DCIM/100MEDIA/DJI_0001.MP4": Role.VIDEO,
        "DCIM/100MEDIA/DJI_0001.SRT": Role.TELEMETRY,
        "DCIM/100MEDIA/DJI_0002.JPG": Role.PHOTO,
    }
    assert {file.path for file in package.left_out} == {
        ".Trashes/old.MP4",
        "DCIM/100MEDIA/DJI_0001.LRF",
        "FLY001.DAT",
        "link.MP4",
    }
    assert all(file.reason for file in package.left_out)


def test_telemetry_and_previews_go_first_and_long_clips_last(
    card: Path, queue: Queue, limits: Limits
) -> None:
    """What is small and says most."""
    (card / "LONG.MP4").write_bytes(b"x" * 1_000_000)
    order = [file.path.rpartition("/")[2] for file in packed(card, queue, limits=limits).in_order()]
    assert order == ["DJI_0001.SRT", "DJI_0001.preview.jpg", "DJI_0002.JPG", "DJI_0001.MP4", "LONG.MP4"]


def test_a_preview_shows_the_clip_and_stays_small(card: Path, queue: Queue, limits: Limits) -> None:
    """Nine moments at most, in a JPEG of 100 kB at most."""
    found = packed(card, queue, limits=limits)
    preview = found.sources["DCIM/100MEDIA/DJI_0001.preview.jpg"]
    assert preview.stat().st_size <= 100_000
    image = cv2.imdecode(np.fromfile(preview, dtype=np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (180, 960, 3)
    assert image[:, :320].std() > 10


def test_a_clip_that_cannot_be_previewed_goes_all_the_same(card: Path, queue: Queue, limits: Limits) -> None:
    """Headquarters decides what is footage, not a preview."""
    (card / "BROKEN.MP4").write_bytes(b"no video at all")
    package = packed(card, queue, limits=limits).package
    assert package.file("BROKEN.MP4") is not None
    assert package.file("BROKEN.preview.jpg") is None


def test_a_file_is_read_once(card: Path, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its hash is remembered for as long as size and time stay the same."""
    first = packed(card, queue).package
    video = card / "DCIM/100MEDIA/DJI_0001.MP4"
    status = video.stat()
    video.write_bytes(bytes(status.st_size))
    os.utime(video, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert packed(card, queue).package == first
    os.utime(video, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert packed(card, queue).package != first


def test_a_name_that_no_package_holds_is_left_out_by_name(card: Path, queue: Queue) -> None:
    """Not a reason to leave the card behind."""
    (card / "a\\b.MP4").write_bytes(b"odd")
    Path(os.fsdecode(os.fsencode(card) + b"/\xff.MP4")).write_bytes(b"not Unicode")
    package = packed(card, queue).package
    left = {file.path: file.reason for file in package.left_out}
    assert "file name" in left["a/b.MP4"]
    assert any("not valid Unicode" in reason for reason in left.values())
    assert parse_package(package.to_json()) == package


def test_a_folder_without_footage_is_refused(tmp_path: Path, queue: Queue) -> None:
    """With what to look at."""
    (tmp_path / "letter.txt").write_text("hello")
    with pytest.raises(PackageRefused, match="holds no footage"):
        packed(tmp_path, queue)
    with pytest.raises(PackageRefused, match="is no folder"):
        packed(tmp_path / "nowhere", queue)


def test_a_file_that_vanishes_is_told_as_a_pulled_card(card: Path, queue: Queue) -> None:
    """An interruption, which running the command again mends."""
    with pytest.raises(UploadInterrupted, match="is the card in place"):
        queue.sha256(card / "gone.MP4")


def test_what_was_begun_is_remembered_until_it_is_done(tmp_path: Path, queue: Queue) -> None:
    """With the time of its first packing, which keeps the manifest the same."""
    first = queue.begin(tmp_path, declared={"operator": "Ali"}, url="http://a", now=AT)
    again = queue.begin(tmp_path, declared={"operator": "Ali"}, url="http://a", now=AT + timedelta(hours=1))
    assert (first, again) == (AT, AT)
    (item,) = Queue(tmp_path / "station").waiting()
    assert (item.folder, item.declared, item.url) == (tmp_path, {"operator": "Ali"}, "http://a")
    queue.done(tmp_path)
    assert queue.waiting() == []


def test_a_manifest_is_what_the_guide_says(card: Path, queue: Queue) -> None:
    """One JSON object of seven fields."""
    values = json.loads(packed(card, queue).package.to_json())
    assert set(values) == {"version", "id", "created_at", "declared", "files", "left_out", "digest"}
    assert (values["version"], values["created_at"]) == (1, "2026-03-14T16:40:00+00:00")
