"""Temporary tables in a session of their own, in which things are tried out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any, Final

import psycopg

from everwhen.backends.postgres.dialect import DIALECT
from everwhen.backends.postgres.error_translation import words_of
from everwhen.backends.postgres.statements import PostgresSession
from everwhen.backends.postgres.user_statements import executed, streamed
from everwhen.vocabulary.errors import UnsupportedError

_UNLOGGED: Final = re.compile(r"(\s*CREATE\s+)UNLOGGED\s", re.IGNORECASE)
"""What a temporary table is in any case, and refuses to be told."""
_CANCEL_SECONDS: Final = 10.0


class PostgresScratch:
    """A session whose tables are all temporary ones: gone with it, however it ends.

    They lie on the server, in files that aren't in its write-ahead log.
    """

    dialect = DIALECT

    def __init__(self, session: PostgresSession, place: str) -> None:
        """``session`` becomes its own. Raises `UnsupportedError` where none can be made."""
        self._session = session
        self._place = place
        try:
            session.execute("SET default_transaction_read_only = off")
            session.execute("SET search_path = pg_temp")
            session.execute("CREATE TABLE tried ()")
            session.execute("DROP TABLE tried")
        except psycopg.Error as error:
            session.close()
            raise UnsupportedError(
                f"{place}: temporary tables can't be made there ({words_of(error)}); connect to "
                f"the primary, with a role that has TEMPORARY on the database"
            ) from error

    def execute(
        self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[tuple[Any, ...]]:
        return executed(self._session, _UNLOGGED.sub(r"\1", sql), parameters, self._place)

    def rows(self, sql: str) -> Iterator[tuple[Any, ...]]:
        return streamed(self._session, sql, self._place, hold=True)

    def transaction(self) -> AbstractContextManager[object]:
        return self._session.transaction()

    def interrupt(self) -> None:
        with suppress(psycopg.Error):
            self._session.cancel_safe(timeout=_CANCEL_SECONDS)

    def close(self) -> None:
        self._session.close()
