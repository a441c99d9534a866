"""A follower that stands after the end of the log, which was restored to an earlier moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.places import restore, save_copy

from everwhen import (
    Decisions,
    Event,
    Fold,
    Projection,
    Query,
    RecordedEvent,
    TableProjection,
    Tables,
)
from everwhen.aio import CommandBus, ProjectionRunner, Store, open_store
from everwhen.errors import BeyondEndError, InlineError
from everwhen.projections import Queries
from everwhen.projections._async.memory_projections import StateFollower
from everwhen.projections.aio import QueryBus, projection_statuses
from everwhen.reactions import Reaction
from everwhen.reactions.aio import ReactionRunner
from everwhen.vocabulary import Checkpoint


class Sold(Event):
    pieces: int


class Pieces(msgspec.Struct, frozen=True):
    pass


total: Fold[int] = Fold("total", int)
total.on(Sold)(lambda state, event: state + event.pieces)


def sales(name: str = "sales") -> TableProjection:
    made = TableProjection(name, [f"CREATE TABLE {{{name}}} (pieces INTEGER)"])

    @made.on(Sold)
    def _(tables: Tables, event: RecordedEvent[Sold]) -> None:
        tables.execute(f"INSERT INTO {{{name}}} VALUES (?)", (event.event.pieces,))

    return made


def opened(location: str) -> Any:
    return open_store(location, events=[Sold])


async def put_beyond(store: Store, name: str, position: int) -> Checkpoint:
    """Have what follows under that name believe that it has read up to the position."""
    (known,) = [one for one in await store.checkpoints() if one.name.startswith(name)]
    moved = Checkpoint(known.name, position, known.data)
    async with store.transaction() as transaction:
        await transaction.save_checkpoint(moved, local=name.startswith("projection/"))
    return moved


@pytest.mark.parametrize("location", ["sqlite", "postgresql"], indirect=True)
async def test_a_position_from_before_a_restore_is_told(location: str, tmp_path: Path) -> None:
    async with opened(location) as store:
        await store.append("a", [Sold(1)] * 3)
        kept = save_copy(location, tmp_path / "copy.db")
        position = (await store.append("a", [Sold(2)] * 3)).position
    restore(kept, location)
    async with opened(location) as store:
        async with store.subscribe(Query().after(position)) as subscription:
            for _ in range(2):
                with pytest.raises(BeyondEndError, match="restored to an earlier moment") as told:
                    await anext(subscription)
                assert (told.value.position, told.value.end) == (6, 3)
                assert "test_a_position" in told.value.place or "schema=" in told.value.place
            assert subscription.position == 6
        assert [event async for event in store.read(Query().after(position))] == []
        async with store.subscribe(Query().after(told.value.end)) as subscription:
            await store.append("a", [Sold(3)])
            assert (await anext(subscription)).position == 4
        assert await store.check() == []


async def test_what_another_process_wrote_is_not_beyond_the_end(location: str) -> None:
    """Who waits remembers where the log ended; what was read since may be after that."""
    async with opened(location) as store, opened(location) as other:
        backend = store.kernel.backend
        for number in range(1, 20):
            assert await backend.wait(number - 1, 0) is False
            await other.append("a", [Sold(1)])
            page = await backend.read(Query().after(number - 1), 10)
            assert page.cursor == number
            await backend.wait(page.cursor, 0)  # whether there is news is a hint


async def test_what_follows_halts_and_the_others_go_on(location: str) -> None:
    async with opened(location) as store:
        await store.append("a", [Sold(1)] * 3)
        async with ProjectionRunner(store, [sales("far"), sales("near")]) as runner:
            await runner.catch_up()
        await put_beyond(store, "projection/far", 12)
        runner = ProjectionRunner(store, [sales("far"), sales("near"), sales("fresh")])
        with pytest.raises(BeyondEndError, match="position 12 is after the end of the log, 3"):
            await runner.catch_up()
        await store.append("a", [Sold(1)])
        with pytest.raises(BeyondEndError, match="position 12 is after the end of the log, 4"):
            await runner.catch_up()
        await runner.close()
        found = {one.name: (one.state, one.position, one.lag) for one in await runner.status()}
        assert found == {
            "far": ("beyond", 12, None),
            "near": ("live", 4, 0),
            "fresh": ("live", 4, 0),
        }
        (far,) = [one for one in await projection_statuses(store) if one.name == "far"]
        assert "rebuild" in (far.error or "")
        assert "beyond the end" in far._repr_html_()


async def test_a_rebuild_is_the_way_back(location: str) -> None:
    async with opened(location) as store:
        await store.append("a", [Sold(1)] * 3)
        async with ProjectionRunner(store, [sales()]) as runner:
            await runner.catch_up()
        await put_beyond(store, "projection/sales", 12)
        rows = sales()
        runner = ProjectionRunner(store, [rows])
        await runner.rebuild(rows)
        (status,) = await runner.status()
        assert (status.state, status.position, status.lag) == ("live", 3, 0)
        await store.append("a", [Sold(1)])
        await runner.catch_up()
        async with store.transaction() as transaction:
            assert await transaction.execute("SELECT count(*) FROM sales") == [(4,)]
        await runner.close()


async def test_an_inline_projection_misses_nothing(location: str) -> None:
    async with opened(location) as store:
        async with ProjectionRunner(store, [], inline=[sales()]) as runner:
            await runner.catch_up()
            await store.append("a", [Sold(1)] * 3)
            await put_beyond(store, "projection/sales", 12)
            with pytest.raises(InlineError, match="position 12 is after the end") as refused:
                await store.append("a", [Sold(1)])
            assert isinstance(refused.value.__cause__, BeyondEndError)
            assert (await store.head()).position == 3


async def test_a_reaction_says_so(location: str) -> None:
    async with opened(location) as store:
        await store.append("a", [Sold(1)] * 3)
        reactions = ReactionRunner(CommandBus(store, Decisions()), [Reaction("mails")])
        await reactions.catch_up()
        await reactions.close()
        await put_beyond(store, "reaction/mails", 12)
        reactions = ReactionRunner(CommandBus(store, Decisions()), [Reaction("mails")])
        with pytest.raises(BeyondEndError):
            await reactions.catch_up()
        await reactions.close()
        (status,) = await reactions.status()
        assert (status.state, status.lag) == ("beyond", None)


async def test_answers_from_beyond_the_end_are_refused(location: str) -> None:
    rows, state = sales(), Projection(total)
    queries = Queries()
    queries.on(Pieces, rows)(lambda _, tables: tables.execute("SELECT count(*) FROM {sales}"))
    async with opened(location) as store:
        await store.append("a", [Sold(1)] * 3)
        async with ProjectionRunner(store, [rows]) as runner:
            await runner.catch_up()
            assert (await QueryBus(store, queries).ask(Pieces())).data == [(3,)]
        await put_beyond(store, "projection/sales", 12)
        with pytest.raises(BeyondEndError):
            await QueryBus(store, queries).ask(Pieces())
        runner = ProjectionRunner(store, [state])
        await runner.catch_up()
        follower = runner._followers["total"]
        assert isinstance(follower, StateFollower)
        follower.position = 12  # as it would stand if the newest events were lost under it
        with pytest.raises(BeyondEndError):
            await runner.catch_up()
        with pytest.raises(BeyondEndError):
            await runner.ask(state, lambda pieces: pieces)
        (status,) = await runner.status()
        assert (status.state, status.position, status.lag) == ("beyond", 12, None)
        await runner.catch_up()
        assert await runner.ask(state, lambda pieces: pieces) == (3, 3)
        await runner.close()
