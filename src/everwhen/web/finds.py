"""Searches of history that run on after their request: one at a time for each caller."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, Final, Literal, TypeAlias
from uuid import uuid4

import msgspec

from everwhen.debugging.searching import InterruptedSearchError
from everwhen.exchange.json_forms import EventForm, event_form, utc_text
from everwhen.expressions import Expression
from everwhen.travel import StateAt
from everwhen.vocabulary.moments import Moment
from everwhen.web.machines import AnyMachine
from everwhen.web.problems import TOO_MANY, UNKNOWN, ProblemError, problem_of

WhichFind: TypeAlias = Literal["first", "last", "all", "transitions"]
FindStatus: TypeAlias = Literal["running", "done", "failed", "cancelled"]

_MAX_AT_ONCE: Final = 2
"""Searches at a time: they take turns at Python's lock with everything else."""
_MAX_KEPT: Final = 64
"""Of which those that are over can still be read, the newest ones."""


class FindHit(msgspec.Struct, frozen=True):
    """A moment that was found, and the event there; ``holds`` of a transition."""

    position: int
    recorded_at: str | None
    event: EventForm | None
    holds: bool | None = None


class FindForm(msgspec.Struct, frozen=True):
    """How far a search has come: it has looked through history up to ``position`` of ``head``.

    ``more`` says that it ended at its limit of hits. ``unknown`` are the parts of the state that
    the condition names and no state ever had.
    """

    id: str
    status: FindStatus
    position: int
    head: int
    hits: list[FindHit]
    more: bool
    unknown: list[str]
    error: str | None


class Search(msgspec.Struct, frozen=True):
    """What is looked for, and in which part of history."""

    expression: Expression
    which: WhichFind
    start: Moment
    end: Moment
    limit: int


class Find:
    """One search. ``form`` may be asked for from any thread."""

    def __init__(self, owner: str | None, machine: AnyMachine, search: Search) -> None:
        self.id = str(uuid4())
        self.owner = owner
        self.is_over = False
        self._machine = machine
        self._search = search
        self._cancelled = threading.Event()
        self._status: FindStatus = "running"
        self._position = 0
        self._head = machine.store.head().position
        self._hits: list[FindHit] = []
        self._more = False
        self._unknown: list[str] = []
        self._error: str | None = None

    @property
    def form(self) -> FindForm:
        """How it stands."""
        return FindForm(
            self.id,
            self._status,
            self._position,
            self._head,
            list(self._hits),
            self._more,
            self._unknown,
            self._error,
        )

    @property
    def mark(self) -> tuple[object, ...]:
        """What differs as soon as `form` does."""
        return self._status, self._position, len(self._hits)

    @property
    def is_running(self) -> bool:
        """Whether nobody knows yet how it ends."""
        return self._status == "running"

    def cancel(self) -> None:
        """End it soon. What was found until then stays."""
        self._cancelled.set()
        if self._status == "running":
            self._status = "cancelled"

    def run(self) -> None:
        """Search, until it is over."""
        try:
            self._tell(0, self._head)
            for hit in islice(self._found(), self._search.limit):
                self._tell(hit.position, self._head)
                self._hits.append(hit)
            self._more = len(self._hits) == self._search.limit and self._search.which in (
                "all",
                "transitions",
            )
            if not any(hit.holds is not False for hit in self._hits):
                asked = self._search.expression
                self._unknown = [
                    str(part) for part in self._machine.unknown_parts(asked, progress=self._told)
                ]
            self._end("done")
        except InterruptedSearchError:
            pass
        except Exception as error:  # noqa: BLE001 (the fold's own too: it is what is answered)
            self._error = problem_of(error).detail
            self._end("failed")
        finally:
            self.is_over = True

    def _found(self) -> Iterator[FindHit]:
        search, machine = self._search, self._machine
        first, last = machine.between(search.start, search.end)
        self._head = last
        if search.which in ("first", "last"):
            at = machine.find_when(
                search.expression.holds_for,
                last=search.which == "last",
                start=first,
                end=last,
                progress=self._tell,
            )
            if at is not None:
                yield self._hit(at)
        elif search.which == "all":
            for at in machine.find_all(
                search.expression.holds_for, start=first, end=last, progress=self._tell
            ):
                yield self._hit(at)
        else:
            for turn in machine.transitions(
                search.expression.holds_for, start=first, end=last, progress=self._tell
            ):
                yield self._hit(turn.at, holds=turn.holds)

    def _hit(self, at: StateAt[Any], *, holds: bool | None = None) -> FindHit:
        recorded = None if at.recorded_at is None else utc_text(at.recorded_at)
        event = self._machine.step_at(at.position).event if at.position else None
        return FindHit(at.position, recorded, None if event is None else event_form(event), holds)

    def _tell(self, position: int, _: int) -> None:
        self._told(position, _)
        self._position = max(self._position, position)

    def _told(self, _position: int, _last: int) -> None:
        if self._cancelled.is_set():
            raise InterruptedSearchError("cancelled")

    def _end(self, status: FindStatus) -> None:
        if status == "done":
            self._position = self._head
        if self._status == "running":
            self._status = status


class Finds:
    """The searches of all callers: a few run, the others wait, and those that are over are kept."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._newest_last: OrderedDict[str, Find] = OrderedDict()
        self._threads = ThreadPoolExecutor(_MAX_AT_ONCE, "everwhen-find")

    def start(self, owner: str | None, make: Callable[[], Find]) -> Find:
        """Begin one. Raises `ProblemError` while another one of the caller's runs."""
        with self._lock:
            for other in self._newest_last.values():
                if other.owner == owner and other.is_running:
                    raise ProblemError(
                        TOO_MANY,
                        f"your find {other.id} still runs; wait for it, or delete it",
                        id=other.id,
                    )
            self._forget()
            found = make()
            self._newest_last[found.id] = found
            self._threads.submit(found.run)
            return found

    def _forget(self) -> None:
        while len(self._newest_last) >= _MAX_KEPT:
            oldest = next((one for one in self._newest_last.values() if one.is_over), None)
            if oldest is None:
                raise ProblemError(TOO_MANY, "too many finds run here; try again later")
            del self._newest_last[oldest.id]

    def get(self, owner: str | None, id_: str) -> Find:
        """One of the caller's own. Raises `ProblemError`."""
        found = self._newest_last.get(id_)
        if found is None or found.owner != owner:
            raise ProblemError(UNKNOWN, f"you have no find {id_[:60]!r}; start one by POST /finds")
        return found

    def close(self) -> None:
        """End them all, and wait until they have ended."""
        for one in list(self._newest_last.values()):
            one.cancel()
        self._threads.shutdown(wait=True, cancel_futures=True)
