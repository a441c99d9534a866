"""Slices as Arrow columns: the exact bytes come back, and every reader sees the same rows."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everwhen.codec.arrow_columns import SCHEMA, archive_table, arrow_batch, slices_in
from everwhen.codec.frames import FrameError
from everwhen.codec.json_encoding import encode_json
from everwhen.vocabulary.contract import StoredSlice

TEXT = st.text(st.characters(codec="utf-8"), max_size=6)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)
ZONES: Any = st.sampled_from([UTC, timezone(timedelta(hours=2)), None])
MOMENTS = st.none() | st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=ZONES)


@st.composite
def entries(draw: st.DrawFn) -> list[Any]:
    """An event's entry, whole or with parts that the codec leaves out."""
    entry = [draw(TEXT), draw(st.integers(1, 9)), draw(JSON)]
    if draw(st.booleans()):
        entry.append(draw(st.lists(TEXT, max_size=2)))
        if draw(st.booleans()):
            moment = draw(MOMENTS)
            own = {"id": draw(st.none() | TEXT), "extras": draw(st.none() | JSON)}
            own["occurred_at"] = None if moment is None else moment.isoformat()
            is_sparse = draw(st.booleans())
            entry.append(
                draw(st.none() | st.just({k: v for k, v in own.items() if v or not is_sparse}))
            )
    return entry


@st.composite
def stored(draw: st.DrawFn) -> list[StoredSlice]:
    """Slices in order, their bodies as the codec writes them or as any other JSON."""
    slices = []
    position = draw(st.integers(0, 1 << 40))
    for _ in range(draw(st.integers(1, 4))):
        of_slice = draw(st.lists(entries(), min_size=1, max_size=3))
        position += len(of_slice)
        body = draw(st.sampled_from([encode_json, _spaced]))(of_slice)
        slices.append(
            StoredSlice(
                position,
                draw(TEXT),
                len(of_slice) + draw(st.integers(0, 9)),
                len(of_slice),
                draw(st.integers(-(1 << 40), 1 << 50)),
                draw(st.binary(min_size=16, max_size=16)),
                draw(st.integers(0, 9)),
                draw(st.none() | JSON.map(encode_json)),
                body,
            )
        )
    return slices


def _spaced(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=True, indent=1).encode()


@given(stored())
def test_the_exact_slices_come_back(slices: list[StoredSlice]) -> None:
    assert slices_in(archive_table(slices)) == slices


@given(stored(), st.data())
def test_the_columns_say_what_the_entries_do(
    slices: list[StoredSlice], data: st.DataObject
) -> None:
    rows = arrow_batch(slices).to_pylist()
    expected = [
        (one.position - one.count + 1 + at, one.stream, one.version - one.count + 1 + at, entry)
        for one in slices
        for at, entry in enumerate(json.loads(one.body))
    ]
    found = [(row["position"], row["stream"], row["version"]) for row in rows]
    assert found == [one[:3] for one in expected]
    for row, (*_, entry) in zip(rows, expected, strict=True):
        assert [row["type"], row["schema_version"], json.loads(row["data"])] == entry[:3]
        assert row["tags"] == (entry[3] if len(entry) > 3 else [])
    names = data.draw(st.lists(st.sampled_from(SCHEMA.names), unique=True, min_size=1))
    assert arrow_batch(slices, names).to_pylist() == [{n: row[n] for n in names} for row in rows]
    picked = [
        data.draw(st.none() | st.lists(st.integers(0, one.count - 1), unique=True).map(sorted))
        for one in slices
    ]
    wanted = [
        one.position - one.count + 1 + at
        for one, indexes in zip(slices, picked, strict=True)
        for at in (range(one.count) if indexes is None else indexes)
    ]
    some = arrow_batch(slices, ["position"], picked)
    assert some.column(0).to_pylist() == wanted


def a_slice(body: bytes, count: int = 1, metadata: bytes | None = None) -> StoredSlice:
    return StoredSlice(count, "a", count, count, 0, bytes(16), 0, metadata, body)


def test_what_is_nested_deeper_than_a_decoder_goes_comes_back() -> None:
    deep = b"[" * 5_000 + b"]" * 5_000
    body = b'[["T",1,%b,["t"],{"id":"x","extras":{"a":%b}}]]' % (deep, deep)
    (back,) = slices_in(archive_table([a_slice(body)]))
    assert back.body == body


@pytest.mark.parametrize(
    ("damaged", "why"),
    [
        (a_slice(b"[[]"), "position 1"),
        (a_slice(b'[["T",1,{}]]', 2), "position 2 .*has 1 events"),
        (a_slice(b'[["T",1,"\xff"]]'), "utf-8"),
        (a_slice(b'[["T",1,{}]]', metadata=b"\xff"), "utf-8"),
        (a_slice(b'[["T",%d,{}]]' % (1 << 70)), "schema_version"),
    ],
)
def test_damaged_slices_are_refused(damaged: StoredSlice, why: str) -> None:
    with pytest.raises(FrameError, match=why):
        archive_table([damaged])


def test_a_table_that_is_no_archive_is_refused() -> None:
    table = archive_table([a_slice(b'[["T",1,{}],["T",1,{}]]', 2)])
    with pytest.raises(FrameError, match="columns"):
        slices_in(table.drop_columns("body"))
    with pytest.raises(FrameError, match="row 0"):
        slices_in(table.slice(0, 1))
    sizes = pa.array([0, 2], pa.int64())
    with pytest.raises(FrameError, match="row 0"):
        slices_in(table.set_column(15, ARCHIVE_FIELD, sizes))


ARCHIVE_FIELD = archive_table([a_slice(b'[["T",1,{}]]')]).schema.field("slice_size")
