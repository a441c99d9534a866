# Generated from src/everwhen/exchange/_async/archive_importing.py by tools/unasync.py: edit that, then run `make sync`.
"""Importing an archive: the history that it has, at the same positions.

Footers say which objects have which positions, and nothing is written before they make one history
that goes on from what is in the store. What they say of the events is checked row group by row
group. What is in the store is always the beginning of the archive, and another run goes on from it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import chain
from typing import Literal
from uuid import UUID

from msgspec.structs import astuple

from everwhen.backends._sync.concurrency import aside
from everwhen.codec.slice_digest import SliceDigest, digest_of
from everwhen.exchange._sync.history_writing import HistoryWriter, slice_pages
from everwhen.exchange.archive_files import ArchiveFiles
from everwhen.exchange.archive_ranges import (
    ArchivedGroup,
    ArchivedRanges,
    RangesError,
    contradiction,
    positions_between,
    ranges_of,
)
from everwhen.exchange.errors import ImportFormatError, OtherHistoryError
from everwhen.exchange.history_commits import Commits, OddSliceError, batches
from everwhen.exchange.notices import Notice
from everwhen.exchange.records import ExchangeProgress, ImportReport
from everwhen.store._sync.store import Store
from everwhen.vocabulary.contract import StoredSlice
from everwhen.vocabulary.errors import CorruptStoreError, UnsupportedError


def import_archive(
    store: Store,
    archive: str | os.PathLike[str],
    *,
    progress: Callable[[ExchangeProgress], None] | None = None,
) -> ImportReport:
    """Import archived history as it was; run it again to go on after an interruption.

    ``archive`` is a folder, one object's file, or the URL of either. The store has to be empty, or
    to have the beginning of the same history and nothing else. Positions, commit ids, versions,
    times, metadata and bodies become what they were, byte for byte. Which positions an object has
    is known by its footer; those that several objects have are taken from one of them. Parquet
    files of others are passed over, and reported.

    ``progress`` is called with the positions that were read and written; what it raises ends the
    import. What is written by then stays.

    Raises `ImportFormatError` for an archive of which positions are missing, or objects contradict
    one another, before anything is written; and for what is damaged, once what stands before it is
    written. Raises `OtherHistoryError` where the store has other events, `ExchangeFileError`
    where there is no archive, `StorageError` where it can't be read, and `UnsupportedError` for a
    branch, for a store that gives positions or times of its own, and without the extra
    ``everwhen[archive]``.
    """
    capabilities = store.capabilities
    if store.kernel.branch is not None:
        raise UnsupportedError(
            f"{store!r} is a branch; import an archive into a store, and branch from that"
        )
    if not (capabilities.keeps_recorded_at and capabilities.dense_positions):
        raise UnsupportedError(
            f"{store!r} gives times or positions of its own, and history has to keep those that "
            f"it has; import it into a store in a file"
        )
    files = aside(ArchiveFiles, archive)
    importing = _ArchiveImport(store, files, progress)
    importing.run()
    return importing.report()


class _ArchiveImport:
    """One import, under way."""

    def __init__(
        self,
        store: Store,
        files: ArchiveFiles,
        progress: Callable[[ExchangeProgress], None] | None,
    ) -> None:
        self._store = store
        self._backend = store.kernel.backend
        self._files = files
        self._progress = progress
        self._ranges = ArchivedRanges([], [])
        self._foreign: list[str] = []
        self._recognised = 0
        self._newest: StoredSlice | None = None
        self._writer: HistoryWriter | None = None

    def report(self) -> ImportReport:
        notices = []
        if self._foreign:
            what = "Parquet files that aren't Everwhen's, passed over"
            notices.append(Notice(f"{what} ({self._foreign[0]})", 0, len(self._foreign)))
        if self._files.passed_over:
            notices.append(
                Notice("files that aren't Parquet, passed over", 0, self._files.passed_over)
            )
        repeated = self._recognised + (0 if self._writer is None else self._writer.repeated)
        return ImportReport(
            self._written + repeated,
            self._written,
            repeated,
            0,
            (),
            "recorded",
            notices=tuple(notices),
        )

    @property
    def _written(self) -> int:
        return 0 if self._writer is None else self._writer.written

    def run(self) -> None:
        try:
            self._ranges = ranges_of(self._groups())
            for other in self._ranges.others:
                self._compare(other)
        except RangesError as error:
            raise ImportFormatError(self._files.name, 0, str(error)) from error
        head = (self._store.head()).position
        first = self._ranges.first
        if first > 1 and head < first:
            raise ImportFormatError(
                self._files.name,
                0,
                f"it begins at position {first:,}, and {positions_between(1, first - 1)} are "
                f"neither in it nor in the store; add the objects that have them, or import into a "
                f"store that has the history up to position {first:,} at least",
            )
        self._recognise(head)
        self._write_after(head)

    def _tell(self, stage: Literal["reading", "writing"], done: int) -> None:
        if self._progress is not None:
            total = self._ranges.last - self._ranges.first + 1
            self._progress(ExchangeProgress(stage, done, total, "events"))

    # What there is

    def _groups(self) -> list[ArchivedGroup]:
        """All row groups of all objects, by their footers."""
        found: list[ArchivedGroup] = []
        sizes = 0
        total = sum(size for _, size in self._files.objects)
        for name, size in self._files.objects:
            groups = aside(self._files.groups, name)
            if groups is None:
                self._foreign.append(name)
            found += groups or ()
            sizes += size
            if self._progress is not None:
                self._progress(ExchangeProgress("reading", sizes, total, "bytes"))
        if not found:
            raise ImportFormatError(
                self._files.name, 0, "no Parquet file in it is an object of an archive"
            )
        return found

    def _compare(self, other: ArchivedGroup) -> None:
        """Raises `RangesError` unless a row group is the same as what is taken in its place."""
        digest = SliceDigest()
        for group in self._ranges.between(other.first, other.last):
            slices = self._read(group)
            digest.update(
                astuple(one)
                for one in slices
                if other.first <= one.position and one.position - one.count < other.last
            )
            if digest.digest() == other.record.sha256:
                return
        raise contradiction(group, other)

    def _read(self, group: ArchivedGroup) -> list[StoredSlice]:
        try:
            slices = aside(self._files.slices, group)
        except CorruptStoreError as error:
            raise ImportFormatError(
                self._files.name,
                0,
                f"{group.range} can't be read: {error}. {self._written:,} events were written and "
                f"stay; then run the import again",
            ) from error
        begins = slices[0].position - slices[0].count + 1 if slices else 0
        if len(slices) != group.record.slices or begins != group.first:
            raise self._odd(group, group.first, "its footer has other positions than it has")
        if slices[-1].position != group.last:
            raise self._odd(group, group.last, "its footer has other positions than it has")
        return slices

    def _odd(self, group: ArchivedGroup, position: int, reason: str) -> ImportFormatError:
        return ImportFormatError(
            self._files.name,
            0,
            f"{group.object}, position {position:,}: {reason}. {self._written:,} events were "
            f"written and stay; put the object from a backup in its place, and run it again",
        )

    # What is in the store already

    def _recognise(self, head: int) -> None:
        """Compare what is there. Raises `OtherHistoryError` for the first difference."""
        for group in self._ranges.groups:
            if group.first > head:
                break
            is_same = self._is_there(group, min(group.last, head))
            if not is_same:
                self._refuse(group, head)
            self._recognised = min(group.last, head) - self._ranges.first + 1
            self._tell("reading", self._recognised)

    def _is_there(self, group: ArchivedGroup, last: int) -> bool:
        """Whether the slices of a group up to a position are in the store."""
        if last < group.last:
            expected = digest_of(one for one in self._read(group) if one.position <= last)
        else:
            expected = group.record.sha256
        digest = SliceDigest()
        for slices in slice_pages(self._backend, group.first - 1, last):
            digest.update(map(astuple, slices))
            self._newest = slices[-1]
        return digest.digest() == expected

    def _refuse(self, group: ArchivedGroup, head: int) -> None:
        """Raises `OtherHistoryError`, with the first slice that is another one."""
        archived = iter(self._read(group))
        for slices in slice_pages(self._backend, group.first - 1, min(group.last, head)):
            for stored in slices:
                if next(archived, None) != stored:
                    begins = stored.position - stored.count + 1
                    raise self._other(begins, f"it has commit {UUID(bytes=stored.commit_id)} there")
        raise self._other(group.first, "its events are other ones")

    def _other(self, position: int, reason: str) -> OtherHistoryError:
        return OtherHistoryError(self._files.name, position, reason, self._written)

    # What is written

    def _write_after(self, head: int) -> None:
        """Write all commits that follow on the store's newest position."""
        commits = Commits(self._newest)
        writer = self._writer = HistoryWriter(self._backend, self._other, is_empty=head == 0)
        remaining = [one for one in self._ranges.groups if one.last > head]
        for group in remaining:
            slices = [one for one in self._read(group) if one.position > head]
            rest = commits.end() if group is remaining[-1] else ()
            try:
                for batch in batches(chain(commits.take(slices), rest)):
                    writer.write(batch)
                    self._tell("writing", self._recognised + writer.repeated + writer.written)
            except OddSliceError as error:
                raise self._odd(group, error.position, str(error)) from error
