"""What SQLite says of its schema, and how it takes things back."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Final

from everwhen.backends.sql_dialect import SqlDialect, SqlObject, SqlView

_SCHEMA: Final = "SELECT type, name, tbl_name, sql FROM sqlite_schema"
_COLUMNS: Final = 'SELECT name, type, "notnull", dflt_value, pk FROM pragma_table_info(?)'


class SqliteDialect(SqlDialect):
    """SQLite's."""

    def objects(self, view: SqlView, names: Collection[str]) -> list[SqlObject]:
        return [
            SqlObject(kind, name, table, " ".join((sql or "").split()))
            for kind, name, table, sql in view.rows(_SCHEMA)
            if name in names or table in names
        ]

    def columns(self, view: SqlView, table: str) -> list[tuple[str, str]]:
        return [
            (
                name,
                f"{name} {kind}".strip()
                + (" PRIMARY KEY" if key else "")
                + (" NOT NULL" if is_needed else "")
                + (f" DEFAULT {default}" if default is not None else ""),
            )
            for name, kind, is_needed, default, key in view.execute(_COLUMNS, (table,))
        ]

    def rows_in_order(self, view: SqlView, table: str) -> Iterator[tuple[Any, ...]]:
        """By type first, for SQLite finds 1 and 1.0 equal."""
        names = ['"{}"'.format(name.replace('"', '""')) for name, _ in self.columns(view, table)]
        by = ", ".join(f"typeof({name}), {name} COLLATE BINARY" for name in names)
        return view.rows(f"SELECT {', '.join(names)} FROM {table} ORDER BY {by}")


DIALECT: Final = SqliteDialect()
