"""A file that shares much with one that was imported before is noticed, whatever else changed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.exchange.stores import imported

from everwhen import Store, open_store
from everwhen.exchange import CloudEvents, Csv, Format, ImportedBeforeError, Xes
from everwhen.exchange.row_digests import KEPT_DIGESTS, Sketch, unpacked

HEADER = "stream,type,recorded_at,n"
READ = Csv(time_zone="UTC")
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def rows(first: int, count: int) -> list[str]:
    """Rows of which each has a time of its own, one a second."""
    return [
        f"s-{n % 7},A,{(BEGAN + timedelta(seconds=n)).replace(tzinfo=None).isoformat()},{n}"
        for n in range(first, first + count)
    ]


def table(found: list[str], end: str = "\n") -> bytes:
    return "".join(f"{row}{end}" for row in [HEADER, *found]).encode()


@pytest.fixture
def store() -> Iterator[Store]:
    with open_store("memory:") as store:
        yield store


OTHERS = {
    "grown": table(rows(0, 21)),
    "cut": table(rows(2, 18)),
    "reversed": table(rows(0, 20)[::-1]),
    "line ends": table(rows(0, 20), "\r\n"),
    "a mark": b"\xef\xbb\xbf" + table(rows(0, 20)),
    "semicolons": table(rows(0, 20)).replace(b",", b";"),
    "quotes": table([f'"{row.replace(",", chr(34) + "," + chr(34))}"' for row in rows(0, 20)]),
    "utf-16": table(rows(0, 20)).decode().encode("utf-16"),
    "half": table(rows(10, 20)),
    "much grown": table(rows(0, 5_000)),
    "one row of it": table(rows(4, 1)),
}


@pytest.mark.parametrize("change", OTHERS)
@pytest.mark.parametrize("integers", [(), ("n",)])
def test_a_changed_file_of_the_same_rows_is_noticed(
    store: Store, change: str, integers: tuple[str, ...]
) -> None:
    encoding = "utf-16" if change == "utf-16" else "utf-8"
    other = Csv(time_zone="UTC", integers=integers, encoding=encoding)
    assert imported(store, table(rows(0, 20)), READ).written == 20
    with pytest.raises(ImportedBeforeError, match=r"among the 20 of the import of 20\d\d-") as told:
        imported(store, OTHERS[change], other)
    assert "--again" in str(told.value)
    assert store.head().position == 20
    report = imported(store, OTHERS[change], other, again=True)
    assert report.written == report.events
    assert imported(store, OTHERS[change], other).repeated == report.events


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((0, 20_000), (19_000, 20_000)),  # a twentieth
        ((0, 500), (490, 500)),
        ((0, 10), (9, 10)),
        ((0, 20_000), (20_000, 20_000)),
        ((0, 300), (280, 20_000)),
    ],
)
def test_files_with_little_in_common_are_taken_in(
    store: Store, first: tuple[int, int], second: tuple[int, int]
) -> None:
    imported(store, table(rows(*first)), READ)
    assert imported(store, table(rows(*second)), READ).written == second[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "second", "about"),
    [
        ((0, 10_000), (5_000, 10_000), 5_000),
        ((0, 10_000), (0, 60_000), 10_000),
        ((0, 60_000), (50_000, 10_000), 10_000),
    ],
)
def test_how_much_they_share_is_told(
    store: Store, first: tuple[int, int], second: tuple[int, int], about: int
) -> None:
    shuffled = rows(*second)
    random.Random(5).shuffle(shuffled)
    imported(store, table(rows(*first)), READ)
    with pytest.raises(ImportedBeforeError) as told:
        imported(store, table(shuffled), READ)
    said = int(str(told.value).split("about ")[1].split(" ")[0].replace(",", ""))
    assert about * 0.75 <= said <= about * 1.25


def test_of_several_imports_the_one_that_shares_most_is_named(store: Store) -> None:
    for day in range(4):
        assert imported(store, table(rows(day * 100, 90 + day)), READ).written == 90 + day
    with pytest.raises(ImportedBeforeError, match=r"about 93 of its 400 rows .* among the 93 of"):
        imported(store, table(rows(0, 400)), READ)


LINE = '{{"specversion":"1.0","id":"{n}","source":"/m","type":"T","data":{{"n":{n}}}}}\n'
EVENT = (
    '<event><string key="concept:name" value="A"/><int key="n" value="{n}"/>'
    '<date key="time:timestamp" value="2026-01-01T00:00:{n:02}Z"/></event>'
)


def lines(first: int, count: int) -> bytes:
    return "".join(LINE.format(n=n) for n in range(first, first + count)).encode()


def log(first: int, count: int) -> bytes:
    events = "".join(EVENT.format(n=n) for n in range(first, first + count))
    name = '<string key="concept:name" value="c"/>'
    return f"<log><trace>{name}{events}</trace></log>".encode()


@pytest.mark.parametrize(
    ("before", "after", "format_"),
    [
        (lines(0, 20), lines(0, 21), CloudEvents()),
        (lines(0, 20), lines(0, 20).replace(b'"n":', b'"n" : '), CloudEvents()),
        (lines(0, 20), lines(5, 20), CloudEvents(time=BEGAN)),
        (log(0, 20), log(0, 21), Xes()),
        (log(0, 20), log(0, 20).replace(b"><", b">\n<"), Xes(category="other")),
    ],
)
def test_so_are_events_of_other_formats(
    store: Store, before: bytes, after: bytes, format_: Format
) -> None:
    imported(store, before, type(format_)())
    position = store.head().position
    with pytest.raises(ImportedBeforeError, match="rows were imported before"):
        imported(store, after, format_)
    assert store.head().position == position
    later = log(40, 19) if isinstance(format_, Xes) else lines(100, 20)
    assert imported(store, later, type(format_)()).repeated == 0


def test_what_is_left_out_of_a_row_leaves_no_trace(store: Store) -> None:
    text = b"stream,type,recorded_at,name\ns,A,2026-01-01T00:00:00Z,Ada\n"
    other = text.replace(b"Ada", b"Bob")
    format_ = Csv(ignored=("name",))
    imported(store, text, format_)
    with pytest.raises(ImportedBeforeError, match="about 1 of its 1 rows"):
        imported(store, other, format_)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 5_000)), st.integers(0, 2**32))
def test_a_sketch_is_the_smallest_distinct_digests_in_any_order(
    digests: list[int], seed: int
) -> None:
    sketch = Sketch()
    shuffled = [*digests, *range(10_000, 10_000 + KEPT_DIGESTS)]
    random.Random(seed).shuffle(shuffled)
    for digest in shuffled:
        sketch.add(digest)
    assert unpacked(sketch.packed) == sorted(set(shuffled))[:KEPT_DIGESTS]
    assert sketch.rows == len(shuffled)
