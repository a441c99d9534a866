"""Importing files into a store.

Somebody else's log is read whole, checked and sorted first: where anything in it is invalid,
nothing is written. An Everwhen export is in order already. It is checked whole, against the store
too, and then read again, so that it may be of any size; from a pipe, which can't be read twice, it
is written as it comes, commit by commit.

Commit ids follow from the content, so whatever an interrupted import has written is recognised.

Others may write to the store meanwhile. Time never steps back, so from their first event on the
file's own times can't be the ``recorded_at`` of what is left: it is recorded now, and its own times
become ``occurred_at``.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import closing
from itertools import chain, islice
from typing import Final, get_args
from uuid import UUID

from everwhen.backends._async.concurrency import sleep
from everwhen.exchange.csv_files import Csv
from everwhen.exchange.entries import (
    Entrance,
    Foreign,
    Importable,
    Restored,
    encrypted_again,
    settled,
)
from everwhen.exchange.errors import (
    DamagedInputError,
    ImportConflictError,
    ImportedBeforeError,
    ImportFormatError,
    ImportTimesError,
)
from everwhen.exchange.formats import format_of
from everwhen.exchange.import_records import (
    ATTEMPT_PREFIX,
    Attempt,
    Future,
    KeptTimes,
    Times,
    attempt_of,
    attempts_in,
    digest_of,
    encode,
    import_named,
    said_of,
    said_of_shared,
    same_content,
)
from everwhen.exchange.moments import text_of
from everwhen.exchange.notices import Notice, Notices
from everwhen.exchange.records import (
    ExchangeProgress,
    FileItem,
    ForeignEvent,
    Format,
    ImportReport,
    Invalid,
    RestoredCommit,
)
from everwhen.exchange.row_digests import SharedRows
from everwhen.exchange.sorting import Sorter
from everwhen.exchange.sources import Location, Source
from everwhen.privacy.personal_values import ENCRYPTED, PERSONAL
from everwhen.store._async.store import Store
from everwhen.vocabulary.contract import Checkpoint, EncodedCommit, Outcome, Receipt
from everwhen.vocabulary.errors import (
    CommitIdError,
    ConflictError,
    DeclarationError,
    EverwhenError,
    InvalidCommitError,
)
from everwhen.vocabulary.microseconds import to_micros

_ITEMS_AT_ONCE: Final = 500
"""Items that are read before other tasks may run: more would hold up the event loop."""

_BATCH_EVENTS: Final = 1_000
"""Events that are appended together: one sync of the disk pays for many commits."""

_SAVED_EVERY_ITEMS: Final = 20_000
"""How often the checkpoint is written: a crash costs at most this much of the work."""

_MAX_REMEMBERED: Final = 250_000
"""Commit ids that are kept in memory, and streams likewise: together some tens of MB."""

CLOCK_SKEW_MICROSECONDS: Final = 5 * 60 * 1_000_000
"""How far a file's times may lie after the store's clock: clocks differ."""


async def import_events(
    store: Store,
    source: Location,
    format: Format | None = None,  # noqa: A002 (the user's word)
    *,
    skip_invalid: bool = False,
    keep_reasons: int = 20,
    times: Times = "auto",
    future: Future = "refuse",
    again: bool = False,
    progress: Callable[[ExchangeProgress], None] | None = None,
) -> ImportReport:
    """Import a file's events; run it again to go on after an interruption.

    ``source`` is a path, ``"-"`` for standard input, or an open binary file. The format follows
    from the name unless given.

    ``times`` says what the events' own times become. "recorded" is their ``recorded_at``, which
    needs a store that is empty or older than all of them, and that nobody else writes to until
    the import is done; "occurred" is their ``occurred_at``, with ``recorded_at`` now; "auto" is
    the first where it is possible, and goes on with the second from where it no longer is. The
    report says which it was. ``future`` is for times that would be ``recorded_at`` and lie more
    than five minutes after the store's clock, as nothing could be recorded before them any more:
    "refuse" them as invalid, take them as ``occurred_at`` ("occurred"), or as they are
    ("recorded").

    The same rows read with other options become other events, and so do the rows that the file has
    in common with one that was imported before. Where that is a quarter or more of either, they are
    refused, unless ``again``.

    Raises `ImportFormatError` for the first invalid line or element, before anything is written;
    with ``skip_invalid`` such are left out and counted, and the first ``keep_reasons`` reported.
    Raises `ImportedBeforeError`, and `ImportTimesError` where "recorded" is not possible.
    Raises `ImportConflictError` where an Everwhen export doesn't fit what is in the store, and
    `ExchangeFileError` where the file can't be read.
    """
    _check_choice("times", times, get_args(Times))
    _check_choice("future", future, get_args(Future))
    chosen = format if format is not None else format_of(source)
    with closing(Source(source)) as opened:
        running = _Import(
            store,
            opened,
            chosen,
            skip_invalid=skip_invalid,
            keep_reasons=keep_reasons,
            times=times,
            future=future,
            again=again,
            progress=progress,
        )
        await running.run()
    return running.report()


def _check_choice(name: str, given: str, choices: tuple[str, ...]) -> None:
    if given not in choices:
        raise DeclarationError(f"{name}={given!r}: use one of {', '.join(map(repr, choices))}")


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
        times: Times,
        future: Future,
        again: bool,
        progress: Callable[[ExchangeProgress], None] | None,
    ) -> None:
        self._progress = progress
        self._store = store
        self._source = source
        self._format = format_
        self._skip_invalid = skip_invalid
        self._keep_reasons = keep_reasons
        self._times = times
        self._future = future
        self._again = again
        self._now = to_micros(store.clock())
        self._latest = self._now + CLOCK_SKEW_MICROSECONDS
        self._name = ""
        self._state = Attempt("recorded", 0)
        self._content = hashlib.sha256()
        self._events = self._written = self._repeated = self._invalid = self._late = 0
        self._unsaved = self._our_position = 0
        self._reasons: list[Invalid] = []
        self._notices = Notices()
        self._line = 0

    def _tell(self, progress: ExchangeProgress) -> None:
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
            self._late,
            notices=tuple(self._notices),
        )

    async def run(self) -> None:
        items = self._items()
        first = next(items, None)
        if first is None:
            return
        if isinstance(first, RestoredCommit):
            await self._restore(chain((first,), items))
        else:
            await self._take_in(chain((first,), items))

    def _items(self) -> Iterator[ForeignEvent | RestoredCommit]:
        """The file's valid items; the others are counted, or raised."""
        reading = self._read()
        self._notices = Notices()
        while True:
            try:
                item: FileItem | None = next(reading, None)
            except DamagedInputError as error:
                raise ImportFormatError(
                    self._source.name, error.line or self._line, error.reason
                ) from error
            if item is None:
                return
            if isinstance(item, Notice):
                self._notices.add(item.what, item.line, item.count)
                continue
            self._line = item.line
            if isinstance(item, Invalid):
                self._refuse(item.line, item.reason)
            else:
                yield item

    def _read(self) -> Iterator[FileItem]:
        chunks = self._chunks()
        first = next(chunks, b"")
        if isinstance(self._format, Csv):
            self._format = self._format.settled(first)
        yield from self._format.read(chain((first,), chunks))

    def _chunks(self) -> Iterator[bytes]:
        """The file's content, of which a digest is made."""
        self._content = hashlib.sha256()
        for chunk in self._source.chunks():
            self._content.update(chunk)
            yield chunk

    def _refuse(self, line: int, reason: str) -> None:
        if not self._skip_invalid:
            raise ImportFormatError(self._source.name, line, reason)
        self._invalid += 1
        if len(self._reasons) < self._keep_reasons:
            self._reasons.append(Invalid(line, reason))

    # Somebody else's log

    async def _take_in(self, items: Iterator[ForeignEvent | RestoredCommit]) -> None:
        entrance = Entrance(self._store.kernel.codec)
        shared = SharedRows(attempts_in(await self._store.checkpoints()).values())
        with closing(Sorter()) as sorter:
            first_ahead: ForeignEvent | None = None
            while batch := list(islice(items, _ITEMS_AT_ONCE)):
                for item in batch:
                    record = self._sorted_in(item, entrance, shared, sorter)
                    if first_ahead is None and record is not None and record.time > self._latest:
                        first_ahead = record
                self._tell(
                    ExchangeProgress("reading", self._source.done, self._source.total, "bytes")
                )
                await sleep(0)
            self._refuse_forgotten(entrance)
            await self._identify(entrance, shared, sorter)
            ahead = first_ahead is not None and self._is_refused(first_ahead.time)
            if ahead and first_ahead is not None and not self._skip_invalid:
                self._refuse(first_ahead.line, self._ahead(first_ahead.time))
            await self._save(self._state.done)
            await self._write_sorted(sorter, entrance)

    async def _identify(self, entrance: Entrance, shared: SharedRows, sorter: Sorter) -> None:
        """Tell which import this is, and decide on it.

        With the keys of all who are in the file: once one is gone, no guess at it fits.
        """
        identity = self._format.identity
        self._content.update(entrance.secret)
        content, options = self._content.hexdigest(), identity.decode(errors="replace")
        digest = hashlib.sha256(identity + self._source.digest + entrance.secret).digest()
        name = import_named(digest)
        before = None
        if await self._store.checkpoint(name) is None:
            attempts = attempts_in(await self._store.checkpoints())
            before = same_content(attempts, content, options)
            if before is not None and attempts[before].options == options:
                name = before  # the same file, packed or not
            elif not self._again:
                self._refuse_repeated(None if before is None else attempts[before], options, shared)
        entrance.identify(digest_of(name))
        await self._decide(name, sorter.earliest, content, options)
        if not self._state.sketch:
            self._state.rows, self._state.sketch = shared.sketch.rows, shared.sketch.packed

    def _refuse_repeated(self, before: Attempt | None, options: str, shared: SharedRows) -> None:
        if before is not None:
            raise ImportedBeforeError(self._source.name, said_of(before, options))
        found = shared.most()
        if found is not None:
            raise ImportedBeforeError(
                self._source.name,
                said_of_shared(*found, shared.sketch.rows),
                "to import only what is new, leave those rows out",
            )

    def _refuse_forgotten(self, entrance: Entrance) -> None:
        """What has data of the forgotten can't be recognised, so that nobody can guess at it."""
        if entrance.forgotten is not None and not self._again:
            raise ImportedBeforeError(
                self._source.name,
                f"it has data of {entrance.forgotten!r}, who was forgotten, so nobody can tell "
                f"whether these rows were imported before",
            )

    async def _write_sorted(self, sorter: Sorter, entrance: Entrance) -> None:
        done = sorter.count if self._state.done < 0 else self._state.done
        self._repeated = done
        self._events = sorter.count
        earliest = sorter.earliest
        left_out = 0
        records = islice(sorter.sorted(), done, None)
        while batch := list(islice(records, _BATCH_EVENTS)):
            taken = [record for record in batch if not self._is_refused(record.time)]
            for record in batch[len(taken) :]:  # the latest are the last
                self._refuse(record.line, self._ahead(record.time))
            left_out += len(batch) - len(taken)
            if taken:
                await self._write([Foreign(record, entrance, earliest) for record in taken])
            written = self._written + self._repeated
            self._tell(ExchangeProgress("writing", written, sorter.count, "events"))
        self._events -= left_out
        await self._save(self._events if left_out else -1)

    def _sorted_in(
        self,
        item: ForeignEvent | RestoredCommit,
        entrance: Entrance,
        shared: SharedRows,
        sorter: Sorter,
    ) -> ForeignEvent | None:
        if isinstance(item, RestoredCommit):
            raise TypeError("a reader gives records or commits, never both")
        reason = entrance.refusal(item)
        secret = entrance.take_own_secret()
        if reason is not None:
            self._refuse(item.line, reason)
            return None
        if item.row:
            shared.add(item.row, secret)
            item.row = b""
        sorter.add(item)
        return item

    # An Everwhen export

    async def _restore(self, items: Iterator[ForeignEvent | RestoredCommit]) -> None:
        if self._source.can_repeat and not self._skip_invalid:
            await self._check(items)
            self._source.repeat()
            items = self._items()
        batch: list[Importable] = []
        size = seen = 0
        async for commit in self._begun(items):
            if not seen:
                await self._save(0)
            batch.append(Restored(self._guarded(commit), keep_versions=not self._skip_invalid))
            size += commit.events
            seen += commit.events
            if size >= _BATCH_EVENTS:
                await self._write(batch)
                batch, size = [], 0
                self._tell(
                    ExchangeProgress("writing", self._source.done, self._source.total, "bytes")
                )
        if batch:
            await self._write(batch)
        self._events = seen
        self._tell(ExchangeProgress("writing", self._source.done, self._source.total, "bytes"))
        if seen:
            await self._save(-1)

    async def _check(self, items: Iterator[ForeignEvent | RestoredCommit]) -> None:
        """Raises what is wrong with the export, or with it and the store, before any writing."""
        fit = _Fit(self._store)
        async for commit in self._begun(items):
            self._guarded(commit)
            if fit.is_used(commit.id):
                reason = f"commit id {UUID(bytes=commit.id)} was used before; export it again"
                raise ImportFormatError(self._source.name, commit.line, reason)
            wrong = await fit.problem(commit)
            if wrong is not None:
                raise self._conflict(wrong, commit.line)
            if self._due(commit):
                self._tell(
                    ExchangeProgress("reading", self._source.done, self._source.total, "bytes")
                )
                await sleep(0)

    async def _begun(
        self, items: Iterator[ForeignEvent | RestoredCommit]
    ) -> AsyncIterator[RestoredCommit]:
        """The export's commits, with what becomes of their times decided at the first."""
        for item in items:
            if not isinstance(item, RestoredCommit):
                raise TypeError("a reader gives records or commits, never both")
            if not self._name:
                await self._decide(f"{ATTEMPT_PREFIX}{item.id.hex()}", item.recorded_at)
            if self._is_refused(item.recorded_at):
                self._refuse(item.line, self._ahead(item.recorded_at))
            else:
                yield item

    def _guarded(self, item: RestoredCommit) -> RestoredCommit:
        """The commit, with what was exported readable encrypted again.

        Raises `ImportFormatError` where there is no vault to do that by.
        """
        encryption, metadata = self._store.kernel.codec.encryption, item.metadata or b""
        if not any(PERSONAL in text for text in (metadata, *(e.data for e in item.entries))):
            is_moved = item.id != item.origin and ENCRYPTED in metadata
            return settled(item, encryption) if is_moved and encryption is not None else item
        if encryption is None:
            why = "it has personal data and the store no vault: open it with one"
            raise ImportFormatError(self._source.name, item.line, why)
        return encrypted_again(item, encryption)

    def _due(self, item: ForeignEvent | RestoredCommit) -> bool:
        """Whether it is time to let others run."""
        self._unsaved += item.events if isinstance(item, RestoredCommit) else 1
        if self._unsaved < _ITEMS_AT_ONCE:
            return False
        self._unsaved = 0
        return True

    # Times that lie in the future

    def _is_refused(self, time: int) -> bool:
        """Whether this time would be recorded, and lies too far ahead for that."""
        own = self._state.times == "recorded" and self._future == "refuse"
        return own and time > self._latest

    def _ahead(self, time: int) -> str:
        return (
            f"its time {text_of(time)} is in the future (now it is {text_of(self._now)}), and "
            f"nothing could be recorded before it any more; correct it, or use such times as "
            f"occurred_at with future='occurred' (--future occurred)"
        )

    # Both

    async def _decide(
        self, name: str, earliest: int | None, content: str = "", options: str = ""
    ) -> None:
        """Decide, once for all attempts, what becomes of the file's own times.

        Nothing is written yet. Raises `ImportTimesError`.
        """
        self._name = name
        known = await self._store.checkpoint(name)
        if known is not None:
            self._state = attempt_of(known)
            if self._times == "occurred" and self._state.times == "recorded":
                self._state.times = "mixed"
            is_under_way = self._state.done >= 0 and self._state.times != "recorded"
            if self._times == "recorded" and is_under_way:
                raise self._out_of_time()
            return
        newest = (await self._store.head()).recorded_at
        fits = earliest is None or newest is None or to_micros(newest) <= earliest
        keeps = self._times != "occurred" and self._store.capabilities.keeps_recorded_at
        if self._times == "recorded" and not (fits and keeps):
            raise self._out_of_time()
        times: KeptTimes = "recorded" if fits and keeps else "occurred"
        self._state = Attempt(times, 0, content, options, self._now)

    def _out_of_time(self) -> ImportTimesError:
        why = "the store has newer events than this, so it can't be recorded at its own times"
        if not self._store.capabilities.keeps_recorded_at:
            why = "this store records everything now, so nothing can be recorded at its own times"
        return ImportTimesError(self._source.name, why, self._written)

    async def _save(self, done: int) -> None:
        self._state.done = done
        self._unsaved = 0
        position = (await self._store.head()).position
        checkpoint = Checkpoint(self._name, position, encode(self._state))
        async with self._store.transaction() as transaction:
            await transaction.save_checkpoint(checkpoint)

    async def _write(self, batch: list[Importable]) -> None:
        """Write a batch in the form decided on.

        From the first commit on that can't have its own time, for the store got newer events in
        between, all are recorded now. One that is there in the other form, from an earlier
        attempt, is recognised in that.
        """
        await self._look_out(batch[0])
        own = [self._keeps_time(unit) for unit in batch]
        outcomes = await self._append(zip(batch, own, strict=True))
        late = [i for i, outcome in enumerate(outcomes) if isinstance(outcome, InvalidCommitError)]
        again = [i for i, outcome in enumerate(outcomes) if isinstance(outcome, CommitIdError)]
        if late and self._times != "recorded":
            self._state.times = "mixed"
            again += [
                i
                for i, outcome in enumerate(outcomes[late[0] :], late[0])
                if not isinstance(outcome, Receipt | CommitIdError)
            ]
            again.sort()
        if again:
            for i in again:
                own[i] = not own[i] if isinstance(outcomes[i], CommitIdError) else False
            repeated = await self._append((batch[i], own[i]) for i in again)
            for i, outcome in zip(again, repeated, strict=True):
                outcomes[i] = outcome
        self._count(batch, own, outcomes)
        self._unsaved += len(batch)
        if self._state.times == "recorded" and not all(own):
            self._state.times = "mixed"  # all that follow lie in the future, too
        if self._unsaved >= _SAVED_EVERY_ITEMS or late:
            await self._save(self._state.done + self._unsaved)
        else:
            await sleep(0)

    async def _look_out(self, next_one: Importable) -> None:
        """Stop keeping own times where others have written: of one batch, all or none keep them.

        Else the events of a batch that lie after what the others wrote would come before the rest.
        """
        if self._state.times != "recorded" or not self._our_position or next_one.time is None:
            return
        head = await self._store.head()
        moment = None if head.recorded_at is None else to_micros(head.recorded_at)
        if head.position > self._our_position and moment is not None and moment > next_one.time:
            if self._times == "recorded":
                raise self._out_of_time()
            self._state.times = "mixed"

    def _keeps_time(self, unit: Importable) -> bool:
        if self._state.times != "recorded":
            return False
        is_ahead = unit.time is not None and unit.time > self._latest
        return self._future == "recorded" or not is_ahead

    async def _append(self, units: Iterable[tuple[Importable, bool]]) -> list[Outcome]:
        commits: list[EncodedCommit] = [unit.own() if own else unit.late() for unit, own in units]
        return await self._store.kernel.write(commits)

    def _count(self, batch: list[Importable], own: list[bool], outcomes: list[Outcome]) -> None:
        """Count what was written; then raise for the first that was not."""
        for unit, kept, outcome in zip(batch, own, outcomes, strict=True):
            if isinstance(outcome, EverwhenError):
                continue
            if outcome.repeated:
                self._repeated += unit.events
            else:
                self._written += unit.events
                self._late += 0 if kept or unit.time is None else unit.events
                self._our_position = max(self._our_position, outcome.position)
        for unit, kept, outcome in zip(batch, own, outcomes, strict=True):
            if isinstance(outcome, InvalidCommitError) and kept:
                raise self._out_of_time() from outcome
            if isinstance(outcome, ConflictError):
                raise self._conflict(outcome, unit.line) from outcome
            if isinstance(outcome, EverwhenError):
                raise outcome

    def _conflict(self, error: ConflictError, line: int) -> ImportConflictError:
        return ImportConflictError(
            error.stream, error.expected, error.actual, self._source.name, line, self._written
        )


class _Fit:
    """Whether an export's commits fit on each other and on what is in the store.

    Of more streams and commits than are remembered, the append itself finds out.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._ids: set[bytes] = set()
        self._versions: dict[str, int] = {}
        self._is_prefix = True
        self._is_empty: bool | None = None

    def is_used(self, commit_id: bytes) -> bool:
        """Whether another commit of the file has the id."""
        if commit_id in self._ids:
            return True
        if len(self._ids) < _MAX_REMEMBERED:
            self._ids.add(commit_id)
        return False

    async def problem(self, commit: RestoredCommit) -> ConflictError | None:
        """The first stream whose version isn't what the commit follows on; None if all are."""
        self._is_prefix = self._is_prefix and bool(
            await self._store.kernel.backend.stored_commit(commit.id)
        )
        if self._is_prefix:
            return None
        if self._is_empty is None:
            self._is_empty = (await self._store.head()).position == 0
        for stream, before in commit.before:
            at = self._versions.get(stream)
            if at is None:
                if len(self._versions) >= _MAX_REMEMBERED:
                    continue
                at = 0 if self._is_empty else await self._store.version(stream)
            if at != before:
                return ConflictError(stream, before, at)
            self._versions[stream] = at
        for part in commit.slices:
            if part.stream in self._versions:
                self._versions[part.stream] += part.count
        return None
