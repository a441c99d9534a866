"""A value comes back exactly as it went in, or is refused; it is never altered."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import math
import zlib
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.read_elsewhere import bytes_of

from everwhen import (
    Event,
    EventTypes,
    EverwhenError,
    Fold,
    NewEvent,
    Query,
    Store,
    UnknownEvent,
    open_store,
)
from everwhen.errors import DecodeError, InvalidEventError
from everwhen.vocabulary import EventType


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Inner(msgspec.Struct, frozen=True):
    n: int
    t: tuple[int, ...] = ()


class Rich(Event):
    """A field of every kind that the codec is known to carry."""

    number: int = 0
    exact: Decimal = Decimal(0)
    ratio: float = 0.0
    moment: dt.datetime | None = None
    day: dt.date | None = None
    span: dt.timedelta | None = None
    key: UUID | None = None
    blob: bytes = b""
    colour: Colour = Colour.RED
    text: str = ""
    inner: Inner | None = None
    pairs: dict[str, tuple[int, str]] = {}  # noqa: RUF012 (msgspec copies it)
    unique: frozenset[int] = frozenset()


class Loose(Event):
    value: Any


@dataclasses.dataclass(frozen=True)
class Classic:
    number: int
    names: tuple[str, ...]


@attrs.frozen
class Attractive:
    number: int
    when: dt.datetime


TYPES = EventTypes(Rich, Loose, EventType(Classic, tags=lambda e: e.names), EventType(Attractive))
ZONES = st.sampled_from([None, dt.UTC, dt.timezone(dt.timedelta(hours=5, minutes=30))])
RICH = st.builds(
    Rich,
    number=st.integers(),
    exact=st.decimals(),
    ratio=st.floats(),
    moment=st.none() | st.datetimes(timezones=ZONES),
    day=st.none() | st.dates(),
    span=st.none() | st.timedeltas(),
    key=st.none() | st.uuids(),
    blob=st.binary(),
    colour=st.sampled_from(Colour),
    text=st.text(st.characters()),
    inner=st.none() | st.builds(Inner, st.integers(), st.lists(st.integers()).map(tuple)),
    pairs=st.dictionaries(st.text(), st.tuples(st.integers(), st.text()), max_size=2),
    unique=st.frozensets(st.integers()),
)
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.decimals()
    | st.datetimes(timezones=ZONES)
    | st.uuids()
    | st.binary()
    | st.sampled_from(Colour)
    | st.just(object()),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.frozensets(st.integers())
        | st.dictionaries(st.text() | st.integers() | st.booleans() | st.none(), inner)
    ),
    max_leaves=6,
)


def store() -> Store:
    return open_store("memory:", events=TYPES)


def exact(value: Any) -> Any:
    """The value in a form that tells apart what compares equal."""
    match value:
        case dt.datetime() if value.tzinfo is not None:
            return ("moment", value, value.utcoffset())
        case float():
            return ("float", value.hex())
        case list() | tuple():
            return [type(value), *map(exact, value)]
        case dict():
            return {(type(k), k): exact(v) for k, v in value.items()}
        case Decimal():
            return ("decimal", str(value))
        case _ if hasattr(value, "__struct_fields__"):
            return [type(value), *(exact(getattr(value, f)) for f in value.__struct_fields__)]
        case _:
            return (type(value), value)


def kept_or_refused(events: list[Any]) -> bool:
    with store() as opened:
        try:
            opened.append("a-1", events)
        except InvalidEventError as error:
            assert type(events[0]).__name__ in str(error)  # noqa: PT017
            assert opened.head().position == 0
            return False
        back = [recorded.event for recorded in opened.read()]
        assert [exact(e) for e in back] == [exact(e) for e in events]
        return True


@pytest.mark.slow
@settings(max_examples=300)
@given(event=RICH)
@example(Rich(number=1 << 60, exact=Decimal("1.10"), ratio=-0.0, blob=b"\xff\x00"))
@example(Rich(moment=dt.datetime(2026, 10, 25, 2, 30)))
def test_declared_fields(event: Rich) -> None:
    kept_or_refused([event])
    kept_or_refused([event, Rich()])


@pytest.mark.parametrize(
    "event",
    [
        Rich(number=-(1 << 63)),
        Rich(number=(1 << 64) - 1),
        Rich(exact=Decimal("0.10")),
        Rich(moment=dt.datetime(2026, 7, 1, 12, tzinfo=dt.UTC)),
        Rich(key=UUID(int=7), blob=b"\x00\xff", colour=Colour.BLUE, text="ü\n\x00"),
        Rich(inner=Inner(1, (2, 3)), pairs={"a": (1, "x")}, unique=frozenset({1, 2})),
        Loose({"a": [1, 1.5, None, True, "x", 1 << 60]}),
        Classic(1, ("a", "b")),
        Attractive(1, dt.datetime(2026, 7, 1, 12, tzinfo=dt.UTC)),
    ],
)
def test_what_must_be_kept(event: Any) -> None:
    assert kept_or_refused([event])
    assert kept_or_refused([event, event])


@pytest.mark.parametrize(
    "event",
    [
        Rich(ratio=math.inf),
        Rich(ratio=math.nan),
        Rich(number="7"),  # type: ignore[arg-type]
        Rich(number=True),
        Rich(text="\ud800"),
        Loose(Decimal("1.5")),
        Loose(dt.datetime(2026, 1, 1, tzinfo=dt.UTC)),
        Loose((1, 2)),
        Loose({1: "x"}),
        Loose(b"x"),
        Loose({"x": {1, 2}}),
        Loose(object()),
        Loose(Inner(1)),
    ],
)
def test_what_must_be_refused(event: Any) -> None:
    assert not kept_or_refused([event])
    assert not kept_or_refused([event, event])
    with store() as opened, pytest.raises(InvalidEventError):
        opened.append("a-1", [Classic(1, ()), NewEvent(event=event, tags=("x",))])


@settings(max_examples=300)
@given(value=ANYTHING)
def test_fields_of_any_type(value: Any) -> None:
    kept_or_refused([Loose(value)])
    kept_or_refused([Loose(value), Loose(1)])


@pytest.mark.slow
@settings(max_examples=300)
@given(data=st.dictionaries(st.text() | st.integers(), ANYTHING, max_size=3))
def test_plain_data(data: dict[Any, Any]) -> None:
    with store() as opened:
        try:
            opened.append("a-1", [UnknownEvent("Plain", data)])
        except InvalidEventError:
            return
        (back,) = opened.read()
        assert exact(back.data) == exact(data)


@settings(max_examples=100)
@given(extras=st.dictionaries(st.text() | st.integers(), ANYTHING, max_size=3))
def test_extras(extras: dict[Any, Any]) -> None:
    with store() as opened:
        try:
            opened.append("a-1", [NewEvent(event=Loose(1), extras=extras)])
        except InvalidEventError:
            return
        (back,) = opened.read()
        assert exact(back.metadata.extras) == exact(extras)


def test_a_zone_by_name_is_refused_where_only_its_offset_would_come_back() -> None:
    moment = dt.datetime(2026, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin"))
    assert kept_or_refused([Rich(moment=moment)])  # the moment and its offset are all there is


def test_one_by_one_and_together_give_the_same_bytes() -> None:
    events = [Rich(number=1), Classic(2, ("x", "y")), Loose([1]), Classic(3, ())]
    with store() as together, store() as alone:
        together.append("a-1", events)
        for event in events:
            alone.append("a-1", [event])
        assert [(e.json, e.tags, e.type) for e in together.read()] == [
            (e.json, e.tags, e.type) for e in alone.read()
        ]


class Zipped:
    """A step that packs, and knows what it packed."""

    def encode(self, type_name: str, schema_version: int, event_id: str, data: bytes) -> bytes:
        packed = zlib.compress(data).hex()
        return msgspec.json.encode([type_name, schema_version, event_id, packed])

    def decode(self, type_name: str, schema_version: int, event_id: str, data: bytes) -> bytes:
        *place, packed = msgspec.json.decode(data)
        if place != [type_name, schema_version, event_id]:
            raise DecodeError(f"moved here from {place}")
        return zlib.decompress(bytes.fromhex(packed))


class Reversed:
    def encode(self, type_name: str, schema_version: int, event_id: str, data: bytes) -> bytes:
        return msgspec.json.encode(data.decode()[::-1])

    def decode(self, type_name: str, schema_version: int, event_id: str, data: bytes) -> bytes:
        return str(msgspec.json.decode(data))[::-1].encode()


def test_steps_are_undone_in_reverse(tmp_path: Any) -> None:
    path = tmp_path / "stepped.db"
    events = [Loose("secret"), NewEvent(event=Classic(1, ("t",)), event_id="mine")]
    with open_store(path, events=TYPES, steps=[Zipped(), Reversed()]) as opened:
        opened.append("a-1", events)
        opened.append("a-1", [Loose("another")])
        assert [e.event for e in opened.read()] == [
            Loose("secret"),
            Classic(1, ("t",)),
            Loose("another"),
        ]
        assert [e.data for e in opened.read(Query().tags("t"))] == [{"number": 1, "names": ["t"]}]
    assert b"secret" not in bytes_of(path)
    with open_store(path, events=TYPES, steps=[Reversed()]) as wrong:
        for recorded in wrong.read():
            with pytest.raises(EverwhenError):
                _ = recorded.event


def test_a_fold_goes_through_the_steps_as_a_read_does(tmp_path: Any) -> None:
    path = tmp_path / "stepped.db"
    fold = Fold("values", list[Any])
    fold.on(Loose)(lambda values, event: [*values, event.value])
    fold.on(Classic)(lambda values, event: [*values, event.number])
    with open_store(path, events=TYPES, steps=[Zipped(), Reversed()]) as opened:
        opened.append("a-1", [Loose(1), Classic(2, ("t",)), Loose([3])])
        opened.append("a-2", [Loose("four")])
        assert opened.fold(fold, Query()) == [1, 2, [3], "four"]
        assert opened.fold(fold, Query().tags("t")) == [2]
        assert opened.fold(fold, "a-2") == ["four"]
    with (
        open_store(path, events=TYPES, steps=[Zipped()]) as wrong,
        pytest.raises(DecodeError, match=r"position 1, 'a-1' version 1: step Zipped, event"),
    ):
        wrong.fold(fold, Query())


class Failing:
    """A step that fails on one value, each way in its turn."""

    def __init__(self, failing: str) -> None:
        self.failing = failing

    def encode(self, type_name: str, schema_version: int, event_id: str, data: bytes) -> bytes:
        return self._judged("encode", data)

    def decode(self, type_name: str, schema_version: int, event_id: str, data: bytes) -> bytes:
        return self._judged("decode", data)

    def _judged(self, way: str, data: bytes) -> bytes:
        if way == self.failing and b"bad" in data:
            raise LookupError("no key")
        return data


@pytest.mark.parametrize("around", [[], [Reversed(), Reversed()]])
def test_what_fails_in_a_step_says_which_step_and_which_event(around: list[Any]) -> None:
    events = [Loose("good"), NewEvent(event=Loose("bad"), event_id="mine"), Loose("good")]
    place = "step Failing, event mine (Loose)"
    with open_store("memory:", events=TYPES, steps=[*around, Failing("encode")]) as opened:
        with pytest.raises(LookupError) as refused:
            opened.append("a-1", events)
        assert refused.value.__notes__ == [place]
        assert opened.head().position == 0
    with open_store("memory:", events=TYPES, steps=[*around, Failing("decode")]) as opened:
        opened.append("a-1", events)
        good, bad, also_good = opened.read()
        assert (good.event, also_good.event) == (Loose("good"), Loose("good"))
        with pytest.raises(DecodeError) as caught:
            _ = bad.event
        assert str(caught.value) == (f"position 2, 'a-1' version 2: {place}: LookupError('no key')")
        assert "LookupError" in repr(bad)


@pytest.mark.parametrize("made", [b"abc", b"", b'"\xff"', b'{"a":1}]', "text", None])
def test_what_a_step_makes_has_to_be_json_or_its_whole_slice_would_be_lost(made: Any) -> None:
    class Making:
        def encode(self, type_name: str, schema_version: int, event_id: str, data: bytes) -> bytes:
            result: bytes = made
            return result if b"lost" in data else data

        def decode(self, type_name: str, schema_version: int, event_id: str, data: bytes) -> bytes:
            return data

    with open_store("memory:", events=TYPES, steps=[Making()]) as opened:
        with pytest.raises(InvalidEventError, match="step Making made of it what is no JSON"):
            opened.append("a-1", [Loose("kept"), Loose("lost")])
        opened.append("a-1", [Loose("kept")])
        assert [recorded.event for recorded in opened.read()] == [Loose("kept")]
