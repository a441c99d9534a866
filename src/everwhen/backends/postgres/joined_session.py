"""A session on a connection that is somebody else's, inside a transaction that they began."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from psycopg import Connection
from psycopg.pq.abc import PGconn

from everwhen.backends.postgres import binary_arrays
from everwhen.backends.postgres.sessions import Sessions
from everwhen.backends.postgres.statements import PostgresSession, quoted, statements
from everwhen.vocabulary.errors import DeclarationError, UnsupportedError

_ISOLATION: Final = "read committed"


@contextmanager
def joined(pgconn: PGconn, sessions: Sessions, busy_timeout: float) -> Iterator[PostgresSession]:
    """A session that leaves theirs as it was; what it writes is theirs to commit.

    Raises `DeclarationError` where it is of another database, and `UnsupportedError` where the log
    can't be written in such a transaction.
    """
    handlers = pgconn.notice_handler, pgconn.notify_handler
    session: PostgresSession = Connection(pgconn)
    try:
        session.prepare_threshold = None  # names of prepared statements would be theirs, too
        binary_arrays.register(session)
        schema, place = sessions.address.schema, sessions.place
        if session.info.encoding != "utf-8":
            raise UnsupportedError(f"{place}: connection= has a client_encoding that isn't UTF8")
        sql = statements("reading", schema)
        ((*identity, isolation, timeline, lock_timeout, search_path),) = session.execute(
            sql["identity_and_settings"]
        ).fetchall()
        if tuple(identity) != sessions.identity():
            raise DeclarationError(
                f"{place}: connection= is of another database, where this log isn't; give one of "
                f"the log's own database"
            )
        if isolation != _ISOLATION:
            raise UnsupportedError(
                f"{place}: connection= is in a transaction at {isolation.upper()}, which doesn't "
                f"see what others commit before the log is locked; begin it at READ COMMITTED"
            )
        sessions.check_timeline(timeline)
        set_ = "SELECT set_config('lock_timeout', %s, true), set_config('search_path', %s, true)"
        with session.transaction():
            session.execute(set_, (str(round(busy_timeout * 1_000)), quoted(schema)))
            yield session
            session.execute(set_, (lock_timeout, search_path))
    finally:
        pgconn.notice_handler, pgconn.notify_handler = handlers
        del session.pgconn  # it isn't this session's to close
