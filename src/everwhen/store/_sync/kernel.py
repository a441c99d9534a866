# Generated from src/everwhen/store/_async/kernel.py by tools/unasync.py: edit that, then run `make sync`.
"""What a store is made of, for everything above it: a backend, a codec, a vault and a clock.

`Store` is what applications see; the rooms above it work on its kernel.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from everwhen.backends._sync.backend import Backend
from everwhen.backends.branch_records import BranchInfo
from everwhen.backends.commit_checks import receipt_of
from everwhen.branches._sync.branches import Branches
from everwhen.codec.codec import Codec
from everwhen.codec.commits import Commit, encoded, stored_query
from everwhen.codec.event_types import EventTypes
from everwhen.codec.pipeline import CodecStep
from everwhen.codec.recorded_events import RecordedEvent, is_same
from everwhen.privacy.field_encryption import FieldEncryption
from everwhen.privacy.snapshot_keys import SnapshotKeys
from everwhen.privacy.vault import Vault
from everwhen.state.fold import Fold
from everwhen.store._sync.erasure import carry_out
from everwhen.store.arrow_events import check_libraries
from everwhen.store.erasure_records import bound_to
from everwhen.store.page_decoding import events_of_page, folded_page
from everwhen.store.projection_records import LeaseWatch
from everwhen.store.signed_reads import SignedIndex, SignedReading
from everwhen.store.valid_time import ValidOrder
from everwhen.vocabulary.clock import Clock
from everwhen.vocabulary.contract import EncodedCommit, Outcome, Page, Snapshot
from everwhen.vocabulary.erasures import purge_due
from everwhen.vocabulary.errors import CommitIdError, SnapshotError, StorageError
from everwhen.vocabulary.paging import PAGE_EVENTS, next_page
from everwhen.vocabulary.personal_data import Plaintext
from everwhen.vocabulary.query import Query

if TYPE_CHECKING:
    from everwhen.backends.engine import EngineView
    from everwhen.store.event_scans import EventScan

S = TypeVar("S")

_LOG: Final = logging.getLogger("everwhen")


class Kernel:
    """The parts of a store, and what is done with several of them at once.

    ``branches`` are those of the whole store, ``branch`` which of them this is, if it is one.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        types: EventTypes,
        steps: Sequence[CodecStep],
        vault: Vault | Plaintext | None,
        clock: Clock,
        new_id: Callable[[], bytes],
        snapshot_keys: SnapshotKeys,
        branches: Branches | None = None,
        branch: BranchInfo | None = None,
    ) -> None:
        self.backend = backend
        self.given_vault = vault
        self.vault = None if isinstance(vault, Plaintext) else vault
        encryption = None if self.vault is None else FieldEncryption(self.vault)
        self.codec = Codec(types, steps, encryption)
        self.clock = clock
        self.new_id = new_id
        self.snapshot_keys = snapshot_keys
        self.branches = Branches(backend) if branches is None else branches
        self.branch = branch
        self.leases = LeaseWatch()

    def beside(self, backend: Backend, branch: BranchInfo | None) -> Kernel:
        """The same over another backend: that of a branch, or a wrapper of this one."""
        return Kernel(
            backend,
            types=self.codec.types,
            steps=self.codec.steps,
            vault=self.given_vault,
            clock=self.clock,
            new_id=self.new_id,
            snapshot_keys=self.snapshot_keys,
            branches=None if branch is None else self.branches,
            branch=branch,
        )

    # Commits

    def encoded(self, commit: Commit) -> EncodedCommit:
        """The commit as it will be stored. Raises as `Store.commit` does, before it writes."""
        return encoded(commit, self.codec, self.new_id)

    def write(self, commits: Sequence[EncodedCommit], connection: object = None) -> list[Outcome]:
        """Write the commits, each on its own terms: one outcome for each, as of a backend."""
        outcomes = self.backend.append(commits, connection)
        if self.vault is not None:
            for index, outcome in enumerate(outcomes):
                if isinstance(outcome, CommitIdError):
                    outcomes[index] = self._judged_again(commits[index], outcome)
        return outcomes

    def _judged_again(self, commit: EncodedCommit, refusal: CommitIdError) -> Outcome:
        """A repeat may be encrypted with newer keys than the commit that is stored."""
        stored = self.backend.stored_commit(commit.id)
        if stored and is_same(commit, stored, self.codec):
            return msgspec.structs.replace(receipt_of(stored), repeated=True)
        return refusal

    # Reading

    def resolved(self, query: Query) -> Query:
        """The query with its recorded time turned into the position it means."""
        if query.recorded_until is None:
            return query
        position = self.backend.position_at(query.recorded_until)
        bound = position if query.last_position is None else min(position, query.last_position)
        return msgspec.structs.replace(query, last_position=bound, recorded_until=None)

    def event_scan(self, query: Query) -> EventScan:
        """The query's events up to now as columns; see `EventScan`.

        Raises `UnsupportedError` where a library is missing, and `CorruptStoreError` where an
        archived file is.
        """
        check_libraries("pyarrow")
        from everwhen.store.event_scans import EventScan, archived_files

        archived = archived_files(self.backend.segments())

        asked = self.resolved(stored_query(query, self.codec))
        head = (self.backend.head()).position
        bound = head if asked.last_position is None else min(head, asked.last_position)
        return EventScan(self.backend.read_here, asked.up_to(bound), archived)

    def one_page(self, query: Query, size: int) -> tuple[Page, Query, Query]:
        """The first page of about ``size`` events, the query it answers and what was meant."""
        asked = self.resolved(stored_query(query, self.codec))
        return self.backend.read(asked, size), asked, query

    def pages(
        self, wanted: Query, index: SignedIndex | None = None
    ) -> Iterator[tuple[Page, Query, Query]]:
        """The backend's pages, each with the query it answers and the query that was meant.

        With an ``index`` each is held against what was signed.
        """
        if wanted.max_events == 0:
            return
        size = min(wanted.max_events or PAGE_EVENTS, PAGE_EVENTS)
        if index is not None:
            for page, asked in self._proven_pages(wanted, size, index):
                yield page, asked, wanted
            return
        page, asked, _ = self.one_page(wanted, size)
        while True:
            yield page, asked, wanted
            if page.end:
                return
            asked = next_page(asked, page)
            page = self.backend.read(asked, size)

    def _proven_pages(
        self, wanted: Query, size: int, index: SignedIndex
    ) -> Iterator[tuple[Page, Query]]:
        asked = index.bounded(stored_query(wanted, self.codec))
        reading = index.reading(asked)
        while True:
            page = self.backend.read(asked, size)
            missing = reading.left_out(page)
            if missing:
                self.backend.view(partial(_judge, reading, missing))
            yield page, asked
            if page.end:
                return
            asked = next_page(asked, page)

    def event_pages(
        self, query: Query, index: SignedIndex | None = None, *, typed: bool = False
    ) -> Iterator[list[RecordedEvent[Any]]]:
        """The query's events as non-empty lists; ``typed`` decodes them at once."""
        left: int | None = None
        for page, asked, wanted in self.pages(query, index):
            events = events_of_page(page, asked, wanted, self.codec, typed=typed)
            if wanted.max_events is not None:
                left = (wanted.max_events if left is None else left) - len(events)
                if left <= 0:
                    yield events[: len(events) + left]
                    return
            if events:
                yield events

    # States

    def folded(self, fold: Fold[S], query: Query, index: SignedIndex | None = None) -> S:
        """The fold's state after the query's events, in the query's order."""
        state = fold.initial()
        if query.max_events is not None:
            for events in self.event_pages(query, index):
                state = fold.advance(state, events)
            return state
        for page, asked, wanted in self.pages(query, index):
            state, _ = folded_page(page, asked, wanted, self.codec, fold, state)
        return state

    def folded_as_of(
        self, fold: Fold[S], query: Query, index: SignedIndex | None = None
    ) -> tuple[S, ValidOrder, int]:
        """The state after events in the order in which they occurred; up to which position."""
        if index is None:
            query = self.resolved(query)
            head = (self.backend.head()).position
        else:
            query, head = index.bounded(query), index.position
        until = head if query.last_position is None else min(head, query.last_position)
        query = query.up_to(until)  # what comes in between the two readings is in neither
        order = ValidOrder(reverse=query.reverse)
        state = fold.initial()
        for events in self.event_pages(query, index, typed=fold.needs_types):
            order.add(events)
            if not order.has_late:
                state = fold.advance(state, events)
        if order.has_late:
            state = fold.initial()
            for events in self.event_pages(query, index, typed=fold.needs_types):
                state = fold.advance(state, order.merged(events))
        return state, order, until

    # Snapshots and erasures

    def encrypted(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot as it is stored: with a vault, encrypted until somebody is forgotten."""
        if self.vault is None:
            return snapshot
        state = self.vault.seal_snapshot(snapshot.state, bound_to(snapshot))
        return msgspec.structs.replace(snapshot, state=state)

    def decrypted(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot as it was. Raises `SnapshotError` where its key is gone."""
        if self.vault is None:
            return snapshot
        state = self.vault.open_snapshot(snapshot.state, bound_to(snapshot))
        if state is None:
            raise SnapshotError("its key is gone since somebody was forgotten, or it was altered")
        return msgspec.structs.replace(snapshot, state=state)

    def purge(self) -> None:
        """Leave no trace of what was deleted since somebody was forgotten.

        Where somebody is in the way for long, it is done when the store is next opened for writing.
        """
        if self.vault is None:
            return
        due = purge_due()
        try:
            self.branches.root.transact(lambda work: work.save_checkpoint(due, local=True))
            carry_out(self.branches, self.vault)
        except StorageError as error:
            _LOG.warning("what was deleted has still to be purged: %s", error)


def _judge(reading: SignedReading, ordinals: list[int], view: EngineView) -> None:
    reading.judge(view.read, ordinals)
