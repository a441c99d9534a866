"""PostgreSQL's network, disk and neighbours fail: nothing is written in part, and nothing twice."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from uuid import UUID

import pytest
from tests.cutting_proxy import CuttingProxy, Receiver, cutting_proxy
from tests.faults.faults_ledger import Entry, entries
from tests.patience import PATIENCE_SECONDS
from tests.postgres_server import PostgresServer, give_to_server
from tests.small_disks import fill, small_disk

from everwhen import NO_STREAM, Commit, Condition, Query, Store, Write, open_store
from everwhen.backends.engine import EngineTransaction
from everwhen.backends.postgres.engine import PostgresEngine
from everwhen.errors import BusyError, StorageError, StorageFullError
from everwhen.vocabulary import Checkpoint
from everwhen.vocabulary.contract import EncodedCommit, EncodedSlice, Receipt

RECEIVERS: tuple[Receiver, ...] = ("server", "client")


@pytest.fixture
def url(postgres: PostgresServer) -> Iterator[str]:
    with postgres.schema() as found:
        yield found


@pytest.fixture
def proxy(postgres: PostgresServer) -> Iterator[CuttingProxy]:
    with cutting_proxy(postgres.port) as found:
        yield found


def through(proxy: CuttingProxy, postgres: PostgresServer, url: str) -> str:
    return url.replace(f":{postgres.port}/", f":{proxy.port}/") + (
        "&sslmode=disable&gssencmode=disable"
    )


def commit(number: int) -> Commit:
    """Over two streams, one of them new, with all that an append may be asked to look at."""
    key = f"k{number}"
    condition = Condition(Query().tags(f"commit:{key}"), 0)
    writes = [
        Write(f"new-{number}", entries(key, 2)[:1], NO_STREAM),
        Write("shared-1", entries(key, 2)[1:]),
    ]
    return Commit(writes, condition=condition, id=UUID(int=number + 1))


def every_cut(proxy: CuttingProxy, call: Callable[[int], object]) -> Iterator[int]:
    """Make the call with each message lost that it leads to, then again; the numbers of calls."""
    numbers = count()
    for receiver in RECEIVERS:
        for message in count(1):
            number = next(numbers)
            proxy.cut(receiver, message)
            try:
                call(number)
            except StorageError:
                assert proxy.let_be()
                call(number)
            yield number
            if not proxy.let_be():  # it has fewer messages
                break
        assert message > 2


def test_a_commit_is_written_once_wherever_the_connection_is_cut(
    postgres: PostgresServer, proxy: CuttingProxy, url: str
) -> None:
    with open_store(through(proxy, postgres, url), events=[Entry]) as store:
        store.append("first", entries("first", 1))
        numbers = list(every_cut(proxy, lambda number: store.commit(commit(number))))
        assert [event.event.commit for event in store.read()][1:] == [
            f"k{number}" for number in numbers for _ in range(2)
        ]
        assert store.check() == []


def test_an_append_with_a_read_model_is_whole_wherever_the_connection_is_cut(
    postgres: PostgresServer, proxy: CuttingProxy, url: str
) -> None:
    """What an inline projection keeps is there with the events, once."""

    def tally(transaction: EngineTransaction) -> None:
        found = transaction.checkpoint("tally")
        transaction.save_checkpoint(Checkpoint("tally", 1 + (found.position if found else 0)))

    engine = PostgresEngine(through(proxy, postgres, url))
    written: set[int] = set()

    def write(number: int) -> None:
        body = b'[["Entry",1,{"commit":"k"}]]'
        part = EncodedSlice(f"a-{number}", 1, body, ("Entry",), ())
        is_fresh = number not in written
        written.add(number)
        (receipt,) = engine.write(
            [EncodedCommit(UUID(int=number + 1).bytes, (part,), (), is_fresh=is_fresh)]
        )
        assert isinstance(receipt, Receipt)
        assert receipt.position == number + 1

    write(0)
    engine.inline = [tally]
    numbers = list(every_cut(proxy, lambda number: write(number + 1)))
    assert engine.head().position == len(numbers) + 1
    found = engine.checkpoint("tally")
    assert found is not None
    # a repeat runs the projection too, with nothing new in the log
    assert len(numbers) <= found.position <= 2 * len(numbers)
    engine.close()


def test_a_transaction_is_whole_wherever_the_connection_is_cut(
    postgres: PostgresServer, proxy: CuttingProxy, url: str
) -> None:
    with open_store(through(proxy, postgres, url)) as store:
        with store.transaction() as transaction:
            transaction.execute("CREATE TABLE rows (n int PRIMARY KEY)")

        def step(number: int) -> None:
            with store.transaction() as transaction:
                done = transaction.checkpoint("rows")
                if done is None or done.position < number + 1:
                    transaction.execute("INSERT INTO rows VALUES (?)", (number,))
                    transaction.save_checkpoint(Checkpoint("rows", number + 1))

        numbers = list(every_cut(proxy, step))
        with store.transaction() as transaction:
            assert transaction.execute("SELECT n FROM rows ORDER BY n") == [(n,) for n in numbers]


def test_reads_say_that_the_connection_was_cut_or_answer_all(
    postgres: PostgresServer, proxy: CuttingProxy, url: str
) -> None:
    with open_store(through(proxy, postgres, url), events=[Entry]) as store:
        for number in range(3):
            store.commit(commit(number))

        def read(number: int) -> None:
            assert len(list(store.read())) == 6

        assert list(every_cut(proxy, read))


def test_opening_is_whole_wherever_the_connection_is_cut(
    postgres: PostgresServer, proxy: CuttingProxy, url: str
) -> None:
    """Also where the schema is made, by which it is either there or not."""

    def make(number: int) -> None:
        open_store(through(proxy, postgres, f"{url}_{number}")).close()

    for number in every_cut(proxy, make):
        with open_store(f"{url}_{number}", events=[Entry]) as store:
            store.append("a", entries("k", 1))
            assert store.check() == []


# Neighbours, and disks


def test_who_stalls_with_the_lock_loses_it(url: str) -> None:
    """A neighbour that doesn't wait so long is told, one that does gets its turn."""
    stalling = PostgresEngine(url)
    stalled, lost = threading.Event(), threading.Event()

    def stall(transaction: EngineTransaction) -> None:
        stalled.set()
        lost.wait(PATIENCE_SECONDS)

    stalling.inline = [stall]
    part = EncodedSlice("a", 1, b'[["Entry",1,{"commit":"k"}]]', ("Entry",), ())
    with (
        ThreadPoolExecutor() as pool,
        open_store(url, events=[Entry]) as patient,
        open_store(url, events=[Entry], busy_timeout=0.1) as hasty,
    ):
        writing = pool.submit(stalling.write, [EncodedCommit(UUID(int=1).bytes, (part,), ())])
        try:
            assert stalled.wait(PATIENCE_SECONDS)
            with pytest.raises(BusyError, match="nothing was written"):
                hasty.append("b", entries("hasty", 1))
            assert _in_the_end(patient, entries("patient", 1)) == 1
        finally:
            lost.set()
        with pytest.raises(StorageError, match="isn't known"):
            writing.result(PATIENCE_SECONDS)
        assert [event.event.commit for event in patient.read()] == ["patient"]
    stalling.close()


def _in_the_end(store: Store, events: list[Entry]) -> int:
    """The position, however often others are in the way: the machine may be busy."""
    while True:
        try:
            return store.append("b", events).position
        except BusyError:
            continue


def large(key: str) -> list[Entry]:
    """Events that can't be compressed."""
    return [
        Entry(commit=key, index=index, total=3, padding=secrets.token_hex(1_500))
        for index in range(3)
    ]


def test_a_full_disk_takes_nothing_in_part(
    postgres: PostgresServer, url: str, open_path: Path
) -> None:
    """The log goes on once there is room."""
    with small_disk(open_path, megabytes=16) as disk:
        (disk / "log").mkdir()
        give_to_server(disk / "log")
        postgres.execute(f"CREATE TABLESPACE small LOCATION '{disk / 'log'}'")
        store = open_store(f"{url}&options=-c%20default_tablespace%3Dsmall", events=[Entry])
        with store:
            store.append("a", entries("first", 3))
            fill(disk / "filled", leaving=64 << 10)
            kept, refused = ["first"], list[str]()
            for number in count():
                key = f"k{number}"
                try:
                    store.append("a", large(key))
                except StorageFullError:
                    refused.append(key)
                    if len(refused) == 3:
                        break
                else:
                    kept.append(key)
            assert [event.event.commit for event in store.read()][::3] == kept
            assert store.check() == []
            (disk / "filled").unlink()
            for key in refused:
                store.append("a", large(key))
            assert [event.event.commit for event in store.read()][::3] == [*kept, *refused]
            assert store.check() == []
        postgres.execute(f"DROP SCHEMA {url.rpartition('=')[2]} CASCADE")
        postgres.execute("DROP TABLESPACE small")
