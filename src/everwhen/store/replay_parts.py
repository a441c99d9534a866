"""Replaying in parts: how history is cut, and how the states of the parts come together."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, Final, Literal, TypeAlias, TypeVar

import msgspec

from everwhen.state.fold import Fold
from everwhen.vocabulary.errors import DeclarationError
from everwhen.vocabulary.query import Query, Share
from everwhen.vocabulary.streams import category_of

S = TypeVar("S")

By: TypeAlias = Literal["stream", "category"]

_PIECES_PER_WORKER: Final = 4
"""Of history that is cut by position: whoever is done early takes another one. More would be more
states to bring home."""

FEW_POSITIONS: Final = 200_000
"""Starting a process takes as long as folding some 100,000 events: for fewer than this, one process
is as fast as two, so nobody starts others unless told to."""

_AT_POSITION: Final = re.compile(r"in fold .*, at position (\d+)")


class HistoryPart(msgspec.Struct, frozen=True):
    """What one worker folds at a time: a query, with a piece of positions or a share of streams."""

    query: Query
    by: By | None

    def distance_to(self, position: int) -> int:
        """How many positions of the part's window come before this one, in its direction."""
        if self.query.reverse:
            return (self.query.last_position or 0) - position
        return position - self.query.after_position


class Cut(msgspec.Struct, frozen=True):
    """Parts that make up a query's history, in its order; ``by_share`` where they are shares."""

    parts: tuple[HistoryPart, ...]
    by_share: bool = False


class Categories(dict[str, str]):
    """The category of each stream."""

    def __missing__(self, stream: str) -> str:
        self[stream] = found = category_of(stream)
        return found


def check_by(by: object) -> None:
    """Raises `DeclarationError` for what isn't a way to group events."""
    if by not in (None, "stream", "category"):
        raise DeclarationError(f"by={by!r}: use 'stream' or 'category', or leave it out")


def why_not_cut(fold: Fold[Any], query: Query, by: By | None) -> str | None:
    """Why one process has to fold the query's events; None where several can."""
    if by is None and not fold.has_merge:
        return (
            f"fold {fold.name!r} doesn't say how the states of two pieces of history combine: "
            f"declare it with @fold.merge, or ask for a state each, by='stream' or by='category'"
        )
    if query.max_events is not None:
        return "which events a query with a limit has, shows only when it is read from its start"
    if by is None and query.occurred_until is not None:
        return "events in the order in which they occurred can't be cut by their positions"
    return None


def cut_of(fold: Fold[Any], query: Query, by: By | None, workers: int) -> Cut:
    """The query's history, cut for so many workers; its bounds are positions.

    By position where states can be merged, since each event is read once then; else each worker
    reads all of the window and makes events of its own streams only.
    """
    after, last = query.after_position, query.last_position or 0
    if fold.has_merge and query.occurred_until is None:
        count = max(1, min(workers * _PIECES_PER_WORKER, last - after))
        bounds = [after + (last - after) * index // count for index in range(count + 1)]
        pieces = [
            HistoryPart(query.after(bounds[index]).up_to(bounds[index + 1]), by)
            for index in range(count)
        ]
        return Cut(tuple(reversed(pieces) if query.reverse else pieces))
    if by is None:
        return Cut((HistoryPart(query, by),))
    shares = [Share(by, index, workers) for index in range(workers)]
    parts = [HistoryPart(msgspec.structs.replace(query, share=share), by) for share in shares]
    return Cut(tuple(parts), by_share=True)


def joined_states(states: Sequence[Any], fold: Fold[S], by: By | None) -> Any:
    """The state, or the states by their names, of all parts."""
    if by is None:
        return reduce(fold.merged, states)
    found: dict[str, S] = {}
    for part in states:
        for name, state in part.items():
            found[name] = fold.merged(found[name], state) if name in found else state
    return in_order(found)


def in_order(states: dict[str, S]) -> dict[str, S]:
    """The states in the order of their names."""
    return {name: states[name] for name in sorted(states)}


class Failure(msgspec.Struct, frozen=True):
    """What was raised in a part, and how far into the part: there or before, nobody else failed."""

    error: Exception
    distance: int


def distance_of(error: Exception, part: HistoryPart, reached: int) -> int:
    """How far into the part the error was raised, at least ``reached``."""
    for note in getattr(error, "__notes__", ()):
        found = _AT_POSITION.match(note)
        if found is not None:
            return part.distance_to(int(found[1]))
    return reached


def first_failure(
    cut: Cut,
    outcomes: Sequence[Any],
    reached: Callable[[int], int],
) -> Failure | None:
    """The failure that one process would have met first; None while an earlier one may come.

    ``outcomes`` has None for a part that isn't done. ``reached`` says how far into a part its
    worker is.
    """
    failures = [(i, one) for i, one in enumerate(outcomes) if isinstance(one, Failure)]
    if not failures:
        return None
    if not cut.by_share:
        index, first = failures[0]
        return None if any(one is None for one in outcomes[:index]) else first
    index, first = min(failures, key=lambda one: one[1].distance)
    behind = (reached(other) <= first.distance for other, one in enumerate(outcomes) if one is None)
    return None if any(behind) else first
