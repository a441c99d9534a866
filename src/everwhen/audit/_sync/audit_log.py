# Generated from src/everwhen/audit/_async/audit_log.py by tools/unasync.py: edit that, then run `make sync`.
"""The audit log: entries that are written, kept safe, found again and let go of."""

from __future__ import annotations

import random
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid5

import msgspec

from everwhen.audit.entries import (
    SUBJECTS,
    AuditAction,
    AuditEntry,
    AuditResult,
    checked,
    draft_of,
    impersonal,
    spoken,
    write_of,
)
from everwhen.audit.escaping import escaped
from everwhen.audit.exports import AuditForm, head_of, line_of
from everwhen.audit.fallback import AuditFallback, FallbackState
from everwhen.audit.filters import (
    EVERY_ENTRY,
    AuditFilter,
    AuditPage,
    AuditPolicy,
    AuditRecord,
    allowed,
    checked_filter,
)
from everwhen.audit.recovery import audit_entries, entry_in, id_of_its_own, is_among
from everwhen.backends._sync.concurrency import INTERRUPTS, aside, sleep
from everwhen.codec.audit_marks import AUDIT_CATEGORY
from everwhen.codec.commits import Commit, Write, new_commit_id
from everwhen.codec.recorded_events import RecordedEvent
from everwhen.store._sync.store import Store, check_store
from everwhen.vocabulary.clock import Clock
from everwhen.vocabulary.contract import EncodedCommit, Receipt
from everwhen.vocabulary.errors import (
    AuditError,
    AuditFallbackError,
    CommitIdError,
    DeclarationError,
    EverwhenError,
    InvalidQueryError,
    NotAllowedError,
    RefusedError,
    StorageError,
    StoreClosedError,
)
from everwhen.vocabulary.metadata import CommitMetadata, current_metadata, without_context
from everwhen.vocabulary.query import Query

_FAILING: Final = (StorageError, StoreClosedError, OSError)
"""What a store raises that fails, rather than says no."""
_LONGEST_PAUSE_SECONDS: Final = 1.0
"""A store that fails is often back a second later; longer pauses would only hold requests up."""
_RECOVERED_COMMITS: Final = 100
"""That many are appended in one call: enough to share a sync, few enough to hold in memory."""
_RECOVERIES: Final = UUID("0d2f7f0e-8d0b-5c7e-9d0c-6f6a1f6e4b52")
_LOG_ITSELF: Final = "audit"


class AuditReceipt(msgspec.Struct, frozen=True):
    """Where an entry is kept: at a position in the log, or (None) in the fallback for now."""

    commit_id: UUID
    position: int | None


class AuditRecovery(msgspec.Struct, frozen=True):
    """What a recovery took from the fallback into the log.

    ``count`` entries were in the file, of which the log had ``known`` already; ``head`` is the hash
    of the last one. ``torn`` counts the bytes after it, of an entry that nobody relies on. Of an
    edited file whose rest was salvaged, ``damaged_line`` is the first line that wasn't taken, and
    ``kept`` where the file is now.
    """

    count: int
    known: int
    head: str
    torn: int
    damaged_line: int | None = None
    kept: str | None = None


class AuditLog:
    """Who did what, when, to what, from where, and how it ended: kept in an event store.

    ``policy`` says what a user may see. Where the store fails, an entry is tried ``attempts``
    times, with growing pauses that begin with ``pause`` seconds, and then kept in the ``fallback``
    until `recover`. Without one, `AuditError` is raised, and what the entry speaks of must not go
    on. Entries older than ``retention`` are not shown any more. With ``reads`` each look into the
    log is an entry too; an attempt that is denied always is.

    The store's event types must include `AuditEntry`. Safe to share between threads and tasks.
    """

    def __init__(
        self,
        store: Store,
        *,
        policy: AuditPolicy,
        fallback: AuditFallback | None = None,
        retention: timedelta | None = None,
        clock: Clock | None = None,
        attempts: int = 5,
        pause: float = 0.05,
        reads: bool = False,
    ) -> None:
        if AuditEntry not in check_store(store).event_types.current():
            raise DeclarationError(
                "the store doesn't know audit entries; open it with events=[…, AuditEntry]"
            )
        if not callable(policy):
            raise DeclarationError(
                f"policy={policy!r}: give a function from a user to the AuditFilters of what they "
                f"may see"
            )
        if attempts < 1 or pause < 0:
            raise DeclarationError("attempts are at least 1, and a pause isn't negative")
        if retention is not None and retention <= timedelta():
            raise DeclarationError(f"retention={retention!r}: keep entries for some time")
        self.store = store
        self.fallback = fallback
        self.retention = retention
        self._policy = policy
        self._clock = clock or store.clock
        self._attempts = attempts
        self._pause = pause
        self._reads = reads
        self._is_failing = False

    def entry(
        self,
        action: AuditAction,
        resource: str,
        *,
        result: AuditResult = AuditResult.SUCCESS,
        reason: str | None = None,
        details: Mapping[str, Any] | None = None,
        user: str | None = None,
        ip_address: str | None = None,
        user_agent: str | None = None,
        session: str | None = None,
        correlation: str | None = None,
        escape: bool = False,
    ) -> AuditEntry:
        """An entry of now, checked; what isn't given is taken from `context` and `origin`.

        Raises `InvalidAuditEntryError`. With ``escape`` what comes from whoever acts may be
        anything: what can't stand in an entry is escaped or shortened, and the detail ``escaped``
        names the fields. So a login that failed under an odd name is recorded all the same.
        """
        draft = draft_of(
            self._clock(),
            action,
            resource,
            result=result,
            reason=reason,
            details=details,
            user=user,
            ip_address=ip_address,
            user_agent=user_agent,
            session=session,
            correlation=correlation,
        )
        return escaped(draft) if escape else checked(draft)

    def write_for(self, entry: AuditEntry) -> Write:
        """The entry as a write, to go into the commit of the events that it speaks of.

        So there is no event without its entry, and no entry without its event. Of a user who has
        been forgotten nothing personal is kept. Raises `InvalidAuditEntryError`.
        """
        valid, vault = checked(entry), self.store.vault
        if vault is not None and vault.is_forgotten(valid.subject):
            valid = impersonal(valid)
        return write_of(valid)

    def record(self, entry: AuditEntry, *, commit_id: UUID | None = None) -> AuditReceipt:
        """Write an entry of its own; when this returns it is durable, here or in the fallback.

        Recording it again with the same ``commit_id`` keeps it once. Raises
        `InvalidAuditEntryError`, and `AuditError` where it can't be kept.
        """
        chosen = commit_id if commit_id is not None else UUID(bytes=new_commit_id())
        ready = self._encoded(entry, chosen)
        attempts = 1 if self._is_failing else self._attempts
        for attempt in range(1, attempts + 1):
            try:
                receipt = self._append(ready)
            except _FAILING as error:
                if attempt == attempts:
                    self._is_failing = True
                    return self._fall_back(ready, error)
            except INTERRUPTS as error:
                self._keep_anyway(ready, error)
                raise
            else:
                self._is_failing = False
                return AuditReceipt(chosen, receipt.position)
            try:
                sleep(self._pause_after(attempt))
            except INTERRUPTS as error:
                self._keep_anyway(ready, error)
                raise
        raise AssertionError

    def _encoded(self, entry: AuditEntry, commit_id: UUID) -> EncodedCommit:
        """The entry's own commit, with the context's metadata where that can be stored."""
        metadata = CommitMetadata(user_id=entry.user, correlation_id=entry.correlation)
        commit = Commit((self.write_for(entry),), None, commit_id, metadata)
        try:
            return self.store.kernel.encoded(commit)
        except (RefusedError, TypeError):
            with without_context():  # whoever acts may have had a hand in it
                return self.store.kernel.encoded(commit)

    def _keep_anyway(self, commit: EncodedCommit, cause: BaseException) -> None:
        """Keep an entry whose writer was broken off, so that it isn't lost with them."""
        if self.fallback is not None:
            self._fall_back(commit, cause)

    def _append(self, commit: EncodedCommit) -> Receipt:
        (outcome,) = self.store.kernel.write((commit,))
        if isinstance(outcome, EverwhenError):
            raise outcome
        return outcome

    def _fall_back(self, commit: EncodedCommit, cause: BaseException) -> AuditReceipt:
        if self.fallback is None:
            raise AuditError(
                f"an audit entry can't be kept: the log's store fails ({cause!r}), and there is no "
                f"fallback; fix the store, and give the log an AuditFallback"
            ) from cause
        try:
            aside(self.fallback.write, commit)
        except (OSError, AuditFallbackError) as error:
            raise AuditError(
                f"an audit entry can't be kept: the log's store fails ({cause!r}), and so does the "
                f"fallback ({error}); fix either"
            ) from error
        return AuditReceipt(UUID(bytes=commit.id), None)

    def _pause_after(self, attempt: int) -> float:
        longest = min(_LONGEST_PAUSE_SECONDS, self._pause * 2 ** min(attempt - 1, 16))
        return random.uniform(longest / 2, longest)  # noqa: S311 (no secret)

    def recover(self, *, salvage: bool = False) -> AuditRecovery | None:
        """Take the fallback's entries into the log, in order; None where nothing waits.

        What the log knows already isn't written again, so a recovery that was killed can simply be
        repeated. An entry whose commit id the log has for something else is written under another
        id. At last an entry says how many there were, and the hash of the last one; then the
        file is deleted. Raises `AuditFallbackError`, with nothing taken from the file, where it was
        edited, and `StorageError` while the store fails.

        To ``salvage`` an edited file is to take the entries before the first line that was edited.
        The entry in the log says from which line on nothing is believed, and the file is kept.
        """
        if self.fallback is None:
            raise DeclarationError("the audit log has no fallback to recover from")
        with self.fallback.recovering() as waiting:
            if waiting is None:
                return None
            # It is proven as a whole, before any of it is used.
            state = aside(waiting.state, salvage=salvage)
            known = 0
            batch: list[EncodedCommit] = []
            for commit in waiting.commits(state.count):
                batch.append(commit)
                if len(batch) == _RECOVERED_COMMITS:
                    known += self._take_in(batch)
                    batch = []
            known += self._take_in(batch)
            kept = None if state.damaged_line is None else str(waiting.keep())
            self._note_recovery(state, kept)
            return AuditRecovery(
                state.count, known, state.head, state.torn, state.damaged_line, kept
            )

    def _take_in(self, commits: list[EncodedCommit]) -> int:
        """Write the entries; how many the log had already."""
        if not commits:
            return 0
        known = 0
        outcomes = self.store.kernel.write(commits)
        for commit, outcome in zip(commits, outcomes, strict=True):
            if isinstance(outcome, CommitIdError):
                known += self._take_in_anew(commit)
                continue
            if isinstance(outcome, EverwhenError):
                raise outcome
            known += outcome.repeated
        return known

    def _take_in_anew(self, commit: EncodedCommit) -> bool:
        """Write an entry whose id the log knows with other content; whether it has the entry."""
        entry = entry_in(commit, self.store.kernel.codec)
        if self._has(entry, commit.id):
            return True
        vault = self.store.vault
        if vault is not None and vault.is_forgotten(entry.subject):
            entry = impersonal(entry)
        own = Commit((write_of(entry),), None, id_of_its_own(commit))
        ready = self.store.kernel.encoded(own)
        try:
            receipt = self._append(msgspec.structs.replace(ready, metadata=commit.metadata))
        except CommitIdError:
            if self._has(entry, ready.id):
                return True
            raise
        return receipt.repeated

    def _has(self, entry: AuditEntry, commit_id: bytes) -> bool:
        stored = self.store.kernel.backend.stored_commit(commit_id)
        return is_among(entry, audit_entries(stored, self.store.kernel.codec))

    def _note_recovery(self, state: FallbackState, kept: str | None) -> None:
        details: dict[str, Any] = {"recovered": state.count, "head": state.head}
        result, name = AuditResult.SUCCESS, state.head
        if kept is not None:
            details |= {"not_trusted_from_line": state.damaged_line, "kept": kept}
            result, name = AuditResult.PARTIAL_SUCCESS, f"{name} {state.damaged_line} {kept}"
        commit_id = uuid5(_RECOVERIES, name)
        nothing = not state.count and kept is None
        if nothing or self.store.receipt(commit_id) is not None:
            return
        entry = self.entry(
            AuditAction.SECURITY_EVENT, f"{_LOG_ITSELF}/fallback", result=result, details=details
        )
        vault = self.store.vault
        if vault is not None and vault.is_forgotten(entry.subject):  # count and head are nobody's
            entry = msgspec.structs.replace(
                entry, user=None, ip_address=None, user_agent=None, session=None
            )
        self.store.commit(Commit((self.write_for(entry),), None, commit_id))

    def retire(self) -> tuple[str, ...]:
        """Destroy the keys of entries whose months are past the retention; whose they were.

        Their personal fields read as `Erased` from then on. Each is an erasure like any other, all
        of them in one go: see `Store.forget_all`. Raises `DeclarationError`
        without a retention or a vault.
        """
        vault = self.store.vault
        if self.retention is None or vault is None:
            raise DeclarationError("entries are retired by a retention, from a store with a vault")
        oldest = f"{self._clock() - self.retention:%Y-%m}"
        retired = tuple(vault.subjects_like(SUBJECTS, before=oldest))
        if retired:
            self.store.forget_all(retired)
        return retired

    def query(
        self,
        wanted: AuditFilter = EVERY_ENTRY,
        *,
        by: str | None = None,
        limit: int = 100,
        cursor: int | None = None,
        oldest_first: bool = False,
    ) -> AuditPage:
        """A page of the entries that fit, the newest first, for the user who asks.

        ``by`` is who asks, by default the user of the `context`. ``cursor`` is the last page's.
        Raises `NotAllowedError` where the policy doesn't let them see that, which is recorded, and
        `InvalidQueryError`.
        """
        if limit < 1:
            raise InvalidQueryError(f"limit={limit}: a page has at least one entry")
        self._admit(wanted, by, "query")
        found: list[AuditRecord] = []
        with closing(self._found(wanted, cursor, oldest_first=oldest_first)) as records:
            for record in records:
                if len(found) == limit:
                    return AuditPage(tuple(found), found[-1].position)
                found.append(record)
        return AuditPage(tuple(found), None)

    def read(
        self, wanted: AuditFilter = EVERY_ENTRY, *, by: str | None = None
    ) -> Iterator[AuditRecord]:
        """All the entries that fit, the oldest first, for the user who asks; see `query`."""
        self._admit(wanted, by, "read")
        for record in self._found(wanted, None, oldest_first=True):
            yield record

    def export(
        self, form: AuditForm, wanted: AuditFilter = EVERY_ENTRY, *, by: str | None = None
    ) -> Iterator[str]:
        """The same as lines of text: ``ocsf`` for OCSF 1.8 events as JSON, or ``csv``; see `read`.

        Cells of CSV that a spreadsheet would take for formulas begin with an apostrophe.
        """
        if form not in ("ocsf", "csv"):
            raise InvalidQueryError(f"form={form!r}: there are ocsf and csv")
        self._admit(wanted, by, f"export as {form}")
        if head := head_of(form):
            yield head
        for record in self._found(wanted, None, oldest_first=True):
            yield line_of(record, form)

    def _admit(self, wanted: AuditFilter, by: str | None, how: str) -> None:
        """Let those in who may see it, and record who may not. Raises `NotAllowedError`.

        A question that makes no sense is within nothing that is less than everything.
        """
        user = by if by is not None else current_metadata().user_id
        wrong: InvalidQueryError | None = None
        asked: list[str] = []
        try:
            checked_filter(wanted)
            asked = [f"{name}={value}"[:256] for name, value in wanted.described().items()]
        except InvalidQueryError as error:
            wrong = error
        try:
            may = allowed(self._policy, user, EVERY_ENTRY if wrong is not None else wanted)
        except Exception as error:
            self._record_look(user, asked, how, spoken(error))
            raise
        if wrong is not None:
            if not may:
                self._record_look(user, asked, how, spoken(wrong))
            raise wrong
        if not may or self._reads:
            reason = None if may else "the policy doesn't allow it"
            self._record_look(user, asked, how, reason)
        if not may:
            raise NotAllowedError("this query to the audit log", user)

    def _record_look(
        self, user: str | None, asked: list[str], how: str, reason: str | None
    ) -> None:
        entry = self.entry(
            AuditAction.READ,
            _LOG_ITSELF,
            result=AuditResult.SUCCESS if reason is None else AuditResult.FAILURE,
            reason=reason,
            details={"asked": asked, "how": how},
            user=user,
            escape=True,
        )
        self.record(entry)

    def _found(
        self, wanted: AuditFilter, cursor: int | None, *, oldest_first: bool
    ) -> Generator[AuditRecord]:
        wanted = self._retained(wanted)
        streams = [
            info.name for info in self.store.streams(AUDIT_CATEGORY) if wanted.spans(info.name)
        ]
        if not streams:
            return
        query = Query().stream(*streams).types(AuditEntry)
        tags = wanted.tags()
        if tags:
            query = query.tags(*tags)
        if oldest_first:
            query = query.after(cursor or 0)
        elif cursor is None:
            query = query.backwards()
        else:
            query = query.up_to(max(cursor - 1, 0)).backwards()
        for event in self.store.read(query):
            entry = event.event
            if isinstance(entry, AuditEntry) and wanted.matches(entry):
                yield _record_of(event, entry)

    def _retained(self, wanted: AuditFilter) -> AuditFilter:
        """The filter, without what is older than the retention allows to show."""
        if self.retention is None:
            return wanted
        oldest: datetime = self._clock() - self.retention
        if wanted.since is not None and wanted.since > oldest:
            return wanted
        return msgspec.structs.replace(wanted, since=oldest)


def _record_of(event: RecordedEvent[Any], entry: AuditEntry) -> AuditRecord:
    return AuditRecord(event.event_id, event.position, event.recorded_at, event.commit_id, entry)
