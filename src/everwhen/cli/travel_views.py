"""How steps, changes and writes are shown: as JSON, in a pipe, in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from everwhen import RecordedEvent
from everwhen.cli.output import Column, Output, plain_value
from everwhen.cli.views import EventView
from everwhen.commands import command_of
from everwhen.exchange.json_forms import utc_text
from everwhen.exchange.travel_forms import BlameEntry, blame_form, change_form, written_form
from everwhen.state import MISSING, Change, plain
from everwhen.state.paths import text_of
from everwhen.travel import StateAt, Step, WhatIfStep, Written

if TYPE_CHECKING:
    from rich.text import Text

_MOST = 6
_DRAWN = 500

AnyStep: TypeAlias = Step[Any] | WhatIfStep[Any]


class StepView:
    """Events, and what each did to a state."""

    columns = (
        Column("POSITION", right=True),
        Column("RECORDED", rigid=True, optional=True),
        Column("STREAM"),
        Column("TYPE"),
        Column("CHANGES"),
    )

    def record(self, step: AnyStep) -> object:
        """The event, and the changes as JSON Patch."""
        event = step.event
        supposed = {"left_out": step.left_out} if isinstance(step, WhatIfStep) else {}
        return {
            "position": event.position,
            "stream": event.stream,
            "version": event.version,
            "type": event.type,
            "recorded_at": utc_text(event.recorded_at),
            "data": msgspec.Raw(event.json),
            "changes": [change_form(change) for change in step.changes],
            **supposed,
        }

    def plain(self, step: AnyStep) -> Sequence[str]:
        """Position, time, stream, version, type, and the changes as JSON Patch."""
        event = step.event
        return (
            str(event.position),
            utc_text(event.recorded_at),
            event.stream,
            str(event.version),
            event.type,
            plain_value(step.changes.patch()),
        )

    def cells(self, step: AnyStep) -> Sequence[Text]:
        """The event, and the first changes in one line."""
        from everwhen.cli import formatting

        event = step.event
        return (
            formatting.number_look(event.position),
            formatting.stamp_look(event.recorded_at),
            formatting.stream_look(event.stream),
            formatting.type_look(event.type),
            changes_look(step.changes),
        )


class VisitView:
    """Moments, with a state's place."""

    columns = (
        Column("POSITION", right=True),
        Column("RECORDED", rigid=True),
        Column("AGE", rigid=True),
        Column("EVENT"),
    )

    def record(self, item: tuple[StateAt[Any], RecordedEvent[Any] | None]) -> object:
        """The place, and the event that stands there; the state is what led there."""
        visit, event = item
        return {
            "position": visit.position,
            "recorded_at": None if visit.recorded_at is None else utc_text(visit.recorded_at),
            "event": None if event is None else EventView().record(event),
            "state": plain(visit.state),
        }

    def plain(self, item: tuple[StateAt[Any], RecordedEvent[Any] | None]) -> Sequence[str]:
        """Position, time, stream and type of the event."""
        visit, event = item
        recorded = "" if visit.recorded_at is None else utc_text(visit.recorded_at)
        named = ("", "") if event is None else (event.stream, event.type)
        return str(visit.position), recorded, *named

    def cells(self, item: tuple[StateAt[Any], RecordedEvent[Any] | None]) -> Sequence[Text]:
        """The same, for people."""
        from rich.text import Text

        from everwhen.cli import formatting

        visit, event = item
        if visit.recorded_at is None or event is None:
            return formatting.number_look(visit.position), Text("from the start"), Text(), Text()
        named = Text.assemble(
            formatting.stream_look(event.stream), "  ", formatting.type_look(event.type)
        )
        stamp, age = (
            formatting.stamp_look(visit.recorded_at),
            formatting.age_look(visit.recorded_at),
        )
        return formatting.number_look(visit.position), stamp, age, named


class WrittenView:
    """The values that a part of a state has had, each with the event that wrote it."""

    columns = (
        Column("POSITION", right=True),
        Column("RECORDED", rigid=True),
        Column("STREAM"),
        Column("TYPE"),
        Column("BY"),
        Column("VALUE"),
    )

    def record(self, written: Written) -> object:
        """The values, and the event."""
        return written_form(written)

    def plain(self, written: Written) -> Sequence[str]:
        """Position, time, stream, type, user, value before and after."""
        event = written.event
        return (
            str(event.position),
            utc_text(event.recorded_at),
            event.stream,
            event.type,
            event.metadata.user_id or "",
            _plain(written.before),
            _plain(written.after),
        )

    def cells(self, written: Written) -> Sequence[Text]:
        """The same, for people."""
        from everwhen.cli import formatting

        event = written.event
        return (
            formatting.number_look(event.position),
            formatting.stamp_look(event.recorded_at),
            formatting.stream_look(event.stream),
            formatting.type_look(event.type),
            by_look(event),
            change_look(Change((), written.before, written.after)),
        )


class BlameView:
    """A state's leaves, each with its value and who wrote it last."""

    columns = (
        Column("PATH"),
        Column("VALUE"),
        Column("POSITION", right=True),
        Column("RECORDED", rigid=True),
        Column("TYPE"),
        Column("BY"),
    )

    def record(self, entry: BlameEntry) -> object:
        """The leaf, its value, the event, and the command that it was decided on."""
        return blame_form(entry)

    def plain(self, entry: BlameEntry) -> Sequence[str]:
        """Path, value, position, time, type, user, command."""
        event = entry.event
        path, value = text_of(entry.path), _plain(entry.value)
        if event is None:
            return path, value, "", "", "", "", ""
        command = command_of(event)
        return (
            path,
            value,
            str(event.position),
            utc_text(event.recorded_at),
            event.type,
            event.metadata.user_id or "",
            "" if command is None else command.type,
        )

    def cells(self, entry: BlameEntry) -> Sequence[Text]:
        """The same, for people."""
        from rich.text import Text

        from everwhen.cli import formatting

        event, path, value = entry.event, entry.path, plain(entry.value)
        if path and path[-1] == "$erased":
            path, value = path[:-1], {"$erased": value}
        first = (Text(text_of(path) or "state"), formatting.value_look(value))
        if event is None:
            return *first, Text(), Text("from the start", "dim"), Text(), Text()
        return (
            *first,
            formatting.number_look(event.position),
            formatting.stamp_look(event.recorded_at),
            formatting.type_look(event.type),
            by_look(event),
        )


def tell_changes(out: Output, changes: Iterable[Change]) -> None:
    """Write what differs between two states: as JSON, in columns, or as a tree for people."""
    if out.is_terminal:
        from everwhen.cli.change_tree import change_tree

        for part in change_tree(list(changes), _DRAWN):
            out.console.print(part)
        return
    for change in changes:
        if out.json:
            out.line(change_form(change))
        else:
            values = _plain(change.before), _plain(change.after)
            out.row(text_of(change.path), change.kind, *values)


def by_look(event: RecordedEvent[Any]) -> Text:
    """Who did it, by what command, from where: as far as that is known."""
    from rich.text import Text

    metadata, command = event.metadata, command_of(event)
    said = [metadata.user_id or "", "" if command is None else command.type, metadata.source or ""]
    return Text(" · ".join(part for part in said if part))


def change_look(change: Change) -> Text:
    """One change: what came in green, what went in red."""
    from rich.text import Text

    from everwhen.cli import formatting

    if change.before is MISSING:
        return Text.assemble(("+ ", "green"), formatting.value_look(plain(change.after)))
    if change.after is MISSING:
        return Text.assemble(
            ("- ", "red"), (formatting.value_look(plain(change.before)).plain, "red")
        )
    return Text.assemble(
        (formatting.value_look(plain(change.before)).plain, "red"),
        (" → ", "dim"),
        (formatting.value_look(plain(change.after)).plain, "green"),
    )


def changes_look(changes: Sequence[Change]) -> Text:
    """The first few changes in one line."""
    from rich.text import Text

    line = Text("" if changes else "nothing", "" if changes else "dim")
    for number, change in enumerate(changes):
        if number == _MOST:
            return line.append(f"  and {len(changes) - _MOST:,} more", "dim")
        if number:
            line.append("  ")
        line.append((text_of(change.path) or "state") + " ", "dim")
        line.append_text(change_look(change))
    return line


def _plain(value: object) -> str:
    return "" if value is MISSING else plain_value(plain(value))
