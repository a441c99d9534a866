"""The judgement of what several clients did at the same time, and of the log that came of it.

Each operation says when it began and ended, by a clock that all clients of the machine share. The
log itself gives the order in which writes took effect. So there is nothing to search for: an order
that time forbids, or an answer that the log contradicts, is a fault.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal

import msgspec

Result = Literal["written", "conflict", "condition", "read", "saved", "open"]
"""What came of an operation; ``open`` where its client was never told."""


class Operation(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one thread of one client did between two moments, in seconds, and what it was told.

    A client is whoever uses one replica. ``position`` is a receipt's, that of the newest event that
    was read, or of the checkpoint that was saved; ``recorded`` is a receipt's time. A conflict says
    the stream's ``actual`` version, a condition the position of the ``match``.
    """

    client: str
    thread: str
    began: float
    ended: float
    result: Result
    key: str = ""
    position: int = 0
    recorded: str = ""
    is_fresh: bool = False
    stream: str = ""
    expected: int = 0
    actual: int = 0
    match: int = 0


class Logged(msgspec.Struct, frozen=True):
    """An event of the log. ``key`` is that of the operation which wrote it.

    ``expected`` is the version of its stream that the writer demanded; ``unique`` is the tag of
    which it demanded that no event after ``after`` has it.
    """

    position: int
    key: str
    stream: str
    version: int
    recorded: str
    expected: int | None = None
    unique: str | None = None
    after: int = 0


ENDLESS: Final = float("inf")


def faults_in_history(operations: Iterable[Operation], log: Sequence[Logged]) -> list[str]:
    """Everything that must not be, in words; ``log`` is all of it, in the order of positions."""
    done = sorted(operations, key=lambda operation: operation.ended)
    written = [operation for operation in done if operation.result == "written"]
    reads = [operation for operation in done if operation.result == "read"]
    return [
        *faults_of_log(log),
        *_broken_receipts(written, log),
        *_broken_order(written, "a position"),
        *_broken_order([o for o in done if o.result == "saved"], "a checkpoint"),
        *_old_reads(reads, written),
        *_early_reads(reads, written, log),
        *_steps_back(reads),
        *_wrong_refusals(done, log),
    ]


def faults_of_log(log: Sequence[Logged]) -> Iterator[str]:
    """Holes, guards that didn't hold where they were written, times that step back."""
    versions: dict[str, int] = {}
    having: dict[str, int] = {}
    for number, event in enumerate(log, 1):
        if event.position != number:
            yield f"position {event.position} comes as number {number}"
        before = versions.get(event.stream, 0)
        versions[event.stream] = event.version
        if event.version != before + 1:
            yield f"version {event.version} of {event.stream} follows on {before}"
        if event.expected not in {None, before}:
            yield f"{event.key} demanded version {event.expected} of {event.stream}, not {before}"
        if event.unique is not None:
            if having.get(event.unique, 0) > event.after:
                yield f"{event.key} is not the first of {event.unique} after {event.after}"
            having[event.unique] = event.position
    for earlier, later in itertools.pairwise(log):
        if later.recorded < earlier.recorded:
            yield f"the time of position {later.position} steps back"


def _broken_receipts(written: Sequence[Operation], log: Sequence[Logged]) -> Iterator[str]:
    places: dict[str, list[Logged]] = {}
    for event in log:
        places.setdefault(event.key, []).append(event)
    for key, events in places.items():
        if [event.position for event in events] != list(
            range(events[0].position, events[-1].position + 1)
        ):
            yield f"{key} was written twice, or torn"
    for operation in written:
        found = places.get(operation.key)
        if not found:
            yield f"{operation.key} was acknowledged and is lost"
        elif found[-1].position != operation.position:
            yield (
                f"{operation.key} was acknowledged at {operation.position}, and is at "
                f"{found[-1].position}"
            )
        elif found[-1].recorded != operation.recorded:
            yield f"{operation.key} was acknowledged with another time than it has"


def _broken_order(done: Sequence[Operation], what: str) -> Iterator[str]:
    """What ended before another one began comes before it; and none is given twice."""
    ordered = sorted(done, key=lambda operation: operation.position)
    for one, other in itertools.pairwise(ordered):
        if one.position == other.position:
            yield f"{one.thread} and {other.thread} were both given {what} {one.position}"
    earliest_end, whose = ENDLESS, ""
    for operation in reversed(ordered):
        if earliest_end < operation.began:
            yield (
                f"{operation.key} began after {whose} had ended, and was given {what} before it: "
                f"{operation.position}"
            )
        if operation.ended < earliest_end:
            earliest_end, whose = operation.ended, operation.key


class _Newest:
    """The newest position that was acknowledged by a moment."""

    def __init__(self, written: Iterable[Operation]) -> None:
        self._moments: list[float] = []
        self._positions: list[int] = []
        for operation in sorted(written, key=lambda operation: operation.ended):
            known = self._positions[-1] if self._positions else 0
            self._moments.append(operation.ended)
            self._positions.append(max(known, operation.position))

    def before(self, moment: float) -> int:
        found = bisect.bisect_left(self._moments, moment)
        return self._positions[found - 1] if found else 0


def _old_reads(reads: Sequence[Operation], written: Sequence[Operation]) -> Iterator[str]:
    """A fresh read sees all that was acknowledged before it began, others their client's own."""
    of_all = _Newest(written)
    of_client = {
        client: _Newest(operation for operation in written if operation.client == client)
        for client in {read.client for read in reads}
    }
    for read in reads:
        newest = of_all if read.is_fresh else of_client[read.client]
        due = newest.before(read.began)
        if read.position < due:
            kind = "fresh" if read.is_fresh else "own"
            yield (
                f"a read of {read.thread} ({kind}) at {read.began:.3f} saw {read.position}, and "
                f"{due} was acknowledged before"
            )


def _early_reads(
    reads: Sequence[Operation], written: Sequence[Operation], log: Sequence[Logged]
) -> Iterator[str]:
    """No read sees what its writer hasn't begun to write yet, or what isn't in the log."""
    by_position = sorted(written, key=lambda operation: operation.position)
    positions = [operation.position for operation in by_position]
    latest = list(itertools.accumulate((operation.began for operation in by_position), max))
    for read in reads:
        if read.position > len(log):
            yield f"a read of {read.thread} saw {read.position}, and the log ends at {len(log)}"
        seen = bisect.bisect_right(positions, read.position)
        if seen and latest[seen - 1] > read.ended:
            yield f"a read of {read.thread} saw {read.position} before it was begun"


def _steps_back(reads: Sequence[Operation]) -> Iterator[str]:
    """What a client has seen in one read it sees in each that begins later."""
    for client in sorted({read.client for read in reads}):
        own = [read for read in reads if read.client == client]
        seen = _Newest(own)
        for read in own:
            due = seen.before(read.began)
            if read.position < due:
                yield f"{read.thread} saw {read.position} after {client} had seen {due}"


def _wrong_refusals(done: Sequence[Operation], log: Sequence[Logged]) -> Iterator[str]:
    """A refusal names what was so at some moment of its operation."""
    begun = {operation.key: operation.began for operation in done}
    ended = {o.key: o.ended for o in done if o.result == "written"}
    places = {(event.stream, event.version): event for event in log}
    keys = {event.key for event in log}
    for operation in done:
        if operation.result in {"conflict", "condition"} and operation.key in keys:
            yield f"{operation.key} was refused, and was written"
        if operation.result == "conflict":
            named = places.get((operation.stream, operation.actual))
            follower = places.get((operation.stream, operation.actual + 1))
            if operation.actual == operation.expected:
                yield f"{operation.key} was refused, and its belief held"
            if named is None and operation.actual:
                yield f"{operation.key} was refused for a version that isn't in the log"
            if follower is not None and ended.get(follower.key, ENDLESS) < operation.began:
                yield f"{operation.key} was refused for a version that was long gone"
        elif operation.result == "condition":
            if not 0 < operation.match <= len(log):
                yield f"{operation.key} was refused for an event that isn't in the log"
                continue
            named = log[operation.match - 1]
        else:
            continue
        if named is not None and begun.get(named.key, 0) > operation.ended:
            yield f"{operation.key} was refused for what was not yet begun"
