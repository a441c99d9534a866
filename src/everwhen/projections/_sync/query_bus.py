# Generated from src/everwhen/projections/_async/query_bus.py by tools/unasync.py: edit that, then run `make sync`.
"""The query bus: from a question to an answer that is as fresh as it was asked to be."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol

from everwhen.backends._sync.concurrency import sleep
from everwhen.backends.engine import EngineView
from everwhen.commands.decisions import StateOf
from everwhen.projections._sync.runner import ProjectionRunner
from everwhen.projections.projections import TableProjection, Tables
from everwhen.projections.queries import Answering, Queries, QueryResult, Question
from everwhen.store._sync.repository import Repository
from everwhen.store._sync.store import Store, check_store
from everwhen.store.projection_records import Build, builds_of, record_of
from everwhen.system.limits import OTHER_PROCESS_SECONDS, SHORTEST_PAUSE_SECONDS
from everwhen.vocabulary.clock import Clock
from everwhen.vocabulary.contract import Head
from everwhen.vocabulary.errors import DeclarationError, InvalidQueryError, StaleError
from everwhen.vocabulary.query import Query, query_of


class CallNextQuery(Protocol):
    """The way on, from a layer of middleware to what lies within."""

    def __call__(self, question: Question, /) -> QueryResult[Any]:
        """Send the question on."""
        ...


class QueryMiddleware(Protocol):
    """A layer around the answering of queries: a function, say."""

    def __call__(self, question: Question, proceed: CallNextQuery, /) -> QueryResult[Any]:
        """Do something before or after ``await proceed(question)``, or raise instead."""
        ...


class QueryBus:
    """Answers queries from read models.

    ``runner`` keeps the projections in memory that are asked; those in tables may be kept by any
    runner, in this process or another. Staleness is judged by the store's clock, unless ``clock``
    is given. Safe to share between threads and tasks.
    """

    def __init__(
        self,
        store: Store,
        queries: Queries,
        *,
        runner: ProjectionRunner | None = None,
        middleware: Sequence[QueryMiddleware] = (),
        clock: Clock | None = None,
    ) -> None:
        self.store = check_store(store)
        self.queries = queries
        self._runner = runner
        self._clock = clock or self.store.clock
        self._live: dict[str, Build] = {}
        self._proceed: CallNextQuery = self._answer
        for layer in reversed(middleware):
            self._proceed = _around(self._proceed, layer)

    def __repr__(self) -> str:
        return f"QueryBus({self.store!r}, {self.queries!r})"

    def ask(
        self,
        query: Any,
        *,
        at_least: int = 0,
        max_staleness: timedelta | None = None,
        as_at: datetime | int | None = None,
        timeout: float = 5.0,  # noqa: ASYNC109 (how long to wait for the model, not for the call)
    ) -> QueryResult[Any]:
        """Answer the query.

        ``at_least`` is a position that the answer must take in: a command result's, to read one's
        own writes. ``max_staleness`` is for how long an event may have been recorded and not yet
        be in the answer. For either, the model is waited for, ``timeout`` seconds at most; then
        `StaleError` is raised. ``as_at`` asks for a moment in the past instead, or for a position;
        tables know only the present.

        Raises `InvalidQueryError` for a query that nothing answers, or not about the past, and for
        bounds that make no sense, before anything is asked; `BeyondEndError` where the model is of
        events that the store has no more, since it was restored to an earlier moment.
        """
        return self._proceed(Question(query, at_least, max_staleness, as_at, timeout))

    def _answer(self, question: Question) -> QueryResult[Any]:
        answering = self.queries.for_query(question.query)
        if question.as_at is not None:
            return self._past(question, answering)
        deadline = time.monotonic() + question.timeout
        pause = SHORTEST_PAUSE_SECONDS
        while True:
            try:
                data, position = self._now(question, answering)
            except StaleError as stale:
                lacking = stale
            else:
                head = self.store.head()
                if position > head.position:
                    self.store.kernel.backend.wait(position, 0)
                result = self._result(data, position, head)
                wanted = self._lacks(question, result)
                if wanted is None:
                    return result
                lacking = StaleError(_name(answering), position, wanted)
            if time.monotonic() + pause > deadline:
                raise lacking
            sleep(pause)
            pause = min(pause * 2, OTHER_PROCESS_SECONDS)

    def _now(self, question: Question, answering: Answering) -> tuple[Any, int]:
        """The answer as of now, and the position that it holds at. Raises `StaleError`."""
        model, answer, query = answering.model, answering.answer, question.query
        if isinstance(model, StateOf):
            loaded = Repository(self.store, model.fold).load(model.where(query))
            return answer(query, loaded.state), loaded.read_until
        if isinstance(model, TableProjection):
            return self._from_tables(model, answering, query)
        if self._runner is None:
            raise InvalidQueryError(
                f"{model!r} is kept in memory by a runner; give it: QueryBus(…, runner=…)"
            )
        return self._runner.ask(model, lambda state: answer(query, state))

    def _from_tables(
        self, model: TableProjection, answering: Answering, query: Any
    ) -> tuple[Any, int]:
        def look(view: EngineView, build: Build) -> tuple[Any, int] | None:
            known = view.checkpoint(build.record)
            if known is None or not record_of(known).is_live:
                return None
            with Tables(view, build.physical(model.tables)) as tables:
                answer = answering.answer(query, tables)
            if isinstance(answer, Iterator):
                raise DeclarationError(
                    f"the answer to {type(query).__name__} is {answer!r}, which would run when the "
                    f"tables are out of reach; return a list"
                )
            return answer, known.position

        build = self._live.get(model.name)
        if build is None or build.version != model.version:
            build = self._live_build(model)
        found = self.store.kernel.backend.view(partial(look, build=build))
        if found is None:
            build = self._live_build(model)
            found = self.store.kernel.backend.view(partial(look, build=build))
        if found is None:
            raise StaleError(model.name, 0, "its newest build")
        return found

    def _live_build(self, model: TableProjection) -> Build:
        """The build that readers see. Raises `StaleError` before there is one."""
        builds = builds_of(self.store.checkpoints(), model.name)
        for build, known in builds.items():
            if record_of(known).is_live and build.version == model.version:
                self._live[model.name] = build
                return build
        raise StaleError(model.name, 0, f"a build of version {model.version}")

    def _lacks(self, question: Question, result: QueryResult[Any]) -> str | None:
        """What a result lacks of what was asked for; None where it lacks nothing."""
        if result.position < question.at_least:
            return f"position {question.at_least}"
        longest = question.max_staleness
        if longest is None or not result.is_stale:
            return None
        for event in self.store.read(Query().after(result.position).limit(1)):
            if self._clock() - event.recorded_at > longest:
                return f"what was recorded {longest} ago"
        return None

    def _past(self, question: Question, answering: Answering) -> QueryResult[Any]:
        model, query = answering.model, question.query
        if question.at_least or question.max_staleness is not None:
            raise InvalidQueryError(
                "at_least and max_staleness are about the present; leave them out with as_at"
            )
        if isinstance(model, TableProjection):
            raise InvalidQueryError(
                f"{model!r} keeps tables, which know only the present; answer "
                f"{type(query).__name__} from a fold to ask about the past"
            )
        of = query_of(model.where(query)) if isinstance(model, StateOf) else model.of
        moment = question.as_at
        until = of.as_at(moment) if isinstance(moment, datetime) else of.up_to(moment or 0)
        loaded = Repository(self.store, model.fold).load(until)
        data = answering.answer(query, loaded.state)
        return self._result(data, loaded.read_until, Head(0, None))

    def _result(self, data: Any, position: int, head: Head) -> QueryResult[Any]:
        if position == head.position:
            return QueryResult(data, position, head.recorded_at, is_stale=False, lag=0)
        as_of: datetime | None = None
        for event in self.store.read(Query().up_to(position).backwards().limit(1)):
            as_of = event.recorded_at
        lag = max(0, head.position - position)
        return QueryResult(data, position, as_of, is_stale=lag > 0, lag=lag)


def _around(proceed: CallNextQuery, layer: QueryMiddleware) -> CallNextQuery:
    def through(question: Question, /) -> QueryResult[Any]:
        return layer(question, proceed)

    return through


def _name(answering: Answering) -> str:
    model = answering.model
    return model.fold.name if isinstance(model, StateOf) else model.name
