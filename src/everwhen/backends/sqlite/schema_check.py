"""The schema: what migrations make, and in what a file's differs from it.

A file that somebody else has made can have anything in place of our tables: a view that never
ends, say, or a trigger that changes what is written. So the schema is compared before it is used,
by reading nothing but the table that SQLite keeps it in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final, TypeAlias

import apsw
import msgspec

from everwhen.backends.sqlite.statements import statements

_OF_A_BUILD: Final = re.compile(r"\w+__\d+_\d+(_\w+)?", re.ASCII)
_VIEW: Final = re.compile(r'CREATE VIEW "(\w+)" AS SELECT \* FROM \1__\d+_\d+', re.ASCII)
_PLAIN_INDEX: Final = "CREATE INDEX "  # as SQLite itself writes it
_FUNCTIONS: Final = frozenset({"json_each", "json_tree", "sealed_slices"})
_SCHEMA: Final = statements("checking")["schema"]

_Object: TypeAlias = tuple[str, str, str]
"""Its type, the table that it is on, and its SQL."""


_SEALED_EVENTS: Final = (
    "view",
    "events",
    " ".join(statements("sealed_events")["create"].split()),
)
"""The view of a store with segments."""


class SchemaDifference(msgspec.Struct, frozen=True):
    """Something in a file's schema that our migrations don't make, or make otherwise.

    With ``is_fatal`` the store's own tables can't be relied on, and the file isn't opened. With
    ``is_ours`` it is a fault, if only of an index. All else is somebody's own beside what is ours,
    such as a table made in a transaction, or an index for other programs.
    """

    type: str
    name: str
    what: str
    is_ours: bool = True
    is_fatal: bool = True

    def __str__(self) -> str:
        return f"the {self.type} {self.name!r} {self.what}"


def schema_differences(
    connection: apsw.Connection, steps: Iterable[tuple[int, str]]
) -> Iterator[SchemaDifference]:
    """In what the schema differs from what the steps up to the file's own version make.

    What read models consist of is left out: tables named ``name__version_build``, what is on them,
    and the views that show them.
    """
    version = connection.pragma("user_version")
    expected = _expected(tuple(sql for step, sql in steps if step <= version))
    found = _objects(connection)
    for name, (type_, table, sql) in expected.items():
        there = found.get(name)
        if there is None:
            yield SchemaDifference(type_, name, "is missing", is_fatal=type_ != "index")
        elif there[0] != type_:
            yield SchemaDifference(there[0], name, f"should be a {type_}")
        elif there not in ((type_, table, sql), _SEALED_EVENTS):
            what = f"is not ours, but: {there[2]:.200}"
            yield SchemaDifference(type_, name, what, is_fatal=type_ != "index")
    names = [name for name, (type_, _, _) in expected.items() if type_ != "index"]
    mentions = re.compile(rf"\b({'|'.join(names)})\b", re.IGNORECASE)
    for name, (type_, table, sql) in found.items():
        if name in expected:
            continue
        harm = _harm(name, type_, table, sql, names, mentions)
        if harm is not None:
            yield SchemaDifference(type_, name, harm)
        elif not _is_of_a_read_model(type_, name, table, sql):
            yield SchemaDifference(type_, name, "is not ours", is_ours=False, is_fatal=False)


def _harm(
    name: str, type_: str, table: str, sql: str, names: Sequence[str], mentions: re.Pattern[str]
) -> str | None:
    """What something beside our own tables may do to them."""
    if name in _FUNCTIONS:
        return "hides a function of that name"
    if type_ == "trigger" and (table in names or mentions.search(sql)):
        return "may change the store's own tables"
    if type_ == "index" and table in names and not sql.startswith(_PLAIN_INDEX):
        # a unique one makes INSERT OR IGNORE leave out marks, and OR REPLACE delete rows
        return f"may keep rows out of the table {table!r}"
    return None


def _objects(connection: apsw.Connection) -> dict[str, _Object]:
    """Each object by its name in small letters, which is how SQLite finds it."""
    return {
        name.lower(): (type_, table.lower(), " ".join((sql or "").split()))
        for type_, name, table, sql in connection.execute(_SCHEMA)
    }


@lru_cache(8)
def _expected(steps: tuple[str, ...]) -> dict[str, _Object]:
    connection = apsw.Connection(":memory:")
    try:
        for sql in steps:
            connection.execute(sql)
        return _objects(connection)
    finally:
        connection.close()


def _is_of_a_read_model(type_: str, name: str, table: str, sql: str) -> bool:
    if name.startswith("sqlite_") and not name.startswith("sqlite_autoindex_"):
        return True  # SQLite's own: statistics, and the like
    if type_ == "view":
        return _VIEW.fullmatch(sql) is not None or _OF_A_BUILD.fullmatch(name) is not None
    return _OF_A_BUILD.fullmatch(table) is not None
