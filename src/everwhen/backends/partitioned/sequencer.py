"""Who writes which positions: a page of memory that all processes share.

A writer that holds its partition's write lock *claims* the next positions, and a time that is not
earlier than the last one; it writes with them, commits, and gives its claim back. What is in flight
is seen by all: nobody reads at or beyond the first position of a claim, so nothing ever appears
before what was read. And a commit that rests on other partitions waits for the claims below its
own, and for those only, so that all that comes before it is there to be judged.

The page is a file that is never synced. Each change of it is one write of less than a memory page,
with a checksum, under a lock that the kernel drops with its process. Whoever opens the store while
nobody else has it open makes the page anew from the partitions, so that nothing rests on it after a
loss of power. The claim of a writer that was killed is over once nobody is writing to its
partition; what it had not committed by then is a hole in the positions.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from everwhen.backends.commit_checks import LONG_AGO
from everwhen.system.sqlite_connection import patience
from everwhen.vocabulary.errors import BusyError, EverwhenError, StorageError, StoreClosedError

_MAGIC: Final = b"everseq1"
_HEAD: Final = struct.Struct("<8sIIqqqq")
"""Magic, checksum of what follows, number of claims, generation, next, newest, time."""
_CLAIM: Final = struct.Struct("<Iqq32s")
"""The partition, the first and last position, and the marks of commit ids."""
_CHECKED_FROM: Final = 12
_LARGEST: Final = 4_096
"""A memory page: 64 claims fit into it, and a write of one is never seen in part by a reader that
checks it."""
_MARKS: Final = 256
"""Bits, of which each commit id sets one: few enough to be written with each claim, and enough that
two claims of a few commits seldom share one."""
_PROBE_SECONDS: Final = 0.05
"""How often it is asked whether the writer of a claim is still there: far longer than a commit
takes, and shorter than anybody notices."""


class OutdatedLayoutError(EverwhenError):
    """There are other partitions by now: look again where a commit belongs. Stays inside."""


class InFlightError(EverwhenError):
    """Others are writing, and nobody may be: wait, and ask again. Stays inside."""


class Claim(msgspec.Struct, frozen=True):
    """Positions that a writer may use in one partition; ``marks`` stand for its commit ids."""

    partition: int
    first: int
    last: int
    marks: int = 0


class SequencerPage(msgspec.Struct, frozen=True):
    """What the page says. ``newest`` is the newest position known to be committed."""

    generation: int
    next: int
    newest: int
    recorded_at: int
    claims: tuple[Claim, ...] = ()

    @property
    def settled(self) -> int:
        """The position up to which nothing new can appear: not beyond what is committed."""
        return min([self.newest, *(claim.first - 1 for claim in self.claims)])


class ClaimRequest(msgspec.Struct, frozen=True):
    """What a writer asks for, while it holds the write locks of all of these partitions.

    ``newest`` and ``recorded_at`` are the newest event's in them; ``now`` is the clock's time.
    """

    partitions: tuple[int, ...]
    events: int
    generation: int
    newest: int
    recorded_at: int
    now: int
    ids: tuple[bytes, ...] = ()


class Claimed:
    """A writer's positions. ``before`` are the claims of others that were in flight already.

    ``recorded_at`` is the time of what is written, which may be raised where the request was for
    commits with times of their own; ``last_time`` is that of what was claimed before.
    """

    def __init__(self, first: int, last: int, last_time: int, before: Sequence[Claim]) -> None:
        self.first = first
        self.last = last
        self.last_time = self.recorded_at = last_time
        self.before = before


class Sequencer:
    """One process's hold on the page. Safe from any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mutex = threading.Lock()
        self._is_closed = False
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise StorageError(f"{path}: can't be opened ({error}); check its folder") from error
        try:
            self._in_use = os.open(
                path.with_name("in-use"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666
            )
        except OSError as error:
            os.close(self._file)
            raise StorageError(f"{path}: can't be opened ({error}); check its folder") from error

    def enter(self, made_anew: Callable[[], SequencerPage]) -> None:
        """Use the page from now on; made anew where nobody else does. One at a time, over all."""
        try:
            fcntl.flock(self._in_use, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            fcntl.flock(self._in_use, fcntl.LOCK_SH)
        else:
            page = made_anew()
            with self._locked():
                os.ftruncate(self._file, 0)
                self._write(page)
            fcntl.flock(self._in_use, fcntl.LOCK_SH)

    def close(self) -> None:
        """Let go of it; calling it again does nothing."""
        with self._mutex:
            if not self._is_closed:
                self._is_closed = True
                os.close(self._file)
                os.close(self._in_use)

    def __del__(self) -> None:
        if hasattr(self, "_in_use"):
            self.close()

    def page(self) -> SequencerPage:
        """What the page says now."""
        waits = patience(1.0)
        for attempt in itertools.count():
            data = b""
            with contextlib.suppress(OSError):
                data = os.pread(self._file, _LARGEST, 0)
            if self._is_closed:  # and what was read may be of another file
                raise StoreClosedError
            page = _decoded(data)
            if page is not None:
                return page
            if not waits(attempt):
                break
        raise StorageError(
            f"{self._path}: it is damaged; close the store in every process, then open it again"
        )

    @contextmanager
    def claiming(self, request: ClaimRequest, *, is_timed: bool) -> Iterator[Claimed]:
        """Claim positions. Raises `OutdatedLayoutError` where there are other partitions by now.

        With ``is_timed`` nobody else claims until this is left, and ``recorded_at`` counts then:
        the commits have times of their own, of which it isn't known yet whether they hold. Raises
        `InFlightError` as long as others' claims are there, which would wait for that.
        """
        with contextlib.ExitStack() as held:
            page = held.enter_context(self._alone())
            if page.generation != request.generation:
                raise OutdatedLayoutError
            before = [c for c in page.claims if c.partition not in request.partitions]
            if is_timed and before:
                raise InFlightError
            newest = max(page.newest, request.newest)
            first = max(page.next, newest + 1)
            moment = max(page.recorded_at, request.recorded_at)
            claimed = Claimed(first, first + request.events - 1, moment, before)
            if not is_timed:
                claimed.recorded_at = max(moment, request.now)
                self._write(_with_claim(page, request, claimed, newest))
                held.close()
            yield claimed
            if is_timed:
                self._write(_with_claim(page, request, claimed, newest))

    def release(self, claimed: Claimed, written: int, *, gives_back: bool = True) -> None:
        """The claim is over: up to ``written`` all is committed, and the rest never will be.

        What follows is given back, where nobody has claimed more since: a commit that was refused
        leaves no trace in positions, nor in time.
        """
        with self._alone() as page:
            following, moment = page.next, page.recorded_at
            if gives_back and following == claimed.last + 1:
                following = max(written + 1, claimed.first)
                moment = moment if written else claimed.last_time
            self._write(
                msgspec.structs.replace(
                    page,
                    claims=tuple(c for c in page.claims if c.first != claimed.first),
                    newest=max(page.newest, written),
                    next=following,
                    recorded_at=moment,
                )
            )

    def settle(self, claim: Claim, head: int) -> None:
        """A claim is over whose writer was killed; its partition ends at ``head``."""
        with self._alone() as page:
            left = tuple(c for c in page.claims if c != claim)
            newest = max(page.newest, head)
            self._write(msgspec.structs.replace(page, claims=left, newest=newest))

    def change(self, generation: int) -> None:
        """There are other partitions from now on. Hold the write locks of those there were."""
        with self._alone() as page:
            self._write(msgspec.structs.replace(page, generation=generation))

    def wait(
        self,
        over: Callable[[SequencerPage], bool],
        probe: Callable[[SequencerPage], None],
        seconds: float,
    ) -> bool:
        """Wait until the page is so; ``probe`` is called now and then, to settle what it can.

        False where the seconds were over before.
        """
        waits = patience(seconds)
        probed = time.monotonic()
        for attempt in itertools.count():
            page = self.page()
            if over(page):
                return True
            if not waits(attempt):
                return False
            if time.monotonic() - probed > _PROBE_SECONDS:
                probe(page)
                probed = time.monotonic()
        raise AssertionError  # pragma: no cover (it counts for ever)

    @contextmanager
    def _alone(self) -> Iterator[SequencerPage]:
        """The page, while nobody else changes it."""
        with self._locked():
            yield self.page()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Nobody else changes the page.

        The lock is taken inside of what releases it, since an interrupt may come in between.
        """
        with self._mutex:
            if self._is_closed:
                raise StoreClosedError
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX)
                yield
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def _write(self, page: SequencerPage) -> None:
        os.pwrite(self._file, _encoded(page), 0)


EMPTY: Final = SequencerPage(0, 1, 0, LONG_AGO)
"""The page of a store that begins."""


def marks_of(ids: Sequence[bytes]) -> int:
    """Marks for commit ids: two claims that share an id share a mark."""
    marks = 0
    for commit_id in ids:
        marks |= 1 << zlib.crc32(commit_id) % _MARKS
    return marks


def _with_claim(
    page: SequencerPage, request: ClaimRequest, claimed: Claimed, newest: int
) -> SequencerPage:
    marks = marks_of(request.ids)
    mine = (Claim(p, claimed.first, claimed.last, marks) for p in request.partitions)
    return msgspec.structs.replace(
        page,
        next=claimed.last + 1,
        newest=newest,
        recorded_at=claimed.recorded_at,
        claims=(*claimed.before, *mine),
    )


def _encoded(page: SequencerPage) -> bytes:
    head = _HEAD.pack(
        _MAGIC,
        0,
        len(page.claims),
        page.generation,
        page.next,
        page.newest,
        page.recorded_at,
    )
    claims = [
        _CLAIM.pack(c.partition, c.first, c.last, c.marks.to_bytes(_MARKS // 8, "little"))
        for c in page.claims
    ]
    checked = b"".join([head[_CHECKED_FROM:], *claims])
    return b"".join([_MAGIC, struct.pack("<I", zlib.crc32(checked)), checked])


def _decoded(data: bytes) -> SequencerPage | None:
    """The page; None where it isn't whole. What follows its claims is left from earlier ones."""
    if len(data) < _HEAD.size:
        return None
    magic, checksum, count, generation, following, newest, moment = _HEAD.unpack_from(data)
    end = _HEAD.size + count * _CLAIM.size
    if magic != _MAGIC or end > len(data) or zlib.crc32(data[_CHECKED_FROM:end]) != checksum:
        return None
    claims = [
        Claim(partition, first, last, int.from_bytes(marks, "little"))
        for partition, first, last, marks in _CLAIM.iter_unpack(data[_HEAD.size : end])
    ]
    return SequencerPage(generation, following, newest, moment, tuple(claims))


def is_over(claims: Sequence[Claim], page: SequencerPage) -> bool:
    """Whether none of these claims is in flight any more."""
    firsts: Mapping[int, int] = {c.partition: c.first for c in page.claims}
    return all(firsts.get(c.partition) != c.first for c in claims)


def check_waited(waited: bool, folder: Path) -> None:  # noqa: FBT001
    """Raises `BusyError` where it was waited in vain."""
    if not waited:
        raise BusyError(
            f"{folder}: another process has been writing to another partition for too long; find "
            f"out which, or open the store with a longer busy_timeout"
        )
