"""Queries: questions to read models, and what comes back. Pure.

    queries = Queries()

    @queries.on(BestSellers, sales)
    def best_sellers(query: BestSellers, tables: Tables) -> list[tuple[str, int]]:
        return tables.execute("SELECT * FROM {sales} ORDER BY pieces DESC LIMIT ?", [query.n])

    @queries.on(Balance, StateOf(account, lambda query: f"account-{query.account}"))
    def balance(query: Balance, state: Account) -> int:
        return state.balance

A `TableProjection` is asked by SQL; from all other read models the function gets the state.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar, overload

import msgspec

from everwhen.commands.decisions import StateOf
from everwhen.projections.projections import Projection, TableProjection, Tables
from everwhen.vocabulary.errors import DeclarationError, InvalidQueryError
from everwhen.vocabulary.validation import check_plain

Q = TypeVar("Q")
S = TypeVar("S")
T = TypeVar("T")


class QueryResult(msgspec.Struct, Generic[T], frozen=True):
    """An answer, and how fresh it is.

    ``data`` holds at ``position``, which was the newest at the time ``as_of`` (None before any
    event). ``lag`` is how many positions have been added since, and ``is_stale`` whether there are
    any; for a question about the past they are 0 and False.
    """

    data: T
    position: int
    as_of: datetime | None
    is_stale: bool
    lag: int


class Question(msgspec.Struct, frozen=True):
    """A query on its way, as middleware sees it; see `QueryBus.ask` for what the fields mean.

    Raises `InvalidQueryError` for a position, a staleness or a timeout that makes no sense.
    """

    query: Any
    at_least: int = 0
    max_staleness: timedelta | None = None
    as_at: datetime | int | None = None
    timeout: float = 5.0

    def __post_init__(self) -> None:
        if type(self.at_least) is not int or self.at_least < 0:
            raise InvalidQueryError(
                f"at_least={self.at_least!r}: use a position, such as a command result's"
            )
        longest = self.max_staleness
        if longest is not None and not (isinstance(longest, timedelta) and longest >= timedelta()):
            raise InvalidQueryError(f"max_staleness={longest!r}: use a timedelta, 0 or more")
        if type(self.timeout) not in (int, float) or not self.timeout >= 0:
            raise InvalidQueryError(f"timeout={self.timeout!r}: use a number of seconds, 0 or more")


class Answering(msgspec.Struct, frozen=True):
    """How one type of query is answered."""

    model: Projection[Any] | TableProjection | StateOf[Any, Any]
    answer: Callable[[Any, Any], Any]


class Queries:
    """Which function answers which type of query, from which read model."""

    def __init__(self) -> None:
        self._by_class: dict[type[Any], Answering] = {}

    def __repr__(self) -> str:
        return f"Queries({', '.join(cls.__name__ for cls in self._by_class)})"

    @overload
    def on(
        self, query: type[Q], model: Projection[S], /
    ) -> Callable[[Callable[[Q, S], T]], Callable[[Q, S], T]]: ...
    @overload
    def on(
        self, query: type[Q], model: TableProjection, /
    ) -> Callable[[Callable[[Q, Tables], T]], Callable[[Q, Tables], T]]: ...
    @overload
    def on(
        self, query: type[Q], model: StateOf[Q, S], /
    ) -> Callable[[Callable[[Q, S], T]], Callable[[Q, S], T]]: ...

    def on(
        self, query: type[Any], model: Any, /
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Declare how a type of query is answered, and from what.

        From a `Projection` or a `StateOf` the function is given the state, from a
        `TableProjection` its tables.
        """
        if not isinstance(model, Projection | TableProjection | StateOf):
            raise DeclarationError(
                f"query {query.__name__}: {model!r} is not a read model; give a Projection, a "
                f"TableProjection or a StateOf"
            )
        if query in self._by_class:
            raise DeclarationError(f"there are two answers to {query.__name__}; keep one")

        def declare(function: Callable[..., Any]) -> Callable[..., Any]:
            check_plain(function, f"query {query.__name__}")
            self._by_class[query] = Answering(model, function)
            return function

        return declare

    def for_query(self, query: Any) -> Answering:
        """The way to answer a query. Raises `InvalidQueryError` where there is none."""
        answering = self._by_class.get(type(query))
        if answering is None:
            known = ", ".join(sorted(cls.__name__ for cls in self._by_class))
            raise InvalidQueryError(
                f"nothing answers {type(query).__name__}; declare a function with "
                f"@queries.on({type(query).__name__}, …) (known: {known or 'none'})"
            )
        return answering
