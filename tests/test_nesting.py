"""How deep data may be nested: judged by brackets alone, the same from wherever it is asked."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.exchange.stores import exported, imported

from everwhen import (
    Event,
    EventTypes,
    Fold,
    NewEvent,
    Query,
    Repository,
    Store,
    UnknownEvent,
    document,
    documents,
    open_store,
)
from everwhen.codec import Upcast
from everwhen.errors import DecodeError, InvalidEventError, TooDeepError
from everwhen.exchange import CloudEvents, import_events
from everwhen.state import diff
from everwhen.state.paths import plain
from everwhen.vocabulary import CommitMetadata
from everwhen.vocabulary.contract import MAX_DEPTH
from everwhen.vocabulary.nesting import (
    can_be_deeper,
    is_deeper,
    is_value_deeper,
    items_of,
    members_of,
)

T = TypeVar("T")

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('a[]{}",:\\ \n'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text('k[{"\\'), inner),
    max_leaves=30,
)


class Anything(Event):
    what: Any


class Counted(Event):
    count: int = 1


def nested(levels: int, innermost: Any = 1) -> dict[str, Any]:
    found: Any = innermost
    for _ in range(levels):
        found = {"in": found}
    return found  # type: ignore[no-any-return]


def depth_of(value: Any) -> int:
    if not isinstance(value, list | dict):
        return 0
    parts = value.values() if isinstance(value, dict) else value
    return 1 + max(map(depth_of, parts), default=0)


def from_deep_down(frames: int, function: Callable[[], T]) -> T:
    return function() if frames == 0 else from_deep_down(frames - 1, function)


@given(JSON, st.integers(1, 8))
def test_depth_is_that_of_the_value_whatever_its_texts_hold(value: Any, limit: int) -> None:
    text = msgspec.json.encode(value)
    assert is_deeper(text, limit) == (depth_of(value) > limit)
    assert is_deeper(json.dumps(value, indent=1).encode(), limit) == (depth_of(value) > limit)
    assert is_value_deeper(value, limit) == (depth_of(value) > limit)


@given(JSON)
def test_json_is_taken_apart_without_being_decoded(value: Any) -> None:
    text = json.dumps(value, indent=1).encode()
    if isinstance(value, list):
        assert [msgspec.json.decode(item) for item in items_of(text)] == value
    elif isinstance(value, dict):
        parts = members_of(text)
        assert {name: msgspec.json.decode(part) for name, part in parts.items()} == value


def test_text_without_end_and_a_value_in_itself_are_too_deep() -> None:
    assert is_deeper(b"[" * 1_000_000)
    assert is_deeper(b'{"a":' * 1_000_000)
    endless: list[Any] = []
    endless.append(endless)
    assert is_value_deeper(endless)
    assert not is_deeper(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    with pytest.raises(msgspec.DecodeError):
        items_of(b'[1, "a')


class Tree(msgspec.Struct):
    left: Tree | None = None


@dataclasses.dataclass
class Lists:
    numbers: list[dict[str, tuple[int, str]]]


@pytest.mark.parametrize(
    ("cls", "can_be"),
    [(Counted, False), (Lists, False), (Anything, True), (Tree, True), (dict, True)],
)
def test_a_type_says_whether_its_values_may_be_too_deep(cls: type[Any], can_be: bool) -> None:
    assert can_be_deeper(cls) is can_be


@pytest.mark.parametrize("frames", [0, 700])
def test_the_limit_is_the_same_from_deep_down_in_the_stack(frames: int) -> None:
    fits, is_over = Anything(nested(MAX_DEPTH - 1)), Anything(nested(MAX_DEPTH))
    with open_store("memory:", events=[Anything]) as store:
        good: list[list[Any]] = [[fits], [fits, fits], [UnknownEvent("T", nested(MAX_DEPTH))]]
        for events in good:
            from_deep_down(frames, lambda events=events: store.append("a", events))  # type: ignore[misc]
        for bad in (is_over, Anything(nested(20_000)), UnknownEvent("T", nested(MAX_DEPTH + 1))):
            rows: list[list[Any]] = [[bad], [fits, bad]]
            for events in rows:
                with pytest.raises(InvalidEventError, match="nested more than 100 levels"):
                    from_deep_down(frames, lambda events=events: store.append("a", events))  # type: ignore[misc]
        read = from_deep_down(frames, lambda: [event.event for event in store.read()])
        assert read[:3] == [fits] * 3
        assert len(read) == 4


def test_a_stack_that_is_full_is_not_blamed_on_the_event() -> None:
    def append_ever_deeper(store: Store) -> None:
        for frames in range(800, 1_100):  # the first that is too deep is so inside of the append
            from_deep_down(frames, lambda: store.append("a", [UnknownEvent("T", nested(90))]))

    with open_store("memory:") as store, pytest.raises(RecursionError):
        append_ever_deeper(store)


DEEP = [150, 900, 20_000]


@pytest.fixture(params=DEEP)
def poisoned(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A store with a deep event at each of positions 2, 3, 6, deep extras at 4 and for 5."""
    path = tmp_path / "store.db"
    with open_store(path, events=[Anything, Counted]) as store:
        store.append("a", [Counted(1), Anything("DEEP")])
        store.append("b", [UnknownEvent("Plain", {"what": "DEEP"})])
        extras = {"what": "DEEP"}
        own = NewEvent(event=Counted(2), extras=extras, event_id="own", tags=("a:b",))
        store.append("c", [own])
        store.append("d", [Counted(3)], metadata=CommitMetadata(extras=extras, user_id="ann"))
        store.append("e", [UnknownEvent("Old", {"what": "DEEP"})])
        store.append("f", [Counted(4)])
    inside = json.dumps("x").encode()
    deep = b'{"in":' * request.param + inside + b"}" * request.param
    connection = sqlite3.connect(path)
    for column in ("body", "metadata"):
        connection.execute(
            f"UPDATE slices SET {column} = CAST(replace({column}, '\"DEEP\"', ?) AS BLOB)"
            f" WHERE instr({column}, 'DEEP')",
            (deep.decode(),),
        )
    connection.commit()
    connection.close()
    return path


counted = Fold("counted", int)
counted.on(Counted)(lambda state, event: state + event.count)


@pytest.mark.slow
@pytest.mark.parametrize("upcasts", [(), (Upcast("Old", 1, lambda data: data),)])
def test_a_deep_event_that_is_there_says_where_and_spoils_no_other(
    poisoned: Path, upcasts: tuple[Upcast, ...]
) -> None:
    events = EventTypes(Anything, Counted, upcasts=upcasts)
    with open_store(poisoned, events=events) as store:
        for found in (list(store.read()), list(store.read(Query().backwards()))[::-1]):
            assert [event.position for event in found] == [1, 2, 3, 4, 5, 6, 7]
            for event in found:
                if event.position in (2, 3, 6):
                    for look in ("event", "data"):
                        with pytest.raises(DecodeError, match=f"position {event.position}, .*nest"):
                            getattr(event, look)
                else:
                    assert isinstance(event.event, Counted)
                if event.position in (4, 5):
                    with pytest.raises(DecodeError, match=f"position {event.position}, .*nest"):
                        _ = event.metadata
                else:
                    assert event.metadata.user_id is None
            assert (found[3].event_id, found[3].tags) == ("own", ("a:b",))
            assert json.loads(found[6].json) == {"count": 4}
        whole = Query().stream("a", "b", "c", "d", "f") if upcasts else Query()
        assert counted.state_of(store.read(whole)) == 10
        assert Repository(store, counted).load(whole).state == 10
        if upcasts:  # nobody knows what it would have become
            with pytest.raises(DecodeError, match="position 6, 'e' version 1"):
                counted.state_of(store.read())
        assert document.state_of(store.read("f"))["data"] == {"count": 4}
        with pytest.raises(DecodeError, match="position 2, 'a' version 2"):
            documents.state_of(store.read())
        store.append("a", [Counted(5)], expected=2)


def test_check_names_each_place_that_is_too_deep(poisoned: Path) -> None:
    with open_store(poisoned) as store:
        found = {problem.where: problem.what for problem in store.check()}
    assert [*found] == [f"position {at}" for at in (2, 3, 4, 5, 6)]
    assert all("nested more than 100 levels" in what for what in found.values())
    assert "commit's metadata extras" in found["position 5"]


def test_deep_events_are_exported_as_they_are_and_refused_by_name_on_import(
    poisoned: Path,
) -> None:
    with open_store(poisoned) as store:
        text = exported(store, CloudEvents())
    assert text.count(b"\n") == 7
    with open_store("memory:") as store:
        report = imported(store, text, CloudEvents(), skip_invalid=True)
        assert "nested more than 100 levels" in str(report)
        assert [event.data["count"] for event in store.read()] == [4]


@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 5_000, 300_000])
@pytest.mark.parametrize("ends", [True, False])
def test_a_foreign_line_that_is_too_deep_is_refused(
    levels: int, *, ends: bool, tmp_path: Path
) -> None:
    head = b'{"specversion":"1.0","id":"1","source":"/s","type":"R","time":"2026-01-01T00:00:00Z"'
    deep = b"[" * levels + b"]" * (levels if ends else 0)
    file = tmp_path / "file.jsonl"
    for name in (b"data", b"other"):
        file.write_bytes(b'%b,"%b":%b}\n%b,"data":{"n":1}}\n' % (head, name, deep, head))
        with open_store("memory:") as store:
            report = import_events(store, file, skip_invalid=True)
            assert report.written == 1
            assert [event.data for event in store.read()] == [{"n": 1}]


def test_diffs_go_as_deep_as_the_state() -> None:
    before, after = nested(5_000, 1), nested(5_000, 2)
    (change,) = diff(before, after)
    assert (len(change.path), change.before, change.after) == (5_000, 1, 2)


def test_lists_in_lists_are_compared_once_and_not_once_for_every_way_to_them() -> None:
    before: Any = 1
    after: Any = 2
    for _ in range(MAX_DEPTH):
        before, after = [before, "same"], [after, "same"]
    (change,) = diff(before, after)
    assert change.path == (0,) * MAX_DEPTH


def test_a_state_too_deep_to_be_copied_or_shown_is_told() -> None:
    deep = Fold("deep", dict[str, Any])
    deep.on(Counted)(lambda state, event: nested(200_000))
    with open_store("memory:", events=[Counted]) as store:
        store.append("a", [Counted()])
        repository = Repository(store, deep)
        loaded = repository.load("a")
        with pytest.raises(TooDeepError, match="state of fold 'deep' is nested more than 100"):
            repository.advance(loaded, "a")
        with pytest.raises(TooDeepError, match="nested more than 100 levels"):
            plain(loaded.state)
