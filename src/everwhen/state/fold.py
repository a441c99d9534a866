"""Folds: *the* way state is derived from events.

A fold is an initial state and one function per event type::

    balance = Fold("balance", lambda: 0)

    @balance.on(Deposited)
    def _(state: int, event: Deposited) -> int:
        return state + event.amount

    balance.state_of(store.read("account-7"))

Events without a function leave the state as it is, unless the fold refuses them.
"""

from __future__ import annotations

import dataclasses
from collections import abc
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from enum import Enum
from pickle import PicklingError
from types import UnionType
from typing import (
    Annotated,
    Any,
    Final,
    Generic,
    Literal,
    NoReturn,
    TypeVar,
    Union,
    get_args,
    get_origin,
)
from uuid import UUID

import msgspec

from everwhen.codec.recorded_events import RecordedEvent, class_of_event, place_in_words
from everwhen.system.import_paths import import_path, imported
from everwhen.vocabulary.errors import DeclarationError, FoldError
from everwhen.vocabulary.nesting import deep_copy
from everwhen.vocabulary.validation import check_plain, check_text

S = TypeVar("S")
E = TypeVar("E")

_NO_STATE: Final[Any] = object()


class Fold(Generic[S]):
    """A named, versioned way from events to a state.

    ``initial`` makes the state before any event. Raise ``version`` whenever a function changes
    what it does, so that state stored by older code is never mistaken for this one's.

    ``unknown`` says what becomes of an event without a function: it is ignored, or refused with
    a `FoldError`.

    A state may be immutable, or be changed in place by the functions. In that case it is copied
    wherever it comes in, so a state that was given out never changes: with ``copy``, or else with
    ``copy.deepcopy`` unless its type shows that it is immutable.

    ``state`` is the state's type, for storing it in snapshots; the initial state's unless given.
    A function that returns None, where that is no state by this type, has forgotten its ``return``:
    that is a `DeclarationError`.

    What a function raises comes through, with a note of the fold and the event: its position,
    stream and type.

    A fold goes to other processes by its name in a module, as functions and classes do.
    """

    def __init__(
        self,
        name: str,
        initial: Callable[[], S],
        *,
        version: int = 1,
        unknown: Literal["ignore", "refuse"] = "ignore",
        copy: Callable[[S], S] | None = None,
        state: Any = None,
    ) -> None:
        if not callable(initial):
            raise DeclarationError(
                f"fold {name!r}: {initial!r} can't be called; give a function that makes the "
                f"initial state, such as {type(initial).__name__} or lambda: …"
            )
        self.name = check_text(name, "fold name", DeclarationError)
        if type(version) is not int or version < 1:
            raise DeclarationError(f"fold {name!r}: version {version!r}; versions are 1, 2, 3 …")
        self.version = version
        self._initial = initial
        self._refuses = unknown == "refuse"
        self._by_class: dict[type[Any], Callable[[S, Any], S]] = {}
        self._otherwise: Callable[[S, RecordedEvent[Any]], S] | None = None
        self._merge: Callable[[S, S], S] | None = None
        if unknown not in ("ignore", "refuse"):
            raise DeclarationError(f"fold {name!r}: unknown={unknown!r}; use 'ignore' or 'refuse'")
        sample = initial()
        self._copy = copy
        self.state_type: Any = type(sample) if state is None else state
        self._never_none = sample is not None and not _allows_none(self.state_type)

    def initial(self) -> S:
        """The state before any event; nobody else has it."""
        return self.copied(self._initial())

    def copied(self, state: S) -> S:
        """The state, safe from what becomes of the original."""
        if self._copy is not None:
            return self._copy(state)
        if is_immutable(state):
            return state
        return deep_copy(state, f"the state of fold {self.name!r}")

    def on(self, event_type: type[E]) -> Callable[[Callable[[S, E], S]], Callable[[S, E], S]]:
        """Declare what an event of this class does to the state."""
        if not isinstance(event_type, type):
            raise DeclarationError(
                f"fold {self.name!r}: expected a class of events, got {event_type!r}"
            )

        def declare(function: Callable[[S, E], S]) -> Callable[[S, E], S]:
            check_plain(function, f"fold {self.name!r}")
            if event_type in self._by_class:
                raise DeclarationError(
                    f"fold {self.name!r} has two functions for {event_type.__name__}; keep one"
                )
            self._by_class[event_type] = function
            return function

        return declare

    def otherwise(
        self, function: Callable[[S, RecordedEvent[Any]], S]
    ) -> Callable[[S, RecordedEvent[Any]], S]:
        """Declare what every other event does, given as recorded."""
        check_plain(function, f"fold {self.name!r}")
        self._otherwise = function
        return function

    def merge(self, function: Callable[[S, S], S]) -> Callable[[S, S], S]:
        """Declare how the states of two pieces of history combine, so that several can be folded.

        It is given the state of the ``earlier`` piece and that of the ``later`` one, which follows
        on it and was folded from the initial state as well, and returns the state of both. It may
        change the two in place. Wherever history is cut, it has to give what one fold gives::

            fold(a + b) == merge(fold(a), fold(b))

        So it is associative, and the initial state changes nothing: ``merge(initial, s) == s ==
        merge(s, initial)``. A fold whose functions look at the state to decide what an event does
        seldom has one. `everwhen.testing.check_merge` tries the law on events of yours.
        """
        check_plain(function, f"fold {self.name!r}")
        if self._merge is not None:
            raise DeclarationError(f"fold {self.name!r} has two functions that merge; keep one")
        self._merge = function
        return function

    @property
    def has_merge(self) -> bool:
        """Whether the states of pieces of history can be combined."""
        return self._merge is not None

    def merged(self, earlier: S, later: S) -> S:
        """The state of two pieces of history, by `merge`; both states may be changed in place.

        Raises `DeclarationError` for a fold without it.
        """
        if self._merge is None:
            raise DeclarationError(f"fold {self.name!r} has no merge; declare it: @fold.merge")
        try:
            state = self._merge(earlier, later)
            if state is None and self._never_none:
                self._refuse_none(self._merge, "a merge")
        except Exception as error:
            error.add_note(f"in fold {self.name!r}, merging the states of two pieces of history")
            raise
        return state

    @property
    def event_classes(self) -> Collection[type[Any]]:
        """The classes of events that functions are declared for."""
        return self._by_class.keys()

    @property
    def needs_records(self) -> bool:
        """Whether some function wants events as recorded, not only the typed events."""
        return self._otherwise is not None

    @property
    def needs_types(self) -> bool:
        """Whether some function wants typed events."""
        return bool(self._by_class)

    def apply(self, state: S, events: Iterable[Any]) -> S:
        """The state after typed events that need not come from a store.

        Functions for everything else (``otherwise``) are not asked. Raises `FoldError` for an
        event that is refused.
        """
        return self.advance_typed(self.copied(state), events)

    def evolve(self, state: S, recorded: RecordedEvent[Any]) -> S:
        """The state after one more event."""
        return self.state_of((recorded,), state)

    def state_of(self, events: Iterable[RecordedEvent[Any]], *start: S) -> S:
        """The state after the events, from the initial state or a given one.

        Raises `FoldError` for an event that is refused.
        """
        return self.advance(self.copied(start[0]) if start else self.initial(), events)

    def advance_typed(
        self, state: S, events: Iterable[Any], where: Callable[[Any], str] | None = None
    ) -> S:
        """`apply` to a state that may be changed in place; ``where`` says where an event stands."""
        function_for = self._by_class.get
        never_none = self._never_none
        for event in events:
            function = function_for(type(event))
            if function is not None:
                try:  # costs nothing where nothing is raised
                    state = function(state, event)
                    if state is None and never_none:
                        self._refuse_none(function, event)
                except Exception as error:
                    self._note(error, event, "" if where is None else where(event))
                    raise
            elif self._refuses:
                raise FoldError(self.name, type(event).__name__, None)
        return state

    def advance(self, state: S, events: Iterable[RecordedEvent[Any]]) -> S:
        """`state_of` from a state that may be changed in place."""
        evolve = self._evolve
        never_none = self._never_none
        for recorded in events:
            try:
                state = evolve(state, recorded)
                if state is None and never_none:
                    self._refuse_none(self._function_for(recorded), recorded)
            except Exception as error:
                self._note(error, recorded)
                raise
        return state

    def advance_groups(
        self,
        states: dict[str, S],
        groups: Iterable[str],
        events: Iterable[Any],
        where: Callable[[Any], str],
    ) -> None:
        """Give each group's state its events, typed ones or as recorded; changes ``states``.

        ``groups`` has each event's group. The states may be changed in place. A group that isn't in
        ``states`` has the initial state. ``where`` says where an event stands.
        """
        function_for = self._by_class.get
        never_none = self._never_none
        evolve = self._evolve
        for group, event in zip(groups, events, strict=True):
            state = states.get(group, _NO_STATE)
            if state is _NO_STATE:
                states[group] = state = self.initial()
            cls = type(event)
            function = function_for(cls)
            try:
                if function is not None:
                    state = function(state, event)
                elif cls is RecordedEvent:
                    state = evolve(state, event)
                elif self._refuses:
                    self._refuse(cls.__name__)
                else:
                    continue
                if state is None and never_none:
                    self._refuse_none(self._function_for(event), event)
            except Exception as error:
                self._note(error, event, where(event))
                raise
            states[group] = state

    @property
    def _evolve(self) -> Callable[[S, RecordedEvent[Any]], S]:
        """From a state, which may be changed in place, to the one after an event as recorded.

        Where every event goes to the same function, or their classes show from their types, they
        are not decoded for it.
        """
        otherwise = self._otherwise
        if otherwise is not None and not self._by_class:
            return otherwise
        return self._after_one

    def _after_one(self, state: S, recorded: RecordedEvent[Any]) -> S:
        function = self._by_class.get(class_of_event(recorded))
        if function is not None:
            return function(state, recorded.event)
        if self._otherwise is not None:
            return self._otherwise(state, recorded)
        if self._refuses:
            raise FoldError(self.name, recorded.type, recorded.position)
        return state

    def _function_for(self, event: Any) -> Callable[..., S] | None:
        """The function that an event, typed or as recorded, goes to."""
        cls = class_of_event(event) if isinstance(event, RecordedEvent) else type(event)
        return self._by_class.get(cls, self._otherwise)

    def _refuse_none(self, function: Any, event: Any) -> NoReturn:
        kind = event.type if isinstance(event, RecordedEvent) else type(event).__name__
        kind = event if isinstance(event, str) else kind
        code = getattr(function, "__code__", None)
        place = "" if code is None else f" ({code.co_filename}:{code.co_firstlineno})"
        declared = getattr(self.state_type, "__name__", self.state_type)
        raise DeclarationError(
            f"fold {self.name!r}: its function for {kind}{place} returned None; let it return the "
            f"state, or where None is one, say so: Fold(…, state={declared} | None)"
        )

    def _refuse(self, event_type: str, position: int | None = None) -> NoReturn:
        raise FoldError(self.name, event_type, position)

    def _note(self, error: Exception, event: Any, where: str = "") -> None:
        """Note on an error where the fold was, once."""
        begins = f"in fold {self.name!r}, at "
        if any(note.startswith(begins) for note in getattr(error, "__notes__", ())):
            return
        if isinstance(event, RecordedEvent):
            error.add_note(begins + place_in_words(event))
        else:
            error.add_note(f"{begins}{where or 'an event'}, {type(event).__name__}")

    def advance_until(
        self,
        state: S,
        events: Sequence[Any],
        start: int,
        noticed: Callable[[S], bool],
        where: Callable[[int], str] = str,
    ) -> tuple[S, int]:
        """The state after the first event, from index ``start`` on, that is noticed in it.

        Beside it the event's index; the number of events where there is none. The events are typed
        ones, or as recorded: each alone at its position, or a list of those at one. The state may
        be changed in place. ``where`` says where the event at an index stands.
        """
        function_for = self._by_class.get
        never_none = self._never_none
        evolve = self._evolve
        in_place = not is_immutable(state)
        for index in range(start, len(events)):
            event = events[index]
            cls = type(event)
            function = function_for(cls)
            try:
                if function is not None:
                    after = function(state, event)
                elif cls is RecordedEvent:
                    after = evolve(state, event)
                elif cls is list:
                    after = self.advance(state, event)
                elif self._refuses:
                    self._refuse(cls.__name__)
                else:
                    continue
                if after is None and never_none:
                    self._refuse_none(self._function_for(event), event)
            except Exception as error:
                self._note(error, event, where(index))
                raise
            if after is state and not in_place:
                continue
            state = after
            if noticed(state):
                return state, index
        return state, len(events)

    def advance_watched(
        self,
        state: S,
        events: Sequence[Any],
        looks: Sequence[Callable[[S], Any]],
        last: list[Any],
        where: Callable[[int], str] = str,
    ) -> tuple[S, list[tuple[int, int, Any]]]:
        """The state after events as `advance_until` takes them, and what several looks saw in it.

        That is the event's index, the look's, and the value, wherever a look sees another object
        than the ``last`` time.
        """
        found: list[tuple[int, int, Any]] = []

        def noticed(state: S) -> bool:
            for number, look in enumerated:  # noqa: SIM110 (three times as fast as any())
                if look(state) is not last[number]:
                    return True
            return False

        enumerated = list(enumerate(looks))
        index = -1
        while True:
            state, index = self.advance_until(state, events, index + 1, noticed, where)
            if index == len(events):
                return state, found
            for number, look in enumerated:
                value = look(state)
                if value is not last[number]:
                    last[number] = value
                    found.append((index, number, value))

    def __repr__(self) -> str:
        return f"Fold({self.name!r}, version={self.version})"

    def __reduce__(self) -> tuple[Any, ...]:
        near = [self._initial, self._otherwise, self._merge, *self._by_class.values()]
        path = import_path(self, near)
        if path is None:
            raise PicklingError(
                f"fold {self.name!r} has no name in a module, by which another process finds it"
            )
        return imported, path


def _allows_none(declared: Any) -> bool:
    """Whether None is a value of a type."""
    if declared in (None, type(None), Any, object) or isinstance(declared, TypeVar):
        return True
    if get_origin(declared) in (Union, UnionType):
        return any(map(_allows_none, get_args(declared)))
    return get_origin(declared) is Annotated and _allows_none(get_args(declared)[0])


IMMUTABLE: Final = (
    type(None), bool, int, float, complex, str, bytes, frozenset, Decimal, Enum, UUID, date, time,
    timedelta, tzinfo,
)  # fmt: skip


def is_immutable(state: Any) -> bool:
    """Whether the state's type shows that nothing can change it in place.

    Frozen structs, dataclasses and attrs classes are taken at their word, and so are mappings,
    sets and sequences that have no way to be changed, such as persistent maps.
    """
    cls = type(state)
    if isinstance(state, IMMUTABLE):
        return True
    if isinstance(state, tuple):
        return all(map(is_immutable, state))
    if isinstance(state, msgspec.Struct):
        return bool(cls.__struct_config__.frozen)
    if dataclasses.is_dataclass(cls):
        params = vars(cls).get("__dataclass_params__")
        return params is not None and bool(params.frozen)
    props = vars(cls).get("__attrs_props__")
    if props is not None:
        return bool(props.is_frozen)
    if isinstance(state, abc.MutableMapping | abc.MutableSet | abc.MutableSequence):
        return False
    return isinstance(state, abc.Mapping | abc.Set)


class Document(msgspec.Struct, frozen=True):
    """What a stream's events say together, without knowing their classes.

    ``data`` has the newest value of each field; ``type``, ``version``, ``position`` and
    ``recorded_at`` are the last event's.
    """

    data: dict[str, Any]
    type: str
    version: int
    position: int
    recorded_at: datetime


documents: Final[Fold[dict[str, Document]]] = Fold(
    "documents", dict, copy=dict.copy, state=dict[str, Document]
)
"""The fold that needs no code: each stream's data, merged event by event, by stream name."""


@documents.otherwise
def _laid_over_each(
    state: dict[str, Document], recorded: RecordedEvent[Any]
) -> dict[str, Document]:
    before = state.get(recorded.stream)
    state[recorded.stream] = Document(
        recorded.data if before is None else {**before.data, **recorded.data},
        recorded.type,
        recorded.version,
        recorded.position,
        recorded.recorded_at,
    )
    return state


@documents.merge
def _merged_documents(
    earlier: dict[str, Document], later: dict[str, Document]
) -> dict[str, Document]:
    for stream, newer in later.items():
        older = earlier.get(stream)
        if older is not None:
            newer = msgspec.structs.replace(newer, data={**older.data, **newer.data})  # noqa: PLW2901
        earlier[stream] = newer
    return earlier


document: Final[Fold[dict[str, Any]]] = Fold(
    "document", lambda: {"data": {}}, version=2, copy=dict.copy, state=dict[str, Any]
)
"""What one stream's events say together: the same parts as a `Document`, by their names.

Before the first event there is only ``data``, and nothing in it.
"""


@document.otherwise
def _laid_over(state: dict[str, Any], recorded: RecordedEvent[Any]) -> dict[str, Any]:
    return {
        "data": {**state["data"], **recorded.data},
        "type": recorded.type,
        "version": recorded.version,
        "position": recorded.position,
        "recorded_at": recorded.recorded_at,
    }


@document.merge
def _merged_document(earlier: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    return {**earlier, **later, "data": {**earlier["data"], **later["data"]}}
