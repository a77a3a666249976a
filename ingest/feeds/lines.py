"""Lines of a dropped file as feed items, in bounded memory.

Belongs here: CSV with a header row and JSON lines, told apart by the first character. Not here: which files
are read (``filedrop.py``) and what a record says (``payloads.py``). A line is a record: a line break inside a
quoted CSV field makes two bad lines.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from datetime import UTC, datetime
from io import BufferedReader
from pathlib import PurePath

from ingest.feeds.identity import names_identity
from ingest.feeds.mapping import TopicMapping
from ingest.feeds.payloads import MAX_PAYLOAD_BYTES, feed_items, problem_item
from ingest.feeds.values import MAX_TEXT
from outwatch.domain.ports import FeedItem

_SKIP_BYTES = 1 << 20
_NEEDS_TIME = "no time: a file may be dropped long after; name the time's field or column in the mapping"


class Lines:
    """Reads a file's lines as items; a file that is none of the two kinds is one item with a problem."""

    def __init__(self, file: BufferedReader, *, name: str, mapping: TopicMapping) -> None:
        """Read the first line.

        Args:
            file: open for reading, seekable.
            name: the file's name, for the words of problems; without its suffix it is the topic.
            mapping: what the lines mean.

        Raises:
            OSError: the file cannot be read.
        """
        self._file = file
        self._name = name
        self._mapping = mapping
        file.seek(0)
        self._first = file.readline(MAX_PAYLOAD_BYTES)
        self._is_json = self._first.lstrip(b"\xef\xbb\xbf \t").startswith(b"{")
        self._header = None if self._is_json else self._columns(self._first)
        self._refusal = self._whole_file_problem()
        self.offset = 0
        self.line = 0
        self.seek(0, line=0)

    def seek(self, offset: int, *, line: int) -> None:
        """Go to a line's offset in bytes, with the number of lines before it; a header is always skipped."""
        if self._header is not None and offset == 0:
            offset, line = len(self._first), 1
        self.offset, self.line = offset, line
        self._file.seek(offset)

    def take(self, most: int) -> tuple[list[FeedItem], bool]:
        """Return the items of the next lines, of about ``most``, and whether these were the last.

        Raises:
            OSError: the file cannot be read.
        """
        if self._refusal is not None:
            return [self._problem(self._first, self._refusal)], True
        items: list[FeedItem] = []
        while len(items) < most:
            data = self._next()
            if not data:
                return items, True
            if data.strip():
                items += self._items(data)
        return items, False

    def _next(self) -> bytes:
        """Return the next line; of one that is too long only so much that this can be seen."""
        data = self._file.readline(MAX_PAYLOAD_BYTES + 1)
        rest = data
        while rest and not rest.endswith(b"\n"):
            rest = self._file.readline(_SKIP_BYTES)
        self.offset = self._file.tell()
        self.line += 1
        return data

    def _items(self, data: bytes) -> list[FeedItem]:
        record = None
        if self._header is not None:
            row = self._columns(data)
            if row is None or len(row) != len(self._header):
                found = "no CSV" if row is None else f"{len(row)} columns"
                return [self._problem(data, f"expected {len(self._header)} columns, found {found}")]
            record = {name: value for name, value in zip(self._header, row, strict=True) if value}
        return [
            item if item.problem is None else replace(item, problem=self._placed(item.problem))
            for item in feed_items(
                data,
                topic=PurePath(self._name).stem,
                mapping=self._mapping,
                received_at=datetime.now(UTC),
                details={"file": self._name, "line": str(self.line)},
                needs_time=_NEEDS_TIME,
                record=record,
            )
        ]

    def _problem(self, data: bytes, why: str) -> FeedItem:
        return problem_item(data, why=self._placed(why), mapping=self._mapping, received_at=datetime.now(UTC))

    def _placed(self, why: str) -> str:
        return f"{self._name}, line {max(self.line, 1)}: {why}"

    def _columns(self, data: bytes) -> list[str] | None:
        """Return a line's columns, None where it is no CSV; empty columns are kept."""
        try:
            (row,) = csv.reader([data.decode("utf-8-sig").strip("\r\n")], strict=True, skipinitialspace=True)
        except (UnicodeDecodeError, csv.Error, ValueError):  # ValueError: no row at all
            return None
        return [column.strip() for column in row]

    def _whole_file_problem(self) -> str | None:
        """Return why no line of the file can be read, in one problem instead of one per line."""
        if not self._first.strip():
            return "file is empty, or starts with an empty line"
        if b"\x00" in self._first or not (self._is_json or self._header):
            return "file is neither CSV with a header row nor JSON lines, in UTF-8"
        return None if self._header is None else self._header_problem(self._header)

    def _header_problem(self, header: list[str]) -> str | None:
        named = [name for name in header if names_identity(name)]
        if named:
            return f"columns {', '.join(named)} may identify people: leave them out of the export"
        wanted = list(self._mapping.fields) or [self._mapping.value]
        if not any(name in header for name in wanted):
            return f"header has no column {' or '.join(wanted)}; it has: {', '.join(header)[:MAX_TEXT]}"
        return None
