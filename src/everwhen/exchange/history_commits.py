"""Stored slices as the commits that they were, judged before they are written again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from everwhen.backends.commit_checks import SliceCheck
from everwhen.codec.slice_bodies import Entry, with_extras
from everwhen.exchange.restoring import MAX_COMMIT_BYTES
from everwhen.vocabulary.contract import (
    MAX_SLICE_EVENTS,
    MAX_STORED_BYTES,
    Condition,
    EncodedCommit,
    EncodedSlice,
    Receipt,
    StoredSlice,
    recorded_micros,
)
from everwhen.vocabulary.errors import EverwhenError, InvalidEventError
from everwhen.vocabulary.metadata import CommitMetadata
from everwhen.vocabulary.nesting import TOO_DEEP
from everwhen.vocabulary.query import Query
from everwhen.vocabulary.validation import check_stream, check_tags, check_text, check_type_name

_BATCH_EVENTS: Final = 1_000
_BATCH_BYTES: Final = 4 << 20
"""What is appended together, about: one sync of the disk pays for many commits."""

_MAX_SCHEMA_VERSION: Final = (1 << 31) - 1


class OddSliceError(ValueError):
    """A slice that no store would have written, at a position; says what is wrong with it."""

    def __init__(self, position: int, reason: str) -> None:
        self.position = position
        super().__init__(reason)


class HistoryCommit:
    """A commit as it was: ``slices`` are as stored, ``parts`` what a backend takes."""

    def __init__(self, first: StoredSlice, part: EncodedSlice) -> None:
        self.slices = [first]
        self.parts = [part]
        self.size = 0

    @property
    def first(self) -> StoredSlice:
        """The first slice."""
        return self.slices[0]

    @property
    def last(self) -> StoredSlice:
        """The last slice."""
        return self.slices[-1]

    @property
    def before(self) -> int:
        """The position that the commit follows on."""
        return self.first.position - self.first.count

    @property
    def events(self) -> int:
        """How many events the commit has."""
        return self.last.position - self.before

    @property
    def versions(self) -> dict[str, int]:
        """The versions of the commit's streams after it."""
        return {part.stream: part.version for part in self.slices}

    def encoded(self, previous: StoredSlice | None) -> EncodedCommit:
        """The commit for a backend: refused unless all before it is written, and nothing else.

        ``previous`` is the slice before it, if that is written together with this.
        """
        expected = () if previous is None else ((previous.stream, previous.version),)
        return EncodedCommit(
            self.first.commit_id,
            tuple(self.parts),
            expected,
            Condition(Query(), self.before),
            self.first.metadata,
            self.first.recorded_at,
        )

    def difference(self, receipt: Receipt) -> str | None:
        """What became otherwise than it was; None where nothing did."""
        if receipt.position != self.last.position:
            return f"its last event is at position {receipt.position:,}"
        if recorded_micros(receipt) != self.first.recorded_at:
            return f"it was recorded at {receipt.recorded_at.isoformat()}"
        for stream, version in self.versions.items():
            if receipt.versions.get(stream) != version:
                return f"stream {stream!r} is at version {receipt.versions.get(stream)}"
        return None


class Commits:
    """Puts slices together to commits, which may have been cut anywhere between two slices.

    ``after`` is the last slice that is in the store already. Raises `OddSliceError`.
    """

    def __init__(self, after: StoredSlice | None) -> None:
        self._checking = SliceCheck()
        if after is not None:
            self._checking.go_on_after(after.position, after.recorded_at)
        self._open: HistoryCommit | None = None

    def take(self, slices: Iterable[StoredSlice]) -> Iterator[HistoryCommit]:
        """Take in the slices that follow; the commits that end before the last of them."""
        for stored in slices:
            part = self._judged(stored)
            begun = self._open
            if begun is None or stored.commit_id != begun.first.commit_id:
                if begun is not None:
                    yield begun
                begun = self._open = HistoryCommit(stored, part)
            else:
                _check_goes_on(begun, stored)
                begun.slices.append(stored)
                begun.parts.append(part)
            begun.size += len(stored.body)
            if begun.size > MAX_COMMIT_BYTES:
                raise OddSliceError(stored.position, "its commit is larger than 1 GiB")

    def end(self) -> Iterator[HistoryCommit]:
        """The last commit: nothing follows."""
        if self._open is not None:
            yield self._open

    def _judged(self, stored: StoredSlice) -> EncodedSlice:
        for problem in self._checking.problems(stored):
            if TOO_DEEP not in problem.what:  # an older Everwhen stored it, and reads it
                raise OddSliceError(stored.position, problem.what)
        if stored.count > MAX_SLICE_EVENTS:
            raise OddSliceError(stored.position, f"it has {stored.count:,} events in one slice")
        size = len(stored.body) + len(stored.metadata or b"")
        if size > MAX_STORED_BYTES:
            raise OddSliceError(stored.position, f"it has {size:,} bytes")
        entries = self._checking.entries or []
        try:
            check_stream(stored.stream)
            _check_metadata(stored)
            for entry in entries:
                _check_entry(entry)
        except (EverwhenError, msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise OddSliceError(stored.position, str(error)) from error
        return EncodedSlice(
            stored.stream,
            stored.count,
            stored.body,
            tuple(dict.fromkeys(entry.type for entry in entries)),
            tuple(dict.fromkeys(tag for entry in entries for tag in entry.tags)),
        )


def batches(commits: Iterable[HistoryCommit]) -> Iterator[list[HistoryCommit]]:
    """The commits, some at once. Where taking one raises `OddSliceError`, those before it first."""
    batch: list[HistoryCommit] = []
    events = size = 0
    odd: OddSliceError | None = None
    try:
        for commit in commits:
            batch.append(commit)
            events += commit.events
            size += commit.size
            if events >= _BATCH_EVENTS or size >= _BATCH_BYTES:
                yield batch
                batch, events, size = [], 0, 0
    except OddSliceError as error:
        odd = error
    if batch:
        yield batch
    if odd is not None:
        raise odd


def _check_entry(entry: Entry) -> None:
    check_type_name(entry.type, InvalidEventError)
    check_tags(entry.tags, entry.type)
    if not 0 < entry.schema_version <= _MAX_SCHEMA_VERSION:
        raise InvalidEventError(f"{entry.schema_version} is not a schema version")
    if entry.metadata is not None and entry.metadata.id is not None:
        check_text(entry.metadata.id, "event id")


def _check_metadata(stored: StoredSlice) -> None:
    if stored.metadata is not None and not stored.first_index:
        with_extras(stored.metadata, CommitMetadata)


def _check_goes_on(commit: HistoryCommit, stored: StoredSlice) -> None:
    first = commit.first
    if (stored.recorded_at, stored.metadata) != (first.recorded_at, first.metadata):
        raise OddSliceError(
            stored.position, "its commit has another time or other metadata in the slice before"
        )
