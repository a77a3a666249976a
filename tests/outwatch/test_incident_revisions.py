"""What becomes of incidents is appended to the lake: every change, and the last of an id counts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from outwatch.domain.incidents import Account
from outwatch.domain.types import EventKind, GeoPoint
from outwatch.pipeline import incidents, wiring
from outwatch.settings import load_settings

SEEN_AT = datetime(2026, 3, 14, 16, 40, tzinfo=UTC)


@pytest.fixture
def station(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[wiring.Pipeline]:
    """Give a pipeline in a folder of its own."""
    monkeypatch.setenv("OUTWATCH_HOME", str(tmp_path / "home"))
    with wiring.open_pipeline(load_settings()) as pipeline:
        yield pipeline


def take(pipeline: wiring.Pipeline, event_id: str, *, minute: int) -> tuple[str, ...]:
    """Enter a clip's only event and append what that changed."""
    start = SEEN_AT + timedelta(minutes=minute)
    account = Account(
        event_id=event_id,
        subject=f"clip-{event_id}",
        kind=EventKind.GATHERING_NEAR_OUTPOST,
        outpost_id="post",
        started_at=start,
        ended_at=start + timedelta(minutes=1),
        clock_doubt_s=2.0,
        point=GeoPoint(33.5, 71.4),
        covariance_m2=(30.0, 5.0, 20.0),
        method="flat_ground",
        count=12,
    )
    since = pipeline.now()
    found = pipeline.incident_book.take(account.subject, [account])
    return incidents.append_revisions(pipeline, since, also=found)


def latest(pipeline: wiring.Pipeline) -> dict[str, tuple[tuple[str, ...], str | None]]:
    """Return each id's last revision as an analyst reads it: its events, and where they went."""
    rows = pipeline.lake.scan("incidents").sort_by("revised_at").to_pylist()
    return {row["incident_id"]: (tuple(row["event_ids"]), row["merged_into"]) for row in rows}


def test_the_lake_says_what_stands_and_where_old_ids_lead(station: wiring.Pipeline) -> None:
    """A late clip renames, a person takes an event out and puts it back: the last revisions agree."""
    take(station, "b", minute=3)
    (old,) = latest(station)
    written = take(station, "a", minute=0)
    (new,) = (row["id"] for row in incidents.incident_rows(station))
    assert latest(station) == {old: ((), new), new: (("a", "b"), None)}
    assert take(station, "a", minute=0) == tuple(key for key in written if new in key)
    separated = incidents.separate(station, "b", who="afridi", why="another group")
    assert latest(station) == {old: (("b",), None), new: (("a",), None)}
    incidents.undo(station, separated.id, who="khan", why="the same after all")
    assert latest(station) == {old: ((), new), new: (("a", "b"), None)}
