"""How the debugger draws: the stop line, changes as a tree, parts of a state, causes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Final

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from everwhen import EventTypes, RecordedEvent
from everwhen.branches import BranchInfo
from everwhen.cli import formatting
from everwhen.cli.change_tree import change_sketch, change_tree
from everwhen.cli.exit_codes import say
from everwhen.cli.output import Column, Output, counted, make_way
from everwhen.cli.travel_views import BlameView, WrittenView
from everwhen.cli.views import EventView
from everwhen.debugging import Breakpoint, PathTrigger, Stop, ValueTrigger, sketch
from everwhen.exchange.json_forms import type_name, utc_text
from everwhen.exchange.travel_forms import BlameEntry
from everwhen.state import Change, plain
from everwhen.state.paths import keys_of, part_of, text_of
from everwhen.state.short_values import size_of
from everwhen.travel import Explanation, Written
from everwhen.undo import UndoPlan

_MOST: Final = 12
_WHOLE: Final = 200
_PARTS: Final = 40
_VALUE: Final = 48
_EFFECTS: Final = 10
_ROOM_FOR_COMMANDS: Final = 100


class AroundView(EventView):
    """Events around the place where one is, which is marked."""

    columns = (Column(" "), *EventView.columns)  # type: ignore[assignment]

    def __init__(self, here: int) -> None:
        self._here = here

    def plain(self, event: RecordedEvent[Any]) -> Sequence[str]:
        """A mark, and the event; of its data only the beginning if it is long."""
        *columns, data = super().plain(event)
        mark = "*" if event.position == self._here else " "
        return (mark, *columns, formatting.beginning(data))

    def cells(self, event: RecordedEvent[Any]) -> Sequence[Text]:
        """The same, for people."""
        mark = Text("▶" if event.position == self._here else " ", "bold green")
        return (mark, *super().cells(event))


class Drawing:
    """Draws on standard output: in colours where people look, else as plain lines."""

    def __init__(self, out: Output) -> None:
        self.out = out
        self._console = out.console
        if not out.is_terminal:
            self._console.width = 160

    def show(self, *lines: Text | Padding | Table) -> None:
        """Write them, one under another."""
        make_way()
        for line in lines:
            self._console.print(line, soft_wrap=not self.out.is_terminal)

    def say(self, text: str, style: str = "") -> None:
        """Write a line of ours."""
        self.show(Text(text, style))

    def commands(self, rows: Sequence[tuple[str, str, str]]) -> None:
        """The commands in three columns."""
        if self._console.width < _ROOM_FOR_COMMANDS:
            for names, follows, text in rows:
                self.show(Text.assemble(f"  {names}  ", (follows, "dim")))
                self.show(Padding(text, (0, 0, 0, 6)))
            return
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, style="dim")
        table.add_column()
        for names, follows, text in rows:
            table.add_row(f"  {names}", follows, text)
        self.show(table)

    def event_line(self, event: RecordedEvent[Any]) -> Text:
        """Position, time, stream and version, type."""
        time = event.recorded_at
        return Text.assemble(
            (f"{event.position:,}" if self.out.is_terminal else str(event.position), "bold"),
            "  ",
            formatting.stamp_look(time) if self.out.is_terminal else utc_text(time),
            "  ",
            formatting.stream_look(event.stream),
            (f"@{event.version}", "dim"),
            "  ",
            formatting.type_look(event.type),
        )

    def stop(self, stop: Stop, event: RecordedEvent[Any] | None) -> None:
        """Where one is, and why, and what was said on the way there."""
        for log in stop.logs:
            self.say(f"  {log.position}  {log.text}", "dim")
        why = _why(stop)
        if event is None:
            self.show(Text.assemble(("○ ", "bold green"), ("before the first event", "bold"), why))
            return
        mark, style = ("✗ ", "bold red") if stop.error else ("● ", "bold green")
        line = Text.assemble((mark, style), self.event_line(event), why)
        self.show(line)
        if stop.error is not None:
            said = f"  the fold raised {type(stop.error).__name__}: {stop.error}"
            self.say(formatting.shown_name(" ".join(said.split("\n"))), "red")

    def changes(self, changes: Sequence[Change], *, whole: bool = False) -> None:
        """What changed, as a tree; in a pipe a line for each."""
        most = _WHOLE if whole else _MOST
        if not changes:
            self.say("  nothing changed", "dim")
        elif self.out.is_terminal:
            self.show(*(Padding(part, (0, 0, 0, 2)) for part in change_tree(changes, most)))
        else:
            for change in islice(changes, most):
                self.show(
                    Text.assemble("  ", text_of(change.path) or "state", " ", change_sketch(change))
                )
            if len(changes) > most:
                self.say(f"  … {len(changes) - most:,} more changes")

    def value(self, value: Any) -> None:
        """A value: all of a small one, the parts of a large one in a line each."""
        keys = keys_of(value)
        if not keys:
            self.show(formatting.value_look(plain(value)))
            return
        width = max(_VALUE, self._console.width - 40)
        self.say(f"{type(value).__name__}  {counted(size_of(value), 'part')}", "dim")
        self._fields({text_of((k,)): Text(sketch(part_of(value, k), width)) for k in keys[:_PARTS]})
        if len(keys) > _PARTS:
            self.say(f"  … {len(keys) - _PARTS:,} more; print PATH shows one", "dim")

    def event(self, event: RecordedEvent[Any]) -> None:
        """The event with all that is known about it."""
        self.show(self.event_line(event))
        metadata = event.metadata
        known = {
            "event_id": metadata.event_id,
            "commit_id": str(metadata.commit_id),
            "occurred_at": utc_text(event.occurred_at),
            "causation_id": metadata.causation_id,
            "correlation_id": metadata.correlation_id,
            "user_id": metadata.user_id,
            "source": metadata.source,
            "tags": ", ".join(event.tags) or None,
            "schema_version": metadata.schema_version,
            **{f"extras.{name}": value for name, value in metadata.extras.items()},
        }
        data = event.data
        shown = islice(data.items(), _WHOLE)
        self._fields({name: formatting.value_look(value) for name, value in shown})
        if len(data) > _WHOLE:
            self.say(f"  … {len(data) - _WHOLE:,} more; print event.NAME shows one", "dim")
        self.say("  ─", "dim")
        self._fields({k: formatting.value_look(v) for k, v in known.items() if v is not None})

    def explanation(self, explanation: Explanation) -> None:
        """The chain of causes from the first to the event, and what it led to."""
        depth = 0
        for cause in reversed(explanation.causes):
            said = Text(f"{cause.id}: not in this store", "dim")
            self._branch(depth, said if cause.event is None else self.event_line(cause.event))
            depth += 1
        here = self.event_line(explanation.event)
        self._branch(depth, Text.assemble(("▶ ", "bold green"), here))
        effects = explanation.effects
        for effect in effects[:_EFFECTS]:
            self._branch(depth + 1, self.event_line(effect))
        if len(effects) > _EFFECTS:
            self._branch(depth + 1, Text(f"… {len(effects) - _EFFECTS:,} more", "dim"))
        whole = "" if explanation.is_whole else " or more"
        command = explanation.event.metadata.correlation_id
        count = len(explanation.correlated)
        events = f"{counted(count, 'event')}{whole}"
        belong = "belongs" if count == 1 else "belong"
        self.say(f"  {events} {belong} to the correlation {command}", "dim")

    def added(self, breakpoint_: Breakpoint) -> None:
        """A new one, with its number."""
        is_watch = isinstance(breakpoint_.trigger, PathTrigger | ValueTrigger)
        noun = "watch" if is_watch else "breakpoint"
        self.say(f"{noun} {breakpoint_.number}: {breakpoint_}")

    def breakpoints(self, breakpoints: Iterable[Breakpoint]) -> None:
        """The breakpoints, one a line."""
        for one in breakpoints:
            state = "" if one.is_enabled else "  (disabled)"
            hits = f"  {counted(one.hits, 'hit')}" if one.hits else ""
            style = "" if one.is_enabled else "dim"
            self.show(
                Text.assemble((f"{one.number:>3}", "bold"), f"  {one}", hits, state, style=style)
            )

    def around(self, events: Sequence[RecordedEvent[Any]], here: int) -> None:
        """The events, the one here with a mark."""
        self.out.list(events, AroundView(here))

    def blame(self, entries: Iterable[BlameEntry]) -> None:
        """Who wrote each part of a state."""
        rest = iter(entries)
        self.out.list(islice(rest, _WHOLE), BlameView())
        left_out = sum(1 for _ in rest)
        if left_out:
            self.say(f"  … {left_out:,} more; blame PATH shows fewer", "dim")

    def history(self, writes: Iterable[Written], earlier: int) -> None:
        """The values that a part has had."""
        if earlier:
            self.say(f"  … {earlier:,} earlier ones", "dim")
        self.out.list(writes, WrittenView())

    def plan(self, plan: UndoPlan, types: EventTypes) -> None:
        """What an undo would append."""
        for write in plan.appended:
            for new in write.events:
                said = f"  + {type_name(new, types)}  {sketch(new.event)}"
                self.show(Text.assemble(formatting.stream_look(write.stream), (said, "green")))
        for left in plan.uncompensated:
            self.say(f"  position {left.event.position:,} can't be undone: {left.reason}", "red")
        if plan.dependent_count:
            later = counted(plan.dependent_count, "later event")
            self.say(f"  {later} may depend on it", "yellow")

    def branches(self, branches: Iterable[BranchInfo]) -> None:
        """The branches, one a line."""
        for info in branches:
            self.say(f"  {info.name}  after {info.position:,} of {info.parent}")

    def forked(self, branch: BranchInfo) -> None:
        """A branch that was made."""
        self.say(f"branch {branch.name} begins after position {branch.position:,}")

    def bookmarks(self, bookmarks: Iterable[tuple[str, int]]) -> None:
        """The bookmarks, one a line."""
        for name, position in bookmarks:
            self.say(f"  @{name}  {position:,}")

    def bookmarked(self, name: str, position: int) -> None:
        """A bookmark that was set."""
        self.say(f"@{name} is position {position:,}")

    def info(self, about: dict[str, object], position: int, head: int) -> None:
        """Names and what they stand for."""
        for name, value in {**about, "position": f"{position:,} of {head:,}"}.items():
            self.say(f"  {name:<12}{value}")

    def end(self, line: str) -> None:
        """Let it be seen at once."""
        del line
        sys.stdout.flush()

    def failed(self, line: str, reason: str) -> None:
        """Say it after what was drawn."""
        sys.stdout.flush()
        say(f"{line}: {reason}")

    def _fields(self, fields: dict[str, Text]) -> None:
        """Names in one column and values in the next."""
        if not self.out.is_terminal:
            for name, value in fields.items():
                self.show(Text.assemble(f"  {formatting.shown_name(name)}  ", value))
            return
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in fields.items():
            table.add_row(f"  {formatting.shown_name(name)}", value)
        self.show(table)

    def _branch(self, depth: int, line: Text) -> None:
        self.show(Text.assemble((f"{'   ' * (depth - 1)}└─ " if depth else "", "dim"), line))


def _why(stop: Stop) -> Text:
    numbers = ", ".join(str(one.number) for one in stop.hits)
    said = {
        "breakpoint": f"breakpoint {numbers}: {'; '.join(map(str, stop.hits))}",
        "end": "the newest event",
        "start": "" if stop.position == 0 else "the first event",
    }.get(stop.reason, "")
    return Text(f"   {said}" if said else "", "yellow")
