"""Snapshots change nothing: a state is the same with and without one, to the last type and zone."""

from __future__ import annotations

import dataclasses
import enum
import logging
import subprocess
import sys
from collections import OrderedDict, deque
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Annotated, Any, NamedTuple, TypedDict, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import immutables
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everwhen import Event, Fold, Query, Repository, TimeMachine, open_store
from everwhen.errors import SnapshotError
from everwhen.state import EveryEvents
from everwhen.state.type_shapes import shape_of

T = TypeVar("T")


class Set(Event):
    index: int


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Word(enum.StrEnum):
    YES = "yes"


class Level(enum.IntEnum):
    LOW = 1


class Point(msgspec.Struct, frozen=True):
    x: Any
    y: Any = 0


class Wide(NamedTuple):
    a: Any
    b: Any = None


@dataclasses.dataclass
class Card:
    held: Any


@attrs.define
class Seat:
    holder: Any


class Node(msgspec.Struct):
    value: Any
    below: list[Node] = msgspec.field(default_factory=list)


ZONES: list[tzinfo] = [
    UTC,
    ZoneInfo("UTC"),
    ZoneInfo("Europe/Berlin"),
    ZoneInfo("America/St_Johns"),
    timezone(timedelta(hours=8)),
    timezone(timedelta(hours=-3, minutes=-30), "NST"),
    timezone(timedelta(seconds=7_384, microseconds=5)),
    timezone(timedelta(0), "Z"),
]
MOMENTS = st.datetimes(
    datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=st.none() | st.sampled_from(ZONES)
)
DOUBT = [
    datetime(2026, 10, 25, 2, 30, fold=fold, tzinfo=zone)
    for fold in (0, 1)
    for zone in (None, ZoneInfo("Europe/Berlin"))
]

LEAVES: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**63), 2**64 - 1),
    str: st.text(max_size=3),
    bool: st.booleans(),
    float: st.floats(),
    bytes: st.binary(max_size=3),
    Decimal: st.decimals(allow_nan=False) | st.sampled_from([Decimal("1.00"), Decimal("NaN")]),
    datetime: MOMENTS | st.sampled_from(DOUBT),
    date: st.dates(),
    time: st.times(timezones=st.none() | st.sampled_from([*ZONES[:1], *ZONES[4:6]])),
    timedelta: st.timedeltas(),
    UUID: st.uuids(),
    Colour: st.sampled_from(Colour),
    Word: st.sampled_from(Word),
    Level: st.sampled_from(Level),
    type(None): st.none(),
}


def _any(value: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(value, max_size=2) | st.dictionaries(st.text(max_size=2), value, max_size=2)


_list: Any = list
_tuple: Any = tuple
_dict: Any = dict
_set: Any = set
_frozenset: Any = frozenset
_deque: Any = deque
_map: Any = immutables.Map


@st.composite
def typed(draw: st.DrawFn, depth: int = 2) -> tuple[Any, st.SearchStrategy[Any]]:
    """A type, and its values."""
    leaf = draw(st.sampled_from(list(LEAVES)))
    if depth == 0 or draw(st.booleans()):
        return leaf, LEAVES[leaf]
    hint, values = draw(typed(depth - 1))
    keys = LEAVES[leaf]
    return draw(  # type: ignore[no-any-return]
        st.sampled_from(
            [
                (_list[hint], st.lists(values, max_size=3)),
                (_tuple[hint, ...], st.lists(values, max_size=3).map(tuple)),
                (_tuple[hint, leaf], st.tuples(values, keys)),
                (_dict[leaf, hint], st.dictionaries(keys, values, max_size=3)),
                (_set[leaf], st.sets(keys, max_size=3)),
                (_frozenset[leaf], st.frozensets(keys, max_size=3)),
                (hint | None, st.none() | values),
                (Point, st.tuples(values, keys).map(lambda v: Point(*v))),
                (Wide, values.map(Wide)),
                (Card, values.map(Card)),
                (Seat, values.map(Seat)),
                (
                    Node,
                    st.tuples(keys, st.lists(values.map(Node), max_size=2)).map(lambda v: Node(*v)),
                ),
                (Any, _any(values)),
                (_deque[hint], st.lists(values, max_size=3).map(lambda v: deque(v, maxlen=9))),
                (
                    _map[str, hint],
                    st.dictionaries(st.text(max_size=2), values).map(immutables.Map),
                ),
            ]
        )
    )


@st.composite
def states(draw: st.DrawFn) -> tuple[Any, Any]:
    hint, values = draw(typed())
    return hint, draw(values)


def told(value: Any) -> Any:
    """All that there is to say of a value, as text and tuples: two of them are equal or not."""
    cls = type(value)
    if isinstance(value, enum.Enum):
        return cls, value.name
    if isinstance(value, datetime | time):
        zone = value.tzinfo
        clock = value.replace(tzinfo=None).isoformat()
        return cls, clock, value.fold, type(zone), repr(zone), str(value.tzname())
    if isinstance(value, dict):
        return cls, [(told(key), told(part)) for key, part in value.items()]
    if isinstance(value, immutables.Map):
        return cls, sorted((repr(told(key)), repr(told(part))) for key, part in value.items())
    if isinstance(value, set | frozenset):
        return cls, sorted(repr(told(item)) for item in value)
    if isinstance(value, list | tuple | deque):
        return cls, getattr(value, "maxlen", None), [told(item) for item in value]
    names = getattr(value, "__struct_fields__", None) or getattr(value, "__slots__", None)
    if names is None and hasattr(value, "__dict__"):
        names = list(vars(value))
    if names and not isinstance(value, UUID):
        return cls, [(n, told(getattr(value, n))) for n in names if not n.startswith("__")]
    return cls, repr(value)


def setting(values: list[Any], hint: Any) -> Fold[Any]:
    fold: Fold[Any] = Fold("setting", lambda: None, state=hint)
    fold.on(Set)(lambda state, event: values[event.index])
    return fold


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(states())
def test_a_state_is_the_same_with_and_without_its_snapshot(given_state: tuple[Any, Any]) -> None:
    hint, state = given_state
    with open_store("memory:", events=[Set]) as store:
        store.append("a", [Set(0)])
        repository = Repository(store, setting([state], hint))
        loaded = repository.load("a")
        try:
            repository.snapshot(loaded)
        except SnapshotError:
            assert store.snapshots("setting/a") == []
            return
        again = Repository(store, setting([], hint)).load("a")  # a fold that could not make it
        assert again.since.events == 0
        assert told(again.state) == told(state)


class Diary(msgspec.Struct, frozen=True):
    moments: list[datetime] = []
    by_moment: dict[datetime, time] = {}
    others: Any = None


KEPT: list[tuple[Any, Any]] = [
    (Diary, Diary([datetime(2026, 5, 1, 0, 30, tzinfo=zone) for zone in ZONES] + DOUBT)),
    (Diary, Diary(by_moment={DOUBT[1]: time(2, tzinfo=ZONES[2])}, others=[DOUBT[3], {"a": DOUBT}])),
    (dict[str, float], {"b": -0.0, "a": float("nan"), "c": float("inf")}),
    (dict[int, Wide], {2: Wide(1, [2]), 1: Wide("x")}),
    (OrderedDict[str, int], OrderedDict(b=1, a=2)),
    (frozenset[Point], frozenset({Point(1, 2.0), Point(1.5, True)})),
    (tuple[Colour, Word, Level], (Colour.BLUE, Word.YES, Level.LOW)),
    (dict, {"a": [1, {"b": None}]}),
    (immutables.Map[str, Point], immutables.Map(a=Point(datetime(2026, 1, 1)))),
]


@pytest.mark.parametrize(("hint", "state"), KEPT)
def test_such_states_are_kept(hint: Any, state: Any) -> None:
    with open_store("memory:", events=[Set]) as store:
        store.append("a", [Set(0)])
        repository = Repository(store, setting([state], hint))
        repository.snapshot(repository.load("a"))
        assert told(Repository(store, setting([], hint)).load("a").state) == told(state)


class Own(str):
    __slots__ = ()


class Clock(tzinfo):
    def utcoffset(self, moment: datetime | None) -> timedelta:
        return timedelta(hours=1)

    dst = utcoffset

    def tzname(self, moment: datetime | None) -> str:
        return "own"


class Tagged(dict[str, int]):
    pass


shared = [1]
tagged = Tagged(a=1)
tagged.note = "x"  # type: ignore[attr-defined]

REFUSED: list[tuple[Any, Any, str]] = [
    (dict, {"a": (1, 2)}, "a: tuple would come back as list"),
    (dict, {"a": {1, 2}}, "a: set would come back as list"),
    (dict[str, Any], {"a": Decimal(1)}, "a: Decimal would come back as str"),
    (dict[str, Any], {"x": {"b": Point(1)}}, r"x\.b: Point would come back as dict"),
    (dict[str, str], {"a": Own("x")}, "how to store a Own"),
    (list[Any], [Word.YES], r"\[0\]: Word would come back as str"),
    (dict[str, Any], {"a": shared, "b": shared}, "a is the same object as another part"),
    (datetime, datetime(2026, 1, 1, tzinfo=Clock()), "zone is a Clock"),
    (deque[int], deque([1], maxlen=3), "has another length"),
    (Tagged, tagged, "note: str would come back as nothing"),
    (dict[str, Any], {"a": object()}, "how to store a object"),
]


@pytest.mark.parametrize(("hint", "state", "why"), REFUSED)
def test_a_state_that_would_come_back_otherwise_is_refused_with_the_place(
    hint: Any, state: Any, why: str
) -> None:
    with open_store("memory:", events=[Set]) as store:
        store.append("a", [Set(0)])
        repository = Repository(store, setting([state], hint))
        with pytest.raises(SnapshotError, match=why):
            repository.snapshot(repository.load("a"))


def test_parts_that_nothing_changes_in_place_may_be_shared() -> None:
    seat = Point([1])
    with open_store("memory:", events=[Set]) as store:
        store.append("a", [Set(0)])
        repository = Repository(store, setting([{"a": seat, "b": seat}], dict[str, Point]))
        repository.snapshot(repository.load("a"))


def test_it_is_told_once_that_a_fold_gets_no_snapshots(caplog: pytest.LogCaptureFixture) -> None:
    with open_store("memory:", events=[Set]) as store:
        fold = setting([{"a": (1,)}], dict)
        for _ in range(3):
            store.append("a", [Set(0)])
            repository = Repository(store, fold, strategy=EveryEvents(1))
            with caplog.at_level(logging.WARNING, "everwhen"):
                assert not repository.snapshot_if_due(repository.load("a"))
    assert [r.message.count("tuple would come back as list") for r in caplog.records] == [1]


def counting(state_type: Any, initial: Any) -> Fold[Any]:
    fold: Fold[Any] = Fold("counting", lambda: initial, state=state_type)
    fold.on(Set)(lambda state, event: initial)
    return fold


def shaped(name: str, *fields: Any, **more: Any) -> type[Any]:
    return msgspec.defstruct(name, fields, **more)


class Sizes(enum.Enum):
    SMALL = 1


class Other(enum.Enum):
    SMALL = 2


Other.__qualname__ = Sizes.__qualname__

CHANGES: list[tuple[Any, Any]] = [
    (shaped("S", ("total", int, 0)), shaped("S", ("amount", int, 0))),
    (shaped("S", ("total", int, 0)), shaped("S", ("total", int, 0), ("count", int, 0))),
    (shaped("S", ("total", int, 0)), shaped("S", ("total", float, 0))),
    (shaped("S", ("total", int, 0)), shaped("S", ("total", int, 1))),
    (shaped("S", ("total", int | None, 0)), shaped("S", ("total", int, 0))),
    (shaped("S", ("total", Sizes)), shaped("S", ("total", Other))),
    (dict[str, int], dict[str, float]),
    (_dict[str, shaped("A", ("x", int))], _dict[str, shaped("A", ("y", int))]),
    (
        _list[shaped("A", ("x", _list[shaped("B", ("x", int))]))],
        _list[shaped("A", ("x", _list[shaped("B", ("x", str))]))],
    ),
    (tuple[int, str], tuple[int, int]),
    (Annotated[int, msgspec.Meta(gt=1)], Annotated[int, msgspec.Meta(gt=2)]),
    (attrs.make_class("A", ["x"]), attrs.make_class("A", ["y"])),
    (dataclasses.make_dataclass("A", [("x", int)]), dataclasses.make_dataclass("A", [("x", str)])),
    (NamedTuple("N", [("x", int)]), NamedTuple("N", [("x", str)])),
    (TypedDict("D", {"x": int}), TypedDict("D", {"x": str})),  # type: ignore[operator]
]


@pytest.mark.parametrize(("before", "after"), CHANGES)
def test_each_change_of_a_type_is_another_shape(before: Any, after: Any) -> None:
    assert shape_of(before) != shape_of(after)
    assert shape_of(before) == shape_of(before)


class Old(msgspec.Struct):
    total: int = 0


class Renamed(msgspec.Struct):
    amount: int = 0


class Added(msgspec.Struct):
    total: int = 0
    count: int = 0


@pytest.mark.parametrize(
    ("wanted", "expected"), [(Renamed, Renamed(45)), (Added, Added(45, 10)), (Old, Old(45))]
)
def test_a_snapshot_of_another_shape_is_replayed_and_nobody_is_warned(
    wanted: type[Any], expected: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def summing(cls: type[Any]) -> Fold[Any]:
        fold: Fold[Any] = Fold("sum", cls)

        @fold.on(Set)
        def _(state: Any, event: Set) -> Any:
            first, *rest = msgspec.structs.astuple(state)
            return cls(first + event.index, *[count + 1 for count in rest])

        return fold

    with open_store("memory:", events=[Set]) as store:
        store.append("a", [Set(n) for n in range(10)])
        repository = Repository(store, summing(Old))
        repository.snapshot(repository.load("a"))
        TimeMachine(store, summing(Old), Query()).prepare()
        with caplog.at_level(logging.WARNING, "everwhen"):
            loaded = Repository(store, summing(wanted)).load("a")
            visit = TimeMachine(store, summing(wanted), Query()).travel_to(10)
        assert loaded.state == visit.state == expected
        assert (loaded.since.events == 0) is (wanted is Old)
    assert not caplog.records


@pytest.mark.slow
def test_a_shape_is_the_same_in_every_process() -> None:
    code = (
        "from tests.test_snapshot_states import *; import hashlib;"
        "shapes = [shape_of(t) for pair in CHANGES for t in pair] + [shape_of(Node), shape_of(KEPT)"
        ", shape_of(Diary)]; "
        "print(hashlib.sha256(repr(shapes).encode()).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            capture_output=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1
