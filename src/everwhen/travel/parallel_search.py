"""Searching in several processes at once: each looks through a piece of history.

Nothing is shared but the store: each process opens it for itself, and begins its piece at the
waypoint before it. So everything goes there by name, as `pickle` sends it.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, Generic, TypeAlias, TypeVar

import msgspec

from everwhen.state.read_sets import Predicate
from everwhen.system.worker_processes import (
    StoppedError,
    WorkerCall,
    WorkerProcesses,
    worker_processes,
)
from everwhen.system.worker_processes import tell as tell_from_here
from everwhen.vocabulary.errors import InvalidQueryError

T = TypeVar("T")

_MIN_PIECE_POSITIONS: Final = 1_000
"""Starting a process takes longer than looking through fewer."""


class Processes(msgspec.Struct, frozen=True):
    """Processes that search in a time machine's stead, as many as there are processors.

    ``open_machine`` opens the same time machine, of the sync flavour, in each of them: a function
    of a module, or a `functools.partial` of one. A program that uses them begins with
    ``if __name__ == "__main__":``, since each process imports it.
    """

    open_machine: Callable[[], AbstractContextManager[Any]]
    count: int = msgspec.field(default_factory=lambda: os.cpu_count() or 1)

    def __post_init__(self) -> None:
        if isinstance(self.count, bool) or not isinstance(self.count, int) or self.count < 1:
            raise InvalidQueryError(f"Processes: count={self.count!r}; give 1 or more")


class Found(msgspec.Struct, frozen=True):
    """The place that a piece's search ended with."""

    position: int
    until: int


AnswerChange: TypeAlias = tuple[int, bool]
"""A position from which on the condition has another answer, and the answer."""


class _Piece(msgspec.Struct, frozen=True):
    index: int
    start: int
    end: int
    of: tuple[str, str]


class _Pieces(Generic[T]):
    """What is being found in pieces of history, each in a process."""

    def __init__(self, searches: list[WorkerCall[T | None]], workers: WorkerProcesses) -> None:
        self._searches = searches
        self._workers = workers

    def stop(self) -> bool:
        """End what still goes on; whether it has ended."""
        return self._workers.stop()

    @property
    def looked_through(self) -> int:
        """How many positions."""
        return sum(self._workers.progress)


class PiecewiseSearch(_Pieces[Found]):
    """A search that goes on in processes. Ask it from time to time how far it is."""

    @property
    def is_over(self) -> bool:
        """Whether the answer is known. Raises what a process raised before it was."""
        for search in self._searches:
            if not search.done():
                return False
            if search.result() is not None:
                return True
        return True

    @property
    def found(self) -> Found | None:
        """The answer, once it is over."""
        return next((one for search in self._searches if (one := search.result())), None)


class PiecewiseTurns(_Pieces[list[AnswerChange]]):
    """All turns, which come in from processes piece by piece."""

    def __len__(self) -> int:
        """How many pieces there are."""
        return len(self._searches)

    def of_piece(self, index: int) -> list[AnswerChange] | None:
        """A piece's turns, the first of them at its start; None where they aren't known yet.

        Raises what its process raised.
        """
        search = self._searches[index]
        return search.result() if search.done() else None


@contextmanager
def searching(
    processes: Processes,
    condition: Predicate,
    start: int,
    end: int,
    *,
    of: tuple[str, str],
    last: bool,
) -> Iterator[PiecewiseSearch]:
    """Search ``start … end``, for the ``last`` moment or the first; leaving it ends the search.

    ``of`` says which history is meant. Raises `InvalidQueryError` for what can't be sent there.
    """
    find = _last_found if last else _first_found
    with _started(processes, condition, find, start, end, of) as (searches, workers):
        yield PiecewiseSearch(searches[::-1] if last else searches, workers)


@contextmanager
def turning(
    processes: Processes, condition: Predicate, start: int, end: int, *, of: tuple[str, str]
) -> Iterator[PiecewiseTurns]:
    """Look for all turns in ``start … end``, otherwise like `searching`."""
    with _started(processes, condition, _turns, start, end, of) as (searches, workers):
        yield PiecewiseTurns(searches, workers)


_Tell: TypeAlias = Callable[[int, int], None]
_Find: TypeAlias = Callable[[Any, Predicate, _Piece, _Tell], T | None]


@contextmanager
def _started(
    processes: Processes,
    condition: Predicate,
    find: _Find[T],
    start: int,
    end: int,
    of: tuple[str, str],
) -> Iterator[tuple[list[WorkerCall[T | None]], WorkerProcesses]]:
    try:
        pickle.dumps((processes.open_machine, condition))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise InvalidQueryError(
            f"this can't be sent to other processes: {error}; name functions of a module, or give "
            f"the condition as an Expression's holds_for"
        ) from error
    count = max(1, min(processes.count, (end - start) // _MIN_PIECE_POSITIONS))
    bounds = [start + (end - start) * index // count for index in range(count + 1)]
    pieces = [_Piece(index, bounds[index], bounds[index + 1], of) for index in range(count)]
    with worker_processes(count, count) as workers:
        run: Callable[..., T | None] = _in_piece
        opened = processes.open_machine
        yield [workers.submit(run, opened, condition, find, piece) for piece in pieces], workers


def _in_piece(
    open_machine: Callable[[], AbstractContextManager[Any]],
    condition: Predicate,
    find: _Find[T],
    piece: _Piece,
) -> T | None:
    """What is found in one piece, in a process of its own."""
    reached = 0

    def tell(position: int, _: int) -> None:
        nonlocal reached
        reached = max(reached, position - piece.start)
        tell_from_here(piece.index, reached)

    with open_machine() as machine:
        if machine.identity != piece.of:
            raise InvalidQueryError(
                f"the processes' time machine is of {' on '.join(machine.identity)}, this one of "
                f"{' on '.join(piece.of)}; open the same one there"
            )
        try:
            tell(piece.start, piece.end)
            return find(machine, condition, piece, tell)
        except StoppedError:
            return None


def _first_found(
    machine: Any, condition: Predicate, piece: _Piece, tell: _Tell, *, last: bool = False
) -> Found | None:
    found = machine.find_when(
        condition, last=last, tracked=False, start=piece.start, end=piece.end, progress=tell
    )
    return None if found is None else Found(found.position, found.until)


def _last_found(machine: Any, condition: Predicate, piece: _Piece, tell: _Tell) -> Found | None:
    return _first_found(machine, condition, piece, tell, last=True)


def _turns(machine: Any, condition: Predicate, piece: _Piece, tell: _Tell) -> list[AnswerChange]:
    turns = machine.transitions(
        condition, tracked=False, start=piece.start, end=piece.end, progress=tell
    )
    return [(turn.at.until, turn.holds) for turn in turns]
