"""Reads that are proven: everything returned is what was signed, and nothing was left out.

The log is gone through once, as verifying does, and an index of it is kept in the reader's memory:
for each slice that was signed a keyed digest, and for each stream, type and tag which slices have
it. What a query then returns is checked against that. The store's own tables and indexes are used
for speed, and never believed.
"""

from __future__ import annotations

import os
import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Sequence
from hashlib import blake2b
from struct import Struct
from typing import Any, Final, Generic, TypeVar

import msgspec

from everwhen.backends.query_matching import Matcher
from everwhen.codec.recorded_events import entries_of
from everwhen.codec.slice_bodies import Entry, decode_bodies
from everwhen.merkle.tamper_diagnosis import Fault, FaultKind, UnprovenError
from everwhen.vocabulary.contract import Page, StoredSlice
from everwhen.vocabulary.paging import ReadPage
from everwhen.vocabulary.query import Query, Selector
from everwhen.vocabulary.streams import category_of

R = TypeVar("R")

_DIGEST_BYTES: Final = 16
"""128 bits, keyed: nobody can make another slice fit."""
_JOINED_SLICES: Final = 100
"""Decoded in one call, whose cost they share."""
_pack: Final = Struct(">QQIqQIIqQ").pack
_NOTHING: Final = array("I")


class ProvenIndex(Generic[R]):
    """What was signed, slice by slice: about 60 bytes for each, and the names.

    Fill it by ``take`` and have it ``confirm`` that all of that was signed. It only ever grows:
    a reading goes as far as it had come when the reading began.
    """

    report: R
    """What was found when all of it was; not there before."""

    def __init__(self) -> None:
        self.position = 0
        """The last position that is signed."""
        self._key = os.urandom(32)
        self._positions = array("Q")
        self._versions = array("Q")
        self._counts = array("I")
        self._times = array("q")
        self._digests = bytearray()
        self._streams: dict[str, array[int]] = {}
        self._categories: dict[str, list[str]] = {}
        self._types: dict[str, array[int]] = {}
        self._tags: dict[str, array[int]] = {}

    def __len__(self) -> int:
        return len(self._positions)

    def take(self, slices: Sequence[StoredSlice]) -> None:
        """Take in slices, in their order; those that it has already are left away."""
        last = self._positions[-1] if self._positions else 0
        new = [stored for stored in slices if stored.position > last]
        for start in range(0, len(new), _JOINED_SLICES):
            part = new[start : start + _JOINED_SLICES]
            for stored, entries in zip(part, _entries(part), strict=True):
                self._add(stored, entries)

    def confirm(self, report: R) -> None:
        """All that was taken in is what was signed, as this report says."""
        self.report = report
        self.position = self._positions[-1] if self._positions else 0

    def _add(self, stored: StoredSlice, entries: Iterable[Entry]) -> None:
        ordinal = len(self._positions)
        self._digests += self._digest(stored)
        self._versions.append(stored.version)
        self._counts.append(stored.count)
        self._times.append(stored.recorded_at)
        self._positions.append(stored.position)
        if stored.stream not in self._streams:
            self._streams[stored.stream] = array("I")
            self._categories.setdefault(category_of(stored.stream), []).append(stored.stream)
        self._streams[stored.stream].append(ordinal)
        for name in {entry.type for entry in entries}:
            self._types.setdefault(name, array("I")).append(ordinal)
        for tag in {tag for entry in entries for tag in entry.tags or ()}:
            self._tags.setdefault(tag, array("I")).append(ordinal)

    def _digest(self, stored: StoredSlice) -> bytes:
        stream, metadata, body = stored.stream.encode(), stored.metadata, stored.body
        head = _pack(
            stored.position,
            stored.version,
            stored.count,
            stored.recorded_at,
            stored.first_index,
            len(stored.commit_id),
            len(stream),
            -1 if metadata is None else len(metadata),
            len(body),
        )
        data = b"".join((head, stored.commit_id, stream, metadata or b"", body))
        return blake2b(data, digest_size=_DIGEST_BYTES, key=self._key).digest()

    def ordinal_of(self, stored: StoredSlice) -> int | None:
        """Which of the signed slices it is; None for none of them."""
        ordinal = bisect_left(self._positions, stored.position)
        at = ordinal * _DIGEST_BYTES
        try:
            same = self._digest(stored) == self._digests[at : at + _DIGEST_BYTES]
        except (struct.error, UnicodeEncodeError, TypeError):
            same = False
        return ordinal if same else None

    def bounded(self, query: Query) -> Query:
        """The query up to what is signed, with its recorded time as the position it means."""
        last = self.position
        if query.recorded_until is not None:
            count = bisect_right(self._times, query.recorded_until)
            last = self._positions[count - 1] if count else 0
        if query.last_position is not None:
            last = min(last, query.last_position)
        return msgspec.structs.replace(query, last_position=last, recorded_until=None)

    def reading(self, query: Query) -> ProvenReading:
        """What the pages of a query, which is `bounded`, are checked against."""
        return ProvenReading(self, query)

    def candidates(self, selectors: Iterable[Selector]) -> Sequence[int]:
        """All that can match one of these, in order: more slices may, and none less."""
        found: set[int] = set()
        for selector in selectors:
            groups = [[self._tags.get(tag, _NOTHING)] for tag in selector.tags]
            if selector.types:
                groups.append([self._types.get(name, _NOTHING) for name in selector.types])
            if selector.streams:
                groups.append([self._streams.get(name, _NOTHING) for name in selector.streams])
            if selector.categories:
                named = [n for c in selector.categories for n in self._categories.get(c, ())]
                groups.append([self._streams[name] for name in named])
            if not groups:
                return range(len(self))
            groups.sort(key=lambda group: sum(map(len, group)))
            alone = groups[0][0] if len(groups) == 1 and len(groups[0]) == 1 else None
            if alone is not None and selectors == (selector,):
                return alone
            both = set[int]().union(*groups[0])
            for group in groups[1:]:
                both &= set[int]().union(*group)
            found |= both
        return sorted(found)

    def spanned(self, after: int, last: int) -> range:
        """The slices that reach beyond the position ``after``, and begin up to ``last``."""
        low = bisect_right(self._positions, after)
        return range(low, min(len(self), bisect_left(self._positions, last) + 1))

    def position_of(self, ordinal: int) -> int:
        """The last position of a slice."""
        return self._positions[ordinal]

    def reaches(self, ordinal: int, query: Query) -> bool:
        """Whether the query's versions let anything of the slice through."""
        version = self._versions[ordinal]
        low, high = query.min_version, query.max_version
        return (low is None or version >= low) and (
            high is None or version - self._counts[ordinal] < high
        )


class ProvenReading:
    """One query's pages, checked against what was signed. ``query`` has been ``bounded``."""

    def __init__(self, index: ProvenIndex[Any], query: Query) -> None:
        self._index = index
        self._query = query
        self._matcher = Matcher(query)
        self._candidates = index.candidates(query.selectors)
        last = index.position if query.last_position is None else query.last_position
        span = index.spanned(query.after_position, last)
        self._low, self._high = span.start, max(span.start, span.stop)
        self._before: int | None = None

    def left_out(self, page: Page) -> list[int]:
        """The signed slices that may match and aren't in the page where they would stand.

        To be given to `judge`. Raises `UnprovenError` for a slice that was never signed, or that
        comes again.
        """
        index, found, before = self._index, set[int](), self._before
        for stored in page.slices:
            ordinal = index.ordinal_of(stored)
            if ordinal is None:
                raise UnprovenError(_not_signed(index, stored))
            if before is not None and (ordinal >= before) is self._query.reverse:
                what = f"the slice at position {stored.position:,} is there twice, or out of order"
                raise UnprovenError(_fault(FaultKind.REORDERED, what, stored.position))
            found.add(ordinal)
            before = ordinal
        self._before = before
        covered = self._covered(page)
        candidates = self._candidates
        first = bisect_left(candidates, covered.start)
        stop = bisect_left(candidates, covered.stop)
        return [
            ordinal
            for ordinal in candidates[first:stop]
            if ordinal not in found and index.reaches(ordinal, self._query)
        ]

    def _covered(self, page: Page) -> range:
        """The slices that a page is about; what is left is for the next ones."""
        low, high = self._low, self._high
        if self._query.reverse:
            if not page.end:
                low = max(low, self._index.spanned(page.cursor - 1, page.cursor).start)
            self._high = low
        else:
            if not page.end:
                high = min(high, self._index.spanned(page.cursor, page.cursor).start)
            self._low = high
        return range(low, max(low, high))

    def judge(self, read: ReadPage, ordinals: Collection[int]) -> None:
        """Look at each of these in the store. Raises `UnprovenError` where one does match."""
        for ordinal in ordinals:
            position = self._index.position_of(ordinal)
            one = Query(after_position=position - 1, last_position=position)
            slices = [s for s in read(one, 1).slices if s.position == position]
            if not slices:
                what = f"the slice at position {position:,} was signed, and is missing"
                raise UnprovenError(_fault(FaultKind.REMOVED, what, position))
            (stored,) = slices[:1]
            if self._index.ordinal_of(stored) != ordinal:
                raise UnprovenError(_not_signed(self._index, stored))
            picked = self._matcher.picked(stored, entries_of(stored))
            if picked is None or picked:
                what = (
                    f"the slice at position {position:,} of {stored.stream!r} is there, and the "
                    f"store's tables leave it out of what was asked for"
                )
                raise UnprovenError(_fault(FaultKind.HIDDEN, what, position))


def _not_signed(index: ProvenIndex[Any], stored: StoredSlice) -> Fault:
    position = stored.position
    known = index.spanned(position - 1, position)
    if known and index.position_of(known.start) == position:
        what = f"the slice at position {position:,} is not the one that was signed"
        return _fault(FaultKind.CHANGED, what, position)
    what = f"the slice at position {position:,} was never signed there"
    return _fault(FaultKind.INSERTED, what, position)


def _fault(kind: FaultKind, what: str, position: int) -> Fault:
    return Fault(kind, what, position=position)


def _entries(slices: Sequence[StoredSlice]) -> list[list[Entry]]:
    """The slices' entries. Raises `CorruptStoreError`."""
    try:
        decoded = decode_bodies(b"[%b]" % b",".join([stored.body for stored in slices]))
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError, RecursionError):
        decoded = []
    if [len(entries) for entries in decoded] != [stored.count for stored in slices]:
        return [entries_of(stored) for stored in slices]
    return decoded
