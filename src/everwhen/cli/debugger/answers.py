"""What the debugger's commands answer with, and the answers for programs: a JSON object each."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from everwhen import EventTypes, RecordedEvent
from everwhen.branches import BranchInfo
from everwhen.cli.exit_codes import say
from everwhen.cli.output import Output
from everwhen.cli.travel_views import BlameView, WrittenView
from everwhen.cli.views import EventView
from everwhen.debugging import Breakpoint, Stop
from everwhen.exchange.travel_forms import BlameEntry, change_form
from everwhen.exchange.undo_forms import undo_plan_form
from everwhen.state import Change, plain
from everwhen.travel import Explanation, Written
from everwhen.undo import UndoPlan


class Answers(Protocol):
    """Takes what a command has to tell, part by part, and after each command `end`."""

    def say(self, text: str, style: str = "") -> None:
        """A line of ours."""
        ...

    def commands(self, rows: Sequence[tuple[str, str, str]]) -> None:
        """The commands: names, what follows them, and what they do."""
        ...

    def stop(self, stop: Stop, event: RecordedEvent[Any] | None) -> None:
        """Where one is, and why."""
        ...

    def changes(self, changes: Sequence[Change], *, whole: bool = False) -> None:
        """What changed; people get the first of it, unless they asked for the ``whole``."""
        ...

    def value(self, value: Any) -> None:
        """A state, a part of it, or what an expression came to."""
        ...

    def event(self, event: RecordedEvent[Any]) -> None:
        """An event with all that is known about it."""
        ...

    def explanation(self, explanation: Explanation) -> None:
        """What led to an event, and what it led to."""
        ...

    def added(self, breakpoint_: Breakpoint) -> None:
        """A new breakpoint or watch."""
        ...

    def breakpoints(self, breakpoints: Iterable[Breakpoint]) -> None:
        """All breakpoints and watches."""
        ...

    def around(self, events: Sequence[RecordedEvent[Any]], here: int) -> None:
        """Some events, the one at the position ``here`` perhaps among them."""
        ...

    def blame(self, entries: Iterable[BlameEntry]) -> None:
        """Who wrote each part of a state."""
        ...

    def history(self, writes: Iterable[Written], earlier: int) -> None:
        """The values that a part has had; of the many earlier ones only the number."""
        ...

    def plan(self, plan: UndoPlan, types: EventTypes) -> None:
        """What an undo would append."""
        ...

    def branches(self, branches: Iterable[BranchInfo]) -> None:
        """The store's branches."""
        ...

    def forked(self, branch: BranchInfo) -> None:
        """A branch that was made."""
        ...

    def bookmarks(self, bookmarks: Iterable[tuple[str, int]]) -> None:
        """Bookmarks and their positions."""
        ...

    def bookmarked(self, name: str, position: int) -> None:
        """A bookmark that was set."""
        ...

    def info(self, about: dict[str, object], position: int, head: int) -> None:
        """What is looked at, where one is, and where the newest event is."""
        ...

    def end(self, line: str) -> None:
        """The command has told all."""
        ...

    def failed(self, line: str, reason: str) -> None:
        """The command went wrong, which ends a script."""
        ...


class Records:
    """Answers for programs: a JSON object a line, one for each command, as soon as it is done.

    It has the ``command`` as it was given, and beside it only what that command tells.
    """

    def __init__(self, out: Output) -> None:
        self._out = out
        self._found: dict[str, object] = {}

    def say(self, text: str, style: str = "") -> None:
        """One of the lines ``said``."""
        del style
        said = self._found.setdefault("said", [])
        assert isinstance(said, list)  # noqa: S101 (nothing else is kept there)
        said.append(text.strip())

    def commands(self, rows: Sequence[tuple[str, str, str]]) -> None:
        """A line of ``said`` for each."""
        for row in rows:
            self.say("  ".join(part for part in row if part))

    def stop(self, stop: Stop, event: RecordedEvent[Any] | None) -> None:
        """The ``position``, the ``reason`` to stop there, and the ``event``."""
        self._found |= {"position": stop.position, "reason": stop.reason}
        if event is not None:
            self.event(event)
        if stop.hits:
            self._found["hits"] = [one.number for one in stop.hits]
        if stop.logs:
            self._found["logs"] = stop.logs
        if stop.error is not None:
            self._found["raised"] = f"{type(stop.error).__name__}: {stop.error}"

    def changes(self, changes: Sequence[Change], *, whole: bool = False) -> None:
        """All the ``changes``."""
        del whole
        self._found["changes"] = [change_form(change) for change in changes]

    def value(self, value: Any) -> None:
        """The ``value``, all of it."""
        self._found["value"] = plain(value)

    def event(self, event: RecordedEvent[Any]) -> None:
        """The ``event`` with its metadata."""
        self._found["event"] = EventView().record(event)

    def explanation(self, explanation: Explanation) -> None:
        """``causes`` from the first on, the ``event``, and its ``effects``."""
        view = EventView()
        self._found["causes"] = [
            {"id": cause.id, "event": None if cause.event is None else view.record(cause.event)}
            for cause in reversed(explanation.causes)
        ]
        self.event(explanation.event)
        self._found["effects"] = [view.record(effect) for effect in explanation.effects]
        self._found["correlated"] = len(explanation.correlated)
        self._found["is_whole"] = explanation.is_whole

    def added(self, breakpoint_: Breakpoint) -> None:
        """The ``breakpoint``."""
        self._found["breakpoint"] = _breakpoint(breakpoint_)

    def breakpoints(self, breakpoints: Iterable[Breakpoint]) -> None:
        """The ``breakpoints``."""
        self._found["breakpoints"] = [_breakpoint(one) for one in breakpoints]

    def around(self, events: Sequence[RecordedEvent[Any]], here: int) -> None:
        """The ``events``, and the ``position`` where one is."""
        self._found |= {"position": here, "events": [EventView().record(e) for e in events]}

    def blame(self, entries: Iterable[BlameEntry]) -> None:
        """An entry of ``blame`` for each part."""
        self._found["blame"] = [BlameView().record(entry) for entry in entries]

    def history(self, writes: Iterable[Written], earlier: int) -> None:
        """The ``history``, and how many ``earlier`` values it leaves out."""
        records = [WrittenView().record(written) for written in writes]
        self._found |= {"history": records, "earlier": earlier}

    def plan(self, plan: UndoPlan, types: EventTypes) -> None:
        """The ``plan``."""
        self._found["plan"] = undo_plan_form(plan, types)

    def branches(self, branches: Iterable[BranchInfo]) -> None:
        """The ``branches``."""
        self._found["branches"] = [_branch(info) for info in branches]

    def forked(self, branch: BranchInfo) -> None:
        """The ``branch``."""
        self._found["branch"] = _branch(branch)

    def bookmarks(self, bookmarks: Iterable[tuple[str, int]]) -> None:
        """The ``bookmarks`` with their positions."""
        self._found["bookmarks"] = dict(bookmarks)

    def bookmarked(self, name: str, position: int) -> None:
        """The ``bookmark`` and its ``position``."""
        self._found |= {"bookmark": name, "position": position}

    def info(self, about: dict[str, object], position: int, head: int) -> None:
        """Each thing under its own name."""
        self._found |= {**about, "position": position, "head": head}

    def end(self, line: str) -> None:
        """Write the object."""
        self._write({"command": line, **self._found})

    def failed(self, line: str, reason: str) -> None:
        """Write an object with the ``error``, and nothing of what was found till then."""
        self._write({"command": line, "error": reason})
        say(f"{line}: {reason}")

    def _write(self, record: dict[str, object]) -> None:
        self._found = {}
        self._out.line(record)
        sys.stdout.flush()


def _breakpoint(one: Breakpoint) -> dict[str, object]:
    return {
        "number": one.number,
        "stops": str(one),
        "is_enabled": one.is_enabled,
        "hits": one.hits,
    }


def _branch(info: BranchInfo) -> dict[str, object]:
    return {"name": info.name, "parent": info.parent, "position": info.position}
