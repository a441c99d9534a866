"""Pages of events that are kept as they were sent, since many look at the same ones.

A page that was full is made of slices that never change, so the same request has the same answer,
but where

- what it shows depends on keys, which may be destroyed: of a store with a vault nothing is kept;
- its beginning was retired, by this process or another one. Retiring takes history from its first
  event up to a position, so the first slice goes before all others. It is read again for each
  answer, by the page's own query, which says what the whole page's reading would: that it was
  retired, that the store is closed, that the branch is gone.

Upcasts are those that the store was opened with, and everybody who may read may read all of it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

import msgspec

from everwhen.vocabulary.contract import StoredSlice

_MAX_BYTES: Final = 16 << 20
"""Of each branch that is served: some hundred pages of small events."""
_MAX_PAGE_BYTES: Final = 1 << 20


class KeptPage(msgspec.Struct, frozen=True):
    """A page's content and entity tag, the slice that it begins with, and where the next one is."""

    first: StoredSlice
    content: bytes
    tag: str
    following: str | None


class RecentPages:
    """The pages that were asked for last, under what was asked. For one event loop."""

    def __init__(self, most_bytes: int = _MAX_BYTES) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._newest_last: OrderedDict[Hashable, KeptPage] = OrderedDict()

    def get(self, key: Hashable) -> KeptPage | None:
        """The page under the key, if it is kept."""
        found = self._newest_last.get(key)
        if found is not None:
            self._newest_last.move_to_end(key)
        return found

    def keep(self, key: Hashable, page: KeptPage) -> None:
        """Keep a page, and forget the oldest; one that is very large isn't kept."""
        self.forget(key)
        if len(page.content) > _MAX_PAGE_BYTES:
            return
        self._newest_last[key] = page
        self._bytes += len(page.content)
        while self._bytes > self._most_bytes:
            self._bytes -= len(self._newest_last.popitem(last=False)[1].content)

    def forget(self, key: Hashable) -> None:
        """Keep that one no longer."""
        found = self._newest_last.pop(key, None)
        if found is not None:
            self._bytes -= len(found.content)
