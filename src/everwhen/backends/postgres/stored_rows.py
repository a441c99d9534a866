"""From rows of the table to slices: the one place where that is done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from everwhen.backends.postgres.statements import PostgresSession, statements
from everwhen.vocabulary.contract import StoredSlice
from everwhen.vocabulary.errors import CorruptStoreError

StoredRow: TypeAlias = tuple[Any, ...]
"""A row of `COLUMNS`."""

COLUMNS: Final = (
    "position, stream, version, count, recorded_at, uuid_send(commit_id), first_index, metadata, "
    "body"
)
POSITION: Final = 0
STREAM: Final = 1
VERSION: Final = 2
COUNT: Final = 3
BODY: Final = 8
"""Where they stand in a row."""

_MAX_NAMES: Final = 100_000
"""How many streams' names are remembered: some 15 MB."""


class KnownStreams:
    """The names of streams by their ids, which are never changed nor given twice.

    Safe from any thread, and in a transaction too: the id of a stream that is rolled back is
    another's never. Only a standby that takes over without the newest commits, or a restored
    database, can give one again: whoever connects anew has to ``forget``.
    """

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._table: int | None = None

    def forget(self) -> None:
        """Ask for all of them again."""
        self._names = {}  # others go on with the one that they hold

    def of_each(
        self, session: PostgresSession, schema: str, table: int, rows: Sequence[StoredRow]
    ) -> list[str]:
        """The name of each row's stream; those that aren't known are asked for together.

        ``table`` is the server's number of the table that the rows are of.
        """
        if table != self._table:  # the log was dropped, and made again
            self._names, self._table = {}, table
        names = self._names
        try:
            return [names[row[STREAM]] for row in rows]
        except KeyError:
            unknown = list({row[STREAM] for row in rows}.difference(names))
        if len(names) + len(unknown) > _MAX_NAMES:
            self.forget()
            names = self._names
            unknown = list({row[STREAM] for row in rows})
        sql = statements("reading", schema)["names"]
        names.update(session.execute(sql, (unknown,)).fetchall())
        try:
            return [names[row[STREAM]] for row in rows]
        except KeyError as error:
            raise CorruptStoreError(f"{schema}: stream {error} has no name") from None


def slices_of(rows: Sequence[StoredRow], streams: Sequence[str]) -> list[StoredSlice]:
    """The slices of rows, each in the stream of the name that goes with it."""
    return [
        StoredSlice(position, name, version, count, recorded_at, commit, first, metadata, body)
        for (position, _, version, count, recorded_at, commit, first, metadata, body), name
        in zip(rows, streams, strict=True)
    ]  # fmt: skip
