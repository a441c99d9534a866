"""A database connection of the caller's own, in whose transaction commits are written."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from psycopg import AsyncConnection
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.pq.abc import PGconn

from everwhen.vocabulary.errors import DeclarationError, UnsupportedError

_FLAVOUR: Final = f"psycopg's {AsyncConnection.__name__}"


@asynccontextmanager
async def lent(connection: object) -> AsyncIterator[PGconn]:
    """The libpq connection under it, inside a transaction; nobody else uses it meanwhile.

    A transaction is begun as the connection would for any statement. Raises `DeclarationError`
    for anything but psycopg's connection of this flavour, and `UnsupportedError` for one that is
    in no transaction of its own, or in one that has failed.
    """
    if not isinstance(connection, AsyncConnection):
        raise DeclarationError(
            f"connection= takes {_FLAVOUR}, not {type(connection).__qualname__}; of SQLAlchemy's "
            f"give the driver's: session.connection().connection.driver_connection"
        )
    pgconn = connection.pgconn
    if pgconn.transaction_status == TransactionStatus.IDLE and not connection.autocommit:
        await connection.execute("SELECT 1")
    async with connection.lock:
        if pgconn.pipeline_status != PipelineStatus.OFF:
            raise UnsupportedError("connection= is in a pipeline; leave that first")
        if pgconn.transaction_status != TransactionStatus.INTRANS:
            raise UnsupportedError(
                "connection= is in no transaction that can be committed: begin one (with "
                "connection.transaction(), where it is in autocommit), or roll the failed one back"
            )
        yield pgconn
