"""Dropping from a log what its archive has, once no replica needs it any more.

The log's messages are read once more, and each event is held against what this node's replica has,
which reads old ones from its archive. Only then they go, in the order of the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice, zip_longest
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec

from everwhen.backends.engine import LOG_RECORDS, EngineTransaction
from everwhen.backends.jetstream.address import ClusterAddress
from everwhen.backends.jetstream.engine import JetStreamEngine
from everwhen.backends.jetstream.messages import (
    LoggedCommit,
    LoggedSlice,
    digest_of,
    read_reference,
)
from everwhen.backends.jetstream.registration import (
    REPLICAS,
    ReplicaPlace,
    answering_replicas,
    record_of,
    recorded_replicas,
)
from everwhen.backends.jetstream.replica_state import state_in
from everwhen.backends.jetstream.subject_log import LogMessage
from everwhen.backends.sqlite import lookups
from everwhen.cluster.progress import ReplicaProgress
from everwhen.cluster.replica_files import slices_in
from everwhen.cluster.replicas import ReplicaStatus, replica_statuses
from everwhen.vocabulary.contract import Checkpoint, Segment, StoredSlice
from everwhen.vocabulary.errors import CorruptStoreError, DeclarationError, TrimmedLogError

Holding: TypeAlias = Literal["archive", "replicas", ""]

_BEGINS: Final = f"{LOG_RECORDS}begins"
"""The checkpoint that says with which message the log begins, and the last position in that."""
_PAGE: Final = 200


class TrimmedLog(msgspec.Struct, frozen=True):
    """A log of which ``dropped`` messages were deleted, and ``objects``, the large ones of these.

    It ``begins`` with that message now, or, where that is 0, as it was made. The events up to
    ``position`` are archived or retired, and those before the first message's are nowhere else but
    in replicas. ``held_by`` says why the next message is kept: its events aren't in the
    ``archive``, or not all ``replicas`` have it. It is empty where there is no next one.
    """

    dropped: int
    objects: int
    begins: int
    position: int
    held_by: Holding
    replicas: list[ReplicaStatus]


def trim_log(
    url: str,
    *,
    busy_timeout: float = 30.0,
    progress: Callable[[ReplicaProgress], None] | None = None,
) -> TrimmedLog:
    """Drop the messages whose events this node's replica has archived, or retired.

    Each event is compared with what the archive has before it goes. A message that a registered
    replica has still to take in is kept: one that is open is asked how far it is, and of one that
    isn't, what it was last known to have counts, until `forget_replica` takes it off the list. Of
    the messages that could go the newest stays, so that whoever follows on it is known. The logs
    of branches are kept whole.

    From then on a new replica is made from a copy of another one, not from the log alone.

    Raises `CorruptStoreError` where the archive has something else than the log, and `StorageError`
    where the archive or the cluster can't be read. Nothing was dropped then.
    """
    with closing(_TrimmingReplica(ClusterAddress.parsed(url), busy_timeout=busy_timeout)) as own:
        return own.trim(progress)


def forget_replica(url: str, replica: str, *, busy_timeout: float = 30.0) -> ReplicaStatus:
    """Take a replica that is gone for good off the list of those that messages are kept for.

    ``replica`` is its id, or the beginning of it. Where it comes back, and lacks what was dropped
    meanwhile, opening it raises `TrimmedLogError`.

    Raises `DeclarationError` where there is none of that id, or several, or where it is open.
    """
    with closing(_TrimmingReplica(ClusterAddress.parsed(url), busy_timeout=busy_timeout)) as own:
        return own.forget(replica)


class _Begins(NamedTuple):
    """A message of the log, and the last position in it."""

    seq: int
    position: int


class _Kept(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    position: int


class _Droppable:
    """The messages that may go, as far as they were looked at; the last one of them stays."""

    def __init__(self, begins: _Begins, archived: int, reached: int) -> None:
        self.last = begins
        self.held_by: Holding = ""
        self._begins = begins
        self._archived = archived
        self._reached = reached
        self._digest = b""
        self._objects: list[tuple[int, str]] = []

    def objects_before(self, seq: int) -> list[str]:
        return [name for at, name in self._objects if at < seq]

    def weigh(self, message: LogMessage, previous: bytes, events: int, name: str | None) -> bool:
        """Whether it may go, after those before it; False for the one that stayed the last time.

        Raises `ValueError` where it doesn't follow on the one before.
        """
        is_first = message.seq == self._begins.seq
        if not is_first:
            if previous != self._digest:
                raise ValueError("not the next")
            end = self.last.position + events
            if message.seq > self._reached:
                self.held_by = "replicas"
            elif end > self._archived:
                self.held_by = "archive"
            if self.held_by:
                return False
            self.last = _Begins(message.seq, end)
        self._digest = digest_of(message.data)
        if name is not None:
            self._objects.append((message.seq, name))
        return not is_first


class _TrimmingReplica(JetStreamEngine):
    """This node's replica, while its log is looked after."""

    def forget(self, replica: str) -> ReplicaStatus:
        registered = [one for one in self._replicas() if one.is_registered]
        found = [one for one in registered if replica and one.id.startswith(replica)]
        if len(found) != 1:
            known = ", ".join(f"{one.id} ({one.node}: {one.path})" for one in registered)
            which = "several replicas" if found else "no replica"
            raise DeclarationError(
                f"{self.title}: knows {which} of the id {replica!r}; it knows {known}"
            )
        (one,) = found
        if one.answers:
            raise DeclarationError(
                f"{self.title}: the replica {one.id} is open on {one.node} ({one.path}); close it "
                f"there first"
            )
        self._write_down(lambda transaction: transaction.delete_checkpoint(REPLICAS + one.id))
        return one

    def _replicas(self) -> list[ReplicaStatus]:
        """Those that are registered, and those that answer; this one as it was at one moment.

        One that registers after that has read the log up to there, and further than this one.
        """
        with self.view() as view:
            places = recorded_replicas(view.checkpoints(REPLICAS))
            own = self._synced_place(state_in(view))
        others = [place.id for place in places if place.id != own.id]
        answers = answering_replicas(self._cluster, self._log.subject, others)
        return replica_statuses(places, {**answers, own.id: own})

    def trim(self, progress: Callable[[ReplicaProgress], None] | None) -> TrimmedLog:
        while True:
            begins = self._begins()
            try:
                return self._trimmed(begins, progress)
            except (CorruptStoreError, TrimmedLogError):
                with self.lock.turn(), self.lock.mutex:
                    self._catch_up_to_newest()
                if self._begins() == begins:  # else another node has dropped what was compared
                    raise

    def _trimmed(
        self, begins: _Begins, progress: Callable[[ReplicaProgress], None] | None
    ) -> TrimmedLog:
        archived = _archived_up_to(self.segments())
        replicas = self._replicas()
        reached = min(one.message for one in replicas)
        found = _Droppable(begins, archived, reached)
        for page in self._pages(found.last.seq):
            self._compare(page, found)
            if progress is not None:
                progress(
                    ReplicaProgress("comparing with the archive", found.last.position, archived)
                )
            if found.held_by:
                break
        if found.last.position > begins.position:  # else there is nothing worth a message
            self._write_down(lambda transaction: _record(transaction, found.last, replicas))
        begins = self._begins()
        # also where nothing is new: the last time may have ended before this
        dropped = self._log.purge(before=begins.seq) if begins.seq else 0
        objects = found.objects_before(begins.seq)
        for name in objects:
            self._large.delete(name)
        return TrimmedLog(
            dropped, len(objects), begins.seq, begins.position, found.held_by, replicas
        )

    def _write_down(self, work: Callable[[EngineTransaction], None]) -> None:
        with self.lock.turn(), self.lock.mutex:
            self.transact(work)

    def _begins(self) -> _Begins:
        kept = self._reader.run(lookups.checkpoint, _BEGINS)
        if kept is None:
            return _Begins(0, 0)
        return _Begins(kept.position, msgspec.msgpack.decode(kept.data, type=_Kept).position)

    def _pages(self, first: int) -> Iterator[Sequence[LogMessage]]:
        """The log's messages from that one on."""
        after = max(0, first - 1)
        while page := self._log.certain_page(after, _PAGE):
            yield page
            after = page[-1].seq

    def _compare(self, page: Sequence[LogMessage], found: _Droppable) -> None:
        """Hold messages that may go against what the replica has."""
        start = found.last.position
        commits: list[LoggedCommit] = []
        for message, read in self._read(page):
            where = self._log.place_of(message.seq)
            events = sum(part.count for commit in read.commits for part in commit.slices)
            reference = read_reference(message.data, where)
            name = None if reference is None else reference.name
            try:
                may_go = found.weigh(message, read.previous, events, name)
            except ValueError:
                raise CorruptStoreError(
                    f"{self.path}: {where} doesn't follow on the one before; nothing was dropped, "
                    f"find out who else writes to the log"
                ) from None
            if may_go:
                commits += read.commits
            if found.held_by:
                break
        retired = max((one.last for one in self.segments() if one.retired_at), default=0)
        due = [one for one in _expected(commits, start) if one.position > retired]
        with self.view() as view:
            has = islice(slices_in(view, max(start, retired)), len(due))
            for expected, stored in zip_longest(due, has):
                if stored is None or not expected.is_of(stored):
                    raise CorruptStoreError(
                        f"{self.path} position {expected.position}: isn't what the log says; "
                        f"nothing was dropped. Find out by 'everwhen check --deep' what became of "
                        f"it, here or in the archive"
                    )


class _Expected(NamedTuple):
    """A slice as the log has it."""

    position: int
    commit: LoggedCommit
    part: LoggedSlice

    def is_of(self, stored: StoredSlice) -> bool:
        """Whether the replica has just that."""
        commit, part = self.commit, self.part
        return (
            stored.position == self.position
            and stored.commit_id == commit.id
            and stored.recorded_at == commit.recorded_at
            and stored.metadata == commit.metadata
            and stored.stream == part.stream
            and stored.count == part.count
            and stored.body == part.body
        )


def _expected(commits: Iterable[LoggedCommit], position: int) -> Iterator[_Expected]:
    for commit in commits:
        for part in commit.slices:
            position += part.count
            yield _Expected(position, commit, part)


def _archived_up_to(segments: Sequence[Segment]) -> int:
    """The last position up to which everything is in the archive, or was given up."""
    reached = 0
    for segment in sorted(segments, key=lambda one: one.last):
        if segment.first > reached + 1 or (segment.object is None and not segment.retired_at):
            break
        reached = segment.last
    return reached


def _record(
    transaction: EngineTransaction, begins: _Begins, replicas: Sequence[ReplicaStatus]
) -> None:
    """Write down where the log begins, and how far replicas are that answered.

    What others have written meanwhile stays: a later beginning, and that a replica is gone.
    """
    known = transaction.checkpoint(_BEGINS)
    if known is None or known.position < begins.seq:
        data = msgspec.msgpack.encode(_Kept(begins.position))
        transaction.save_checkpoint(Checkpoint(_BEGINS, begins.seq, data))
    registered = {kept.name for kept in transaction.checkpoints(REPLICAS)}
    for one in replicas:
        if one.answers and REPLICAS + one.id in registered:
            transaction.save_checkpoint(
                record_of(ReplicaPlace(one.id, one.node, one.path, one.message))
            )
