"""What a store promises, as values: this module knows no backend and does no I/O.

A *slice* is one stream's events in one commit. It is the unit that travels: the codec makes its
body once, every backend and wrapper keeps those exact bytes, and readers decode them on demand.

Times on this level are microseconds since 1970-01-01 UTC, as integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final, TypeAlias
from uuid import UUID

import msgspec

from everwhen.vocabulary.errors import DeclarationError, EverwhenError, RefusedError
from everwhen.vocabulary.microseconds import from_micros
from everwhen.vocabulary.streams import ExpectedVersion, category_of

if TYPE_CHECKING:
    from everwhen.vocabulary.notebook_html import TableRow
    from everwhen.vocabulary.query import Query


MAX_SLICE_EVENTS: Final = 1_000
"""A slice is decoded and hashed as a whole, so a larger write takes several."""
MAX_SLICE_BYTES: Final = 1 << 20
"""Several events share a slice up to here; one event alone may be larger."""
MAX_EVENT_BYTES: Final = 16 << 20
"""A document with its pictures; larger things are files, which an event refers to."""
MAX_STORED_BYTES: Final = 64 << 20
"""The most that a slice takes, together with its commit's metadata."""
MAX_KEPT_BYTES: Final = 256 << 20
"""The most that a checkpoint's data or a snapshot's state takes."""
MAX_NAME_BYTES: Final = 512
"""Of a stream, type or tag: several are in one index row, which should fit on a page."""
MAX_DEPTH: Final = 100
"""How many objects and lists may be inside one another: what most JSON tools take, and a tenth of
what the interpreter's own limit allows, so that code that calls from deep down still reads it."""


class Condition(msgspec.Struct, frozen=True):
    """A writer's belief about a query: nothing that matches was written after a position.

    The dynamic consistency boundary: read the events a decision rests on, decide, and append
    under the condition that no further such event has come since the position of that read.
    """

    query: Query
    after: int


class EncodedSlice(msgspec.Struct, frozen=True):
    """One stream's events of a commit, encoded. ``body`` is a JSON array, see `everwhen.codec`.

    ``types`` and ``tags`` are what is in the body, each once, for the backend's index.
    """

    stream: str
    count: int
    body: bytes
    types: tuple[str, ...]
    tags: tuple[str, ...]


class EncodedCommit(msgspec.Struct, frozen=True):
    """What a backend writes, all or nothing, in this order and at contiguous positions.

    ``expected`` holds a belief per stream, about its version before all of the slices.
    ``recorded_at`` is None for the store's clock, or a time for an imported commit. ``is_fresh``
    says that the id was made for this commit just now, so nobody can have used it before.
    """

    id: bytes
    slices: tuple[EncodedSlice, ...]
    expected: tuple[tuple[str, ExpectedVersion], ...]
    condition: Condition | None = None
    metadata: bytes | None = None
    recorded_at: int | None = None
    is_fresh: bool = False


class StoredSlice(msgspec.Struct, frozen=True, gc=False):
    """A slice as stored. ``position`` and ``version`` are those of its last event.

    ``first_index`` counts the events of the same commit that stand before the slice.
    """

    position: int
    stream: str
    version: int
    count: int
    recorded_at: int
    commit_id: bytes
    first_index: int
    metadata: bytes | None
    body: bytes


class Page(msgspec.Struct, frozen=True):
    """One page of a query: slices that may hold matches, and where the next page begins.

    A page is whole slices, so the reader still picks the events
    (`everwhen.backends.query_matching`). The slices are a list, or another sequence that makes
    them when it is asked: a `everwhen.codec.blocks.Block`, whose columns can be worked on as they
    are. The next page is the same query after (or, backwards, before) ``cursor``. ``end`` says that
    there is none; forwards, ``cursor`` is then how far the store had come, so what follows it is
    new.
    """

    slices: Sequence[StoredSlice]
    cursor: int
    end: bool


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """What an append did. ``position`` is the last event's; ``versions`` the streams' new ones.

    ``repeated`` is True where the commit id was known already and nothing was written.
    """

    _commit_id: bytes
    position: int
    _recorded_at: int
    versions: dict[str, int]
    repeated: bool = False

    @property
    def commit_id(self) -> UUID:
        """The commit's id, given or made."""
        return UUID(bytes=self._commit_id)

    @property
    def recorded_at(self) -> datetime:
        """When the store recorded it, in UTC."""
        return from_micros(self._recorded_at)

    def __repr__(self) -> str:
        return (
            f"Receipt(commit_id={self.commit_id}, position={self.position}, "
            f"recorded_at={self.recorded_at.isoformat()}, versions={self.versions}, "
            f"repeated={self.repeated})"
        )

    def _html_row_(self) -> TableRow:
        from everwhen.vocabulary.notebook_html import TableRow, element, listed

        streams = listed([f"{stream}@{version}" for stream, version in self.versions.items()])
        cells = (
            self.position,
            self.recorded_at,
            element("bdi", streams),
            str(self.commit_id),
            "repeated, nothing was written" if self.repeated else "written",
        )
        return TableRow(("position", "recorded", "streams", "commit", "outcome"), cells)

    def _repr_html_(self) -> str:
        from everwhen.vocabulary.notebook_html import card, heading, rows_table

        return card(heading("Receipt", ""), rows_table([self], "receipt"))


def recorded_micros(receipt: Receipt) -> int:
    """When the store recorded it, in microseconds since 1970 UTC."""
    return receipt._recorded_at


Outcome: TypeAlias = Receipt | EverwhenError


class Head(msgspec.Struct, frozen=True):
    """The newest event's position and time; position 0 for an empty store."""

    position: int
    recorded_at: datetime | None


class StreamInfo(msgspec.Struct, frozen=True):
    """A stream and where it stands; ``position`` is that of its last event."""

    name: str
    version: int
    position: int
    recorded_at: datetime

    @property
    def category(self) -> str:
        """The part of the name before its first ``-``."""
        return category_of(self.name)


class Checkpoint(msgspec.Struct, frozen=True):
    """How far a projection, subscriber or import has come, with a little state of its own."""

    name: str
    position: int
    data: bytes = b""


class Snapshot(msgspec.Struct, frozen=True):
    """A fold's state at a position. Disposable: deleting it costs time, never data.

    ``subject`` says of what (a stream, a projection), ``fold`` and ``fold_version`` by which code.
    """

    subject: str
    position: int
    fold: str
    fold_version: int
    state: bytes


MAX_FRAMES: Final = 256
"""Of frames that are read together: what they hold is looked for one by one."""


class SegmentSize(msgspec.Struct, frozen=True):
    """How much is sealed together.

    ``slices`` are those of a segment: its index is small where segments are large. ``frame`` is
    how many are compressed together, ``frames`` how many of these are read together;
    ``frame_bytes`` is where either ends before that. Fewer slices than ``least`` are left as they
    are until there are more, and a segment of large slices ends at some 64 MiB. Raises
    `DeclarationError` for numbers that make no segment.
    """

    slices: int = 65_536
    least: int = 1
    frame: int = 64
    frames: int = 8
    frame_bytes: int = 256 << 10

    def __post_init__(self) -> None:
        numbers = (self.slices, self.least, self.frame, self.frames, self.frame_bytes)
        if min(numbers) < 1 or self.frames > MAX_FRAMES:
            raise DeclarationError(
                f"{self}: give numbers from 1 on, and at most {MAX_FRAMES} frames"
            )


class Segment(msgspec.Struct, frozen=True):
    """A run of old slices, sealed: compressed, with an index of its own, and immutable.

    ``first`` and ``last`` are positions of events, ``slices`` counts them, ``first_time`` and
    ``last_time`` are when the first and the last slice were recorded, in microseconds; ``size`` is
    the bytes that the compressed slices take, or took, in the store without their index, and
    ``sha256`` is the digest of the slices themselves (`everwhen.codec.slice_digest`).

    ``is_cold`` says that the slices are in the store, ``object`` names the object of the archive
    that has them: one of these, or both. ``retired_at`` is when neither became true, in
    microseconds: the slices were given up.
    """

    last: int
    first: int
    slices: int
    first_time: int
    last_time: int
    size: int
    sha256: bytes
    is_cold: bool = True
    object: ArchiveObject | None = None
    retired_at: int | None = None


class ArchiveObject(msgspec.Struct, frozen=True):
    """An object that has archived slices: its name at a URL, and its size in bytes."""

    url: str
    name: str
    size: int


class Seal(msgspec.Struct, frozen=True, tag=True):
    """Seal the oldest slices up to a position, one segment of them."""

    up_to: int
    size: SegmentSize = SegmentSize()


class Archive(msgspec.Struct, frozen=True, tag=True):
    """Copy the segment that ends at a position to an object at a URL.

    What was uploaded is compared by its size, or with ``reads_back`` byte for byte.
    """

    last: int
    url: str
    reads_back: bool = False


class Evict(msgspec.Struct, frozen=True, tag=True):
    """Delete an archived segment's slices from the store: from then on they are in the archive."""

    last: int


class Restore(msgspec.Struct, frozen=True, tag=True):
    """Bring an archived segment's slices back into the store; the archive's are no longer used."""

    last: int


class Merge(msgspec.Struct, frozen=True, tag=True):
    """Put the archived segments that end at these positions into one object in place of several."""

    lasts: tuple[int, ...]
    url: str
    reads_back: bool = False


class Sweep(msgspec.Struct, frozen=True, tag=True):
    """Delete objects that have been unused since a time, in microseconds, or before."""

    before: int


class Retire(msgspec.Struct, frozen=True, tag=True):
    """Give up the slices of all segments up to the one that ends at a position, and delete them.

    ``recorded`` is the position of the event that says so: it is written first.
    """

    last: int
    recorded: int


Move: TypeAlias = Seal | Archive | Evict | Restore | Merge | Sweep | Retire
"""A step of history from one tier to another."""


class Compaction(msgspec.Struct, frozen=True):
    """What compacting a file came to: its bytes, with those of the log of changes beside it."""

    size_before: int
    size_after: int

    @property
    def freed(self) -> int:
        """How many bytes the file is smaller; 0 where others have written more meanwhile."""
        return max(0, self.size_before - self.size_after)


class SnapshotInfo(msgspec.Struct, frozen=True):
    """A snapshot without its state."""

    subject: str
    position: int
    fold: str
    fold_version: int


class Capabilities(msgspec.Struct, frozen=True):
    """What a backend does beyond the contract, or differently; declared, never guessed.

    ``joint_commits`` says that one commit may touch any streams together, ``inline`` that functions
    can run in each append's transaction where there is ``sql``, ``joins_transactions`` that
    commits can be written in a transaction of the caller's own, and ``serves_branches`` that a
    server keeps the branches.
    """

    name: str
    durable: bool
    dense_positions: bool
    shared_by_processes: bool
    sql: bool
    keeps_recorded_at: bool
    seals: bool = False
    joint_commits: bool = True
    inline: bool = True
    joins_transactions: bool = False
    serves_branches: bool = False


class Problem(msgspec.Struct, frozen=True):
    """A fault that ``check()`` found: where it is, and what is wrong there.

    One that is not ``is_fault`` says what `check_deep` could not compare, and why.
    """

    where: str
    what: str
    is_fault: bool = True


class TableSize(msgspec.Struct, frozen=True):
    """How large a table of a database's is: ``bytes`` with its indexes and what lies beside it.

    ``rows`` and ``dead_rows``, which are deleted or replaced and not yet cleared away, are what the
    server estimates.
    """

    name: str
    bytes: int
    rows: int
    dead_rows: int


class CheckProgress(msgspec.Struct, frozen=True):
    """How far `check_deep` has come with one stage: ``done`` of ``total``.

    Events and rows are counted in positions of the store; of snapshots, nobody knows the total.
    """

    stage: str
    done: int
    total: int | None


class BatchError(RefusedError):
    """Some commits of a batch were refused; the others are written.

    ``outcomes`` has, in the order of the batch, a ``Receipt`` for each written commit
    and the error for each refused one.
    """

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        self.outcomes = outcomes
        refused = [(i, o) for i, o in enumerate(outcomes) if isinstance(o, EverwhenError)]
        index, first = refused[0]
        super().__init__(
            f"{len(refused)} of {len(outcomes)} commits were refused, the first is number {index}: "
            f"{first}; all others are written (see .outcomes)"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.outcomes,)
