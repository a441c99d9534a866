"""Proven reads: what an attacker at the file changes, hides or adds is in no answer."""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.trust.attacks import MUTATIONS, Mutation, commits_in, sql

from everwhen import Commit, Event, Fold, NewEvent, Query, Store, Write, open_store
from everwhen.aio import open_store as open_async
from everwhen.errors import DeclarationError, UnprovenError
from everwhen.merkle import FaultKind, MemoryTiles, MerkleLog, TileFolder
from everwhen.merkle.aio import MerkleLog as AsyncMerkleLog
from everwhen.testing import ManualClock
from everwhen.vocabulary import CommitMetadata
from everwhen_verify.memory import Memory
from everwhen_verify.notes import Signer

SIGNER = Signer.generate("example.org/log")
COMMITS, SIGNED, LATER = 620, 600, 20
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


class Bet(Event):
    amount: int


class Won(Event):
    amount: int


counted = Fold("counted", lambda: 0)


@counted.on(Bet)
def _bets(state: int, _: Bet) -> int:
    return state + 1


@counted.on(Won)
def _wins(state: int, _: Won) -> int:
    return state + 1


def commit(number: int) -> Commit:
    dice = random.Random(number)
    writes = []
    for stream in dice.sample(["game-1", "game-2", "player-1", "lonely"], 1 + (number % 7 == 0)):
        kinds = [dice.choice([Bet, Won]) for _ in range(1 + number % 4)]
        events = [
            NewEvent(
                event=kind(number), tags=tuple(dice.sample(["a", "b", "c"], dice.randrange(3)))
            )
            for kind in kinds
        ]
        writes.append(Write(stream, events))
    return Commit(tuple(writes), metadata=CommitMetadata(user_id="u") if number % 3 else None)


def fill(path: Path) -> None:
    clock = ManualClock(BEGAN)
    with open_store(path, events=[Bet, Won], clock=clock) as store:
        for number in range(COMMITS):
            clock.advance(1)
            store.commit(commit(number))
            if number in {250, SIGNED - 1}:
                MerkleLog(store, TileFolder.beside(path), SIGNER).sign()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("proven") / "store.db"
    fill(path)
    return path


def proving(store: Store, path: Path, **given: Any) -> MerkleLog:
    return MerkleLog(store, TileFolder.beside(path), key=SIGNER.verifier, **given)


QUERIES = {
    "all": Query(),
    "a stream": Query().stream("game-1"),
    "two streams": Query().stream("game-1", "lonely"),
    "no such stream": Query().stream("game-3"),
    "a category": Query().category("game"),
    "a type": Query().types(Won),
    "a tag": Query().tags("a"),
    "two tags": Query().tags("a", "b"),
    "a type and a tag": Query().types(Bet).tags("b"),
    "all of it": Query().category("game", "player").types(Bet, Won).tags("c"),
    "either": Query().stream("player-1").types(Bet) | Query().tags("c"),
    "versions": Query().stream("game-1").from_version(30).to_version(61),
    "versions of many": Query().from_version(11).to_version(17),
    "after": Query().stream("game-2").after(333),
    "inside": Query().after(401).up_to(777),
    "as at": Query().tags("b").as_at(BEGAN + timedelta(seconds=317)),
    "before all": Query().as_at(BEGAN),
    "as of": Query().stream("game-1").as_of(BEGAN + timedelta(seconds=317)),
    "the first few": Query().tags("a").limit(17),
    "none": Query().limit(0),
}


def same(events: Any) -> list[tuple[Any, ...]]:
    return [
        (one.position, one.version, one.stream, one.type, one.tags, one.event) for one in events
    ]


@pytest.mark.slow
@pytest.mark.parametrize("backwards", [False, True], ids=["", "backwards"])
@pytest.mark.parametrize("query", QUERIES.values(), ids=list(QUERIES))
def test_a_proven_read_is_the_ordinary_one_up_to_the_checkpoint(
    original: Path, query: Query, backwards: bool
) -> None:
    with open_store(original, events=[Bet, Won], read_only=True) as store:
        log = proving(store, original)
        until, report = log.proven()
        assert report.size == SIGNED
        query = query.backwards() if backwards else query
        bound = until if query.last_position is None else min(until, query.last_position)
        proven = same(store.read(query, proven=log))
        assert proven == same(store.read(query.up_to(bound)))
        assert sum(map(len, store.read_pages(query, proven=log))) == len(proven)
        assert store.fold(counted, query, proven=log) == len(proven)


@pytest.fixture(params=["stream", "category", "type", "tag", "all"])
def query(request: pytest.FixtureRequest) -> Query:
    return {
        "stream": Query().stream("game-1"),
        "category": Query().category("game"),
        "type": Query().types(Bet),
        "tag": Query().tags("a"),
        "all": Query(),
    }[request.param]


@pytest.mark.slow
@pytest.mark.parametrize("mutate", [mutate for mutate, _ in MUTATIONS], ids=lambda x: x.__name__)
def test_what_was_changed_before_is_named(victim: Path, mutate: Mutation) -> None:
    with closing(sql(victim)) as connection:
        mutate(connection, commits_in(connection), 302)  # of one slice, as is the next
    with open_store(victim, read_only=True) as store:
        log = proving(store, victim)
        for _ in range(2):
            with pytest.raises(UnprovenError) as caught:
                list(store.read("game-1", proven=log))
            assert caught.value.fault == log.verify().fault


def execute(path: Path, statement: str, *values: Any) -> None:
    """As somebody at the file does, while it is open elsewhere."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=60)) as connection:
        assert connection.execute(statement, values).rowcount > 0


def index_of(path: Path) -> Any:
    with open_store(path, events=[Bet, Won], read_only=True) as store:
        log = proving(store, path)
        log.proven()
        return log._proven


BODY = "UPDATE slices SET body = CAST(replace(CAST(body AS TEXT), ?, ?) AS BLOB) WHERE position = ?"
AFTERWARDS: dict[str, tuple[FaultKind, Callable[[Path, int], None]]] = {
    "changed": (FaultKind.CHANGED, lambda path, at: execute(path, BODY, ",1,", ",2,", at)),
    "back-dated": (
        FaultKind.CHANGED,
        lambda path, at: execute(
            path, "UPDATE slices SET recorded_at = recorded_at - 1 WHERE position = ?", at
        ),
    ),
    "deleted": (
        FaultKind.REMOVED,
        lambda path, at: execute(path, "DELETE FROM slices WHERE position = ?", at),
    ),
}


@pytest.mark.slow
@pytest.mark.attack(
    "events are changed or deleted between verifying and reading",
    about="history",
    answer="a proven read compares each with what was verified",
    needs="a signed checkpoint over it",
)
@pytest.mark.parametrize("backwards", [False, True], ids=["", "backwards"])
@pytest.mark.parametrize("attack", AFTERWARDS, ids=list(AFTERWARDS))
def test_what_is_changed_afterwards_is_named(
    victim: Path, query: Query, attack: str, backwards: bool
) -> None:
    """The log was gone through once: what is read later is held against that."""
    kind, change = AFTERWARDS[attack]
    index = index_of(victim)
    with open_store(victim, read_only=True) as store:
        matching = [one._slice.position for one in store.read(query.up_to(index.position - 9))]
    at = random.Random(attack).choice(matching)
    change(victim, at)
    with open_store(victim, events=[Bet, Won], read_only=True) as store:
        log = proving(store, victim)
        log._proven = index  # SQLite's own library may not write to a file that is open here
        asked = query.backwards() if backwards else query
        with pytest.raises(UnprovenError) as caught:
            list(store.read(asked, proven=log))
        assert (caught.value.fault.kind, caught.value.fault.position) == (kind, at)


@pytest.mark.attack(
    "a query's answer leaves something out",
    about="history",
    answer="a proven read names what is missing",
    needs="a signed checkpoint over it",
)
@pytest.mark.parametrize("backwards", [False, True], ids=["", "backwards"])
def test_what_the_stores_tables_hide_is_named(victim: Path, backwards: bool) -> None:
    """The marks of a tag are deleted: nothing that is signed was changed, and yet it is gone."""
    index = index_of(victim)
    execute(
        victim,
        "DELETE FROM marks WHERE term IN (SELECT id FROM terms WHERE name = ?)",
        "b",
    )
    query = Query().tags("b").backwards() if backwards else Query().tags("b")
    with open_store(victim, events=[Bet, Won], read_only=True) as store:
        log = proving(store, victim)
        fault = log.verify().fault
        assert fault is not None
        assert fault.kind is FaultKind.HIDDEN, "what is signed was not touched"
        ordinary = list(store.read(query))
        log._proven = index
        assert list(store.read("game-1", proven=log))
        with pytest.raises(UnprovenError) as caught:
            list(store.read(query, proven=log))
        assert caught.value.fault.kind is FaultKind.HIDDEN
        assert not ordinary


def test_it_goes_on_with_the_log(victim: Path) -> None:
    with open_store(victim, events=[Bet, Won]) as store:
        log = proving(store, victim)
        first = log.proven()
        assert log.proven() == first
        signing = MerkleLog(store, TileFolder.beside(victim), SIGNER)
        for number in range(COMMITS, COMMITS + 300):
            store.commit(commit(number))
            if number % 97 == 0:
                signing.sign()
                until = log.proven().position
                assert until == store.head().position
                assert same(store.read("game-2", proven=log)) == same(store.read("game-2"))
        index = log._proven
        assert index is not None
        fresh = proving(store, victim)
        assert fresh.proven().position == index.position
        assert fresh._proven is not None
        assert fresh._proven._streams == index._streams
        assert fresh._proven._tags == index._tags
        assert len(fresh._proven) == len(index)


def test_nothing_signed_proves_nothing() -> None:
    with open_store("memory:", events=[Bet]) as store:
        tiles = MemoryTiles()
        log = MerkleLog(store, tiles, SIGNER)
        with pytest.raises(UnprovenError) as caught:
            list(store.read(proven=log))
        assert caught.value.fault.kind is FaultKind.NOT_SIGNED
        log.sign()
        assert list(store.read(proven=log)) == []
        assert log.proven().position == 0
        store.append("s", [Bet(1)])
        assert list(store.read(proven=log)) == [], "what isn't signed isn't given"
        log.sign()
        assert [event.event for event in store.read(proven=log)] == [Bet(1)]
        with open_store("memory:") as other, pytest.raises(DeclarationError, match="another store"):
            list(other.read(proven=log))
        with pytest.raises(DeclarationError, match="give the store's MerkleLog"):
            list(store.read(proven=tiles))  # type: ignore[arg-type]


async def test_a_log_of_the_other_flavour_is_of_another_store(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with open_store(path, events=[Bet]) as store:
        log = MerkleLog(store, MemoryTiles(), SIGNER)
        async with open_async(path, events=[Bet]) as other:
            with pytest.raises(DeclarationError, match="another store"):
                await other.fold(counted, proven=log)  # type: ignore[arg-type]


def test_a_branch(victim: Path) -> None:
    with open_store(victim, events=[Bet, Won]) as store:
        store.create_branch("what-if", at=505)
        with store.branch("what-if") as branch:
            branch.append("game-1", [Bet(1)])
            log = MerkleLog(branch, MemoryTiles(), Signer.generate("example.org/branch"))
            log.sign()
            for query in QUERIES.values():
                assert same(branch.read(query, proven=log)) == same(branch.read(query))


def test_proven_reads_are_remembered(victim: Path, tmp_path: Path) -> None:
    memory = Memory(tmp_path / "memory")
    with open_store(victim, events=[Bet, Won]) as store:
        log = proving(store, victim, memory=memory)
        shutil.copytree(f"{victim}-log", tmp_path / "old")
        MerkleLog(store, TileFolder.beside(victim), SIGNER).sign()
        assert log.proven().report.remembered is not None
        shutil.rmtree(f"{victim}-log")
        shutil.copytree(tmp_path / "old", f"{victim}-log")
        for again in (log, proving(store, victim, memory=memory)):
            with pytest.raises(UnprovenError) as caught:
                list(store.read("game-1", proven=again))
            assert caught.value.fault.kind is FaultKind.SET_BACK


def test_in_asyncio(original: Path) -> None:
    async def positions() -> tuple[int, list[int]]:
        async with await open_async(original, events=[Bet, Won], read_only=True) as store:
            log = AsyncMerkleLog(store, TileFolder.beside(original), key=SIGNER.verifier)
            asked = (store.read("game-2", proven=log), store.read(Query().tags("a"), proven=log))
            found = [[event.position async for event in events] for events in asked]
            return (await log.proven()).position, [*found[0], *found[1]]

    until, found = asyncio.run(positions())
    with open_store(original, events=[Bet, Won], read_only=True) as store:
        wanted = [
            event.position
            for query in (Query().stream("game-2"), Query().tags("a"))
            for event in store.read(query.up_to(until))
        ]
    assert found == wanted
