"""What is exported and imported again is the same."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.exchange.stores import (
    COMMITS,
    Placed,
    everything,
    exported,
    fill,
    imported,
    shop,
)

import everwhen.exchange.aio as aio_exchange
from everwhen import Commit, EventTypes, Query, open_store
from everwhen.aio import open_store as open_async
from everwhen.codec import Upcast
from everwhen.exchange import CloudEvents, Csv, ExchangeFileError, export_events, import_events
from everwhen.testing import ManualClock

STEPS = st.lists(st.sampled_from([0.0, 0.000001, 1.0, -5.0, 86_400.0]), min_size=1, max_size=4)


@pytest.mark.slow
@settings(max_examples=60)
@given(commits=st.lists(COMMITS, max_size=6), steps=STEPS)
def test_cloudevents_give_the_identical_store(commits: list[Commit], steps: list[float]) -> None:
    clock = ManualClock()
    with (
        open_store("memory:", events=[Placed], clock=clock) as first,
        open_store("memory:", events=[Placed]) as second,
    ):
        fill(first, clock, commits, steps)
        text = exported(first, CloudEvents())
        report = imported(second, text, CloudEvents())
        assert list(second.read()) == list(first.read())
        assert everything(second) == everything(first)
        assert report.written == report.events == first.head().position
        assert exported(second, CloudEvents()) == text
        again = imported(second, text, CloudEvents())
        assert (again.written, again.repeated) == (0, report.events)


@pytest.mark.slow
@settings(max_examples=40)
@given(commits=st.lists(COMMITS, max_size=5), steps=STEPS)
def test_csv_keeps_what_it_has_columns_for(commits: list[Commit], steps: list[float]) -> None:
    clock = ManualClock()
    with (
        open_store("memory:", events=[Placed], clock=clock) as first,
        open_store("memory:", events=[Placed]) as second,
    ):
        fill(first, clock, commits, steps)
        imported(second, exported(first, Csv()), Csv())
        for mine, theirs in zip(second.read(), first.read(), strict=True):
            assert (mine.position, mine.stream, mine.version) == (
                theirs.position,
                theirs.stream,
                theirs.version,
            )
            assert (mine.type, mine.schema_version) == (theirs.type, theirs.schema_version)
            assert (mine.data, mine.tags, mine.event_id) == (
                theirs.data,
                theirs.tags,
                theirs.event_id,
            )
            assert mine.recorded_at == theirs.recorded_at
            assert mine.occurred_at == theirs.occurred_at


@pytest.mark.parametrize("name", ["shop.jsonl", "shop.jsonl.gz"])
def test_through_files_into_sqlite(tmp_path: Path, name: str) -> None:
    first, _ = shop()
    report = export_events(first, tmp_path / name)
    assert report.events == first.head().position
    content = (tmp_path / name).read_bytes()
    text = gzip.decompress(content) if name.endswith("gz") else content
    assert report.bytes == len(text)
    assert text.count(b"\n") == report.events
    with open_store(tmp_path / "copy.db", events=[Placed]) as second:
        assert import_events(second, tmp_path / name).times == "recorded"
        assert everything(second) == everything(first)
        assert second.check() == []
        moment = list(first.read())[50].recorded_at
        assert second.position_at(moment) == first.position_at(moment) == 51


async def test_the_async_flavour_does_the_same(tmp_path: Path) -> None:
    first, _ = shop()
    export_events(first, tmp_path / "sync.jsonl")
    async with open_async(tmp_path / "copy.db", events=[Placed]) as second:
        await aio_exchange.import_events(second, tmp_path / "sync.jsonl")
        await aio_exchange.export_events(second, tmp_path / "async.jsonl")
        assert [e async for e in second.read()] == list(first.read())
    assert (tmp_path / "async.jsonl").read_bytes() == (tmp_path / "sync.jsonl").read_bytes()


def test_an_exported_line_is_a_valid_cloudevent() -> None:
    first, _ = shop()
    lines = exported(first, CloudEvents(source="https://shop.example")).splitlines()
    for line, event in zip(lines, first.read(), strict=True):
        told = json.loads(line)
        assert told["specversion"] == "1.0"
        assert told["id"] == event.event_id
        assert told["source"] == "https://shop.example"
        assert (told["type"], told["subject"]) == (event.type, event.stream)
        assert told["datacontenttype"] == "application/json"
        assert told["data"] == event.data
        assert all(name.isalnum() and name.islower() for name in told), "attribute names"


def test_stored_events_are_exported_as_stored_and_csv_as_read() -> None:
    types = EventTypes(
        upcasts=[Upcast("Noted", 1, lambda data: {"number": data["n"]}, into=("Noted",))]
    )
    first, _ = shop()
    with open_store("memory:", events=types) as newer:
        imported(newer, exported(first, CloudEvents()), CloudEvents())
        assert exported(newer, CloudEvents()) == exported(first, CloudEvents())
        with open_store("memory:") as third:
            imported(third, exported(newer, Csv()), Csv())
            noted = next(third.read(Query().types("Noted")))
            assert (noted.data, noted.schema_version) == ({"number": 0}, 2)


def test_a_selection_goes_into_another_store() -> None:
    first, _ = shop()
    query = Query().types(Placed).tags("player:2").after(10)
    text = exported(first, CloudEvents(), query=query)
    wanted = list(first.read(query))
    with open_store("memory:", events=[Placed]) as second:
        assert imported(second, text, CloudEvents()).written == len(wanted) > 5
        found = list(second.read())
        assert [e.event for e in found] == [e.event for e in wanted]
        assert [e.event_id for e in found] == [e.event_id for e in wanted]
        assert [e.recorded_at for e in found] == [e.recorded_at for e in wanted]
        assert imported(second, text, CloudEvents()).written == 0


def test_a_store_with_newer_events_takes_the_log_times_as_occurred() -> None:
    first, _ = shop()
    with open_store("memory:", events=[Placed]) as second:  # by the real clock: later than the log
        second.append("other", [Placed(1)])
        report = imported(second, exported(first, CloudEvents()), CloudEvents())
        assert report.times == "occurred"
        for mine, theirs in zip(second.read(Query().after(1)), first.read(), strict=True):
            assert mine.event_id == theirs.event_id
            assert mine.occurred_at == theirs.occurred_at
            assert mine.recorded_at > theirs.recorded_at


def test_an_export_takes_its_place_only_when_it_is_whole(tmp_path: Path) -> None:
    first, _ = shop()
    target = tmp_path / "shop.jsonl"
    target.write_text("precious")
    with pytest.raises(ExchangeFileError, match="already exists"):
        export_events(first, target)

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_events(first, target, overwrite=True, progress=interrupted)
    assert target.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [target]
    export_events(first, target, overwrite=True)
    assert target.read_bytes() == exported(first, CloudEvents())
    with pytest.raises(ExchangeFileError, match="folder"):
        export_events(first, tmp_path, CloudEvents())
    with pytest.raises(ExchangeFileError, match="there is no folder"):
        export_events(first, tmp_path / "no" / "such.jsonl")
