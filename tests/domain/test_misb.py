"""MISB ST 0601 items, lengths and checksums, against the standards' own examples and by properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outwatch.domain.misb import (
    ITEMS,
    UAS_KEY,
    Item,
    ber_length,
    ber_oid,
    checksum,
    decode_imapb,
    encode_imapb,
    encode_length,
    encode_oid,
    local_set,
)

EXAMPLES = [
    (5, 159.9744, "71c2"),
    (6, -0.4315251, "fd3d"),
    (7, 3.405814, "08b8"),
    (13, 60.1768229669783, "5595b66d"),
    (14, 128.426759042045, "5b5360c4"),
    (15, 14190.72, "c221"),
    (16, 144.5713, "cd9c"),
    (17, 152.6436, "d917"),
    (18, 160.719211474396, "724a0a20"),
    (19, -168.792324833941, "87f84b86"),
    (20, 176.865437690572, "7dc55ece"),
    (21, 68590.9833, "03830926"),
    (22, 722.8199, "1281"),
    (23, -10.5423886331461, "f101a229"),
    (24, 29.157890122923, "14bc082b"),
    (25, 3216.037, "34f3"),
    (75, 14190.72, "c221"),
    (78, 9.445334, "0bb3"),
    (90, -0.43152510208614414, "ff62e2f2"),
    (96, 13898.5463, "00d92a"),
    (103, 23456.24, "2f921e"),
]
"""Values and bytes that ST 0601 itself gives."""


def decoded(item: Item, data: bytes) -> float:
    """Return the value of an item's bytes."""
    return float(item.decode(int.from_bytes(data, "big"), size=len(data)))


@pytest.mark.parametrize(("tag", "value", "data"), EXAMPLES)
def test_items_read_and_write_as_the_standard_shows(tag: int, value: float, data: str) -> None:
    """The examples of ST 0601 hold in both directions, within a step."""
    item = ITEMS[tag]
    step = item.resolution(len(data) // 2)
    assert decoded(item, bytes.fromhex(data)) == pytest.approx(value, abs=step)
    written = int.from_bytes(item.encode(value), "big")
    assert abs(written - int(data, 16)) <= 1


@pytest.mark.parametrize("item", ITEMS.values(), ids=lambda item: item.name)
@given(share=st.floats(0, 1))
def test_every_item_comes_back_within_its_resolution(item: Item, share: float) -> None:
    """What is written is read again to within a step, the ends of the range included."""
    value = item.low + share * (item.high - item.low)
    data = item.encode(value)
    assert len(data) == item.size
    assert decoded(item, data) == pytest.approx(value, abs=item.resolution())


@pytest.mark.parametrize("item", ITEMS.values(), ids=lambda item: item.name)
@given(data=st.data())
def test_any_bytes_are_a_value_in_range_or_none(item: Item, data: st.DataObject) -> None:
    """Whatever stands in an item, it reads as a value in the item's range or as none."""
    size = data.draw(st.sampled_from(item.sizes))
    value = decoded(item, data.draw(st.binary(min_size=size, max_size=size)))
    slack = item.resolution(size)
    assert math.isnan(value) or item.low - slack <= value <= item.high + slack


@pytest.mark.parametrize(
    "item", [item for item in ITEMS.values() if item.form == "int"], ids=lambda i: i.name
)
def test_smallest_integer_says_that_there_is_no_value(item: Item) -> None:
    """A signed item out of range is written as the standard's mark, which reads as none."""
    data = item.encode(item.high * 1.5)
    assert data == b"\x80" + bytes(item.size - 1)
    assert math.isnan(decoded(item, data))


def test_a_value_without_a_mark_for_out_of_range_is_refused() -> None:
    """An altitude below the item's range cannot be written, and the error says what can."""
    with pytest.raises(
        ValueError, match=r"sensor true altitude \(item 15\) must be -900 to 19000 m, found -1000"
    ):
        ITEMS[15].encode(-1000.0)


@given(
    low=st.floats(-1e6, 1e6),
    span=st.floats(1e-2, 1e6),
    share=st.floats(0, 1),
    size=st.integers(2, 6),
)
def test_imapb_comes_back_within_a_step_of_any_range(
    low: float, span: float, share: float, size: int
) -> None:
    """ST 1201 maps any range to any size with an error below one step."""
    high = low + span
    value = min(high, low + share * span)
    data = encode_imapb(value, low=low, high=high, size=size)
    step = 2.0 ** (math.ceil(math.log2(high - low)) - (8 * size - 1))
    back = decode_imapb(int.from_bytes(data, "big"), low=low, high=high, size=size)
    assert float(back) == pytest.approx(value, abs=step + 1e-9)


def test_imapb_writes_zero_exactly() -> None:
    """A range around zero has zero itself among its values (ST 1201: Zoffset)."""
    data = encode_imapb(0.0, low=-900.0, high=40_000.0, size=1)
    assert float(decode_imapb(int.from_bytes(data, "big"), low=-900.0, high=40_000.0, size=1)) == 0.0


@pytest.mark.parametrize(
    "raw", [0xC8_0000, 0xE8_0000, 0xD0_0000, 0x80_0001], ids=["+inf", "-inf", "nan", "user"]
)
def test_imapb_special_values_are_none(raw: int) -> None:
    """Infinities and all kinds of NaN are no measure."""
    assert math.isnan(decode_imapb(raw, low=-900.0, high=40_000.0, size=3))


def test_imapb_reaches_the_end_of_a_power_of_two() -> None:
    """The highest bit alone is the upper end where the range is a power of two wide."""
    assert encode_imapb(256.0, low=0.0, high=256.0, size=2) == b"\x80\x00"
    assert float(decode_imapb(0x8000, low=0.0, high=256.0, size=2)) == 256.0


@given(length=st.integers(0, 2**32 - 1), rest=st.binary(max_size=3))
def test_lengths_round_trip(length: int, rest: bytes) -> None:
    """A length reads as it was written, wherever it stands."""
    data = rest + encode_length(length)
    assert ber_length(data + b"\xff", len(rest)) == (length, len(data))


@given(tag=st.integers(0, 2**28 - 1))
def test_tags_round_trip(tag: int) -> None:
    """A tag reads as it was written."""
    data = encode_oid(tag)
    assert ber_oid(data + b"\xff", 0) == (tag, len(data))


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x82\x01", b"\x89" + bytes(9)])
def test_impossible_lengths_are_refused(data: bytes) -> None:
    """No length, the indefinite form, a cut one and one of nine bytes are no lengths."""
    with pytest.raises(ValueError, match="length"):
        ber_length(data, 0)


@pytest.mark.parametrize("data", [b"", b"\x81", b"\xff" * 9])
def test_endless_tags_are_refused(data: bytes) -> None:
    """A tag that does not end is none."""
    with pytest.raises(ValueError, match="tag"):
        ber_oid(data, 0)


@given(st.binary(max_size=99))
def test_checksum_is_the_sum_of_words(data: bytes) -> None:
    """The sum is that of big-endian 16-bit words, the last filled up with zero (ST 0601, item 1)."""
    words = np.frombuffer(data + bytes(len(data) % 2), ">u2")
    assert checksum(data) == int(words.sum(dtype=np.int64)) % 65536


def test_a_local_set_is_key_length_items_and_sum() -> None:
    """A set is closed by its checksum, and its length counts all that follows it."""
    packet = local_set([(2, bytes(8)), (130, b"xy")])
    assert packet[:17] == UAS_KEY + bytes([len(packet) - 17])
    assert packet[17:-4] == bytes([2, 8, *bytes(8), 0x81, 0x02, 2]) + b"xy"
    assert packet[-4:] == b"\x01\x02" + checksum(packet[:-2]).to_bytes(2, "big")
