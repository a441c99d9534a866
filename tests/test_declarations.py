"""Event types, upcasts, folds and queries that make no sense are refused where they are declared."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import attrs
import msgspec
import pytest

from everwhen import (
    Decisions,
    Event,
    EventTypes,
    EverwhenError,
    Fold,
    Projection,
    Query,
    TableProjection,
    UnknownEvent,
    documents,
    open_store,
)
from everwhen.codec import Upcast
from everwhen.commands import authorised
from everwhen.errors import DeclarationError, InvalidEventError, InvalidQueryError
from everwhen.projections import Queries
from everwhen.reactions import Reaction
from everwhen.vocabulary import EventType


class Placed(Event):
    amount: int


class Renamed(Event):
    type_name = "BetPlaced"
    schema_version = 2
    tag_fields = ("player",)

    player: int


class Child(Renamed):
    schema_version = 1


class Mutable(msgspec.Struct):
    x: int


class Wrong(Event):
    tag_fields = ("nobody",)

    player: int


class ZeroVersion(Event):
    schema_version = 0


@dataclasses.dataclass
class Thawed:
    x: int


@attrs.define
class Loose:
    x: int


def upcast(data: dict[str, Any]) -> dict[str, Any]:
    return data


def test_a_type_says_its_name_version_and_tags() -> None:
    declared = EventType(Renamed)
    assert (declared.name, declared.version) == ("BetPlaced", 2)
    assert declared.tags is not None
    assert list(declared.tags(Renamed(7))) == ["player:7"]
    assert EventType(Child).name == "Child", "a subclass is a type of its own"
    assert EventType(Placed, name="Old.Name", version=4).name == "Old.Name"
    assert EventTypes(Placed, EventType(Child)).names == {"Placed", "Child"}
    with pytest.raises(AttributeError):
        Placed(1).amount = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("declare", "says"),
    [
        (lambda: EventTypes(Mutable), "frozen=True"),
        (lambda: EventTypes(EventType(Thawed)), r"@dataclass\(frozen=True\)"),
        (lambda: EventTypes(EventType(Loose)), "attrs.frozen"),
        (lambda: EventTypes(int), "subclass everwhen.Event"),
        (lambda: EventTypes(Wrong), "'nobody'"),
        (lambda: EventTypes(ZeroVersion), "versions are 1, 2, 3"),
        (lambda: EventTypes(Placed, EventType(Child, name="Placed")), "'Placed'"),
        (lambda: EventTypes(EventType(Placed, name="a\nb")), "not allowed"),
        (lambda: EventTypes(Renamed), "nothing upcasts version 1"),
        (lambda: EventTypes(Placed, upcasts=[Upcast("Placed", 1, upcast)]), "leads away"),
        (
            lambda: EventTypes(upcasts=[Upcast("A", 1, upcast), Upcast("A", 1, upcast)]),
            "two upcasts",
        ),
        (lambda: Upcast("A", 0, upcast), "must be 1 or more"),
    ],
)
def test_declarations_that_do_not_fit(declare: Callable[[], Any], says: str) -> None:
    with pytest.raises(DeclarationError, match=says):
        declare()


def test_an_event_of_an_undeclared_class_is_refused_with_the_fix() -> None:
    with (
        open_store("memory:", events=[Placed]) as store,
        pytest.raises(InvalidEventError, match="Child"),
    ):
        store.append("a", [Child(1)])


def test_functions_that_would_have_to_be_awaited_are_refused() -> None:
    async def later(*_: Any) -> Any:
        """Would never be awaited."""

    class Noted(Event):
        text: str

    declarations: list[Callable[[Any], Any]] = [
        Fold("fold", int).on(Noted),
        Fold("fold", int).otherwise,
        TableProjection("table", "CREATE TABLE {t} (n)").on(Noted),
        TableProjection("table", "CREATE TABLE {t} (n)").otherwise,
        Reaction("reaction").on(Noted),
        Decisions().on(Noted),
        Queries().on(Noted, Projection(Fold("fold", int))),
        authorised,
    ]
    for declare in declarations:
        with pytest.raises(DeclarationError, match="plain function"):
            declare(later)


def test_renaming_again_and_again_ends() -> None:
    types = EventTypes(
        upcasts=[
            Upcast("A", 1, lambda data: [UnknownEvent("B", data)], into=["B"]),
            Upcast("B", 1, lambda data: [UnknownEvent("A", data)], into=["A"]),
        ]
    )
    with open_store("memory:", events=types) as store:
        store.append("s", [UnknownEvent("A", {})])
        with pytest.raises(EverwhenError, match="A"):
            _ = [event.event for event in store.read()]


def test_an_upcast_may_use_the_old_class_or_the_data() -> None:
    class First(Event):
        type_name = "Paid"

        euros: int

    class Paid(Event):
        schema_version = 3

        cents: int
        by: str

    types = EventTypes(
        Paid,
        upcasts=[
            Upcast.typed(First, lambda old: UnknownEvent("Paid", {"cents": old.euros * 100}, 2)),
            Upcast("Paid", 2, lambda data: {**data, "by": "cash"}),
        ],
    )
    with open_store("memory:", events=types) as store:
        store.append("s", [UnknownEvent("Paid", {"euros": 3})])
        store.append("s", [Paid(5, "card")])
        assert [e.event for e in store.read(Query().types(Paid))] == [
            Paid(300, "cash"),
            Paid(5, "card"),
        ]


MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_query_is_a_value() -> None:
    base = Query().category("a")
    narrow = base.types(Placed).tags("x").after(3).backwards().limit(2)
    assert base == Query().category("a")
    assert narrow == Query().limit(2).backwards().after(3).tags("x").types("Placed").category("a")
    assert len({base, narrow, Query().category("a")}) == 2
    assert base.stream("a-1", "b-1") == base.stream("b-1", "a-1")
    assert Query().tags("x").tags("y") == Query().tags("y", "x")
    assert Query().stream("a", "b").stream("b", "c") == Query().stream("b")


@pytest.mark.parametrize(
    "ask",
    [
        lambda: Query().stream(),
        lambda: Query().stream(""),
        lambda: Query().tags(7),  # type: ignore[arg-type]
        lambda: Query().types(int),  # type: ignore[arg-type]
        lambda: Query().stream("a").stream("b"),
        lambda: Query().limit(-1),
        lambda: Query().after(1.5),  # type: ignore[arg-type]
        lambda: Query().up_to(True),
        lambda: Query().as_at(datetime(2026, 1, 1)),
        lambda: Query().as_of("yesterday"),  # type: ignore[arg-type]
        lambda: Query().after(3) | Query().tags("x"),
    ],
)
def test_queries_that_contradict_themselves(ask: Callable[[], Any]) -> None:
    with pytest.raises(InvalidQueryError):
        ask()


def test_a_fold_asks_each_function_for_its_own_type() -> None:
    fold = Fold("sums", lambda: (0, 0), version=2)

    @fold.on(Placed)
    def _(state: tuple[int, int], event: Placed) -> tuple[int, int]:
        return state[0] + event.amount, state[1]

    @fold.otherwise
    def _(state: tuple[int, int], _: Any) -> tuple[int, int]:
        return state[0], state[1] + 1

    with pytest.raises(DeclarationError, match="two functions for Placed"):
        fold.on(Placed)(lambda state, _: state)
    assert repr(fold) == "Fold('sums', version=2)"
    with open_store("memory:", events=[Placed, Child]) as store:
        store.append("s-1", [Placed(2), Child(1), UnknownEvent("Odd", {}), Placed(3)])
        store.append("s-2", [Placed(4)])
        assert store.fold(fold) == (9, 2)
        assert store.fold(fold, "s-1") == fold.state_of(store.read("s-1")) == (5, 2)
        assert store.fold(fold, Query().up_to(3)) == (2, 2)
        assert store.fold(fold, Query().limit(1)) == (2, 0)
        assert fold.state_of(store.read("s-2"), (100, 0)) == (104, 0)
        assert fold.apply((0, 0), [Placed(1), Child(1)]) == (1, 0)


def test_documents_lay_each_streams_data_over_what_was_there() -> None:
    with open_store("memory:") as store:
        store.append("s", [UnknownEvent("A", {"x": 1, "y": {"z": 1}}), UnknownEvent("B", {"y": 2})])
        store.append("t", [UnknownEvent("A", {"x": 3})])
        before, after = store.fold(documents, Query().up_to(1)), store.fold(documents)
        assert before["s"].data == {"x": 1, "y": {"z": 1}}
        assert after["s"].data == {"x": 1, "y": 2}
        assert (after["s"].type, after["s"].version, after["t"].position) == ("B", 2, 3)
        assert "t" not in before
