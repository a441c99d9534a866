"""How large a stored value may be, and which are larger: a crafted file could fill the memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import apsw

from everwhen.backends.sqlite.error_translation import corrupt
from everwhen.vocabulary.contract import MAX_KEPT_BYTES, MAX_NAME_BYTES, MAX_STORED_BYTES
from everwhen.vocabulary.errors import EverwhenError

MAX_STORED_NAME_BYTES: Final = 64 << 10
"""More than any name of a checkpoint, or of what a snapshot is of, takes."""

MAX_CHUNK_BYTES: Final = MAX_STORED_BYTES + (1 << 20)
"""More than the chunk of a slice takes that is as large as any, and can't be compressed."""

MAX_VALUE_BYTES: Final = MAX_KEPT_BYTES + MAX_STORED_NAME_BYTES
"""More than any row takes: SQLite bounds a row as a whole, a checkpoint with its name, say."""


@contextmanager
def limited(connection: apsw.Connection, most: int = MAX_STORED_BYTES) -> Iterator[None]:
    """Reads no value of the file that is larger; unless said, than any slice that is written."""
    limit = connection.limit(apsw.SQLITE_LIMIT_LENGTH, most)
    try:
        yield
    finally:
        with contextlib.suppress(apsw.ConnectionClosedError):  # by an interrupt, before this ended
            connection.limit(apsw.SQLITE_LIMIT_LENGTH, limit)


def too_large(connection: apsw.Connection, path: Path, error: Exception) -> EverwhenError | None:
    """The error for a value that is so large that SQLite refused to read it."""
    if not isinstance(error, apsw.TooBigError):
        return None
    found = next(oversized(connection), None)
    if found is None:
        return None
    where, size, limit = found
    return corrupt(path, f"{size:,} bytes at {where}: no store writes more than {limit:,} there")


def oversized(connection: apsw.Connection) -> Iterator[tuple[str, int, int]]:
    """Where values are larger than any that is written, with their sizes and the limits.

    None of them is read: a value's size stands before it.
    """
    for of, sql, limit in _SIZED:
        for key, size in connection.execute(f"{sql} WHERE size > {limit}"):
            yield f"{of} {key}", size, limit


def _sized(table: str, key: str, *columns: str) -> str:
    size = " + ".join(f"coalesce(octet_length({name}), 0)" for name in columns)
    return f"SELECT {key}, {size} AS size FROM {table}"


_SHOWN_NAME: Final = "CASE WHEN octet_length(name) > 512 THEN '' ELSE quote(name) END"
_SIZED: Final = (
    ("position", _sized("slices", "position", "body", "metadata"), MAX_STORED_BYTES),
    ("position", _sized("slices", "position", "commit_id"), MAX_STORED_BYTES),
    ("the name of stream", _sized("streams", "id", "name"), MAX_NAME_BYTES),
    ("the name of term", _sized("terms", "id", "name"), MAX_NAME_BYTES),
    (
        "the name of a checkpoint at position",
        _sized("checkpoints", "position", "name"),
        MAX_STORED_NAME_BYTES,
    ),
    ("checkpoint", _sized("checkpoints", _SHOWN_NAME, "data"), MAX_KEPT_BYTES),
    ("the chunk up to position", _sized("chunks", "last", "data"), MAX_CHUNK_BYTES),
    ("dictionary", _sized("dictionaries", "id", "data"), MAX_KEPT_BYTES),
    (
        "a posting of the segment up to position",
        _sized("postings", "segment", "places"),
        MAX_STORED_BYTES,
    ),
    (
        "the digest of the segment up to position",
        _sized("segments", "last", "sha256"),
        MAX_NAME_BYTES,
    ),
    ("the token of mover", _sized("mover", "id", "token"), MAX_NAME_BYTES),
    (
        "the name of a snapshot at position",
        _sized("snapshots", "position", "subject", "fold"),
        MAX_STORED_NAME_BYTES,
    ),
    ("the snapshot at position", _sized("snapshots", "position", "state"), MAX_KEPT_BYTES),
)
