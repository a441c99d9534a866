"""The log protocol: what `open_store` with an address speaks, in MessagePack.

`everwhen.backends.remote.messages` says what goes over the wire.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import wraps
from typing import Any, Final, TypeVar

import msgspec
from starlette.responses import Response

from everwhen.backends._async.backend import Backend
from everwhen.backends.branch_records import BRANCH_PREFIX, BranchInfo
from everwhen.backends.engine import EngineTransaction, EngineView
from everwhen.backends.outcome_messages import (
    OutcomeMessage,
    error_message,
    outcome_message,
)
from everwhen.backends.remote.messages import (
    MAX_ANSWER_BYTES,
    MAX_ASKED_BYTES,
    MAX_CHANGES_BYTES,
    MAX_COMMITS_BYTES,
    MAX_LISTED,
    MAX_WAIT_SECONDS,
    MEDIA,
    PAGE_BYTES,
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
    ChangesMessage,
    CommitMessage,
    CreateBranch,
    DeleteBranch,
    DeleteCheckpoint,
    DeleteSnapshots,
    Greeting,
    PageMessage,
    RenameBranch,
    SaveCheckpoint,
    SaveSnapshot,
    Seen,
    SideChange,
    decode_ask,
    decode_branch_change,
    decode_changes,
    decode_commits,
    decode_switch,
    digest_of,
    encode_message,
)
from everwhen.codec.blocks import SliceFields, fields_of
from everwhen.vocabulary.contract import EncodedCommit, Page, Snapshot
from everwhen.vocabulary.errors import (
    EverwhenError,
    InvalidQueryError,
    ReadOnlyError,
    RefusedError,
    UnsupportedError,
)
from everwhen.vocabulary.paging import PAGE_EVENTS
from everwhen.vocabulary.query import Query, checked
from everwhen.vocabulary.streams import MAX_POSITION
from everwhen.vocabulary.validation import check_checkpoint, check_snapshot, check_text
from everwhen.web.access import AccessScope, Caller
from everwhen.web.endpoints import ApiCall, Endpoint, NoParameters
from everwhen.web.limits import too_large
from everwhen.web.problems import (
    BAD_REQUEST,
    TOO_LARGE,
    UNSUPPORTED,
    UNSUPPORTED_MEDIA,
    ProblemError,
    problem_of,
)
from everwhen.web.received_commits import check_operates, received_commit

T = TypeVar("T")
Answering = Callable[[ApiCall[NoParameters]], Awaitable[Any]]

_AT_ONCE_BYTES: Final = 64 << 10
"""Commits up to here are judged faster than a thread could take them over."""


def _answering(answer: Answering) -> Callable[[ApiCall[NoParameters]], Awaitable[Response]]:
    """The handler that sends what is answered, or the error, as a message."""

    @wraps(answer)
    async def handle(call: ApiCall[NoParameters]) -> Response:
        try:
            status, body = 200, encode_message(await answer(call))
            if len(body) > MAX_ANSWER_BYTES:
                raise UnsupportedError(f"the answer is {len(body):,} bytes; ask for less at a time")
        except EverwhenError as error:
            status, body = problem_of(error).problem.status, encode_message(error_message(error))
        return Response(body, status, {"Cache-Control": "no-store"}, MEDIA)

    return handle


async def _received(call: ApiCall[Any], decode: Callable[[bytes], T], most: int) -> T:
    """The request's message, which is at most that many bytes. Raises `ProblemError`."""
    given = call.request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != MEDIA:
        raise ProblemError(UNSUPPORTED_MEDIA, f"the content is {given[:100]!r}; send {MEDIA}")
    body = await call.request.body()
    if len(body) > most:
        raise too_large(most)
    try:
        return decode(body)
    except UNREADABLE as error:
        raise ProblemError(BAD_REQUEST, f"the message can't be read: {error}") from error


# Reading


@_answering
async def ask_log(call: ApiCall[NoParameters]) -> Any:
    """One question about the log, or what is kept beside it: for Everwhen's own clients."""
    ask = await _received(call, decode_ask, MAX_ASKED_BYTES)
    backend = call.on.store.kernel.backend
    match ask:
        case AskGreeting():
            most = call.hosting.limits.body_bytes
            return Greeting(PROTOCOL, backend.capabilities, most, await _branch(call))
        case AskPage(query, events):
            page = await backend.read(_checked(query), max(1, min(events, PAGE_EVENTS)))
            return _page_message(page, reverse=query.reverse)
        case AskCommit(commit_id):
            return list(fields_of(await backend.stored_commit(commit_id)))
        case AskHead(after, seconds):
            if after is not None:
                await backend.wait(_place(after), max(0.0, min(seconds, MAX_WAIT_SECONDS)))
            return await backend.head()
        case AskPosition(recorded_at):
            return await backend.position_at(_place(recorded_at, -MAX_POSITION))
        case AskStream(name):
            return await backend.stream(name)
        case AskStreams(category, after_name, limit):
            return await backend.streams(category, after_name, _count(limit))
        case _:
            return await _answered_beside(call, backend, ask)


async def _branch(call: ApiCall[Any]) -> BranchInfo | None:
    """The branch that the request is about, as it stands."""
    info = call.on.store.branch_info
    if info is None:
        return None
    head = await call.on.store.head()
    return msgspec.structs.replace(info, head=head.position)


async def _answered_beside(call: ApiCall[Any], backend: Backend, ask: Any) -> Any:
    match ask:
        case AskCheckpoint(name):
            return await backend.checkpoint(name)
        case AskCheckpoints(prefix):
            return await backend.view(lambda view: view.checkpoints(prefix))
        case AskSnapshots(subject, up_to, limit):
            return await _snapshots(backend, subject, up_to, _count(limit))
        case AskSnapshotsAfter(subject, position, limit):
            at = _place(position, -1)  # -1 is before every one
            return await backend.snapshots_after(subject, at, _count(limit))
        case AskBranches():
            return await call.on.store.branches()
        case AskUnchanged(seen):
            return await backend.view(lambda view: _is_unchanged(view, seen))
    raise ProblemError(BAD_REQUEST, "an unknown question")


def _checked(query: Query) -> Query:
    """The query, with every number one that a store can look for. Raises `InvalidQueryError`."""
    checked(query)
    numbers = (
        query.min_version,
        query.max_version,
        query.after_position,
        query.last_position,
        query.recorded_until,
        query.occurred_until,
        query.max_events,
    )
    for number in numbers:
        if number is not None:
            _place(number, -MAX_POSITION)
    return query


def _place(number: int, least: int = 0) -> int:
    if not least <= number <= MAX_POSITION:
        raise InvalidQueryError(f"{number} is out of bounds; use {least} to {MAX_POSITION}")
    return number


def _count(limit: int) -> int:
    return max(0, min(limit, MAX_LISTED))


def _page_message(page: Page, *, reverse: bool) -> PageMessage:
    """The page up to where it is large enough."""
    found: list[SliceFields] = []
    size = 0
    for fields in fields_of(page.slices):
        found.append(fields)
        size += len(fields[8]) + len(fields[7] or b"")
        if size > PAGE_BYTES and len(found) < len(page.slices):
            position, count = fields[0], fields[3]
            return PageMessage(found, position - count + 1 if reverse else position, end=False)
    return PageMessage(found, page.cursor, page.end)


async def _snapshots(
    backend: Backend, subject: str, up_to: int | None, limit: int
) -> list[Snapshot]:
    """The newest ones, as many as aren't too large together."""
    found: list[Snapshot] = []
    size, bound = 0, MAX_POSITION if up_to is None else _place(up_to)
    while len(found) < limit and size < PAGE_BYTES and bound >= 0:
        newest = await backend.snapshots(subject, bound, 1)
        if not newest:
            break
        found += newest
        size += len(newest[0].state)
        bound = newest[0].position - 1
    return found


def _is_unchanged(view: EngineView, seen: Sequence[Seen]) -> bool:
    return all(
        one.digest
        == digest_of(
            view.checkpoint(one.text) if one.kind == "name" else view.checkpoints(one.text)
        )
        for one in seen
    )


# Writing


@_answering
async def commit_to_log(call: ApiCall[NoParameters]) -> list[OutcomeMessage]:
    """Commits, each whole or not at all, by their ids: for Everwhen's own clients.

    One with a time of its own, which nothing after it can be earlier than, or in another's name
    than that of the token, needs the scope ``operate``.
    """
    messages = await _received(call, decode_commits, MAX_COMMITS_BYTES)
    size = sum(len(body) for message in messages for _, body in message.slices)
    if size > _AT_ONCE_BYTES:
        judged = await call.hosting.compute(_judged, messages, call.by)
    else:
        judged = _judged(messages, call.by)
    commits = [commit for commit in judged if isinstance(commit, EncodedCommit)]
    written = iter(await call.on.store.kernel.backend.append(commits) if commits else ())
    return [
        outcome_message(next(written) if isinstance(one, EncodedCommit) else one) for one in judged
    ]


def _judged(
    messages: Sequence[CommitMessage], by: Caller
) -> list[EncodedCommit | RefusedError | ReadOnlyError]:
    judged: list[EncodedCommit | RefusedError | ReadOnlyError] = []
    for message in messages:
        try:
            judged.append(received_commit(message, by))
        except (RefusedError, ReadOnlyError) as error:
            judged.append(error)
    return judged


@_answering
async def change_beside_log(call: ApiCall[NoParameters]) -> bool:
    """Checkpoints and snapshots, changed together: for Everwhen's own clients.

    Checkpoints need the scope ``operate``: read models go by them.
    """
    message = await _received(call, decode_changes, MAX_CHANGES_BYTES)
    for change in message.changes:
        if isinstance(change, SaveCheckpoint | DeleteCheckpoint):
            check_operates(call.by, "a checkpoint")
        _check_change(change)
    return await call.on.store.kernel.backend.transact(lambda work: _changed(work, message))


def _check_change(change: SideChange) -> None:
    """Raises `InvalidCommitError` for what can't be stored, `UnsupportedError` for branches."""
    name = ""
    match change:
        case SaveCheckpoint(checkpoint):
            name = check_checkpoint(checkpoint).name
        case DeleteCheckpoint(name):
            pass
        case SaveSnapshot(snapshot):
            check_snapshot(snapshot)
        case DeleteSnapshots(subject, positions):
            check_text(subject, "snapshot subject")
            for position in positions or ():
                _place(position)
    if name.startswith(BRANCH_PREFIX):
        raise UnsupportedError(
            f"checkpoint {name!r:.100} registers a branch: make, rename and delete those with "
            f"store.create_branch(…) and its like"
        )


def _changed(work: EngineTransaction, message: ChangesMessage) -> bool:
    if not _is_unchanged(work, message.seen):
        return False
    for change in message.changes:
        match change:
            case SaveCheckpoint(checkpoint, local):
                work.save_checkpoint(checkpoint, local=local)
            case DeleteCheckpoint(name, local):
                work.delete_checkpoint(name, local=local)
            case SaveSnapshot(snapshot):
                work.save_snapshot(snapshot)
            case DeleteSnapshots(subject, positions):
                work.delete_snapshots(subject, positions)
    return True


@_answering
async def change_branches(call: ApiCall[NoParameters]) -> None:
    """A branch made of this one, renamed or deleted: for Everwhen's own clients."""
    store = call.on.store
    match await _received(call, decode_branch_change, MAX_ASKED_BYTES):
        case CreateBranch(name, position):
            await (await store.create_branch(name, _place(position))).close()
        case RenameBranch(name, new_name):
            await store.rename_branch(name, new_name)
        case DeleteBranch(name, with_children):
            await store.delete_branch(name, with_children=with_children)


@_answering
async def purge_store(call: ApiCall[NoParameters]) -> None:
    """Leave no trace of what was deleted, in any file: for Everwhen's own clients."""
    is_probe = await _received(call, decode_switch, MAX_ASKED_BYTES)
    branches = call.on.store.kernel.branches
    await (branches.probe_purge() if is_probe else branches.purge())


def _endpoint(path: str, handle: Any, scope: AccessScope) -> Endpoint:
    return Endpoint(
        method="POST",
        path=f"/log/{path}",
        handle=handle,
        scope=scope,
        body_media=(MEDIA,),
        answers={200: MEDIA},
        problems=(TOO_LARGE, UNSUPPORTED_MEDIA, UNSUPPORTED),
    )


ENDPOINTS: Final = (
    _endpoint("reads", ask_log, "read"),
    _endpoint("commits", commit_to_log, "append"),
    _endpoint("changes", change_beside_log, "append"),
    _endpoint("branches", change_branches, "operate"),
    _endpoint("purges", purge_store, "operate"),
)
