"""Dropped files: which are taken, what a bad line or file says, and where a large one goes on."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ingest.feeds.filedrop import FileDropFeed
from ingest.feeds.mapping import FieldMapping, TopicMapping
from outwatch.domain.errors import ConfigInvalid, FeedTimeout
from outwatch.domain.ports import FeedItem

MAPPING = TopicMapping(sensor="{gate}", kind="motion")
NOW = datetime(2026, 3, 14, 16, 40, tzinfo=UTC)


@pytest.fixture
def drop(tmp_path: Path) -> Path:
    """An empty folder to drop files into."""
    folder = tmp_path / "drop"
    folder.mkdir()
    return folder


def put(path: Path, data: str | bytes, *, age_s: float = 60) -> Path:
    """Write a file that was last changed so long ago."""
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def feed(drop: Path, mapping: TopicMapping = MAPPING, **options: Any) -> FileDropFeed:
    return FileDropFeed("gates", folder=drop, mapping=mapping, **options)


def take(feed: FileDropFeed, cursor: Mapping[str, Any] | None = None) -> tuple[list[FeedItem], Any]:
    """Store and acknowledge all there is; return the items and the last cursor."""
    items: list[FeedItem] = []
    for batch in feed.batches(cursor, for_s=10):
        items += batch.items
        cursor = json.loads(json.dumps(batch.cursor))
        batch.acknowledge()
    return items, cursor


def numbers(items: list[FeedItem]) -> list[float]:
    return [item.observation.value for item in items if item.observation]


def problems(items: list[FeedItem]) -> list[str]:
    return [item.problem for item in items if item.problem]


def lines(first: int, count: int) -> str:
    return "".join(
        json.dumps({"gate": "g", "value": value, "time": NOW.timestamp() + value}) + "\n"
        for value in range(first, first + count)
    )


def test_a_batch_tells_whether_more_waits(drop: Path) -> None:
    """In its own file, or in another."""
    put(drop / "a.jsonl", lines(0, 3), age_s=90)
    put(drop / "b.jsonl", lines(3, 3))
    behind = []
    for batch in feed(drop, batch_max=2).batches(None, for_s=10):
        behind.append(batch.behind)
        batch.acknowledge()
    assert [True, True, True, False] == behind


def test_csv_with_a_header_is_read_by_column_name(drop: Path) -> None:
    """Columns are found by name in any order; an empty cell was not measured."""
    fields = {"temp": FieldMapping("temperature", "°C"), "hum": FieldMapping("humidity", "%")}
    text = (
        'time,hum,temp,gate\r\n2026-03-14T16:40:00Z,40,"4.5",north\r\n\r\n2026-03-14T16:41:00Z,,5,north\r\n'
    )
    put(drop / "a.csv", "\ufeff" + text)
    items, _ = take(feed(drop, TopicMapping(sensor="{gate}", fields=fields)))
    found = [(one.kind, one.value) for item in items if (one := item.observation)]
    assert [("temperature", 4.5), ("humidity", 40.0), ("temperature", 5.0)] == found
    assert items[0].observation is not None
    assert ("north", NOW) == (items[0].observation.sensor, items[0].observation.at)
    assert {"file": "a.csv", "line": "2"} == items[0].observation.details


def test_the_files_name_can_name_the_sensor(drop: Path) -> None:
    """One logger, one file: its name without the ending is level 0 of the template."""
    put(drop / "gate-7.csv", "time,value\n2026-03-14T16:40:00Z,1\n")
    items, _ = take(feed(drop, TopicMapping(sensor="{0}", kind="motion")))
    assert ["gate-7"] == [item.observation.sensor for item in items if item.observation]


def test_bad_lines_are_problems_with_their_number(drop: Path) -> None:
    """Good lines around them count; each problem names file, line and reason."""
    put(
        drop / "a.csv",
        'time,value,gate\nsoon,1,g\n2026-03-14T16:40:00Z,2,g\n1,2\n"open,3,g\n2026-03-14T16:40:00Z,4,g\n',
    )
    items, _ = take(feed(drop))
    assert [2.0, 4.0] == numbers(items)
    said = problems(items)
    assert "a.csv, line 2: time must be" in said[0]
    assert "a.csv, line 4: expected 3 columns, found 2 columns" == said[1]
    assert "a.csv, line 5: expected 3 columns, found no CSV" == said[2]


def test_a_line_without_a_time_is_refused(drop: Path) -> None:
    """Files come late: the time of receipt says nothing of when it was measured."""
    put(drop / "a.jsonl", '{"gate": "g", "value": 1}\n')
    (said,) = problems(take(feed(drop))[0])
    assert "line 1: no time" in said


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"PK\x03\x04\x00\x00" + bytes(5000), "neither CSV"),
        ("tïme,value\n".encode("utf-16"), "neither CSV"),
        (b"zeit;wert;tor\n1;2;3\n", "header has no column value; it has: zeit;wert;tor"),
        (b"time,value,gate,plate\n1,2,3,LEA-1234\n", "columns plate may identify people"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_problem(drop: Path, data: bytes, reason: str) -> None:
    """It says why once, not per line, is moved away like others, and keeps no plate."""
    put(drop / "a.csv", data)
    items, _ = take(feed(drop))
    (said,) = problems(items)
    assert reason in said
    assert "LEA-1234" not in items[0].payload
    assert ["a.csv"] == [path.name for path in (drop / "done").iterdir()]


def test_a_line_without_an_end_is_bounded_and_skipped(drop: Path) -> None:
    """Ten megabytes on one line are one problem with a bounded part kept; the next line is read."""
    put(drop / "a.jsonl", lines(1, 1) + '{"value": "' + "x" * 10_000_000 + '"}\n' + lines(2, 1))
    items, _ = take(feed(drop))
    assert [1.0, 2.0] == numbers(items)
    assert ["a.jsonl, line 2: payload"] == [said[:24] for said in problems(items)]
    assert max(len(item.payload) for item in items) < 3000


def test_a_file_being_written_is_left_for_the_next_run(drop: Path) -> None:
    """It is taken once it stood still for the declared time."""
    path = put(drop / "a.jsonl", lines(1, 1), age_s=0)
    assert ([], None) == take(feed(drop, settle_s=30))
    put(path, lines(1, 2))
    assert [1.0, 2.0] == numbers(take(feed(drop, settle_s=30))[0])


def test_a_file_that_changes_while_read_is_left_alone(drop: Path) -> None:
    """What follows the change is not handed on, and the file is not moved."""
    path = put(drop / "a.jsonl", lines(0, 30))
    with closing(feed(drop, batch_max=10).batches(None, for_s=10)) as batches:  # type: ignore[type-var]
        next(batches).acknowledge()
        put(path, lines(0, 40))
        assert [] == list(batches)
    assert path.exists()


def test_a_large_file_goes_on_where_it_stood(drop: Path) -> None:
    """Also when an older file arrives in between: the place in the first is kept."""
    put(
        drop / "b.csv", "time,value,gate\n" + "".join(f"{NOW.timestamp()},{value},g\n" for value in range(30))
    )
    with closing(feed(drop, batch_max=10).batches(None, for_s=10)) as batches:  # type: ignore[type-var]
        batch = next(batches)
    put(drop / "a.jsonl", lines(100, 1), age_s=3600)
    items, cursor = take(feed(drop, batch_max=10), json.loads(json.dumps(batch.cursor)))
    assert [100.0, *range(10, 30)] == numbers(items)
    assert {} == cursor["places"]
    assert items[-1].observation is not None
    assert "31" == items[-1].observation.details["line"]


def test_content_is_taken_once_under_any_name(drop: Path) -> None:
    """A copy gives nothing new and is moved beside the first; names there are never overwritten."""
    put(drop / "a.jsonl", lines(1, 2))
    _, cursor = take(feed(drop))
    put(drop / "copy.jsonl", lines(1, 2))
    put(drop / "a.jsonl", lines(3, 1))
    items, _ = take(feed(drop), cursor)
    assert [3.0] == numbers(items)
    done = list((drop / "done").iterdir())
    assert 3 == len({path.name for path in done}) == len(done)
    assert 2 == len({hashlib.sha256(path.read_bytes()).digest() for path in done})


def test_files_kept_in_place_are_not_taken_again(drop: Path) -> None:
    """As on a read-only share: nothing is moved, and a second run knows them."""
    put(drop / "a.jsonl", lines(1, 2))
    kept = feed(drop, keep_in_place=True)
    _, cursor = take(kept)
    assert [] == take(kept, cursor)[0]
    assert not (drop / "done").exists()


def test_links_pipes_and_hidden_files_are_left_alone(drop: Path, tmp_path: Path) -> None:
    """Nothing outside the folder is read, and nothing waits for a pipe's writer."""
    secret = put(tmp_path / "secret.csv", "time,value,gate\n1773506400,1,g\n")
    (drop / "link.csv").symlink_to(secret)
    os.mkfifo(drop / "pipe.csv")
    put(drop / ".upload.csv", "time,value,gate\n1773506400,1,g\n")
    (drop / "folder.csv").mkdir()
    put(drop / "line\nbreak.csv", "time,value,gate\n1773506400,1,g\n")
    assert [] == take(feed(drop))[0]
    assert secret.exists()


def test_listening_ends_in_time_and_goes_on_later(drop: Path) -> None:
    """A long file is left after a batch when the time is over."""
    put(drop / "a.jsonl", lines(0, 30))
    (batch,) = feed(drop, batch_max=10).batches(None, for_s=0)
    assert list(range(10)) == numbers(list(batch.items))


def test_what_cannot_work_is_named() -> None:
    """A folder that is not there may come back; a feed without patterns will not."""
    with pytest.raises(FeedTimeout, match=r"/nowhere.*is it mounted"):
        list(feed(Path("/nowhere")).batches(None, for_s=1))
    with pytest.raises(ConfigInvalid, match="pattern"):
        feed(Path("/nowhere"), patterns=())
