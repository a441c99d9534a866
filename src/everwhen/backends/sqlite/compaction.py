"""Making the file smaller after rows were sealed, or deleted: its free pages are given back.

Files have a map of their pages (SQLite's ``auto_vacuum = incremental``), by which pages at the end
move to free places before them, some at a time: each step is a short transaction like any other,
so that others read and write in between, and it takes no more of the disk than the log of changes.
The log is emptied now and then, which is what cuts the file.

A file of an older Everwhen has no such map. It is written anew once, with one: as a whole or not at
all, and as long as that takes, nobody else can write.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import apsw

from everwhen.backends.moving import ReadsOnce, Work
from everwhen.backends.sqlite.files import beside, check_room, temporary_folder
from everwhen.backends.sqlite.pages import one_moment
from everwhen.vocabulary.contract import Compaction

_LOG: Final = logging.getLogger("everwhen")

_FIRST_PAGES: Final = 64
"""How many pages the first step gives back."""
_MAX_PAGES: Final = 256
"""How many a step gives back at most: a megabyte that may have to be written elsewhere."""
_STEP_SECONDS: Final = 0.004
"""How long a step is to take, but for its commit: writers wait for it. SQLite looks for each page
in its list of free ones, so where that is long, steps become smaller."""
_LOG_PAGES: Final = 4_096
"""After how many pages the log of changes is emptied: it has 16 MB by then."""
_ROOM_PAGES: Final = 2 * _LOG_PAGES
"""How many pages the log may have: those that moved, and those that refer to them."""


class Compacting:
    """The steps that make one file smaller. Raises `StorageFullError` where it finds no room."""

    def __init__(
        self,
        path: Path,
        read: ReadsOnce[apsw.Connection],
        write: Callable[[Work[apsw.Connection]], None],
        write_anew: Callable[[], None],
    ) -> None:
        self.progress = (0, 0)
        self.is_journal_long = False
        self._path = path
        self._read = read
        self._write = write
        self._write_anew = write_anew
        self._taken = 0.0
        self._size_before = _size_of(path)

    def steps(self) -> Iterator[Callable[[], None]]:
        """Hold the engine's lock to take a step, and not for what is done between two of them."""
        page_bytes, pages, free, has_map = self._read(_pages)
        if not has_map:
            yield from self._steps_anew(page_bytes * (pages - free))
            return
        if free:
            check_room(self._path, page_bytes * min(pages, _ROOM_PAGES))
        given = emptied_at = 0
        some = _FIRST_PAGES
        while given < free:  # not what others free meanwhile, or it might never end
            some = min(some, free - given)
            given += some
            self.progress = page_bytes * given, page_bytes * free
            self.is_journal_long = given - emptied_at >= _LOG_PAGES
            if self.is_journal_long:
                emptied_at = given
            yield partial(self._write, partial(self._give_back, pages=some))
            some = max(1, some // 2) if self._taken > _STEP_SECONDS else min(2 * some, _MAX_PAGES)

    def _give_back(self, connection: apsw.Connection, pages: int) -> None:
        began = time.monotonic()
        connection.execute(f"PRAGMA incremental_vacuum({pages})").fetchall()
        self._taken = time.monotonic() - began

    def _steps_anew(self, size: int) -> Iterator[Callable[[], None]]:
        """One step, which needs the room of what is left twice: for a copy, and for the log."""
        elsewhere = temporary_folder()
        if elsewhere.stat().st_dev == self._path.parent.stat().st_dev:
            check_room(self._path, 2 * size)
        else:
            check_room(self._path, size)
            check_room(self._path, size, elsewhere)
        _LOG.warning(
            "%s: was made by an older Everwhen, and is written anew this once; nobody else can "
            "write until it is done",
            self._path,
        )
        self.progress = size, size
        yield self._write_anew

    def report(self) -> Compaction:
        """What it came to, once the log of changes was emptied."""
        return Compaction(self._size_before, _size_of(self._path))


def _pages(connection: apsw.Connection) -> tuple[int, int, int, bool]:
    """The bytes of a page, how many pages there are, how many are free, whether they are mapped."""
    with one_moment(connection):
        page_bytes, pages, free, map_kind = (
            int(connection.pragma(name))
            for name in ("page_size", "page_count", "freelist_count", "auto_vacuum")
        )
    return page_bytes, pages, free, bool(map_kind)


def _size_of(path: Path) -> int:
    """The bytes on disk of the file and the log of changes; not by opening them."""
    size = 0
    for file in (path, beside(path.resolve(), "-wal")):
        if file.exists():
            size += os.stat(file).st_size  # noqa: PTH116
    return size
