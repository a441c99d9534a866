"""Commits in the terms of a branch's own log, and what that log says to them in the branch's.

Positions and versions begin at 1 in the own log: a position there is shifted by the fork's, a
version by that of the stream at the fork.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from everwhen.backends.branch_records import Fork
from everwhen.vocabulary.contract import EncodedCommit, Outcome, Receipt, StoredSlice
from everwhen.vocabulary.errors import CommitIdError, ConditionError, ConflictError
from everwhen.vocabulary.streams import ANY, Expected, ExpectedVersion


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
    """The own log's answer to a commit, in the branch's terms."""
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
