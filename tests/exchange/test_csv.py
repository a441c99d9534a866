"""Other people's CSV files, by a mapping of their columns."""

from __future__ import annotations

from typing import Any

import pytest
from tests.exchange.stores import exported, imported

from everwhen import EverwhenError, NewEvent, RecordedEvent, Store, UnknownEvent, open_store
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
        ("s,when,n\na,1,2\n", 1, "there is no column 't'"),
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


def test_a_file_without_types_is_told_how_to_say_one(store: Store) -> None:
    reason = "no column is given for the type; .* or give one type for all with --every-type TYPE"
    with pytest.raises(ImportFormatError, match=reason):
        take(store, "s,t\na,1\n", stream="s", type=None, constant_type=None)


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
        {"time_format": "%Y%d%d"},
        {"time_format": "%d.%m. %H:%M"},
        {"time_format": "%Y%Q"},
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
    assert b"\n1,=cmd(),1,+Type" in exported(store, Csv(guard_formulas=False))
    assert b"\n1,'=cmd(),1,'+Type" in exported(store, Csv())


ROWS = "stream{0}recorded_at{0}kwh\na{0}2026-01-01T00:00:00Z{0}1.5\n"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_what_stands_between_the_cells_is_found_out(store: Store, delimiter: str) -> None:
    (event,) = take(store, ROWS.format(delimiter))
    assert (event.stream, event.data) == ("a", {"kwh": "1.5"})
    report = imported(
        store,
        ROWS.format(delimiter).encode(),
        Csv(type=None, constant_type="Read", delimiter=delimiter),
    )
    assert report.repeated == 1, "said or found out, it is the same import"


def test_a_header_decides_by_the_columns_that_are_needed(store: Store) -> None:
    (event,) = take(store, "stream;recorded_at;a,b,c,d\nx;2026-01-01T00:00:00Z;1\n")
    assert event.data == {"a,b,c,d": "1"}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "latin-1", "utf-8-sig"])
def test_any_encoding_that_python_knows(store: Store, encoding: str) -> None:
    text = "stream;recorded_at;ö\nä;2026-01-01T00:00:00Z;ü\nß;2026-01-01T00:00:00Z;Ċ\n"
    if encoding == "latin-1":
        text = text.replace("Ċ", "é")
    events = take(store, text.encode(encoding), encoding=encoding)
    assert [event.stream for event in events] == ["ä", "ß"]
    assert events[0].data == {"ö": "ü"}


@pytest.mark.parametrize(
    ("content", "encoding", "reason"),
    [
        ("s\n".encode("utf-16"), "utf-8", "UTF-16 or UTF-32; use --encoding utf-16"),
        (b"stream,recorded_at\na,\xd8\n", "utf-16", "the text is not utf-16 from here on"),
        (ROWS.format(",").encode() + b"\xff\xff\n", "ascii", "the row has 1 cells"),
        (b"s", "no-such", "no such encoding"),
        (b"s", "rot13", "no such encoding"),
        (b"stream\n", "idna", "the text is not idna"),
    ],
)
def test_a_wrong_encoding_is_told(store: Store, content: bytes, encoding: str, reason: str) -> None:
    with pytest.raises(EverwhenError, match=reason):
        take(store, content, encoding=encoding)
    assert store.head().position == 0


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ("12,5", 12.5),
        ("1.234,5", 1234.5),
        ("1.234", 1234.0),
        ("-1.234.567,25", -1234567.25),
        (" +7 ", 7.0),
        (",5", 0.5),
        ("5,", 5.0),
    ],
)
def test_decimal_commas(store: Store, cell: str, number: float) -> None:
    text = f"stream;recorded_at;kwh\na;2026-01-01T00:00:00Z;{cell}\n"
    (event,) = take(store, text, floats=("kwh",), decimal_comma=True)
    assert event.data == {"kwh": number}


@pytest.mark.parametrize("cell", ["12.5", "1,2,3", "12.34,5", ",", "1e5", "x", "1 234,5"])
def test_what_no_decimal_comma_makes_a_number(store: Store, cell: str) -> None:
    text = f'stream;recorded_at;kwh\na;2026-01-01T00:00:00Z;"{cell}"\n'
    with pytest.raises(ImportFormatError, match=r"'kwh'.*decimal comma"):
        take(store, text, floats=("kwh",), decimal_comma=True)
    with pytest.raises(ImportFormatError):
        take(store, text, integers=("kwh",), decimal_comma=True)


def test_whole_numbers_with_a_decimal_comma(store: Store) -> None:
    text = "stream;recorded_at;n\na;2026-01-01T00:00:00Z;1.234.567.890.123.456.789\n"
    (event,) = take(store, text, integers=("n",), decimal_comma=True)
    assert event.data == {"n": 1234567890123456789}


@pytest.mark.parametrize(
    ("text", "mapping", "reason"),
    [
        ("id,recorded_at\na,1\n", {}, "--column stream=NAME"),
        ("stream,when\na,1\n", {}, "--column time=NAME, or use --column time= if there is none"),
        ("stream,recorded_at\na,1\n", {"type": "type", "constant_type": None}, "--every-type"),
        ("stream,recorded_at\na,2026-01-01\n", {}, "'recorded_at': .*--time-zone"),
        ("stream,recorded_at\na,1.1.2026\n", {}, "'recorded_at': .*--time-format"),
        (
            "stream,recorded_at,occurred_at\na,2026-01-01T00:00:00Z,2026-01-01\n",
            {},
            "'occurred_at': .*--time-zone",
        ),
    ],
)
def test_the_option_that_is_the_answer_is_named(
    store: Store, text: str, mapping: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ImportFormatError, match=reason):
        take(store, text, **mapping)


ODD = ("=cmd()", "'=cmd()", "''+x", "-5", "'-5", "+1.5e3", "@x", "-", "'quoted'", " =1", "\uff1dx")


@pytest.mark.parametrize("guard", [True, False])
def test_our_own_export_comes_back_whatever_was_guarded(store: Store, guard: bool) -> None:
    for name in ODD:
        store.append(name, [NewEvent(event=UnknownEvent(name, {"=a": "=b"}), event_id=name)])
    text = exported(store, Csv(guard_formulas=guard))
    if guard:
        assert b"\n1,'=cmd(),1,'=cmd()" in text
        assert b",-5,1,-5," in text
    with open_store("memory:") as other:
        imported(other, text, Csv())
        found = [(e.stream, e.type, e.metadata.event_id, e.data) for e in other.read()]
    assert found == [(name, name, name, {"=a": "=b"}) for name in ODD]


def test_what_others_wrote_keeps_its_quotes(store: Store) -> None:
    (event,) = take(store, "s,t,note\n'=a,2026-01-01T00:00:00Z,'=1\n", stream="s", time="t",
                    type=None, constant_type="T")  # fmt: skip
    assert (event.stream, event.data) == ("'=a", {"note": "'=1"})
