"""The judgements on a commit that every engine makes alike, once it has the facts at hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final
from uuid import UUID

import msgspec

from everwhen.backends.query_matching import Matcher
from everwhen.codec.recorded_events import entries_of
from everwhen.codec.slice_bodies import Entry, decode_entries, deep_parts
from everwhen.system.interrupts import is_interrupt
from everwhen.vocabulary.contract import (
    MAX_DEPTH,
    EncodedCommit,
    Outcome,
    Problem,
    Receipt,
    StoredSlice,
)
from everwhen.vocabulary.errors import (
    CommitIdError,
    ConditionError,
    EverwhenError,
    InvalidCommitError,
    RefusedError,
)
from everwhen.vocabulary.microseconds import FIRST_MICROS, LAST_MICROS, from_micros
from everwhen.vocabulary.nesting import TOO_DEEP, is_deeper
from everwhen.vocabulary.query import Query
from everwhen.vocabulary.validation import check_recorded_at


def repeated(commit: EncodedCommit, stored: Sequence[StoredSlice]) -> Receipt:
    """The first receipt of a commit that is in the store already.

    Raises `CommitIdError` where the stored streams and events are not the same; the metadata may
    differ, since a second attempt is made at another time and place.
    """
    given = [(part.stream, part.body) for part in commit.slices]
    if given != [(part.stream, part.body) for part in stored]:
        raise CommitIdError(UUID(bytes=commit.id), stored[-1].position)
    return msgspec.structs.replace(receipt_of(stored), repeated=True)


def receipt_of(stored: Sequence[StoredSlice]) -> Receipt:
    """The receipt of a commit, out of its slices."""
    last = stored[-1]
    versions = {part.stream: part.version for part in stored}
    return Receipt(last.commit_id, last.position, last.recorded_at, versions)


def slices_of_commit(
    commit: EncodedCommit, position: int, recorded_at: int, version_of: Callable[[str], int]
) -> list[StoredSlice]:
    """The slices of a commit that follows on a position; ``version_of`` is from before it."""
    versions: dict[str, int] = {}
    stored: list[StoredSlice] = []
    index = 0
    for part in commit.slices:
        position += part.count
        version = versions.get(part.stream) or version_of(part.stream)
        versions[part.stream] = version = version + part.count
        stored.append(
            StoredSlice(
                position,
                part.stream,
                version,
                part.count,
                recorded_at,
                commit.id,
                index,
                commit.metadata,
                part.body,
            )
        )
        index += part.count
    return stored


def written_one_by_one(
    commits: Sequence[EncodedCommit],
    write: Callable[[EncodedCommit], Sequence[Outcome]],
    explained: Callable[[EncodedCommit, Exception], EverwhenError],
    is_of_the_medium: Callable[[Exception], bool],
) -> list[Outcome]:
    """Write commits that failed together each by itself, so that one of them fails no other.

    Where the medium fails, the rest isn't tried. Raises what the first one met with then, and what
    an interrupt is: of what was written the caller is told.
    """
    outcomes: list[Outcome] = []
    for commit in commits:
        try:
            outcomes += write(commit)
        except Exception as error:
            if is_interrupt(error) or (not outcomes and is_of_the_medium(error)):
                raise
            outcomes.append(explained(commit, error))
            if is_of_the_medium(error):
                missing = len(commits) - len(outcomes)
                return outcomes + [explained(commit, error)] * missing
    return outcomes


def check_condition(query: Query, after: int, newer: Iterable[StoredSlice]) -> None:
    """Raises `ConditionError` if an event of the slices after ``after`` matches."""
    matcher = Matcher(query.after(after))
    for stored in newer:
        if not matcher.reaches(stored):
            continue
        indexes = matcher.picked(stored, entries_of(stored))
        if indexes is None or indexes:
            first = indexes[0] if indexes else 0
            raise ConditionError(after, stored.position - stored.count + 1 + first)


def refusal_of(commit: EncodedCommit, error: Exception) -> EverwhenError:
    """The error for a commit that couldn't be judged: nothing of it was written."""
    if isinstance(error, EverwhenError):
        return error
    refusal = RefusedError(
        f"commit {UUID(bytes=commit.id)}: judging it failed ({type(error).__name__}: {error}), and "
        f"nothing of it was written; fix what caused that, then append it again"
    )
    refusal.__cause__ = error
    return refusal


LONG_AGO: Final = -(1 << 62)
"""Before every time there is: when an empty store's newest event was recorded."""


def time_of_commit(commit: EncodedCommit, now: Callable[[], int], last: int) -> int:
    """The commit's ``recorded_at``: its own, or the clock's, and never before ``last``.

    Raises `InvalidCommitError` where its own would step back, or can't be given back.
    """
    if commit.recorded_at is None:
        moment = now()
        return max(last, moment)
    if check_recorded_at(commit.recorded_at) < last:
        own = from_micros(commit.recorded_at).isoformat()
        raise InvalidCommitError(
            f"commit {UUID(bytes=commit.id)}: recorded_at {own} lies "
            f"before the newest event's {from_micros(last).isoformat()}; keep such a time as the "
            f"events' occurred_at"
        )
    return commit.recorded_at


class SliceCheck:
    """What ``check()`` says of every slice alike; give it all of them, in the order of positions.

    ``entries`` are those of the slice that was given last; None where they can't be read. Unless
    they are ``is_dense``, positions may have holes, and only rise.
    """

    def __init__(self, *, is_dense: bool = True) -> None:
        self.entries: list[Entry] | None = None
        self.skips = 0
        """How often it was told to go on after what it wasn't given."""
        self._is_dense = is_dense
        self._position = self._index = 0
        self._recorded_at = LONG_AGO
        self._commit = b""

    def go_on_after(self, position: int, recorded_at: int) -> None:
        """Take what comes before a position, and was recorded until then, for good."""
        self.skips += 1
        self._position, self._recorded_at = position, recorded_at
        self._index, self._commit = 0, b""

    def problems(self, stored: StoredSlice) -> Iterator[Problem]:
        """Every fault in the slice, and in how it follows on those before it."""
        where, before = f"position {stored.position}", stored.position - stored.count
        if before < self._position or (self._is_dense and before != self._position):
            yield Problem(
                where, f"a gap: its events begin after {before}, not after {self._position}"
            )
        if stored.recorded_at < self._recorded_at:
            yield Problem(where, "recorded_at is earlier than that of the position before")
        if not FIRST_MICROS <= stored.recorded_at <= LAST_MICROS:
            yield Problem(where, "recorded_at is not between the years 1 and 9999")
        due = self._index if stored.commit_id == self._commit else 0
        if stored.first_index != due:
            yield Problem(where, f"first_index is {stored.first_index} and should be {due}")
        self._position, self._recorded_at = stored.position, stored.recorded_at
        self._commit, self._index = stored.commit_id, stored.first_index + stored.count
        if stored.metadata and not stored.first_index and is_deeper(stored.metadata, MAX_DEPTH + 1):
            yield Problem(where, f"its commit's metadata extras are {TOO_DEEP}")
        yield from self._body(stored, where)

    def _body(self, stored: StoredSlice, where: str) -> Iterator[Problem]:
        self.entries = None
        try:
            self.entries = decode_entries(stored.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            yield Problem(where, f"its body can't be read: {error}")
            return
        if len(self.entries) != stored.count:
            yield Problem(
                where, f"its body holds {len(self.entries)} events instead of {stored.count}"
            )
        first = stored.position - stored.count + 1
        for index, what in deep_parts(stored.body, self.entries):
            yield Problem(f"position {first + index}", f"its {what} {TOO_DEEP}")


def slice_problems(
    slices: Iterable[StoredSlice], checking: SliceCheck | None = None
) -> Iterator[Problem]:
    """Every fault in all slices of a log, given in the order of their positions.

    Where ``checking`` is told meanwhile to go on after some, the versions at which streams begin
    after these are taken for good.
    """
    checking = checking or SliceCheck()
    versions: dict[str, int] = {}
    skips = 0
    for stored in slices:
        if checking.skips != skips:
            skips = checking.skips
            versions.clear()
        yield from checking.problems(stored)
        begins = stored.version - stored.count
        before = versions.get(stored.stream, begins if skips else 0)
        if begins != before:
            yield version_problem(stored.stream, stored.version, before)
        versions[stored.stream] = stored.version


def version_problem(stream: str, version: int, before: int) -> Problem:
    """A stream's slice does not begin where the one before it ended."""
    return Problem(f"stream {stream!r} version {version}", f"doesn't follow on version {before}")
