"""The memory of pulls: a file is what it was last seen to be, since when, and what became of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine

from outwatch.domain.ports import RemoteFile
from storage.pulled import PulledFiles
from storage.tables import PullState

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
CLIP = RemoteFile("day/a.mp4", 1000, AT, '"v1"')


def test_a_new_file_waits_from_the_first_listing_on(engine: Engine, clock) -> None:
    """Later listings move only the time it was last seen."""
    memory = PulledFiles(engine, now=clock)
    (first,) = memory.see("station", [CLIP])
    began = clock.now
    clock.advance(minutes=5)
    (later,) = memory.see("station", [CLIP])
    assert (PullState.WAITING, began, began) == (first.state, first.unchanged_since, first.last_seen_at)
    assert replace(first, last_seen_at=clock.now) == later
    assert [later] == memory.files()


def test_any_change_begins_anew(engine: Engine, clock) -> None:
    """Another size, time or ETag is another file: it waits again, also where it was taken."""
    memory = PulledFiles(engine, now=clock)
    memory.see("station", [CLIP])
    for change in ({"size_bytes": 2000}, {"modified_at": AT + timedelta(seconds=1)}, {"etag": None}):
        memory.see("station", [CLIP])
        memory.settle("station", CLIP, PullState.TAKEN, upload_id="u1", sha256="ab")
        clock.advance(minutes=5)
        (changed,) = memory.see("station", [replace(CLIP, **change)])
        assert (PullState.WAITING, clock.now, None) == (
            changed.state, changed.unchanged_since, changed.upload_id,
        )  # fmt: skip
        assert [changed] == memory.files()


def test_a_change_at_one_moment_is_seen(engine: Engine, clock) -> None:
    """Two listings at the same time of a coarse clock are told apart by what they show."""
    memory = PulledFiles(engine, now=clock)
    memory.see("station", [CLIP])
    memory.see("station", [replace(CLIP, size_bytes=2000)])
    (kept,) = memory.files()
    assert 2000 == kept.size_bytes


def test_what_was_taken_stays_taken(engine: Engine, clock) -> None:
    """A listing that shows a taken file again says where it went; one that misses it forgets nothing."""
    memory = PulledFiles(engine, now=clock)
    memory.see("station", [CLIP])
    assert memory.settle("station", CLIP, PullState.TAKEN, upload_id="u1", sha256="ab")
    memory.see("station", [])
    (seen,) = memory.see("station", [CLIP])
    assert (PullState.TAKEN, "u1", "ab") == (seen.state, seen.upload_id, seen.sha256)


def test_an_outcome_of_an_older_version_is_not_kept(engine: Engine, clock) -> None:
    """A file that changed while it was fetched keeps waiting, whatever became of the old bytes."""
    memory = PulledFiles(engine, now=clock)
    memory.see("station", [replace(CLIP, size_bytes=2000)])
    assert not memory.settle("station", CLIP, PullState.TAKEN, upload_id="u1")
    assert PullState.WAITING == memory.files()[0].state


def test_unknown_size_and_time_are_values_too(engine: Engine, clock) -> None:
    """A source that tells neither can still be remembered and settled."""
    memory = PulledFiles(engine, now=clock)
    bare = RemoteFile("a.mp4", None, None)
    memory.see("station", [bare])
    assert memory.settle("station", bare, PullState.REFUSED, reason="no")
    (seen,) = memory.see("station", [bare])
    assert (PullState.REFUSED, "no") == (seen.state, seen.reason)


def test_names_that_no_database_takes_are_escaped(engine: Engine, clock) -> None:
    """NUL and broken Unicode in a name do not stop a listing."""
    memory = PulledFiles(engine, now=clock)
    odd = [RemoteFile("a\0.mp4", 1, None), RemoteFile("\udce9.mp4", 1, None)]
    memory.see("station", odd)
    assert memory.settle("station", odd[1], PullState.REFUSED, reason="bad \0 name")
    assert ["\\udce9.mp4", "a\\0.mp4"] == sorted(file.path for file in memory.files())


def test_sources_are_kept_apart_and_refusals_reopened(engine: Engine, clock) -> None:
    """Reopening touches the refused files of one source alone."""
    memory = PulledFiles(engine, now=clock)
    for source in ("one", "two"):
        memory.see(source, [CLIP, RemoteFile("b.mp4", 1, None)])
        memory.settle(source, CLIP, PullState.REFUSED, reason="no")
    assert 1 == memory.reopen_refused("one")
    assert [] == memory.files("one", PullState.REFUSED)
    assert ["day/a.mp4"] == [file.path for file in memory.files("two", PullState.REFUSED)]


def test_a_listing_of_thousands_is_kept_whole(engine: Engine, clock) -> None:
    """More files than one statement takes are all seen, and seen again."""
    memory = PulledFiles(engine, now=clock)
    many = [RemoteFile(f"{number}.mp4", number, AT) for number in range(1200)]
    memory.see("station", many)
    clock.advance(minutes=1)
    memory.see("station", many)
    assert {clock.now} == {file.last_seen_at for file in memory.files()}
    assert 1200 == len(memory.files())
