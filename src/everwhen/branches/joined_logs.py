"""What a branch is made of, without I/O: its place, its registration, and how two logs read as one.

A branch shows its parent's events up to the fork, then its own. Its own ones are in a log of their
own, where positions and versions begin at 1: a position there is shifted by the fork's, a version
by that of the stream at the fork. What stands before the fork never changes, so whatever was
looked up there once stays right.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from everwhen.backends.branch_records import MAIN, BranchInfo, Fork, Registered
from everwhen.vocabulary.contract import (
    EncodedCommit,
    Outcome,
    Page,
    Receipt,
    Snapshot,
    SnapshotInfo,
    StoredSlice,
    StreamInfo,
)
from everwhen.vocabulary.errors import (
    BranchError,
    CommitIdError,
    ConditionError,
    ConflictError,
    EverwhenError,
)
from everwhen.vocabulary.microseconds import from_micros
from everwhen.vocabulary.paging import ReadPage, next_page
from everwhen.vocabulary.query import Query, Selector
from everwhen.vocabulary.streams import ANY, Expected, ExpectedVersion
from everwhen.vocabulary.validation import check_text

MAX_BRANCH_NAME_LENGTH: Final = 200
DELETED: Final = "everwhen:deleted"
"""The fold of a snapshot that says that there is none: the parent's stay where they are."""
EVERY: Final = (1 << 63) - 1
"""The position at which that is said of every snapshot of the parent's."""


def base_of(
    source: BranchInfo | None, target: BranchInfo | None, every: Sequence[BranchInfo]
) -> int:
    """The last position that two branches share; None stands for the store itself.

    Raises `BranchError` where they are the same, or where one is of another store.
    """
    by_name = {info.name: info for info in every}
    for info in (source, target):
        if info is not None and all(info.id != known.id for known in every):
            raise BranchError(info.name, "it is no branch of this store")
    mine, theirs = _lineage(source, by_name), _lineage(target, by_name)
    if mine[-1][0] == theirs[-1][0]:
        raise BranchError(mine[-1][0], "it is the same branch; name two")
    shared = 0
    for (name, position), (other, also) in zip(mine, theirs, strict=False):
        if name != other:
            break
        shared = min(position, also)
    return shared


def _lineage(info: BranchInfo | None, by_name: Mapping[str, BranchInfo]) -> list[tuple[str, int]]:
    """The branches from the root to this one, each with the last position that it contributes."""
    chain: list[tuple[str, int]] = []
    until = (1 << 63) - 1
    while info is not None:
        chain.append((info.name, until))
        until = min(until, info.position)
        info = by_name.get(info.parent)
    chain.append((MAIN, until))
    return chain[::-1]


def children_of(parent: str, known: Iterable[Registered]) -> list[Registered]:
    """The branches that fork off the one of that id, and those that fork off them, and so on."""
    children: dict[str, list[Registered]] = {}
    for branch in known:
        children.setdefault(branch.parent, []).append(branch)
    found: list[Registered] = []
    waiting = [parent]
    while waiting:
        mine = children.pop(waiting.pop(), [])
        found += mine
        waiting += [branch.id for branch in mine]
    return found


def check_name(name: object) -> str:
    """A name that a branch can have. Raises `BranchError`."""
    if not isinstance(name, str):
        raise BranchError(repr(name), "is no name; give text")
    try:
        check_text(name, "its name")
    except EverwhenError as error:
        raise BranchError(name[:40], str(error)) from error
    if len(name.encode()) > MAX_BRANCH_NAME_LENGTH:
        raise BranchError(
            name[:40] + "…", f"its name is longer than {MAX_BRANCH_NAME_LENGTH} bytes"
        )
    if "/" in name or "\\" in name:
        raise BranchError(name, "its name has a slash in it; use a dash")
    if name[0] in ".-" or name != name.strip():
        raise BranchError(name, "a name begins with no dot, dash or space, and ends with no space")
    return name


def new_name(name: object) -> str:
    """A name for a new branch. Raises `BranchError`."""
    if check_name(name) == MAIN:
        raise BranchError(MAIN, "that is the store itself; take another name")
    return str(name)


class OfParent(msgspec.Struct, frozen=True):
    """A page of the parent is needed."""

    query: Query
    events: int


class OfOwn(msgspec.Struct, frozen=True):
    """A page of the branch's own log is needed, in that log's own terms."""

    query: Query
    events: int


class AtFork(msgspec.Struct, frozen=True):
    """Where streams stood at the fork is needed."""

    streams: frozenset[str]


Ask: TypeAlias = OfParent | OfOwn | AtFork
Steps: TypeAlias = Generator[Ask, Any, Page]


def page_of(fork: Fork, query: Query, events: int, *, has_own: bool) -> Steps:
    """A page of the branch, by asking for what it takes."""
    return (_backwards if query.reverse else _forwards)(fork, query, events, has_own)


def _forwards(fork: Fork, query: Query, events: int, has_own: bool) -> Steps:  # noqa: FBT001
    after, last, position = query.after_position, query.last_position, fork.position
    if after < position:
        page = yield from _parents_page(fork, query, events)
        if not page.end or (last is not None and last <= position):
            return page
        size = sum([stored.count for stored in page.slices])
        if size >= events or not has_own:
            return Page(page.slices, position, end=not has_own)
        behind = msgspec.structs.replace(query, after_position=position)
        rest = yield from _own_page(fork, behind, events - size)
        return Page([*page.slices, *rest.slices], rest.cursor, rest.end)
    if not has_own or (last is not None and last <= max(after, position)):
        return Page([], max(after, position), end=True)
    return (yield from _own_page(fork, query, events))


def _backwards(fork: Fork, query: Query, events: int, has_own: bool) -> Steps:  # noqa: FBT001
    after, last, position = query.after_position, query.last_position, fork.position
    slices: Sequence[StoredSlice] = []
    if has_own and (last is None or last > position):
        page = yield from _own_page(fork, query, events)
        slices = page.slices
        if after >= position or not page.end:
            return page
        events -= sum([stored.count for stored in slices])
        if events <= 0:
            return Page(slices, position + 1, end=False)
    if after >= position:
        return Page(slices, after, end=True)
    rest = yield from _parents_page(fork, query, events)
    return Page([*slices, *rest.slices], rest.cursor, rest.end) if slices else rest


def _parents_page(fork: Fork, query: Query, events: int) -> Steps:
    """A page of the parent, up to the fork.

    Where it is of one stream, its last event there is the bound: where streams stood is remembered,
    so logs that have nothing of this one need not be asked again.
    """
    end = fork.position if query.last_position is None else query.last_position
    bound = end = min(end, fork.position)
    name = _only_stream(query)
    if name is not None:
        known: Mapping[str, StreamInfo | None] = yield AtFork(frozenset({name}))
        info = known[name]
        bound = 0 if info is None else min(bound, info.position)
        if bound <= query.after_position:
            return Page([], max(end, query.after_position), end=True)
    page: Page = yield OfParent(msgspec.structs.replace(query, last_position=bound), events)
    return Page(page.slices, max(end, page.cursor), end=True) if page.end else page


def _only_stream(query: Query) -> str | None:
    """The one stream that the query is of; None for any other."""
    streams = query.selectors[0].streams if len(query.selectors) == 1 else frozenset()
    return next(iter(streams)) if len(streams) == 1 else None


def _own_page(fork: Fork, query: Query, events: int) -> Steps:
    """A page of the own log, in the branch's terms.

    Bounds on versions are only understood there where they are of one stream; the reader knows
    them anyway.
    """
    position = fork.position
    least, most = query.min_version, query.max_version
    if position and (least is not None or most is not None):
        name = _only_stream(query)
        if name is not None:
            base = versions_of((yield AtFork(frozenset({name}))))[name]
            least = None if least is None else max(0, least - base)
            most = None if most is None else max(0, most - base)
        else:
            least = most = None
    last = query.last_position
    asked = msgspec.structs.replace(
        query,
        min_version=least,
        max_version=most,
        after_position=max(0, query.after_position - position),
        last_position=None if last is None else last - position,
    )
    page: Page = yield OfOwn(asked, events)
    if not position:
        return page
    streams = frozenset([stored.stream for stored in page.slices])
    bases = versions_of((yield AtFork(streams))) if streams else {}
    return Page(shifted(page.slices, position, bases), page.cursor + position, page.end)


def shifted(
    slices: Iterable[StoredSlice], position: int, bases: Mapping[str, int]
) -> list[StoredSlice]:
    """Slices of the own log, in the branch's terms."""
    return [
        StoredSlice(
            stored.position + position,
            stored.stream,
            stored.version + bases[stored.stream],
            stored.count,
            stored.recorded_at,
            stored.commit_id,
            stored.first_index,
            stored.metadata,
            stored.body,
        )
        for stored in slices
    ]


def streams_at(
    read: ReadPage, names: Collection[str], position: int
) -> dict[str, StreamInfo | None]:
    """Where streams stood at a position, a commit's last; None for one that had no events yet."""
    return {name: _stream_at(read, name, position) for name in names}


def _stream_at(read: ReadPage, name: str, position: int) -> StreamInfo | None:
    query = Query((Selector(streams=frozenset({name})),), last_position=position, reverse=True)
    while True:
        page = read(query, 1)
        for stored in page.slices:
            moment = from_micros(stored.recorded_at)
            return StreamInfo(name, stored.version, stored.position, moment)
        if page.end:
            return None
        query = next_page(query, page)


def streams_of(commit: EncodedCommit) -> frozenset[str]:
    """The streams that a commit writes to, or has a belief about."""
    written = [part.stream for part in commit.slices]
    return frozenset([*written, *(stream for stream, _ in commit.expected)])


def own_belief(expected: ExpectedVersion, base: int) -> ExpectedVersion | None:
    """A belief in the own log's terms; None where it can't come true."""
    if isinstance(expected, Expected):
        if not base or expected is ANY:
            return expected
        return ANY if expected is Expected.EXISTS else None
    return expected - base if expected >= base else None


def own_commit(
    commit: EncodedCommit, fork: Fork, bases: Mapping[str, int]
) -> EncodedCommit | ConflictError:
    """The commit in the own log's terms; or why it is refused, whatever that log says."""
    beliefs: list[tuple[str, ExpectedVersion]] = []
    for stream, expected in commit.expected:
        belief = own_belief(expected, bases[stream])
        if belief is None:
            return ConflictError(stream, expected, bases[stream])
        beliefs.append((stream, belief))
    condition = commit.condition
    if condition is not None:
        after = max(0, condition.after - fork.position)
        condition = msgspec.structs.replace(condition, after=after)
    return msgspec.structs.replace(commit, expected=tuple(beliefs), condition=condition)


def outcome_of(
    outcome: Outcome, commit: EncodedCommit, fork: Fork, bases: Mapping[str, int]
) -> Outcome:
    """What the own log said to a commit, in the branch's terms."""
    position = fork.position
    match outcome:
        case Receipt():
            versions = {stream: n + bases[stream] for stream, n in outcome.versions.items()}
            return msgspec.structs.replace(
                outcome, position=outcome.position + position, versions=versions
            )
        case ConflictError(stream=stream, actual=actual):
            expected = next(belief for name, belief in commit.expected if name == stream)
            return ConflictError(stream, expected, actual + bases[stream])
        case ConditionError() if commit.condition is not None:
            return ConditionError(commit.condition.after, outcome.position + position)
        case CommitIdError():
            return CommitIdError(outcome.commit_id, outcome.position + position)
        case _:
            return outcome


def versions_of(streams: Mapping[str, StreamInfo | None]) -> dict[str, int]:
    """The streams' versions, 0 for those that had no events yet."""
    return {name: 0 if info is None else info.version for name, info in streams.items()}


def joined(mine: Sequence[Snapshot], theirs: Sequence[Snapshot], count: int) -> list[Snapshot]:
    """Newest first, the branch's and the parent's snapshots as far down as both are known.

    Of each at most ``count`` were asked for. Where both have one, the branch's counts.
    """
    known_from = max((s[-1].position for s in (mine, theirs) if len(s) >= count), default=0)
    both = {s.position: s for s in theirs} | {s.position: s for s in mine}
    return [
        both[position]
        for position in sorted(both, reverse=True)
        if position >= known_from and both[position].fold != DELETED
    ]


def deleted(subject: str, positions: Sequence[int] | None, fork: int) -> list[Snapshot]:
    """Those that say that the parent's, at these positions or all, are none of the branch's."""
    gone = [EVERY] if positions is None else [p for p in positions if 0 <= p <= fork]
    return [Snapshot(subject, position, DELETED, 0, b"") for position in gone if fork]


def listed(
    mine: Sequence[SnapshotInfo], theirs: Sequence[SnapshotInfo], limit: int, fork: int
) -> tuple[list[SnapshotInfo], tuple[str, int] | None]:
    """A branch's snapshots, out of the next so many own and the parent's; and how far that goes.

    It goes to a subject and position, or to the end. Those of the parent's that are deleted on the
    branch may be among them.
    """
    full = [part[-1] for part in (mine, theirs) if len(part) == limit]
    end = min(((info.subject, info.position) for info in full), default=None)
    both = {(i.subject, i.position): i for i in theirs if i.position <= fork}
    both |= {(i.subject, i.position): i for i in mine}
    found = [both[at] for at in sorted(both) if end is None or at <= end]
    return [info for info in found if info.fold != DELETED], end


def merged(
    theirs: Iterable[StreamInfo], mine: Iterable[StreamInfo], limit: int
) -> list[StreamInfo]:
    """The parent's streams and the branch's by name; the branch's own word on one counts."""
    both = {info.name: info for info in theirs} | {info.name: info for info in mine}
    return [both[name] for name in sorted(both)[:limit]]
