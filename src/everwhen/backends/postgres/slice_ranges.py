"""All slices of a range of positions, for whoever moves or checks them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from everwhen.backends.postgres.sealed_bodies import SealedBodies
from everwhen.backends.postgres.statements import PostgresSession, in_schema
from everwhen.backends.postgres.stored_rows import COLUMNS, StoredRow, slices_of
from everwhen.codec.frames import SliceRow
from everwhen.vocabulary.contract import StoredSlice

_ROWS_AT_ONCE: Final = 2_000
_BYTES_AT_ONCE: Final = 1 << 20
_ROWS: Final = f"""
SELECT {COLUMNS}, coalesce(name, '') FROM (
    SELECT *, sum(size) OVER (ORDER BY position) - size AS before FROM (
        SELECT * FROM log.slices WHERE position > %s AND position <= %s
        ORDER BY position LIMIT {_ROWS_AT_ONCE}
    ) AS taken
) AS bounded LEFT JOIN log.streams ON streams.id = stream
WHERE before < {_BYTES_AT_ONCE} ORDER BY position
"""


def slices_between(
    session: PostgresSession, schema: str, after: int, last: int, bodies: SealedBodies
) -> Iterator[StoredSlice]:
    """Every slice that ends after one position, up to another."""
    for rows in _batches(session, schema, after, last):
        some = slices_of([row[:-1] for row in rows], [row[-1] for row in rows])
        while some:
            filled = bodies.with_bodies(session, schema, some, _BYTES_AT_ONCE)
            yield from filled
            some = some[len(filled) :]


def rows_between(
    session: PostgresSession, schema: str, after: int, last: int
) -> Iterator[SliceRow]:
    """The rows of these slices, as they are stored."""
    for rows in _batches(session, schema, after, last):
        for row in rows:
            yield row[:-1]


def _batches(
    session: PostgresSession, schema: str, after: int, last: int
) -> Iterator[list[StoredRow]]:
    sql = in_schema(_ROWS, schema)
    while after < last:
        rows = session.execute(sql, (after, last), binary=True).fetchall()
        if not rows:
            return
        yield rows
        after = rows[-1][0]
