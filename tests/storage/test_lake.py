"""The lake's files: the same bytes for the same rows, and open to readers that are not ours."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import geopandas
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from outwatch.domain.errors import KeyInvalid, ObjectMissing, StoreUnavailable, UnsupportedFormat
from outwatch.domain.ports import ObjectInfo
from outwatch.domain.types import Detection, ErrorEllipse, GeoPoint, GroundFix
from storage.lake import Lake
from storage.local import LocalStore
from storage.schemas import detections_from, detections_table, schema_of

DAY = date(2026, 3, 1)
AT = datetime(2026, 3, 1, 18, 30, tzinfo=UTC)
METADATA = {"model_id": "thermal-0a1b", "clip_id": "c1"}


def seen(number: int, *, clip_id: str = "c1", located: bool = True) -> Detection:
    """Return the detection of a person, a hundredth of a degree further east for each number."""
    at = AT + timedelta(seconds=number)
    point = GeoPoint(34.0, 71.0 + number / 100, 350.0)
    where = GroundFix(at, point, ErrorEllipse(9.0, 6.0, 30.0), 9.0, "flat_ground")
    nowhere = GroundFix(at, None, None, None, "none", "no telemetry")
    box = (1.0, 2.0, 3.0, 4.0)
    fix = where if located else nowhere
    return Detection(clip_id, at, float(number), number, "person", 0.5, box, "thermal-0a1b", None, fix)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """Return an empty local store."""
    return LocalStore(tmp_path / "store")


@pytest.fixture
def lake(store: LocalStore) -> Lake:
    """Return an empty lake."""
    return Lake(store, software="outwatch 0.1.0")


def write(lake: Lake, rows: Sequence[Detection], *, dt: date = DAY, name: str = "c1") -> str:
    """Write detections as one clip's file."""
    return lake.write("detections", detections_table(rows), dt=dt, name=name, metadata=METADATA)


def test_file_reads_back_as_written(lake: Lake) -> None:
    """One clip's rows come back exactly, from the key that was told."""
    rows = [seen(0), seen(1, located=False)]
    assert write(lake, rows) == "lake/detections/dt=2026-03-01/c1.parquet"
    assert rows == detections_from(lake.read("detections", dt=DAY, name="c1"))


def test_same_rows_give_the_same_bytes(lake: Lake, store: LocalStore) -> None:
    """Neither the time, nor how the table is cut in chunks, nor the order of metadata shows in a file."""
    rows = [seen(number) for number in range(50)]
    key = write(lake, rows)
    first = store.get(key)
    chunked = pa.concat_tables([detections_table(rows[:20]), detections_table(rows[20:])])
    lake.write("detections", chunked, dt=DAY, name="c1", metadata=dict(reversed(METADATA.items())))
    assert first == store.get(key)


def test_file_says_what_made_it(lake: Lake) -> None:
    """Software, schema and model are in the file's metadata."""
    write(lake, [seen(0)])
    metadata = lake.read("detections", dt=DAY, name="c1").schema.metadata
    assert metadata[b"outwatch.software"] == b"outwatch 0.1.0"
    assert metadata[b"outwatch.schema_version"] == b"1"
    assert metadata[b"outwatch.model_id"] == b"thermal-0a1b"


def test_file_is_compressed_with_zstd(lake: Lake, store: LocalStore) -> None:
    """Every column is, the numbers too."""
    file = pq.ParquetFile(pa.BufferReader(store.get(write(lake, [seen(0)]))))
    group = file.metadata.row_group(0)
    assert {group.column(number).compression for number in range(group.num_columns)} == {"ZSTD"}


def test_table_of_another_schema_is_refused(lake: Lake, store: LocalStore) -> None:
    """What later readers could not rely on is not written."""
    with pytest.raises(ValueError, match="table for 'detections'"):
        lake.write("detections", pa.table({"at": [1]}), dt=DAY, name="c1", metadata={})
    assert list(store.list("lake/")) == []


def test_unknown_table_is_refused(lake: Lake) -> None:
    """A table the layout does not have cannot be read."""
    with pytest.raises(KeyInvalid, match="faces"):
        lake.read("faces", dt=DAY, name="c1")


def test_missing_file_is_missing(lake: Lake) -> None:
    """Not looked is not the same as looked and found nothing."""
    write(lake, [], name="c2")
    assert lake.read("detections", dt=DAY, name="c2").num_rows == 0
    with pytest.raises(ObjectMissing):
        lake.read("detections", dt=DAY, name="c1")


def test_damaged_file_is_named(lake: Lake, store: LocalStore) -> None:
    """One flipped bit in a page is found by its checksum, whichever way it is read."""
    key = write(lake, [seen(number) for number in range(100)])
    data = bytearray(store.get(key))
    page = pq.ParquetFile(pa.BufferReader(bytes(data))).metadata.row_group(0).column(1)
    data[page.data_page_offset + page.total_compressed_size - 8] ^= 1
    store.put(key, bytes(data))
    with pytest.raises(UnsupportedFormat, match=r"dt=2026-03-01/c1\.parquet .* not readable Parquet"):
        lake.read("detections", dt=DAY, name="c1")
    with pytest.raises(UnsupportedFormat, match=r"'detections' .* has a damaged file"):
        lake.scan("detections")


def test_file_that_vanishes_during_a_scan_can_be_tried_again(
    lake: Lake, store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clip registered anew takes its old files away; that is no damage."""
    gone = ObjectInfo("lake/detections/dt=2026-03-01/gone.parquet", 1, AT)
    monkeypatch.setattr(store, "list", lambda _: iter([gone]))
    with pytest.raises(StoreUnavailable, match=r"gone\.parquet.*try again"):
        lake.scan("detections")


def test_scan_joins_files_in_order(lake: Lake) -> None:
    """All rows come, by date and file, with their date as a column."""
    for day, name in ((2, "c1"), (1, "c2"), (1, "c1")):
        write(lake, [seen(0, clip_id=f"{day}{name}")], dt=date(2026, 3, day), name=name)
    table = lake.scan("detections")
    assert table["clip_id"].to_pylist() == ["1c1", "1c2", "2c1"]
    assert table["dt"].to_pylist() == [date(2026, 3, 1), date(2026, 3, 1), date(2026, 3, 2)]
    assert len(detections_from(table)) == 3


def test_scan_of_dates_opens_no_other_file(lake: Lake, store: LocalStore) -> None:
    """Days outside the asked ones are not touched: a broken file there does no harm."""
    for day in (1, 2, 3, 4):
        write(lake, [seen(day)], dt=date(2026, 3, day))
    store.put("lake/detections/dt=2026-03-01/broken.parquet", b"broken")
    days = lake.scan("detections", since=date(2026, 3, 2), until=date(2026, 3, 3), columns=["dt"])
    assert days["dt"].to_pylist() == [date(2026, 3, 2), date(2026, 3, 3)]
    with pytest.raises(UnsupportedFormat, match=r"broken\.parquet"):
        lake.scan("detections")


def test_scan_filters_rows_and_columns(lake: Lake) -> None:
    """Only what was asked for comes."""
    write(lake, [seen(number) for number in range(10)])
    found = lake.scan("detections", columns=["frame_index"], where=pc.field("offset_s") >= 8)
    assert found.to_pydict() == {"frame_index": [8, 9]}


@pytest.mark.parametrize("rows", [None, []])
def test_scan_of_nothing_is_an_empty_table(lake: Lake, rows: list[Detection] | None) -> None:
    """Without files, and with files of no rows, the schema is whole."""
    if rows is not None:
        write(lake, rows)
    table = lake.scan("detections", where=pc.field("confidence") > 0.5)
    assert table.schema.names == [*schema_of("detections").names, "dt"]
    assert detections_from(table) == []


def test_scan_for_an_unknown_column_fails_without_files_too(lake: Lake) -> None:
    """A slip of the caller shows at once, not when the first file is there."""
    with pytest.raises(pa.ArrowInvalid, match="frame_idx"):
        lake.scan("detections", columns=["frame_idx"])


def test_geopandas_reads_geometry_datum_and_bbox(lake: Lake, tmp_path: Path) -> None:
    """To an outside reader the file is GeoParquet, and a bbox picks rows by the covering column."""
    path = tmp_path / "store" / write(lake, [seen(0), seen(1), seen(2), seen(3, located=False)])
    frame = geopandas.read_parquet(path)
    assert frame.crs == "OGC:CRS84"
    assert list(frame.geometry[:3].x) == [71.0, 71.01, 71.02]
    assert frame.geometry[3] is None
    assert list(frame["at"].dt.tz_convert("UTC")) == [seen(number).at for number in range(4)]
    nearby = geopandas.read_parquet(path, bbox=(71.005, 33.0, 71.015, 35.0))
    assert list(nearby["frame_index"]) == [1]


def test_duckdb_reads_the_table_in_one_line(lake: Lake, tmp_path: Path) -> None:
    """SQL over the files gives the rows, partition and bbox included."""
    for day in (1, 2):
        write(lake, [seen(0), seen(1)], dt=date(2026, 3, day))
    files = tmp_path / "store/lake/detections/*/*.parquet"
    rows = duckdb.sql(
        f"SELECT dt, count(*), max(bbox.xmax) FROM read_parquet('{files}', hive_partitioning = true) "
        "GROUP BY dt ORDER BY dt"
    ).fetchall()
    assert rows == [(date(2026, 3, 1), 2, 71.01), (date(2026, 3, 2), 2, 71.01)]
