"""Facts compared in three ways, on the parts of a state that they touch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from everwhen.codec.recorded_events import RecordedEvent
from everwhen.merging.merge_plan import PathConflict
from everwhen.state.differences import Change, diff
from everwhen.state.fold import Fold
from everwhen.state.paths import value_at

contents: Final[Fold[dict[str, dict[str, Any]]]] = Fold(
    "contents", dict, copy=dict.copy, state=dict[str, dict[str, Any]]
)
"""Each stream's data, laid over one another: what facts are compared on by default."""


@contents.otherwise
def _laid_over(
    state: dict[str, dict[str, Any]], recorded: RecordedEvent[Any]
) -> dict[str, dict[str, Any]]:
    state[recorded.stream] = {**state.get(recorded.stream, {}), **recorded.data}
    return state


def is_so_already(here: Any, changes: Sequence[Change]) -> bool:
    """Whether a state has all of the changes."""
    return bool(changes) and all(_is(here, change.path, change.after) for change in changes)


def conflicts_of(here: Any, changes: Sequence[Change]) -> tuple[PathConflict, ...]:
    """The changes whose parts are neither as they were before them nor as they are after them."""
    return tuple(
        PathConflict(c.path, c.before, value_at(here, c.path), c.after)
        for c in changes
        if not _is(here, c.path, c.before) and not _is(here, c.path, c.after)
    )


def _is(state: Any, path: tuple[Any, ...], value: Any) -> bool:
    found = value_at(state, path)
    return found is value or (type(found) is type(value) and not diff(found, value))
