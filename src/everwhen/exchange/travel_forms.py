"""What steps, changes and writes are in JSON: the command line and the HTTP API say the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec

from everwhen.codec.recorded_events import RecordedEvent
from everwhen.commands.decisions import RecordedCommand, command_of
from everwhen.exchange.cut_values import CutPart, cut_value
from everwhen.exchange.json_forms import EventForm, event_form
from everwhen.state.differences import Change
from everwhen.state.paths import MISSING, Path, plain, text_of
from everwhen.travel.destinations import Written

Shown: TypeAlias = Callable[[Any, Path], tuple[Any, Sequence[CutPart]]]
"""A value at a path as JSON, and what was cut from it."""

_MOST_VALUES: Final = 500
"""Of one value among many: enough to know it by, and a path leads to all of it."""


def whole(value: Any, path: Path) -> tuple[Any, Sequence[CutPart]]:
    """All of a value."""
    del path
    return plain(value), ()


def short(value: Any, path: Path) -> tuple[Any, Sequence[CutPart]]:
    """The beginning of a value, where it is large."""
    return cut_value(value, path, most_values=_MOST_VALUES)


class ChangeForm(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one part of a state: each value is there if the part was there.

    ``cut`` are the containers in the values that aren't whole.
    """

    path: str
    kind: Literal["added", "removed", "changed"]
    before: Any = msgspec.UNSET
    after: Any = msgspec.UNSET
    cut: Sequence[CutPart] = ()


def change_form(change: Change, shown: Shown = whole) -> ChangeForm:
    """The change's form."""
    before, after, cut = _both(change.path, change.before, change.after, shown)
    return ChangeForm(
        path=text_of(change.path), kind=change.kind, before=before, after=after, cut=cut
    )


class WrittenForm(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The event that wrote a part of a state; each value is there if the part was there."""

    position: int
    before: Any = msgspec.UNSET
    after: Any = msgspec.UNSET
    cut: Sequence[CutPart] = ()
    event: EventForm


def written_form(written: Written, path: Path = (), shown: Shown = whole) -> WrittenForm:
    """The write's form. ``path`` is that of the part."""
    before, after, cut = _both(path, written.before, written.after, shown)
    return WrittenForm(
        position=written.position,
        before=before,
        after=after,
        cut=cut,
        event=event_form(written.event),
    )


class BlameEntry(msgspec.Struct, frozen=True):
    """A leaf of a state, its value, and the event that wrote it."""

    path: Path
    value: Any
    event: RecordedEvent[Any] | None


class BlameForm(msgspec.Struct, frozen=True, kw_only=True):
    """A leaf of a state, its value, the event that wrote it, and the command that led to that."""

    path: str
    value: Any
    event: EventForm | None
    command: RecordedCommand | None


def blame_form(entry: BlameEntry, shown: Shown = whole) -> BlameForm:
    """The entry's form."""
    event = entry.event
    return BlameForm(
        path=text_of(entry.path),
        value=shown(entry.value, entry.path)[0],
        event=None if event is None else event_form(event),
        command=None if event is None else command_of(event),
    )


def _both(
    path: Path, before: Any, after: Any, shown: Shown
) -> tuple[Any, Any, tuple[CutPart, ...]]:
    found: list[Any] = []
    cut: list[CutPart] = []
    for value in (before, after):
        if value is MISSING:
            found.append(msgspec.UNSET)
        else:
            value_shown, left_out = shown(value, path)
            found.append(value_shown)
            cut += (one for one in left_out if one not in cut)
    return found[0], found[1], tuple(cut)
