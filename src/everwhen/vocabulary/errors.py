"""Every error that Everwhen raises on purpose.

    EverwhenError
    ├── RefusedError                nothing of the refused commit was written
    │   ├── ConflictError           a stream is not where the writer believed
    │   ├── ConditionError          something that matches the condition has been written since
    │   ├── CommitIdError           the commit id was used before, for other content
    │   ├── BatchError              some commits of a batch were refused
    │   ├── InvalidEventError       an event that can't be stored and read back unchanged
    │   ├── InvalidCommitError      a commit, stream name, tag or metadata out of bounds
    │   ├── InvalidCommandError     a command out of its bounds, or that nobody decides on
    │   ├── InvalidAuditEntryError  an audit entry that lacks something, or is out of bounds
    │   ├── ErasedSubjectError      personal data of someone who has been forgotten
    │   ├── InlineError             an inline projection can't take an event of the commit
    │   ├── NotAllowedError         who sends the command may not
    │   ├── UndoError               it can't be undone, or not any more as it was planned
    │   └── Refusal                 a decision's no: subclass it for each reason you have
    ├── BranchError                 a branch can't be made, renamed or deleted as asked
    │   ├── UnknownBranchError      there is no branch of that name
    │   └── MergeError              a merge that has to be settled by a person
    ├── InvalidQueryError           a query that contradicts itself
    ├── BeyondEndError              a follower stands after the end of the log
    ├── InvalidPathError            a path into a state that can't be read
    ├── TooDeepError                a value nested too deep (also a ValueError)
    ├── ExpressionError             an expression that can't be read, or has no value
    │   └── MissingPartError        it looked up what isn't there (also a LookupError)
    ├── DeclarationError            declarations that make no sense, or don't fit together
    ├── FoldError                   a fold met an event that it refuses
    ├── SnapshotError               a state that can't be kept as a snapshot
    ├── ProjectionError             a projection failed on an event
    ├── StaleError                  a read model has not come as far as the query demands
    │   └── StaleReplicaError       the store here has not come as far as was asked
    ├── LeaseError                  another runner works on that
    ├── AuditError                  an audit entry that could not be kept
    │   └── AuditFallbackError      the audit log's fallback file can't be used, or was edited
    ├── MerkleLogError              the Merkle log can't do that, or not yet
    │   └── TamperedError           the store or its log isn't what was signed
    │       └── UnprovenError       what was read can't be proven by what was signed
    ├── DecodeError                 a stored event doesn't fit the class declared for it
    │   └── SealedError             its personal data can't be opened
    ├── VaultError                  a vault, or its keys, can't be used
    │   ├── MissingKeyError         a key isn't there
    │   ├── WrongKeyError           a key doesn't open what it should
    │   ├── OutdatedVaultError      it has keys of people whose erasure the store records
    │   └── ExpiredKeyError         a key's time is over
    ├── WitnessError                a witness gave no cosignature
    │   └── WitnessRefusedError     it refused
    ├── BackupError                 a backup or a restore can't be made there
    ├── RetiredError                what is asked for was given up, and is no longer kept
    ├── WorkerError                 a worker process did not start, or ended too early
    ├── UnsupportedError            this backend can't do that (see ``Capabilities``)
    ├── StoreClosedError            the store is closed
    └── StorageError                the medium below failed
        ├── StatementError          an SQL statement of a read model can't be run
        ├── BusyError               another process held the write lock for too long
        ├── ReadOnlyError           the store, its file or its folder can't be written to
        ├── StorageFullError        no space left
        ├── UnfinishedErasureError  keys are destroyed, and something remains to be done after it
        ├── NotAStoreError          the file is something else
        ├── NewerStoreError         a newer Everwhen wrote the file
        ├── StoreMovedError         the file was moved, deleted or replaced while it was open
        ├── TrimmedLogError         what a replica has to take in was dropped from its log
        ├── LocksLostError          something in this process dropped the locks on the file
        └── CorruptStoreError       the file is damaged or truncated

Each error keeps what it knows in attributes, and its message ends with what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from everwhen.vocabulary.streams import ExpectedVersion


class EverwhenError(Exception):
    """The root of the tree: catch it to catch them all."""


class RefusedError(EverwhenError):
    """The write was refused as a whole; nothing of it is in the store."""


class ConflictError(RefusedError):
    """The stream's version is not what the writer expected."""

    def __init__(self, stream: str, expected: ExpectedVersion, actual: int) -> None:
        self.stream = stream
        self.expected = expected
        self.actual = actual
        belief = f"version {expected}" if isinstance(expected, int) else expected.name
        super().__init__(
            f"stream {stream!r}: expected {belief}, but it is at version {actual}; "
            f"read the stream again, decide again, and append with the version you read"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.stream, self.expected, self.actual)


class ConditionError(RefusedError):
    """An event that matches the condition's query stands after the condition's position."""

    def __init__(self, after: int, position: int) -> None:
        self.after = after
        self.position = position
        super().__init__(
            f"the condition no longer holds: position {position} matches its query and comes after "
            f"position {after}; read again, decide again, and append with the new position"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.after, self.position)


class CommitIdError(RefusedError):
    """The commit id names another commit: same id, other streams or events."""

    def __init__(self, commit_id: UUID, position: int) -> None:
        self.commit_id = commit_id
        self.position = position
        super().__init__(
            f"commit id {commit_id} was used before, at position {position}, for other streams or "
            f"events; repeat a commit with the very same content, or take a fresh id"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.commit_id, self.position)


class InvalidEventError(RefusedError):
    """An event whose value would not come back from the store as it went in."""


class InvalidCommitError(RefusedError):
    """A commit, stream name, tag or piece of metadata that breaks a rule or a limit."""


class InvalidCommandError(RefusedError):
    """A command that breaks a rule of its own type, or that no decision is declared for."""


class InvalidAuditEntryError(RefusedError):
    """An audit entry that breaks a rule; ``field`` says which of its fields does."""

    def __init__(self, field: str, why: str) -> None:
        self.field = field
        self.why = why
        super().__init__(f"audit entry: {field}: {why}")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.field, self.why)


class InlineError(RefusedError):
    """A projection that is kept inline failed on an event. ``__cause__`` says why.

    The event is at ``position``, or would be; it is the commit's own, or one that a process
    without the projection has written before.
    """

    def __init__(self, projection: str, position: int, why: str) -> None:
        self.projection = projection
        self.position = position
        self.why = why
        super().__init__(
            f"inline projection {projection!r} can't take the event at position {position}: {why}; "
            f"nothing was written, fix the event or the projection"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.projection, self.position, self.why)


class ErasedSubjectError(RefusedError):
    """Personal data of a subject that has been forgotten: it may not come back."""

    def __init__(self, subject: str) -> None:
        self.subject = subject
        super().__init__(
            f"subject {subject!r} has been forgotten, and nothing personal of theirs is written "
            f"any more; a person who comes back gets a new id"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.subject,)


class NotAllowedError(RefusedError):
    """The command's sender has no permission for it."""

    def __init__(self, command: str, user_id: str | None) -> None:
        self.command = command
        self.user_id = user_id
        super().__init__(
            f"{user_id or 'nobody in particular'} may not send {command}; ask for the permission, "
            f"or send it as a user who has it"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.command, self.user_id)


class UndoError(RefusedError):
    """What was to be undone, or done again, can't be, or no longer the way it was planned."""

    def __init__(self, why: str, fix: str) -> None:
        self.why = why
        self.fix = fix
        super().__init__(f"{why}; {fix}")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.why, self.fix)


class Refusal(RefusedError):  # noqa: N818 (a decision's word, not a failure)
    """A decision refuses its command. Subclass it for each reason, with the facts as attributes."""


class BranchError(EverwhenError):
    """A branch that can't be made, opened, renamed, deleted or used as asked."""

    def __init__(self, branch: str, why: str) -> None:
        self.branch = branch
        self.why = why
        super().__init__(f"branch {branch!r}: {why}")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.branch, self.why)


class UnknownBranchError(BranchError):
    """There is no branch of that name. ``known`` has the names that there are."""

    def __init__(self, branch: str, known: Sequence[str]) -> None:
        names = ", ".join(known[:20]) + (" …" if len(known) > 20 else "")
        super().__init__(branch, f"there is none of that name; there are: {names or 'none at all'}")
        self.known = tuple(known)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.branch, self.known)


class InvalidQueryError(EverwhenError):
    """A query that contradicts itself, or that can't be used in this place."""


class BeyondEndError(EverwhenError):
    """What follows a log stands at ``position``, and the log ends before that, at ``end``.

    ``place`` is where the log is. It was restored to an earlier moment, say, or lost its newest
    commits. What was appended since, or will be, takes positions that meant other events.
    """

    def __init__(self, place: str, position: int, end: int) -> None:
        self.place = place
        self.position = position
        self.end = end
        super().__init__(
            f"{place}: position {position} is after the end of the log, {end}; if events up to "
            f"there were read, the log was restored to an earlier moment since, or lost its newest "
            f"commits: rebuild what was derived from it, or follow it from position {end}"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.place, self.position, self.end)


class InvalidPathError(EverwhenError):
    """A path into a state that can't be read."""


class TooDeepError(EverwhenError, ValueError):
    """A value is nested too deep to be stored, copied or shown."""

    def __init__(self, what: str, limit: int) -> None:
        self.what = what
        self.limit = limit
        super().__init__(f"{what} is nested more than {limit} levels; keep it flatter, or as text")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.what, self.limit)


class ExpressionError(EverwhenError):
    """An expression that can't be read, has no value, or takes too much work.

    ``column`` is the place in ``text``, counted from 1; None where it has none.
    """

    def __init__(self, reason: str, text: str, column: int | None = None) -> None:
        self.reason = reason
        self.text = text
        self.column = column
        where = "" if column is None else f"column {column}: "
        super().__init__(f"{where}{reason}\n{_pointed_out(text, column)}")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.reason, self.text, self.column)


class MissingPartError(ExpressionError, LookupError):
    """An expression looked up a key, or an index, that isn't there."""


def _pointed_out(text: str, column: int | None) -> str:
    """The line of the text that the column is in, and a caret below it."""
    if column is None:
        column, caret = 1, ""
    else:
        caret = "^"
    start = text.rfind("\n", 0, column - 1) + 1
    line = text[start:].split("\n", maxsplit=1)[0]
    before = column - 1 - start
    cut = max(0, before - 60)
    shown = line[cut : cut + 90]
    blank = "".join("\t" if character == "\t" else " " for character in line[cut:before])
    return f"    {shown}\n    {blank}{caret}".rstrip()


class DeclarationError(EverwhenError):
    """Declarations that make no sense or don't fit together, found as early as possible.

    Event types, upcasts, folds, decisions, projections, queries and reactions are declared.
    """


class FoldError(EverwhenError):
    """A fold that refuses unknown events met one. ``position`` is None for one without a place."""

    def __init__(self, fold: str, event_type: str, position: int | None) -> None:
        self.fold = fold
        self.event_type = event_type
        self.position = position
        where = "" if position is None else f" at position {position}"
        super().__init__(
            f"fold {fold!r} refuses unknown events, and has no function for {event_type!r}{where}; "
            f"declare one with @fold.on, or let it ignore them"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.fold, self.event_type, self.position)


class SnapshotError(EverwhenError):
    """A state that can't be stored as a snapshot, or a snapshot that is not to be believed."""


class ProjectionError(EverwhenError):
    """A projection or reaction failed, and its error policy gave up. ``__cause__`` says why."""

    def __init__(self, projection: str, position: int, why: str) -> None:
        self.projection = projection
        self.position = position
        self.why = why
        super().__init__(
            f"{projection!r} failed at position {position}: {why}; fix its function and start it "
            f"again, or choose another error policy (skip, park)"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.projection, self.position, self.why)


class StaleError(EverwhenError):
    """A read model has not come as far as was asked, within the time-out."""

    def __init__(self, model: str, position: int, wanted: str) -> None:
        self.model = model
        self.position = position
        self.wanted = wanted
        super().__init__(
            f"read model {model!r} is at position {position}, asked for {wanted}; see that its "
            f"runner runs (everwhen projections), wait longer, or ask for less"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.model, self.position, self.wanted)


class StaleReplicaError(StaleError):
    """The store has not come as far as was asked here: a replica or a standby that is behind."""

    def __init__(self, position: int, wanted: str) -> None:
        EverwhenError.__init__(
            self,
            f"the store is at position {position} here, asked for {wanted}; see that it is the "
            f"store that the position is of, and that its replica follows, or wait longer",
        )
        self.model = "store"
        self.position = position
        self.wanted = wanted

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.position, self.wanted)


class LeaseError(EverwhenError):
    """Another runner works on the projection or reaction, or a newer version of it."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"another runner works on {name!r}, or readers see a newer version of it already; do "
            f"it there, or stop that one first"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.name,)


class AuditError(EverwhenError):
    """An audit entry could not be kept, neither in the log nor in a fallback.

    What it speaks of is not to go on.
    """


class AuditFallbackError(AuditError):
    """The audit log's fallback file can't be used. ``line`` is the first at fault, from 1.

    What stands before that line can be salvaged: see `AuditLog.recover`.
    """

    def __init__(self, path: str, why: str, line: int | None = None) -> None:
        self.path = path
        self.why = why
        self.line = line
        where, fix = "", ""
        if line is not None:
            where = f", line {line}"
            fix = "; what stands before that line is taken by recover with salvage"
        super().__init__(f"{path}{where}: {why}{fix}")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.path, self.why, self.line)


class DecodeError(EverwhenError):
    """A stored event's data doesn't fit the class that is declared for its type."""


class SealedError(DecodeError):
    """Personal data that can't be opened here: of ``subject``, in ``event_id``'s ``path``."""

    def __init__(self, subject: str, event_id: str, path: str, why: str) -> None:
        self.subject = subject
        self.event_id = event_id
        self.path = path
        self.why = why
        super().__init__(f"event {event_id}, {path}: personal data of {subject!r}: {why}")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.subject, self.event_id, self.path, self.why)


class VaultError(EverwhenError):
    """A vault or its keys can't be used; no data was lost."""


class MissingKeyError(VaultError):
    """A key that is needed isn't there."""


class WrongKeyError(VaultError):
    """A key doesn't open what was wrapped with it."""


class OutdatedVaultError(VaultError):
    """The vault has keys of ``subjects`` whose erasure the store records: it is an older one.

    Nothing was read with it. Forgetting all of them again makes the vault fit the store.
    """

    def __init__(self, path: str, subjects: Sequence[str]) -> None:
        self.path = path
        self.subjects = tuple(subjects)
        super().__init__(
            f"{path}: has keys of {_some(self.subjects)}, whose erasure the store records, so the "
            f"vault is older than the store; open it with the newest vault, or, if this is the "
            f"newest, forget them again: vault.forget_all(error.subjects), or on the command line "
            f"everwhen forget STORE --recorded --apply"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.path, self.subjects)


class ExpiredKeyError(VaultError):
    """A key-encryption key's time is over; it still unwraps, but wraps no more."""


class WitnessError(EverwhenError):
    """A witness can't be reached, or what it answers is of no use."""

    def __init__(self, witness: str, why: str) -> None:
        self.witness = witness
        self.why = why
        super().__init__(f"witness {witness}: {why}; try again later, or do without its signature")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.witness, self.why)


class WitnessRefusedError(WitnessError):
    """A witness doesn't cosign the checkpoint.

    ``status`` is HTTP's: 400 can't be read, 403 not signed by a key that the witness knows for
    the log, 404 the log is unknown to it, 409 it has seen a larger tree, 422 the log has not just
    grown since: history was rewritten, or there are two of it.
    """

    def __init__(self, witness: str, status: int, why: str) -> None:
        self.status = status
        super().__init__(
            witness, f"it rejected the request with status {status}: {why or 'it gave no reason'}"
        )
        self.said = why

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.witness, self.status, self.said)


class TimestampError(EverwhenError):
    """A timestamp authority can't be reached, or what it answers is not a timestamp."""

    def __init__(self, authority: str, why: str) -> None:
        self.authority = authority
        self.why = why
        super().__init__(f"timestamp authority {authority}: {why}; try again later, or another one")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.authority, self.why)


class BackupError(EverwhenError):
    """A backup or a restore that can't be made at ``path``; what is there is as it was.

    ``exists`` says that something is there that nobody has asked to overwrite.
    """

    def __init__(self, path: str, why: str, exists: bool = False) -> None:  # noqa: FBT001, FBT002
        self.path = path
        self.why = why
        self.exists = exists
        super().__init__(f"{path}: {why}")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.path, self.why, self.exists)


class RetiredError(EverwhenError):
    """Events that are asked for were retired: given up as a policy says, and deleted.

    ``last`` is the last of their positions, ``retired_at`` when that was done.
    """

    def __init__(self, last: int, retired_at: datetime) -> None:
        self.last = last
        self.retired_at = retired_at
        super().__init__(
            f"events up to position {last} were retired at {retired_at.isoformat()} and are no "
            f"longer kept; read after position {last}, or say that what was retired is to be left "
            f"out: Query().skipping_retired()"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.last, self.retired_at)


class WorkerError(EverwhenError):
    """A worker process did not start, or ended before its work was done: nothing came of it."""


class UnsupportedError(EverwhenError):
    """This backend doesn't offer what was asked for."""


class StoreClosedError(EverwhenError):
    """The store was closed before the call."""

    def __init__(self) -> None:
        super().__init__("the store is closed; open it again with open_store()")


class StorageError(EverwhenError):
    """The medium below the store failed; the message says how."""


class StatementError(StorageError):
    """An SQL statement can't be run as it is: a mistake in it, or a constraint that it breaks."""


class StatementLimitError(StatementError):
    """An SQL statement takes more rows, time or memory than it may."""


class BusyError(StorageError):
    """Another process held the write lock for longer than the time-out."""


class ReadOnlyError(StorageError):
    """The store was opened read-only, or its file or folder can't be written to."""


class StorageFullError(StorageError):
    """No space is left for the write; what was acknowledged before is safe."""


class UnfinishedErasureError(StorageError):
    """The keys of ``subjects`` are destroyed, for good, and what comes after it was cut off.

    Nobody can read any more what they encrypted. The store has still to record it, and to purge its
    files of snapshots and gaps. The cause says what was in the way.
    """

    def __init__(self, subjects: Sequence[str], cause: BaseException) -> None:
        self.subjects = tuple(subjects)
        super().__init__(
            f"the keys of {_some(self.subjects)} are destroyed, but the store could not be purged "
            f"yet: {cause}; then call forget again, or open the store for writing, to do the rest"
        )


class NotAStoreError(StorageError):
    """The file exists and is not an Everwhen store."""


class NewerStoreError(StorageError):
    """The file was written by a newer Everwhen than this one."""


class StoreMovedError(StorageError):
    """The store's file was moved, deleted or replaced while it was open; nothing was written."""

    def __init__(self, path: str, what: str) -> None:
        self.path = path
        self.what = what
        super().__init__(
            f"{path}: {what} while the store was open, so nothing was written; close the store, "
            f"put back the file, with those beside it that end with -wal and -shm if they are "
            f"there, open it again and repeat the commit"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.path, self.what)


class TrimmedLogError(StorageError):
    """A replica has come to ``message``, and its log begins after that, with ``first``, by now.

    ``path`` is the replica; one that is new has come to 0. What was before is in the archive, and
    in other replicas.
    """

    def __init__(self, path: str, message: int, first: int) -> None:
        self.path = path
        self.message = message
        self.first = first
        where = f"has come to message {message}" if message else "is new"
        super().__init__(
            f"{path}: {where}, and its log begins with message {first} by now: what was before "
            f"was archived, and dropped; make the replica from a copy of another one: everwhen "
            f"cluster bootstrap URL, or rebuild URL --from-offered where there is a file already"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.path, self.message, self.first)


class LocksLostError(StorageError):
    """Something in this process dropped SQLite's locks on the file: nothing more is written.

    Opening and closing the store's files is enough for that (POSIX), by Python's own ``sqlite3``
    or by a copy. ``committed`` says whether the commit was already made: then its outcome is open,
    otherwise nothing of it is in the store.
    """

    def __init__(self, path: str, *, committed: bool) -> None:
        self.path = path
        self.committed = committed
        outcome = (
            "another process may have written at the same moment, so the outcome of this commit "
            "is open"
            if committed
            else "nothing was written"
        )
        super().__init__(
            f"{path}: something in this process opened and closed the store's files (Python's "
            f"sqlite3, another SQLite library, or a copy of them), which drops the locks on them; "
            f"{outcome}. Do that in a process of its own, close the store here, open it again, "
            f"check() it and repeat the commit with the same commit id"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return partial(type(self), self.path, committed=self.committed), ()


class CorruptStoreError(StorageError):
    """The file is damaged or truncated."""


class MerkleLogError(EverwhenError):
    """The Merkle log can't do what was asked, or not yet."""


class TamperedError(MerkleLogError):
    """The store, or its log's folder, isn't what was signed: nothing is signed on top of that."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(f"{why}; verify the log to see what it is, and sign nothing until then")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.why,)


def _some(subjects: Sequence[str]) -> str:
    """Three of them, and how many others there are."""
    others = len(subjects) - 3
    more = f" and {others:,} others" if others > 0 else ""
    return ", ".join(map(repr, subjects[:3])) + more
