"""The engine over HTTP: one log behind another process's server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import msgspec

from everwhen.backends.branch_records import BranchInfo
from everwhen.backends.commit_checks import LONG_AGO, SliceCheck, slice_problems
from everwhen.backends.engine import (
    ChangedError,
    EngineCompaction,
    EngineMove,
    EngineTransaction,
    Inline,
    Scratch,
)
from everwhen.backends.notifier import News
from everwhen.backends.outcome_messages import error_of
from everwhen.backends.remote.address import ServerAddress
from everwhen.backends.remote.answer_checks import commit_of, page_of, receipt_for, strange
from everwhen.backends.remote.connections import ANSWER_SECONDS, Connections
from everwhen.backends.remote.messages import (
    ANSWERS,
    MAX_ANSWER_BYTES,
    MAX_ASKED_BYTES,
    MAX_CHANGES_BYTES,
    MAX_COMMITS_BYTES,
    MAX_LISTED,
    PROTOCOL,
    UNREADABLE,
    AskBranches,
    AskCheckpoint,
    AskCheckpoints,
    AskCommit,
    AskGreeting,
    AskHead,
    AskPage,
    AskPosition,
    AskSnapshots,
    AskSnapshotsAfter,
    AskStream,
    AskStreams,
    AskUnchanged,
    BranchChange,
    ChangesMessage,
    CommitMessage,
    CreateBranch,
    DeleteBranch,
    Greeting,
    RenameBranch,
    decode_outcomes,
    decode_switch,
    encode_message,
)
from everwhen.backends.remote.views import NO_SQL, ClientTransaction, ClientView
from everwhen.backends.remote.watch import ServerWatch
from everwhen.backends.sql_connection import SqlConnection
from everwhen.system.fair_lock import FairLock
from everwhen.system.file_backups import BackupListener, BackupReport, BackupTask
from everwhen.vocabulary.contract import (
    Capabilities,
    Checkpoint,
    EncodedCommit,
    Head,
    Move,
    Outcome,
    Page,
    Problem,
    Segment,
    Snapshot,
    SnapshotInfo,
    StoredSlice,
    StreamInfo,
    TableSize,
)
from everwhen.vocabulary.errors import (
    BeyondEndError,
    BusyError,
    ConflictError,
    EverwhenError,
    InvalidCommitError,
    InvalidQueryError,
    ReadOnlyError,
    RefusedError,
    RetiredError,
    UnsupportedError,
)
from everwhen.vocabulary.paging import PAGE_EVENTS, next_page
from everwhen.vocabulary.query import Query, Selector
from everwhen.vocabulary.streams import MAX_POSITION
from everwhen.vocabulary.validation import check_recorded_at

T = TypeVar("T")

_SIZED_BYTES: Final = 1 << 20
"""From here on a commit is measured as it is sent; before, what is beside its bodies is little."""
_BESIDE_BYTES: Final = 1 << 10
"""What a request takes beside one commit."""
_TRIES: Final = 50
"""How often a function is run anew because others changed meanwhile what it has read."""
_PURGE_SECONDS: Final = 3_600.0
"""A purge may write a whole store anew."""


class HttpEngine:
    """One log behind a server. Safe from any thread; not to be taken through a fork.

    The server's clock tells the time of commits, and its store says how durable they are.
    ``busy_timeout`` is in seconds: for so long a request is tried again where no answer comes.
    """

    blocking = True

    def __init__(
        self,
        url: str | ServerAddress,
        *,
        read_only: bool = False,
        busy_timeout: float = 30.0,
    ) -> None:
        self._address = address = (
            url if isinstance(url, ServerAddress) else ServerAddress.parsed(url)
        )
        self.path = self.place = address.place
        self.location = url if isinstance(url, str) else ""
        self.busy_timeout = busy_timeout
        self.lock = FairLock()
        self.news = News()
        self.inline: list[Inline] = []
        self._read_only = read_only
        self._connections = Connections(address)
        try:
            greeting = self._greeting()
        except BaseException:
            self._connections.close()
            raise
        self.capabilities: Capabilities = capabilities_of(greeting.capabilities)
        self._most_bytes = min(greeting.most_bytes, MAX_COMMITS_BYTES)
        self.branch: BranchInfo | None = greeting.branch
        self._watch = ServerWatch(self._head_after, self.news.publish)

    # Requests

    def _greeting(self) -> Greeting:
        greeting: Greeting = self._ask(AskGreeting(), patience=0)
        if greeting.protocol != PROTOCOL:
            raise UnsupportedError(
                f"{self.place}: it speaks version {greeting.protocol} of the log protocol, and "
                f"this is version {PROTOCOL}; install the same Everwhen on both sides"
            )
        return greeting

    def _ask(
        self, ask: Any, *, patience: float | None = None, seconds: float = ANSWER_SECONDS
    ) -> Any:
        """The answer to a question."""
        body = encode_message(ask)
        if len(body) > MAX_ASKED_BYTES:
            raise InvalidQueryError(
                f"the query is {len(body):,} bytes; over HTTP the limit is {MAX_ASKED_BYTES:,}: "
                f"name fewer streams, types or tags"
            )
        answer = self._connections.post(
            f"{self._address.log_path}/reads",
            body,
            MAX_ANSWER_BYTES,
            patience=self.busy_timeout if patience is None else patience,
            seconds=seconds,
        )
        try:
            return msgspec.msgpack.decode(answer, type=ANSWERS[type(ask)])
        except UNREADABLE as error:
            raise strange(str(error)) from error

    # Writing

    def write(self, commits: Sequence[EncodedCommit], *, waits: bool = False) -> list[Outcome]:
        del waits  # the server fetches what it needs
        self.check_open()
        self._check_writable()
        outcomes: list[Outcome | None] = [None] * len(commits)
        sent: list[tuple[int, CommitMessage]] = []
        size = 0
        for index, commit in enumerate(commits):
            try:
                message, length = _message(commit, self._most_bytes)
            except RefusedError as error:
                outcomes[index] = error
                continue
            if sent and (size + length > self._most_bytes // 2 or len(sent) == MAX_LISTED):
                self._send(commits, sent, outcomes)
                sent, size = [], 0
            sent.append((index, message))
            size += length
        if sent:
            self._send(commits, sent, outcomes)
        self.news.publish()
        return [outcome for outcome in outcomes if outcome is not None]

    def _send(
        self,
        commits: Sequence[EncodedCommit],
        sent: Sequence[tuple[int, CommitMessage]],
        outcomes: list[Outcome | None],
    ) -> None:
        """Write some of the commits. Their ids make it safe to send them again."""
        body = encode_message([message for _, message in sent])
        answer = self._connections.post(
            f"{self._address.log_path}/commits",
            body,
            MAX_ANSWER_BYTES,
            patience=self.busy_timeout,
        )
        try:
            found = decode_outcomes(answer)
        except UNREADABLE as error:
            raise strange(str(error)) from error
        if len(found) != len(sent):
            raise strange(f"{len(found)} outcomes of {len(sent)} commits")
        for (index, _), outcome in zip(sent, found, strict=True):
            commit = commits[index]
            if outcome.receipt is not None:
                receipt = receipt_for(commit, outcome.receipt)
                if commit.is_fresh:  # where it is known, it was sent before by this call
                    receipt = msgspec.structs.replace(receipt, repeated=False)
                outcomes[index] = receipt
            elif outcome.error is not None:
                outcomes[index] = _as_believed(error_of(outcome.error), commit)
            else:
                raise strange("an outcome that is none")

    @contextmanager
    def transaction(self) -> Iterator[ClientTransaction]:
        self.check_open()
        self._check_writable()
        transaction = ClientTransaction(self)
        yield transaction
        if not self._takes_effect(transaction):
            raise BusyError(
                f"{self.place}: somebody else changed what this transaction has read, so nothing "
                f"of it was written; do it again"
            )

    def transact(self, work: Callable[[EngineTransaction], T]) -> T:
        self.check_open()
        self._check_writable()
        for _ in range(_TRIES):
            transaction = ClientTransaction(self)
            found = work(transaction)
            if self._takes_effect(transaction):
                return found
        raise BusyError(f"{self.place}: others change the same all the time; try again later")

    def _takes_effect(self, transaction: ClientTransaction) -> bool:
        if not transaction.changes:
            return self._is_of_one_moment(transaction)
        body = encode_message(ChangesMessage(transaction.seen, transaction.changes))
        if len(body) > MAX_CHANGES_BYTES:
            raise InvalidCommitError(
                f"the transaction is {len(body):,} bytes; over HTTP the limit is "
                f"{MAX_CHANGES_BYTES:,}: save less at a time"
            )
        answer = self._connections.post(
            f"{self._address.log_path}/changes",
            body,
            MAX_ANSWER_BYTES,
            patience=self.busy_timeout,
            repeats=False,
        )
        return _switch(answer)

    # Reading

    @contextmanager
    def view(self) -> Iterator[ClientView]:
        self.check_open()
        view = ClientView(self)
        yield view
        if not self._is_of_one_moment(view):
            raise ChangedError(Path(self.place))

    def _is_of_one_moment(self, view: ClientView) -> bool:
        """Whether all that was seen is so at one moment: what one request saw always is."""
        seen = view.seen
        return len(seen) < 2 or bool(self._ask(AskUnchanged(seen)))

    def watch(self) -> int:
        self.check_open()
        return self._watch.go_on()

    def _head_after(self, after: int, seconds: float) -> int:
        head: Head = self._ask(AskHead(after, seconds), seconds=seconds + ANSWER_SECONDS)
        return head.position

    def read(self, query: Query, events: int) -> Page:
        asked = _bounded(query)
        if asked.after_position == MAX_POSITION:
            return Page([], asked.after_position, end=True)
        return page_of(self._ask(AskPage(asked, min(events, PAGE_EVENTS))), asked)

    def stored_commit(self, commit_id: bytes) -> list[StoredSlice]:
        return commit_of(self._ask(AskCommit(commit_id)), commit_id)

    def head(self) -> Head:
        head: Head = self._ask(AskHead())
        if not 0 <= head.position <= MAX_POSITION or (head.recorded_at is None) != (
            not head.position
        ):
            raise strange(f"a head at {head.position}")
        return head

    def check_end(self, after: int) -> None:
        try:
            self._ask(AskHead(min(after, MAX_POSITION), 0))
        except BeyondEndError as error:
            raise BeyondEndError(self.place, after, error.end) from None

    def position_at(self, recorded_at: int) -> int:
        position: int = self._ask(AskPosition(_int64(recorded_at)))
        if not 0 <= position <= MAX_POSITION:
            raise strange(f"a position {position}")
        return position

    def stream(self, name: str) -> StreamInfo | None:
        info: StreamInfo | None = self._ask(AskStream(_sent(name)))
        if info is not None and info.name != name:
            raise strange("another stream than the one that was asked for")
        return info

    def streams(self, category: str | None, after: str, limit: int) -> list[StreamInfo]:
        found: list[StreamInfo] = []
        within = None if category is None else _sent(category)
        while len(found) < limit:
            count = min(limit - len(found), MAX_LISTED)
            some: list[StreamInfo] = self._ask(AskStreams(within, _sent(after), count))
            names = [after, *(info.name for info in some)]
            if any(one >= other for one, other in pairwise(names)):
                raise strange("streams out of order")
            found += some
            after = names[-1]
            if len(some) < count:
                break
        return found[:limit]

    def checkpoint(self, name: str) -> Checkpoint | None:
        found: Checkpoint | None = self._ask(AskCheckpoint(_sent(name)))
        if found is not None and found.name != name:
            raise strange("another checkpoint than the one that was asked for")
        return found

    def checkpoints(self) -> list[Checkpoint]:
        return self.checkpoints_with("")

    def checkpoints_with(self, prefix: str) -> list[Checkpoint]:
        """Those checkpoints whose names begin so, by name."""
        found: list[Checkpoint] = self._ask(AskCheckpoints(prefix))
        if not all(checkpoint.name.startswith(prefix) for checkpoint in found):
            raise strange("other checkpoints than those that were asked for")
        return found

    def snapshots(self, subject: str, up_to: int | None, limit: int) -> list[Snapshot]:
        bound = MAX_POSITION if up_to is None else min(up_to, MAX_POSITION)
        found: list[Snapshot] = []
        while len(found) < limit and bound >= 0:
            count = min(limit - len(found), MAX_LISTED)
            some: list[Snapshot] = self._ask(AskSnapshots(_sent(subject), bound, count))
            for snapshot in some:
                if snapshot.subject != subject or not 0 <= snapshot.position <= bound:
                    raise strange("other snapshots than those that were asked for")
                bound = snapshot.position - 1
            if not some:
                break
            found += some
        return found[:limit]

    def snapshots_after(self, subject: str, position: int, limit: int) -> list[SnapshotInfo]:
        position, limit = min(position, MAX_POSITION), min(limit, MAX_LISTED)
        found: list[SnapshotInfo] = self._ask(AskSnapshotsAfter(_sent(subject), position, limit))
        places = [(subject, position), *((info.subject, info.position) for info in found)]
        if any(one >= other for one, other in pairwise(places)):
            raise strange("snapshots out of order")
        return found

    def sql_connection(self) -> SqlConnection:
        self._refuse("no SQL connection leads there; ask in SQL with store.sql(…)")

    def scratch(self) -> Scratch:
        self._refuse(NO_SQL)

    # Branches are the server's

    def open_branch(self, name: str) -> tuple[BranchInfo, HttpEngine]:
        self.check_open()
        engine = HttpEngine(
            self._address.on_branch(name),
            read_only=self._read_only,
            busy_timeout=self.busy_timeout,
        )
        if engine.branch is None or engine.branch.name != name:
            engine.close()
            raise strange("another branch than the one that was asked for")
        return engine.branch, engine

    def create_branch(self, name: str, parent: str | None, position: int) -> None:
        at = self._address if parent is None else self._address.on_branch(parent)
        self._change_branches(CreateBranch(name, position), at)

    def branches(self) -> list[BranchInfo]:
        found: list[BranchInfo] = self._ask(AskBranches())
        return found

    def rename_branch(self, name: str, new_name: str) -> None:
        self._change_branches(RenameBranch(name, new_name), self._address)

    def delete_branch(self, name: str, *, with_children: bool) -> None:
        self._change_branches(DeleteBranch(name, with_children), self._address)

    def _change_branches(self, change: BranchChange, at: ServerAddress) -> None:
        self.check_open()
        self._check_writable()
        self._connections.post(
            f"{at.log_path}/branches",
            encode_message(change),
            MAX_ASKED_BYTES,
            patience=self.busy_timeout,
            repeats=False,
        )

    def has_log(self, log: str) -> bool:
        del log
        self._refuse(_NO_LOGS)

    def open_log(self, log: str, not_before: datetime | None) -> HttpEngine:
        del log, not_before
        self._refuse(_NO_LOGS)

    def drop_log(self, log: str) -> None:
        del log
        self._refuse(_NO_LOGS)

    # Looking after it

    def check(self) -> Iterator[Problem]:
        """Every fault in what the server gives: it is read whole."""
        self.check_open()
        checking = SliceCheck(is_dense=self.capabilities.dense_positions)
        yield from slice_problems(self._every_slice(checking), checking)

    def _every_slice(self, checking: SliceCheck) -> Iterator[StoredSlice]:
        query = Query()
        while True:
            try:
                page = self.read(query, PAGE_EVENTS)
            except RetiredError as error:
                if error.last <= query.after_position:
                    raise strange("retired events that weren't asked for") from error
                query = query.after(error.last)
                checking.go_on_after(error.last, LONG_AGO)
                continue
            yield from page.slices
            if page.end:
                return
            query = next_page(query, page)

    def check_schema(self) -> None:
        self._ask(AskGreeting())

    def find_hidden(self, after: int) -> Iterator[Problem]:
        del after
        self.check_open()
        return iter(())

    def table_sizes(self) -> list[TableSize]:
        self.check_open()
        return []

    def backup(self, task: BackupTask, listener: BackupListener) -> BackupReport:
        del listener
        self._refuse(f"no file {task.path} is made of it; back it up where it is")

    def probe_purge(self) -> None:
        self._purge(is_probe=True)

    def purge(self) -> None:
        """The server's store with all its branches."""
        self._purge(is_probe=False)

    def _purge(self, *, is_probe: bool) -> None:
        self.check_open()
        self._check_writable()
        body = encode_message(is_probe)
        self._connections.post(
            f"{self._address.log_path}/purges",
            body,
            MAX_ASKED_BYTES,
            patience=self.busy_timeout,
            seconds=_PURGE_SECONDS,
        )

    def empty_journal(self) -> None:
        self.check_open()

    def compaction(self) -> EngineCompaction:
        self._refuse("its files are compacted where they are")

    def segments(self) -> list[Segment]:
        self.check_open()
        return []

    def moving(self, move: Move) -> EngineMove:
        del move
        self._refuse("its history is moved where it is")

    # The end

    @property
    def is_foreign(self) -> bool:
        return self._connections.is_foreign

    def check_open(self) -> None:
        self._connections.check_open()

    def close(self) -> None:
        if not self.is_foreign:
            self._connections.close()
            self._watch.stop()
            self.news.publish()

    def _check_writable(self) -> None:
        if self._read_only:
            raise ReadOnlyError(f"{self.place}: opened with read_only=True; open it for writing")

    def _refuse(self, why: str) -> NoReturn:
        self.check_open()
        raise UnsupportedError(f"{self.place}: {why}")


_NO_LOGS: Final = "the server's other logs are reached as branches: store.branch(name)"


def capabilities_of(served: Capabilities) -> Capabilities:
    """What a client can do with a store that can do that where it is."""
    return msgspec.structs.replace(
        served,
        name=f"http, {served.name}"[:100],
        shared_by_processes=True,
        sql=False,
        inline=False,
        joins_transactions=False,
        seals=False,
        serves_branches=True,
    )


def _as_believed(error: EverwhenError, commit: EncodedCommit) -> EverwhenError:
    """The error with the writer's own belief in it, which may be larger than any version."""
    if not isinstance(error, ConflictError):
        return error
    believed = dict(commit.expected).get(error.stream, error.expected)
    return ConflictError(error.stream, believed, error.actual)


def _message(commit: EncodedCommit, most: int) -> tuple[CommitMessage, int]:
    """A commit as it is sent, and about how many bytes it is. Raises `InvalidCommitError`."""
    if commit.recorded_at is not None:
        check_recorded_at(commit.recorded_at)
    condition = commit.condition
    if condition is not None and condition.query != Query(condition.query.selectors):
        raise InvalidCommitError("a condition's query has bounds; its bound is its position")
    message = CommitMessage(
        commit.id,
        [(part.stream, part.body) for part in commit.slices],
        [(s, min(b, MAX_POSITION) if isinstance(b, int) else b) for s, b in commit.expected],
        None
        if condition is None
        else (_selectors(condition.query), min(condition.after, MAX_POSITION)),
        commit.metadata,
        commit.recorded_at,
    )
    size = sum(len(part.body) for part in commit.slices) + len(commit.metadata or b"")
    if size > _SIZED_BYTES or condition is not None:
        size = len(encode_message(message))
    if size + _BESIDE_BYTES > most:
        raise InvalidCommitError(
            f"the commit is {size:,} bytes; the server takes up to {most:,}: write several, or "
            f"where the store is"
        )
    return message, size


def _bounded(query: Query) -> Query:
    """The query with no number larger than there are positions: they ask for the same."""
    changed = {
        name: _int64(value)
        for name in (
            "min_version",
            "max_version",
            "after_position",
            "last_position",
            "recorded_until",
            "occurred_until",
            "max_events",
        )
        if (value := getattr(query, name)) is not None and value != _int64(value)
    }
    return msgspec.structs.replace(query, selectors=_selectors(query), **changed)


def _selectors(query: Query) -> tuple[Selector, ...]:
    """The query's, with names that can be sent."""
    names = ("streams", "categories", "types", "tags")
    return tuple(
        Selector(*(frozenset(map(_sent, getattr(selector, part))) for part in names))
        for selector in query.selectors
    )


_NOWHERE: Final = "\0"
"""The name of nothing: none may have this character in it."""


def _sent(name: str) -> str:
    """A name that can be sent: instead of one that isn't Unicode, another that can't exist."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return _NOWHERE
    return name


def _int64(number: int) -> int:
    return max(-MAX_POSITION, min(number, MAX_POSITION))


def _switch(answer: bytes) -> bool:
    try:
        return decode_switch(answer)
    except UNREADABLE as error:
        raise strange(str(error)) from error
