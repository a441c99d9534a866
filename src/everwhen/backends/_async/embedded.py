"""A backend around an embedded engine."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar

from everwhen.backends._async.backend import Backend, CompactionListener, Transaction
from everwhen.backends._async.concurrency import (
    Appender,
    Calls,
    alone,
    aside,
    caller,
    sleep,
    telling,
    turn,
    wait_for_news,
)
from everwhen.backends.branch_server import BranchServer
from everwhen.backends.engine import (
    WATCHED_SECONDS,
    ChangedError,
    Engine,
    EngineTransaction,
    EngineView,
    Inline,
    JoiningEngine,
    NotFetchedError,
    Scratch,
)
from everwhen.backends.sql_connection import SqlConnection
from everwhen.system.file_backups import BackupListener, BackupReport, BackupTask
from everwhen.vocabulary.contract import (
    Capabilities,
    Checkpoint,
    Compaction,
    EncodedCommit,
    Head,
    Move,
    Outcome,
    Page,
    Problem,
    Segment,
    Snapshot,
    SnapshotInfo,
    StoredSlice,
    StreamInfo,
    TableSize,
)
from everwhen.vocabulary.errors import BusyError, StoreClosedError, UnsupportedError
from everwhen.vocabulary.query import Query
from everwhen.vocabulary.validation import check_checkpoint, check_snapshot

P = ParamSpec("P")
T = TypeVar("T")

_BETWEEN_TRIES: Final = 0.02  # seconds in which others get to write
_FETCHES: Final = 8
"""How often an append is begun anew with what it needs of an archive: fewer than are remembered."""


class EmbeddedBackend(Backend):
    """Speaks the store protocol for an engine in this process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._calls = Calls(engine)
        self._appender = Appender(engine)
        self._owner: object = None
        self._closed = False
        self._head_since: tuple[tuple[int, int], int] = (-1, -1), 0

    def __repr__(self) -> str:
        path = getattr(self._engine, "path", "memory:")
        title = getattr(self._engine, "title", str(path))
        return repr(title) + (", closed" if self._closed else "")

    @property
    def capabilities(self) -> Capabilities:
        return self._engine.capabilities

    @property
    def engine(self) -> Engine:
        """The engine below, which another backend in this process may use as well."""
        return self._engine

    @property
    def location(self) -> str:
        """What other processes open it by; empty where they can't. It may have a password."""
        return self._engine.location if self.capabilities.shared_by_processes else ""

    async def append(
        self, commits: Sequence[EncodedCommit], connection: object = None
    ) -> list[Outcome]:
        self._engine.check_open()
        if connection is not None:
            return await self._append_within(connection, commits)
        self._refuse_within_transaction("an append")
        for _ in range(_FETCHES):
            try:
                return await self._appender.append(commits)
            except NotFetchedError as missing:
                await aside(missing.fetch)
        async with turn(self._engine.lock), alone(self._engine.lock):
            return await self._calls.finish(self._engine.write, commits, waits=True)

    async def _append_within(
        self, connection: object, commits: Sequence[EncodedCommit]
    ) -> list[Outcome]:
        if not isinstance(self._engine, JoiningEngine):
            raise UnsupportedError(
                f"the {self.capabilities.name} backend joins no transaction of another connection; "
                f"PostgreSQL does. Write rows of your own inline (projections), or in "
                f"store.transaction()"
            )
        from everwhen.backends._async.caller_transaction import lent

        async with lent(connection) as own:
            return await self._calls.finish(self._engine.write_within, own, commits)

    async def read(self, query: Query, events: int) -> Page:
        return await self._fetching(self._engine.read, query, events)

    async def _fetching(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The call's result, once what it needs of an archive is here."""
        while True:
            try:
                return await self._calls.run(call, *args, **kwargs)
            except NotFetchedError as missing:
                await aside(missing.fetch)

    async def stored_commit(self, commit_id: bytes) -> list[StoredSlice]:
        return await self._fetching(self._engine.stored_commit, commit_id)

    async def head(self) -> Head:
        return await self._calls.run(self._engine.head)

    async def position_at(self, recorded_at: int) -> int:
        return await self._fetching(self._engine.position_at, recorded_at)

    async def stream(self, name: str) -> StreamInfo | None:
        return await self._calls.run(self._engine.stream, name)

    async def streams(self, category: str | None, after: str, limit: int) -> list[StreamInfo]:
        return await self._calls.run(self._engine.streams, category, after, limit)

    async def wait(self, after: int, seconds: float) -> bool:
        """In this process news comes at once; for other processes' commits the engine looks.

        All who wait share its looks, and what the head was found to be since the last news.
        """
        deadline = time.monotonic() + seconds
        news = self._engine.news
        checked: object = None
        while not self._closed:
            since = (news.count, self._engine.watch())
            if self._head_since[0] != since:
                self._head_since = since, (await self.head()).position
            if self._head_since[1] > after:
                return True
            if self._head_since[1] < after and checked != since:
                checked = since  # it may be of before what the caller has read: the engine looks
                await self._calls.run(self._engine.check_end, after)
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            await wait_for_news(news, since[0], min(left, WATCHED_SECONDS / 2))
        raise StoreClosedError

    async def checkpoint(self, name: str) -> Checkpoint | None:
        return await self._calls.run(self._engine.checkpoint, name)

    async def checkpoints(self) -> list[Checkpoint]:
        return await self._calls.run(self._engine.checkpoints)

    async def snapshots(self, subject: str, up_to: int | None, limit: int) -> list[Snapshot]:
        return await self._calls.run(self._engine.snapshots, subject, up_to, limit)

    async def snapshots_after(self, subject: str, position: int, limit: int) -> list[SnapshotInfo]:
        return await self._calls.run(self._engine.snapshots_after, subject, position, limit)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[EmbeddedTransaction]:
        self._refuse_within_transaction("another transaction")
        self._engine.check_open()
        async with turn(self._engine.lock), alone(self._engine.lock):
            inner = self._engine.transaction()
            try:
                self._owner = caller()
                try:
                    transaction = EmbeddedTransaction(
                        await self._calls.finish(inner.__enter__), self._calls
                    )
                    try:
                        yield transaction
                    finally:
                        transaction.is_over = True
                except BaseException as error:
                    await self._calls.finish(
                        inner.__exit__, type(error), error, error.__traceback__
                    )
                    raise
                await self._calls.finish(inner.__exit__, None, None, None)
            finally:
                self._owner = None

    async def transact(self, work: Callable[[EngineTransaction], T]) -> T:
        self._refuse_within_transaction("another transaction")
        self._engine.check_open()
        async with turn(self._engine.lock), alone(self._engine.lock):
            return await self._calls.finish(self._engine.transact, work)

    async def view(self, look: Callable[[EngineView], T]) -> T:
        def run() -> T:
            while True:
                try:
                    with self._engine.view() as view:
                        try:
                            return look(view)
                        except Exception as error:  # noqa: BLE001 (not the engine's to explain)
                            failure = error
                except ChangedError:
                    continue
                raise failure

        return await self._calls.run(run)

    async def attach(self, inline: Inline) -> None:
        capabilities = self._engine.capabilities
        if not capabilities.sql or not capabilities.inline:
            raise UnsupportedError(
                f"the {capabilities.name} backend runs nothing inline, since no transaction of its "
                f"has both events and tables; let a runner follow it instead"
            )
        self._engine.check_open()
        async with turn(self._engine.lock), alone(self._engine.lock):
            self._engine.inline = [*self._engine.inline, inline]

    async def detach(self, inline: Inline) -> None:
        self._engine.check_open()
        async with turn(self._engine.lock), alone(self._engine.lock):
            self._engine.inline = [other for other in self._engine.inline if other != inline]

    def _refuse_within_transaction(self, what: str) -> None:
        if self._owner is not None and self._owner == caller():
            raise UnsupportedError(
                f"{what} can't begin inside a transaction; do it before or after"
            )

    def read_here(self, query: Query, events: int) -> Page:
        while True:
            try:
                return self._engine.read(query, events)
            except NotFetchedError as missing:
                missing.fetch()

    async def has_log(self, log: str) -> bool:
        return self._engine.has_log(log)

    async def open_log(self, log: str, not_before: datetime | None) -> EmbeddedBackend:
        return EmbeddedBackend(self._engine.open_log(log, not_before))

    async def drop_log(self, log: str) -> None:
        await self._calls.finish(self._engine.drop_log, log)

    async def serve(self, ask: Callable[[BranchServer], T]) -> T:
        if not isinstance(self._engine, BranchServer):
            raise UnsupportedError("no server keeps the branches; they are logs beside this one")
        return await self._calls.finish(ask, self._engine)

    async def probe_purge(self) -> None:
        await self._alone(self._engine.probe_purge)

    def sql_connection(self) -> SqlConnection:
        return self._engine.sql_connection()

    def scratch(self) -> Scratch:
        return self._engine.scratch()

    async def backup(self, task: BackupTask, progress: BackupListener | None) -> BackupReport:
        return await telling(partial(self._engine.backup, task), progress)

    async def purge(self) -> None:
        await self._alone(self._engine.purge)
        await self._empty_journal("purging")

    async def compact(self, progress: CompactionListener | None) -> Compaction:
        work = self._engine.compaction()
        steps = work.steps()
        while True:
            step = await self._calls.run(next, steps, None)
            if step is None:
                break
            await self._step(step, "compacting")
            if work.is_journal_long:
                await self._empty_journal("compacting")
            if progress is not None:
                progress(*work.progress)
        await self._empty_journal("compacting")
        return await self._calls.run(work.report)

    async def _empty_journal(self, what: str) -> None:
        """Empty it, as soon as nobody reads what is in it."""
        deadline = time.monotonic() + self._engine.busy_timeout
        while True:
            try:
                await self._alone(self._engine.empty_journal, what)
            except BusyError:
                if time.monotonic() >= deadline:
                    raise
                await sleep(_BETWEEN_TRIES)
            else:
                return

    async def _step(self, step: Callable[[], None], what: str) -> None:
        """One of many steps; as much time as it takes is then left to writers elsewhere.

        Those of this process queue up. Another process looks again and again whether it can write:
        where the next step followed at once, it would look in vain for long.
        """
        began = time.monotonic()
        await self._alone(step, what)
        await sleep(min(time.monotonic() - began, _BETWEEN_TRIES))

    async def _alone(self, call: Callable[[], None], what: str = "purging") -> None:
        """Make the call while nobody in this process writes."""
        self._refuse_within_transaction(what)
        self._engine.check_open()
        async with turn(self._engine.lock), alone(self._engine.lock):
            await self._calls.finish(call)

    async def check(self) -> list[Problem]:
        return await self._calls.run(lambda: list(self._engine.check()))

    async def check_schema(self) -> None:
        await self._calls.run(self._engine.check_schema)

    async def find_hidden(self, after: int) -> list[Problem]:
        return await self._calls.run(lambda: list(self._engine.find_hidden(after)))

    async def table_sizes(self) -> list[TableSize]:
        return await self._calls.run(self._engine.table_sizes)

    async def segments(self) -> list[Segment]:
        return await self._calls.run(self._engine.segments)

    async def move(self, move: Move) -> Segment | None:
        moving = self._engine.moving(move)
        steps = moving.steps()
        while True:
            step = await aside(next, steps, None)  # which may upload for minutes
            if step is None:
                return moving.segment
            await self._step(step, "moving history")

    async def close(self) -> None:
        if not self._closed:
            self._refuse_within_transaction("closing the store")
            self._closed = True
            if not self._engine.is_foreign:
                await self._appender.close()
                await self._calls.run(self._engine.close)
            await self._calls.close()


class EmbeddedTransaction(Transaction):
    """The engine's transaction, called in this flavour, as long as it is open."""

    def __init__(self, transaction: EngineTransaction, calls: Calls) -> None:
        self._transaction = transaction
        self._calls = calls
        self.is_over = False

    async def execute(
        self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[tuple[Any, ...]]:
        return await self._calls.finish(self._open().execute, sql, parameters)

    async def checkpoint(self, name: str) -> Checkpoint | None:
        return await self._calls.finish(self._open().checkpoint, name)

    async def save_checkpoint(self, checkpoint: Checkpoint, *, local: bool = False) -> None:
        save = partial(self._open().save_checkpoint, check_checkpoint(checkpoint), local=local)
        await self._calls.finish(save)

    async def delete_checkpoint(self, name: str, *, local: bool = False) -> None:
        await self._calls.finish(partial(self._open().delete_checkpoint, name, local=local))

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        await self._calls.finish(self._open().save_snapshot, check_snapshot(snapshot))

    async def delete_snapshots(self, subject: str, positions: Sequence[int] | None = None) -> None:
        await self._calls.finish(self._open().delete_snapshots, subject, positions)

    def _open(self) -> EngineTransaction:
        if self.is_over:
            raise UnsupportedError("this transaction has ended; begin another one")
        return self._transaction
