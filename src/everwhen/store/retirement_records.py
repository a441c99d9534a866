"""What the history itself says of its beginning that was retired."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from everwhen.codec.slice_bodies import decode_entries
from everwhen.vocabulary.contract import StoredSlice
from everwhen.vocabulary.errors import CorruptStoreError, RetiredError
from everwhen.vocabulary.events import Event
from everwhen.vocabulary.paging import PAGE_EVENTS, ReadPage, next_page
from everwhen.vocabulary.query import Query

RETIREMENTS: Final = "everwhen-retirements"
"""The stream that retirements are recorded in."""


class HistoryRetired(Event):
    """History was given up: the events at positions ``first`` to ``last`` are no longer kept.

    ``sha256`` is the digest of what they were (`everwhen.codec.slice_digest`). ``commits`` counts
    all commits of the store up to ``last``, and ``leaf`` is the newest one's hash in the Merkle
    log, both in hexadecimal: by these the log of all that came after is verified.
    ``lost`` counts the streams of which no snapshot holds what these events came to.
    """

    first: int
    last: int
    events: int
    commits: int
    leaf: str
    sha256: str
    lost: int


class RetirementRecord(NamedTuple):
    """A record of a retirement, and the slice that it stands in."""

    event: HistoryRetired
    stored: StoredSlice


_decode: Final = msgspec.json.Decoder(HistoryRetired).decode


def recorded_in(stored: StoredSlice) -> HistoryRetired | None:
    """The retirement that a slice records; None for what isn't a record of one."""
    try:
        (entry,) = decode_entries(stored.body)
        return _decode(entry.data) if entry.type == HistoryRetired.__name__ else None
    except ValueError:  # of which msgspec's and Unicode's are
        return None


def retired_end(read: ReadPage) -> int:
    """The last position that the store says was retired; 0 where none was."""
    try:
        read(Query(last_position=1), 1)
    except RetiredError as error:
        return error.last
    except CorruptStoreError:  # which whoever goes on to read is told, with the place
        pass
    return 0


def newest_record(read: ReadPage, last: int) -> RetirementRecord | None:
    """The newest record of a retirement up to a position; if there is none, the newest of all.

    One that is newer may be of a retirement that isn't carried out yet.
    """
    query = Query().stream(RETIREMENTS).backwards().skipping_retired()
    newest: RetirementRecord | None = None
    while True:
        page = read(query, PAGE_EVENTS)
        for stored in page.slices:
            event = recorded_in(stored)
            if event is not None and stored.stream == RETIREMENTS:
                record = RetirementRecord(event, stored)
                if event.last == last:
                    return record
                newest = newest or record
        if page.end:
            return newest
        query = next_page(query, page)
