# Generated from src/everwhen/exchange/_async/exporting.py by tools/unasync.py: edit that, then run `make sync`.
"""Exporting a store's events into files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from everwhen.codec.codec import Codec
from everwhen.codec.event_types import EventTypes
from everwhen.codec.recorded_events import RecordedEvent
from everwhen.exchange.cloudevents import CloudEvents
from everwhen.exchange.formats import format_of
from everwhen.exchange.notices import Notice
from everwhen.exchange.records import ExchangeProgress, ExportReport, Format
from everwhen.exchange.sources import Location, Target
from everwhen.exchange.xes import DEFAULT_CATEGORY, Xes
from everwhen.exchange.xes_parsing import LOG_TYPE, LOOSE, TRACE_TYPE, stored_name
from everwhen.exchange.xes_writing import CLOSING, loose, nulls_of, opening, trace, trace_numbers
from everwhen.privacy.field_encryption import FieldEncryption
from everwhen.store._sync.store import Store
from everwhen.vocabulary.errors import InvalidQueryError
from everwhen.vocabulary.query import Query

_NULLS: Final = "null values, which XES does not have, left out"
_LAST_NUMBER: Final = 1 << 62
"""A number after that of every trace, for streams that have none."""

_NAMED_CATEGORIES: Final = 10
"""Categories that an error lists: more would fill the screen."""


def export_events(
    store: Store,
    target: Location,
    format: Format | None = None,  # noqa: A002 (the user's word)
    *,
    query: Query | None = None,
    overwrite: bool = False,
    plaintext: bool = False,
    progress: Callable[[ExchangeProgress], None] | None = None,
) -> ExportReport:
    """Export the query's events, or all, up to the newest one there is now.

    ``target`` is a path, ``"-"`` for standard output, or an open binary file; a path appears once
    the file is complete. The format follows from the name unless given. JSON Lines, and every
    format from a store with a vault, have events as they are stored; else they are as they read
    today, upcast.

    Personal fields of a store with a vault are exported encrypted, for a store with the same vault.
    With ``plaintext`` they are readable, in events and in the commands that led to them, each
    marked with whose it is; JSON Lines are encrypted again when they are imported into a store with
    a vault. No erasure reaches such a file.

    Raises `ExchangeFileError` where the file exists, unless ``overwrite``, or can't be written, and
    `InvalidQueryError` for an XES log without a category, of a store that has several.
    """
    chosen = format if format is not None else format_of(target)
    opened = Target(target, overwrite=overwrite)
    try:
        exporting = _Export(store, opened, query, progress, plaintext=plaintext)
        if isinstance(chosen, Xes):
            exporting.log(chosen)
        else:
            exporting.text(chosen)
        opened.finish()
    finally:
        opened.abandon()
    return ExportReport(exporting.events, opened.bytes, exporting.notices())


class _Export:
    """One export, under way."""

    def __init__(
        self,
        store: Store,
        target: Target,
        query: Query | None,
        progress: Callable[[ExchangeProgress], None] | None,
        *,
        plaintext: bool,
    ) -> None:
        if store.vault is not None:
            types = EventTypes()  # no upcast can work on what is encrypted
            encryption = FieldEncryption(store.vault) if plaintext else None
            store = Store(store.kernel.backend, events=types, vault=store.vault)
            store.kernel.codec = Codec(types, (), encryption)
        self._plaintext = plaintext
        self._store = store
        self._target = target
        self._query = query if query is not None else Query()
        self._all = msgspec.structs.replace(Query(), skips_retired=self._query.skips_retired)
        self._progress = progress
        self.events = 0
        self._nulls = self._first_null = 0

    def notices(self) -> tuple[Notice, ...]:
        """What was left out."""
        found = Notice(_NULLS, 0, self._nulls, self._first_null)
        return (found,) if self._nulls else ()

    def text(self, chosen: Format) -> None:
        """Into a format that takes events in the order of the query."""
        query = self._query
        whole = msgspec.structs.replace(query, recorded_until=None) == Query()
        store = self._store
        if isinstance(chosen, CloudEvents) and not self._plaintext:
            store = Store(store.kernel.backend, events=EventTypes())
        text = chosen.text(part=not whole)
        head = (store.head()).position
        if query.last_position is None:
            query = query.up_to(head)
        for events in store.read_pages(query):
            self._target.write(text.of(events))
            self._count(len(events), head)
        self._target.write(text.rest())

    def log(self, chosen: Xes) -> None:
        """Into an XES log: trace by trace, in the order that they had."""
        query = self._query
        if query.reverse or query.max_events is not None:
            raise InvalidQueryError(
                "an XES log is written trace by trace; leave out limit and backwards"
            )
        head = (self._store.head()).position
        category = chosen.category or self._only_category()
        own = [e for e in self._of(stored_name(f"log-{category}"), head) if e.type == LOG_TYPE]
        self._target.write(opening(own[-1] if own else None))
        for number, stream in self._traces(category, head):
            events = self._chosen_of(stream, head)
            mine = _of_trace(events, number)
            if not mine and query != Query():
                continue
            if number == 0:
                self._target.write(loose(mine))
            else:
                name = stream.partition("-")[2] or stream
                self._target.write(trace(mine, name))
            self._count_nulls(mine)
            self._count(len(mine), head)
        self._target.write(CLOSING)

    def _only_category(self) -> str:
        """The category of all streams that aren't a log's own. Raises `InvalidQueryError`."""
        found: set[str] = set()
        for info in self._store.streams():
            if any(s.reaches(info.name) for s in self._query.selectors):
                found.add(info.category)
        names = sorted(found - {"log"}) or sorted(found) or [DEFAULT_CATEGORY]
        if len(names) > 1:
            more = (
                f" and {len(names) - _NAMED_CATEGORIES} more"
                if len(names) > _NAMED_CATEGORIES
                else ""
            )
            raise InvalidQueryError(
                f"an XES log has the streams of one category, and there are "
                f"{', '.join(names[:_NAMED_CATEGORIES])}{more}; choose one (--category), and "
                f"export each into a file of its own"
            )
        return names[0]

    def _chosen_of(self, stream: str, head: int) -> list[RecordedEvent[Any]]:
        """A stream's events that the query asks for; its trace's own goes along with any."""
        query = self._query
        selectors = tuple(
            msgspec.structs.replace(s, streams=frozenset({stream}))
            for s in query.selectors
            if s.reaches(stream)
        )
        if not selectors:
            return []
        everything = [e for e in self._of(stream, head)]
        if query == Query(query.selectors) and not any(s.types or s.tags for s in selectors):
            return everything
        last = head if query.last_position is None else min(head, query.last_position)
        bounded = msgspec.structs.replace(query, selectors=selectors, last_position=last)
        wanted = {e.position for e in self._store.read(bounded)}
        has_any = any(e.position in wanted and e.type != TRACE_TYPE for e in everything)
        if not has_any:
            return []
        return [e for e in everything if e.position in wanted or e.type == TRACE_TYPE]

    def _of(self, stream: str, head: int) -> Iterator[RecordedEvent[Any]]:
        return self._store.read(self._all.stream(stream).up_to(head))

    def _traces(self, category: str, head: int) -> list[tuple[int, str]]:
        """Each trace's number and stream; streams that were never a trace come last."""
        query = self._all.category(category).types(TRACE_TYPE).up_to(head)
        found = [(trace_numbers(e) or _LAST_NUMBER, e.stream) for e in self._store.read(query)]
        known = {stream for _, stream in found}
        for info in self._store.streams(category):
            if info.name not in known:
                found.append((0 if info.name == f"{category}-{LOOSE}" else _LAST_NUMBER, info.name))
        return sorted(found, key=lambda item: item[0] or _LAST_NUMBER + 1)

    def _count_nulls(self, events: list[RecordedEvent[Any]]) -> None:
        for event in events:
            if event.type not in {TRACE_TYPE, LOG_TYPE} and (lost := nulls_of(event)):
                self._first_null = self._first_null or event.position
                self._nulls += lost

    def _count(self, events: int, head: int) -> None:
        self.events += events
        if self._progress is not None:
            whole = self._query == Query()
            self._progress(
                ExchangeProgress("writing", self.events, head if whole else None, "events")
            )


def _of_trace(events: list[RecordedEvent[Any]], number: int) -> list[RecordedEvent[Any]]:
    """A stream's events of one trace: several traces of one name share a stream."""
    numbers = {trace_numbers(e) for e in events if e.type == TRACE_TYPE} - {None}
    if len(numbers) <= 1:
        return events
    first = min(n for n in numbers if n is not None)
    return [e for e in events if (trace_numbers(e) or first) == number]
