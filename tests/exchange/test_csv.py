"""Other people's CSV files, by a mapping of their columns."""

from __future__ import annotations

from typing import Any

import pytest
from tests.exchange.stores import exported, imported

from everwhen import EverwhenError, RecordedEvent, Store, UnknownEvent, open_store
from everwhen.exchange import Csv, ImportFormatError


@pytest.fixture
def store() -> Store:
    return open_store("memory:")


def take(store: Store, text: str | bytes, **mapping: Any) -> list[RecordedEvent[Any]]:
    content = text if isinstance(text, bytes) else text.encode()
    report = imported(store, content, Csv(**{"type": None, "constant_type": "Read", **mapping}))
    events = list(store.read())
    assert report.written == len(events)
    return events


def test_columns_have_the_types_that_are_asked_for(store: Store) -> None:
    text = (
        "id,when,n,x,ok,raw,free,empty\n"
        '7,2026-01-01T00:00:00Z,0012,1.50,Yes,"{""a"": [1, 2]}", kept ,\n'
    )
    (event,) = take(
        store,
        text,
        stream="id",
        category="meter",
        time="when",
        integers=("n",),
        floats=("x",),
        booleans=("ok",),
        json=("raw",),
    )
    assert event.stream == "meter-7"
    assert event.type == "Read"
    assert event.data == {"n": 12, "x": 1.5, "ok": True, "raw": {"a": [1, 2]}, "free": " kept "}
    (again,) = take(open_store("memory:"), text, stream="id", time="when", empty_as_null=True)
    assert again.data["empty"] is None


@pytest.mark.parametrize(
    ("mapping", "cell", "moment"),
    [
        ({}, "2026-07-01 12:00:00.5+02:00", "2026-07-01T10:00:00.500000+00:00"),
        ({"time_zone": "UTC"}, "2026-07-01", "2026-07-01T00:00:00+00:00"),
        ({"time_zone": "Europe/Berlin"}, "2026-07-01T12:00", "2026-07-01T10:00:00+00:00"),
        ({"time_zone": "Europe/Berlin"}, "2026-10-25T02:30", "2026-10-25T00:30:00+00:00"),
        ({"time_zone": "-05:30"}, "2026-07-01T12:00", "2026-07-01T17:30:00+00:00"),
        ({"time_format": "s"}, "86400", "1970-01-02T00:00:00+00:00"),
        ({"time_format": "s"}, "-0.25", "1969-12-31T23:59:59.750000+00:00"),
        ({"time_format": "ms"}, "86400001", "1970-01-02T00:00:00.001000+00:00"),
        (
            {"time_format": "%d.%m.%Y %H:%M", "time_zone": "UTC"},
            "01.07.2026 08:15",
            "2026-07-01T08:15:00+00:00",
        ),
    ],
)
def test_times_as_they_are_written(
    store: Store, mapping: dict[str, Any], cell: str, moment: str
) -> None:
    (event,) = take(store, f"s;t\na;{cell}\n", stream="s", time="t", delimiter=";", **mapping)
    assert event.recorded_at.isoformat() == moment


def test_rows_are_sorted_by_time_and_rows_of_one_time_keep_their_order(store: Store) -> None:
    text = "s,t,n\na,3,x\nb,1,y\na,1,z\nb,2,w\n"
    events = take(store, text, stream="s", time="t", time_format="s")
    assert [e.data["n"] for e in events] == ["y", "z", "w", "x"]
    assert [(e.stream, e.version) for e in events] == [("b", 1), ("a", 1), ("b", 2), ("a", 2)]


def test_tags_ids_and_occurred_times(store: Store) -> None:
    text = "s,t,player,event_id,occurred_at\na,1,7,my-id,2020-01-01T00:00:00Z\na,2,,,\n"
    first, second = take(store, text, stream="s", time="t", time_format="s", tags=("player",))
    assert (first.tags, second.tags) == (("player:7",), ())
    assert first.event_id == "my-id"
    assert first.occurred_at.year == 2020
    assert second.occurred_at == second.recorded_at


@pytest.mark.parametrize(
    ("content", "mapping"),
    [
        ("\ufeffs,t,n\na,1,é\n".encode(), {}),
        ("s,t,n\r\na,1,é\r\n".encode(), {}),
        ("s,t,n\na,1,é".encode(), {}),
        ("s,t,n\na,1,é\n".encode("latin-1"), {"encoding": "latin-1"}),
        ("s\tt\tn\na\t1\té\n".encode(), {"delimiter": "\t"}),
        ('"s","t","n"\n\n"a","1","é"\n\n'.encode(), {}),
    ],
)
def test_encodings_line_ends_and_delimiters(
    store: Store, content: bytes, mapping: dict[str, Any]
) -> None:
    (event,) = take(store, content, stream="s", time="t", time_format="s", **mapping)
    assert (event.stream, event.data) == ("a", {"n": "é"})


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("s,t,n\na,1,2\na,1\n", 3, "2 cells"),
        ('s,t,n,m\na,1,2,"x\ny"\na,soon,2,\n', 4, "soon"),
        ("s,t,n\na,1,two\n", 2, "column 'n'"),
        ("s,t,n\n,1,2\n", 2, "stream"),
        ("s,t,t\na,1,2\n", 1, "two columns"),
        ("s,when,n\na,1,2\n", 1, "no column is named 't'"),
        ('s,t,n\na,1,"2\n', 2, "quot"),
        ("s,t,n\na,1,2\na,1e400,2\n", 3, "1e400"),
        ("s,t,n\na\x00b,1,2\n", 2, "x00.*not allowed"),
    ],
)
def test_a_bad_row_is_named_and_nothing_is_written(
    store: Store, text: str, line: int, reason: str
) -> None:
    with pytest.raises(ImportFormatError, match=reason) as caught:
        take(store, text, stream="s", time="t", time_format="s", integers=("n",))
    assert caught.value.line == line
    assert store.head().position == 0


def test_bad_rows_are_left_out_on_demand(store: Store) -> None:
    text = "s,t,n\na,1,2\na,x,2\nb,2,3\nb,3,four\nc,4,5\n"
    chosen = Csv(
        stream="s", time="t", type=None, constant_type="R", time_format="s", integers=("n",)
    )
    report = imported(store, text.encode(), chosen, skip_invalid=True, keep_reasons=1)
    assert (report.events, report.written, report.invalid) == (3, 3, 2)
    assert [invalid.line for invalid in report.reasons] == [3]
    assert [e.data["n"] for e in store.read()] == [2, 3, 5]


@pytest.mark.parametrize(
    "mapping",
    [
        {"time_zone": "Mars/Olympus"},
        {"time_format": "%d%d"},
        {"time_format": "%Q"},
        {"encoding": "klingon"},
        {"delimiter": "too long"},
    ],
)
def test_a_mapping_that_makes_no_sense_says_so(store: Store, mapping: dict[str, Any]) -> None:
    with pytest.raises(EverwhenError) as caught:
        take(store, "s,t\na,1\n", stream="s", time="t", **mapping)
    assert str(next(iter(mapping.values()))) in str(caught.value)


def test_spreadsheets_can_be_kept_from_executing_cells(store: Store) -> None:
    store.append("=cmd()", [UnknownEvent("+Type", {})])
    assert b"\n1,=cmd(),1,+Type" in exported(store, Csv())
    assert b"\n1,'=cmd(),1,'+Type" in exported(store, Csv(guard_formulas=True))
