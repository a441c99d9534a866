"""Where a parent's streams stood when a branch forked off."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

import msgspec

from everwhen.backends.branch_records import Fork
from everwhen.branches.page_requests import PageRequest, Steps
from everwhen.vocabulary.contract import StreamInfo
from everwhen.vocabulary.microseconds import from_micros
from everwhen.vocabulary.paging import next_page
from everwhen.vocabulary.query import Query, Selector

_REMEMBERED_STREAMS: Final = 100_000  # some 25 MB


class ForkStreams:
    """Where streams stood at a fork. Safe from any thread.

    What was looked up is remembered: nothing before a fork ever changes.
    """

    def __init__(self, fork: Fork) -> None:
        self.fork = fork
        self._known: dict[str, StreamInfo | None] = {}

    def find(self, names: Collection[str]) -> Steps[dict[str, StreamInfo | None]]:
        """The streams by name; None for those that had no events yet."""
        if not self.fork.position:
            return dict.fromkeys(names)
        known = self._known
        unknown = [name for name in names if name not in known]
        if not unknown:
            return {name: known[name] for name in names}
        found = yield from _looked_up(unknown, self.fork.position)
        if len(known) > _REMEMBERED_STREAMS:
            self._known = {}  # others go on with the one that they hold
        self._known.update(found)
        return {name: found[name] if name in found else known[name] for name in names}

    def versions(self, names: Collection[str]) -> Steps[dict[str, int]]:
        """The streams' versions, 0 for those that had no events yet."""
        found = yield from self.find(names)
        return {name: 0 if info is None else info.version for name, info in found.items()}


def _looked_up(names: Iterable[str], position: int) -> Steps[dict[str, StreamInfo | None]]:
    waiting = {
        name: Query((Selector(streams=frozenset({name})),), last_position=position, reverse=True)
        for name in names
    }
    found: dict[str, StreamInfo | None] = {}
    while waiting:
        pages = yield PageRequest(tuple(waiting.values()), 1)
        for (name, query), page in zip([*waiting.items()], pages, strict=True):
            if page.slices:
                last = page.slices[0]
                recorded = from_micros(last.recorded_at)
                found[name] = StreamInfo(name, last.version, last.position, recorded)
            elif page.end:
                found[name] = None
            else:
                waiting[name] = next_page(query, page)
                continue
            del waiting[name]
    return found


def continued(info: StreamInfo, before: StreamInfo | None, fork: Fork) -> StreamInfo:
    """A stream of the own log in the branch's terms: it goes on from where it stood at the fork."""
    version = info.version + (0 if before is None else before.version)
    return msgspec.structs.replace(info, version=version, position=info.position + fork.position)


def merged(
    theirs: Iterable[StreamInfo], mine: Iterable[StreamInfo], limit: int
) -> list[StreamInfo]:
    """The parent's streams and the branch's by name; the branch's own word on one counts."""
    both = {info.name: info for info in theirs} | {info.name: info for info in mine}
    return [both[name] for name in sorted(both)[:limit]]
