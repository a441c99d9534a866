"""History as it was, read from a log and written to another, each commit at its own position.

Each commit is written under the condition that all before it is there and nothing else, so that
nobody can come in between: what is written is always the beginning of the history.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final
from uuid import UUID

from everwhen.backends._async.backend import Backend
from everwhen.exchange.errors import OtherHistoryError
from everwhen.exchange.history_commits import HistoryCommit, OddSliceError
from everwhen.vocabulary.contract import Outcome, Receipt, StoredSlice
from everwhen.vocabulary.errors import (
    CommitIdError,
    ConditionError,
    ConflictError,
    EverwhenError,
)
from everwhen.vocabulary.paging import PAGE_EVENTS, next_page
from everwhen.vocabulary.query import Query

_MAX_REMEMBERED: Final = 250_000
"""Streams whose versions are kept in memory: some tens of MB."""


async def slice_pages(backend: Backend, after: int, last: int) -> AsyncIterator[list[StoredSlice]]:
    """The slices after a position, up to another one, page by page; no page is empty."""
    query = Query().after(after).up_to(last)
    while after < last:
        page = await backend.read(query, PAGE_EVENTS)
        if page.slices:
            yield list(page.slices)
        if page.end:
            return
        query = next_page(query, page)


class HistoryWriter:
    """Appends commits to a log that has what comes before them, and nothing else.

    ``other`` makes the error for a log that has other history: of a position, and a reason.
    ``written`` counts the events that are new in the log, ``repeated`` those that were there.
    """

    def __init__(
        self, backend: Backend, other: Callable[[int, str], OtherHistoryError], *, is_empty: bool
    ) -> None:
        self.written = self.repeated = 0
        self._backend = backend
        self._other = other
        self._was_empty = is_empty
        self._versions: dict[str, int] = {}

    async def write(self, batch: Sequence[HistoryCommit]) -> None:
        """Write some commits. Raises `OddSliceError` for one that doesn't follow on its streams.

        What comes before that is written. Raises the error for other history where somebody else
        has written to the log.
        """
        sound: list[HistoryCommit] = []
        odd: OddSliceError | None = None
        for commit in batch:
            odd = await self._out_of_order(commit)
            if odd is not None:
                break
            sound.append(commit)
        previous = [None, *(commit.last for commit in sound)]
        outcomes = await self._backend.append(
            [commit.encoded(before) for commit, before in zip(sound, previous, strict=False)]
        )
        self._count(sound, outcomes)
        if odd is not None:
            raise odd

    def _count(self, batch: list[HistoryCommit], outcomes: list[Outcome]) -> None:
        """Count what was written; then raise for the first that was not, or became another."""
        for commit, outcome in zip(batch, outcomes, strict=True):
            if not isinstance(outcome, Receipt):
                raise self._refusal(commit, outcome)
            difference = commit.difference(outcome)
            if difference is not None and outcome.repeated:
                raise _used_before(commit)
            if difference is not None:
                raise self._other(commit.before + 1, difference)
            if outcome.repeated:
                self.repeated += commit.events
            else:
                self.written += commit.events

    async def _out_of_order(self, commit: HistoryCommit) -> OddSliceError | None:
        """The first slice that doesn't follow on its stream's version.

        One that is there already, as another writer of the same has written it, is judged by that.
        """
        known = self._versions
        if len(known) > _MAX_REMEMBERED:
            known.clear()
            self._was_empty = False
        for stored in commit.slices:
            version = known.get(stored.stream)
            if version is None:
                version = 0 if self._was_empty else await self._version(stored.stream)
            is_next = stored.version - stored.count == version
            if not is_next and not await self._backend.stored_commit(stored.commit_id):
                return OddSliceError(
                    stored.position,
                    f"it takes stream {stored.stream!r} to version {stored.version}, which was at "
                    f"version {version} before these {stored.count} events",
                )
            known[stored.stream] = stored.version
        return None

    async def _version(self, stream: str) -> int:
        found = await self._backend.stream(stream)
        return 0 if found is None else found.version

    def _refusal(self, commit: HistoryCommit, error: EverwhenError) -> Exception:
        if isinstance(error, CommitIdError):
            return _used_before(commit)
        if isinstance(error, ConditionError | ConflictError):
            return self._other(commit.before + 1, "somebody else has written to it meanwhile")
        return error


def _used_before(commit: HistoryCommit) -> OddSliceError:
    number = UUID(bytes=commit.first.commit_id)
    return OddSliceError(commit.first.position, f"its commit id {number} was used before")
