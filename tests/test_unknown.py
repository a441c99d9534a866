"""What never was: a typo is told from what never came true, with the nearest name."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from everwhen import Event, Fold, TimeMachine, UnknownEvent, document, documents, open_store
from everwhen.debugging import Session, break_of, watch_of
from everwhen.expressions import Expression


def asked(text: str) -> list[tuple[object, ...]]:
    return Expression(text).named_parts()


def test_what_an_expression_names_and_what_it_asks_after_itself() -> None:
    assert asked('state["depot"].data.Levl > 1000') == [("state", "depot", "data", "Levl")]
    assert asked("has(a.b) && a.b.c > 3 || d.e == 1") == [("d", "e")]
    assert asked('"hedy" in players && players.hedy.balance > 3') == [("players",)]
    assert asked("players.exists(p, p.rich > poor.limit)") == [("players",), ("poor", "limit")]
    assert asked("a[0].b == c[d.e].f && type(g) == int") == [
        ("a", 0, "b"), ("c",), ("d", "e"), ("g",),
    ]  # fmt: skip


class Measured(Event):
    level: int


class Depot(msgspec.Struct, frozen=True):
    level: int = 0
    note: str | None = None
    tanks: dict[str, int] = {}


def test_parts_that_no_state_has_had() -> None:
    with open_store("memory:") as store:
        store.append("depot-1", [UnknownEvent("Set", {"Level": 5, "gone": 1})])
        store.append("depot-2", [UnknownEvent("Set", {"Level": 7})])
        all_of_it, one = TimeMachine(store, documents), TimeMachine(store, document, "depot-1")

        def said(machine: TimeMachine[Any], text: str) -> list[str]:
            return [str(part) for part in machine.unknown_parts(Expression(text))]

        assert said(all_of_it, 'state["depot-1"].data.Level > 1000') == []
        assert said(all_of_it, 'state["depot-1"].data.Levl > 1000') == [
            "unknown: depot-1.data never had 'Levl'; did you mean state[\"depot-1\"].data.Level?"
        ]
        assert said(all_of_it, 'state["depot"].data.Level > 1') == [
            (
                "unknown: the state never had 'depot'; did you mean "
                'state["depot-2"].data.Level or state["depot-1"].data.Level?'
            )
        ]
        assert said(all_of_it, "depot-1.data.Level > 3") == [
            "unknown: the state never had 'depot'; did you mean state[\"depot-1\"]?"
        ], "the stream that is written there comes before what looks like it"
        (boolean,) = said(one, "data.Level == True")
        assert boolean == "unknown: the state never had 'True'; did you mean true?"
        (text,) = said(one, "data.Level == red")
        assert text.endswith('; a text stands in quotes: "red"')
        assert said(one, "Level > 3") == [
            "unknown: the state never had 'Level'; did you mean data.Level?"
        ]
        assert said(one, "has(data.Levl) && data.Levl > 1") == []
        (path,) = one.unknown_parts("state.data.Levl")
        assert (path.path, path.within) == (("data", "Levl"), ("data",))
        assert list(path.suggestions) == ["data.Level"]
        assert one.unknown_parts("state.data.Level") == []
        assert [w.after for w in one.history("state.data.Level")] == [5]
        step = one.last_write("state.data.Level")
        assert step is not None
        assert step.position == 1
        assert list(one.blame("state.data.gone")) == [("data", "gone")]


def test_what_was_there_once_and_what_is_declared_is_known() -> None:
    fold: Fold[dict[str, int]] = Fold("tanks", dict)
    depot: Fold[Depot] = Fold("depot", Depot)

    @fold.on(Measured)
    def _(state: dict[str, int], event: Measured) -> dict[str, int]:
        return {"full": event.level} if event.level > 5 else {"low": event.level}

    @depot.on(Measured)
    def _(state: Depot, event: Measured) -> Depot:
        return Depot(event.level)

    with open_store("memory:", events=[Measured]) as store:
        store.append("a-1", [Measured(9), Measured(2)])
        machine = TimeMachine(store, fold)
        assert machine.unknown_parts(Expression("full > 10")) == [], "it was there before"
        (part,) = machine.unknown_parts(Expression("fall > 10"))
        assert "'fall'" in str(part)
        typed = TimeMachine(store, depot)
        assert typed.unknown_parts("note") == typed.unknown_parts("note.text") == []
        assert str(typed.unknown_parts("levl")[0]).endswith("did you mean level?")
        assert typed.unknown_parts("tanks.north")[0].within == ("tanks",)


@pytest.mark.parametrize(
    "text", ["if data.Levl > 3", "Set if event.Levl > 3", "if before.data.Levl > 1"]
)
def test_the_debugger_says_so_of_breakpoints(text: str) -> None:
    with open_store("memory:") as store:
        store.append("depot-1", [UnknownEvent("Set", {"Level": 5})])
        session = Session(TimeMachine(store, document, "depot-1"))
        (part,) = session.unknown(break_of(text, session.machine))
        assert "'Levl'" in str(part)
        assert "Level?" in str(part)
        assert session.unknown(break_of(text.replace("Levl", "Level"), session.machine)) == []
        assert session.unknown(watch_of("state.data.Levl"))
        assert not session.unknown(watch_of("state.data.Level"))
        assert not session.unknown(watch_of("data.Level + 1"))
        session.breakpoints.add(watch_of("state.data.Level"))
        session.start(0)
        assert session.resume().position == 1
