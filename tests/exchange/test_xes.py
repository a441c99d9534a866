"""IEEE XES, the standard of process mining."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.exchange.stores import exported, imported

from everwhen import Query, Store, UnknownEvent, open_store
from everwhen.errors import InvalidQueryError
from everwhen.exchange import CloudEvents, ImportFormatError, Notice, Xes, export_events
from everwhen.vocabulary.contract import MAX_DEPTH

ROOT = (
    b'<log xes.version="1.0" xes.features="nested-attributes" xmlns="http://www.xes-standard.org/">'
)
LOG = b"""<?xml version="1.0" encoding="UTF-8"?>
<log xes.version="1.0" xes.features="nested-attributes" xmlns="http://www.xes-standard.org/">
  <extension name="Concept" prefix="concept" uri="http://www.xes-standard.org/concept.xesext"/>
  <global scope="event"><string key="concept:name" value="?"/></global>
  <classifier name="Activity" keys="concept:name lifecycle:transition"/>
  <string key="concept:name" value="Hospital"/>
  <trace>
    <string key="concept:name" value="A &amp; B"/>
    <int key="age" value="42"/>
    <event>
      <string key="concept:name" value="Admit"/>
      <string key="lifecycle:transition" value="start"/>
      <date key="time:timestamp" value="2026-01-01T12:00:00.000+01:00"/>
      <float key="cost" value="1.50"/>
      <boolean key="urgent" value="true"/>
      <id key="ref" value="f81d4fae-7dec-11d0-a765-00a0c91e6bf6"/>
      <date key="due" value="2026-02-01T00:00:00Z"/>
      <string key="doctor" value="Ann"><int key="room" value="7"/></string>
      <list key="tests"><values><string key="t" value="x"/><int key="t" value="2"/></values></list>
      <container key="bed"><string key="ward" value="C"/></container>
    </event>
    <event>
      <string key="concept:name" value="Discharge"/>
      <date key="time:timestamp" value="2026-01-03T12:00:00Z"/>
    </event>
  </trace>
  <trace>
    <string key="concept:name" value="C"/>
    <event>
      <string key="concept:name" value="Admit"/>
      <date key="time:timestamp" value="2026-01-02T12:00:00Z"/>
    </event>
  </trace>
</log>
"""


def taken(text: bytes, category: str = "case") -> Store:
    store = open_store("memory:")
    imported(store, text, Xes(category))
    return store


def canonical(text: bytes) -> str:
    return ET.canonicalize(text.decode(), strip_text=True)  # our own output


def test_traces_become_streams_in_the_order_of_time() -> None:
    store = taken(LOG)
    own = [e for e in store.read() if e.type not in {"XesLog", "XesTrace"}]
    assert [(e.stream, e.type) for e in own] == [
        ("case-A & B", "Admit"),
        ("case-C", "Admit"),
        ("case-A & B", "Discharge"),
    ]
    assert own[0].recorded_at.isoformat() == "2026-01-01T11:00:00+00:00"
    assert own[0].data == {
        "concept:name": "Admit",
        "lifecycle:transition": "start",
        "time:timestamp": "2026-01-01T12:00:00.000+01:00",
        "cost": 1.5,
        "urgent": True,
        "ref": "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
        "due": "2026-02-01T00:00:00Z",
        "doctor": {"value": "Ann", "nested": {"room": 7}},
        "tests": ["x", 2],
        "bed": {"ward": "C"},
    }
    trace = next(store.read(Query().stream("case-A & B").types("XesTrace")))
    assert trace.data == {"case:concept:name": "A & B", "case:age": 42}
    log = next(store.read("log-case"))
    assert log.data["attributes"] == {"concept:name": "Hospital"}
    assert log.data["classifiers"][0]["keys"] == "concept:name lifecycle:transition"
    middle = own[1].recorded_at
    assert {e.stream for e in store.read(Query().as_at(middle).types("Admit"))} == {
        "case-A & B",
        "case-C",
    }


def test_the_log_comes_out_as_it_went_in() -> None:
    text = exported(taken(LOG), Xes())
    assert canonical(text) == canonical(LOG)
    assert exported(taken(text), Xes()) == text
    other = taken(LOG, "patient")
    assert {info.category for info in other.streams()} == {"patient", "log"}
    assert canonical(exported(other, Xes("patient"))) == canonical(LOG)


@pytest.mark.parametrize(
    "trace",
    [
        b'<string key="concept:name" value=""/>',
        b'<string key="other" value="x"/>',
        b'<string key="concept:name" value="a&#10;b"/>',
        b'<string key="concept:name" value="' + b"x" * 3_000 + b'"/>',
        b'<string key="k" value="1"/><string key="k" value="2"/>',
        b'<int key="big" value="123456789012345678901234567890"/>',
        b'<float key="f" value="NaN"/><float key="g" value="1e400"/>',
        b'<float key="f" value="-0.0"/><int key="i" value="+007"/>',
        b'<list key="l"/><container key="c"/>',
        b'<string key="s" value=" spaces &lt;&quot;&apos; "/>',
    ],
)
def test_odd_attributes_come_out_as_they_went_in(trace: bytes) -> None:
    event = b'<event><date key="time:timestamp" value="2026-01-01T00:00:00Z"/>%b</event>' % trace
    text = ROOT + b"<trace>%b%b</trace><trace>%b</trace></log>" % (
        trace,
        event,
        event,
    )
    assert canonical(exported(taken(text), Xes())) == canonical(text)


def test_traces_of_one_name_and_events_out_of_order() -> None:
    def event(day: int, name: str) -> str:
        return (
            f'<event><string key="concept:name" value="{name}"/>'
            f'<date key="time:timestamp" value="2026-01-{day:02}T00:00:00Z"/></event>'
        )

    twin = '<trace><string key="concept:name" value="same"/>%s</trace>'
    first = twin % (event(3, "late") + event(1, "early") + event(2, "middle"))
    text = ROOT + f"{first}{twin % event(2, 'other')}</log>".encode()
    store = taken(text)
    named = [e.type for e in store.read("case-same") if e.type != "XesTrace"]
    assert named == ["early", "middle", "other", "late"]
    assert canonical(exported(store, Xes())) == canonical(text)


def test_what_was_no_log_can_be_exported_as_one() -> None:
    store = open_store("memory:")
    store.append("case-1", [UnknownEvent("Paid", {"amount": 5, "nothing": None, "in": {"x": [1]}})])
    again = taken(exported(store, Xes()))
    (paid,) = again.read(Query().stream("case-1").types("Paid"))
    assert paid.data["amount"] == 5
    assert paid.data["in"] == {"x": [1]}


WRAPPED = LOG.replace(b"<trace>", b"<group><trace>", 1).replace(b"</trace>", b"</trace></group>", 1)


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        (LOG.replace(b'"2026-01-03T12:00:00Z"', b'"someday"'), 23, "someday"),
        (LOG.replace(b"</trace>", b"</track>", 1), 27, "mismatched"),
        (LOG[:-9], 0, "no element found|unclosed"),
        (b"<html><body/></html>", 1, "XES"),
        (b"", 0, "no element"),
        (LOG.replace(b"<container", b"<event", 1).replace(b"</container", b"</event"), 22, "<eve"),
        (WRAPPED, 6, "<trace> doesn't belong"),
    ],
)
def test_a_bad_element_is_named_and_nothing_is_written(text: bytes, line: int, reason: str) -> None:
    store = open_store("memory:")
    with pytest.raises(ImportFormatError, match=reason) as caught:
        imported(store, text, Xes())
    if line:
        assert abs(caught.value.line - line) <= 3
    assert store.head().position == 0


def test_bad_elements_are_left_out_on_demand() -> None:
    store = open_store("memory:")
    text = LOG.replace(b'"2026-01-03T12:00:00Z"', b'"someday"')
    report = imported(store, text, Xes(), skip_invalid=True)
    assert (report.invalid, report.written) == (1, 5)
    assert [e.type for e in store.read("case-A & B")] == ["XesTrace", "Admit"]


BOMB = b"""<!DOCTYPE log [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<log><string key="k" value="&b;"/></log>"""
FILE = b'<!DOCTYPE log [<!ENTITY x SYSTEM "file:///etc/passwd">]><log>&x;</log>'
DEEP = b"<log><trace><event>" + b'<container key="k">' * 5_000


@pytest.mark.parametrize("text", [BOMB, FILE, DEEP], ids=["bomb", "file", "deep"])
def test_hostile_xml_is_refused(text: bytes) -> None:
    store = open_store("memory:")
    options: dict[str, Any] = {"skip_invalid": True}
    with pytest.raises(ImportFormatError, match=r"not allowed|deep"):
        imported(store, text, Xes(), **options)
    assert store.head().position == 0


def log_of(inner: str) -> bytes:
    return f"{ROOT.decode()}\n{inner}\n</log>".encode()


def event_of(inner: str, time: str = "2026-01-01T00:00:00Z") -> str:
    return f'<event>{inner}<date key="time:timestamp" value="{time}"/></event>'


NAMED = '<string key="concept:name" value="A"/>'
SECOND = '<string key="concept:name" value="B"/>'


@pytest.mark.parametrize(
    ("inner", "what"),
    [
        ('<float key="m" value="2"><float value="3"/><int key="r" value="1"/></float>', "key"),
        ('<float value="3"><float key="below" value="3"/></float>', "key"),
        ('<global scope="event"><string value="x"/></global>', "key"),
        (f'<trace>{SECOND}<string value="x"/>{event_of(NAMED)}</trace>', "key"),
        (
            f"<trace>{SECOND}{event_of(NAMED + '<list><string key=' + repr('x') + '/></list>')}</trace>",
            "key",
        ),
        (f"<trace>{SECOND}{event_of(NAMED + '<string key=' + repr('x') + '/>')}</trace>", "value"),
        ('<string key="x"/>', "value"),
        ("<log-meta><string key='x' value='y'/></log-meta>", "<log-meta>"),
        (f"<trace>{SECOND}<note>text</note>{event_of(NAMED)}</trace>", "<note>"),
        (f"<trace>{SECOND}{event_of(NAMED + '<values/>')}</trace>", "<values>"),
        (f"<trace>{SECOND}{event_of('<classifier/>')}</trace>", "<classifier>"),
    ],
)
def test_what_breaks_the_standard_is_left_out_and_told(inner: str, what: str) -> None:
    store = open_store("memory:")
    report = imported(store, log_of(inner + f"<trace>{NAMED}{event_of(NAMED)}</trace>"), Xes())
    assert report.invalid == 0
    ((notice,)) = report.notices
    assert (notice.line, notice.count) == (2, 1)
    assert what in notice.what
    assert "left out" in str(notice)
    assert store.version("case-A") >= 2
    assert b"below" not in exported(store, Xes())
    assert canonical(exported(taken(exported(store, Xes())), Xes())) == canonical(
        exported(store, Xes())
    )


def test_values_that_are_not_of_their_type_are_kept_as_text_and_come_out_again() -> None:
    inner = (
        '<int key="count" value="3.0"/><boolean key="ok" value="yes"/>'
        '<date key="due" value="n/a"/><float key="cost" value="1,5"><int key="i" value="?"/></float>'
    )
    text = log_of(
        f'{inner}<global scope="event"><date key="time:timestamp" value="UNKNOWN"/></global>'
        f"<trace>{NAMED}{inner}{event_of(NAMED + inner)}</trace>"
    )
    store = open_store("memory:")
    report = imported(store, text, Xes())
    assert {n.what: n.count for n in report.notices} == {
        "'count' is not of type int, kept as text": 3,
        "'ok' is not of type boolean, kept as text": 3,
        "'due' is not of type date, kept as text": 3,
        "'cost' is not of type float, kept as text": 3,
        "'i' is not of type int, kept as text": 3,
    }
    (event,) = store.read(Query().types("A"))
    assert event.data["count"] == "3.0"
    assert event.data["cost"] == {"value": "1,5", "nested": {"i": "?"}}
    assert canonical(exported(store, Xes())) == canonical(text)


@pytest.mark.parametrize("tag", ["string", "int", "id", "float"])
def test_traces_and_events_are_named_by_whatever_type_their_name_has(tag: str) -> None:
    name = f'<{tag} key="concept:name" value="7"/>'
    text = log_of(f"<trace>{name}{event_of(name)}</trace>")
    store = taken(text)
    assert [(e.stream, e.type) for e in store.read("case-7")] == [
        ("case-7", "XesTrace"),
        ("case-7", "7"),
    ]
    assert canonical(exported(store, Xes())) == canonical(text)


@pytest.mark.parametrize("beside", ["", ', "odd": "1.50"'])
@pytest.mark.parametrize("kind", ["lists", "objects"])
def test_what_an_event_may_hold_comes_back_out_of_xes(kind: str, beside: str) -> None:
    deep: Any = 1
    for _ in range(MAX_DEPTH - 1):  # the data itself is a level
        deep = [deep] if kind == "lists" else {"in": deep}
    store = open_store("memory:")
    store.append("case-1", [UnknownEvent("Paid", {"deep": deep})])
    text = exported(store, Xes())
    if beside:  # a number that JSON says otherwise has to be noted beside the data, with all around
        text = text.replace(b'<int key="in" value="1"/>', b'<int key="in" value="+1"/>')
        text = text.replace(b'<int key="deep" value="1"/>', b'<int key="deep" value="+1"/>')
        assert b'"+1"' in text
    again = taken(text)
    (paid,) = again.read(Query().types("Paid"))
    assert paid.data["deep"] == deep
    assert canonical(exported(again, Xes())) == canonical(text)


DIALECTS = [
    log_of(f"<trace>{NAMED}{event_of(NAMED)}</trace>").replace(
        b'xmlns="http://www.xes-standard.org/"', b""
    ),
    (
        b'<xes:log xmlns:xes="http://www.xes-standard.org/" xes.version="1849-2016">'
        b'<xes:trace><xes:string key="concept:name" value="A"/><xes:event><xes:string key="concept:name"'
        b' value="A"/><xes:date key="time:timestamp" value="2026-01-01T00:00:00Z"/></xes:event>'
        b"</xes:trace></xes:log>"
    ),
    (
        b'<?xml version="1.0" encoding="ISO-8859-1"?><!-- made by hand --><log openxes.version="1.0RC7">'
        b'<?tool x?><trace><string key="concept:name" value="A"/><![CDATA[ text ]]><event>'
        b'<string key="concept:name" value="A"/><date key="time:timestamp" '
        b'value="2026-01-01T00:00:00.000+0000"/></event></trace></log>'
    ),
    log_of(f"<trace>{NAMED}{event_of(NAMED, '2026-01-01t00:00:00z')}</trace>"),
]


@pytest.mark.parametrize("text", DIALECTS)
def test_dialects(text: bytes) -> None:
    store = open_store("memory:")
    report = imported(store, text, Xes())
    assert not report.notices
    (event,) = store.read(Query().types("A"))
    assert (event.stream, event.recorded_at) == ("case-A", datetime(2026, 1, 1, tzinfo=UTC))


def untimed(names: str) -> str:
    return "".join(f'<event><string key="concept:name" value="{name}"/></event>' for name in names)


def test_a_log_without_times_is_recorded_as_of_now_in_the_order_of_the_file() -> None:
    trace = '<trace><string key="concept:name" value="{}"/>{}</trace>'
    text = log_of(trace.format("x", untimed("BA")) + trace.format("w", untimed("C")))
    store = open_store("memory:")
    before = store.clock()
    report = imported(store, text, Xes())
    assert report.notices == (Notice("events without a time, recorded now", 2, 3),)
    order = [e.type for e in store.read()]
    assert order == ["XesLog", "XesTrace", "B", "A", "XesTrace", "C"]
    assert all(before <= e.recorded_at for e in store.read())
    assert canonical(exported(store, Xes())) == canonical(text)
    assert imported(store, text, Xes()).written == 0


def test_or_at_the_time_that_is_given() -> None:
    moment = datetime(2020, 1, 1, tzinfo=UTC)
    text = log_of(f"<trace>{NAMED}{untimed('BA')}</trace>")
    store = open_store("memory:")
    report = imported(store, text, Xes(time=moment))
    assert [n.count for n in report.notices] == [2]
    assert [e.type for e in store.read()] == ["XesLog", "XesTrace", "B", "A"]
    assert {e.occurred_at for e in store.read()} == {moment}
    assert exported(store, Xes()).count(b"2020-01-01T00:00:00Z") == 2


def test_an_event_without_a_time_keeps_its_place_among_those_with_one() -> None:
    trace = (
        f"<trace>{NAMED}{untimed('A')}{event_of(NAMED.replace('A', 'B'), '2026-01-02T00:00:00Z')}"
    )
    text = log_of(f"{trace}{untimed('CD')}{event_of(NAMED.replace('A', 'E'))}</trace>")
    store = open_store("memory:")
    report = imported(store, text, Xes())
    assert [(n.count, n.what[:38]) for n in report.notices] == [
        (3, "events without a time, given the time ")
    ]
    own = [e for e in store.read("case-A") if e.type != "XesTrace"]
    assert [e.type for e in own] == ["A", "E", "B", "C", "D"]
    assert [e.recorded_at.day for e in own] == [1, 1, 2, 2, 2]
    assert canonical(exported(store, Xes())) == canonical(text)


def test_an_export_without_a_category_takes_the_one_there_is() -> None:
    store = open_store("memory:")
    assert b"<trace>" not in exported(store, Xes())
    store.append("order-1", [UnknownEvent("Paid", {"n": 1})])
    assert exported(store, Xes()) == exported(store, Xes("order"))
    assert b'value="Paid"' in exported(store, Xes())
    store.append("parcel-1", [UnknownEvent("Sent", {"n": 1})])
    with pytest.raises(InvalidQueryError, match=r"there are order, parcel; choose one"):
        exported(store, Xes())
    assert b'value="Sent"' not in exported(store, Xes(), query=Query().category("order"))


def test_an_export_holds_what_the_query_asks_for() -> None:
    store = taken(LOG)
    out = exported(store, Xes(), query=Query().types("Discharge"))
    assert (out.count(b"<trace>"), out.count(b"<event>"), out.count(b"Discharge")) == (1, 1, 1)
    assert b'key="age"' in out  # the trace's own
    early = Query().as_at(datetime(2026, 1, 2, tzinfo=UTC))
    assert exported(store, Xes(), query=early).count(b"<event>") == 1
    one = exported(store, Xes(), query=Query().stream("case-C"))
    assert (one.count(b"<trace>"), one.count(b"<event>")) == (1, 1)
    assert b"<trace>" not in exported(store, Xes(), query=Query().types("Nothing"))
    with pytest.raises(InvalidQueryError, match="limit"):
        exported(store, Xes(), query=Query().limit(1))


def notices_of(text: bytes) -> tuple[Store, dict[str, int]]:
    store = open_store("memory:")
    report = imported(store, text, Xes())
    return store, {notice.what: notice.count for notice in report.notices}


def cases_of(store: Store) -> dict[str, list[str]]:
    """The types of events by their streams, without those of the log and of traces."""
    found: dict[str, list[str]] = {}
    for event in store.read():
        if event.type not in {"XesLog", "XesTrace"}:
            found.setdefault(event.stream, []).append(event.type)
    return found


def named(value: str, tag: str = "string") -> str:
    return f'<{tag} key="concept:name" value="{value}"/>'


def test_different_cases_are_never_one() -> None:
    text = log_of(
        f"<trace>{event_of(named('nameless'))}</trace>"
        f"<trace>{named('1')}{event_of(named('first'))}</trace>"
        f"<trace>{named('', 'int')}{event_of(named('empty'))}</trace>"
        f"<trace>{named('3')}{event_of(named('third'))}</trace>"
        f"<trace>{named('~3')}{event_of(named('looks like ours'))}</trace>"
        f"<trace>{named('events')}{event_of(named('named events'))}</trace>"
        f"<trace>{named('~events')}{event_of(named('named like ours'))}</trace>"
        f"<trace>{event_of(named('before its name'))}{named('late')}</trace>"
        f"{event_of(named('in no trace'))}"
    )
    store, told = notices_of(text)
    cases = cases_of(store)
    assert cases.pop("case-~events") == ["in no trace"]
    assert sorted(types for (types,) in cases.values()) == [
        "before its name",
        "empty",
        "first",
        "looks like ours",
        "named events",
        "named like ours",
        "nameless",
        "third",
    ]
    assert cases["case-1"] == ["first"]
    assert cases["case-3"] == ["third"]
    assert cases["case-events"] == ["named events"]
    assert told == {
        "traces without a name before their events, each imported as its own case": 3,
        "'concept:name' is not of type int, kept as text": 1,
    }
    again = taken(exported(store, Xes()))
    assert sorted(map(sorted, cases_of(again).values())) == sorted(
        map(sorted, cases_of(store).values())
    )


def test_that_a_case_is_in_several_traces_is_told() -> None:
    twin = f"<trace>{NAMED}{event_of(NAMED)}</trace>"
    store, told = notices_of(log_of(twin * 3))
    assert cases_of(store) == {"case-A": ["A", "A", "A"]}
    assert told == {"traces with the name of an earlier trace, added to its case": 2}


def test_numbers_that_json_lacks_are_told_and_large_ones_kept() -> None:
    large, endless = 9999999999999999999999, "9" * 1_001
    inner = (
        f'<int key="large" value="{large}"/><int key="endless" value="{endless}"/>'
        '<float key="no" value="NaN"/><float key="inf" value="INF"/>'
        '<float key="huge" value="1e999"><int key="i" value="1"/></float>'
    )
    text = log_of(f"<trace>{NAMED}{event_of(NAMED + inner)}</trace>")
    store, told = notices_of(text)
    assert told == {
        "'endless' is not of type int, kept as text": 1,
        "'no' is not a finite number, kept as null": 1,
        "'inf' is not a finite number, kept as null": 1,
        "'huge' is not a finite number, kept as null": 1,
    }
    (event,) = store.read(Query().types("A"))
    assert event.data["large"] == large
    assert event.data["endless"] == endless
    assert event.data["huge"] == {"value": None, "nested": {"i": 1}}
    out = io.BytesIO()
    assert export_events(store, out, Xes()).notices == ()
    assert canonical(out.getvalue()) == canonical(text)


def test_what_an_export_leaves_out_is_told() -> None:
    with open_store("memory:") as store:
        store.append("case-1", [UnknownEvent("T", {"n": 2**70})])
        store.append("case-1", [UnknownEvent("T", {"a": None, "b": [None, {"c": None}], "d": 1})])
        out = io.BytesIO()
        (notice,) = export_events(store, out, Xes()).notices
        assert str(notice) == (
            "null values, which XES does not have, left out: 3, the first at position 2"
        )
        first, second = taken(out.getvalue()).read(Query().types("T"))
        assert first.data["n"] == 2**70
        assert second.data["b"] == [{}]
        assert export_events(store, io.BytesIO(), CloudEvents()).notices == ()


def test_times_without_a_zone_are_told() -> None:
    inner = event_of(NAMED, "2026-01-01T00:00:00") + event_of(NAMED, "2026-01-01T00:00:01Z")
    store, told = notices_of(log_of(f"<trace>{NAMED}{inner}</trace>"))
    assert told == {"times without a zone, read as UTC": 1}
    assert [e.recorded_at.isoformat() for e in store.read(Query().types("A"))] == [
        "2026-01-01T00:00:00+00:00",
        "2026-01-01T00:00:01+00:00",
    ]
