"""The query bus: answers that say how fresh they are, and that are as fresh as was asked."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from everwhen import (
    Event,
    Fold,
    Projection,
    RecordedEvent,
    StaleError,
    StateOf,
    TableProjection,
    Tables,
)
from everwhen.aio import ProjectionRunner, open_store
from everwhen.errors import DeclarationError, InvalidQueryError
from everwhen.projections import Queries, QueryResult, Question
from everwhen.projections.aio import CallNextQuery, QueryBus
from everwhen.testing import ManualClock
from everwhen.testing._async.concurrency import together


class Sold(Event):
    item: str
    pieces: int


class Pieces(msgspec.Struct, frozen=True):
    item: str


class Best(msgspec.Struct, frozen=True):
    n: int


class InTill(msgspec.Struct, frozen=True):
    till: str


counts: Fold[dict[str, int]] = Fold("counts", dict, state=dict[str, int])


@counts.on(Sold)
def _sold(state: dict[str, int], event: Sold) -> dict[str, int]:
    state[event.item] = state.get(event.item, 0) + event.pieces
    return state


in_memory = Projection(counts)
in_tables = TableProjection("sales", "CREATE TABLE {sales} (item TEXT PRIMARY KEY, pieces INT)")


@in_tables.on(Sold)
def _row(tables: Tables, sold: RecordedEvent[Sold]) -> None:
    tables.execute(
        "INSERT INTO {sales} VALUES (?, ?)"
        " ON CONFLICT (item) DO UPDATE SET pieces = {sales}.pieces + excluded.pieces",
        (sold.event.item, sold.event.pieces),
    )


queries = Queries()


@queries.on(Pieces, in_memory)
def _pieces(query: Pieces, state: dict[str, int]) -> int:
    return state.get(query.item, 0)


@queries.on(Best, in_tables)
def _best(query: Best, tables: Tables) -> list[tuple[Any, ...]]:
    return tables.execute("SELECT * FROM {sales} ORDER BY pieces DESC LIMIT ?", [query.n])


@queries.on(InTill, StateOf(counts, lambda query: f"till-{query.till}"))
def _in_till(query: InTill, state: dict[str, int]) -> int:
    return sum(state.values())


def store_at(location: str, clock: ManualClock | None = None) -> Any:
    return open_store(location, events=[Sold], durable=False, clock=clock or ManualClock())


async def test_answers_say_how_fresh_they_are(location: str) -> None:
    clock = ManualClock()
    async with store_at(location, clock) as store:
        runner = ProjectionRunner(store, [in_memory, in_tables])
        bus = QueryBus(store, queries, runner=runner)
        await runner.catch_up()
        assert await bus.ask(Pieces("lamp")) == QueryResult(0, 0, None, is_stale=False, lag=0)
        dawn = clock()
        await store.append("till-1", [Sold("lamp", 2), Sold("chair", 5)])
        await runner.catch_up()
        clock.advance(60)
        noon = clock()
        await store.append("till-2", [Sold("lamp", 1)])
        for query, data in ((Pieces("lamp"), 2), (Best(1), [("chair", 5)])):
            result = await bus.ask(query)
            assert result == QueryResult(data, 2, dawn, is_stale=True, lag=1)
        # a state that is folded when it is asked for is never behind
        assert await bus.ask(InTill("2")) == QueryResult(1, 3, noon, is_stale=False, lag=0)
        await runner.catch_up()
        for query, data in ((Pieces("lamp"), 3), (Best(1), [("chair", 5)])):
            assert await bus.ask(query) == QueryResult(data, 3, noon, is_stale=False, lag=0)
        await runner.close()


@pytest.mark.parametrize("query", [Pieces("lamp"), Best(1)])
async def test_reading_ones_own_writes(location: str, query: Any) -> None:
    async with store_at(location) as store:
        async with ProjectionRunner(store, [in_memory, in_tables]) as runner:
            bus = QueryBus(store, queries, runner=runner)
            for number in range(1, 30):
                receipt = await store.append("till-1", [Sold("lamp", 1)])
                result = await bus.ask(query, at_least=receipt.position)
                assert result.position >= receipt.position
                assert result.data in (number, [("lamp", number)])


@pytest.mark.parametrize("query", [Pieces("lamp"), Best(1)])
async def test_waiting_has_an_end(location: str, query: Any) -> None:
    clock = ManualClock()
    async with store_at(location, clock) as store:
        runner = ProjectionRunner(store, [in_memory, in_tables])
        bus = QueryBus(store, queries, runner=runner)
        with pytest.raises(StaleError, match="is at position 0"):
            await bus.ask(query, timeout=0.02)
        await runner.catch_up()
        await store.append("till-1", [Sold("lamp", 1)])
        with pytest.raises(StaleError) as stale:
            await bus.ask(query, at_least=1, timeout=0.02)
        assert (stale.value.position, stale.value.wanted) == (0, "position 1")
        clock.advance(10)
        minute = timedelta(minutes=1)
        assert (await bus.ask(query, max_staleness=minute, timeout=0.02)).is_stale
        clock.advance(51)
        with pytest.raises(StaleError, match="0:01:00 ago"):
            await bus.ask(query, max_staleness=minute, timeout=0.02)

        async def ask() -> QueryResult[Any]:
            return await bus.ask(query, max_staleness=minute)

        fresh, _ = await together(ask, runner.catch_up)
        assert isinstance(fresh, QueryResult)
        assert not fresh.is_stale
        await runner.close()


async def test_moments_of_the_past(location: str) -> None:
    clock = ManualClock()
    async with store_at(location, clock) as store:
        runner = ProjectionRunner(store, [in_memory, in_tables])
        bus = QueryBus(store, queries, runner=runner)
        moments = []
        for _ in range(5):
            moments.append(clock.advance(10))
            await store.append("till-1", [Sold("lamp", 1), Sold("chair", 1)])
        for number, moment in enumerate(moments, 1):
            expected = (number, number * 2, moment, False, 0)
            for result in (
                await bus.ask(Pieces("lamp"), as_at=moment + timedelta(seconds=1)),
                await bus.ask(Pieces("lamp"), as_at=number * 2),
            ):
                assert msgspec.structs.astuple(result) == expected
            assert (await bus.ask(InTill("1"), as_at=moment)).data == number * 2
        before = await bus.ask(Pieces("lamp"), as_at=0)
        assert (before.data, before.position, before.as_of) == (0, 0, None)
        with pytest.raises(InvalidQueryError, match="about the present"):
            await bus.ask(Pieces("lamp"), as_at=moments[0], at_least=1)
        with pytest.raises(InvalidQueryError, match="only the present"):
            await bus.ask(Best(1), as_at=moments[0])
        await runner.close()


async def test_tables_that_another_runner_keeps(location: str) -> None:
    async with store_at(location) as store, store_at(location) as elsewhere:
        bus = QueryBus(elsewhere, queries)
        async with ProjectionRunner(store, [in_tables]) as runner:
            receipt = await store.append("till-1", [Sold("lamp", 1)])
            assert (await bus.ask(Best(1), at_least=receipt.position)).data == [("lamp", 1)]
            await runner.rebuild(in_tables)
            assert (await bus.ask(Best(1))).data == [("lamp", 1)]
        with pytest.raises(InvalidQueryError, match="runner="):
            await bus.ask(Pieces("lamp"))


async def test_middleware_sees_who_asks_what(location: str) -> None:
    heard: list[Any] = []

    async def note(question: Question, proceed: CallNextQuery, /) -> QueryResult[Any]:
        heard.append(question.query)
        result = await proceed(question)
        heard.append(result.data)
        return result

    async def refuse(question: Question, proceed: CallNextQuery, /) -> QueryResult[Any]:
        if question.query == InTill("secret"):
            raise PermissionError
        return await proceed(question)

    async with store_at(location) as store:
        bus = QueryBus(store, queries, middleware=[note, refuse])
        await bus.ask(InTill("1"))
        with pytest.raises(PermissionError):
            await bus.ask(InTill("secret"))
        assert heard == [InTill("1"), 0, InTill("secret")]


async def test_tables_can_be_read_but_not_written(location: str) -> None:
    class Clear(msgspec.Struct, frozen=True):
        pass

    rules = Queries()

    @rules.on(Clear, in_tables)
    def clear(query: Clear, tables: Tables) -> list[tuple[Any, ...]]:
        return tables.execute("DELETE FROM {sales}")

    async with store_at(location) as store:
        await store.append("till-1", [Sold("lamp", 1)])
        runner = ProjectionRunner(store, [in_tables])
        await runner.catch_up()
        with pytest.raises(Exception, match=r"readonly|read-only|written to"):
            await QueryBus(store, rules).ask(Clear())
        assert (await QueryBus(store, queries).ask(Best(1))).data == [("lamp", 1)]
        await runner.close()


async def test_what_an_answer_raises_comes_through_and_lazy_ones_are_refused(
    location: str,
) -> None:
    class Count(msgspec.Struct, frozen=True):
        pass

    class Lazy(msgspec.Struct, frozen=True):
        pass

    rules = Queries()

    @rules.on(Count, in_tables)
    def count(query: Count, tables: Tables) -> int:
        return int("abc")

    @rules.on(Lazy, in_tables)
    def lazy(query: Lazy, tables: Tables) -> Any:
        yield tables.execute("SELECT * FROM {sales}")

    async with store_at(location) as store:
        await store.append("till-1", [Sold("lamp", 1)])
        runner = ProjectionRunner(store, [in_tables])
        await runner.catch_up()
        bus = QueryBus(store, rules)
        with pytest.raises(ValueError, match="'abc'"):
            await bus.ask(Count())
        with pytest.raises(DeclarationError, match="return a list"):
            await bus.ask(Lazy())
        newer = TableProjection("sales", "CREATE TABLE {sales} (n)", version=2)
        later = Queries()
        later.on(Count, newer)(lambda query, tables: tables.execute("SELECT n FROM {sales}"))
        with pytest.raises(StaleError, match="version 2"):
            await QueryBus(store, later).ask(Count(), timeout=0)
        await runner.close()


@pytest.mark.parametrize(
    "bounds",
    [
        {"at_least": -1},
        {"at_least": "7"},
        {"at_least": 1.5},
        {"at_least": True},
        {"at_least": None},
        {"max_staleness": timedelta(seconds=-1)},
        {"max_staleness": 5},
        {"timeout": -0.1},
        {"timeout": float("nan")},
        {"timeout": "5"},
        {"timeout": None},
    ],
)
async def test_bounds_that_make_no_sense(location: str, bounds: dict[str, Any]) -> None:
    asked: list[Question] = []

    async def noting(question: Question, proceed: CallNextQuery) -> QueryResult[Any]:
        asked.append(question)
        return await proceed(question)

    async with store_at(location) as store:
        bus = QueryBus(store, queries, middleware=[noting])
        (name,) = bounds
        with pytest.raises(InvalidQueryError, match=f"{name}=.*: use a"):
            await bus.ask(InTill("north"), **bounds)
        assert asked == []
        await bus.ask(InTill("north"), at_least=0, max_staleness=timedelta(), timeout=1)
        assert len(asked) == 1


async def test_declarations_that_make_no_sense(location: str) -> None:
    rules = Queries()
    with pytest.raises(DeclarationError, match="not a read model"):
        rules.on(Best, counts)  # type: ignore[call-overload]
    rules.on(Best, in_tables)(lambda query, tables: None)
    with pytest.raises(DeclarationError, match="two answers to Best"):
        rules.on(Best, in_tables)
    async with store_at(location) as store:
        with pytest.raises(InvalidQueryError, match=r"nothing answers Pieces.*known: Best"):
            await QueryBus(store, rules).ask(Pieces("lamp"))
