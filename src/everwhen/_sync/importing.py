# Generated from src/everwhen/_async/importing.py by tools/unasync.py: edit that, then run `make sync`.
"""Importing files into a store.

Somebody else's log is read whole, checked and sorted first: where anything in it is invalid,
nothing is written. An Everwhen export is in order already. It is checked whole and then read
again, so that it may be of any size; from a pipe, which can't be read twice, it is written as it
comes, commit by commit.

Commit ids follow from the content, so whatever an interrupted import has written is recognised.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import chain, islice
from typing import Final, Literal

import msgspec

from everwhen._sync.seam import sleep
from everwhen._sync.store import Store
from everwhen.contract import Checkpoint, EncodedCommit, Outcome, Receipt, to_micros
from everwhen.errors import CommitIdError, EverwhenError, InvalidCommitError
from everwhen.exchange.entries import (
    Entrance,
    Foreign,
    Importable,
    Restored,
    sealed_again,
    settled,
)
from everwhen.exchange.errors import DamagedInputError, ImportFormatError
from everwhen.exchange.formats import format_of
from everwhen.exchange.records import (
    Format,
    ImportReport,
    Invalid,
    Item,
    Progress,
    Record,
    RestoredCommit,
)
from everwhen.exchange.sorting import Sorter
from everwhen.exchange.sources import Location, Source
from everwhen.sealing import PERSONAL, SEALED

_READ_AT_ONCE: Final = 500
_BATCH_EVENTS: Final = 1_000
_SAVED_EVERY: Final = 20_000

Times = Literal["recorded", "occurred"]


class _State(msgspec.Struct):
    """What an import's checkpoint remembers. ``done`` counts commits; -1 when all are."""

    times: Times
    done: int


def import_events(
    store: Store,
    source: Location,
    format: Format | None = None,  # noqa: A002 (the user's word)
    *,
    skip_invalid: bool = False,
    keep_reasons: int = 20,
    progress: Callable[[Progress], None] | None = None,
) -> ImportReport:
    """Import a file's events; run it again to go on after an interruption.

    ``source`` is a path, ``"-"`` for standard input, or an open binary file. The format follows
    from the name unless given. The events' own times become their ``recorded_at`` where the store
    is empty or older than all of them, else their ``occurred_at``.

    Raises `ImportFormatError` for the first invalid line or element, before anything is written;
    with ``skip_invalid`` such are left out and counted, and the first ``keep_reasons`` reported.
    Raises `ConflictError` where an Everwhen export doesn't fit what is in the store, and
    `ExchangeFileError` where the file can't be read.
    """
    chosen = format if format is not None else format_of(source)
    with closing(Source(source)) as opened:
        running = _Import(
            store,
            opened,
            chosen,
            skip_invalid=skip_invalid,
            keep_reasons=keep_reasons,
            progress=progress,
        )
        running.run()
    return running.report()


class _Import:
    """One import, under way."""

    def __init__(
        self,
        store: Store,
        source: Source,
        format_: Format,
        *,
        skip_invalid: bool,
        keep_reasons: int,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self._progress = progress
        self._store = store
        self._source = source
        self._format = format_
        self._skip_invalid = skip_invalid
        self._keep_reasons = keep_reasons
        self._name = ""
        self._state = _State("recorded", 0)
        self._events = self._written = self._repeated = self._invalid = 0
        self._unsaved = 0
        self._reasons: list[Invalid] = []
        self._line = 0

    def _tell(self, progress: Progress) -> None:
        if self._progress is not None:
            self._progress(progress)

    def report(self) -> ImportReport:
        return ImportReport(
            self._events,
            self._written,
            self._repeated,
            self._invalid,
            tuple(self._reasons),
            self._state.times,
        )

    def run(self) -> None:
        items = self._items()
        first = next(items, None)
        if first is None:
            return
        if isinstance(first, RestoredCommit):
            self._restore(chain((first,), items))
        else:
            self._take_in(chain((first,), items))

    def _items(self) -> Iterator[Record | RestoredCommit]:
        """The file's valid items; the others are counted, or raised."""
        reading = self._format.read(self._source.chunks())
        while True:
            try:
                item: Item | None = next(reading, None)
            except DamagedInputError as error:
                raise ImportFormatError(
                    self._source.name, error.line or self._line, error.reason
                ) from error
            if item is None:
                return
            self._line = item.line
            if isinstance(item, Invalid):
                self._refuse(item.line, item.reason)
            else:
                yield item

    def _refuse(self, line: int, reason: str) -> None:
        if not self._skip_invalid:
            raise ImportFormatError(self._source.name, line, reason)
        self._invalid += 1
        if len(self._reasons) < self._keep_reasons:
            self._reasons.append(Invalid(line, reason))

    # Somebody else's log

    def _take_in(self, items: Iterator[Record | RestoredCommit]) -> None:
        entrance = Entrance(self._store._codec)
        with closing(Sorter()) as sorter:
            while batch := list(islice(items, _READ_AT_ONCE)):
                for record in batch:
                    self._sort_in(record, entrance, sorter)
                self._tell(Progress("reading", self._source.done, self._source.total, "bytes"))
                sleep(0)
            digest = hashlib.sha256(self._format.identity + self._source.digest).digest()
            entrance.identify(digest)
            self._begin(f"import:{digest.hex()[:32]}", sorter.earliest)
            self._events = sorter.count
            done = sorter.count if self._state.done < 0 else self._state.done
            self._repeated = done
            earliest = sorter.earliest
            records = islice(sorter.sorted(), done, None)
            while batch := list(islice(records, _BATCH_EVENTS)):
                self._write([Foreign(record, entrance, earliest) for record in batch])
                written = self._written + self._repeated
                self._tell(Progress("writing", written, sorter.count, "events"))
            self._save(-1)

    def _sort_in(self, item: Record | RestoredCommit, entrance: Entrance, sorter: Sorter) -> None:
        if isinstance(item, RestoredCommit):
            raise TypeError("a reader gives records or commits, never both")
        reason = entrance.refusal(item)
        if reason is None:
            sorter.add(item)
        else:
            self._refuse(item.line, reason)

    # An Everwhen export

    def _restore(self, items: Iterator[Record | RestoredCommit]) -> None:
        if self._source.can_repeat and not self._skip_invalid:
            for item in items:
                if self._due(item):
                    self._tell(Progress("reading", self._source.done, self._source.total, "bytes"))
                    sleep(0)
            self._source.repeat()
            items = self._items()
        batch: list[Importable] = []
        size = seen = 0
        for item in items:
            if not isinstance(item, RestoredCommit):
                raise TypeError("a reader gives records or commits, never both")
            if not self._name:
                self._begin(f"import:{item.id.hex()}", item.recorded_at)
            item = self._guarded(item)  # noqa: PLW2901
            batch.append(Restored(item, keep_versions=not self._skip_invalid))
            size += item.events
            seen += item.events
            if size >= _BATCH_EVENTS:
                self._write(batch)
                batch, size = [], 0
                self._tell(Progress("writing", self._source.done, self._source.total, "bytes"))
        if batch:
            self._write(batch)
        self._events = seen
        self._tell(Progress("writing", self._source.done, self._source.total, "bytes"))
        self._save(self._state.done)

    def _guarded(self, item: RestoredCommit) -> RestoredCommit:
        """The commit, with what was exported readable encrypted again.

        Raises `ImportFormatError` where there is no vault to do that by.
        """
        sealing, metadata = self._store._codec.sealing, item.metadata or b""
        if not any(PERSONAL in text for text in (metadata, *(e.data for e in item.entries))):
            is_moved = item.id != item.origin and SEALED in metadata
            return settled(item, sealing) if is_moved and sealing is not None else item
        if sealing is None:
            why = "it has personal data, and the store no vault to encrypt it by; open it with one"
            raise ImportFormatError(self._source.name, item.line, why)
        return sealed_again(item, sealing)

    def _due(self, item: Record | RestoredCommit) -> bool:
        """Whether it is time to let others run."""
        self._unsaved += item.events if isinstance(item, RestoredCommit) else 1
        if self._unsaved < _READ_AT_ONCE:
            return False
        self._unsaved = 0
        return True

    # Both

    def _begin(self, name: str, earliest: int | None) -> None:
        """Decide, once for all attempts, what becomes of the file's own times."""
        self._name = name
        self._unsaved = 0
        known = self._store.checkpoint(name)
        if known is not None:
            self._state = msgspec.json.decode(known.data, type=_State)
            return
        newest = (self._store.head()).recorded_at
        fits = earliest is None or (newest is None or to_micros(newest) <= earliest)
        if not (fits and self._store.capabilities.keeps_recorded_at):
            self._state.times = "occurred"
        self._save(0)

    def _save(self, done: int) -> None:
        self._state.done = done
        self._unsaved = 0
        position = (self._store.head()).position
        checkpoint = Checkpoint(self._name, position, msgspec.json.encode(self._state))
        with self._store.transaction() as transaction:
            transaction.save_checkpoint(checkpoint)

    def _write(self, batch: list[Importable]) -> None:
        """Write a batch in the form decided on.

        A commit that can't be written in it (the store got newer events in between) or is there
        in the other one (it was imported in other circumstances) is tried in the other form.
        """
        own = self._state.times == "recorded"
        first = self._append([unit.own() if own else unit.late() for unit in batch])
        again = [
            i
            for i, outcome in enumerate(first)
            if isinstance(outcome, CommitIdError | InvalidCommitError)
        ]
        if again:
            second = self._append([batch[i].late() if own else batch[i].own() for i in again])
            for i, outcome in zip(again, second, strict=True):
                if isinstance(outcome, Receipt) or not isinstance(outcome, InvalidCommitError):
                    first[i] = outcome
        for unit, outcome in zip(batch, first, strict=True):
            self._count(unit, outcome)
        self._unsaved += len(batch)
        if self._unsaved >= _SAVED_EVERY:
            self._save(self._state.done + self._unsaved)
        else:
            sleep(0)

    def _append(self, commits: Iterable[EncodedCommit]) -> list[Outcome]:
        return list(self._store._backend.append(list(commits)))

    def _count(self, unit: Importable, outcome: Outcome) -> None:
        if isinstance(outcome, EverwhenError):
            raise outcome
        if outcome.repeated:
            self._repeated += unit.events
        else:
            self._written += unit.events
