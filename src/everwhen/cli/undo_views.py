"""How the plan of an undo is shown: in a pipe, in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from everwhen import EventTypes, RecordedEvent, Write
from everwhen.cli.output import counted
from everwhen.exchange.json_forms import new_event_form, type_name
from everwhen.exchange.undo_forms import readable_data
from everwhen.undo import UndoPlan

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

_MOST: Final = 40
"""At most this many events of a kind are drawn in a terminal; the others are counted."""


def rows(plan: UndoPlan, types: EventTypes) -> Iterator[Sequence[str]]:
    """The plan line by line: what it is, position, stream, type, and the data or the reason."""
    for label, events in (("undone", plan.undone), ("redone", plan.redone)):
        for event in events:
            yield label, str(event.position), event.stream, event.type, _shown(event)
    for write in plan.appended:
        for number, new in enumerate(write.events, 1):
            data = msgspec.json.encode(new_event_form(new, types).data).decode()
            yield "append", f"@{_version(write, number)}", write.stream, type_name(new, types), data
    for one in plan.uncompensated:
        yield "cannot", str(one.event.position), one.event.stream, one.event.type, one.reason
    for event in plan.already:
        yield "already", str(event.position), event.stream, event.type, _shown(event)
    for event in plan.audit_entries:
        yield "stays", str(event.position), event.stream, event.type, _shown(event)
    for two in plan.dependents:
        yield "dependent", str(two.event.position), two.event.stream, two.event.type, two.why


def drawn(plan: UndoPlan, types: EventTypes, *, applied: bool) -> Iterator[RenderableType]:
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
                formatting.type_look(type_name(new, types)),
                formatting.data_look(new_event_form(new, types).data),
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

    data = readable_data(event)
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


def _shown(event: RecordedEvent[Any]) -> str:
    return msgspec.json.encode(readable_data(event)).decode()
