"""The lake keeps its promises on every object store."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pyarrow.compute as pc
import pytest

from outwatch.domain.errors import ObjectMissing
from outwatch.domain.types import Coverage
from storage.lake import Lake
from storage.schemas import coverage_from, coverage_table

DAYS = [date(2026, 3, day) for day in (1, 2, 3)]


def look(number: int) -> Coverage:
    """Return a look of which nothing is known but its number."""
    at = datetime(2026, 3, 1, 18, 30, number, tzinfo=UTC)
    return Coverage("c1", at, float(number), number, None, "no telemetry")


@pytest.fixture
def lake(backend) -> Lake:
    """Return an empty lake on a store of each kind."""
    return Lake(backend.store, software="outwatch 0.1.0")


def test_written_tables_read_back(lake: Lake) -> None:
    """A file gives the rows it was given; one never written is missing."""
    lake.write("coverage", coverage_table([look(1)]), dt=DAYS[0], name="c1", metadata={})
    assert coverage_from(lake.read("coverage", dt=DAYS[0], name="c1")) == [look(1)]
    with pytest.raises(ObjectMissing):
        lake.read("coverage", dt=DAYS[0], name="c2")


def test_scan_reads_the_asked_days_and_rows(lake: Lake) -> None:
    """Dates and filters work the same wherever the files are."""
    for day in DAYS:
        lake.write("coverage", coverage_table([look(1), look(2)]), dt=day, name="c1", metadata={})
    late = pc.field("frame_index") == 2
    table = lake.scan("coverage", since=DAYS[1], where=late)
    assert coverage_from(table) == [look(2), look(2)]
    assert table["dt"].to_pylist() == DAYS[1:]


def test_scan_of_an_empty_store_is_an_empty_table(lake: Lake) -> None:
    """Before the first file there is nothing to read, and that is no error."""
    assert coverage_from(lake.scan("coverage")) == []
