"""Names that nothing in a store has: a typo, most likely. That is said, and nothing is refused."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, islice
from typing import Final

from everwhen import Query, Store
from everwhen.cli.exit_codes import say
from everwhen.debugging import known_types

_LOOKED_AT: Final = 20_000


def warn_of_unknown(
    store: Store,
    *,
    streams: Sequence[str] | None = None,
    categories: Sequence[str] | None = None,
    types: Sequence[str] | None = None,
    tags: Sequence[str] | None = None,
) -> None:
    """Say on stderr which names no stream, category, type or tag has, each with the nearest one."""
    kinds: tuple[tuple[str, Sequence[str] | None, Callable[[str], Query], _Names], ...] = (
        ("stream", streams, Query().stream, _streams),
        ("category", categories, Query().category, _categories),
        ("event type", types, Query().types, known_types),
        ("tag", tags, Query().tags, _tags),
    )
    for kind, names, of, others in kinds:
        for name in names or ():
            if next(iter(store.read(of(name).limit(1))), None) is None:
                say(unknown_name(kind, name, others(store)))


def unknown_name(kind: str, name: str, names: Iterable[str]) -> str:
    """That there is nothing of that kind and name, and what may have been meant."""
    close = difflib.get_close_matches(name, list(dict.fromkeys(names)), 2)
    meant = f"; did you mean {' or '.join(close)}?" if close else ""
    return f"there is no {kind} {name!r} in this store{meant}"


def unknown_stream(store: Store, name: str) -> str:
    """That there is no stream of that name, and what may have been meant."""
    close = difflib.get_close_matches(name, list(dict.fromkeys(_streams(store, name))), 2)
    meant = f"; did you mean {' or '.join(close)}?" if close else "; 'everwhen streams' lists them"
    return f"there is no stream {name!r}{meant}"


_Names = Callable[[Store], Iterable[str]]


def _streams(store: Store, near: str = "") -> Iterable[str]:
    """Some streams' names: those in the category of a name first."""
    category, dash, _ = near.partition("-")
    alike = store.streams(category) if dash else ()
    return (info.name for info in islice(chain(alike, store.streams()), _LOOKED_AT))


def _categories(store: Store) -> Iterable[str]:
    return (info.category for info in islice(store.streams(), _LOOKED_AT))


def _tags(store: Store) -> Iterable[str]:
    newest = store.read(Query().backwards().limit(_LOOKED_AT))
    return (tag for event in newest for tag in event.tags)
