"""Ways to falsify history by SQL, each at the place of one commit, and what each is called."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeAlias

import apsw

from everwhen import open_store
from everwhen.merkle import FaultKind, MerkleLog, TileFolder
from everwhen_verify.notes import Signer

Commits: TypeAlias = list[list[int]]
"""The positions of the slices of each commit."""
Mutation: TypeAlias = Callable[[sqlite3.Connection, Commits, int], None]


def sql(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = delete")
    connection.execute("PRAGMA synchronous = off")
    return connection


def commits_in(c: sqlite3.Connection) -> Commits:
    commits: Commits = []
    for position, first in c.execute("SELECT position, first_index FROM slices ORDER BY position"):
        if first:
            commits[-1].append(position)
        else:
            commits.append([position])
    return commits


def change_body(c: sqlite3.Connection, at: Commits, n: int) -> None:
    where = (at[n][-1],)
    (body,) = c.execute("SELECT body FROM slices WHERE position = ?", where).fetchone()
    c.execute("UPDATE slices SET body = ? WHERE position = ?", (body.replace(b":", b":9"), *where))


def change_metadata(c: sqlite3.Connection, at: Commits, n: int) -> None:
    c.execute(
        'UPDATE slices SET metadata = CAST(\'{"user_id":"eve"}\' AS BLOB) WHERE position = ?',
        (at[n][-1],),
    )


def change_id(c: sqlite3.Connection, at: Commits, n: int) -> None:
    c.execute("UPDATE slices SET commit_id = randomblob(16) WHERE position = ?", (at[n][-1],))


def lengthen_id(c: sqlite3.Connection, at: Commits, n: int) -> None:
    c.execute(
        "UPDATE slices SET commit_id = CAST(commit_id || x'00' AS BLOB) WHERE position = ?",
        (at[n][-1],),
    )


def change_stream(c: sqlite3.Connection, at: Commits, n: int) -> None:
    c.execute("INSERT INTO streams VALUES (99, 's-elsewhere')")
    c.execute("UPDATE slices SET stream = 99 WHERE position = ?", (at[n][-1],))


def remove(c: sqlite3.Connection, at: Commits, n: int) -> None:
    c.executemany("DELETE FROM slices WHERE position = ?", [(p,) for p in at[n]])


def remove_two(c: sqlite3.Connection, at: Commits, n: int) -> None:
    remove(c, at, n)
    remove(c, at, n + 1)


def remove_and_close_up(c: sqlite3.Connection, at: Commits, n: int) -> None:
    (count,) = c.execute(
        "SELECT sum(count) FROM slices WHERE position BETWEEN ? AND ?", (at[n][0], at[n][-1])
    ).fetchone()
    remove(c, at, n)
    _move(c, [p for commit in at[n + 1 :] for p in commit], -count)


def remove_first_slice(c: sqlite3.Connection, at: Commits, n: int) -> None:
    c.execute("DELETE FROM slices WHERE position = ?", (at[n][0],))


def remove_last_slice(c: sqlite3.Connection, at: Commits, n: int) -> None:
    c.execute("DELETE FROM slices WHERE position = ?", (at[n][-1],))


def insert(c: sqlite3.Connection, at: Commits, n: int) -> None:
    last = at[n - 1][-1]
    _move(c, [p for commit in at[: n - 1 : -1] for p in commit[::-1]], 1)
    c.execute(
        "INSERT INTO slices SELECT ?, stream, 9999, 1, recorded_at, randomblob(16), 0, NULL,"
        ' CAST(\'[["Noted",1,{"number":7}]]\' AS BLOB) FROM slices WHERE position = ?',
        (last + 1, last),
    )


def _move(c: sqlite3.Connection, positions: list[int], by: int) -> None:
    c.execute("BEGIN")
    c.executemany(
        "UPDATE slices SET position = ? WHERE position = ?", [(p + by, p) for p in positions]
    )
    c.execute("COMMIT")


def swap(c: sqlite3.Connection, at: Commits, n: int) -> None:
    """Two commits in each other's place, positions and times made to fit."""
    fields = "position, recorded_at"
    one = c.execute(f"SELECT {fields} FROM slices WHERE position = ?", at[n]).fetchone()
    two = c.execute(f"SELECT {fields} FROM slices WHERE position = ?", at[n + 1]).fetchone()
    set_ = "UPDATE slices SET position = ?, recorded_at = ? WHERE position = ?"
    c.execute(set_, (-1, one[1], one[0]))
    c.execute(set_, (one[0], one[1], two[0]))
    c.execute(set_, (two[0], two[1], -1))


def swap_contents(c: sqlite3.Connection, at: Commits, n: int) -> None:
    fields = "body, metadata, stream, count"
    one, two = (
        c.execute(f"SELECT {fields} FROM slices WHERE position = ?", at[i]).fetchone()
        for i in (n, n + 1)
    )
    c.execute("DROP INDEX slices_by_stream")
    set_ = "UPDATE slices SET body = ?, metadata = ?, stream = ?, count = ? WHERE position = ?"
    c.execute(set_, (*two, *at[n]))
    c.execute(set_, (*one, *at[n + 1]))


def back_date(c: sqlite3.Connection, at: Commits, n: int) -> None:
    c.executemany(
        "UPDATE slices SET recorded_at = recorded_at - 86400000000 WHERE position = ?",
        [(p,) for p in at[n]],
    )


def cut(c: sqlite3.Connection, at: Commits, n: int) -> None:
    c.execute("DELETE FROM slices WHERE position >= ?", (at[n][0],))


def change_first_index(c: sqlite3.Connection, at: Commits, n: int) -> None:
    c.execute("UPDATE slices SET first_index = first_index + 1 WHERE position = ?", (at[n][-1],))


MUTATIONS: list[tuple[Mutation, FaultKind]] = [
    (change_body, FaultKind.CHANGED),
    (change_metadata, FaultKind.CHANGED),
    (change_id, FaultKind.CHANGED),
    (lengthen_id, FaultKind.CHANGED),
    (change_stream, FaultKind.CHANGED),
    (remove, FaultKind.REMOVED),
    (remove_two, FaultKind.REMOVED),
    (remove_and_close_up, FaultKind.REMOVED),
    (insert, FaultKind.INSERTED),
    (swap, FaultKind.REORDERED),
    (swap_contents, FaultKind.REORDERED),
    (back_date, FaultKind.BACK_DATED),
    (cut, FaultKind.CUT_TAIL),
    (change_first_index, FaultKind.CHANGED),
]
"""For commits of one slice; `swap` and `swap_contents` take no others."""


def tidy(path: Path) -> None:
    """Make versions, and what is derived from the slices, fit them: so they tell nothing more."""
    with closing(sql(path)) as c:
        c.execute("DROP INDEX IF EXISTS slices_by_stream")
        c.execute(
            "UPDATE slices SET version = (SELECT sum(count) FROM slices AS before"
            " WHERE before.stream = slices.stream AND before.position <= slices.position)"
        )
        c.execute("CREATE UNIQUE INDEX slices_by_stream ON slices (stream, version)")
        c.execute("DELETE FROM streams WHERE id NOT IN (SELECT stream FROM slices)")
        c.execute("DELETE FROM checkpoints WHERE name LIKE 'everwhen-log/%'")
        c.execute("DELETE FROM marks")
        c.execute("DELETE FROM terms")
        for position, stream, body in c.execute(
            "SELECT position, name, CAST(body AS TEXT) FROM slices JOIN streams ON id = stream"
        ).fetchall():
            found = {(3, stream.partition("-")[0], position | 255)}
            for type_, _, _, *more in json.loads(body):
                found.add((2, type_, position | 255))
                found.update((1, tag, position) for tag in (more or [[]])[0])
            for kind, name, mark in found:
                c.execute("INSERT OR IGNORE INTO terms (kind, name) VALUES (?, ?)", (kind, name))
                c.execute(
                    "INSERT OR IGNORE INTO marks SELECT id, ? FROM terms WHERE kind = ? AND name = ?",
                    (mark, kind, name),
                )


# Hiding events from queries, while each commit stays the one that was signed. A store has streams
# s-0 to s-8, the type Noted, and tags.

_AS_IT_IS = ("PRAGMA writable_schema = on",)
_RELOAD = ("PRAGMA writable_schema = reset",)


def _not_unique(table: str, unique: str) -> tuple[str, ...]:
    return (
        *_AS_IT_IS,
        f"UPDATE sqlite_schema SET sql = replace(sql, '{unique}', '') WHERE name = '{table}'",
        f"DELETE FROM sqlite_schema WHERE name = 'sqlite_autoindex_{table}_1'",
        *_RELOAD,
    )


_TERMS_UNIQUE = ",\n    UNIQUE (kind, name)"
_A_TERM = "(SELECT id FROM terms WHERE kind = {} ORDER BY id LIMIT 1)"

HIDINGS: dict[str, tuple[str, ...]] = {
    **{
        f"{what} without marks": (f"DELETE FROM marks WHERE term = {_A_TERM.format(kind)}",)
        for kind, what in ((1, "tag"), (2, "type"), (3, "category"))
    },
    "one mark moved": (
        (
            f"UPDATE marks SET position = position + 1 WHERE term = {_A_TERM.format(1)} AND position ="
            f" (SELECT max(position) FROM marks WHERE term = {_A_TERM.format(1)})"
        ),
    ),
    "one mark more": (f"INSERT INTO marks SELECT {_A_TERM.format(1)}, 1000000",),
    "a term renamed": ("UPDATE terms SET name = 'other' WHERE kind = 2",),
    "a term that isn't text": ("UPDATE terms SET name = CAST(x'ff' AS TEXT) WHERE kind = 2",),
    "a stream without events": ("INSERT INTO streams VALUES (99, 's-empty')",),
    "an event where none can be": (
        (
            "INSERT INTO slices SELECT -1, stream, 1000, 1, recorded_at, randomblob(16), 0, NULL, body"
            " FROM slices WHERE position = 1"
        ),
    ),
    "an index that leads to another row": (
        "UPDATE streams SET name = 'aside' WHERE name = 's-3'",
        "INSERT INTO streams VALUES (99, 's-3')",
        "CREATE TABLE aside AS SELECT * FROM sqlite_schema WHERE tbl_name = 'streams'",
        *_not_unique("streams", " UNIQUE"),
        "UPDATE streams SET name = 's-3' WHERE name = 'aside'",
        *_AS_IT_IS,
        "DELETE FROM sqlite_schema WHERE tbl_name = 'streams'",
        "INSERT INTO sqlite_schema SELECT * FROM aside",
        *_RELOAD,
        "DROP TABLE aside",
    ),
}
"""What leaves the schema as it is."""

SCHEMAS: dict[str, tuple[str, ...]] = {
    "a second row of a stream": (
        *_not_unique("streams", " UNIQUE"),
        "INSERT INTO streams VALUES (-1, 's-3')",
    ),
    "a second row of a term": (
        *_not_unique("terms", _TERMS_UNIQUE),
        "INSERT INTO terms SELECT -id, kind, name FROM terms",
    ),
    "a trigger that stores something else": (
        (
            "CREATE TRIGGER t AFTER INSERT ON slices BEGIN UPDATE slices SET body ="
            " CAST(replace(body, '1', '2') AS BLOB) WHERE position = new.position; END"
        ),
    ),
    "a trigger that hides what is new": (
        (
            "CREATE TRIGGER t AFTER INSERT ON marks BEGIN DELETE FROM marks"
            " WHERE term = new.term AND position = new.position; END"
        ),
    ),
    "a trigger on somebody's own table": (
        "CREATE TABLE own (x)",
        "CREATE TRIGGER t AFTER INSERT ON own BEGIN DELETE FROM [SLICES]; END",
    ),
    "a unique index that leaves out marks": (
        "CREATE TABLE aside AS SELECT * FROM marks",
        "DELETE FROM marks",
        "CREATE UNIQUE INDEX more ON marks (position)",
        "INSERT OR IGNORE INTO marks SELECT * FROM aside",
    ),
    "a view instead of a table": (
        "ALTER TABLE marks RENAME TO kept",
        "CREATE VIEW marks AS SELECT * FROM kept WHERE term > 1",
    ),
    "another view of the events": (
        "DROP VIEW events",
        "CREATE VIEW events AS SELECT 1 AS position",
    ),
    "a table less": ("DROP TABLE marks",),
    "a column less": ("DROP VIEW events", "ALTER TABLE slices DROP COLUMN metadata"),
    "a table that hides a function": ("CREATE TABLE json_each (value)",),
}
"""What changes it."""


def by_another(path: Path, statements: Sequence[str]) -> None:
    """Run these, as another process would, also while the store is open in this one."""
    with closing(apsw.Connection(str(path))) as c:
        for statement in statements:
            c.execute(statement)


def sign_as_retired(path: Path, retired: Signer) -> bytes:
    """What there is, signed anew by a key that was handed over; the rollovers stay in place."""
    folder = Path(f"{path}-log")
    rollovers = (folder / "rollovers").read_bytes()
    shutil.rmtree(folder)
    with open_store(path) as store:
        note = MerkleLog(store, TileFolder(folder), retired).sign().note
    (folder / "rollovers").write_bytes(rollovers)
    return note
