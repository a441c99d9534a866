"""A pair of servers: the primary dies, is left behind, or loses its standby."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from tests.faults.faults_ledger import Entry, entries
from tests.patience import PATIENCE_SECONDS
from tests.postgres_server import PostgresServer, postgres_server, url_of_all

from everwhen import Commit, Query, Store, UnknownEvent, Write, open_store
from everwhen.errors import ReadOnlyError, StorageError
from everwhen.vocabulary import Checkpoint

PROMOTIONS = int(os.environ.get("EVERWHEN_PROMOTIONS", "3"))
WRITERS = 3
ROOT = Path(__file__).parents[2]
CRASHING: dict[str, Any] = {"fsync": "on", "full_page_writes": "on"}
WAITING = "FROM pg_stat_activity WHERE application_name = 'everwhen' AND wait_event = 'SyncRep'"


def commit(number: int) -> Commit:
    return Commit([Write("a", entries(f"k{number}", 2))], id=UUID(int=number + 1))


@contextmanager
def pair() -> Iterator[tuple[PostgresServer, PostgresServer]]:
    """A primary, and a standby that its commits wait for."""
    with postgres_server(**CRASHING) as primary, postgres_server(primary, **CRASHING) as standby:
        primary.wait_for(standby)
        try:
            yield primary, standby
        finally:
            primary.kill()  # or it waits for its standby


# Promotions, one after the other, while several processes write


class Crowd:
    """Writers and a follower, in processes of their own."""

    def __init__(self, stack: ExitStack, url: str, folder: Path) -> None:
        self._folder = folder
        self.writers = [f"w{number}" for number in range(WRITERS)]
        self._processes = [
            self._started(stack, role, url, name)
            for role, name in [("follower", "f"), *(("writer", name) for name in self.writers)]
        ]

    def _started(self, stack: ExitStack, role: str, url: str, name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.faults.faults_failover", role, url, name]
        process = stack.enter_context(
            subprocess.Popen([*command, str(self._folder)], cwd=ROOT, stderr=subprocess.PIPE)
        )
        stack.callback(process.kill)
        return process

    def lines(self, name: str) -> list[list[str]]:
        path = self._folder / name
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def write_on(self, commits: int = 10) -> None:
        """Wait until each writer was acknowledged so many commits more."""
        wanted = {name: len(self.lines(name)) + commits for name in self.writers}
        until = time.monotonic() + PATIENCE_SECONDS
        while any(len(self.lines(name)) < count for name, count in wanted.items()):
            assert time.monotonic() < until
            assert not [one.communicate() for one in self._processes if one.poll() is not None]
            time.sleep(0.02)

    def stop(self) -> None:
        (self._folder / "stop").touch()
        for process in self._processes:
            said = process.communicate(timeout=PATIENCE_SECONDS)[1]  # what the pool logs
            assert (process.returncode, b"Traceback" in said) == (0, False), said


@pytest.fixture(scope="module")
def after_promotions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Crowd, Store]]:
    folder = tmp_path_factory.mktemp("crowd")
    with ExitStack() as stack:
        primary = stack.enter_context(postgres_server(**CRASHING))
        standby = stack.enter_context(postgres_server(primary, **CRASHING))
        url = url_of_all(primary, standby, schema="orders")
        store = stack.enter_context(open_store(url, events=[Entry]))
        crowd = Crowd(stack, url, folder)
        for turn in range(PROMOTIONS):
            primary.wait_for(standby)
            crowd.write_on()
            primary.kill()
            standby.promote()
            crowd.write_on()
            if turn < PROMOTIONS - 1:
                port, primary = primary.port, standby
                standby = stack.enter_context(postgres_server(primary, port=port, **CRASHING))
        crowd.stop()
        yield crowd, store


def test_what_was_acknowledged_is_there_once(after_promotions: tuple[Crowd, Store]) -> None:
    crowd, store = after_promotions
    assert store.check() == []
    ids: dict[UUID, int] = {}
    for event in store.read():
        ids[event.metadata.commit_id] = ids.get(event.metadata.commit_id, 0) + 1
    assert set(ids.values()) == {2}
    for name in crowd.writers:
        for key, commit_id, position, _ in crowd.lines(name):
            receipt = store.receipt(UUID(commit_id))
            assert receipt is not None, f"{key} is lost"
            assert receipt.position == int(position)
    found = [event.event.commit for event in store.read() if event.event.index == 0]
    assert len(found) == len(set(found))


def test_positions_have_no_holes_and_times_never_step_back(
    after_promotions: tuple[Crowd, Store],
) -> None:
    events = list(after_promotions[1].read())
    assert [event.position for event in events] == list(range(1, len(events) + 1))
    times = [event.recorded_at for event in events]
    assert times == sorted(times)


def test_a_follower_saw_nothing_change(after_promotions: tuple[Crowd, Store]) -> None:
    crowd, store = after_promotions
    log = [
        [str(event.position), str(event.metadata.commit_id), event.recorded_at.isoformat()]
        for event in store.read()
    ]
    seen = crowd.lines("f")
    assert seen == log[: len(seen)]
    assert len(seen) > WRITERS * 20 * PROMOTIONS


def test_outcomes_were_open_and_were_settled(after_promotions: tuple[Crowd, Store]) -> None:
    """Or the servers were killed while nobody wrote."""
    crowd = after_promotions[0]
    assert any(int(line[3]) for name in crowd.writers for line in crowd.lines(name))


# A standby that is gone


def test_an_append_whose_wait_for_the_standby_is_cancelled_is_open() -> None:
    """PostgreSQL tells such a commit as a success: it is on the primary, and on no standby."""
    with ThreadPoolExecutor() as pool, pair() as (primary, standby):
        url = primary.url("postgres", schema="orders")
        with open_store(url, events=[Entry]) as store, open_store(url, events=[Entry]) as other:
            store.commit(commit(1))
            standby.freeze()
            try:
                waiting = pool.submit(store.commit, commit(2))
                primary.until(f"SELECT count(*) {WAITING}")
                primary.execute(f"SELECT pg_cancel_backend(pid) {WAITING}")
                with pytest.raises(StorageError, match=r"the server warns .*canceling wait"):
                    waiting.result(PATIENCE_SECONDS)
                again = pool.submit(other.commit, commit(2))
                primary.until(f"SELECT count(*) {WAITING}")
                assert not again.done(), "it is repeated, but the standby doesn't have it"
            finally:
                standby.thaw()
            assert again.result(PATIENCE_SECONDS).repeated
        with open_store(standby.url("postgres", schema="orders"), events=[Entry]) as read:
            assert read.receipt(UUID(int=3)) is not None


def test_an_old_primary_that_comes_back_is_refused() -> None:
    """It was frozen, its standby was promoted, and nobody shut it down."""
    with ThreadPoolExecutor() as pool, pair() as (old, new):
        url = url_of_all(old, new, schema="orders")
        with open_store(url, events=[Entry]) as store, open_store(url, events=[Entry]) as other:
            store.commit(commit(1))
            old.freeze()
            hanging = pool.submit(store.commit, commit(2))
            new.promote()
            assert other.commit(commit(3)).position == 4
            new.execute("""
                SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity
                WHERE application_name = 'everwhen'
            """)
            old.thaw()
            with pytest.raises(StorageError, match=r"on timeline 00000001, .* on 00000002 already"):
                other.commit(commit(4))
            assert not hanging.done(), "its standby is gone"
            old.kill()
            with pytest.raises(StorageError, match="isn't known"):
                hanging.result(PATIENCE_SECONDS)
            assert store.commit(commit(2)).position == 6
            assert other.commit(commit(4)).position == 8
            assert [event.event.commit for event in other.read()][::2] == ["k1", "k3", "k2", "k4"]
            assert other.check() == []


# A standby that is read


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[PostgresServer, PostgresServer]]:
    with postgres_server() as primary, postgres_server(primary) as standby:
        yield primary, standby


def test_a_standby_is_read_and_followed(servers: tuple[PostgresServer, PostgresServer]) -> None:
    primary, standby = servers
    either = url_of_all(primary, standby, schema="read", target_session_attrs="standby")
    with ExitStack() as stack:
        url = primary.url("postgres", schema="read")
        store = stack.enter_context(open_store(url, events=[Entry]))
        primary.reach(standby)
        reading = stack.enter_context(open_store(either, events=[Entry], read_only=True))
        following = iter(reading.subscribe())
        for number in range(3):
            store.commit(commit(number))
            assert [next(following).event.commit for _ in range(2)] == [f"k{number}"] * 2
        assert reading.head() == store.head()
        assert [event.position for event in reading.read(Query().tags("commit:k1"))] == [3, 4]
        looked = reading.kernel.backend.view(
            lambda view: view.execute("SELECT pg_is_in_recovery(), count(*) FROM slices")
        )
        assert looked == [(True, 3)]
        assert reading.check() == []


def test_who_is_further_than_a_standby_waits_for_it(
    servers: tuple[PostgresServer, PostgresServer],
) -> None:
    """It may be behind the primary that the position was read from, and come to it yet."""
    primary, standby = servers
    with ExitStack() as stack:
        store = stack.enter_context(open_store(primary.url("postgres", schema="ahead")))
        store.append("a", [UnknownEvent("T", {})] * 2)
        branch = stack.enter_context(store.create_branch("b"))
        primary.reach(standby)
        url = standby.url("postgres", schema="ahead")
        reading = stack.enter_context(open_store(url, read_only=True))
        on_branch = stack.enter_context(reading.branch("b"))
        for one in (reading, on_branch):
            assert one.kernel.backend.wait(4, 0.6) is False
        pool = stack.enter_context(ThreadPoolExecutor())
        after = Query().after(4)
        waiting = [pool.submit(next, one.subscribe(after)) for one in (reading, on_branch)]
        for one in (store, branch):
            one.append("a", [UnknownEvent("T", {})] * 3)
        assert [one.result(PATIENCE_SECONDS).position for one in waiting] == [5, 5]


def test_a_standby_is_not_written_to(servers: tuple[PostgresServer, PostgresServer]) -> None:
    primary, standby = servers
    with open_store(primary.url("postgres", schema="kept"), events=[Entry]) as store:
        store.commit(commit(0))
    primary.reach(standby)
    with open_store(standby.url("postgres", schema="kept"), events=[Entry]) as store:
        for _ in range(2):
            with pytest.raises(ReadOnlyError, match="connect to the primary"):
                store.commit(commit(1))
            with pytest.raises(ReadOnlyError), store.transaction() as transaction:
                transaction.save_checkpoint(Checkpoint("c", 1))
        assert store.head().position == 2
    with pytest.raises(StorageError, match="read-only transaction"):
        open_store(standby.url("postgres", schema="nothing"))
