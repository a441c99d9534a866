"""What PostgreSQL says of its schema, and how it takes things back."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Any, Final

from everwhen.backends.sql_dialect import SqlDialect, SqlObject, SqlView, view_sql
from everwhen.vocabulary.errors import StatementError

_OBJECTS: Final = """
SELECT CASE c.relkind WHEN 'v' THEN 'view' WHEN 'i' THEN 'index' ELSE 'table' END,
    c.relname::text,
    coalesce(t.relname, c.relname)::text,
    CASE WHEN c.relkind = 'i' THEN pg_get_indexdef(c.oid, 0, true)
        WHEN c.relkind = 'v' THEN pg_get_viewdef(c.oid, true)
        ELSE (
            SELECT string_agg(part, ', ' ORDER BY kind, number, part) FROM (
                SELECT 1 AS kind, a.attnum AS number,
                    a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
                    || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END
                    || coalesce(' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid, true), '') AS part
                FROM pg_attribute a
                LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
                WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                UNION ALL
                SELECT 2, 0, pg_get_constraintdef(r.oid, true)
                FROM pg_constraint r WHERE r.conrelid = c.oid AND r.contype <> 'n'
            ) AS parts
        ) END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_index i ON i.indexrelid = c.oid LEFT JOIN pg_class t ON t.oid = i.indrelid
WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p', 'v', 'i', 'm')
    AND (c.relname = ANY(:names) OR t.relname = ANY(:names))
UNION ALL
SELECT 'trigger', g.tgname::text, t.relname::text, pg_get_triggerdef(g.oid, true)
FROM pg_trigger g JOIN pg_class t ON t.oid = g.tgrelid JOIN pg_namespace n ON n.oid = t.relnamespace
WHERE n.nspname = current_schema() AND NOT g.tgisinternal
    AND (g.tgname = ANY(:names) OR t.relname = ANY(:names))
"""
_SHOWING: Final = """
SELECT 'SELECT ' || string_agg(quote_ident(attname), ', ' ORDER BY attnum)
    || ' FROM ' || quote_ident(:table) || ';'
FROM pg_attribute
WHERE attrelid = to_regclass(quote_ident(:table)) AND attnum > 0 AND NOT attisdropped
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

    def show(self, view: SqlView, name: str, table: str) -> None:
        """Where the columns are the same, what others may do with the view stays as it was."""
        with suppress(StatementError):
            view.execute(view_sql(name, table).replace("CREATE", "CREATE OR REPLACE", 1))
            return
        super().show(view, name, table)

    def is_shown_by(self, view: SqlView, shown: SqlObject, table: str) -> bool:
        ((wanted,),) = view.execute(_SHOWING, {"table": table})
        there = shown.sql.replace(f"{table}.", "")  # as PostgreSQL 15 writes it
        return wanted is not None and there == " ".join(wanted.split())

    def rows_in_order(self, view: SqlView, table: str) -> Iterator[tuple[Any, ...]]:
        names = ['"{}"'.format(name.replace('"', '""')) for name, _ in self.columns(view, table)]
        by = ", ".join(f'{name}::text COLLATE "C"' for name in names)
        return view.rows(f"SELECT {', '.join(names)} FROM {table} ORDER BY {by}")


DIALECT: Final = PostgresDialect()
