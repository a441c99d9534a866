"""What a file costs beside its writers: those who wait for news, and readers who don't end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.faults.faults_ledger import Entry, entries
from tests.patience import PATIENCE_SECONDS

from everwhen import aio, open_store
from everwhen.backends.engine import WATCHED_SECONDS
from everwhen.backends.sqlite import file_watch
from everwhen.backends.sqlite.engine import SqliteEngine
from everwhen.backends.sqlite.schema import MAX_LOG_BYTES


def _until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def _watchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "everwhen-watch"]


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each look at a file."""
    found: list[int] = []
    real = file_watch._version_of

    def counted(connection: object) -> int:
        found.append(0)
        return real(connection)  # type: ignore[arg-type]

    monkeypatch.setattr(file_watch, "_version_of", counted)
    return found


def test_subscribers_share_the_looks_at_the_file(
    tmp_path: Path, looks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "store.db"
    heads: list[int] = []
    real = SqliteEngine.head

    def head(engine: SqliteEngine) -> object:
        heads.append(0)
        return real(engine)

    monkeypatch.setattr(SqliteEngine, "head", head)
    with open_store(path, events=[Entry]) as store, open_store(path, events=[Entry]) as elsewhere:
        following = [store.subscribe() for _ in range(30)]
        delivered: list[int] = []

        def follow(number: int) -> None:
            delivered.extend(event.position for event in following[number])

        threads = [threading.Thread(target=follow, args=(n,)) for n in range(30)]
        for thread in threads:
            thread.start()
        _until(lambda: len(_watchers()) == 1, "somebody watches")
        first = len(looks)
        _until(lambda: len(looks) >= first + 40, "it goes on watching")
        idle = len(heads)
        _until(lambda: len(looks) >= first + 80, "and so it does")
        assert len(heads) == idle, "without news, nobody else looks at the file"
        for number in range(1, 6):
            elsewhere.append("a-1", entries(f"k{number}", 1))
            _until(lambda n=number: delivered.count(n) == 30, "all hear of it")  # type: ignore[misc]
        assert len(_watchers()) == 1
        store.append("a-1", entries("own", 1))
        _until(lambda: delivered.count(6) == 30, "and of what this process writes")
        for one in following:
            one.close()
        for thread in threads:
            thread.join(PATIENCE_SECONDS)
    assert not _watchers()
    assert sorted(delivered) == sorted([*range(1, 7)] * 30)


def test_tasks_share_the_looks_at_the_file(tmp_path: Path, looks: list[int]) -> None:
    path = tmp_path / "store.db"

    async def main() -> None:
        async with (
            aio.open_store(path, events=[Entry]) as store,
            aio.open_store(path, events=[Entry]) as elsewhere,
        ):
            delivered: list[int] = []

            async def follow() -> None:
                async for event in store.subscribe():
                    delivered.append(event.position)  # noqa: PERF401 (as it comes)

            tasks = [asyncio.create_task(follow()) for _ in range(30)]
            for number in range(1, 6):
                await elsewhere.append("a-1", entries(f"k{number}", 1))
                async with asyncio.timeout(PATIENCE_SECONDS):
                    while delivered.count(number) < 30:  # noqa: ASYNC110 (what is read may wait)
                        await asyncio.sleep(0.005)
                assert len(_watchers()) == 1
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())
    assert looks
    assert not _watchers()


def test_nobody_watches_for_nobody(tmp_path: Path) -> None:
    with open_store(tmp_path / "store.db", events=[Entry]) as store:
        began = time.monotonic()
        assert store.kernel.backend.wait(0, 0.01) is False
        _until(lambda: not _watchers(), "it ends by itself")
        assert time.monotonic() - began > WATCHED_SECONDS / 2
        with open_store(tmp_path / "store.db", events=[Entry]) as elsewhere:
            waiting = threading.Thread(target=store.kernel.backend.wait, args=(0, PATIENCE_SECONDS))
            waiting.start()
            elsewhere.append("a-1", entries("k", 1))
            waiting.join(PATIENCE_SECONDS / 2)
            assert not waiting.is_alive(), "and begins again"


def test_a_closed_store_leaves_no_log(tmp_path: Path, looks: list[int]) -> None:
    with open_store(tmp_path / "store.db", events=[Entry]) as store:
        store.append("a-1", entries("k", 1))
        store.kernel.backend.wait(1, 0.01)
        _until(lambda: bool(looks), "somebody watched")
    assert [file.name for file in tmp_path.iterdir()] == ["store.db"]


def test_the_log_shrinks_after_a_reader_that_held_it_up(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    log = path.with_name("store.db-wal")
    with open_store(path, durable=False, events=[Entry]) as store:
        store.append("a-1", entries("first", 1))
        reader = SqliteEngine(path, read_only=True)
        with reader.view() as view:
            view.execute("SELECT count(*) FROM slices")
            number = 0
            while log.stat().st_size < 2 * MAX_LOG_BYTES:
                number += 1
                store.append(f"b-{number}", entries(f"b{number}", 100, 8_000))
        for number in range(3):
            store.append("c-1", entries(f"c{number}", 1))
        assert log.stat().st_size <= MAX_LOG_BYTES
        reader.close()
