"""Only finished files are taken, with what belongs to them, and under safe names."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.sources.taking import DEFAULT_INCLUDE, Listed, Plan, is_wanted, plan, why_unsafe
from outwatch.domain.ports import RemoteFile

NOW = datetime(2026, 3, 14, 17, 0, tzinfo=UTC)
SETTLE = timedelta(minutes=2)


def listed(
    path: str, *, unchanged_s: float = 600, settled: bool = False, age_s: float | None = None
) -> Listed:
    """Return a file that has been unchanged for so long by our clock, and for ``age_s`` by its source's."""
    modified_at = None if age_s is None else NOW - timedelta(seconds=age_s)
    file = RemoteFile(path, 1000, modified_at)
    return Listed(file, NOW - timedelta(seconds=unchanged_s), is_settled=settled)


def planned(*files: Listed, source_now: datetime | None = None, max_file_bytes: int = 10_000) -> Plan:
    """Return the plan for a listing."""
    return plan(files, now=NOW, source_now=source_now, settle=SETTLE, max_file_bytes=max_file_bytes)


def taken(made: Plan) -> list[list[str]]:
    """Return the paths of each set that is taken."""
    return [[file.path for file in files] for files in made.sets]


def test_a_clip_and_its_telemetry_go_together() -> None:
    """Files of one name in one folder are one set, without regard to case, with what declares them."""
    made = planned(listed("a/X.MP4"), listed("a/x.srt"), listed("a/X.outwatch.json"), listed("b/X.MP4"))
    assert [["a/X.MP4", "a/x.srt", "a/X.outwatch.json"], ["b/X.MP4"]] == taken(made)


def test_folders_that_differ_by_case_are_two() -> None:
    """Two operators' clips of one name never take each other's place."""
    made = planned(listed("Ali/DJI_1.jpg"), listed("ali/DJI_1.jpg"), listed("ali/dji_1.SRT"))
    assert [["Ali/DJI_1.jpg"], ["ali/DJI_1.jpg", "ali/dji_1.SRT"]] == sorted(taken(made))


def test_a_file_that_changed_lately_waits_and_holds_its_set() -> None:
    """A clip waits for telemetry that is still being written, and says so."""
    made = planned(listed("X.mp4"), listed("X.srt", unchanged_s=60))
    assert [] == made.sets
    assert "waits for X.srt" == made.waiting["X.mp4"]
    assert "unchanged" in made.waiting["X.srt"]


def test_a_first_listing_takes_nothing() -> None:
    """What was never seen before is not known to be finished, however old its time says it is."""
    made = planned(listed("X.mp4", unchanged_s=0, age_s=1e6), listed("X.srt", unchanged_s=0, age_s=1e6))
    assert [] == made.sets


def test_the_sources_own_clock_may_say_that_a_file_is_old() -> None:
    """Where the source tells its time, a modification long before it is enough; one just before is not."""
    old = (listed("X.mp4", unchanged_s=0, age_s=300), listed("X.srt", unchanged_s=0, age_s=300))
    assert [["X.mp4", "X.srt"]] == taken(planned(*old, source_now=NOW))
    assert [] == planned(*old, source_now=NOW - timedelta(seconds=290)).sets


@pytest.mark.parametrize(("alone", "lacks"), [("X.mp4", "telemetry"), ("X.srt", "a video")])
def test_one_half_gives_the_other_time_to_come(alone: str, lacks: str) -> None:
    """A clip without telemetry, or telemetry without a clip, waits one settling more, then goes alone."""
    assert lacks in planned(listed(alone, unchanged_s=200)).waiting[alone]
    assert [[alone]] == taken(planned(listed(alone, unchanged_s=240)))


def test_a_photo_waits_for_nothing() -> None:
    """A photo carries its own data."""
    assert [["P.JPG"]] == taken(planned(listed("P.JPG", unchanged_s=130)))


def test_telemetry_that_comes_late_brings_its_clip_again() -> None:
    """A set with anything new is fetched whole, since telemetry lands with its clip or not at all."""
    assert [["X.mp4", "X.srt"]] == taken(planned(listed("X.mp4", settled=True), listed("X.srt")))


def test_what_is_settled_is_left() -> None:
    """Nothing is asked of files that were taken or refused as they are."""
    made = planned(listed("X.mp4", settled=True), listed("X.srt", settled=True))
    assert ([], {}, {}) == (made.sets, made.waiting, made.refused)


@pytest.mark.parametrize("suffix", [".part", ".filepart", ".tmp", ".crdownload", ".PART"])
def test_a_part_file_says_that_its_file_is_being_written(suffix: str) -> None:
    """Neither the part file nor what it will become is taken."""
    made = planned(listed("X.mp4"), listed("X.srt"), listed(f"X.mp4{suffix}"))
    assert [] == made.sets
    assert "still being written" in made.waiting["X.mp4"]
    assert f"X.mp4{suffix}" not in made.waiting


def test_a_file_that_is_too_large_is_refused() -> None:
    """The reason names the setting."""
    made = planned(listed("X.mp4"), max_file_bytes=999)
    assert "max_file_bytes" in made.refused["X.mp4"]


def test_a_file_without_a_size_is_refused() -> None:
    """It could fill the disk, and a part of it would pass for the whole."""
    made = planned(Listed(RemoteFile("X.mp4", None, None), NOW - 10 * SETTLE, is_settled=False))
    assert "does not tell its size" in made.refused["X.mp4"]


def test_the_longest_unchanged_set_goes_first() -> None:
    """Old footage is not starved by new."""
    made = planned(listed("b.jpg", unchanged_s=300), listed("a.jpg", unchanged_s=900))
    assert [["a.jpg"], ["b.jpg"]] == taken(made)


@pytest.mark.parametrize(
    "path",
    ["", "/a.mp4", "../a.mp4", "a/../b.mp4", "a//b.mp4", "./a.mp4", "a\\b.mp4", "a\nb.mp4", "a\0.mp4",
     "\udce9.mp4", "a\u202e4pm.srt", "x" * 241, "/".join(["d" * 200] * 6)],
)  # fmt: skip
def test_an_unsafe_path_is_refused(path: str) -> None:
    """A path that could lead out, look like another or break a file system is never taken."""
    assert why_unsafe(path)
    assert [path] == list(planned(listed(path)).refused)


@pytest.mark.parametrize("path", ["a.mp4", "2026/03/پشاور 14.mp4", "é/ü (1).srt", "a..b.mp4"])
def test_an_ordinary_path_is_safe(path: str) -> None:
    """Spaces, Urdu and accents are ordinary."""
    assert why_unsafe(path) is None


@given(st.text(min_size=1))
def test_a_safe_path_stays_inside(path: str) -> None:
    """No path that passes climbs, is absolute, or breaks a line."""
    if why_unsafe(path) is None:
        assert not path.startswith("/")
        assert ".." not in path.split("/")
        assert path.isprintable() or not set(path) & set("\r\n\0")


def test_what_is_wanted() -> None:
    """Footage, photos, telemetry and part files are listed; hidden files and the rest are not."""
    names = ["A.MP4", "a.srt", "a.jpg", "a.ulg", "a.outwatch.json", "a.mp4.part"]
    assert all(is_wanted(name, DEFAULT_INCLUDE) for name in names)
    assert not any(is_wanted(name, DEFAULT_INCLUDE) for name in [".a.mp4", "a.exe", "Thumbs.db", "mp4"])
    assert is_wanted("FLIGHT_7.bin", ("flight_*",))
