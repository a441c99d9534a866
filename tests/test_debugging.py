"""The debugger's session: where it stops in both directions, and what there is to see."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from everwhen import Event, Fold, Store, TimeMachine, UnknownEvent, documents, open_store
from everwhen.debugging import (
    EventTrigger,
    InterruptedSearchError,
    PathTrigger,
    Session,
    StateTrigger,
    Stop,
    Trigger,
    ValueTrigger,
    break_of,
    searching,
    sketch,
    watch_of,
)
from everwhen.errors import ExpressionError, InvalidPathError, InvalidQueryError, ReadOnlyError
from everwhen.expressions import Expression
from everwhen.expressions.expression import Variables
from everwhen.state import plain
from everwhen.state.paths import path_of, value_at
from everwhen.travel import Step, Version
from everwhen.travel._sync import search
from everwhen.undo import Compensations


class Deposited(Event):
    owner: str
    amount: int


class Withdrawn(Event):
    owner: str
    amount: int


class Bank(msgspec.Struct, frozen=True):
    owners: dict[str, int] = {}
    total: int = 0


bank = Fold("bank", Bank)
undoing = Compensations()


@bank.on(Deposited)
def _deposited(state: Bank, event: Deposited) -> Bank:
    return _with(state, event.owner, event.amount)


@bank.on(Withdrawn)
def _withdrawn(state: Bank, event: Withdrawn) -> Bank:
    if event.amount > 1_000:
        raise ValueError("the till is empty")
    return _with(state, event.owner, -event.amount)


def _with(state: Bank, owner: str, amount: int) -> Bank:
    owned = state.owners.get(owner, 0) + amount
    return Bank({**state.owners, owner: owned}, state.total + amount)


@undoing.on(Deposited)
def _(event: Deposited) -> Withdrawn:
    return Withdrawn(event.owner, event.amount)


STEPS = [
    ("account-ada", Deposited("ada", 10)),
    ("account-bob", Deposited("bob", 5)),
    ("account-ada", Withdrawn("ada", 4)),
    ("account-bob", Deposited("bob", 50)),
    ("account-ada", Deposited("ada", 1)),
    ("account-bob", Withdrawn("bob", 30)),
    ("account-ada", Deposited("ada", 100)),
]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "bank.db", events=[Deposited, Withdrawn], durable=False) as store:
        for stream, event in STEPS:
            store.append(stream, [event])
        yield store


@pytest.fixture
def session(store: Store) -> Session:
    found = Session(TimeMachine(store, bank, keep=False))
    found.start()
    return found


def stops(session: Session, *, backwards: bool = False) -> list[int]:
    """All the places at which it stops."""
    session.goto(session.head if backwards else 0)
    at_newest = backwards and any(is_at(session, one.trigger) for one in session.breakpoints)
    found = [session.position] if at_newest else []
    stop = session.reverse() if backwards else session.resume()
    while stop.reason == "breakpoint":
        found.append(stop.position)
        stop = session.reverse() if backwards else session.resume()
    assert stop.reason == ("start" if backwards else "end")
    assert session.step().reason == "step" if backwards else session.step().reason == "end"
    return found


def is_at(session: Session, trigger: Trigger) -> bool:
    return session._searcher.after(trigger, session.position - 1, session.position) is not None


def test_it_begins_at_the_newest_event_and_walks(session: Session) -> None:
    assert session.position == 7
    assert session.step() == Stop("end", 7)
    assert session.back() == Stop("step", 6)
    assert session.back(4) == Stop("step", 2)
    assert session.state == Bank({"ada": 10, "bob": 5}, 15)
    event, step = session.event, session.step_here
    assert event is not None
    assert (event.type, event.stream) == ("Deposited", "account-bob")
    assert step is not None
    assert str(step.changes) == "owners.bob: + 5\ntotal: 10 → 15"
    assert session.back(100) == Stop("step", 0)
    assert session.back() == Stop("start", 0)
    assert session.event is None
    assert session.step_here is None
    assert session.state == Bank()
    assert session.goto(4) == Stop("goto", 4)
    with pytest.raises(InvalidQueryError, match="one stream"):
        session.goto(Version(1))
    assert session.position == 4


def test_of_one_stream_only_its_events_are_places(store: Store) -> None:
    session = Session(TimeMachine(store, bank, "account-bob", keep=False))
    assert session.start() == Stop("entry", 6)
    assert session.back() == Stop("step", 4)
    assert session.goto(Version(1)) == Stop("goto", 2)
    assert session.goto(5) == Stop("goto", 4)
    session.breakpoints.add(EventTrigger(streams=frozenset({"account-ada"})))
    assert stops(session) == [], "the other stream isn't in this history"


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("Withdrawn", [3, 6]),
        ("account-bob", [2, 4, 6]),
        ("account", [1, 2, 3, 4, 5, 6, 7]),
        ("Deposited on account-ada", [1, 5, 7]),
        ("Deposited, Withdrawn if event.amount >= 30", [4, 6, 7]),
        ("Deposited if owners.bob > 50", [4, 5]),
        ("if event.amount > before.total", [1, 4, 7]),
        ("if recorded.version == 2", [3, 4]),
        ("if total > 15", [4]),
        ("total > 40 && owners.ada < 10", [4]),
        ("unless total < 15", [2, 4]),
        ("if owners.nobody == 1", []),
        ("type Nothing", []),
        ("if event.nothing == 1", []),
    ],
)
def test_stops_are_the_same_places_in_both_directions(
    session: Session, text: str, places: list[int]
) -> None:
    one = session.breakpoints.add(break_of(text, session.machine))
    assert stops(session) == places
    assert stops(session, backwards=True) == places[::-1]
    assert one.hits == 2 * len(places) - (7 in places), "where it sets out from is no hit"


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("total", [1, 2, 3, 4, 5, 6, 7]),
        ("owners.ada", [1, 3, 5, 7]),
        ("/owners/bob", [2, 4, 6]),
        ("owners", [1, 2, 3, 4, 5, 6, 7]),
        ("owners.eve", []),
        ("owners.bob > 5", [2, 4]),
        ("owners.ada + owners.bob", [2, 3, 4, 5, 6, 7]),
        ("size(owners)", [1, 2]),
        ('has(owners.bob) ? "yes" : "no"', [2]),
        ("1 + 1", []),
    ],
)
def test_watches_stop_where_a_value_changes(session: Session, text: str, places: list[int]) -> None:
    session.breakpoints.add(watch_of(text))
    assert stops(session) == places
    assert stops(session, backwards=True) == places[::-1]


def oracle(machine: TimeMachine[Any], triggers: list[Trigger]) -> list[list[int]]:
    """Where each of them triggers, by looking at every step."""
    found: list[list[int]] = [[] for _ in triggers]
    for step in machine.replay():
        for trigger, places in zip(triggers, found, strict=True):
            if hits(trigger, step):
                places.append(step.position)
    return found


def hits(trigger: Trigger, step: Step[Any]) -> bool:
    match trigger:
        case PathTrigger(path):
            return bool(value_at(step.before, path) != value_at(step.after, path))
        case ValueTrigger(expression):
            return bool(answer(expression, step.before) != answer(expression, step.after))
        case StateTrigger(condition, holds):
            before, after = answer(condition, step.before), answer(condition, step.after)
            return after is holds and before is not holds
        case EventTrigger(types=types, condition=condition):
            variables = Variables(step.after, event=step.event, before=step.before)
            is_its_type = not types or step.event.type in types
            return is_its_type and (condition is None or condition.condition(variables))


def answer(expression: Expression, state: Any) -> Any:
    try:
        return expression(Variables(state))
    except ExpressionError:
        return None


@pytest.fixture
def shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that the searches call near or far is an eighth of what it is, and so is the store."""
    for module in (searching, search):
        for name in ("_NEAR", "_FIRST_CHUNK", "_CHUNK", "_LONGEST"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, getattr(module, name) // 8)


@pytest.mark.slow
@pytest.mark.usefixtures("shrunk")
def test_far_places_are_found_as_near_ones_are(tmp_path: Path) -> None:
    dice = random.Random(8)
    with open_store(tmp_path / "far.db", events=[Deposited, Withdrawn], durable=False) as store:
        for start in range(10):
            names = [f"p{dice.randrange(4)}" for _ in range(1_000)]
            events = [Deposited(name, dice.randrange(1, 5)) for name in names]
            store.append(f"account-{start}", [*events, Deposited("rare", start)])
        machine = TimeMachine(store, bank, keep=False)
        triggers = [
            break_of("if owners.rare > 10", machine),
            break_of("if total > 11000 && total < 11100", machine),
            watch_of("owners.rare"),
            watch_of("owners.rare > 20"),
            watch_of("owners.p0 > 2500"),
            break_of("Deposited if event.owner == 'rare' && event.amount > 6", machine),
        ]
        for trigger, expected in zip(triggers, oracle(machine, triggers), strict=True):
            assert expected, trigger
            for _ in range(2):
                session = Session(machine)
                session.breakpoints.add(trigger)
                assert stops(session) == expected, trigger
                assert stops(session, backwards=True) == expected[::-1], trigger


def test_the_nearest_of_all_breakpoints_wins(session: Session) -> None:
    added = [
        session.breakpoints.add(trigger)
        for trigger in (
            watch_of("owners.ada"),
            break_of("Withdrawn", session.machine),
            break_of("if total > 15", session.machine),
        )
    ]
    assert stops(session) == [1, 3, 4, 5, 6, 7]
    session.goto(2)
    assert session.resume() == Stop("breakpoint", 3, (added[1], added[0]))
    added[0].is_enabled = False
    assert stops(session) == [3, 4, 6]
    session.breakpoints.delete(added[1].number)
    assert stops(session) == [4]
    with pytest.raises(InvalidQueryError, match="no breakpoint 2; there is 1, 3"):
        session.breakpoints.delete(2)
    session.breakpoints.clear()
    assert stops(session) == []


def test_finding(session: Session) -> None:
    rich = Expression("total > 50")
    assert session.find(rich) == Stop("goto", 4)
    assert session.find(rich, "last") == Stop("goto", 7)
    assert session.find(rich, "previous") == Stop("goto", 4), "where it began to hold"
    assert session.find(rich, "previous") is None
    assert session.find(rich, "next") is not None
    assert session.position == 7
    assert session.find(rich, "next") is None
    by_ada = Expression("event.owner == 'ada' && event.amount > 1")
    assert session.find(by_ada) == Stop("goto", 1)
    assert session.find(by_ada, "next") == Stop("goto", 3)
    assert session.find(by_ada, "last") == Stop("goto", 7)
    assert session.find(Expression("total > 5000")) is None
    with pytest.raises(ExpressionError):
        session.find(Expression("total > 'much'"))


def test_writes(session: Session) -> None:
    assert session.last_write("owners.bob") == Stop("goto", 6)
    assert session.last_write("owners.bob") == Stop("goto", 4)
    assert session.next_write("owners.bob") == Stop("goto", 6)
    assert session.next_write("owners.bob") is None
    session.goto(0)
    assert session.last_write("owners.bob") is None
    assert session.position == 0


def test_what_there_is_to_see(session: Session) -> None:
    session.goto(3)
    assert session.evaluate("owners.ada") == 6
    assert session.evaluate("owners.ada + total") == 17
    assert session.evaluate("before.total - total") == 4
    assert session.evaluate("event.amount * 2") == 8
    assert session.evaluate("recorded.stream") == "account-ada"
    assert session.evaluate("") == session.state
    with pytest.raises(InvalidPathError, match="ada"):
        session.evaluate("owners.adda")
    with pytest.raises(ExpressionError):
        session.evaluate("1 +")
    events, past = session.around(2, 1)
    assert ([event.position for event in events], past) == ([1, 2, 3, 4], 3)
    assert {path: event and event.position for path, event in session.blame().items()} == {
        ("owners", "ada"): 3,
        ("owners", "bob"): 2,
        ("total",): 3,
    }
    assert [w.position for w in session.history("owners.bob")] == [2, 4, 6]
    assert str(session.diff(0)) == "owners.ada: + 6\nowners.bob: + 5\ntotal: 0 → 11"
    assert str(session.diff(3, 4)) == "owners.bob: 5 → 55\ntotal: 11 → 61"
    explained = session.explain()
    assert explained is not None
    assert explained.event.position == 3
    if_not = session.what_if()
    assert if_not is not None
    assert str(if_not.changes) == "owners.ada: 107 → 111\ntotal: 132 → 136"
    session.goto(0)
    assert (session.explain(), session.what_if(), session.around(5, 1)[1]) == (None, None, 0)


def test_an_undo_is_planned_and_nothing_written(store: Store) -> None:
    session = Session(TimeMachine(store, bank, keep=False), compensations=undoing)
    session.start(4)
    plan = session.undo_plan()
    assert [event.position for event in plan.undone] == [4]
    assert plan.appended[0].stream == "account-bob"
    session.goto(3)
    assert not session.undo_plan().is_complete, "no compensation is declared for it"
    assert store.head().position == 7
    session.goto(0)
    with pytest.raises(InvalidQueryError, match="no event here"):
        session.undo_plan()


def test_bookmarks_and_branches_need_a_store_to_write_to(tmp_path: Path, session: Session) -> None:
    with pytest.raises(ReadOnlyError):
        session.set_bookmark("lunch")
    path = tmp_path / "bank.db"
    with open_store(path, read_only=True, events=[Deposited, Withdrawn]) as store:
        able = Session(TimeMachine(store, bank), writable=lambda: open_store(path))
        able.start(3)
        assert able.set_bookmark("lunch") == 3
        assert able.machine.bookmarks() == {"lunch": 3}
        able.delete_bookmark("lunch")
        assert able.machine.bookmarks() == {}
        info = able.create_branch("what-if")
        assert (info.name, info.position) == ("what-if", 3)


def test_a_fold_that_raises_is_a_place_to_stop(store: Store) -> None:
    store.append("account-ada", [Withdrawn("ada", 5_000), Deposited("ada", 1)])
    session = Session(TimeMachine(store, bank, keep=False))
    stop = session.start()
    assert (stop.reason, stop.position) == ("exception", 8)
    assert "till is empty" in str(stop.error)
    assert session.state.total == 132, "the state before it"
    assert session.evaluate("event.amount") == 5_000
    assert session.step_here is None
    assert session.step().reason == "exception"
    assert session.resume().reason == "exception"
    assert session.back() == Stop("step", 7)
    assert session.step().reason == "exception"
    session.breakpoints.add(break_of("if total > 15", session.machine))
    assert session.reverse() == Stop("breakpoint", 4, tuple(session.breakpoints))
    stop = session.resume()
    assert (stop.reason, stop.position, session.position) == ("exception", 8, 8)
    session.goto(2)
    assert session.resume().position == 4, "what comes before it comes first"


def test_a_search_is_interrupted_from_another_thread(store: Store) -> None:
    for start in range(6):
        store.append(f"account-{start}", [Deposited("bob", 1)] * 8_000)
    session = Session(TimeMachine(store, bank, keep=False))
    session.start(7)
    session.progress = lambda position: session.interrupt() if position > 20_000 else None
    session.breakpoints.add(break_of("if event.owner == 'eve'", session.machine))
    session.breakpoints.add(break_of("if owners.bob < 0", session.machine))
    session.breakpoints.add(watch_of("owners.eve"))
    for _ in range(3):
        with pytest.raises(InterruptedSearchError, match="still at position 7"):
            session.resume()
        assert session.position == 7
        session.forget_interrupt()
    session.progress = None
    assert session.resume() == Stop("end", session.head)


def test_messages_are_said_of_all_that_was_passed(session: Session) -> None:
    session.breakpoints.add(
        break_of("Withdrawn", session.machine), "{event.owner} took {event.amount}, {oops}"
    )
    session.breakpoints.add(watch_of("owners.bob"), "bob has {owners.bob}")
    session.goto(0)
    stop = session.resume()
    assert (stop.reason, stop.hits) == ("end", ())
    said = [(line.position, line.text.partition(",")[0]) for line in stop.logs]
    assert said == [
        (2, "bob has 5"),
        (3, "ada took 4"),
        (4, "bob has 55"),
        (6, "bob took 30"),
        (6, "bob has 25"),
    ]
    assert "oops" in stop.logs[1].text
    assert [line.position for line in session.reverse().logs] == [6, 6, 4, 3, 2]


def test_it_works_on_any_store_without_code(tmp_path: Path) -> None:
    with open_store(tmp_path / "any.db", durable=False) as store:
        store.append("sun-1", [UnknownEvent("Rose", {"hour": n}) for n in (5, 6, 7)])
        session = Session(TimeMachine(store, documents, keep=False))
        session.start()
        assert plain(session.evaluate("sun-1.data.hour")) == 7
        session.breakpoints.add(watch_of("sun-1.data.hour"))
        assert stops(session, backwards=True) == [3, 2, 1]
        session.breakpoints.clear()
        session.breakpoints.add(break_of("Rose if event.hour == 6", session.machine))
        assert stops(session) == [2]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "the place to stop is missing"),
        ("Withdrawm", "did you mean Withdrawn"),
        ("account-adda", "did you mean account-ada"),
        ("type", "name an event type"),
        ("Deposited if total >", "ends"),
        ("if", "no event type"),
        ("if total + 1", "no condition"),
        ("total > 'x'", "no order"),
        ("(((", "ends"),
    ],
)
def test_what_can_not_be_broken_at(session: Session, text: str, match: str) -> None:
    with pytest.raises((InvalidQueryError, ExpressionError), match=match):
        session.breakpoints.add(break_of(text, session.machine))
    assert len(session.breakpoints) == 0


def test_watches_are_of_the_state() -> None:
    with pytest.raises(ExpressionError, match="break if"):
        watch_of("event.amount > 1")
    with pytest.raises(ExpressionError):
        watch_of("")
    assert watch_of("a.b[0]") == PathTrigger(path_of("a.b[0]"))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (1, "1"),
        (None, "null"),
        ("plain", "plain"),
        ("two words", '"two words"'),
        ("\x1b[31m", '"\\u001b[31m"'),
        ({"a": 1, "b": [1, 2]}, "{a: 1, b: [1, 2]}"),
        (Bank({"ada": 1}, 2), "Bank(owners={ada: 1}, total=2)"),
        ([], "[]"),
        (b"123", "3 bytes"),
        ({"x y": {}}, "{x y: {}}"),
        ({1, 2}, "{1, 2}"),
    ],
)
def test_sketches(value: object, text: str) -> None:
    assert sketch(value) == text


def test_sketches_of_large_values_are_short_and_count_what_they_leave_out() -> None:
    row = list(range(1000))
    large = dict.fromkeys((f"key{n}" for n in range(100_000)), row)
    text = sketch(large)
    assert len(text) < 120
    assert text.endswith("more}")
    deep: Any = 1
    for _ in range(500):
        deep = [deep]
    assert len(sketch(deep)) < 80
    assert len(sketch("x" * 10**6)) <= 60
