"""What a server answers, checked before anybody relies on it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from everwhen.backends.remote.messages import PageMessage
from everwhen.codec.blocks import SliceFields
from everwhen.vocabulary.contract import (
    MAX_SLICE_EVENTS,
    EncodedCommit,
    Page,
    Receipt,
    StoredSlice,
    recorded_micros,
)
from everwhen.vocabulary.errors import CorruptStoreError
from everwhen.vocabulary.microseconds import FIRST_MICROS, LAST_MICROS
from everwhen.vocabulary.query import Query
from everwhen.vocabulary.streams import MAX_POSITION

_ID_BYTES = 16


def strange(what: str) -> CorruptStoreError:
    """The error for an answer that no log gives."""
    return CorruptStoreError(
        f"the server answered what no log does ({what}); see that it is an Everwhen server, and "
        f"check() its store"
    )


def page_of(message: PageMessage, query: Query) -> Page:
    """The page, in the order and within the bounds that were asked for.

    Raises `CorruptStoreError` for any other.
    """
    cursor, slices = message.cursor, slices_of(message.slices)
    last = MAX_POSITION if query.last_position is None else query.last_position
    places = [s.position for s in slices]
    if any(s.position <= query.after_position or s.position - s.count >= last for s in slices):
        raise strange("a page of other positions than those that were asked for")
    if query.reverse:
        _check_ascending(places[::-1])
        before = slices[-1].position - slices[-1].count + 1 if slices else last
        is_sound = message.end or 1 <= cursor <= min(before, last)
    else:
        _check_ascending(places)
        is_sound = cursor >= max((*places[-1:], query.after_position))
        is_sound = is_sound and (message.end or cursor > query.after_position)
    if not is_sound or not 0 <= cursor <= MAX_POSITION:
        raise strange(f"a page that ends at {cursor}")
    return Page(slices, cursor, message.end)


def commit_of(fields: Sequence[SliceFields], commit_id: bytes) -> list[StoredSlice]:
    """A commit's slices. Raises `CorruptStoreError` for those of another one."""
    slices = slices_of(fields)
    _check_ascending([s.position for s in slices])
    if any(s.commit_id != commit_id for s in slices):
        raise strange("another commit than the one that was asked for")
    return slices


def slices_of(fields: Sequence[SliceFields]) -> list[StoredSlice]:
    """Slices whose numbers can be. Raises `CorruptStoreError`."""
    slices = [StoredSlice(*each) for each in fields]
    for s in slices:
        if (
            not 1 <= s.count <= MAX_SLICE_EVENTS
            or not s.count <= s.position <= MAX_POSITION
            or not s.count <= s.version <= MAX_POSITION
            or not 0 <= s.first_index <= MAX_POSITION
            or not FIRST_MICROS <= s.recorded_at <= LAST_MICROS
            or len(s.commit_id) != _ID_BYTES
        ):
            raise strange(f"a slice at {s.position} whose numbers can't be")
    return slices


def _check_ascending(positions: Sequence[int]) -> None:
    if any(one >= other for one, other in pairwise(positions)):
        raise strange("slices out of order")


def receipt_for(commit: EncodedCommit, receipt: Receipt) -> Receipt:
    """The receipt, which is for this commit. Raises `CorruptStoreError` for any other."""
    events = sum(part.count for part in commit.slices)
    if (
        receipt.commit_id.bytes != commit.id
        or receipt.versions.keys() != {part.stream for part in commit.slices}
        or not events <= receipt.position <= MAX_POSITION
        or not all(1 <= version <= MAX_POSITION for version in receipt.versions.values())
        or not FIRST_MICROS <= recorded_micros(receipt) <= LAST_MICROS
    ):
        raise strange("a receipt for something else")
    return receipt
