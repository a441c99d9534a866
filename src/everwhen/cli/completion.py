"""What the shell offers while STREAM, --category and --type are typed: a quick look, no more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

import typer

from everwhen import EverwhenError, Query, Store
from everwhen.cli.exit_codes import CommandStop
from everwhen.cli.store_opening import existing

_LOOKED_AT: Final = 2_000
_OFFERED: Final = 200


def streams(context: typer.Context, incomplete: str) -> list[str]:
    """Streams of the store whose names begin so."""
    category, dash, _ = incomplete.partition("-")
    return _offered(context, incomplete, lambda store: _names(store, category if dash else None))


def categories(context: typer.Context, incomplete: str) -> list[str]:
    """Categories among the store's first streams."""
    return _offered(
        context, incomplete, lambda store: (name.partition("-")[0] for name in _names(store, None))
    )


def types(context: typer.Context, incomplete: str) -> list[str]:
    """Types among the store's newest events."""
    newest = Query().backwards().limit(_LOOKED_AT)
    return _offered(context, incomplete, lambda store: (event.type for event in store.read(newest)))


def branches(context: typer.Context, incomplete: str) -> list[str]:
    """The store's branches."""
    return _offered(context, incomplete, lambda store: (info.name for info in store.branches()))


def _names(store: Store, category: str | None) -> Iterator[str]:
    return (info.name for info in store.streams(category))


def _offered(
    context: typer.Context, incomplete: str, names: Callable[[Store], Iterator[str]]
) -> list[str]:
    """At most that many different names that begin as typed; none where the store can't be read."""
    # While an option's value is typed, what comes before it has not become parameters yet.
    words = [word for word in context.args if not word.startswith("-")]
    location = context.params.get("store") or next(iter(words), None)
    if not isinstance(location, str):
        return []
    try:
        with existing(location) as store:
            found = islice(names(store), _LOOKED_AT * 10)
            unique = dict.fromkeys(name for name in found if name.startswith(incomplete))
            return list(islice(unique, _OFFERED))
    except (EverwhenError, CommandStop, OSError):
        return []
