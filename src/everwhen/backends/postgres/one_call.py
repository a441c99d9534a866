"""A group of commits in one call of the server, which holds the log's lock for no longer.

The call says what the commits rest on, and the server only tells whether all of that holds: which
versions of streams are right, and behind which positions nothing may stand that a condition asks
for. Where it may not hold, nothing is written, and `everwhen.backends.postgres.writer` judges each
commit by itself, with the lock held meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from everwhen.backends.commit_checks import LONG_AGO, slices_of_commit, time_of_commit
from everwhen.backends.postgres.append_call import AppendCall
from everwhen.backends.postgres.statements import PostgresSession
from everwhen.vocabulary.clock import Clock, micros_by
from everwhen.vocabulary.contract import EncodedCommit, EncodedSlice, Outcome, Receipt
from everwhen.vocabulary.errors import EverwhenError
from everwhen.vocabulary.query import Selector
from everwhen.vocabulary.streams import category_of

_MOST_BYTES: Final = 64 << 20
"""Of bodies in one call; the server takes a gigabyte."""


def written_in_one_call(
    session: PostgresSession, schema: str, clock: Clock, commits: Sequence[EncodedCommit]
) -> list[Outcome] | None:
    """The commits' receipts, once all of them are written; None where none is."""
    try:
        group = _Group(commits, clock)
    except _NotInOneCallError:
        return None
    head, head_time, versions = group.call.run(session, schema)
    return None if versions is None else group.receipts(head, head_time, versions)


class _NotInOneCallError(Exception):
    """Only whoever holds the lock can judge the commits."""


class _Group:
    """Commits that are judged by the server alone. Raises `_NotInOneCallError` for others."""

    def __init__(self, commits: Sequence[EncodedCommit], clock: Clock) -> None:
        if len({commit.id for commit in commits}) < len(commits):
            raise _NotInOneCallError
        if sum(len(part.body) for commit in commits for part in commit.slices) > _MOST_BYTES:
            raise _NotInOneCallError
        self.call = AppendCall()
        self.call.used = [commit.id for commit in commits if not commit.is_fresh]
        self._now = micros_by(clock)
        self._seen = _Seen()
        self._written: list[tuple[bytes, int, int, dict[str, int]]] = []
        self._position, self._recorded_at = 0, LONG_AGO
        for commit in commits:
            self._line_up(commit)

    def _line_up(self, commit: EncodedCommit) -> None:
        call = self.call
        for name, expected in commit.expected:
            call.stream(name).expect(expected)
        if commit.condition is not None:
            if any(map(self._seen.may_match, commit.condition.query.selectors)):
                raise _NotInOneCallError
            call.conditions.add(commit.condition)
        try:
            self._recorded_at = time_of_commit(commit, self._now, self._recorded_at)
        except EverwhenError:
            raise _NotInOneCallError from None
        if call.latest is None:
            call.latest = commit.recorded_at
        stored = slices_of_commit(
            commit, self._position, self._recorded_at, lambda name: call.stream(name).added
        )
        for one, part in zip(stored, commit.slices, strict=True):
            call.add(one, part)
            self._seen.add(part)
        self._position = stored[-1].position
        versions = {one.stream: one.version for one in stored}
        self._written.append((commit.id, self._position, self._recorded_at, versions))

    def receipts(self, head: int, head_time: int | None, before: Sequence[int]) -> list[Outcome]:
        """Those of the commits, written after the position and after these versions."""
        newest = LONG_AGO if head_time is None else head_time
        streams = self.call.streams
        return [
            Receipt(
                id_,
                head + position,
                max(newest, recorded_at),
                {name: before[streams[name].number - 1] + n for name, n in versions.items()},
            )
            for id_, position, recorded_at, versions in self._written
        ]


class _Seen:
    """What the commits of a group have so far: quickly asked, and saying too much."""

    def __init__(self) -> None:
        self._streams: set[str] = set()
        self._categories: set[str] = set()
        self._types: set[str] = set()
        self._tags: set[str] = set()

    def add(self, part: EncodedSlice) -> None:
        """Take a slice."""
        self._streams.add(part.stream)
        self._categories.add(category_of(part.stream))
        self._types.update(part.types)
        self._tags.update(part.tags)

    def may_match(self, selector: Selector) -> bool:
        """Whether an event that was taken may be one that the selector asks for."""
        pairs = (
            (selector.streams, self._streams),
            (selector.categories, self._categories),
            (selector.types, self._types),
        )
        return (
            bool(self._streams)
            and all(not asked or asked & seen for asked, seen in pairs)
            and selector.tags <= self._tags
        )
