"""Projections: every event takes effect once, in order, whatever happens to the one who applies it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from everwhen import (
    ConflictError,
    Event,
    EventTypes,
    Fold,
    Projection,
    Query,
    RecordedEvent,
    StaleError,
    TableProjection,
    Tables,
    UnknownEvent,
)
from everwhen.aio import ProjectionRunner, Repository, Store, open_store
from everwhen.backends._async.concurrency import sleep
from everwhen.codec import Upcast
from everwhen.errors import (
    DeclarationError,
    InlineError,
    LeaseError,
    ProjectionError,
    ReadOnlyError,
    StatementError,
    UnsupportedError,
)
from everwhen.projections import OnError, ProjectionStatus
from everwhen.projections._async.followers import now_micros
from everwhen.projections._async.memory_projections import StateFollower
from everwhen.projections._async.table_projections import TableFollower
from everwhen.projections.aio import parked_events, projection_statuses
from everwhen.state import EveryEvents, Retention
from everwhen.testing._async.concurrency import together
from everwhen.vocabulary import Checkpoint


class Sold(Event):
    item: str
    pieces: int


class Returned(Event):
    item: str
    pieces: int


EVENTS = [Sold, Returned]
SCHEMA = [
    "CREATE TABLE {sales} (item TEXT PRIMARY KEY, pieces INTEGER NOT NULL CHECK (pieces >= 0))",
    "CREATE INDEX {sales}_by_pieces ON {sales} (pieces)",
    "CREATE TABLE {log} (position INTEGER PRIMARY KEY, stream TEXT NOT NULL)",
]


def sales(
    *,
    version: int = 1,
    of: Query | None = None,
    on_error: OnError | None = None,
    factor: int = 1,
    fails: Callable[[RecordedEvent[Any]], bool] = lambda event: False,
) -> TableProjection:
    projection = TableProjection(
        "sales", SCHEMA, version=version, of=of, on_error=on_error or OnError()
    )

    def add(tables: Tables, event: RecordedEvent[Any], pieces: int) -> None:
        change = (pieces * factor, event.event.item)
        tables.execute(
            "INSERT INTO {sales} VALUES (?, 0) ON CONFLICT DO NOTHING", (event.event.item,)
        )
        tables.execute("UPDATE {sales} SET pieces = pieces + ? WHERE item = ?", change)
        tables.execute("INSERT INTO {log} VALUES (?, ?)", (event.position, event.stream))
        if fails(event):
            raise ValueError(event.event.item)

    @projection.on(Sold)
    def _(tables: Tables, event: RecordedEvent[Sold]) -> None:
        add(tables, event, event.event.pieces)

    @projection.on(Returned)
    def _(tables: Tables, event: RecordedEvent[Returned]) -> None:
        add(tables, event, -event.event.pieces)

    return projection


def pieces(
    *, version: int = 1, on_error: OnError | None = None, **kept: Any
) -> Projection[dict[str, int]]:
    """In memory, with a state that is changed in place."""
    fold: Fold[dict[str, int]] = Fold("pieces", dict, version=version, state=dict[str, int])

    @fold.on(Sold)
    def _(state: dict[str, int], event: Sold) -> dict[str, int]:
        state[event.item] = state.get(event.item, 0) + event.pieces
        if event.item == "poison":
            raise ValueError(event.item)
        return state

    return Projection(fold, on_error=on_error or OnError(), **kept)


async def rows(store: Store, table: str = "sales") -> list[tuple[Any, ...]]:
    return await store.kernel.backend.view(
        lambda view: view.execute(f"SELECT * FROM {table} ORDER BY 1")
    )


def store_at(location: str) -> Any:
    return open_store(location, events=EVENTS, durable=False)


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few events are several pages."""
    for module in ("log_following", "table_projections"):
        monkeypatch.setattr(f"everwhen.projections._async.{module}.PAGE_EVENTS", 100)


async def sell(store: Store, lamps: int, *, pieces: int = 1) -> None:
    """Events in commits that are smaller than ``small_pages``."""
    for _ in range(lamps // 50):
        await store.append("a", [Sold("lamp", pieces)] * 50)


def once(pause: float = 0.0, then: Any = "halt", retries: int = 0) -> OnError:
    return OnError(then, retries=retries, pause=pause)


async def test_rows_and_checkpoint_follow_the_events(location: str) -> None:
    async with store_at(location) as store:
        await store.append("till-1", [Sold("lamp", 2), Sold("chair", 4)])
        runner = ProjectionRunner(store, [sales(), pieces()])
        await runner.catch_up()
        assert await rows(store) == [("chair", 4), ("lamp", 2)]
        await store.append("till-2", [Sold("lamp", 5), Returned("chair", 1)])
        await runner.catch_up()
        await runner.catch_up()
        assert await rows(store) == [("chair", 3), ("lamp", 7)]
        assert await rows(store, "log") == [
            (1, "till-1"), (2, "till-1"), (3, "till-2"), (4, "till-2"),
        ]  # fmt: skip
        by_table, in_memory = await runner.status()
        assert (by_table.state, by_table.position, by_table.lag) == ("live", 4, 0)
        assert (in_memory.state, in_memory.position, in_memory.lag) == ("memory", 4, 0)
        await runner.close()
        # another one goes on where this one was
        await store.append("till-2", [Sold("desk", 1)])
        async with ProjectionRunner(store, [sales()]) as other:
            await other.catch_up()
        assert await rows(store) == [("chair", 3), ("desk", 1), ("lamp", 7)]


async def test_it_follows_in_the_background(location: str) -> None:
    async with store_at(location) as store:
        mine = pieces()
        async with ProjectionRunner(store, [sales(), mine]) as runner:
            for number in range(20):
                await store.append("till-1", [Sold("lamp", 1)] * (number % 3 + 1))
            await runner.catch_up()
            assert await rows(store) == [("lamp", 39)]
            assert await runner.ask(mine, lambda state: state["lamp"]) == (39, 39)


async def test_a_query_and_what_does_not_concern_it(location: str) -> None:
    async with store_at(location) as store:
        projection = sales(of=Query().category("till").types(Sold))
        async with ProjectionRunner(store, [projection], lease=0.4) as runner:
            await store.append("till-1", [Sold("lamp", 1), Returned("lamp", 1)])
            await store.append("other-1", [Sold("lamp", 1)])
            await runner.catch_up()
            assert await rows(store) == [("lamp", 1)]
            await store.append("other-1", [Sold("lamp", 1)] * 50)
            for _ in range(400):  # it says how far it is though there was nothing to do
                (status,) = await runner.status()
                if status.position == 53:
                    break
                await sleep(0.01)
            assert status.lag == 0
        assert await rows(store) == [("lamp", 1)]


async def test_projections_at_different_places_join_each_other(
    location: str, small_pages: None
) -> None:
    async with store_at(location) as store:
        await sell(store, 250)
        first = ProjectionRunner(store, [sales()])
        await first.catch_up()
        await first.close()
        await sell(store, 250)
        mine = pieces()
        runner = ProjectionRunner(store, [sales(), mine])
        heard: list[tuple[int, int]] = []
        await runner.catch_up(lambda at, goal: heard.append((at, goal)))
        assert await rows(store) == [("lamp", 500)]
        assert await runner.ask(mine, len) == (1, 500)
        assert heard[-1] == (500, 500)
        assert sorted(heard) == heard
        await runner.close()


@pytest.mark.parametrize("kind", ["sql", "check", "python", "event"])
async def test_a_failure_halts_and_says_where(location: str, kind: str) -> None:
    async with store_at(location) as store:
        projection = TableProjection("sales", SCHEMA, on_error=once(retries=1))

        @projection.on(Sold)
        def _(tables: Tables, event: RecordedEvent[Sold]) -> None:
            tables.execute(
                "INSERT INTO {sales} VALUES (?, 1) ON CONFLICT DO NOTHING", (event.event.item,)
            )
            if event.event.item == "poison":
                if kind == "sql":
                    tables.execute("SELECT nothing FROM nowhere")
                elif kind == "check":
                    tables.execute("UPDATE {sales} SET pieces = -1")
                else:
                    raise ZeroDivisionError

        await store.append("a", [Sold("lamp", 1)] * 3)
        await store.append("a", [Sold("poison", 1), Sold("chair", 1)])
        other = pieces(on_error=once(then="skip"))
        runner = ProjectionRunner(store, [projection, other])
        with pytest.raises(ProjectionError) as halted:
            await runner.catch_up()
        assert (halted.value.projection, halted.value.position) == ("sales", 4)
        cause = StatementError if kind in ("sql", "check") else ZeroDivisionError
        assert isinstance(halted.value.__cause__, cause)
        table, memory = await runner.status()
        assert (table.state, table.position, table.lag) == ("halted", 3, 2)
        assert table.error is not None
        while (memory := (await runner.status())[1]).lag:
            async with runner._lock:
                await runner._step()
        assert (memory.position, memory.skipped) == (5, 1)
        await runner.close()
        # fixed, it goes on where it halted
        fixed = ProjectionRunner(store, [sales()])
        await fixed.catch_up()
        assert await rows(store) == [("chair", 1), ("lamp", 1), ("poison", 1)]
        (status,) = await fixed.status()
        assert (status.state, status.error) == ("live", None)
        await fixed.close()


async def test_a_runner_whose_projections_have_all_halted_ends(location: str) -> None:
    async with store_at(location) as store:
        await store.append("a", [Sold("poison", 1)])
        runner = ProjectionRunner(store, [sales(on_error=once(), fails=lambda event: True)])
        with pytest.raises(ProjectionError, match="position 1: ValueError: poison"):
            await runner.run()


async def test_retries_with_growing_pauses(location: str) -> None:
    left = [2]

    def fails(event: RecordedEvent[Any]) -> bool:
        if event.event.item == "poison" and left[0]:
            left[0] -= 1
            return True
        return False

    async with store_at(location) as store:
        await store.append("a", [Sold("lamp", 1), Sold("poison", 1), Sold("lamp", 1)])
        runner = ProjectionRunner(store, [sales(on_error=once(retries=2), fails=fails)])
        await runner.catch_up()
        assert left == [0]
        assert await rows(store) == [("lamp", 2), ("poison", 1)]
        await runner.close()


@pytest.mark.parametrize("page", [1, 7, 2_000])
async def test_skipping_leaves_out_one_event(
    location: str, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("everwhen.projections._async.log_following.PAGE_EVENTS", page)
    async with store_at(location) as store:
        for number in range(30):
            item = "poison" if number in (0, 7, 8, 29) else "lamp"
            await store.append(f"till-{number % 4}", [Sold(item, 1)])
        mine = pieces(on_error=once(then="skip"))
        projection = sales(
            on_error=once(then="skip"), fails=lambda event: event.event.item == "poison"
        )
        runner = ProjectionRunner(store, [projection, mine])
        await runner.catch_up()
        assert await rows(store) == [("lamp", 26)]
        assert len(await rows(store, "log")) == 26
        assert await runner.ask(mine, dict) == ({"lamp": 26}, 30)
        assert [(s.skipped, s.parked) for s in await runner.status()] == [(4, 0), (4, 0)]
        await runner.close()
        assert await store.snapshots("pieces") == []


async def test_parked_events_hold_back_their_stream_and_can_be_retried(location: str) -> None:
    broken = [True]

    def fails(event: RecordedEvent[Any]) -> bool:
        return broken[0] and event.event.item == "poison"

    async with store_at(location) as store:
        await store.append("a", [Sold("lamp", 1)])
        await store.append("a", [Sold("poison", 5), Returned("poison", 2), Sold("lamp", 1)])
        await store.append("b", [Sold("lamp", 10)])
        projection = sales(on_error=once(then="park"), fails=fails)
        runner = ProjectionRunner(store, [projection])
        await runner.catch_up()
        assert await rows(store) == [("lamp", 11)]
        parked = await runner.parked(projection)
        assert [(p.position, p.stream, p.type) for p in parked] == [
            (2, "a", "Sold"), (3, "a", "Returned"), (4, "a", "Sold"),
        ]  # fmt: skip
        assert [p.error for p in parked] == ["ValueError: poison", None, None]
        assert (await runner.status())[0].parked == 3
        assert await runner.retry_parked(projection) == 3
        assert await rows(store) == [("lamp", 11)]
        await runner.close()
        # another runner knows of them
        await store.append("a", [Sold("desk", 1)])
        await store.append("b", [Sold("desk", 1)])
        runner = ProjectionRunner(store, [projection])
        await runner.catch_up()
        assert await rows(store) == [("desk", 1), ("lamp", 11)]
        broken[0] = False
        assert await runner.retry_parked(projection) == 0
        assert await rows(store) == [("desk", 2), ("lamp", 12), ("poison", 3)]
        assert sorted(await rows(store, "log")) == [
            (n, "b" if n in (5, 7) else "a") for n in range(1, 8)
        ]
        await store.append("a", [Sold("desk", 1)])
        await runner.catch_up()
        assert await runner.parked(projection) == []
        assert await rows(store) == [("desk", 3), ("lamp", 12), ("poison", 3)]
        await runner.close()


async def test_parked_events_are_skipped_for_good(location: str) -> None:
    def fails(event: RecordedEvent[Any]) -> bool:
        return bool(event.event.item == "poison")

    async with store_at(location) as store:
        await store.append("a", [Sold("poison", 5), Sold("lamp", 1)])
        await store.append("b", [Sold("lamp", 10)])
        tables = sales(on_error=once(then="park"), fails=fails)
        memory = pieces(on_error=once(then="park"))
        runner = ProjectionRunner(store, [tables, memory])
        await runner.catch_up()
        for projection in (tables, memory):
            assert await runner.skip_parked(projection) == 2
            assert await runner.skip_parked(projection) == 0
            assert await runner.parked(projection) == []
        assert [(s.parked, s.skipped) for s in await runner.status()] == [(0, 2), (0, 2)]
        await store.append("a", [Sold("desk", 1)])
        await runner.catch_up()
        assert await rows(store) == [("desk", 1), ("lamp", 10)]
        assert await runner.ask(memory, dict) == ({"desk": 1, "lamp": 10}, 4)
        await runner.close()
        runner = ProjectionRunner(store, [tables])
        await runner.catch_up()
        assert await runner.retry_parked(tables) == 0
        assert await rows(store) == [("desk", 1), ("lamp", 10)]
        await runner.close()


async def test_what_an_inline_projection_has_parked_is_skipped(location: str) -> None:
    def fails(event: RecordedEvent[Any]) -> bool:
        return bool(event.event.item == "poison")

    async with store_at(location) as store:
        projection = sales(on_error=once(then="park"), fails=fails)
        async with ProjectionRunner(store, [], inline=[projection]) as runner:
            await runner.catch_up()
            await store.append("a", [Sold("poison", 5), Sold("lamp", 1)])
            assert await runner.skip_parked(projection) == 2
            await store.append("a", [Sold("lamp", 10)])
            assert await rows(store) == [("lamp", 10)]
            (status,) = await runner.status()
            assert (status.parked, status.skipped, status.lag) == (0, 2, 0)


async def test_parking_in_memory(location: str) -> None:
    async with store_at(location) as store:
        await store.append("a", [Sold("poison", 5), Sold("lamp", 1)])
        await store.append("b", [Sold("lamp", 10)])
        mine = pieces(on_error=once(then="park"))
        runner = ProjectionRunner(store, [mine])
        await runner.catch_up()
        assert await runner.ask(mine, dict) == ({"lamp": 10}, 3)
        assert [p.position for p in await runner.parked(mine)] == [1, 2]
        assert await runner.retry_parked(mine) == 2
        mine.fold._by_class[Sold] = lambda state, event: (
            state | {event.item: state.get(event.item, 0) + event.pieces}
        )
        assert await runner.retry_parked(mine) == 0
        assert await runner.ask(mine, dict) == ({"lamp": 11, "poison": 5}, 3)
        await runner.close()


async def test_only_one_runner_works_on_a_projection(location: str) -> None:
    async with store_at(location) as store, store_at(location) as same:
        one = TableFollower(store, sales(), lease=60)
        other = TableFollower(same, sales(), lease=60)
        assert await one.start()
        assert not await other.start()
        assert await one.start()
        await one.stop()
        assert await other.start()
        assert not await one.start()


async def test_a_lease_that_has_run_out_is_taken_over_and_the_late_one_writes_nothing(
    location: str,
) -> None:
    async with store_at(location) as store:
        await store.append("a", [Sold("lamp", 1)] * 3)
        dead = TableFollower(store, sales(), lease=0.0)
        heir = TableFollower(store, sales(factor=100), lease=60)
        assert await dead.start()
        assert await heir.start()
        page = await store.kernel.backend.read(Query(), 100)
        await dead.take(page)
        assert not dead.is_active
        await heir.take(page)
        await heir.stay(at_end=True)
        assert await rows(store) == [("lamp", 300)]
        await dead.stop()
        assert heir.is_active
        await heir.take(page)
        assert await rows(store) == [("lamp", 300)]


async def test_a_clock_set_back_keeps_no_dead_lease_alive(
    location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with store_at(location) as store, store_at(location) as elsewhere:
        await store.append("a", [Sold("lamp", 1)])
        with monkeypatch.context() as an_hour_ahead:
            later = now_micros() + 3_600_000_000
            an_hour_ahead.setattr("everwhen.projections._async.followers.now_micros", lambda: later)
            dead = TableFollower(store, sales(), lease=0.2)
            assert await dead.start()
        heir = ProjectionRunner(elsewhere, [sales()], lease=0.2)
        await heir.catch_up()  # would wait for an hour
        assert await rows(store) == [("lamp", 1)]
        await heir.close()


async def test_a_holder_whose_clock_is_set_back_goes_on_giving_signs_of_life(
    location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with store_at(location) as store:
        with monkeypatch.context() as an_hour_ahead:
            later = now_micros() + 3_600_000_000
            an_hour_ahead.setattr("everwhen.projections._async.followers.now_micros", lambda: later)
            holder = TableFollower(store, sales(), lease=0.01)
            assert await holder.start()
        first = holder._record.beat
        while holder._record.beat == first:
            await holder.stay(at_end=False)
            await sleep(0.001)
        assert holder.is_active
        assert holder._record.at < later


async def test_two_runners_fight_and_every_event_takes_effect_once(location: str) -> None:
    async with store_at(location) as store, store_at(location) as same:
        runners = [ProjectionRunner(s, [sales()], lease=0.002) for s in (store, same)]

        def work(runner: ProjectionRunner) -> Any:
            async def run() -> None:
                for _ in range(150):
                    async with runner._lock:
                        await runner._step()

            return run

        async def write() -> None:
            for number in range(100):
                await store.append(f"a-{number % 3}", [Sold("lamp", 1)] * 3)

        outcomes = await together(*map(work, runners), write)
        assert not any(isinstance(outcome, BaseException) for outcome in outcomes), outcomes
        for runner in runners:
            await runner.close()
        last = ProjectionRunner(store, [sales()])
        await last.catch_up()
        await last.close()
        assert await rows(store) == [("lamp", 300)]
        assert len(await rows(store, "log")) == 300


async def test_a_new_version_catches_up_beside_the_old_one(
    location: str, small_pages: None
) -> None:
    async with store_at(location) as store:
        await sell(store, 250)
        old = ProjectionRunner(store, [sales()])
        await old.catch_up()
        new = ProjectionRunner(store, [sales(version=2, factor=2)])
        async with new._lock:
            await new._step()
        states = {status.version: status.state for status in await new.status()}
        assert states == {1: "live", 2: "building"}
        assert await rows(store) == [("lamp", 250)]  # readers go on with the old one
        await store.append("a", [Sold("lamp", 1)])
        await old.catch_up()
        assert await rows(store) == [("lamp", 251)]
        await new.catch_up()
        assert await rows(store) == [("lamp", 502)]
        (status,) = await new.status()
        assert (status.version, status.state) == (2, "live")
        names = await store.kernel.backend.view(
            lambda view: view.dialect.objects(view, ("sales__1_1", "log__1_1"))
        )
        assert names == []
        # the old code finds that its time is over, and doesn't take it back
        await store.append("a", [Sold("lamp", 1)])
        async with old._lock:
            for _ in range(3):
                await old._step()
        await new.catch_up()
        assert await rows(store) == [("lamp", 504)]
        await old.close()
        await new.close()
        back = TableFollower(store, sales(), lease=5)
        assert not await back.start()


async def test_tables_that_a_new_version_lacks_disappear(location: str) -> None:
    async with store_at(location) as store:
        await store.append("a", [Sold("lamp", 1)])
        runner = ProjectionRunner(store, [sales()])
        await runner.catch_up()
        await runner.close()
        less = TableProjection("sales", "CREATE TABLE {sales} (total INTEGER)", version=2)
        less.on(Sold)(
            lambda tables, event: tables.execute(
                "INSERT INTO {sales} VALUES (?)", [event.event.pieces]
            )
        )
        runner = ProjectionRunner(store, [less])
        await runner.catch_up()
        await runner.close()
        assert await rows(store) == [(1,)]
        with pytest.raises(
            StatementError, match=r"no such table: log|relation \"log\" does not exist"
        ):
            await rows(store, "log")


async def test_a_rebuild_under_load_while_readers_read(location: str, small_pages: None) -> None:
    async with store_at(location) as store:
        await sell(store, 250)
        projection = sales()
        seen: list[int] = []
        done: list[bool] = []

        async def write() -> None:
            for _ in range(30):  # not for ever: it may be the faster one
                await store.append("a", [Sold("lamp", 1)] * 20)

        async def read() -> None:
            while not done:
                ((_, lamps),) = await rows(store)
                seen.append(lamps)

        async with ProjectionRunner(store, [projection]) as runner:
            await runner.catch_up()

            async def rebuild() -> list[tuple[int, int]]:
                heard: list[tuple[int, int]] = []
                try:
                    await runner.rebuild(projection, lambda at, head: heard.append((at, head)))
                finally:
                    done.append(True)
                return heard

            outcomes = await together(write, read, rebuild)
            assert not any(isinstance(outcome, BaseException) for outcome in outcomes), outcomes
            assert seen == sorted(seen)
            assert seen[0] >= 250
            await runner.catch_up()
            head = (await store.head()).position
            assert await rows(store) == [("lamp", head)]
            (status,) = await runner.status()
            assert (status.build, status.state, status.position) == (2, "live", head)


async def test_a_rebuild_before_the_first_build_is_live(location: str, small_pages: None) -> None:
    """The runner itself has that build's lease: it is brought to its end."""
    async with store_at(location) as store:
        await sell(store, 250)
        projection = sales()
        async with ProjectionRunner(store, [projection]) as runner:
            await runner.rebuild(projection)
            assert await rows(store) == [("lamp", 250)]


async def test_an_interrupted_rebuild_goes_on(location: str, small_pages: None) -> None:
    async with store_at(location) as store:
        await sell(store, 300)
        projection = sales()
        runner = ProjectionRunner(store, [projection])
        await runner.catch_up()

        class Interruption(Exception):  # noqa: N818
            pass

        def interrupt(at: int, head: int) -> None:
            if at >= 100:
                raise Interruption

        with pytest.raises(Interruption):
            await runner.rebuild(projection, interrupt)
        await runner.close()
        runner = ProjectionRunner(store, [projection])
        heard: list[int] = []
        await runner.rebuild(projection, lambda at, head: heard.append(at))
        assert heard[0] > 100
        assert await rows(store) == [("lamp", 300)]
        (status,) = await runner.status()
        assert status.build == 2
        await runner.close()


async def test_inline_rows_are_there_when_the_append_returns(location: str) -> None:
    async with store_at(location) as store:
        await store.append("a", [Sold("lamp", 2)])
        async with ProjectionRunner(store, [], inline=[sales()]) as runner:
            await runner.catch_up()
            assert runner._attached
            for number in range(50):
                await store.append("a", [Sold("lamp", 1)])
                assert await rows(store) == [("lamp", number + 3)]
            with pytest.raises(InlineError, match=r"(?i)position 52.*check"):
                await store.append("a", [Returned("lamp", 100)])
            assert await rows(store) == [("lamp", 52)]
            assert await store.version("a") == 51
            outcomes = await together(
                *[lambda n=n: store.append(f"b-{n}", [Returned("lamp", 10)]) for n in range(8)]
            )
            refused = [outcome for outcome in outcomes if isinstance(outcome, InlineError)]
            assert len(refused) == 3
            assert await rows(store) == [("lamp", 2)]
            with pytest.raises(ConflictError):
                await store.append("a", [Sold("lamp", 1)], expected=7)
            (status,) = await runner.status()
            assert (status.state, status.lag) == ("live", 0)
        await store.append("a", [Sold("lamp", 1)])  # nobody keeps it inline any more
        assert await rows(store) == [("lamp", 2)]
        async with ProjectionRunner(store, [], inline=[sales()]) as runner:
            await runner.catch_up()
        assert await rows(store) == [("lamp", 3)]


async def test_inline_needs_no_lease(location: str) -> None:
    async with store_at(location) as store, store_at(location) as elsewhere:
        await store.append("a", [Sold("lamp", 1)])
        other = ProjectionRunner(elsewhere, [sales()], lease=60)
        await other.catch_up()
        async with ProjectionRunner(store, [], inline=[sales()]) as runner:
            await runner.catch_up()
            await store.append("a", [Sold("lamp", 1)])
            assert await rows(store) == [("lamp", 2)]
            async with other._lock:
                await other._step()
            assert await rows(store) == [("lamp", 2)]
            with pytest.raises(LeaseError):
                await ProjectionRunner(elsewhere, [sales()]).retry_parked(sales())
        await other.close()


async def test_inline_takes_in_what_a_process_without_it_has_written(
    location: str, small_pages: None
) -> None:
    async with store_at(location) as store, store_at(location) as stranger:
        async with ProjectionRunner(store, [], inline=[sales()]) as runner:
            await runner.catch_up()
            assert runner._attached
            await sell(stranger, 250, pieces=5)
            assert await rows(store) == []
            await store.append("a", [Sold("lamp", 1)])
            assert await rows(store) == [("lamp", 1_251)]


@pytest.mark.parametrize("then", ["skip", "park"])
async def test_inline_leaves_out_what_it_is_told_to(location: str, then: Any) -> None:
    projection = sales(on_error=once(then=then), fails=lambda event: event.event.item == "poison")
    async with store_at(location) as store, store_at(location) as stranger:
        await store.append("a", [Sold("poison", 1), Sold("lamp", 1)])
        async with ProjectionRunner(store, [], inline=[projection]) as runner:
            await runner.catch_up()
            await stranger.append("b", [Sold("poison", 1), Sold("lamp", 1)])
            await store.append("a", [Sold("lamp", 1)])
            await store.append("c", [Sold("lamp", 1), Sold("poison", 5), Sold("lamp", 1)])
            (status,) = await runner.status()
            parked = [event.position for event in await parked_events(store, "sales")]
            if then == "skip":
                assert await rows(store) == [("lamp", 5)]
                assert (status.skipped, parked) == (3, [])
            else:
                assert await rows(store) == [("lamp", 1)]
                assert parked == [1, 2, 3, 4, 5, 7, 8]
            assert (status.position, status.lag) == (8, 0)


async def test_what_inline_has_parked_is_retried_while_others_append(location: str) -> None:
    broken = {"poison"}
    projection = sales(on_error=once(then="park"), fails=lambda event: event.event.item in broken)
    async with store_at(location) as store, store_at(location) as elsewhere:
        async with ProjectionRunner(store, [], inline=[projection]) as runner:
            await runner.catch_up()
            for number in range(10):
                await store.append(f"a-{number}", [Sold("poison", 1), Sold("lamp", 1)])
            assert await runner.retry_parked(projection) == 20
            broken.clear()
            appended = [0]

            async def retry() -> int:
                return await runner.retry_parked(projection)

            async def append() -> int:
                for _ in range(20):
                    await store.append("b", [Sold("lamp", 1)])
                    appended[0] += 1
                return 0

            assert await together(retry, append) == [0, 0]
            assert await rows(store) == [("lamp", 10 + appended[0]), ("poison", 10)]
            await elsewhere.append("a-1", [Sold("lamp", 1)])
            await runner.catch_up()
            assert await rows(store) == [("lamp", 11 + appended[0]), ("poison", 10)]
            broken.add("poison")
            await store.append("a-1", [Sold("poison", 1)])
            other = ProjectionRunner(elsewhere, [projection])
            await other.catch_up()
            with pytest.raises(LeaseError):
                await runner.retry_parked(projection)
            await other.close()
            assert await runner.retry_parked(projection) == 1
        assert await runner.retry_parked(projection) == 1


async def test_inline_goes_on_with_a_build_that_was_made_elsewhere(location: str) -> None:
    async with store_at(location) as store, store_at(location) as elsewhere:
        await store.append("a", [Sold("lamp", 1)])
        async with ProjectionRunner(store, [], inline=[sales()]) as runner:
            await runner.catch_up()
            other = ProjectionRunner(elsewhere, [sales()])
            await other.rebuild(sales())
            await other.close()
            await store.append("a", [Sold("lamp", 1)])
            assert await rows(store) == [("lamp", 2)]
            newer = ProjectionRunner(elsewhere, [sales(version=2, factor=2)])
            await newer.catch_up()
            await newer.close()
            await store.append("a", [Sold("lamp", 1)])
            assert await rows(store) == [("lamp", 4)]  # what is newer is not ours to keep
        with pytest.raises(LeaseError, match="newer version"):
            await ProjectionRunner(store, [sales()]).rebuild(sales())


async def test_a_switch_never_goes_back_in_time(location: str) -> None:
    async with store_at(location) as store:
        await store.append("a", [Sold("lamp", 1)])
        old = ProjectionRunner(store, [sales()])
        await old.catch_up()
        new = TableFollower(store, sales(), lease=5, fresh=True)
        assert await new.start()
        await new.take(await store.kernel.backend.read(Query(), 100))
        await store.append("a", [Sold("lamp", 1)])
        await old.catch_up()
        await new.stay(at_end=True)
        assert [s.state for s in await projection_statuses(store)] == ["live", "building"]
        assert await rows(store) == [("lamp", 2)]
        await new.take(await store.kernel.backend.read(Query().after(1), 100))
        await new.stay(at_end=True)
        assert [s.build for s in await projection_statuses(store)] == [2]
        assert await rows(store) == [("lamp", 2)]
        await old.close()
        await new.stop()


async def test_what_had_halted_is_tried_again(location: str) -> None:
    broken = [True]
    async with store_at(location) as store:
        await store.append("a", [Sold("lamp", 1)])
        runner = ProjectionRunner(store, [sales(on_error=once(), fails=lambda event: broken[0])])
        for _ in range(2):
            with pytest.raises(ProjectionError):
                await runner.catch_up()
        broken[0] = False
        await runner.catch_up()
        assert await rows(store) == [("lamp", 1)]
        await runner.close()


async def test_a_state_can_be_asked_after_its_runner_was_closed(location: str) -> None:
    async with store_at(location) as store:
        await store.append("a", [Sold("lamp", 1)])
        mine = pieces()
        runner = ProjectionRunner(store, [mine])
        await runner.catch_up()
        await runner.close()
        assert await runner.ask(mine, dict) == ({"lamp": 1}, 1)


async def test_a_fold_under_two_names(location: str) -> None:
    async with store_at(location) as store:
        fold = pieces().fold
        every = Projection(fold)
        some = Projection(fold, name="of till a", of=Query().stream("a"))
        await store.append("a", [Sold("lamp", 1)])
        await store.append("b", [Sold("lamp", 1)])
        runner = ProjectionRunner(store, [every, some])
        await runner.catch_up()
        assert await runner.ask(every, dict) == ({"lamp": 2}, 2)
        assert await runner.ask(some, dict) == ({"lamp": 1}, 2)
        await runner.close()


async def test_a_state_in_memory_starts_from_its_snapshot(location: str) -> None:
    async with store_at(location) as store:
        mine = pieces(strategy=EveryEvents(40))
        await store.append("a", [Sold("lamp", 1)] * 100)
        follower = StateFollower(store, mine)
        assert await follower.start()
        await follower.take(await store.kernel.backend.read(Query(), 60))
        assert [s.position for s in await store.snapshots("pieces")] == [100]
        again = StateFollower(store, mine)
        assert await again.start()
        assert again.position == 100
        assert (await again.ask(dict)) == ({"lamp": 100}, 100)
        assert (await Repository(store, mine.fold).load(Query())).since.events == 0
        newer = StateFollower(store, pieces(version=2))
        await newer.start()
        assert newer.position == 0


async def test_a_projection_says_when_it_is_snapshotted_and_how_many_are_kept(
    location: str,
) -> None:
    async with store_at(location) as store:
        mine = pieces(strategy=EveryEvents(3), retention=Retention(snapshots=2))
        runner = ProjectionRunner(store, [mine])
        for _ in range(10):
            await store.append("a", [Sold("lamp", 1)])
            await runner.catch_up()
        assert [s.position for s in await store.snapshots("pieces", limit=10)] == [9, 6]
        await runner.close()
        again = ProjectionRunner(store, [mine])
        await again.catch_up()
        assert await again.ask(mine, dict) == ({"lamp": 10}, 10)
        await again.close()


async def test_what_is_said_of_a_mutable_state_never_changes(location: str) -> None:
    async with store_at(location) as store:
        mine = pieces()
        await store.append("a", [Sold("lamp", 1)])
        runner = ProjectionRunner(store, [mine])
        with pytest.raises(StaleError):
            await runner.ask(mine, dict)
        await runner.catch_up()
        said, _ = await runner.ask(mine, lambda state: state)
        await store.append("a", [Sold("lamp", 1)])
        await runner.catch_up()
        assert said == {"lamp": 1}
        said["lamp"] = 99
        assert await runner.ask(mine, dict) == ({"lamp": 2}, 2)
        await runner.close()


async def test_declarations_that_make_no_sense(tmp_path: Path) -> None:
    for schema, reason in (
        (["CREATE TABLE sales (x)"], "no tables"),
        (["CREATE TABLE {slices} (x)"], "Everwhen uses itself"),
        (["CREATE TABLE {a__b} (x)"], "small letters"),
        (["CREATE TABLE {Sales} (x)"], "small letters"),
    ):
        with pytest.raises(DeclarationError, match=reason):
            TableProjection("sales", schema)
    with pytest.raises(DeclarationError, match="without @"):
        TableProjection("sales@2", SCHEMA)
    with pytest.raises(DeclarationError, match="they are 1"):
        TableProjection("sales", SCHEMA, version=0)
    with pytest.raises(DeclarationError, match="expected a Fold"):
        Projection("sales")  # type: ignore[arg-type]
    twice = sales()
    with pytest.raises(DeclarationError, match="two functions for Sold"):
        twice.on(Sold)(lambda tables, event: None)
    async with open_store("memory:", events=EVENTS) as store:
        with pytest.raises(DeclarationError, match="memory backend has no SQL"):
            ProjectionRunner(store, [sales()])
        with pytest.raises(DeclarationError, match="two projections 'pieces'"):
            ProjectionRunner(store, [pieces(), pieces()])
        with pytest.raises(DeclarationError, match="give a Projection"):
            ProjectionRunner(store, ["pieces"])  # type: ignore[list-item]
        with pytest.raises(UnsupportedError, match="inline"):
            await store.kernel.backend.attach(lambda transaction: None)
        runner = ProjectionRunner(store, [])
        with pytest.raises(DeclarationError, match="not among"):
            await runner.ask(pieces(), len)
        with pytest.raises(DeclarationError, match="not among"):
            await runner.parked(pieces())
        with pytest.raises(DeclarationError, match="not among"):
            await runner.rebuild(sales())


async def test_names_that_are_taken(location: str) -> None:
    async with store_at(location) as store:
        runner = ProjectionRunner(store, [sales()])
        await runner.catch_up()
        await runner.close()
        rival = TableProjection("rival", "CREATE TABLE {sales} (x INTEGER)")
        with pytest.raises(DeclarationError, match="belongs to projection 'sales'"):
            await ProjectionRunner(store, [rival]).catch_up()
        async with store.transaction() as transaction:
            await transaction.execute("CREATE TABLE till (x INTEGER)")
        clumsy = TableProjection("clumsy", "CREATE TABLE {till} (x INTEGER)")
        with pytest.raises(DeclarationError, match="'till' is a table of its own"):
            await ProjectionRunner(store, [clumsy]).catch_up()


@pytest.mark.parametrize("way", ["run", "catch_up"])
async def test_a_schema_that_can_not_be_run_ends_the_runner(
    location: str, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with store_at(location) as store:
        wrong = TableProjection("wrong", "CREATE TABLE {wrong} (a INTEGER, a INTEGER)")
        with pytest.raises(StatementError, match=r"duplicate column name|specified more than once"):
            await getattr(ProjectionRunner(store, [wrong]), way)()
        assert await store.checkpoints() == []
        assert ("following the log has ended" in caplog.text) == (way == "run")


async def test_a_store_that_is_read_only_ends_the_runner(location: str) -> None:
    async with store_at(location) as store:
        await store.append("a", [Sold("lamp", 1)])
    async with open_store(location, events=EVENTS, read_only=True) as store:
        with pytest.raises(ReadOnlyError):
            await ProjectionRunner(store, [sales()]).run()
        mine = pieces()
        runner = ProjectionRunner(store, [mine])
        await runner.catch_up()
        assert await runner.ask(mine, dict) == ({"lamp": 1}, 1)


async def test_a_damaged_record_is_named(location: str) -> None:
    async with store_at(location) as store:
        async with store.transaction() as transaction:
            await transaction.save_checkpoint(Checkpoint("projection/sales@1.1", 0, b"{"))
        with pytest.raises(Exception, match=r"projection/sales@1\.1.*is damaged"):
            await ProjectionRunner(store, [sales()]).catch_up()


async def test_many_pages_of_a_big_history_cost_flat_memory(tmp_path: Path) -> None:
    async with store_at(str(tmp_path / "shop.db")) as store:
        for _ in range(10):
            await store.append("a", [Sold("lamp", 1)] * 1_000)
        runner = ProjectionRunner(store, [sales(), pieces()])
        pages: list[int] = []
        await runner.catch_up(lambda at, goal: pages.append(at))
        assert len(pages) >= 5
        assert max(b - a for a, b in pairwise(pages)) <= 3_000
        await runner.close()


async def test_catching_up_takes_what_others_wrote_into_an_inline_projection(
    location: str,
) -> None:
    poison = sales(fails=lambda event: event.event.item == "poison")
    async with store_at(location) as store, store_at(location) as stranger:
        await store.append("a", [Sold("lamp", 1)])
        async with ProjectionRunner(store, [], inline=[poison]) as runner:
            await runner.catch_up()
            await stranger.append("b", [Sold("lamp", 5)])
            await runner.catch_up()
            assert await rows(store) == [("lamp", 6)]
            await stranger.append("b", [Sold("poison", 5)])
            with pytest.raises(InlineError, match="position 3"):
                await runner.catch_up()


async def test_two_stores_inline_know_of_each_others_parked_streams(location: str) -> None:
    def parking() -> TableProjection:
        return sales(on_error=once(then="park"), fails=lambda e: e.event.item == "poison")

    async with store_at(location) as store, store_at(location) as other:
        async with (
            ProjectionRunner(store, [], inline=[parking()]) as one,
            ProjectionRunner(other, [], inline=[parking()]) as two,
        ):
            await one.catch_up()
            await two.catch_up()
            await store.append("a", [Sold("poison", 1)])
            await other.append("a", [Sold("lamp", 1)])
            await store.append("a", [Sold("lamp", 1)])
            assert await rows(store) == []
            assert [parked.position for parked in await parked_events(store, "sales")] == [1, 2, 3]


async def test_a_version_older_than_what_readers_see_has_nothing_to_catch_up(
    location: str,
) -> None:
    async with store_at(location) as store:
        newer = ProjectionRunner(store, [sales(version=2)])
        await newer.catch_up()
        await newer.close()
        await store.append("a", [Sold("lamp", 1)])
        with pytest.raises(LeaseError, match="newer version"):
            await ProjectionRunner(store, [sales()]).catch_up()
        with pytest.raises(LeaseError, match="newer version"):
            await ProjectionRunner(store, [], inline=[sales()]).catch_up()


async def test_a_rebuild_that_ends_badly_can_be_begun_again(location: str) -> None:
    broken = [False]

    def progress(_: int, __: int) -> None:
        raise RuntimeError("enough")

    async with store_at(location) as store:
        await store.append("a", [Sold("lamp", 1)])
        mine = sales(on_error=once(), fails=lambda event: broken[0])
        runner = ProjectionRunner(store, [mine])
        await runner.catch_up()
        broken[0] = True
        with pytest.raises(ProjectionError):
            await runner.rebuild(mine)
        broken[0] = False
        for _ in range(2):
            await store.append("a", [Sold("lamp", 1)])
            with pytest.raises(RuntimeError):
                await runner.rebuild(mine, progress)
            await runner.rebuild(mine)
        assert await rows(store) == [("lamp", 3)]
        assert [status.state for status in await projection_statuses(store)] == ["live"]
        await runner.close()


@pytest.mark.parametrize("failure", [KeyboardInterrupt, SystemExit])
async def test_a_state_in_memory_survives_being_cut_off(
    location: str, failure: type[BaseException]
) -> None:
    once_only = [failure]
    fold: Fold[dict[str, int]] = Fold("pieces", dict, state=dict[str, int])

    @fold.on(Sold)
    def _(state: dict[str, int], event: Sold) -> dict[str, int]:
        if event.pieces == 4 and once_only:
            raise once_only.pop()
        state[event.item] = state.get(event.item, 0) + event.pieces
        return state

    async with store_at(location) as store:
        await store.append("a", [Sold("lamp", pieces) for pieces in range(1, 6)])
        mine = Projection(fold)
        runner = ProjectionRunner(store, [mine])
        with pytest.raises(failure):
            await runner.catch_up()
        await runner.catch_up()
        assert await runner.ask(mine, dict) == ({"lamp": 15}, 5)
        await runner.close()


class Won(Event):
    n: int


class Over(Event):
    n: int


def _split(data: dict[str, Any]) -> list[UnknownEvent]:
    if data["n"] == 13:
        raise ValueError(13)
    return [UnknownEvent("Won", data), UnknownEvent("Over", data)]


SPLIT = EventTypes(Won, Over, Sold, upcasts=[Upcast("GameOver", 1, _split, into=("Won", "Over"))])


def game(fails_at: int, then: Any, healed: list[bool]) -> tuple[Any, TableProjection, Any]:
    """Three projections of split events, one in memory, that fail on the second part of one."""
    fold: Fold[tuple[int, ...]] = Fold("memory", tuple, state=tuple[int, ...])

    def check(event: Any) -> None:
        if event.n == fails_at and isinstance(event, Over) and not healed:
            raise ValueError(event.n)

    @fold.on(Won)
    def _(state: tuple[int, ...], event: Won) -> tuple[int, ...]:
        return (*state, event.n)

    @fold.on(Over)
    def _(state: tuple[int, ...], event: Over) -> tuple[int, ...]:
        check(event)
        return (*state, event.n)

    def table(name: str) -> TableProjection:
        made = TableProjection(
            name, f"CREATE TABLE {{{name}}} (n INTEGER)", on_error=once(then=then)
        )

        @made.otherwise
        def _(tables: Tables, event: RecordedEvent[Any]) -> None:
            tables.execute(f"INSERT INTO {{{name}}} VALUES (?)", [event.event.n])
            check(event.event)

        return made

    return Projection(fold, on_error=once(then=then)), table("won"), table("beside")


async def column(store: Store, table: str) -> list[int]:
    return [value for (value,) in await rows(store, table)]


@pytest.mark.parametrize("then", ["skip", "park"])
@pytest.mark.parametrize("fails_at", [12, 13])
async def test_a_split_event_takes_effect_as_a_whole_or_not(
    location: str, then: Any, fails_at: int
) -> None:
    """13 fails in its upcast, 12 in the functions, at the second part."""
    healed: list[bool] = []
    memory, table, beside = game(fails_at, then, healed)
    due = [1, 1, 2, 2]
    async with open_store(location, events=SPLIT, durable=False) as store:
        async with ProjectionRunner(store, [], inline=[beside]) as inline:
            await inline.catch_up()
            for n in (1, fails_at, 2):
                await store.append(f"game-{n}", [UnknownEvent("GameOver", {"n": n})])
            assert await column(store, "beside") == due
        runner = ProjectionRunner(store, [table, memory])
        await runner.catch_up()
        assert await column(store, "won") == due
        assert await runner.ask(memory, list) == (due, 3)
        healed.append(True)
        left = 1 if then == "park" and fails_at == 13 else 0
        assert await runner.retry_parked(table) == left
        assert await runner.retry_parked(memory) == left
        if then == "park" and fails_at == 12:
            due = [1, 1, 12, 12, 2, 2]
        assert await column(store, "won") == sorted(due)
        assert (await runner.ask(memory, list))[0] == due
        await runner.close()


@pytest.mark.parametrize("fails_at", [12, 13])
async def test_a_split_event_that_fails_halts(location: str, fails_at: int) -> None:
    memory, table, beside = game(fails_at, "halt", [])
    poison = UnknownEvent("GameOver", {"n": fails_at})
    async with open_store(location, events=SPLIT, durable=False) as store:
        async with ProjectionRunner(store, [], inline=[beside]) as inline:
            await inline.catch_up()
            await store.append("game-1", [UnknownEvent("GameOver", {"n": 1})])
            with pytest.raises(InlineError):
                await store.append("game-2", [poison])
            assert await column(store, "beside") == [1, 1]
        await store.append("game-2", [poison])
        runner = ProjectionRunner(store, [table, memory])
        with pytest.raises(ProjectionError, match="position 2"):
            await runner.catch_up()
        assert await column(store, "won__1_1") == [1, 1]
        assert await runner.ask(memory, list) == ([1, 1], 1)
        await runner.close()


async def test_a_retry_applies_only_what_is_followed(location: str) -> None:
    healed: list[bool] = []
    won = Query().types("Won")
    table = TableProjection(
        "won", "CREATE TABLE {won} (type TEXT)", of=won, on_error=once(then="park")
    )

    @table.otherwise
    def _(tables: Tables, event: RecordedEvent[Any]) -> None:
        if not healed:
            raise ValueError(event.type)
        tables.execute("INSERT INTO {won} VALUES (?)", [event.type])

    async with open_store(location, events=SPLIT, durable=False) as store:
        await store.append("game", [UnknownEvent("GameOver", {"n": 1})])
        runner = ProjectionRunner(store, [table])
        await runner.catch_up()
        healed.append(True)
        assert await runner.retry_parked(table) == 0
        assert await rows(store, "won") == [("Won",)]
        await runner.close()


async def test_a_retry_behind_anothers_back_says_so(location: str) -> None:
    def parking() -> TableProjection:
        return sales(on_error=once(then="park"), fails=lambda e: e.event.item == "poison")

    mine = parking()
    async with store_at(location) as store, store_at(location) as other:
        await store.append("a", [Sold("poison", 1)])
        async with ProjectionRunner(other, [], inline=[parking()]) as inline:
            await inline.catch_up()
            runner = ProjectionRunner(store, [mine])
            await runner.catch_up()
            await other.append("b", [Sold("lamp", 1)])  # inline: the build moves on
            with pytest.raises(LeaseError):
                await runner.retry_parked(mine)
            await runner.close()


async def test_answers_are_the_askers_own(location: str) -> None:
    class View(msgspec.Struct, frozen=True):
        items: dict[str, int]

    async with store_at(location) as store:
        mine = pieces()
        await store.append("a", [Sold("lamp", 1)])
        runner = ProjectionRunner(store, [mine])
        await runner.catch_up()
        view, _ = await runner.ask(mine, View)
        await store.append("a", [Sold("lamp", 1)])
        await runner.catch_up()
        assert view == View({"lamp": 1})
        with pytest.raises(DeclarationError, match="can't be copied"):
            await runner.ask(mine, lambda state: state.keys())
        await runner.close()


async def test_functions_can_not_end_the_transaction_or_keep_the_tables(location: str) -> None:
    sql, kept = ["COMMIT"], []
    projection = TableProjection("t", "CREATE TABLE {t} (n INTEGER)", on_error=once(then="skip"))

    @projection.on(Sold)
    def _(tables: Tables, event: RecordedEvent[Sold]) -> None:
        kept.append(tables)
        tables.execute("INSERT INTO {t} VALUES (?)", [event.event.pieces])
        if event.event.item == "poison":
            tables.execute(sql[0])

    statements = ("COMMIT", "SELECT 1; COMMIT", "INSERT OR ROLLBACK INTO {t} VALUES (1)", "/**/end")
    async with store_at(location) as store:
        runner = ProjectionRunner(store, [projection])
        for place, statement in enumerate(statements):
            sql[0] = statement
            await store.append("a", [Sold("poison", 9), Sold("lamp", place)])
            await runner.catch_up()
        assert await rows(store, "t") == [(0,), (1,), (2,), (3,)]
        with pytest.raises(StatementError, match="is over"):
            kept[0].execute("INSERT INTO {t} VALUES (7)")
        await runner.close()


async def test_a_schema_with_views_and_key_words(location: str) -> None:
    def made(version: int) -> TableProjection:
        schema = [
            "CREATE TABLE {sales} (item TEXT)",
            "CREATE VIEW {order} AS SELECT item FROM {sales}",
        ]
        projection = TableProjection("sales", schema, version=version)

        @projection.on(Sold)
        def _(tables: Tables, event: RecordedEvent[Sold]) -> None:
            row = {"item": event.event.item, "pieces": event.event.pieces}
            tables.execute("INSERT INTO {sales} VALUES (:item)", row)

        return projection

    async with store_at(location) as store:
        await store.append("a", [Sold("lamp", 1)])
        for version in (1, 2, 3):
            runner = ProjectionRunner(store, [made(version)])
            await runner.catch_up()
            await runner.close()
            assert await rows(store, '"order"') == [("lamp",)]
        assert [s.version for s in await projection_statuses(store)] == [3]
        async with store.transaction() as transaction:
            await transaction.execute("CREATE VIEW mine AS SELECT 1")
        taken = TableProjection("other", "CREATE TABLE {mine} (x INTEGER)")
        with pytest.raises(DeclarationError, match="view of its own"):
            await ProjectionRunner(store, [taken]).catch_up()


async def test_leases_and_policies_out_of_bounds(location: str) -> None:
    async with store_at(location) as store:
        wrong: list[Any] = [0, -1, float("nan"), float("inf"), "5", True]
        for lease in wrong:
            with pytest.raises(DeclarationError, match="lease="):
                ProjectionRunner(store, [sales()], lease=lease)
    policies: list[dict[str, Any]] = [{"then": "stop"}, {"retries": -1}, {"pause": float("nan")}]
    for policy in policies:
        with pytest.raises(DeclarationError, match="OnError"):
            OnError(**policy)


def test_status_is_data() -> None:
    status = ProjectionStatus("a", 1, 1, "live", 5, 0, 1.5, 0, 0)
    assert msgspec.json.decode(msgspec.json.encode(status), type=ProjectionStatus) == status
    assert threading.active_count() < 50


def counting(*columns: str, by: int = 1, version: int = 1) -> TableProjection:
    schema = f"CREATE TABLE {{counts}} ({', '.join(['item TEXT PRIMARY KEY', *columns])})"
    projection = TableProjection("counts", [schema], version=version)
    if by == 1:

        @projection.on(Sold)
        def _(tables: Tables, event: RecordedEvent[Sold]) -> None:
            tables.execute("INSERT INTO {counts} (item, n) VALUES (?, 1)", (event.event.item,))

    else:

        @projection.on(Sold)
        def _(tables: Tables, event: RecordedEvent[Sold]) -> None:
            tables.execute("INSERT INTO {counts} (item, n) VALUES (?, 2)", (event.event.item,))

    return projection


async def test_a_changed_schema_under_the_same_version_is_refused_before_anything_is_written(
    location: str,
) -> None:
    async with store_at(location) as store:
        await store.append("till-1", [Sold("lamp", 2)])
        async with ProjectionRunner(store, [counting("n INT")]) as runner:
            await runner.catch_up()
        kept = await store.checkpoints()
        for columns in (("n INT", "more INT"), ("n TEXT",), ("n INT NOT NULL",), ("m INT",)):
            changed = ProjectionRunner(store, [counting(*columns)])
            with pytest.raises(DeclarationError, match="counts' in the file has the columns item"):
                await changed.catch_up()
            with pytest.raises(DeclarationError, match="version=2"):
                await changed.catch_up()
        assert await store.checkpoints() == kept
        assert await rows(store, "counts") == [("lamp", 1)]
        async with ProjectionRunner(store, [counting("n INT", "more INT", version=2)]) as runner:
            await runner.catch_up()
        assert await rows(store, "counts") == [("lamp", 1, None)]
        await store.kernel.backend.transact(
            lambda t: t.execute("ALTER TABLE counts__2_1 RENAME TO lost")
        )
        with pytest.raises(DeclarationError, match="isn't there"):
            await ProjectionRunner(store, [counting("n INT", "more INT", version=2)]).catch_up()


async def test_changed_functions_under_the_same_version_are_told(
    location: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with store_at(location) as store:

        async def run(projection: TableProjection) -> ProjectionStatus:
            caplog.clear()
            async with ProjectionRunner(store, [projection]) as runner:
                await runner.catch_up()
                (status,) = await runner.status()
            return status

        await store.append("till-1", [Sold("lamp", 2)])
        assert not (await run(counting("n INT"))).is_mixed
        assert not (await run(counting("n INT"))).is_mixed
        assert caplog.messages == []
        await store.append("till-1", [Sold("desk", 2)])
        assert (await run(counting("n INT", by=2))).is_mixed
        (message,) = caplog.messages
        assert message.startswith("projection counts version 1: its functions have changed")
        assert (await run(counting("n INT", by=2))).is_mixed, "its rows are still of two kinds"
        assert caplog.messages == []
        assert await rows(store, "counts") == [("desk", 2), ("lamp", 1)]
        runner = ProjectionRunner(store, [counting("n INT", by=2)])
        await runner.rebuild(counting_of(runner))
        (status,) = await runner.status()
        await runner.close()
        assert (status.build, status.is_mixed) == (2, False)
        assert await rows(store, "counts") == [("desk", 2), ("lamp", 2)]


def counting_of(runner: ProjectionRunner) -> TableProjection:
    follower = runner._followers["counts"]
    assert isinstance(follower, TableFollower)
    return follower.projection


async def test_a_record_of_before_there_were_fingerprints_and_one_of_another_python(
    location: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with store_at(location) as store:
        await store.append("till-1", [Sold("lamp", 2)])
        async with ProjectionRunner(store, [counting("n INT")]) as runner:
            await runner.catch_up()
        for code in ("", "cpython-27:0123"):
            known = await store.checkpoint("projection/counts@1.1")
            assert known is not None
            record = msgspec.json.decode(known.data)
            record["code"] = code
            async with store.transaction() as transaction:
                await transaction.save_checkpoint(
                    Checkpoint(known.name, known.position, msgspec.json.encode(record))
                )
            async with ProjectionRunner(store, [counting("n INT", by=2)]) as runner:
                await runner.catch_up()
                (status,) = await runner.status()
            assert not status.is_mixed
        assert caplog.messages == []
