"""A branch's pages: its parent's up to the fork, then its own log's, where all is shifted."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from everwhen.branches.commit_translation import shifted
from everwhen.branches.fork_streams import ForkStreams
from everwhen.branches.page_requests import PageRequest, Steps
from everwhen.vocabulary.contract import Page, StoredSlice
from everwhen.vocabulary.query import Query


def joined_page(at_fork: ForkStreams, query: Query, events: int) -> Steps[Page]:
    """A page of the branch."""
    pages = _JoinedPages(at_fork)
    return pages.backwards(query, events) if query.reverse else pages.forwards(query, events)


class _JoinedPages:
    def __init__(self, at_fork: ForkStreams) -> None:
        self._at_fork = at_fork
        self._fork = at_fork.fork.position

    def forwards(self, query: Query, events: int) -> Steps[Page]:
        after, last, fork = query.after_position, query.last_position, self._fork
        if after < fork:
            page = yield from self._parents_page(query, events)
            if not page.end or (last is not None and last <= fork):
                return page
            size = _size(page.slices)
            if size >= events:
                return Page(page.slices, fork, end=False)
            later = msgspec.structs.replace(query, after_position=fork)
            rest = yield from self._own_page(later, events - size)
            return _joined(page.slices, rest)
        if last is not None and last <= max(after, fork):
            return Page([], max(after, fork), end=True)
        return (yield from self._own_page(query, events))

    def backwards(self, query: Query, events: int) -> Steps[Page]:
        after, last, fork = query.after_position, query.last_position, self._fork
        slices: Sequence[StoredSlice] = []
        if last is None or last > fork:
            page = yield from self._own_page(query, events)
            slices = page.slices
            if after >= fork or not page.end:
                return page
            events -= _size(slices)
            if events <= 0:
                return Page(slices, fork + 1, end=False)
        if after >= fork:
            return Page(slices, after, end=True)
        return _joined(slices, (yield from self._parents_page(query, events)))

    def _parents_page(self, query: Query, events: int) -> Steps[Page]:
        """A page of the parent, up to the fork.

        Where it is of one stream, its last event there is the bound: where streams stood is
        remembered, so logs that have nothing of this one need not be asked again.
        """
        end = self._fork if query.last_position is None else query.last_position
        bound = end = min(end, self._fork)
        name = _only_stream(query)
        if name is not None:
            info = (yield from self._at_fork.find((name,)))[name]
            bound = 0 if info is None else min(bound, info.position)
            if bound <= query.after_position:
                return Page([], max(end, query.after_position), end=True)
        asked = msgspec.structs.replace(query, last_position=bound)
        (page,) = yield PageRequest((asked,), events)
        return Page(page.slices, max(end, page.cursor), end=True) if page.end else page

    def _own_page(self, query: Query, events: int) -> Steps[Page]:
        """A page of the own log, in the branch's terms.

        Bounds on versions are only understood there where they are of one stream; the reader knows
        them anyway.
        """
        fork = self._fork
        least, most = query.min_version, query.max_version
        if fork and (least is not None or most is not None):
            name = _only_stream(query)
            if name is not None:
                base = (yield from self._at_fork.versions((name,)))[name]
                least = None if least is None else max(0, least - base)
                most = None if most is None else max(0, most - base)
            else:
                least = most = None
        last = query.last_position
        asked = msgspec.structs.replace(
            query,
            min_version=least,
            max_version=most,
            after_position=max(0, query.after_position - fork),
            last_position=None if last is None else last - fork,
        )
        (page,) = yield PageRequest((asked,), events, of_own=True)
        if not fork:
            return page
        bases = yield from self._at_fork.versions({stored.stream for stored in page.slices})
        return Page(shifted(page.slices, fork, bases), page.cursor + fork, page.end)


def _joined(slices: Sequence[StoredSlice], rest: Page) -> Page:
    """The slices, and then the rest; where one is empty, the other as it is."""
    both = [*slices, *rest.slices] if slices and rest.slices else slices or rest.slices
    return Page(both, rest.cursor, rest.end)


def _size(slices: Sequence[StoredSlice]) -> int:
    return sum([stored.count for stored in slices])


def _only_stream(query: Query) -> str | None:
    """The one stream that the query is of; None for any other."""
    streams = query.selectors[0].streams if len(query.selectors) == 1 else frozenset()
    return next(iter(streams)) if len(streams) == 1 else None
