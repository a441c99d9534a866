"""A history that never happened, as a branch on which it did."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Final
from uuid import UUID

from everwhen import Commit, Fold, Query, RecordedEvent, Store, TimeMachine, Write
from everwhen.codec.commits import new_commit_id
from everwhen.errors import InvalidQueryError
from everwhen.merging.merge_records import metadata_again, original_writes
from everwhen.travel.what_if import Alteration
from everwhen.vocabulary import NewEvent, UnknownEvent

_MAX_REWRITTEN: Final = 10_000
"""Events after the fork, each of which is written again: some seconds' work."""
_nothing: Final = Fold[None]("nothing", lambda: None)


def keep_as_branch(store: Store, name: str, alteration: Alteration, until: int) -> None:
    """Make a branch that forks before the first difference and goes on with the altered history.

    It goes up to the position ``until``. Every commit after the fork is written again, with its
    metadata; its events say which commit they come from, as those of a merge do. Nothing is left
    of the branch where that fails. Raises `InvalidQueryError` for more than 10,000 events after
    the fork, and `BranchError` for a name that is taken or not allowed.
    """
    fork = _fork(store, min(alteration.begins, until))
    if until - fork > _MAX_REWRITTEN:
        raise InvalidQueryError(
            f"{until - fork:,} events follow the first difference, and a branch can have at most "
            f"{_MAX_REWRITTEN:,} written again; choose a later difference or an earlier moment"
        )
    with store.create_branch(name, fork) as branch:
        try:
            for commit in _commits(store, alteration, fork, until):
                branch.commit(commit)
        except BaseException:
            store.delete_branch(name)
            raise


def _fork(store: Store, position: int) -> int:
    """The last position up to another one at which a commit ends."""
    around = list(store.read(Query().after(max(0, position - 1)).limit(2)))
    if position > 0 and len(around) == 2 and around[0].commit_id == around[1].commit_id:
        return store.commit_events(around[0].commit_id)[0].position - 1
    return position


def _commits(store: Store, alteration: Alteration, fork: int, until: int) -> Iterator[Commit]:
    recorded = list(store.read(Query().after(fork).up_to(until)))
    real = {event.position: event for event in recorded}
    altered = TimeMachine(store, _nothing, keep=False).altered(
        only=alteration.only,
        without=alteration.without,
        edited=alteration.edited,
        inserted=alteration.inserted,
    )
    begins = min(alteration.begins, until)
    events = [event for event in recorded if event.position <= begins]
    events += (event for step in altered.replay(end=until) for event in step.events)

    def original(event: RecordedEvent[Any]) -> UUID | None:
        beside = real.get(event.position)
        return None if beside is None else beside.commit_id

    for commit_id, group in groupby(events, key=original):
        own_id = UUID(bytes=new_commit_id())
        found = list(group)
        metadata = None
        if commit_id is not None:
            metadata = metadata_again(real[found[0].position], own_id)
        yield Commit(tuple(_writes(found)), None, own_id, metadata)


def _writes(events: Sequence[RecordedEvent[Any]]) -> Iterator[Write]:
    for is_supposed, group in groupby(events, key=lambda event: event.commit_id.int == 0):
        if not is_supposed:
            yield from original_writes(list(group))
            continue
        for event in group:
            plain = UnknownEvent(event.type, event.data, event.schema_version)
            yield Write(event.stream, [NewEvent(event=plain, tags=event.tags)])
