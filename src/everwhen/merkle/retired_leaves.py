"""Where a history goes on whose beginning was retired, as the record of that says.

The leaves of retired commits are in the log's tiles alone. The record says how many there are and
what the newest one's is: so the first commit that is left goes on from it, as each does from the
one before.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import msgspec

from everwhen.store.retirement_records import RetirementRecord, newest_record
from everwhen.vocabulary.errors import MerkleLogError
from everwhen.vocabulary.paging import ReadPage
from everwhen_verify.merkle import HASH_SIZE


class RetiredHistory(msgspec.Struct, frozen=True):
    """The beginning of a history that was retired: its hashes are verified, its content is gone.

    It is the first ``commits``, up to the position ``last``. The event at position ``record`` says
    so, and was recorded at ``recorded_at``; ``is_signed`` says that this event is signed. On a
    branch, whose parent's history was retired after the branch was made, ``record`` is None: the
    event is in the parent alone.
    """

    last: int
    commits: int
    record: int | None
    recorded_at: datetime
    is_signed: bool


class RetiredPart(NamedTuple):
    """What was retired: ``commits`` up to the position ``last``, the newest of which had ``leaf``.

    ``record`` is what says so. It is not ``own`` where another history has it: a branch's parent.
    """

    last: int
    commits: int
    leaf: bytes
    record: RetirementRecord | None
    own: bool = True


class Unrecorded(NamedTuple):
    """Why no record says what is gone; ``is_missing`` unless there is one that can't be read."""

    is_missing: bool
    what: str


def retired_part(
    read: ReadPage, last: int, elsewhere: RetirementRecord | None = None
) -> RetiredPart | Unrecorded:
    """What was retired, as the newest record says that fits the position ``last``.

    Where the history itself has none, it is ``elsewhere``, in a branch's parent.
    """
    record, own = newest_record(read, last), True
    if elsewhere is not None and (record is None or record.event.last != last):
        record, own = elsewhere, False
    if record is None:
        return Unrecorded(
            is_missing=True,
            what=f"everything up to position {last:,} is gone, and no event of the history says "
            f"that it was retired",
        )
    event, place = record.event, f"the record of a retirement at position {record.stored.position}"
    if event.last != last:
        return Unrecorded(
            is_missing=True,
            what=f"everything up to position {last:,} is gone, and no event of the history says "
            f"that it was retired: {place}, the newest there is, says it of positions up to "
            f"{event.last:,}",
        )
    try:
        leaf = bytes.fromhex(event.leaf)
    except ValueError:
        leaf = b""
    if len(leaf) != HASH_SIZE or not 0 < event.commits <= last:
        return Unrecorded(is_missing=False, what=f"{place} isn't one that Everwhen writes: {event}")
    return RetiredPart(last, event.commits, leaf, record, own)


def unsigned_error(last: int, signed: int) -> MerkleLogError:
    """The error for a log that would need the leaves of commits that are gone."""
    return MerkleLogError(
        f"history up to position {last:,} was retired before all of it was signed here, only "
        f"{signed:,} commits are: nobody can compute the hashes of the others any more, so this "
        f"log can't go on"
    )
