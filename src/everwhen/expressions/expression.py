"""Expressions: what people type to ask something of a state, in a small and safe language.

The language is the Common Expression Language (CEL)::

    richer = Expression('players["hedy"].balance > 1000 && has(players.george)')
    richer.condition(variables(state))

An expression reads data and nothing else: no methods, no attributes that aren't fields, nothing
that starts with an underscore. It looks at values where they stand, however large the state is,
and its work is bounded: its text, its depth, its steps, and the size of what it makes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

import msgspec

from everwhen.codec.recorded_events import RecordedEvent
from everwhen.expressions.cel.compiler import Compiler
from everwhen.expressions.cel.faults import (
    MAX_EXPRESSION_DEPTH,
    MAX_EXPRESSION_SIZE,
    CelFault,
    Exhausted,
    NotThereError,
    Run,
)
from everwhen.expressions.cel.naming import named_parts
from everwhen.expressions.cel.parts import find
from everwhen.expressions.cel.syntax import parse
from everwhen.expressions.cel.tree import UInt
from everwhen.expressions.cel.values import MadeList, MadeMap, Type, type_of, type_of_class
from everwhen.state.paths import MISSING, PartKind, Path, field_names, keys_of, kind_of
from everwhen.state.read_sets import Read, Reads, is_stand_in, itself, watched, widest
from everwhen.vocabulary.errors import ExpressionError, MissingPartError
from everwhen.vocabulary.events import UnknownEvent

MAX_STEPS: Final = 10_000_000
"""How many steps an evaluation may take, unless the expression is given another number."""

_ABSENT: Final[Any] = object()
_GIVEN: Final = frozenset({"state", "before", "event", "recorded"})


class Expression:
    """An expression, read once and evaluated as often as wanted. Safe from any thread.

    ``steps`` bounds the work of an evaluation: about one for each operator, for each item that
    a macro goes through; the same state always takes the same number.

    Raises `ExpressionError` for a text that can't be read, with its column and how to fix it.
    """

    __slots__ = ("_evaluate", "_slots", "names", "steps", "text")

    def __init__(self, text: str, *, steps: int = MAX_STEPS) -> None:
        compiler = Compiler()
        try:
            self._evaluate, _ = compiler.compile(parse(text))
        except CelFault as fault:
            raise _error(text, fault) from None
        self._slots = compiler.slots
        self.text = text
        self.steps = steps
        self.names = frozenset(compiler.names)

    def __call__(self, variables: Mapping[str, Any]) -> Any:
        """The value, in Python: what is part of a variable is given out as it is.

        Raises `ExpressionError` where it has none: for a name or field that isn't known, types
        that don't go together, and too much work; `MissingPartError` for a key that isn't there.
        """
        run = Run(variables, self._slots, self.steps)
        try:
            value = self._evaluate(run)
            return value if value.__class__ is bool else _given_out(value, run)
        except CelFault as fault:
            raise _error(self.text, fault) from None
        except Exhausted as exhausted:
            raise ExpressionError(str(exhausted), self.text) from None

    def named_parts(self) -> list[Path]:
        """The parts that it names outright, as keys from a variable on: ``("state", "total")``.

        Not those that it asks after itself, as in ``has(a.b)`` or ``"b" in a``.
        """
        return named_parts(parse(self.text))

    def condition(self, variables: Mapping[str, Any]) -> bool:
        """Whether it holds. Raises `ExpressionError` like a call, and if it is not a condition."""
        value = self(variables)
        if value is True or value is False:
            return bool(value)
        raise ExpressionError(
            f"no condition: its value is of type {type(value).__name__}, not true or false; "
            f"compare it with something",
            self.text,
        )

    def holds_for(self, state: Any) -> bool:
        """`condition` of the state's `variables`: a condition for a time machine's journeys."""
        return self.condition(Variables(state))

    def asked_of_states(self) -> Callable[[Any], bool]:
        """A function with the same answers as `holds_for`, to ask of many states in a row.

        It is several times as fast, and for one thread at a time: ``all`` and ``exists`` ask again
        only of what is another object than in the state before, as far as nothing changes in place.
        What isn't there raises a plain `LookupError`, which says nothing.
        """
        variables = _States()
        run = Run(variables, self._slots, self.steps)
        run.answers = {}
        evaluate, steps = self._evaluate, self.steps

        def ask(state: Any) -> bool:
            variables.go_on(state)
            run.steps = steps
            try:
                value = evaluate(run)
            except CelFault as fault:
                if fault.missing:
                    raise NotThereError from None
                raise _error(self.text, fault) from None
            except Exhausted as exhausted:
                raise ExpressionError(str(exhausted), self.text) from None
            if value is True or value is False:
                return bool(value)
            return self.holds_for(state)

        return ask

    def evaluate_tracked(self, state: Any) -> tuple[Any, Reads]:
        """The value for the state's `variables`, and the parts of the state that it rests on.

        As long as what was read stays as it is, so does the value. Going through a container,
        its size, and comparing it, are reads of all of it.
        """
        trace: set[Read] = set()
        value = self(Variables(watched(state, (), trace)))
        return value, widest(trace)

    def __reduce__(self) -> tuple[Any, ...]:
        return _read_again, (self.text, self.steps)

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"


def _read_again(text: str, steps: int) -> Expression:
    """An expression that comes from another process."""
    return Expression(text, steps=steps)


class Variables(Mapping[str, Any]):
    """What names mean in an expression about a state.

    ``state`` is the state, ``before`` the state before the event, ``event`` the event's data, and
    ``recorded`` what was recorded with it: ``type``, ``stream``, ``version``, ``position``,
    ``time``, ``occurred``, ``user``, ``tags``, ``correlation``, ``causation``, ``extras``. Every
    other name is a field, or a key, of the state. What isn't given has no name.
    """

    __slots__ = ("_fields", "_given", "_recorded", "_state")

    def __init__(
        self, state: Any, *, event: RecordedEvent[Any] | None = None, before: Any = _ABSENT
    ) -> None:
        self._state = state
        self._fields = _readable(state.__class__)
        self._recorded = event
        self._given: dict[str, Any] = {"state": state}
        if before is not _ABSENT:
            self._given["before"] = before

    def __getitem__(self, name: str) -> Any:
        if name in self._fields:
            found = getattr(self._state, name, MISSING)
            if found is not MISSING and found is not msgspec.UNSET:
                return found
        found = self._given.get(name, _ABSENT)
        if found is not _ABSENT:
            return found
        if self._recorded is not None and name in ("event", "recorded"):
            found = _data(self._recorded) if name == "event" else _envelope(self._recorded)
            self._given[name] = found
            return found
        if name in _GIVEN or name.startswith("_") or type_of(self._state) != "map":
            raise KeyError(name)
        found = find(Run(self, 0, MAX_STEPS), self._state, name)
        if found is MISSING:
            is_mapping = kind_of(self._state.__class__) is PartKind.MAPPING
            raise (NotThereError if is_mapping else KeyError)(name)
        return found

    def __iter__(self) -> Iterator[str]:
        yield from self._given
        if self._recorded is not None:
            yield from {"event", "recorded"} - self._given.keys()
        if type_of(self._state) == "map" and not is_stand_in(self._state):
            yield from (key for key in keys_of(self._state) if isinstance(key, str))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class _States(Variables):
    """`Variables` of one state after another."""

    __slots__ = ("_cls",)

    def __init__(self) -> None:
        super().__init__(None)
        self._cls: type[Any] = type(None)

    def go_on(self, state: Any) -> None:
        """To the next state."""
        self._state = self._given["state"] = state
        cls = state.__class__
        if cls is not self._cls:
            self._cls, self._fields = cls, _readable(cls)


@lru_cache(maxsize=4096)
def _readable(cls: type[Any]) -> frozenset[str]:
    """The fields of a state's class that are read by their names alone."""
    if type_of_class(cls) != "map":
        return frozenset()
    return frozenset(n for n in field_names(cls) if n not in _GIVEN and not n.startswith("_"))


def sooner(condition: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The condition, to be asked of many states in a row by one thread."""
    if getattr(condition, "__func__", None) is Expression.holds_for:
        expression: Expression = condition.__self__  # type: ignore[attr-defined]
        return expression.asked_of_states()
    return condition


def _data(recorded: RecordedEvent[Any]) -> Any:
    event = recorded.event
    return recorded.data if isinstance(event, UnknownEvent) else event


def _envelope(recorded: RecordedEvent[Any]) -> dict[str, Any]:
    metadata = recorded.metadata
    return {
        "type": recorded.type,
        "stream": recorded.stream,
        "version": recorded.version,
        "position": recorded.position,
        "time": recorded.recorded_at,
        "occurred": recorded.occurred_at,
        "user": metadata.user_id,
        "tags": recorded.tags,
        "correlation": metadata.correlation_id,
        "causation": metadata.causation_id,
        "extras": metadata.extras,
    }


def _error(text: str, fault: CelFault) -> ExpressionError:
    kind = MissingPartError if fault.missing else ExpressionError
    return kind(fault.reason, text, None if fault.at is None else fault.at + 1)


def _given_out(value: Any, run: Run, depth: int = 0) -> Any:
    """A value as Python has it. What the expression made is bounded, each time it occurs."""
    cls = type(value)
    if cls is UInt:
        return int(value)
    if cls is Type:
        return value.name
    if cls is not MadeList and cls is not MadeMap:
        return itself(value)
    if depth > MAX_EXPRESSION_DEPTH:
        raise Exhausted(f"the value is nested more than {MAX_EXPRESSION_DEPTH} levels deep")
    run.spend(len(value) * max(1, MAX_STEPS // MAX_EXPRESSION_SIZE))
    if cls is MadeList:
        return [_given_out(item, run, depth + 1) for item in value]
    return {key: _given_out(item, run, depth + 1) for key, item in value.items()}
