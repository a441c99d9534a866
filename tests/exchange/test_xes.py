"""IEEE XES, the standard of process mining."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import pytest
from tests.exchange.stores import exported, imported

from everwhen import Query, Store, UnknownEvent, open_store
from everwhen.exchange import ImportFormatError, Xes

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


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        (LOG.replace(b'"2026-01-03T12:00:00Z"', b'"someday"'), 23, "someday"),
        (LOG.replace(b'"42"', b'"old"'), 7, "old"),
        (LOG.replace(b"</trace>", b"</track>", 1), 27, "mismatched"),
        (LOG[:-9], 0, "no element found|unclosed"),
        (b"<html><body/></html>", 1, "XES"),
        (b"", 0, "no element"),
        (LOG.replace(b'key="cost" ', b""), 16, "no key"),
        (LOG.replace(b"<container", b"<banana", 1).replace(b"</container", b"</banana"), 22, "<ba"),
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
    with pytest.raises(ImportFormatError, match=r"refused|deep"):
        imported(store, text, Xes(), **options)
    assert store.head().position == 0
