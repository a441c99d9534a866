"""History that moves while a page of it is read: at each message that the reader sends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest
from tests.cutting_proxy import CuttingProxy, cutting_proxy
from tests.faults.faults_ledger import Entry, entries
from tests.faults.faults_moving import moved
from tests.faults.faults_sealing import pages, seal_all
from tests.faults.test_postgres_cuts import through
from tests.postgres_server import PostgresServer

from everwhen import Query, open_store
from everwhen.backends.postgres.engine import PostgresEngine
from everwhen.system.object_storage import object_url
from everwhen.vocabulary.contract import (
    Archive,
    Evict,
    Restore,
    Retire,
    Seal,
    SegmentSize,
    StoredSlice,
)

SMALL = SegmentSize(slices=2, frame=1, frames=2)

Reading = Callable[[PostgresEngine, Query], list[StoredSlice]]


def by_pages(engine: PostgresEngine, query: Query) -> list[StoredSlice]:
    return pages(engine.read, query)


def in_a_transaction(engine: PostgresEngine, query: Query) -> list[StoredSlice]:
    """One that writes: each of its statements sees what was moved before it."""
    with engine.transaction() as transaction:
        return pages(transaction.read, query)


class Log:
    """A log, an engine that reads it through a proxy, and another that moves its history."""

    def __init__(self, url: str, proxied: str, proxy: CuttingProxy, archive: str) -> None:
        with open_store(url, events=[Entry]) as store:
            for number in range(90):
                store.append(f"stream-{number % 4}", entries(f"k{number}", 1))
        self.mover = PostgresEngine(url)
        self.reader = PostgresEngine(proxied)
        self.whole = pages(self.mover.read, Query())
        self.archive = archive
        self._proxy = proxy

    def close(self) -> None:
        self.reader.close()
        self.mover.close()

    def archive_first(self) -> None:
        """Move the oldest segment to the archive."""
        first = self.mover.segments()[0].last
        moved(self.mover, Archive(first, self.archive))
        moved(self.mover, Evict(first))

    def restore_first(self) -> None:
        """Bring it back."""
        moved(self.mover, Restore(self.mover.segments()[0].last))

    def seal_next(self) -> None:
        """Seal one segment more."""
        assert moved(self.mover, Seal(self.whole[-1].position, SMALL)) is not None

    def retire_next(self) -> None:
        """Retire one segment more."""
        last = next(one.last for one in self.mover.segments() if one.retired_at is None)
        moved(self.mover, Retire(last, recorded=self.whole[-1].position))

    @property
    def border(self) -> int:
        """Up to where history is sealed."""
        return max([segment.last for segment in self.mover.segments()], default=0)

    def read_while(
        self, reading: Reading, around: Callable[[], Query], move: Callable[[], None]
    ) -> Iterator[tuple[Query, list[StoredSlice]]]:
        """What is read where a move is made before the reader's first message, its second…"""
        for number in count(1):
            done: list[bool] = []

            def meanwhile(done: list[bool] = done) -> None:
                move()
                done.append(True)

            query = around()
            self.reader.check_schema()  # which forgets what it has read
            self._proxy.hold(number, meanwhile)
            found = reading(self.reader, query)
            if not self._proxy.let_be():
                assert number > 5
                return
            assert done
            yield query, found

    def between(self, query: Query, after: int = 0) -> list[StoredSlice]:
        """The slices of its positions."""
        low, high = max(after, query.after_position), query.last_position or 0
        return [one for one in self.whole if low < one.position <= high]


@pytest.fixture
def log(postgres: PostgresServer, tmp_path: Path) -> Iterator[Log]:
    with postgres.schema() as url, cutting_proxy(postgres.port) as proxy:
        archive = object_url(tmp_path / "archive")
        with closing(Log(url, through(proxy, postgres, url), proxy, archive)) as made:
            yield made


@pytest.mark.parametrize("reading", [by_pages, in_a_transaction])
def test_it_is_sealed_archived_and_restored(log: Log, reading: Reading) -> None:
    def around() -> Query:
        return Query().after(max(0, log.border - 2)).up_to(log.border + 4)

    for query, found in log.read_while(reading, around, log.seal_next):
        assert found == log.between(query)
    oldest = Query().up_to(4)
    for query, found in log.read_while(reading, lambda: oldest, log.archive_first):
        assert found == log.between(query)
        log.restore_first()
    log.archive_first()
    for query, found in log.read_while(reading, lambda: oldest, log.restore_first):
        assert found == log.between(query)
        log.archive_first()


@pytest.mark.parametrize("reading", [by_pages, in_a_transaction])
def test_it_is_retired(log: Log, reading: Reading) -> None:
    """Whoever skips what was retired finds all that is after it, as it was at one moment."""
    seal_all(log.mover, SMALL)
    ends = [0, *(segment.last for segment in log.mover.segments())]
    queries = iter([Query().skipping_retired().up_to(end + 4) for end in ends])
    for number, (query, found) in enumerate(
        log.read_while(reading, lambda: next(queries), log.retire_next)
    ):
        assert found in [log.between(query, end) for end in ends[number : number + 2]]
