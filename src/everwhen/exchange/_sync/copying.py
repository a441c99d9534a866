# Generated from src/everwhen/exchange/_async/copying.py by tools/unasync.py: edit that, then run `make sync`.
"""Copying a store into another backend: the same history, and what belongs to it.

All of the target is compared before anything is written, and what was written is read back. What
the source keeps beside its history is read before its head, so that none of it tells of an event
that the copy doesn't have; it is written last, and with it the branches are registered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Final, Literal
from uuid import UUID, uuid4

from everwhen.backends._sync.backend import Backend
from everwhen.backends.branch_records import BRANCH_PREFIX, Registered, branches_in, registered
from everwhen.backends.engine import EngineTransaction
from everwhen.branches._sync.own_log import OwnLog
from everwhen.exchange._sync.history_writing import HistoryWriter, slice_pages
from everwhen.exchange.errors import OtherCopyError
from everwhen.exchange.history_commits import Commits, OddSliceError, batches
from everwhen.exchange.records import CopyReport, ExchangeProgress
from everwhen.merkle.store_notes import SIGNED_HERE
from everwhen.store._sync.store import Store, check_store
from everwhen.store.local_checkpoints import is_local
from everwhen.vocabulary.contract import Checkpoint, Head, StoredSlice
from everwhen.vocabulary.errors import CorruptStoreError, DeclarationError, UnsupportedError
from everwhen.vocabulary.microseconds import to_micros

_MARK: Final = "everwhen-copy"
"""A checkpoint that is in the target for a moment, to see whether it is in the source then."""
_FIELDS: Final = ("stream", "version", "recorded_at", "metadata", "first_index", "body")


def copy_store(
    source: Store,
    target: Store,
    *,
    progress: Callable[[ExchangeProgress], None] | None = None,
) -> CopyReport:
    """Copy a store into another one, of any backend; run it again to go on after an interruption.

    ``target`` has to be empty, or to have the beginning of the same history and nothing else, which
    is compared first. Positions, versions, times, commit ids, metadata and bodies become what they
    are in the source, byte for byte: encrypted data stays encrypted, and signed checkpoints and
    proofs hold for the copy. Branches go along, and so does what is kept of reactions, their
    timers, subscribers, imports and bookmarks. Read models and snapshots don't; they are made anew.

    The copy is of one moment; what the source gets meanwhile is counted as ``newer``. Open both
    without a vault, so that no erasure is carried out in an unfinished copy, and leave the target
    alone until it is done. ``progress`` is called with the events that were compared and
    written; what it raises ends the copying. What is written by then stays.

    Raises `OtherCopyError` where the target has other history, `DeclarationError` where both are
    one store, and `UnsupportedError` for a branch, for a partitioned store, and where history was
    retired: all of these before anything is written. Raises `ReadOnlyError` and other
    `StorageError` where one of them can't be written or read.
    """
    for store in (check_store(source), check_store(target)):
        _check_kind(store)
    copying = _StoreCopy(source, target, progress)
    try:
        return copying.run()
    finally:
        copying.close()


def _check_kind(store: Store) -> None:
    """Raises `UnsupportedError` for a store that can't be a source or a target."""
    if store.kernel.branch is not None:
        raise UnsupportedError(
            f"{store!r} is a branch; copy the store that it was made from, which takes its "
            f"branches along"
        )
    if not (store.capabilities.keeps_recorded_at and store.capabilities.dense_positions):
        raise UnsupportedError(
            f"{store!r} gives times or positions of its own, and a copy has the same ones; export "
            f"its events to a file, and import that"
        )


class _LogCopy:
    """One log of the source, and its copy: the store's own, or that of a ``branch``.

    It is copied up to ``head``; up to ``before`` the copy had it already. ``newest`` is the last
    slice that was compared.
    """

    def __init__(self, source: Backend, branch: Registered | None = None) -> None:
        self.source = source
        self.branch = branch
        self.target: Backend | None = None
        self.checkpoints: dict[str, Checkpoint] = {}
        self.head = self.before = 0
        self.newest: StoredSlice | None = None

    def look(self) -> None:
        """Take in what there is to copy: the checkpoints first, then the head."""
        found = self.source.checkpoints()
        self.checkpoints = {
            one.name: one for one in found if not is_local(one.name) and one.name != _MARK
        }
        self.head = (self.source.head()).position

    def place(self, position: int) -> tuple[int, str]:
        """A position of the log, as the store or the branch shows it; and which branch that is."""
        if self.branch is None:
            return position, ""
        return self.branch.fork.position + position, f"on branch {self.branch.name!r}, "


class _StoreCopy:
    """One copying, under way. The store's own log is the first of ``_logs``."""

    def __init__(
        self,
        source: Store,
        target: Store,
        progress: Callable[[ExchangeProgress], None] | None,
    ) -> None:
        self._stores = source, target
        self._source = source.kernel.backend
        self._target = target.kernel.backend
        self._progress = progress
        self._stage: Literal["comparing", "writing"] = "comparing"
        self._done = self._total = 0
        self._written = self._repeated = 0
        self._logs: list[_LogCopy] = []
        self._own_logs: list[OwnLog] = []

    @property
    def _names(self) -> tuple[str, str]:
        return repr(self._stores[0]), repr(self._stores[1])

    def run(self) -> CopyReport:
        self._check_whole()
        self._check_distinct()
        self._find()
        self._begin("comparing", sum(log.before for log in self._logs))
        for log in self._logs:
            self._recognise(log)
        self._begin("writing", sum(log.head - log.before for log in self._logs))
        for log in self._logs:
            self._write(log)
        self._begin("comparing", self._total)
        for log in self._logs:
            self._verify(log)
        for log in reversed(self._logs):
            self._save_checkpoints(log)
        return self._report()

    def close(self) -> None:
        for log in self._logs[1:]:
            if log.target is not None:
                log.target.close()
        for own in self._own_logs:
            own.close()

    def _begin(self, stage: Literal["comparing", "writing"], total: int) -> None:
        self._stage, self._done, self._total = stage, 0, total

    def _tell(self, events: int) -> None:
        self._done += events
        if self._progress is not None:
            self._progress(ExchangeProgress(self._stage, self._done, self._total, "events"))

    # Before anything is written

    def _check_whole(self) -> None:
        """Raises `UnsupportedError` where the beginning of the history is gone."""
        for name, backend in zip(self._names, (self._source, self._target), strict=True):
            retired = [one.last for one in backend.segments() if one.retired_at is not None]
            if retired:
                raise UnsupportedError(
                    f"{name}: events up to position {max(retired):,} were retired, and a copy "
                    f"can't have the same positions without them; export the rest, with "
                    f"skipping_retired (--skip-retired), or back the store up"
                )

    def _check_distinct(self) -> None:
        """Raises `DeclarationError` where both are one store, whatever they are opened by."""
        mark = Checkpoint(_MARK, 0, uuid4().bytes)
        self._target.transact(lambda transaction: transaction.save_checkpoint(mark))
        try:
            is_same = self._source.checkpoint(_MARK) == mark
        finally:
            self._target.transact(lambda transaction: transaction.delete_checkpoint(_MARK))
        if is_same:
            raise DeclarationError(
                f"{self._names[1]} is the store that is to be copied; name another for the copy"
            )

    def _find(self) -> None:
        """All logs of the source, and which of them the target has."""
        root = _LogCopy(self._source)
        root.target = self._target
        self._logs.append(root)
        root.look()
        for name, checkpoint in root.checkpoints.items():
            if name.startswith(BRANCH_PREFIX):
                branch = registered(checkpoint)
                own = OwnLog(self._source, branch)
                self._own_logs.append(own)
                log = _LogCopy(own.existing(), branch)
                self._logs.append(log)
                log.look()
                if self._target.has_log(branch.id):
                    log.target = self._target.open_log(branch.id, branch.fork.not_before)
        self._check_branches()
        for log in self._logs:
            log.before = 0 if log.target is None else (log.target.head()).position

    def _check_branches(self) -> None:
        """Raises `OtherCopyError` where the target has a branch that the source hasn't."""
        known = {log.branch.id for log in self._logs if log.branch is not None}
        for name, branch in (self._target.view(branches_in)).items():
            if branch.id not in known:
                raise self._other(
                    self._logs[0], branch.fork.position + 1, f"it has a branch {name!r} of its own"
                )

    def _recognise(self, log: _LogCopy) -> None:
        """Compare what the target has. Raises `OtherCopyError` for the first difference."""
        difference = self._difference(log, 0, min(log.before, log.head))
        if difference is not None:
            raise self._other(log, *difference)
        if log.before > log.head:
            raise self._other(log, log.head + 1, f"it has {log.before - log.head:,} events more")
        self._repeated += log.before

    def _difference(self, log: _LogCopy, after: int, last: int) -> tuple[int, str] | None:
        """Where log and copy first differ after a position, up to another one; and how."""
        if log.target is None:
            return None
        copies = slice_pages(log.target, after, last)
        copied: list[StoredSlice] = []
        for page in slice_pages(log.source, after, last):
            while len(copied) < len(page):
                more = next(copies, None)
                if more is None:
                    break
                copied += more
            if copied[: len(page)] != page:
                return _first_difference(page, copied)
            copied = copied[len(page) :]
            log.newest = page[-1]
            self._tell(sum(stored.count for stored in page))
        return None

    def _other(self, log: _LogCopy, position: int, reason: str) -> OtherCopyError:
        shown, where = log.place(position)
        return OtherCopyError(*self._names, shown, where + reason, self._written)

    # What is written

    def _write(self, log: _LogCopy) -> None:
        """Write all commits that follow on what the target has."""
        if log.branch is not None and log.target is None and (log.head or log.checkpoints):
            log.target = self._target.open_log(log.branch.id, log.branch.fork.not_before)
        if log.target is None or log.before == log.head:
            return
        writer = HistoryWriter(
            log.target,
            lambda position, reason: self._other(log, position, reason),
            is_empty=not log.before,
        )
        commits = Commits(log.newest)
        for page in slice_pages(log.source, log.before, log.head):
            rest = commits.end() if page[-1].position == log.head else ()
            try:
                for batch in batches(chain(commits.take(page), rest)):
                    before = writer.written + writer.repeated
                    writer.write(batch)
                    self._count(writer, before)
            except OddSliceError as error:
                shown, where = log.place(error.position)
                raise CorruptStoreError(
                    f"{self._names[0]}: {where}position {shown:,}: {error}; {self._written:,} "
                    f"events were copied, and stay; check the store, and restore it from a backup"
                ) from error

    def _count(self, writer: HistoryWriter, before: int) -> None:
        events = writer.written + writer.repeated - before
        self._written += events
        self._tell(events)

    def _save_checkpoints(self, log: _LogCopy) -> None:
        """Make the checkpoints of the target those of the source."""
        wanted = log.checkpoints

        def settle(transaction: EngineTransaction) -> None:
            known = {one.name: one for one in transaction.checkpoints("")}
            for name in known.keys() - wanted.keys():
                if not (is_local(name) or name.startswith(SIGNED_HERE)):
                    transaction.delete_checkpoint(name)
            for name, checkpoint in wanted.items():
                if known.get(name) != checkpoint:
                    transaction.save_checkpoint(checkpoint)

        if log.target is not None:
            log.target.transact(settle)

    # What became of it

    def _verify(self, log: _LogCopy) -> None:
        """Read back what was written. Raises `CorruptStoreError` where it is something else."""
        if log.target is None:
            return
        difference = self._difference(log, log.before, log.head)
        if difference is not None:
            shown, where = log.place(difference[0])
            raise CorruptStoreError(
                f"{self._names[1]}: {where}position {shown:,} isn't what was written there: "
                f"{difference[1]}; check its medium, and copy into a new store"
            )
        head = log.target.head()
        if not _is_at(head, log.head, log.newest):
            raise self._other(log, log.head + 1, "somebody else has written to it meanwhile")

    def _report(self) -> CopyReport:
        newer = 0
        for log in self._logs:
            newer += (log.source.head()).position - log.head
        head = self._target.head()
        return CopyReport(
            head.position,
            head.recorded_at,
            len(self._logs) - 1,
            sum(log.head for log in self._logs),
            self._written,
            self._repeated,
            newer,
        )


def _is_at(head: Head, position: int, newest: StoredSlice | None) -> bool:
    """Whether a log ends at a position, with this slice."""
    if head.position != position or newest is None or head.recorded_at is None:
        return head.position == position == 0
    return to_micros(head.recorded_at) == newest.recorded_at


def _first_difference(
    slices: Sequence[StoredSlice], copied: Sequence[StoredSlice]
) -> tuple[int, str]:
    """Where copied slices first differ from what they are copies of, and how."""
    for one, copy in zip(slices, copied, strict=False):
        if one == copy:
            continue
        begins = one.position - one.count + 1
        if one.commit_id != copy.commit_id:
            ids = UUID(bytes=copy.commit_id), UUID(bytes=one.commit_id)
            return begins, f"commit {ids[0]} is there, and commit {ids[1]} in the source"
        names = [name for name in _FIELDS if getattr(one, name) != getattr(copy, name)]
        what = " and ".join(names or ["number of events"])
        return begins, f"commit {UUID(bytes=one.commit_id)} has another {what} there"
    missing = slices[len(copied)]
    return missing.position - missing.count + 1, "events are missing there"
