"""Searching in several processes at once: each looks through a piece of history.

Nothing is shared but the store: each process opens it for itself, and begins its piece at the
waypoint before it. So everything goes there by name, as `pickle` sends it.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

import msgspec

from everwhen.errors import InvalidQueryError
from everwhen.tracking import Condition

_LEAST: Final = 1_000

_told: Any = None
_stopped: Any = None


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


class _Piece(msgspec.Struct, frozen=True):
    index: int
    start: int
    end: int
    of: tuple[str, str]
    last: bool


class PiecewiseSearch:
    """A search that goes on in processes. Ask it from time to time how far it is."""

    def __init__(
        self, searches: list[Future[Found | None]], told: Any, stopped: Any, *, last: bool
    ) -> None:
        self._searches = searches[::-1] if last else searches
        self._told = told
        self._stopped = stopped

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

    def stop(self) -> bool:
        """End what still goes on; whether it has ended."""
        self._stopped.set()
        for search in self._searches:
            search.cancel()
        return all(search.done() for search in self._searches)

    @property
    def looked_through(self) -> int:
        """How many positions."""
        return sum(self._told)


@contextmanager
def searching(
    processes: Processes,
    condition: Condition,
    start: int,
    end: int,
    *,
    of: tuple[str, str],
    last: bool,
) -> Iterator[PiecewiseSearch]:
    """Search ``start … end``, for the ``last`` moment or the first; leaving it ends the search.

    ``of`` says which history is meant. Raises `InvalidQueryError` for what can't be sent there.
    """
    try:
        pickle.dumps((processes.open_machine, condition))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise InvalidQueryError(
            f"this can't be sent to other processes: {error}; name functions of a module, or give "
            f"the condition as an Expression's holds_for"
        ) from error
    count = max(1, min(processes.count, (end - start) // _LEAST))
    bounds = [start + (end - start) * index // count for index in range(count + 1)]
    context = multiprocessing.get_context("spawn")
    told, stopped = context.Array("q", count), context.Event()
    with ProcessPoolExecutor(count, context, _begin, (told, stopped)) as pool:
        try:
            searches = [
                pool.submit(
                    _searched,
                    processes.open_machine,
                    condition,
                    _Piece(index, bounds[index], bounds[index + 1], of, last),
                )
                for index in range(count)
            ]
            yield PiecewiseSearch(searches, told, stopped, last=last)
        finally:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)


class _StoppedError(Exception):
    """The others have found it, or nobody wants to know any more."""


def _begin(told: Any, stopped: Any) -> None:
    global _told, _stopped
    _told, _stopped = told, stopped


def _searched(
    open_machine: Callable[[], AbstractContextManager[Any]], condition: Condition, piece: _Piece
) -> Found | None:
    """What a search of one piece finds, in a process of its own."""

    def tell(position: int, _: int) -> None:
        if _stopped.is_set():
            raise _StoppedError
        _told[piece.index] = max(_told[piece.index], position - piece.start)

    with open_machine() as machine:
        if machine.identity != piece.of:
            raise InvalidQueryError(
                f"the processes' time machine is of {' on '.join(machine.identity)}, this one of "
                f"{' on '.join(piece.of)}; open the same one there"
            )
        try:
            tell(piece.start, piece.end)
            visit = machine.find_when(
                condition,
                last=piece.last,
                tracked=False,
                start=piece.start,
                end=piece.end,
                progress=tell,
            )
        except _StoppedError:
            return None
    return None if visit is None else Found(visit.position, visit.until)
