"""Pages of PostgreSQL: what they hold, where they end, and how large they get."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator

import psycopg
import pytest
from msgspec.structs import replace
from tests.patience import PATIENCE_SECONDS
from tests.postgres_server import PostgresServer

from everwhen import Commit, Event, Query, Store, Write, open_store
from everwhen.errors import CorruptStoreError
from everwhen.vocabulary.contract import Page, StoredSlice
from everwhen.vocabulary.paging import next_page
from everwhen.vocabulary.query import Share

LARGE = 600_000


class Moved(Event):
    tag_fields = ("crate", "shelf")

    crate: int
    shelf: int
    note: str = ""


@pytest.fixture
def store(postgres: PostgresServer) -> Iterator[Store]:
    with postgres.schema() as url, open_store(url, events=[Moved]) as opened:
        yield opened


def filled(store: Store) -> list[StoredSlice]:
    """A history of slices with one to five events, in four streams."""
    rng = random.Random(3)
    for number in range(60):
        events = [Moved(number % 3, number % 15)] * rng.randint(1, 5)
        store.commit(Commit([Write(f"crate-{number % 4}", events)]))
    return list(store.kernel.backend.read(Query(), 1_000).slices)


HALF = Share("stream", 0, 2)
WAYS: dict[str, tuple[Query, Callable[[StoredSlice], bool]]] = {
    "all": (Query(), lambda _: True),
    "a share": (Query(share=HALF), lambda one: HALF.has(one.stream)),
    "a stream": (Query().stream("crate-2"), lambda one: one.stream == "crate-2"),
    "streams": (Query().stream("crate-1", "crate-3"), lambda one: one.stream[-1] in "13"),
    "a tag": (Query().tags("crate:1"), lambda one: b'"crate:1"' in one.body),
    "the rarer of two tags": (
        Query().tags("crate:1", "shelf:2"),
        lambda one: b'"shelf:2"' in one.body,
    ),
    "a type": (Query().types(Moved), lambda _: True),
    "a stream or a tag": (
        Query().stream("crate-0") | Query().tags("shelf:3"),
        lambda one: one.stream == "crate-0" or b'"shelf:3"' in one.body,
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_pages_go_on_where_the_last_one_ended(store: Store, way: str) -> None:
    history = filled(store)
    head = history[-1].position
    query, is_meant = WAYS[way]
    for after, last in ((0, None), (0, head), (7, head - 9), (history[9].position, 70), (90, 90)):
        bound = head if last is None else last
        inside = [one for one in history if after < one.position < bound + one.count]
        meant = [one for one in inside if is_meant(one)] if after < bound else []
        for events in (1, 3, 17, 1_000):
            for reverse in (False, True):
                asked = replace(query, after_position=after, last_position=last, reverse=reverse)
                pages = list(walked(store, asked, events))
                found = [one for page in pages for one in page.slices]
                assert found == (meant[::-1] if reverse else meant)
                # the last page isn't empty, unless all are: a page knows that it is the last one
                assert all(page.slices for page in pages) or pages == [Page([], after, end=True)]
                assert all(sum(o.count for o in page.slices) < events + 5 for page in pages)


def walked(store: Store, asked: Query, events: int) -> Iterator[Page]:
    while True:
        page = store.kernel.backend.read(asked, events)
        yield page
        if page.end:
            return
        asked = next_page(asked, page)


def test_the_last_page_tells_how_far_the_log_was_read(store: Store) -> None:
    head = filled(store)[-1].position
    for query, _ in WAYS.values():
        assert store.kernel.backend.read(query, 1_000).cursor == head
        assert store.kernel.backend.read(query.after(head), 1_000).cursor == head
    nowhere = Query().stream("nowhere") | Query().tags("no:tag")
    assert store.kernel.backend.read(nowhere, 10) == Page([], head, end=True)


@pytest.mark.parametrize("backwards", [False, True])
def test_a_page_of_large_events_is_a_short_one(store: Store, backwards: bool) -> None:
    for number in range(6):
        store.append("crate-0", [Moved(1, number, "x" * LARGE)])
    stream, other = Query().stream("crate-0"), Query().stream("crate-0", "crate-1")
    for query in (Query(), Query().types(Moved), Query().tags("crate:1"), stream, other):
        asked = query.backwards() if backwards else query
        lengths = [len(page.slices) for page in walked(store, asked, 1_000)]
        assert lengths in ([2, 2, 2], [2, 2, 2, 0])


def test_a_log_that_was_made_again_has_its_own_names(postgres: PostgresServer) -> None:
    with postgres.schema() as url, open_store(url, events=[Moved]) as reader:
        reader.append("old", [Moved(1, 1)])
        assert [one.stream for one in reader.read()] == ["old"]
        with psycopg.connect(postgres.url("postgres"), autocommit=True) as session:
            session.execute(f"DROP SCHEMA {url.rpartition('=')[2]} CASCADE")
        with open_store(url, events=[Moved]) as again:
            again.append("new", [Moved(1, 1)])
        assert [one.stream for one in reader.read()] == ["new"]


def test_a_stream_without_a_name_is_told(postgres: PostgresServer) -> None:
    with postgres.schema() as url, open_store(url, events=[Moved]) as store:
        store.append("crate-0", [Moved(1, 1)])
        with psycopg.connect(postgres.url("postgres"), autocommit=True) as session:
            session.execute(f"DELETE FROM {url.rpartition('=')[2]}.streams")
        with pytest.raises(CorruptStoreError, match="stream 1 has no name"):
            list(store.read())


def test_reads_go_on_when_the_server_has_ended_every_session(postgres: PostgresServer) -> None:
    with postgres.schema() as url, open_store(url, events=[Moved]) as store:
        store.append("crate-0", [Moved(1, 1)])
        together = threading.Barrier(4)

        def read() -> None:
            store.kernel.backend.view(lambda _: together.wait(PATIENCE_SECONDS))

        readers = [threading.Thread(target=read) for _ in range(4)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(PATIENCE_SECONDS)
        with psycopg.connect(postgres.url("postgres"), autocommit=True) as session:
            session.execute(
                "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND application_name = 'everwhen'"
            )
        assert len(list(store.read())) == 1


def test_names_are_asked_for_again_after_every_connection(postgres: PostgresServer) -> None:
    """A standby that took over without the newest commits can give a stream's id once more."""
    with postgres.schema() as url, open_store(url, events=[Moved]) as store:
        store.append("crate-1", [Moved(1, 1)])
        assert [event.stream for event in store.read()] == ["crate-1"]
        with store.transaction() as transaction:
            transaction.execute("UPDATE streams SET name = 'crate-2'")
        with psycopg.connect(postgres.url("postgres"), autocommit=True) as session:
            session.execute(
                "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity "
                "WHERE application_name = 'everwhen'"
            )
        assert [event.stream for event in store.read()] == ["crate-2"]
