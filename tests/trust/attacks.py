"""Ways to falsify history by SQL, each at the place of one commit, and what each is called."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

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
]
"""For commits of one slice; `swap` and `swap_contents` take no others."""


def sign_as_retired(path: Path, retired: Signer) -> bytes:
    """What there is, signed anew by a key that was handed over; the rollovers stay in place."""
    folder = Path(f"{path}-log")
    rollovers = (folder / "rollovers").read_bytes()
    shutil.rmtree(folder)
    with open_store(path) as store:
        note = MerkleLog(store, TileFolder(folder), retired).seal().note
    (folder / "rollovers").write_bytes(rollovers)
    return note
