"""How the plan of an undo is shown: as JSON, in a pipe, in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from everwhen import NewEvent, RecordedEvent, Store, UnknownEvent, Write
from everwhen.cli.output import counted
from everwhen.undo import UndoPlan

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

TypeOf: TypeAlias = Callable[[NewEvent[Any]], str]

_MOST: Final = 40
"""At most this many events of a kind are drawn in a terminal; the others are counted."""


def type_names(store: Store) -> TypeOf:
    """How a store names the types of new events."""
    names = {cls: declared.name for cls, declared in store.event_types.current().items()}

    def type_of(new: NewEvent[Any]) -> str:
        event = new.event
        return event.type if isinstance(event, UnknownEvent) else names[type(event)]

    return type_of


def record(plan: UndoPlan, type_of: TypeOf) -> object:
    """The whole plan."""
    return {
        "what": plan.what,
        "position": plan.position,
        "commit_id": str(plan.commit_id),
        "is_complete": plan.is_complete,
        "undone": [_event(e) for e in plan.undone],
        "redone": [_event(e) for e in plan.redone],
        "appended": [
            {
                "stream": write.stream,
                "expected": write.expected,
                "events": [
                    {"type": type_of(new), "data": _data(new), "tags": new.tags}
                    for new in write.events
                ],
            }
            for write in plan.appended
        ],
        "uncompensated": [{**_event(u.event), "reason": u.reason} for u in plan.uncompensated],
        "already": [_event(e) for e in plan.already],
        "audit_entries": [_event(e) for e in plan.audit_entries],
        "dependents": [{**_event(d.event), "why": d.why} for d in plan.dependents],
        "dependent_count": plan.dependent_count,
    }


def rows(plan: UndoPlan, type_of: TypeOf) -> Iterator[Sequence[str]]:
    """The plan line by line: what it is, position, stream, type, and the data or the reason."""
    for label, events in (("undone", plan.undone), ("redone", plan.redone)):
        for event in events:
            yield label, str(event.position), event.stream, event.type, _shown(event)
    for write in plan.appended:
        for number, new in enumerate(write.events, 1):
            data = msgspec.json.encode(_data(new)).decode()
            yield "append", f"@{_version(write, number)}", write.stream, type_of(new), data
    for one in plan.uncompensated:
        yield "cannot", str(one.event.position), one.event.stream, one.event.type, one.reason
    for event in plan.already:
        yield "already", str(event.position), event.stream, event.type, _shown(event)
    for event in plan.audit_entries:
        yield "stays", str(event.position), event.stream, event.type, _shown(event)
    for two in plan.dependents:
        yield "dependent", str(two.event.position), two.event.stream, two.event.type, two.why


def drawn(plan: UndoPlan, type_of: TypeOf, *, applied: bool) -> Iterator[RenderableType]:
    """The plan for people: what goes, what comes, what stays, and what rests on it."""
    from rich.text import Text

    from everwhen.cli import formatting

    title = plan.what[:1].upper() + plan.what[1:]
    yield Text.assemble((title, "bold"), (f"   as at position {plan.position:,}", "dim"))
    for mark, style, heading, events in (
        ("-", "red", "to undo", plan.undone),
        ("↻", "green", "to do again", plan.redone),
    ):
        if events:
            yield Text(f"\n{counted(len(events), 'event')} {heading}", style)
            yield _table((Text(mark, style), *_cells(e), _data_cell(e)) for e in events[:_MOST])
            yield from _more(len(events))
    news = [(w, n, new) for w in plan.appended for n, new in enumerate(w.events, 1)]
    if news:
        yield Text(f"\n{counted(len(news), 'event')} to append", "green")
        yield _table(
            (
                Text("+", "green"),
                Text(f"@{_version(write, number):,}", "dim"),
                formatting.stream_look(write.stream),
                formatting.type_look(type_of(new)),
                formatting.data_look(_data(new)),
            )
            for write, number, new in news[:_MOST]
        )
        yield from _more(len(news))
    if plan.uncompensated:
        count = len(plan.uncompensated)
        yield Text(f"\n{counted(count, 'event')} that can't be undone", "yellow")
        yield _table(
            (Text("!", "bold yellow"), *_cells(u.event), Text(u.reason))
            for u in plan.uncompensated[:_MOST]
        )
        yield from _more(count)
    if plan.already:
        yield Text(f"\n{counted(len(plan.already), 'event')} already in the wanted state", "dim")
        yield _table((Text("=", "dim"), *_cells(e), _data_cell(e)) for e in plan.already[:_MOST])
        yield from _more(len(plan.already))
    if plan.audit_entries:
        entries = "entry stays" if len(plan.audit_entries) == 1 else "entries stay"
        yield Text(f"\n{len(plan.audit_entries):,} audit {entries}", "dim")
    if plan.dependent_count:
        later = counted(plan.dependent_count, "event")
        yield Text(f"\n{later} since that may depend on it", "cyan")
        yield _table(
            (Text("·", "cyan"), *_cells(d.event), Text(d.why, "dim")) for d in plan.dependents
        )
        yield from _more(plan.dependent_count, len(plan.dependents))
    if not applied and not plan.is_empty:
        yield Text("\nNothing is written yet: --apply does it", "dim")


def _cells(event: RecordedEvent[Any]) -> tuple[Any, ...]:
    from everwhen.cli import formatting

    return (
        formatting.number_look(event.position),
        formatting.stream_look(event.stream),
        formatting.type_look(event.type),
    )


def _data_cell(event: RecordedEvent[Any]) -> Any:
    from rich.text import Text

    from everwhen.cli import formatting

    data = _plain(event)
    return Text("") if data is None else formatting.data_look(msgspec.json.decode(data))


def _table(lines: Iterator[tuple[Any, ...]]) -> Table:
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for _ in range(2):
        table.add_column(no_wrap=True, overflow="ellipsis", max_width=32)
    table.add_column(overflow="fold")
    for line in lines:
        table.add_row(*line)
    return table


def _more(count: int, shown: int = _MOST) -> Iterator[RenderableType]:
    from rich.text import Text

    if count > shown:
        yield Text(f"   and {count - shown:,} more", "dim")


def _version(write: Write, number: int) -> int:
    return (write.expected if isinstance(write.expected, int) else 0) + number


def _event(event: RecordedEvent[Any]) -> dict[str, Any]:
    return {
        "position": event.position,
        "stream": event.stream,
        "version": event.version,
        "type": event.type,
        "event_id": event.event_id,
        "user_id": event.metadata.user_id,
        "data": _plain(event),
    }


def _plain(event: RecordedEvent[Any]) -> Any:
    """Its data; that it has none to show is no reason to show nothing of the plan."""
    from everwhen.errors import DecodeError

    try:
        return msgspec.Raw(event.json)
    except DecodeError:
        return None


def _shown(event: RecordedEvent[Any]) -> str:
    return msgspec.json.encode(_plain(event)).decode()


def _data(new: NewEvent[Any]) -> Any:
    event = new.event
    return event.data if isinstance(event, UnknownEvent) else msgspec.to_builtins(event)
