"""Which books are out: a table that follows the events, and the question that it answers."""

from __future__ import annotations

from typing import Final

import msgspec

from desk.lending import Borrowed, Returned
from everwhen import RecordedEvent, TableProjection, Tables
from everwhen.projections import Queries

loans: Final = TableProjection(
    "loans", "CREATE TABLE {loans} (book TEXT PRIMARY KEY, member TEXT NOT NULL, since TEXT)"
)


@loans.on(Borrowed)
def _(tables: Tables, lent: RecordedEvent[Borrowed]) -> None:
    since = lent.recorded_at.isoformat()
    tables.execute(
        "INSERT INTO {loans} VALUES (?, ?, ?)", [lent.event.book, lent.event.member, since]
    )


@loans.on(Returned)
def _(tables: Tables, back: RecordedEvent[Returned]) -> None:
    tables.execute("DELETE FROM {loans} WHERE book = ?", [back.event.book])


class LoansOf(msgspec.Struct, frozen=True):
    """What a member has at home."""

    member: str


queries: Final = Queries()


@queries.on(LoansOf, loans)
def _(query: LoansOf, tables: Tables) -> list[dict[str, str]]:
    rows = tables.execute(
        "SELECT book, since FROM {loans} WHERE member = ? ORDER BY since", [query.member]
    )
    return [{"book": str(book), "since": str(since)} for book, since in rows]
