"""Sessions with the server: one that writes, and a few that read. Safe from any thread."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import psycopg
from psycopg import IsolationLevel
from psycopg.pq import ConnStatus, TransactionStatus
from psycopg_pool import ConnectionPool

from everwhen.backends.postgres import binary_arrays
from everwhen.backends.postgres.address import Address
from everwhen.backends.postgres.error_translation import translated, words_of
from everwhen.backends.postgres.statements import PostgresSession, quoted, statements
from everwhen.backends.postgres.stored_rows import KnownStreams
from everwhen.vocabulary.errors import StorageError, StoreClosedError

P = ParamSpec("P")
T = TypeVar("T")

_OPTIONS: Final[dict[str, Any]] = {"autocommit": True, "application_name": "everwhen"}
_PATIENCE: Final = {"connect_timeout": "10", "tcp_user_timeout": "30000"}
"""Seconds and milliseconds: what the URL says goes before it."""
_NOT_DURABLE: Final = {("off",), ("local",)}
_READERS: Final = 16
"""How many read at once; more wait for their turn."""
_LEAST_TURN_SECONDS: Final = 10.0
"""How long one waits for a turn at least: to connect takes time, though nobody is in the way."""


def _identity(session: PostgresSession, schema: str) -> tuple[object, ...]:
    sql = statements("reading", schema)["identity_and_settings"]
    ((*identity, _, _, _, _),) = session.execute(sql).fetchall()
    return tuple(identity)


def _is_ended(session: PostgresSession) -> bool:
    """Whether the server has ended an idle session: reads what it said, without waiting."""
    try:
        for _ in range(2):  # its last words, then its silence
            session.pgconn.consume_input()
            session.pgconn.is_busy()
    except psycopg.OperationalError:
        return True
    return session.pgconn.status != ConnStatus.OK


class Sessions:
    """Those of one engine. A child that was forked has none: they are its parent's."""

    def __init__(
        self, address: Address, *, read_only: bool, durable: bool, busy_timeout: float
    ) -> None:
        self.address = address
        self.place = address.place
        self.is_closed = False
        self.streams = KnownStreams()
        self._read_only = read_only
        self._durable = durable
        self._busy_timeout = busy_timeout
        self._process = os.getpid()
        self._conninfo = address.with_defaults(_PATIENCE)
        self._readers: ConnectionPool[PostgresSession] = ConnectionPool(
            self._conninfo,
            kwargs=_OPTIONS,
            min_size=0,
            max_size=_READERS,
            timeout=max(busy_timeout, _LEAST_TURN_SECONDS),
            configure=self._configure_to_read,
            num_workers=1,
            name="everwhen",
            open=True,
        )
        self._writer: PostgresSession | None = None
        self._warnings: list[str] = []
        self._timeline = ""
        self._identity: tuple[object, ...] | None = None

    @property
    def is_foreign(self) -> bool:
        """Whether another process opened it, of which this one is a fork."""
        return os.getpid() != self._process

    def check_open(self) -> None:
        """Raises `StoreClosedError`, or `StorageError` in a fork."""
        if self.is_foreign:
            raise StorageError(
                f"{self.place}: it was opened by process {self._process}; a session with the "
                f"server doesn't survive a fork, open the store again in the child"
            )
        if self.is_closed:
            raise StoreClosedError

    def opened(self) -> PostgresSession:
        """A session of its own, to be closed by whoever asked for it."""
        try:
            session: PostgresSession = psycopg.connect(self._conninfo, **_OPTIONS)
        except psycopg.OperationalError as error:
            raise StorageError(
                f"{self.place}: can't be reached ({words_of(error)}); see that the server runs, "
                f"and that this user may connect to the database"
            ) from error
        try:
            with translated(self.place):
                self._configure(session)
        except BaseException:
            session.close()
            raise
        return session

    def _configure(self, session: PostgresSession) -> None:
        """Settings that the log rests on, whatever the role or the database has for its own."""
        self.streams.forget()  # it may be another server now
        settings = [
            f"search_path = {quoted(self.address.schema)}",
            "client_encoding = 'UTF8'",
            "client_min_messages = warning",
            "default_transaction_isolation = 'read committed'",
            f"default_transaction_read_only = {'on' if self._read_only else 'off'}",
            f"lock_timeout = {round(self._busy_timeout * 1_000)}",
            "jit = off",
            "tcp_keepalives_idle = 10",
            "tcp_keepalives_interval = 5",
            "tcp_keepalives_count = 3",
        ]
        with session.pipeline():
            for setting in settings:
                session.execute(f"SET {setting}")
            found = session.execute("SHOW synchronous_commit").fetchone()
        if not self._durable:
            session.execute("SET synchronous_commit = off")
        elif found in _NOT_DURABLE:
            session.execute("SET synchronous_commit = on")

    def _configure_to_read(self, session: PostgresSession) -> None:
        self._configure(session)
        # our own statements are planned once: to plan one takes as long as to run it
        session.execute("SET plan_cache_mode = force_generic_plan")
        session.isolation_level = IsolationLevel.REPEATABLE_READ  # as each transaction begins
        session.read_only = True

    @contextmanager
    def reading(self) -> Iterator[PostgresSession]:
        """A session for one reader, inside a transaction that sees one moment.

        One that was ended while nobody used it is replaced by another.
        """
        self.check_open()
        with ExitStack() as stack:
            yield self._begun_to_read(stack)

    def _begun_to_read(self, stack: ExitStack) -> PostgresSession:
        for number in range(_READERS + 1):
            with ExitStack() as trial:
                session = trial.enter_context(self._readers.connection())
                try:
                    trial.enter_context(session.transaction())
                    session.execute("SET LOCAL plan_cache_mode = auto")  # for users' statements
                except psycopg.OperationalError:
                    if number == _READERS:
                        raise
                    continue
                stack.push(trial.pop_all())
                return session
        raise AssertionError  # pragma: no cover (the last one returns or raises)

    def read(
        self,
        call: Callable[Concatenate[PostgresSession, str, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """What a function says of the log. Each of its statements is a transaction of its own.

        Where the server ends the session meanwhile, or has ended it before, another is asked: what
        only reads can be repeated.
        """
        return self._asked(self._readers.connection, call, *args, **kwargs)

    def read_at_once(
        self,
        call: Callable[Concatenate[PostgresSession, str, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """The same, where all of its statements have to be of one moment."""
        return self._asked(self.reading, call, *args, **kwargs)

    def _asked(
        self,
        opened: Callable[[], AbstractContextManager[PostgresSession]],
        call: Callable[Concatenate[PostgresSession, str, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        for number in range(_READERS + 1):
            self.check_open()
            session: PostgresSession | None = None
            try:
                with translated(self.place), opened() as session:
                    return call(session, self.address.schema, *args, **kwargs)
            except StorageError as error:
                is_ended = session is not None and session.closed
                is_lost = isinstance(error.__cause__, psycopg.OperationalError)
                tries = _READERS if is_ended else 1
                if session is None or not is_lost or number >= tries:
                    raise
        raise AssertionError  # pragma: no cover (the last one returns or raises)

    @contextmanager
    def calling(self) -> Iterator[PostgresSession]:
        """The session that writes, outside of any transaction; only one thread may be here.

        It is for one statement, an append: what the server warns of leaves its outcome open.
        """
        self.check_open()
        try:
            session = self._waiting()
            self._warnings.clear()
            yield session
        finally:
            self._let_go()
        self._check_warnings()

    @contextmanager
    def appending(self) -> Iterator[PostgresSession]:
        """``writing`` for an append: what the server warns of leaves its outcome open.

        Such a warning is that it doesn't wait for a standby any more, which is told as a success.
        """
        with self.writing() as session:
            yield session
            self._warnings.clear()
        self._check_warnings()

    def _check_warnings(self) -> None:
        if self._warnings:
            raise StorageError(
                f"{self.place}: the server warns ({self._warnings[0]}), so whether the append will "
                f"last isn't known; see to its standbys, then append it again with the same "
                f"commit id"
            )

    def _warned(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        if diagnostic.severity_nonlocalized == "WARNING":
            self._warnings.append(diagnostic.message_primary or "")

    def _opened_to_write(self) -> PostgresSession:
        session = self.opened()
        binary_arrays.register(session)
        session.add_notice_handler(self._warned)
        with translated(self.place):
            sql = statements("reading", self.address.schema)["timeline"]
            ((timeline,),) = session.execute(sql).fetchall()
        try:
            self.check_timeline(timeline)
        except StorageError:
            session.close()
            raise
        return session

    def check_timeline(self, timeline: str) -> None:
        """Raises `StorageError` for a server that was left behind: the store saw a later one."""
        if timeline and timeline < self._timeline:
            raise StorageError(
                f"{self.place}: this server is on timeline {timeline}, and the store was on "
                f"{self._timeline} already: it was the primary before a standby was promoted; "
                f"shut it down, or take it out of the connection's hosts"
            )
        self._timeline = max(self._timeline, timeline)

    def identity(self) -> tuple[object, ...]:
        """What no other log has, in whatever database: of its cluster, its database, its table."""
        if self._identity is None:
            self._identity = self.read(_identity)
        return self._identity

    @contextmanager
    def writing(self) -> Iterator[PostgresSession]:
        """The session that writes, inside a transaction; only one thread may be here.

        Where it was lost meanwhile, a new one is opened. Raises `StorageError` where a statement
        failed in it, whoever handled that: the server keeps nothing of such a transaction.
        """
        self.check_open()
        try:
            with ExitStack() as stack:
                session = self._begun(stack)
                yield session
                if session.info.transaction_status is not TransactionStatus.INTRANS:
                    raise StorageError(
                        f"{self.place}: something failed inside the transaction, so nothing of it "
                        f"is kept; see the error before this one, then do all of it again"
                    )
        finally:
            self._let_go()

    def _let_go(self) -> None:
        """Close the session that writes where it isn't ready for the next who does."""
        writer = self._writer
        if writer is not None and writer.info.transaction_status is not TransactionStatus.IDLE:
            self._writer = None
            writer.close()

    def _begun(self, stack: ExitStack) -> PostgresSession:
        session = self._waiting()
        try:
            stack.enter_context(session.transaction())
        except psycopg.OperationalError:  # it was ended just now
            session.close()
            session = self._waiting()
            stack.enter_context(session.transaction())
        return session

    def _waiting(self) -> PostgresSession:
        """The session that writes, idle; another one where the server ended it meanwhile."""
        session = self._writer
        if session is None or session.closed or _is_ended(session):
            if session is not None:
                session.close()
            self._writer = session = self._opened_to_write()
        return session

    def __del__(self) -> None:
        if hasattr(self, "_writer"):
            self.close()

    def close(self) -> None:
        """End all of them; calling it again does nothing."""
        if self.is_foreign:
            return
        self.is_closed = True
        self._readers.close()
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(psycopg.Error):
                writer.close()
