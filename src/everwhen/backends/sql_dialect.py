"""What SQL is run on, and what each database says in its own way."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import msgspec


class SqlObject(msgspec.Struct, frozen=True):
    """A table, view, index or trigger of a database's schema.

    ``table`` is the one that it is on, or its own name; ``sql`` the statement that makes it, each
    of its gaps one space.
    """

    kind: str
    name: str
    table: str
    sql: str


def view_sql(name: str, table: str) -> str:
    """The statement that makes a view of a table's rows."""
    return f'CREATE VIEW "{name}" AS SELECT * FROM {table}'


class SqlView(Protocol):
    """What SQL statements are run on."""

    @property
    def dialect(self) -> SqlDialect:
        """Which kind of database they are for."""
        ...

    def execute(
        self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[tuple[Any, ...]]:
        """Run one SQL statement and return its rows; parameters go by place or by name.

        Raises `UnsupportedError` where there is no SQL, and `StatementError` for a statement that
        can't be run.
        """
        ...

    def rows(self, sql: str) -> Iterator[tuple[Any, ...]]:
        """The rows of one statement, one after the other: there may be any number of them."""
        ...


class SqlDialect(Protocol):
    """How one kind of database is asked for what SQL has no common words for."""

    def objects(self, view: SqlView, names: Collection[str]) -> list[SqlObject]:
        """The schema's objects of these names, and those on tables of these names."""
        ...

    def columns(self, view: SqlView, table: str) -> list[tuple[str, str]]:
        """A table's columns in their order: names and declarations; none where it isn't there."""
        ...

    def rows_in_order(self, view: SqlView, table: str) -> Iterator[tuple[Any, ...]]:
        """A table's rows, in an order that follows from nothing but their values."""
        ...

    def show(self, view: SqlView, name: str, table: str) -> None:
        """Let a view of that name, in place of one that may be there, show a table's rows."""
        view.execute(f'DROP VIEW IF EXISTS "{name}"')
        view.execute(view_sql(name, table))

    def is_shown_by(self, view: SqlView, shown: SqlObject, table: str) -> bool:
        """Whether a view shows a table's rows as they are."""
        del view
        return shown.sql == view_sql(shown.name, table)

    @contextmanager
    def trial(self, view: SqlView) -> Iterator[None]:
        """What is done within, in a transaction, is taken back at its end."""
        view.execute("SAVEPOINT everwhen_trial")
        try:
            yield
        finally:
            view.execute("ROLLBACK TO everwhen_trial")
            view.execute("RELEASE everwhen_trial")
