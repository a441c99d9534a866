# Generated from tests/_async/test_beyond_end.py by tools/unasync.py: edit that, then run `make sync`.
"""A follower that stands after the end of the log, which was restored to an earlier moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.places import restore, save_copy

from everwhen import (
    CommandBus,
    Decisions,
    Event,
    Fold,
    Projection,
    ProjectionRunner,
    Query,
    RecordedEvent,
    Store,
    TableProjection,
    Tables,
    open_store,
)
from everwhen.errors import BeyondEndError, InlineError
from everwhen.projections import Queries, QueryBus, projection_statuses
from everwhen.projections._sync.memory_projections import StateFollower
from everwhen.reactions import Reaction, ReactionRunner
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


def put_beyond(store: Store, name: str, position: int) -> Checkpoint:
    """Have what follows under that name believe that it has read up to the position."""
    (known,) = [one for one in store.checkpoints() if one.name.startswith(name)]
    moved = Checkpoint(known.name, position, known.data)
    with store.transaction() as transaction:
        transaction.save_checkpoint(moved, local=name.startswith("projection/"))
    return moved


@pytest.mark.parametrize("location", ["sqlite", "postgresql"], indirect=True)
def test_a_position_from_before_a_restore_is_told(location: str, tmp_path: Path) -> None:
    with opened(location) as store:
        store.append("a", [Sold(1)] * 3)
        kept = save_copy(location, tmp_path / "copy.db")
        position = (store.append("a", [Sold(2)] * 3)).position
    restore(kept, location)
    with opened(location) as store:
        with store.subscribe(Query().after(position)) as subscription:
            for _ in range(2):
                with pytest.raises(BeyondEndError, match="restored to an earlier moment") as told:
                    next(subscription)
                assert (told.value.position, told.value.end) == (6, 3)
                assert "test_a_position" in told.value.place or "schema=" in told.value.place
            assert subscription.position == 6
        assert [event for event in store.read(Query().after(position))] == []
        with store.subscribe(Query().after(told.value.end)) as subscription:
            store.append("a", [Sold(3)])
            assert (next(subscription)).position == 4
        assert store.check() == []


def test_what_another_process_wrote_is_not_beyond_the_end(location: str) -> None:
    """Who waits remembers where the log ended; what was read since may be after that."""
    with opened(location) as store, opened(location) as other:
        backend = store.kernel.backend
        for number in range(1, 20):
            assert backend.wait(number - 1, 0) is False
            other.append("a", [Sold(1)])
            page = backend.read(Query().after(number - 1), 10)
            assert page.cursor == number
            backend.wait(page.cursor, 0)  # whether there is news is a hint


def test_what_follows_halts_and_the_others_go_on(location: str) -> None:
    with opened(location) as store:
        store.append("a", [Sold(1)] * 3)
        with ProjectionRunner(store, [sales("far"), sales("near")]) as runner:
            runner.catch_up()
        put_beyond(store, "projection/far", 12)
        runner = ProjectionRunner(store, [sales("far"), sales("near"), sales("fresh")])
        with pytest.raises(BeyondEndError, match="position 12 is after the end of the log, 3"):
            runner.catch_up()
        store.append("a", [Sold(1)])
        with pytest.raises(BeyondEndError, match="position 12 is after the end of the log, 4"):
            runner.catch_up()
        runner.close()
        found = {one.name: (one.state, one.position, one.lag) for one in runner.status()}
        assert found == {
            "far": ("beyond", 12, None),
            "near": ("live", 4, 0),
            "fresh": ("live", 4, 0),
        }
        (far,) = [one for one in projection_statuses(store) if one.name == "far"]
        assert "rebuild" in (far.error or "")
        assert "beyond the end" in far._repr_html_()


def test_a_rebuild_is_the_way_back(location: str) -> None:
    with opened(location) as store:
        store.append("a", [Sold(1)] * 3)
        with ProjectionRunner(store, [sales()]) as runner:
            runner.catch_up()
        put_beyond(store, "projection/sales", 12)
        rows = sales()
        runner = ProjectionRunner(store, [rows])
        runner.rebuild(rows)
        (status,) = runner.status()
        assert (status.state, status.position, status.lag) == ("live", 3, 0)
        store.append("a", [Sold(1)])
        runner.catch_up()
        with store.transaction() as transaction:
            assert transaction.execute("SELECT count(*) FROM sales") == [(4,)]
        runner.close()


def test_an_inline_projection_misses_nothing(location: str) -> None:
    with opened(location) as store:
        with ProjectionRunner(store, [], inline=[sales()]) as runner:
            runner.catch_up()
            store.append("a", [Sold(1)] * 3)
            put_beyond(store, "projection/sales", 12)
            with pytest.raises(InlineError, match="position 12 is after the end") as refused:
                store.append("a", [Sold(1)])
            assert isinstance(refused.value.__cause__, BeyondEndError)
            assert (store.head()).position == 3


def test_a_reaction_says_so(location: str) -> None:
    with opened(location) as store:
        store.append("a", [Sold(1)] * 3)
        reactions = ReactionRunner(CommandBus(store, Decisions()), [Reaction("mails")])
        reactions.catch_up()
        reactions.close()
        put_beyond(store, "reaction/mails", 12)
        reactions = ReactionRunner(CommandBus(store, Decisions()), [Reaction("mails")])
        with pytest.raises(BeyondEndError):
            reactions.catch_up()
        reactions.close()
        (status,) = reactions.status()
        assert (status.state, status.lag) == ("beyond", None)


def test_answers_from_beyond_the_end_are_refused(location: str) -> None:
    rows, state = sales(), Projection(total)
    queries = Queries()
    queries.on(Pieces, rows)(lambda _, tables: tables.execute("SELECT count(*) FROM {sales}"))
    with opened(location) as store:
        store.append("a", [Sold(1)] * 3)
        with ProjectionRunner(store, [rows]) as runner:
            runner.catch_up()
            assert (QueryBus(store, queries).ask(Pieces())).data == [(3,)]
        put_beyond(store, "projection/sales", 12)
        with pytest.raises(BeyondEndError):
            QueryBus(store, queries).ask(Pieces())
        runner = ProjectionRunner(store, [state])
        runner.catch_up()
        follower = runner._followers["total"]
        assert isinstance(follower, StateFollower)
        follower.position = 12  # as it would stand if the newest events were lost under it
        with pytest.raises(BeyondEndError):
            runner.catch_up()
        with pytest.raises(BeyondEndError):
            runner.ask(state, lambda pieces: pieces)
        (status,) = runner.status()
        assert (status.state, status.position, status.lag) == ("beyond", 12, None)
        runner.catch_up()
        assert runner.ask(state, lambda pieces: pieces) == (3, 3)
        runner.close()
