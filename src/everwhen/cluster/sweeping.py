"""Objects of large messages to which no message refers, nor will: they are deleted.

An object is named after the place of its message: in a log, directly behind a sequence. A message
is only ever written where that is the log's newest. So once another one stands behind it, or the
log ends before it, no writer can come any more. Where nothing is behind yet, one may be at work.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import msgspec

from everwhen.backends.jetstream.address import MAIN, ClusterAddress
from everwhen.backends.jetstream.connection import Connection
from everwhen.backends.jetstream.large_messages import LargeMessageName, LargeMessages
from everwhen.backends.jetstream.messages import message_id
from everwhen.backends.jetstream.stream_setup import opened_stream
from everwhen.backends.jetstream.subject_log import SubjectLog
from everwhen.vocabulary.errors import CorruptStoreError


class SweptObject(msgspec.Struct, frozen=True):
    """An object that was deleted; ``bytes`` is None for one that was never written to its end."""

    name: str
    bytes: int | None


def sweep_objects(url: str, *, busy_timeout: float = 30.0) -> list[SweptObject]:
    """Delete the objects of large messages that are in no log, and can't get into one any more.

    Their writers were overtaken or died, or their branch was deleted. Others may go on to write:
    what may still be referred to stays, and so do copies of replicas that are offered. Where a
    branch is shorter than it was, that is looked at for some seconds before it is believed.

    Raises `StorageError` where the cluster can't be read, and `CorruptStoreError` for a log that
    something else has written to.
    """
    address = ClusterAddress.parsed(url)
    connection = Connection(address, busy_timeout)
    try:
        opened_stream(connection, address, read_only=True, patience=busy_timeout)
        objects = LargeMessages(connection, address.stream, address.copies, busy_timeout)
        by_log: dict[str, list[LargeMessageName]] = {}
        for name in objects.names():
            if (place := LargeMessageName.parsed(name)) is not None:
                by_log.setdefault(place.log, []).append(place)
        swept = []
        for log, places in by_log.items():
            subject = address.beside(log, address.replica).subject
            found = SubjectLog(connection, address.stream, subject, busy_timeout)
            for orphan in map(str, _orphans(found, places, may_end=log != MAIN)):
                swept.append(SweptObject(orphan, objects.size(orphan)))
                objects.delete(orphan)
        return swept
    finally:
        connection.close()


def _orphans(
    log: SubjectLog, places: Sequence[LargeMessageName], *, may_end: bool
) -> Iterator[LargeMessageName]:
    """Those that nothing refers to or will; ``may_end`` says whether the log can be deleted."""
    unknown = []
    for place in places:
        found = log.next(place.after)
        if found is None:
            unknown.append(place)
        elif message_id(found.data, log.place_of(found.seq)) != place.id:
            yield place
    furthest = max((place.after for place in unknown), default=0)
    if may_end and _ends_before(log, furthest):
        last = log.last()
        yield from (place for place in unknown if place.after > last or not last)


def _ends_before(log: SubjectLog, seq: int) -> bool:
    """Whether it does so for as long as a server goes on that was cut off."""
    with contextlib.suppress(CorruptStoreError):
        log.check_length(seq)
        return False
    return True
