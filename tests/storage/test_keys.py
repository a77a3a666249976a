"""Keys: what is built can be parsed, what is checked is safe, and ids follow content alone."""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path, PurePosixPath
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outwatch.domain.errors import KeyInvalid
from storage import keys

PART = st.text(
    st.characters(codec="utf-8", exclude_characters="/\\", exclude_categories=["Cc", "Cs"]), min_size=1
)
LEGAL_PART = PART.filter(lambda part: part not in {".", "..", ".partial"} and len(part.encode()) <= 255)
LEGAL_KEY = (
    st.lists(LEGAL_PART, min_size=1, max_size=8).map("/".join).filter(lambda key: len(key.encode()) <= 1024)
)
HEX16 = st.text("0123456789abcdef", min_size=16, max_size=16)
MOMENTS = st.integers(946_771_200, 4_102_444_800).map(lambda second: datetime.fromtimestamp(second, UTC))


@given(LEGAL_KEY)
def test_legal_keys_pass_unchanged(key: str) -> None:
    """A legal key is returned as it is, and any start of it that ends a part is a legal prefix."""
    assert keys.check_key(key) == key
    parts = key.split("/")
    for end in range(1, len(parts)):
        prefix = "/".join(parts[:end]) + "/"
        assert keys.check_prefix(prefix) == prefix


@given(st.text(max_size=1100))
def test_what_passes_stays_inside_a_folder(key: str) -> None:
    """Whatever text is offered, a key that passes names a path inside its folder, and only one."""
    try:
        keys.check_key(key)
    except KeyInvalid:
        return
    path = PurePosixPath("/store") / key
    assert path.is_relative_to("/store")
    assert path.relative_to("/store").as_posix() == key
    assert not {".", ".."} & set(path.parts)
    assert len(key.encode()) <= keys.MAX_KEY_BYTES


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("", "empty"),
        ("x" * 1025, "1025 bytes exceeds 1024"),
        ("ی" * 513, "1026 bytes exceeds 1024"),
        ("a/" + "x" * 256, "longer than 255 bytes"),
        ("/a", "'..' part"),
        ("a/", "'..' part"),
        ("a//b", "'..' part"),
        ("a/../b", "'..' part"),
        ("./a", "'..' part"),
        ("a\\b", "backslash"),
        ("a\rb", "control character"),
        ("a\x7fb", "control character"),
        ("a\udcffb", "not valid Unicode"),
        (".partial", "unfinished writes"),
        (".partial/a", "unfinished writes"),
    ],
)
def test_illegal_keys_are_refused_with_the_reason(key: str, reason: str) -> None:
    """Each rule has its own words."""
    with pytest.raises(KeyInvalid, match=reason):
        keys.check_key(key)


@pytest.mark.parametrize("key", [".partials/a", "a/.partial", "a/.partial/b", ".probe/x", "..."])
def test_rules_reach_no_further_than_they_say(key: str) -> None:
    """Names that only resemble forbidden ones are legal."""
    assert keys.check_key(key) == key


def test_prefixes_may_be_empty_or_end_in_one_slash() -> None:
    """All keys, a folder, and the start of a name are prefixes; two slashes are not."""
    assert [keys.check_prefix(prefix) for prefix in ("", "a/", "a/b")] == ["", "a/", "a/b"]
    for prefix in ("/", "a//", "../", "a/./"):
        with pytest.raises(KeyInvalid):
            keys.check_prefix(prefix)


@given(st.sampled_from(keys.TABLES), st.dates(), HEX16)
def test_lake_keys_round_trip(table: str, dt: date, name: str) -> None:
    """A lake key parses into what it was built from, and lies under its table's prefix."""
    key = keys.lake(table, dt=dt, name=name)
    assert keys.parse_lake(key) == keys.Partition(table, dt, name)
    assert key.startswith(keys.lake_prefix(table))


@pytest.mark.parametrize(
    "key",
    [
        "lake/events/dt=2025-02-30/a.parquet",
        "lake/people/dt=2025-02-03/a.parquet",
        "lake/events/dt=2025-02-03/a/b.parquet",
        "lake/events/dt=2025-02-03/a.parquet.tmp",
        "lake/events/a.parquet",
        "x/lake/events/dt=2025-02-03/a.parquet",
        "lake/events/dt=2025-02-03/.parquet",
    ],
)
def test_other_keys_are_no_lake_keys(key: str) -> None:
    """Only the exact layout is a lake key."""
    with pytest.raises(KeyInvalid):
        keys.parse_lake(key)


def test_unknown_table_is_refused() -> None:
    """A table that the design does not know has no key and no prefix."""
    with pytest.raises(KeyInvalid, match="people"):
        keys.lake("people", dt=date(2025, 1, 2), name="a")
    with pytest.raises(KeyInvalid, match="people"):
        keys.lake_prefix("people")


@given(HEX16, LEGAL_PART)
def test_landing_keys_round_trip(upload: str, name: str) -> None:
    """A landing key parses into upload and file name, and lies under both prefixes."""
    key = keys.landing(upload, name)
    assert keys.parse_landing(key) == (upload, name)
    assert key.startswith(keys.landing_prefix(upload))
    assert key.startswith(keys.landing_prefix())


@pytest.mark.parametrize("key", ["landing/a", "landing//b", "landing/a/", "landing/a/b/c", "footage/a/b"])
def test_other_keys_are_no_landing_keys(key: str) -> None:
    """Only upload id and file name make a landing key."""
    with pytest.raises(KeyInvalid):
        keys.parse_landing(key)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "x/../passwd", "./passwd"])
def test_untrusted_names_lose_their_folders(name: str) -> None:
    """Only the last part of an operator's file name reaches a key."""
    assert keys.landing("u", name) == "landing/u/passwd"
    assert keys.quarantine("5ha", name) == "quarantine/5ha/passwd"


@pytest.mark.parametrize("name", ["", "..", "a\nb", "x" * 256])
def test_untrusted_names_that_are_no_names_are_refused(name: str) -> None:
    """What is left of a name must be a legal part."""
    with pytest.raises(KeyInvalid):
        keys.landing("u", name)


def test_layout_is_that_of_the_design() -> None:
    """Keys are a format that other programs read: they stay as they are."""
    dt = date(2025, 1, 2)
    assert keys.footage("c1", dt=dt, name="source.mp4") == "footage/dt=2025-01-02/c1/source.mp4"
    assert keys.lake("events", dt=dt, name="c1") == "lake/events/dt=2025-01-02/c1.parquet"
    assert keys.evidence("e1", dt=dt, name="still.jpg") == "evidence/dt=2025-01-02/e1/still.jpg"
    assert keys.quarantine_reason("5ha") == "quarantine/5ha/reason.json"


@given(MOMENTS, st.integers(-14 * 60, 14 * 60))
def test_partition_date_is_the_utc_date(moment: datetime, offset_min: int) -> None:
    """The same moment has the same date in whatever zone it is written."""
    elsewhere = moment.astimezone(timezone(timedelta(minutes=offset_min)))
    assert keys.dt_of(elsewhere) == moment.date()


def test_clip_id_is_the_start_of_the_contents_hash(tmp_path: Path) -> None:
    """The same bytes are one clip, whatever the file is called."""
    (tmp_path / "a.mp4").write_bytes(b"footage")
    sha256 = keys.sha256_file(tmp_path / "a.mp4")
    assert sha256 == hashlib.sha256(b"footage").hexdigest()
    assert keys.clip_id(sha256) == sha256[:16]


@given(st.lists(st.tuples(LEGAL_PART, HEX16), unique=True, min_size=1, max_size=5), st.randoms())
def test_upload_id_is_that_of_the_set(files: list[tuple[str, str]], random: object) -> None:
    """Order does not matter to an upload's id; any file less or any other content does."""
    shuffled = list(files)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert keys.upload_id(shuffled) == keys.upload_id(files)
    assert keys.upload_id(files[:-1]) != keys.upload_id(files)
    name, sha256 = files[0]
    changed = "f" * 16 if sha256 != "f" * 16 else "0" * 16
    assert keys.upload_id([(name, changed), *files[1:]]) != keys.upload_id(files)


@given(MOMENTS, st.integers(-14 * 60, 14 * 60))
def test_event_id_depends_on_the_moment_not_its_zone(moment: datetime, offset_min: int) -> None:
    """The same run in another zone gives the same id; a millisecond later is another event."""
    named = {"source": "c1", "rule": "gathering/1", "place": "chowki"}
    elsewhere = moment.astimezone(timezone(timedelta(minutes=offset_min)))
    first = keys.event_id(**named, started_at=moment)
    assert keys.event_id(**named, started_at=elsewhere) == first
    assert keys.event_id(**named, started_at=moment + timedelta(milliseconds=1)) != first
    assert keys.event_id(**(named | {"place": "school"}), started_at=moment) != first
    assert UUID(first).version == 5


def test_alert_id_differs_from_its_events() -> None:
    """An alert and the event that raised it have ids of their own, the same in each run."""
    event = keys.event_id(source="c1", rule="r", place="p", started_at=datetime(2025, 1, 2, tzinfo=UTC))
    assert keys.alert_id(event) == keys.alert_id(event)
    assert keys.alert_id(event) != event
    assert keys.alert_id(event) != keys.alert_id(event + "x")
