"""What PostgreSQL says of its schema, and how it takes things back."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Final

from everwhen.backends.sql_dialect import SqlDialect, SqlObject, SqlView

_OBJECTS: Final = """
SELECT CASE c.relkind WHEN 'v' THEN 'view' WHEN 'i' THEN 'index' ELSE 'table' END,
    c.relname::text,
    coalesce(t.relname, c.relname)::text,
    CASE WHEN c.relkind = 'i' THEN pg_get_indexdef(c.oid)
        WHEN c.relkind = 'v' THEN pg_get_viewdef(c.oid)
        ELSE (
            SELECT string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
                || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END, ', ' ORDER BY a.attnum)
            FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        ) END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_index i ON i.indexrelid = c.oid LEFT JOIN pg_class t ON t.oid = i.indrelid
WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'v', 'i', 'm')
    AND (c.relname = ANY(:names) OR t.relname = ANY(:names))
ORDER BY c.oid
"""
_COLUMNS: Final = """
SELECT a.attname::text, a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
    || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END
    || coalesce(' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid), '')
FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = to_regclass(quote_ident(?)) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""


class PostgresDialect(SqlDialect):
    """PostgreSQL's."""

    def objects(self, view: SqlView, names: Collection[str]) -> list[SqlObject]:
        return [
            SqlObject(kind, name, table, " ".join((sql or "").split()))
            for kind, name, table, sql in view.execute(_OBJECTS, {"names": list(names)})
        ]

    def columns(self, view: SqlView, table: str) -> list[tuple[str, str]]:
        return [(name, declared) for name, declared in view.execute(_COLUMNS, (table,))]

    def rows_in_order(self, view: SqlView, table: str) -> Iterator[tuple[Any, ...]]:
        names = ['"{}"'.format(name.replace('"', '""')) for name, _ in self.columns(view, table)]
        by = ", ".join(f'{name}::text COLLATE "C"' for name in names)
        return view.rows(f"SELECT {', '.join(names)} FROM {table} ORDER BY {by}")


DIALECT: Final = PostgresDialect()
