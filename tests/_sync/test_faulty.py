# Generated from tests/_async/test_faulty.py by tools/unasync.py: edit that, then run `make sync`.
"""Stores that fail on demand, and what those on top of them make of it."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from everwhen import (
    CommandBus,
    Decisions,
    Event,
    Fold,
    ProjectionRunner,
    RecordedEvent,
    StateOf,
    StorageError,
    TableProjection,
    Tables,
    open_store,
)
from everwhen.backends._sync.concurrency import sleep
from everwhen.testing import Faults, faulty


class Counted(Event):
    number: int


class Count(Event):
    """A command, this time: any frozen struct will do."""

    stream: str


count = Fold("count", int)
count.on(Counted)(lambda state, event: state + 1)
decisions = Decisions()


@decisions.on(Count, StateOf(count, lambda command: command.stream))
def _count(command: Count, state: int) -> list[Event]:
    return [Counted(state + 1)]


def test_each_kind_of_failure() -> None:
    faults = Faults()
    with faulty(open_store("memory:", events=[Counted]), faults) as store:
        store.append("a", [Counted(1)])
        faults.fail("append")
        with pytest.raises(StorageError, match="on demand"):
            store.append("a", [Counted(2)])
        assert store.version("a") == 1
        faults.fail("acknowledge", error=TimeoutError())
        with pytest.raises(TimeoutError):
            store.append("a", [Counted(2)])
        assert store.version("a") == 2
        faults.fail("read", 2, after=1)
        assert store.fold(count) == 2
        for _ in range(2):
            with pytest.raises(StorageError):
                store.fold(count)
        assert store.fold(count) == 2
        assert faults.struck == 4
        faults.fail("append")
        faults.heal()
        store.append("a", [Counted(3)])
    with pytest.raises(ValueError, match="one of append, acknowledge"):
        faults.fail("everything")  # type: ignore[arg-type]


@pytest.mark.parametrize("what", ["append", "acknowledge"])
def test_a_command_that_is_sent_again_takes_effect_once(what: str) -> None:
    faults = Faults()
    with faulty(open_store("memory:", events=[Counted]), faults) as store:
        bus = CommandBus(store, decisions)
        for number in range(1, 6):
            faults.fail(what, 2)  # type: ignore[arg-type]
            command, tries = uuid4(), 0
            while True:
                tries += 1
                try:
                    result = bus.send(Count("a"), command_id=command)
                except StorageError:
                    continue
                break
            assert result.events == (Counted(number),)
            assert store.version("a") == number
            assert tries == (3 if what == "append" else 2)
            faults.heal()


@pytest.mark.slow
def test_a_runner_outlives_failures(tmp_path: Path) -> None:
    faults = Faults()
    rows = TableProjection("rows", "CREATE TABLE {rows} (position INTEGER PRIMARY KEY)")

    @rows.on(Counted)
    def row(tables: Tables, event: RecordedEvent[Counted]) -> None:
        tables.execute("INSERT INTO {rows} VALUES (?)", (event.position,))

    inner = open_store(tmp_path / "s.db", events=[Counted], durable=False)
    with faulty(inner, faults) as store:
        faults.fail("transact", 3, after=2)
        faults.fail("read", 4, after=1)
        faults.fail("transact", 1)
        with ProjectionRunner(store, [rows], lease=1) as runner:
            for number in range(50):
                store.append("a", [Counted(number)])
            for _ in range(3_000):
                now = [(status.state, status.position) for status in runner.status()]
                if now == [("live", 50)] and faults.struck == 8:
                    break
                sleep(0.02)
            found = store.kernel.backend.view(lambda view: view.execute("SELECT * FROM rows"))
            assert found == [(position,) for position in range(1, 51)]
            assert faults.struck == 8
