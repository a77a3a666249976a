"""The lake: GeoParquet files by table, date of capture and clip or window, on any object store.

Belongs here: turning a table into the bytes of a file and back, and reading many files as one table.
Not here: what the columns are (``storage/schemas.py``), where files lie (``storage/keys.py``).

The same table gives the same bytes: no time and nothing random is written, only what the caller names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from outwatch.domain.errors import StoreUnavailable, UnsupportedFormat
from outwatch.domain.ports import ObjectStore
from storage import keys
from storage.schemas import schema_of

ROW_GROUP_ROWS = 50_000
"""Rows a reader can skip at once by time or bbox: the low end of the 50,000-150,000 that the GeoParquet
distribution guide advises, since one clip rarely has more."""
_DT = pa.field("dt", pa.date32())


def parquet_bytes(table: pa.Table, *, software: str, metadata: Mapping[str, str]) -> bytes:
    """Return a table as the bytes of a Parquet file: zstd, checksummed pages, the same for the same input.

    Args:
        table: its schema's metadata is kept.
        software: name and version of what writes.
        metadata: further facts for the file's metadata, each under ``outwatch.<name>``.
    """
    facts = {f"outwatch.{name}".encode(): value.encode() for name, value in metadata.items()}
    facts |= {b"outwatch.software": software.encode(), **(table.schema.metadata or {})}
    whole = table.combine_chunks().replace_schema_metadata(dict(sorted(facts.items())))
    sink = pa.BufferOutputStream()
    pq.write_table(whole, sink, compression="zstd", row_group_size=ROW_GROUP_ROWS, write_page_checksum=True)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def read_parquet(data: bytes, *, name: str) -> pa.Table:
    """Return the table in the bytes of a Parquet file.

    Raises:
        UnsupportedFormat: they are damaged or not Parquet; the message gives ``name``.
    """
    try:
        return pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise UnsupportedFormat(
            f"{name} ({len(data)} bytes) is not readable Parquet: {error}; run its step again"
        ) from error


def merge_rows(
    standing: pa.Table, new: pa.Table, *, key: str, order: Sequence[str]
) -> tuple[pa.Table, pa.Table]:
    """Return two tables of one schema as one, each key once; and the standing rows whose keys are in ``new``.

    Args:
        standing: its rows stay as they are.
        new: has no key twice.
        key: the column, of text, that tells rows apart.
        order: columns by which the rows are sorted.
    """
    stood = pc.is_in(new[key], value_set=standing[key])
    repeated = standing.filter(pc.is_in(standing[key], value_set=new[key]))
    rows = pa.concat_tables(
        [standing.replace_schema_metadata(new.schema.metadata), new.filter(pc.invert(stood))]
    )
    return rows.sort_by([(name, "ascending") for name in order]), repeated


class Lake:
    """Tables on an object store.

    Args:
        store: where the files are.
        software: name and version written into every file, such as ``outwatch 0.1.0``.
    """

    def __init__(self, store: ObjectStore, *, software: str) -> None:
        self._store = store
        self._software = software

    def write(
        self, table_name: str, table: pa.Table, *, dt: date, name: str, metadata: Mapping[str, str]
    ) -> str:
        """Write one clip's or window's file, replacing what stood, and return its key.

        An empty table is written too: it says "looked, found nothing".

        Args:
            table_name: one of the lake tables.
            table: has exactly the schema of ``schema_of(table_name)``.
            dt: UTC date of capture.
            name: the clip id or window.
            metadata: what made it, such as ``model_id`` and ``rule_version``.

        Raises:
            ValueError: the table has another schema.
        """
        expected = schema_of(table_name)
        if not table.schema.equals(expected, check_metadata=True):
            raise ValueError(f"table for {table_name!r}: expected {expected}, found {table.schema}")
        key = keys.lake(table_name, dt=dt, name=name)
        self._store.put(key, parquet_bytes(table, software=self._software, metadata=metadata))
        return key

    def read(self, table_name: str, *, dt: date, name: str) -> pa.Table:
        """Return one clip's or window's table, with the file's metadata.

        Raises:
            ObjectMissing: it was not written.
            UnsupportedFormat: the file is damaged.
        """
        key = keys.lake(table_name, dt=dt, name=name)
        return read_parquet(self._store.get(key), name=key)

    def scan(
        self,
        table_name: str,
        *,
        since: date | None = None,
        until: date | None = None,
        columns: Sequence[str] | None = None,
        where: pc.Expression | None = None,
    ) -> pa.Table:
        """Return all rows of a table in order of date and file, with the partition as column ``dt``.

        Files outside the dates are never opened; of the others only the asked columns and the row
        groups that ``where`` can match are read. A table without files is an empty table.

        Args:
            table_name: one of the lake tables.
            since: first UTC date of capture.
            until: last UTC date of capture, itself included.
            columns: those wanted; None is all of them.
            where: a filter over any columns, ``dt`` among them.

        Raises:
            StoreUnavailable: the store did not answer.
            UnsupportedFormat: a file is damaged.
        """
        schema = schema_of(table_name).append(_DT)
        wanted = None if columns is None else list(columns)
        # A wrong column or filter fails here, before any file can be blamed for it.
        empty: pa.Table = ds.dataset(schema.empty_table()).to_table(columns=wanted, filter=where)
        filesystem, root = self._store.arrow_filesystem()
        files = [f"{root}/{key}" for key in self._keys(table_name, since=since, until=until)]
        if not files:
            return _described(empty, schema)
        checked = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
        try:
            dataset = ds.dataset(
                files,
                schema=schema,
                filesystem=filesystem,
                format=ds.ParquetFileFormat(default_fragment_scan_options=checked),
                partitioning=ds.partitioning(pa.schema([_DT]), flavor="hive"),
                partition_base_dir=root,
            )
            return _described(dataset.to_table(columns=wanted, filter=where), schema)
        except (pa.ArrowException, OSError) as error:
            place = f"lake table {table_name!r} at {self._store.url}"
            if _from_store(error):
                raise StoreUnavailable(f"{place}: {error}; try again") from error
            raise UnsupportedFormat(f"{place} has a damaged file: {error}; run its step again") from error

    def _keys(self, table_name: str, *, since: date | None, until: date | None) -> list[str]:
        first, last = since or date.min, until or date.max
        found = (info.key for info in self._store.list(keys.lake_prefix(table_name)))
        return [key for key in found if first <= keys.parse_lake(key).dt <= last]


def _from_store(error: Exception) -> bool:
    """Return whether a read failed on the way to the bytes, rather than in them.

    Arrow raises OSError for both; only those of the operating system have a number or a class of their
    own, and those of S3 name it.
    """
    numbered = isinstance(error, OSError) and error.errno is not None
    return numbered or isinstance(error, FileNotFoundError) or "AWS Error" in str(error)


def _described(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the table with the schema's metadata where it still has the geometry that this describes."""
    return table.replace_schema_metadata(schema.metadata if "geometry" in table.column_names else None)
