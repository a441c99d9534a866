"""Frames and their compression: what goes in comes out, and nothing else is taken for one."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everwhen.codec.frames import Frame, FrameError, SliceRow, packed
from everwhen.system.compression import Compressor, DecompressionError, trained
from everwhen.vocabulary.microseconds import FIRST_MICROS, LAST_MICROS

ENTRIES = st.lists(
    st.sampled_from([b'["A",1,{}]', b'["B",2,{"n":7}]', b"1"]), min_size=1, max_size=3
)


@st.composite
def slices(draw: st.DrawFn) -> tuple[list[SliceRow], int]:
    """Slices in order, and the position that they follow on."""
    before = draw(st.integers(0, 1 << 40))
    time = draw(st.integers(FIRST_MICROS, FIRST_MICROS + (1 << 40)) | st.integers(0, 1 << 50))
    rows: list[SliceRow] = []
    position = before
    for _ in range(draw(st.integers(1, 9))):
        entries = draw(ENTRIES)
        position += draw(st.sampled_from([0, 0, 0, 3])) + len(entries)
        time = min(LAST_MICROS, time + draw(st.integers(0, 5) | st.integers(0, 1 << 45)))
        rows.append(
            (
                position,
                draw(st.integers(1, 1 << 33)),
                draw(st.integers(1, 1 << 33)),
                len(entries),
                time,
                draw(st.binary(min_size=16, max_size=16)),
                draw(st.sampled_from([0, 0, 5])),
                draw(st.none() | st.binary(max_size=9)),
                b"[" + b",".join(entries) + b"]",
            )
        )
    return rows, before


@given(slices())
def test_slices_come_out_as_they_went_in(made: tuple[list[SliceRow], int]) -> None:
    rows, before = made
    frame = Frame(packed(rows, before))
    assert (list(frame.rows()), frame.before, len(frame)) == (rows, before, len(rows))
    assert [frame.row(index) for index in range(len(rows))] == rows
    assert frame.entries == b",".join(row[8][1:-1] for row in rows)


@given(slices(), st.data())
def test_what_was_changed_is_refused_or_read_and_raises_nothing_else(
    made: tuple[list[SliceRow], int], data: st.DataObject
) -> None:
    content = bytearray(packed(*made))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        rows = list(Frame(bytes(content)).rows())
    except FrameError:
        return
    positions = [row[0] for row in rows]
    assert positions == sorted(set(positions))
    assert all(row[3] >= 1 and FIRST_MICROS <= row[4] <= LAST_MICROS for row in rows)


@given(st.binary(max_size=60))
def test_no_other_bytes_are_a_frame(content: bytes) -> None:
    with pytest.raises(FrameError):
        Frame(content)


ROW: SliceRow = (4, 1, 2, 2, 0, bytes(16), 0, None, b"[1,2]")


@pytest.mark.parametrize(
    ("index", "value"),
    [(5, bytes(15)), (8, b"[]"), (8, b"1,2"), (8, b" [1]")],
    ids=["a short id", "no entries", "no brackets", "a space"],
)
def test_what_cannot_be_packed_is_refused(index: int, value: Any) -> None:
    row: Any = (*ROW[:index], value, *ROW[index + 1 :])
    with pytest.raises(FrameError):
        packed([row], 2)


def test_times_that_step_back_make_no_frame() -> None:
    with pytest.raises(FrameError):
        Frame(packed([(*ROW[:4], 9, *ROW[5:]), (6, *ROW[1:])], 2))


@pytest.mark.parametrize("field", range(12))
def test_a_frame_says_all_that_it_should(field: int) -> None:
    """Every field is looked at: a number too many, one of another kind, a longer column."""
    fields: list[Any] = msgspec.msgpack.decode(packed([ROW, (6, *ROW[1:])], 2))
    for wrong in (b"", "text", -1, [], [0, -1], fields + fields):
        if wrong == fields[field] or (field, wrong) == (1, -1):  # a microsecond before 1970
            continue
        changed = [*fields[:field], wrong, *fields[field + 1 :]]
        with pytest.raises(FrameError):
            Frame(msgspec.msgpack.encode(changed))
    with pytest.raises(FrameError):
        Frame(msgspec.msgpack.encode([*fields, None]))


@given(st.binary(max_size=2_000), st.booleans())
def test_what_is_compressed_comes_back(content: bytes, with_dictionary: bool) -> None:
    compressor = Compressor(DICTIONARY if with_dictionary else b"")
    assert compressor.decompress(compressor.compress(content), len(content)) == content


def test_a_dictionary_makes_small_things_smaller() -> None:
    assert len(Compressor(DICTIONARY).compress(SAMPLES[7])) < len(Compressor().compress(SAMPLES[7]))
    assert trained(SAMPLES[:3]) == b""


@given(st.binary(max_size=80))
def test_no_other_bytes_are_decompressed(content: bytes) -> None:
    with pytest.raises(DecompressionError):
        Compressor().decompress(content, 1 << 20)


def test_what_is_damaged_or_too_large_is_not_decompressed() -> None:
    whole = Compressor().compress(bytes(1_000_000))
    assert len(whole) < 1_000
    with pytest.raises(DecompressionError, match="at most 999,999 bytes"):
        Compressor().decompress(whole, 999_999)
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 64
        try:
            found = Compressor().decompress(bytes(damaged), 1_000_000)
        except DecompressionError:
            continue
        assert found == bytes(1_000_000)  # a bit that means nothing


SAMPLES = [
    f'["Placed",1,{{"player":"p{n % 977}","amount":{n}}}]'.encode() * 9 for n in range(2_000)
]
DICTIONARY = trained(SAMPLES)
