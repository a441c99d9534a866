"""The engine: a log on a JetStream cluster, and all of it in an SQLite file on this node.

The log is a sequence of messages, each written directly behind the one that its writer had seen.
So whatever a writer judges on its replica at message S (versions, conditions, ids, times) holds
where the message is accepted behind S. It is a replicated state machine: the file is the machine,
and every question is answered from it.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

import apsw
from msgspec.structs import replace

from everwhen.backends.commit_checks import written_one_by_one
from everwhen.backends.engine import LOG_RECORDS, REPLICA, EngineTransaction, NotFetchedError
from everwhen.backends.jetstream.address import MAIN, ClusterAddress
from everwhen.backends.jetstream.connection import Connection, DeniedError, UnansweredError
from everwhen.backends.jetstream.follower import ReplicaFollower
from everwhen.backends.jetstream.forwarding import AppendForwarding, HandedOver
from everwhen.backends.jetstream.large_messages import LargeMessageName, LargeMessages
from everwhen.backends.jetstream.messages import (
    GroupMessage,
    LoggedCheckpoint,
    LoggedCommit,
    digest_of,
    logged,
    new_message,
    new_reference,
    read_message,
)
from everwhen.backends.jetstream.registration import (
    ReplicaPlace,
    new_replica_id,
    place_of,
    record_of,
    register,
)
from everwhen.backends.jetstream.replica_purge import purge_beside, record_an_erasure
from everwhen.backends.jetstream.replica_state import ReplicaState, save_state, state_of
from everwhen.backends.jetstream.stream_setup import LogStream, opened_stream
from everwhen.backends.jetstream.subject_log import LogMessage, OvertakenError, SubjectLog
from everwhen.backends.jetstream.views import ReplicaTransaction
from everwhen.backends.sqlite import lookups
from everwhen.backends.sqlite.engine import SqliteEngine
from everwhen.backends.sqlite.error_translation import reached, translated
from everwhen.backends.sqlite.files import make_folder
from everwhen.backends.sqlite.transactions import WriteTurn
from everwhen.backends.sqlite.views import SqliteTransaction, SqliteView
from everwhen.backends.sqlite.writer import is_not_its_own, is_of_the_medium
from everwhen.system.durable_files import sync_file
from everwhen.vocabulary.clock import Clock, clock_from, system_clock
from everwhen.vocabulary.contract import (
    Capabilities,
    Checkpoint,
    EncodedCommit,
    Head,
    Outcome,
    Page,
    Receipt,
    StoredSlice,
    StreamInfo,
    recorded_micros,
)
from everwhen.vocabulary.erasures import PURGE_DUE, purge_due
from everwhen.vocabulary.errors import (
    BusyError,
    CorruptStoreError,
    InlineError,
    NewerStoreError,
    NotAStoreError,
    ReadOnlyError,
    StorageError,
    StorageFullError,
    TrimmedLogError,
)
from everwhen.vocabulary.query import Query

T = TypeVar("T")

_CAPABILITIES: Final = Capabilities(
    name="jetstream",
    durable=True,
    dense_positions=True,
    shared_by_processes=True,
    sql=True,
    keeps_recorded_at=True,
    seals=True,
)
_PAGE: Final = 200
"""How many messages are taken in together."""
_GROUP_COMMITS: Final = 2_048
_GROUP_BYTES: Final = 4 << 20
"""What goes into one message together; one commit alone may be larger."""
_COMMIT_BYTES: Final = 64
_SLICE_BYTES: Final = 32
_NAME_BYTES: Final = 5
"""What a commit and a slice take beside what is in them, and a character of a name, at most."""
_AGREED_SECONDS: Final = 5.0
"""After how long a writer looks whether the log still has its history: shorter than it takes to
make a stream anew with as many messages, for which the log's guard would hold."""
_HEADERS_BYTES: Final = 64 << 10
"""What a message takes beside its data, at most."""


class _OldError(Exception):
    """A commit was refused by what may be old: it is to be judged by the newest."""


class _OutrunError(Exception):
    """Another node writes, and is faster: nothing was written."""


class _NothingWrittenError(Exception):
    def __init__(self, outcomes: list[Outcome]) -> None:
        super().__init__()
        self.outcomes = outcomes


class _ChangedError(BusyError):
    """Another node has changed a checkpoint that a transaction rests on."""


def _on_nothing(checkpoint: str) -> bool:
    """What is taken in by itself rests on no checkpoint."""
    del checkpoint
    return False


class JetStreamEngine(SqliteEngine):
    """One log of a store on a cluster, and this node's replica. Safe from any thread.

    ``url`` is ``nats://host,…/store?replica=PATH``; see `ClusterAddress` for its options.
    ``busy_timeout`` is in seconds: for so long it goes on asking a cluster that doesn't answer.
    Several processes of a node may open one replica.
    """

    capabilities = _CAPABILITIES
    is_replica = True

    def __init__(
        self,
        url: str | ClusterAddress,
        *,
        clock: Clock = system_clock,
        read_only: bool = False,
        durable: bool = True,
        busy_timeout: float = 30.0,
        connection: Connection | None = None,
    ) -> None:
        address = url if isinstance(url, ClusterAddress) else ClusterAddress.parsed(url)
        if not durable:
            address = replace(address, assume_durable=True)
        self._address = address
        self._refuses_writes = read_only
        self._is_new = self._is_purge_due = self._writes_for_others = False
        self._is_logged = False
        """Whether the message of the transaction under way is in the log."""
        self._agreed_at = 0.0
        """When the replica was last seen to be of the log's history."""
        self._cluster = connection or Connection(address, busy_timeout)
        with contextlib.ExitStack() as undone:
            undone.callback(self._cluster.close)
            stream = opened_stream(
                self._cluster, address, read_only=read_only, patience=busy_timeout
            )
            self._log = SubjectLog(self._cluster, address.stream, address.subject, busy_timeout)
            self._large = LargeMessages(self._cluster, address.stream, address.copies, busy_timeout)
            if not address.replica.exists():
                self._check_begins(0)
            make_folder(address.replica.resolve().parent)
            # what its disk has lost the log still has
            try:
                super().__init__(
                    address.replica, clock=clock, durable=False, busy_timeout=busy_timeout
                )
            except NotAStoreError as error:
                raise NotAStoreError(
                    f"{error}, or, if it was this node's replica, make it anew: everwhen cluster "
                    f"rebuild URL"
                ) from error
            undone.callback(super().close)
            self.location = address.url
            self.title = address.place
            self.capabilities = replace(_CAPABILITIES, durable=durable)
            self._begin(stream)
            self._forwarding = AppendForwarding(self, self._cluster, address.subject)
            undone.callback(self._forwarding.stop)
            self._follower = ReplicaFollower(self, self._cluster, address.subject, self._forwarding)
            undone.callback(self._follower.stop)
            with self.lock.turn(), self.lock.mutex:
                self._catch_up_to_newest()
                self._register()
            self._is_new = False
            self._is_purge_due = self._reader.run(lookups.checkpoint, PURGE_DUE) is not None
            self._follower.start()
            self._writes_for_others = True
            undone.pop_all()

    def _begin(self, stream: LogStream) -> None:
        """Make a replica of a new file. Raises where the file has another history."""
        with self._in_transaction(), self._transactions.transaction():
            connection = self._transactions.connection
            state = state_of(connection)
            if state is None:
                if _has_history(connection):
                    raise NotAStoreError(
                        f"{self.path}: is a store of its own, and no replica of "
                        f"{self._address.subject}; give another path, or copy it into the log: "
                        f"everwhen copy {self.path} URL"
                    )
                state = ReplicaState(0, b"", stream.created)
                self._is_new = True
            elif state.stream != stream.created:
                raise CorruptStoreError(
                    f"{self.path}: is a replica of a stream {self._address.stream} that was made "
                    f"at {state.stream}, and the cluster's was made at {stream.created}: another "
                    f"history. Find out which is the true one, and delete the replica to follow "
                    f"the cluster's, or make a new log from the replica"
                )
            inode = self.path.stat().st_ino
            if self._is_new or state.inode != inode:
                state = replace(state, id=new_replica_id(), inode=inode)
                save_state(connection, state)

    def _register(self) -> None:
        """Have the log know this replica, so that it is waited for before messages are dropped.

        Where the log can't be written, the replica can be read all the same. Hold ``lock``.
        """
        if self._refuses_writes or self._address.log != MAIN:
            return
        record = record_of(place_of(self._kept(), self.path))
        known = self._reader.run(lookups.checkpoint, record.name)
        if known is None or known.data != record.data:  # its file was moved
            place = self._synced_place(self._reader.run(state_of))
            with contextlib.suppress(StorageFullError, DeniedError, UnansweredError):
                self.transact(lambda transaction: register(transaction, place))

    def replica_place(self) -> ReplicaPlace | None:
        return self._synced_place(self._reader.run(state_of))

    def _synced_place(self, found: ReplicaState | None) -> ReplicaPlace:
        """How far the replica has come, which a power loss doesn't take back any more.

        Commits here aren't synced, for the log has them; but who asks this drops them from there.
        """
        place = place_of(self._judged(found), self.path)
        # where there is no such file, all of it is in the main one, which is synced
        with reached(self.path), contextlib.suppress(FileNotFoundError):
            sync_file(f"{self.path}-wal")
        return place

    def _check_begins(self, after: int) -> None:
        """Raises `TrimmedLogError` where what follows a message isn't in the log any more."""
        found = self._log.next(max(0, after - 1))
        if found is None or found.seq == after:
            return
        if after or self._read([found])[0][1].previous:
            raise TrimmedLogError(str(self._address.replica), after, found.seq)

    # Following

    def follow(self, hinted: int) -> None:
        """Take in what is new in the log; ``hinted`` is a message's sequence, or 0."""
        if hinted and self._seen() >= hinted:
            return
        with self.lock.turn(), self.lock.mutex:
            self._catch_up(hinted)
            if self._is_purge_due:
                self._purge_traces()

    def _note_erasures(
        self, commits: Iterable[LoggedCommit], transaction: SqliteTransaction
    ) -> None:
        """Have the replica purged once it has the record of an erasure, whoever wrote that."""
        if not self._is_new and record_an_erasure(commits):
            transaction.save_checkpoint(purge_due(), local=True)
            self._is_purge_due = True

    def _purge_traces(self) -> None:
        """Where somebody is in the way, it is tried again the next time."""
        due = self._reader.run(lookups.checkpoint, PURGE_DUE)
        purge_beside(Path(self._beside), self.busy_timeout)
        with translated(self.path):
            self._transactions.purge()
            emptied = self._transactions.empty_log()
        if emptied:
            with self._in_transaction(), self._transactions.transaction():
                transaction = SqliteEngine._transaction_on(self, self._transactions.connection)
                if transaction.checkpoint(PURGE_DUE) == due:
                    transaction.delete_checkpoint(PURGE_DUE)
            self._is_purge_due = False

    @contextmanager
    def _stopping(self) -> Iterator[None]:
        """Around what finds out about the log: what no later try would change is the end."""
        try:
            yield
        except (CorruptStoreError, NewerStoreError, TrimmedLogError) as error:
            self._lifetime.failure = error
            raise

    def _seen(self) -> int:
        return self._kept().seq

    def _kept(self) -> ReplicaState:
        """How far the replica has come, as readers see it."""
        return self._judged(self._reader.run(state_of))

    def _state(self) -> ReplicaState:
        """The same, in the transaction."""
        return self._judged(state_of(self._transactions.connection))

    def _judged(self, found: ReplicaState | None) -> ReplicaState:
        if found is None:
            raise CorruptStoreError(
                f"{self.path}: doesn't say any more how far it has come; delete it, and it is made "
                f"anew from the log"
            )
        return found

    def _catch_up_to_newest(self) -> None:
        """Take in all that the leader knows of. Hold ``lock``."""
        with self._stopping():
            newest = self._newest()
            seen = self._seen()
            if newest < seen:
                self._log.check_length(seen)
            self._catch_up(newest)
            self._agreed_at = time.monotonic()

    def _newest(self) -> int:
        """The newest message's sequence, by the leader's word; 0 where there is none.

        Raises `CorruptStoreError` where it stands in the place of the one that the replica has.
        """
        newest = self._log.newest()
        if newest is None:
            return 0
        state = self._kept()
        if state.seq == newest.seq and state.digest != digest_of(newest.data):
            raise CorruptStoreError(
                f"{self.path}: {self._log.place_of(newest.seq)} isn't the one that this replica "
                f"has: it is a replica of another history. Find out which is the true one, and "
                f"delete the replica to follow the cluster's"
            )
        return newest.seq

    def _catch_up(self, up_to: int) -> None:
        """Take in all up to a message that there is, or, given 0, what any server has.

        Hold ``lock``.
        """
        with self._stopping():
            while True:
                state = self._kept()
                if up_to and state.seq >= up_to:
                    return
                asked = self._log.certain_page if up_to else self._log.page
                page = self._told(state) or asked(state.seq, _PAGE)
                if page:
                    self._take_in(page)
                elif up_to:
                    self._log.check_length(up_to)
                else:
                    return

    def _told(self, state: ReplicaState) -> list[LogMessage]:
        return self._follower.told_after(state.seq, state.digest)

    def _take_in(self, page: Sequence[LogMessage]) -> None:
        read = self._read_next(page)
        with (
            translated(self.path),
            self._in_transaction(),
            self._transactions.transaction() as turn,
        ):
            state = self._state()
            save_state(self._transactions.connection, self._applied(read, state, turn))
        self.news.publish()

    def _applied(
        self,
        page: Sequence[tuple[LogMessage, GroupMessage]],
        state: ReplicaState,
        turn: WriteTurn,
        rests_on: Callable[[str], bool] = _on_nothing,
    ) -> ReplicaState:
        """Write what the messages say, in the transaction; how far the replica has come then.

        Raises `_ChangedError` where one changes a checkpoint that something rests on.
        """
        group = self._writer.group(turn)
        transaction = SqliteEngine._transaction_on(self, self._transactions.connection)
        for message, read in page:
            if message.seq <= state.seq:
                continue
            where = self._log.place_of(message.seq)
            if read.previous != state.digest:
                self._check_begins(state.seq)
                raise CorruptStoreError(
                    f"{self.path}: {where} doesn't follow on message {state.seq}, which this "
                    f"replica has: it is a replica of another history. Find out which is the true "
                    f"one, and delete the replica to follow the cluster's"
                )
            for commit in read.commits:
                outcome = group.add(commit.encoded())
                if not isinstance(outcome, Receipt):
                    raise CorruptStoreError(
                        f"{self.path}: can't take {where}: {outcome}; this replica isn't what the "
                        f"log says, delete it, and it is made anew"
                    ) from outcome
            self._note_erasures(read.commits, transaction)
            for kept in read.checkpoints:
                if rests_on(kept.name):
                    raise _ChangedError(
                        f"{self.path}: another node has changed the checkpoint {kept.name!r} "
                        f"meanwhile; nothing was written, run the transaction again"
                    )
                if kept.position is None:
                    transaction.delete_checkpoint(kept.name)
                else:
                    transaction.save_checkpoint(Checkpoint(kept.name, kept.position, kept.data))
            state = replace(state, seq=message.seq, digest=digest_of(message.data))
        group.insert()
        return state

    def _read_next(self, page: Sequence[LogMessage]) -> list[tuple[LogMessage, GroupMessage]]:
        """The same, where they follow on what this replica has.

        Raises `TrimmedLogError` where that, and what they refer to, was dropped meanwhile.
        """
        try:
            return self._read(page)
        except CorruptStoreError:
            self._check_begins(self._seen())
            raise

    def _read(self, page: Sequence[LogMessage]) -> list[tuple[LogMessage, GroupMessage]]:
        """The messages with what they say; large ones are fetched."""
        return [
            (one, read_message(one.data, self._log.place_of(one.seq), self._large.get))
            for one in page
        ]

    # Writing

    def write(self, commits: Sequence[EncodedCommit], *, waits: bool = False) -> list[Outcome]:
        self.check_open()
        self._check_writable()
        return self._by_another(commits) or self._write_here(commits, waits=waits)

    def _by_another(self, commits: Sequence[EncodedCommit]) -> list[Outcome] | None:
        """What the node that writes makes of the commits.

        None where that is this one. Where another one gave no answer, they may be written all the
        same: then what became of them is found out here.
        """
        other = None if self.inline else self._forwarding.other_writer()
        if other is None:
            return None
        found = self._forwarding.ask(other, commits)
        if found is None:
            doubted = [replace(commit, is_fresh=False) for commit in commits]
            return self._write_all(doubted, waits=True)
        seq, outcomes = found
        try:
            self._catch_up(seq)
        except Exception as error:
            if any(isinstance(outcome, Receipt) for outcome in outcomes):
                raise self._not_taken_in(error) from error
            raise
        return outcomes

    def write_for_others(self) -> None:
        with self.lock.turn(), self.lock.mutex:
            self.check_open()
            self._check_writable()
            if not self._forwarding.is_asked:  # somebody has written it along with their own
                return
            if self.inline:  # which is no concern of others
                self._forwarding.answer(self._forwarding.taken(), 0, ())
            else:
                self._write_here((), waits=True)

    def _write_here(self, commits: Sequence[EncodedCommit], *, waits: bool) -> list[Outcome]:
        """Write the commits and, along with them, what was handed over meanwhile.

        If that is nothing, and another node is faster, it is theirs to write.
        """
        handed = HandedOver([], []) if self.inline else self._forwarding.taken()
        if not handed.asked:
            try:
                return self._write_all(commits, waits=waits, yields=True)
            except _OutrunError:
                return self._by_another(commits) or self._write_all(commits, waits=waits)
        try:
            outcomes = self._write_all([*commits, *handed.commits], waits=waits)
        except NotFetchedError:
            self._forwarding.give_back(handed)
            raise
        self._forwarding.answer(handed, self._seen(), outcomes[len(commits) :])
        return outcomes[: len(commits)]

    def _write_all(
        self, commits: Sequence[EncodedCommit], *, waits: bool, yields: bool = False
    ) -> list[Outcome]:
        """Their outcomes. Where it ``yields``, `_OutrunError` says that another node is to write.

        Then nothing was written.
        """
        outcomes: list[Outcome] = []
        for group in _groups(commits, min(_GROUP_BYTES, self._room)):
            try:
                outcomes += self._write_group(
                    group, waits=waits, yields=yields and len(group) == len(commits)
                )
            except StorageError as error:
                if not outcomes:
                    raise
                outcomes += [error] * (len(commits) - len(outcomes))
                break
        self.news.publish()
        return outcomes

    @property
    def _room(self) -> int:
        """How many bytes of data the servers take in one message."""
        return self._cluster.max_payload - _HEADERS_BYTES

    def _write_group(
        self, commits: Sequence[EncodedCommit], *, waits: bool, yields: bool = False
    ) -> list[Outcome]:
        while self._follower.is_told and (told := self._told(self._kept())):
            self._take_in(told)
        try:
            return self._raced(commits, waits=waits, yields=yields)
        except InlineError as error:
            if len(commits) == 1:
                return [error]
        except _OutrunError:
            raise
        except Exception as error:
            if len(commits) == 1 or self._transactions.is_decided or is_not_its_own(error):
                raise
        return written_one_by_one(
            commits,
            lambda commit: self._write_group((commit,), waits=True),
            self._writer.explained,
            is_of_the_medium,
        )

    def _raced(
        self, commits: Sequence[EncodedCommit], *, waits: bool, yields: bool
    ) -> list[Outcome]:
        """Judge and write them again and again, until nobody was faster."""
        if time.monotonic() - self._agreed_at > _AGREED_SECONDS:
            self._catch_up_to_newest()
        is_newest = False
        while True:
            try:
                return self._tried(commits, waits=waits, is_newest=is_newest)
            except _NothingWrittenError as nothing:
                return nothing.outcomes
            except OvertakenError as overtaken:
                is_newest = False
                self._catch_up(overtaken.seq)
                if yields and self._forwarding.other_writer() is not None:
                    raise _OutrunError from None
            except _OldError:
                is_newest = True
                self._catch_up_to_newest()

    def _tried(
        self, commits: Sequence[EncodedCommit], *, waits: bool, is_newest: bool
    ) -> list[Outcome]:
        """The commits' outcomes, judged by what the replica has, and what was accepted in the log.

        Raises `OvertakenError` where another message stands behind what the replica has, and
        `_OldError` where a commit would be refused, unless the replica ``is_newest``.
        """
        with (
            self._logging(),
            translated(self.path),
            self._in_transaction(),
            self._transactions.transaction() as turn,
        ):
            state = self._state()
            group = self._writer.group(turn, waits=waits)
            outcomes = [group.add(commit) for commit in commits]
            if not is_newest and not all(isinstance(outcome, Receipt) for outcome in outcomes):
                raise _OldError
            accepted = tuple(
                logged(commit, recorded_micros(outcome))
                for commit, outcome in zip(commits, outcomes, strict=True)
                if isinstance(outcome, Receipt) and not outcome.repeated
            )
            if not accepted:
                raise _NothingWrittenError(outcomes)
            group.insert()
            transaction = self._transaction_on(self._transactions.connection)
            for inline in self.inline:
                inline(transaction)
            shared = tuple(transaction.shared.values())
            self._note_erasures(accepted, transaction)
            message_id, data = new_message(state.digest, accepted, shared)
            with self._stopping():
                self._publish(message_id, data, state)
        return outcomes

    def _publish(self, message_id: bytes, data: bytes, state: ReplicaState) -> None:
        """Write the message behind what the replica has, and have the replica say so."""
        name = None
        if len(data) > self._room:
            name = str(LargeMessageName(self._address.log, state.seq, message_id))
            self._large.put(name, data)
            data = new_reference(message_id, name, data)
        try:
            seq = self._log.append(message_id, data, state.seq)
        except OvertakenError:
            if name is not None:
                with contextlib.suppress(StorageError):  # then it is swept
                    self._large.delete(name)
            raise
        self._is_logged = True
        self._agreed_at = time.monotonic()
        takes_others = self._writes_for_others and not self.inline
        self._follower.tell(seq, state.digest, data, writes_for_others=takes_others)
        written = replace(state, seq=seq, digest=digest_of(data))
        save_state(self._transactions.connection, written)

    @contextmanager
    def _logging(self) -> Iterator[None]:
        """Around a transaction whose message goes into the log: what fails after that undoes none.

        Hold ``lock``.
        """
        self._is_logged = False
        try:
            yield
        except Exception as error:
            if not self._is_logged:
                raise
            raise self._not_taken_in(error) from error

    def _not_taken_in(self, error: Exception) -> StorageError:
        return StorageError(
            f"{self.path}: what was to be written is in the log, but this replica could not take "
            f"it in ({error}); fix that, and repeat the commit with the same commit id for its "
            f"receipt"
        )

    def _transaction_on(self, connection: apsw.Connection) -> ReplicaTransaction:
        return ReplicaTransaction(connection, self.path, self._segments)

    @contextmanager
    def transaction(self) -> Iterator[ReplicaTransaction]:
        with self._logging(), self._changing(), self._transactions.transaction() as turn:
            transaction = self._transaction_on(self._transactions.connection)
            yield transaction
            with self._stopping():
                self._share(transaction, turn)

    def transact(self, work: Callable[[EngineTransaction], T]) -> T:
        while True:
            try:
                with self.transaction() as transaction:
                    return work(transaction)
            except _ChangedError:
                self._catch_up_to_newest()

    def _share(self, transaction: ReplicaTransaction, turn: WriteTurn) -> None:
        """Write into the log what the transaction changed of checkpoints.

        Where others have written meanwhile, that comes first, in the same transaction.
        """
        if not transaction.shared:
            return
        shared: tuple[LoggedCheckpoint, ...] = tuple(transaction.shared.values())
        state = self._state()
        while True:
            message_id, data = new_message(state.digest, (), shared)
            try:
                self._publish(message_id, data, state)
            except OvertakenError as overtaken:
                while state.seq < overtaken.seq:
                    page = self._told(state) or self._log.certain_page(state.seq, _PAGE)
                    read = self._read_next(page)
                    state = self._applied(read, state, turn, transaction.rests_on)
            else:
                return

    # Reading: by what the replica has, or, where that is asked for, all that there is

    def _reach(self) -> None:
        """Where reads are to be fresh, take in all that was acknowledged before this call."""
        if self._address.consistency == "fresh":
            self._reach_newest()

    def _reach_newest(self) -> None:
        self.check_open()
        with self._stopping():
            newest = self._newest()
        if self._seen() >= newest:
            return
        mutex, taken = self.lock.mutex, list[bool]()
        try:
            # in one call: an interrupt between taking it and knowing that would leave it locked
            taken.extend(map(mutex.acquire, (True,), (self.busy_timeout,)))
            if True not in taken:
                raise BusyError(
                    f"{self.path}: for {self.busy_timeout:g} s the replica could not catch up: a "
                    f"transaction of this process holds it, or an append that waits for the "
                    f"cluster; read it after that"
                )
            self._catch_up(newest)
        finally:
            if True in taken:  # which calls nothing, so that no interrupt comes before the release
                mutex.release()

    @contextmanager
    def view(self) -> Iterator[SqliteView]:
        self._reach()
        with super().view() as view:
            yield view

    def read(self, query: Query, events: int) -> Page:
        self._reach()
        return super().read(query, events)

    def stored_commit(self, commit_id: bytes) -> list[StoredSlice]:
        """By all that there is, before it says that there is none: outcomes are settled by it."""
        found = super().stored_commit(commit_id)
        if not found:
            self._reach_newest()
            found = super().stored_commit(commit_id)
        return found

    def head(self) -> Head:
        self._reach()
        return super().head()

    def check_end(self, after: int) -> None:
        """Says nothing while this replica lacks what the cluster has, or can't know what it has."""
        try:
            newest = self._log.last()
        except StorageError:
            return
        if self._seen() >= newest:
            super().check_end(after)

    def position_at(self, recorded_at: int) -> int:
        self._reach()
        return super().position_at(recorded_at)

    def stream(self, name: str) -> StreamInfo | None:
        self._reach()
        return super().stream(name)

    def streams(self, category: str | None, after: str, limit: int) -> list[StreamInfo]:
        self._reach()
        return super().streams(category, after, limit)

    def checkpoint(self, name: str) -> Checkpoint | None:
        self._reach()
        return super().checkpoint(name)

    def checkpoints(self) -> list[Checkpoint]:
        self._reach()
        return [
            kept
            for kept in super().checkpoints()
            if kept.name != REPLICA and not kept.name.startswith(LOG_RECORDS)
        ]

    # Other logs beside it, each a subject and a file of its own

    def has_log(self, log: str) -> bool:
        return super().has_log(log) or self._beside_log(log).last() > 0

    def _beside_log(self, log: str) -> SubjectLog:
        self.check_open()
        beside = self._address.beside(log, self.file_of(log))
        return SubjectLog(self._cluster, beside.stream, beside.subject, self.busy_timeout)

    def open_log(self, log: str, not_before: datetime | None) -> JetStreamEngine:
        if not self.has_log(log):
            self._check_writable()
        return JetStreamEngine(
            self._address.beside(log, self.file_of(log)),
            clock=clock_from(not_before, self._clock),
            read_only=self._refuses_writes,
            durable=self.capabilities.durable,
            busy_timeout=self.busy_timeout,
            connection=self._cluster.share(),
        )

    def drop_log(self, log: str) -> None:
        self._beside_log(log).purge()
        super().drop_log(log)
        for name in self._large.of_log(log):
            self._large.delete(name)

    # The end

    def close(self) -> None:
        if self._lifetime.is_foreign or self._lifetime.is_closed:
            return super().close()
        if not sys.is_finalizing():  # else their threads are gone
            self._follower.stop()
            self._forwarding.stop()
        try:
            return super().close()
        finally:
            self._cluster.close()

    def _check_writable(self) -> None:
        if self._refuses_writes:
            raise ReadOnlyError(
                f"{self._address.place}: opened with read_only=True; open it for writing"
            )


def _has_history(connection: apsw.Connection) -> bool:
    """Whether the file has events or checkpoints of its own."""
    tables = ("slices", "checkpoints", "snapshots")
    return any(connection.execute(f"SELECT 1 FROM {table} LIMIT 1").get for table in tables)


def _groups(commits: Sequence[EncodedCommit], most_bytes: int) -> Iterator[Sequence[EncodedCommit]]:
    """The commits in order, in groups that go into one message each."""
    start = size = 0
    for index, commit in enumerate(commits):
        of_commit = _bytes_of(commit)
        if index > start and (size + of_commit > most_bytes or index - start >= _GROUP_COMMITS):
            yield commits[start:index]
            start, size = index, 0
        size += of_commit
    if start < len(commits):
        yield commits[start:]


def _bytes_of(commit: EncodedCommit) -> int:
    """As many bytes as it takes in a message, or some more."""
    size = _COMMIT_BYTES + len(commit.metadata or b"")
    for part in commit.slices:
        names = (part.stream, *part.types, *part.tags)
        size += _SLICE_BYTES + len(part.body) + sum(_NAME_BYTES * len(name) for name in names)
    return size
