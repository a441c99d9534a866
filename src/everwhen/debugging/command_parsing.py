"""What people type to say where to stop, and where they mean: from text to triggers."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from itertools import islice
from typing import Any, Final

from everwhen.debugging.breakpoints import (
    EventTrigger,
    PathTrigger,
    StateTrigger,
    Trigger,
    ValueTrigger,
)
from everwhen.debugging.searching import is_about_events
from everwhen.expressions.expression import Expression, Variables
from everwhen.state.paths import Path, path_of
from everwhen.store._sync.store import Store
from everwhen.travel._sync.time_machine import TimeMachine
from everwhen.vocabulary.errors import (
    ExpressionError,
    InvalidPathError,
    InvalidQueryError,
    MissingPartError,
)
from everwhen.vocabulary.query import Query

_CONDITIONAL: Final = re.compile(
    r"(?P<names>[\w.:/@,\s-]*?)(?:^|\s)if\s+(?P<condition>.+)", re.DOTALL
)
_NAMES: Final = re.compile(r"[\w.:/@,\s-]+")
_KINDS: Final = {
    "type": "types",
    "stream": "streams",
    "on": "streams",
    "category": "categories",
    "in": "categories",
}
_SAMPLED: Final = 2_000
"""Events, and streams, that are looked at to complete a name: few enough to answer at once."""


def break_of(text: str, machine: TimeMachine[Any]) -> Trigger:
    """Where ``break`` is to stop, as in ``BetPlaced, BetWon on game-7 if event.amount > 5``.

    Or as in ``if total > 100``, ``unless total >= 0``. A condition about events is asked of each;
    one about the state alone is where it begins to hold. Raises `InvalidQueryError` for names
    that the store doesn't have, and `ExpressionError`.
    """
    text = text.strip()
    if not text:
        raise InvalidQueryError(
            "the place to stop is missing; give an event type, a stream, or if CONDITION"
        )
    if match := _CONDITIONAL.fullmatch(text):
        condition = Expression(match["condition"])
        if not match["names"].strip():
            return condition_of(condition, machine)
        return _of_names(match["names"], machine.store, condition)
    if text.startswith("unless "):
        return condition_of(Expression(text[len("unless ") :]), machine, holds=False)
    if _NAMES.fullmatch(text):
        try:
            return _of_names(text, machine.store, None)
        except InvalidQueryError:
            if not _has_value(text, machine):
                raise
    return condition_of(Expression(text), machine)


def condition_of(
    expression: Expression, machine: TimeMachine[Any], *, holds: bool = True
) -> EventTrigger | StateTrigger:
    """The trigger of a condition alone, which is tried on the present state.

    Raises `ExpressionError` where it can't be a condition; what isn't there may yet come.
    """
    if is_about_events(expression):
        if not holds:
            expression = Expression(f"!({expression.text})")
        return EventTrigger(condition=expression)
    try:
        expression.holds_for(machine.travel_to(machine.store.head().position).state)
    except MissingPartError:
        pass
    except ExpressionError:
        raise
    except Exception:  # noqa: BLE001, S110 (the fold's own: it is told of where one gets there)
        pass
    return StateTrigger(expression, holds=holds)


def watch_of(text: str) -> PathTrigger | ValueTrigger:
    """What ``watch`` is to look at: a path of the state, or an expression over it.

    Raises `ExpressionError` for what is neither.
    """
    path = _path(text)
    if path is not None:
        return PathTrigger(path)
    expression = Expression(text)
    if is_about_events(expression):
        raise ExpressionError(
            "a watch is on the state, which has no event; to stop at events use break if", text
        )
    return ValueTrigger(expression)


def known_types(store: Store) -> set[str]:
    """The types that are declared, and those among the newest events."""
    newest = Query().backwards().limit(_SAMPLED)
    return {event.type for event in store.read(newest)} | set(declared_types(store))


def declared_types(store: Store) -> Iterable[str]:
    """The types that the store was opened with."""
    return {declared.name for declared in store.event_types.current().values()}


def _path(text: str) -> Path | None:
    text = text.strip()
    try:
        path = path_of(text)
    except InvalidPathError:
        return None
    return path if text else None


def _has_value(text: str, machine: TimeMachine[Any]) -> bool:
    try:
        state = machine.travel_to(machine.store.head().position).state
        Expression(text).condition(Variables(state))
    except Exception:  # noqa: BLE001 (a fold may raise what it likes)
        return False
    return True


def _of_names(text: str, store: Store, condition: Expression | None) -> EventTrigger:
    found: dict[str, set[str]] = {"types": set(), "streams": set(), "categories": set()}
    kind: str | None = None
    for word in text.replace(",", " ").split():
        if word in _KINDS:
            kind = _KINDS[word]
        else:
            found[kind or _kind_of(word, store)].add(word)
    if not any(found.values()):
        raise InvalidQueryError(f"break {text.strip()}: name an event type or a stream")
    return EventTrigger(
        types=frozenset(found["types"]),
        streams=frozenset(found["streams"]),
        categories=frozenset(found["categories"]),
        condition=condition,
    )


def _kind_of(word: str, store: Store) -> str:
    """Whether a name is that of a type, a stream or a category."""
    if word in declared_types(store) or _any(store, Query().types(word)):
        return "types"
    if store.stream(word) is not None:
        return "streams"
    if _any(store, Query().category(word)):
        return "categories"
    streams = (info.name for info in islice(store.streams(), _SAMPLED))
    close = difflib.get_close_matches(word, {*known_types(store), *streams}, 3)
    raise InvalidQueryError(
        f"there is no event type, stream or category {word!r}"
        + (f"; did you mean {', '.join(close)}?" if close else "")
        + "; for one that does not exist yet use break type NAME or break stream NAME"
    )


def _any(store: Store, query: Query) -> bool:
    return next(iter(store.read(query.limit(1))), None) is not None
