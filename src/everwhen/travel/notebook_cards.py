"""How states, steps, histories and blame are shown in a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from everwhen.codec.event_html import EVENT_COLUMNS, event_cells, event_head
from everwhen.codec.recorded_events import RecordedEvent, shown_event
from everwhen.state.differences import Change, Diff, changes_table
from everwhen.state.paths import Path, text_of, value_at
from everwhen.state.value_html import value_cell, value_tree
from everwhen.vocabulary.notebook_html import (
    DIM,
    Cell,
    Html,
    TableRow,
    card,
    counted,
    element,
    heading,
    joined,
    looking,
    table,
)

_FEW: Final = 3
"""Of a step's changes, in a table; the others are counted."""


def state_card(kind: str, title: str, state: Any, *facts: str) -> str:
    """A state as a tree, and when it was."""
    return card(heading(kind, title, *facts), value_tree(state))


def step_card(kind: str, events: Sequence[RecordedEvent[Any]], changes: Diff, *notes: str) -> str:
    """An event, or those that an upcast made of it, and what it changed."""
    heads = [event_head(shown_event(event), kind) for event in events]
    said = [looking(DIM, note) for note in notes if note]
    return card(*heads, *said, _changes(changes))


def step_row(event: RecordedEvent[Any], changes: Diff) -> TableRow:
    """A step as a line of a table: the event, and its first changes."""
    position, recorded, place, event_type, _ = event_cells(shown_event(event))
    left_out = looking(DIM, f"… {len(changes) - _FEW:,} more") if len(changes) > _FEW else ""
    cells = (
        position,
        recorded,
        place,
        event_type,
        joined(*map(_in_line, changes[:_FEW]), left_out),
    )
    return TableRow((*EVENT_COLUMNS[:4], "changes"), cells)


def _in_line(change: Change) -> Html:
    sign = {"added": " + ", "removed": " - ", "changed": " "}[change.kind]
    path = looking(DIM, element("bdi", text_of(change.path) or "state"), sign)
    arrow = looking(DIM, " → ") if change.kind == "changed" else ""
    return element("div", path, value_cell(change.before), arrow, value_cell(change.after))


def _changes(changes: Diff) -> Html:
    if not changes:
        return element("div", "nothing changed", look=DIM)
    return changes_table(changes)


def divergence_card(event: RecordedEvent[Any] | None, changes: Diff) -> str:
    """Where two folds part ways."""
    title = "from the start" if event is None else f"after position {event.position:,}"
    heads = [] if event is None else [event_head(shown_event(event))]
    return card(heading("Divergence", title), *heads, _changes(changes))


def written_row(event: RecordedEvent[Any], before: Any, after: Any) -> TableRow:
    """A value of a part of the state, and the event that wrote it."""
    shown = shown_event(event)
    position, recorded, place, event_type, _ = event_cells(shown)
    by = element("bdi", shown.user_id or "")
    cells = (position, recorded, place, event_type, by, value_cell(before), value_cell(after))
    return TableRow((*EVENT_COLUMNS[:4], "by", "before", "after"), cells)


def blame_card(found: Mapping[Path, RecordedEvent[Any] | None], state: Any) -> str:
    """The leaves of a state, each with the event that wrote it last."""
    rows = (_blame_cells(path, value_at(state, path), event) for path, event in found.items())
    columns = ("path", "value", *EVENT_COLUMNS[:4], "by")
    title = counted(len(found), "value")
    return card(heading("Blame", title), table(columns, rows, len(found), "value"))


def _blame_cells(path: Path, given: Any, event: RecordedEvent[Any] | None) -> tuple[Cell, ...]:
    leaf = (element("bdi", text_of(path) or "state"), value_cell(given))
    if event is None:
        return (*leaf, None, looking(DIM, "from the start"), None, None, None)
    shown = shown_event(event)
    return (*leaf, *event_cells(shown)[:4], element("bdi", shown.user_id or ""))


def explanation_card(
    event: RecordedEvent[Any],
    causes: Sequence[tuple[str, RecordedEvent[Any] | None]],
    correlated: Sequence[RecordedEvent[Any]],
    *,
    is_whole: bool,
) -> str:
    """An event, what led to it, and its conversation."""
    led = [
        (element("bdi", name), None, None, None, None)
        if cause is None
        else event_cells(shown_event(cause))
        for name, cause in causes
    ]
    said = (event_cells(shown_event(one)) for one in correlated)
    conversation = "its conversation" if is_whole else "its conversation, which goes on"
    return card(
        event_head(shown_event(event), "Explanation"),
        *_titled(
            "its causes, from the nearest to the first",
            table(EVENT_COLUMNS, led, len(led), "cause"),
        ),
        *_titled(conversation, table(EVENT_COLUMNS, said, len(correlated), "event")),
    )


def _titled(title: str, below: Html) -> tuple[Html, ...]:
    return (element("div", title, look=f"{DIM};margin-top:.6em"), below) if below.source else ()
