"""The pages that tables and indexes lie in, judged by PostgreSQL's own extension, amcheck.

It finds what no query shows: rows that an index doesn't lead to, an index out of its order, rows
whose headers make no sense. Where it isn't installed, or this role may not call it, it says
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from psycopg.errors import (
    DataCorrupted,
    IndexCorrupted,
    InsufficientPrivilege,
    ObjectNotInPrerequisiteState,
)

from everwhen.backends.postgres.error_translation import words_of
from everwhen.backends.postgres.statements import PostgresSession, quoted
from everwhen.vocabulary.contract import Problem

_FOUND: Final = """
SELECT nspname FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace
WHERE extname = 'amcheck'
"""
_RELATIONS: Final = """
SELECT pg_class.oid, relname, relkind = 'i'
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
JOIN pg_am ON pg_am.oid = relam
WHERE nspname = %s AND amname IN ('heap', 'btree') AND relkind IN ('r', 'i') ORDER BY relname
"""
_OF_INDEX: Final = "SELECT {}.bt_index_check(%s, true)"
_OF_TABLE: Final = """
SELECT blkno, msg FROM {}.verify_heapam(%s, check_toast => true) ORDER BY blkno, offnum LIMIT 100
"""


def page_problems(session: PostgresSession, schema: str) -> Iterator[Problem]:
    """Every damaged index and table of a log's schema; nothing where that can't be looked at."""
    installed = session.execute(_FOUND).fetchone()
    if installed is None:
        return
    for oid, name, is_index in session.execute(_RELATIONS, (schema,)).fetchall():
        sql = (_OF_INDEX if is_index else _OF_TABLE).format(quoted(installed[0]))
        where = f"{'index' if is_index else 'table'} {name}"
        try:
            with session.transaction():
                rows: Sequence[Any] = session.execute(sql, (oid,)).fetchall()
        except InsufficientPrivilege:
            return
        except ObjectNotInPrerequisiteState:
            continue  # an index that was made after this transaction began
        except (DataCorrupted, IndexCorrupted) as error:
            yield Problem(where, words_of(error))
        else:
            if not is_index:
                for block, message in rows:
                    yield Problem(where, f"block {block}: {message}")
