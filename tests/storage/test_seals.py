"""Seals over records of evidence, and the chain that they are entered in."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, update

from outwatch.domain.errors import UnsupportedFormat
from storage import tables
from storage.database import writing
from storage.seals import SEAL, SealBook, canonical_json, digest_of, read_record, seal_of, sealed_bytes

AT = datetime(2026, 3, 14, 16, 40, tzinfo=UTC)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-1000, 1000)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
records = st.dictionaries(st.text().filter(lambda name: name != SEAL), values, max_size=5)


@given(records)
def test_what_is_stored_reads_back_with_its_seal(record: dict[str, Any]) -> None:
    """A record comes back as it was, its seal holds, and storing it again gives the same bytes."""
    data = sealed_bytes(record)
    read = read_record(data, name="record")
    assert {name: value for name, value in read.items() if name != SEAL} == record
    assert read[SEAL] == seal_of(read) == seal_of(record)
    assert sealed_bytes(read) == data


@given(records, st.text().filter(lambda name: name != SEAL), values)
def test_any_other_record_has_another_seal(record: dict[str, Any], name: str, value: object) -> None:
    """A field that is added or changed changes the seal."""
    changed = {**record, name: value}
    same = canonical_json(changed) == canonical_json(record)
    assert (seal_of(changed) == seal_of(record)) == same


def test_canonical_form_does_not_depend_on_order() -> None:
    """Fields in any order are one record; RFC 8785's form for plain values."""
    assert canonical_json({"b": 1, "a": [True, None, "چوکی"]}) == '{"a":[true,null,"چوکی"],"b":1}'.encode()
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})


def test_a_number_that_is_none_is_refused() -> None:
    """JSON has no word for NaN, and programs differ in what they make of it."""
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"a": float("nan")})


@pytest.mark.parametrize(
    "data",
    [b"", b"[1]", b"\xff", b'{"a":', b"[" * 100_000, b'{"a": NaN}', b'{"a": 1e999}', b'{"a": "\\ud800"}'],
)
def test_what_is_no_record_is_refused_by_name(data: bytes) -> None:
    """Damaged and foreign bytes give one error that names the object."""
    with pytest.raises(UnsupportedFormat, match=r"evidence/x is no record"):
        read_record(data, name="evidence/x")


@pytest.fixture
def book(engine: Engine) -> SealBook:
    """Return a book with three lines of two events."""
    book = SealBook(engine, now=lambda: AT)
    for event_id, seal in (("a", "1"), ("b", "2"), ("a", "3")):
        book.enter(event_id, seal)
    return book


def test_lines_are_kept_in_order(book: SealBook) -> None:
    """Each event's lines come back oldest first, and the chain stands."""
    assert [(line.number, line.seal, line.at) for line in book.of_event("a")] == [(1, "1", AT), (3, "3", AT)]
    assert (book.sealed_events("a"), book.sealed_events("_")) == ({"a"}, set())
    assert (book.check().lines, book.check().broken_at) == (3, None)


def test_the_same_seal_again_adds_no_line(book: SealBook) -> None:
    """A second run that makes the same record leaves the book as it is; an older record's return does not."""
    book.enter("a", "3")
    assert book.check().lines == 3
    book.enter("a", "1")
    assert [line.seal for line in book.of_event("a")] == ["1", "3", "1"]


@pytest.mark.parametrize(
    "change", [{"seal": "x"}, {"event_id": "c"}, {"at": AT.replace(year=2025)}, {"link": "0" * 64}]
)
def test_a_changed_line_breaks_the_chain(engine: Engine, book: SealBook, change: dict[str, Any]) -> None:
    """Whatever of a line is changed afterwards, the walk stops there."""
    with writing(engine) as connection:
        connection.execute(
            update(tables.evidence_seals).where(tables.evidence_seals.c.number == 2).values(**change)
        )
    assert book.check().broken_at == 2


def test_a_dropped_line_breaks_the_chain_and_a_dropped_end_changes_its_head(
    engine: Engine, book: SealBook
) -> None:
    """A line missing in the middle is found; one missing at the end only by who noted the head."""
    head = book.check().head
    with writing(engine) as connection:
        connection.execute(delete(tables.evidence_seals).where(tables.evidence_seals.c.number == 3))
    assert book.check().broken_at is None
    assert book.check().head != head
    with writing(engine) as connection:
        connection.execute(delete(tables.evidence_seals).where(tables.evidence_seals.c.number == 1))
    assert book.check().broken_at == 1
